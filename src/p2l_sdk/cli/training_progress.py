"""What `p2l train` shows: a summary of the data, progress, losses, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from p2l_sdk.cli.common import say
from p2l_sdk.cli.terminal import Console
from p2l_sdk.cli.training_tables import (
    print_choice,
    print_held_out,
    print_refined,
    print_score_summary,
    print_vote_summary,
)
from p2l_sdk.editing.refined import Refined
from p2l_sdk.evaluation import Report
from p2l_sdk.training.categories import Categories
from p2l_sdk.training.choice import Choice
from p2l_sdk.training.listener import Listener, Step, Validation
from p2l_sdk.training.score_summary import ScoreSummary
from p2l_sdk.training.verdict import Verdict
from p2l_sdk.votes.summary import VoteSummary

_TOO_FEW = (
    "too few votes or prompts to leave some out and see what prompts are worth: the model returns the averaged "
    "leaderboard for every prompt"
)


class Quiet(Listener):
    """Tells nothing but that the model is no better than what it has to beat."""

    def too_few_prompts(self) -> None:
        """Warn of a model that knows no prompt."""
        say(f"p2l: warning: {_TOO_FEW}", err=True)

    def verdict(self, verdict: Verdict) -> None:
        """Warn of a model that is no better than the averaged leaderboard."""
        if not verdict.better:
            say(f"p2l: warning: {verdict.sentence} ({verdict.measured}: {verdict.figures})", err=True)


class Terminal(Listener):
    """Shows a training run on the terminal: results on stdout, the progress of fine-tuning on stderr."""

    def __init__(self) -> None:
        self._errors = Console(stderr=True)
        self._bar: Progress | None = None

    def data_read(self, name: str, summary: VoteSummary | ScoreSummary) -> None:
        """Print the summary of the data."""
        if isinstance(summary, ScoreSummary):
            print_score_summary(summary, name)
        else:
            print_vote_summary(summary, name)

    def categories_read(self, categories: Categories) -> None:
        """Print how many categories there are, and how large."""
        say(f"categories: {categories}")

    def nothing_to_resume(self, folder: Path) -> None:
        """Print that the run is a new one."""
        say(f"p2l: no run to resume in {str(folder)!r}; this is a new one", err=True)

    def progress(self, doing: str, done: int, total: int) -> None:
        """Show a bar for a part of the work."""
        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
            self._bar = Progress(*columns, TimeRemainingColumn(elapsed_when_finished=True), transient=True)
            self._bar.start()
            self._bar.add_task(doing, total=total)
        self._bar.update(self._bar.task_ids[0], completed=done)
        if done == total:
            self.close()

    def validation_baseline(self, loss: float) -> None:
        """Print the loss to beat."""
        say(f"validation, averaged leaderboard: {loss:.4f}", err=True)

    def step(self, step: Step) -> None:
        """Move the bar of the run."""
        if self._bar is None:
            speed, loss = TextColumn("{task.fields[speed]}"), TextColumn("{task.fields[loss]}")
            columns = (TextColumn("training"), BarColumn(24), MofNCompleteColumn(), speed, loss, TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._errors, transient=True)
            self._bar.start()
            self._bar.add_task("", total=step.total, completed=step.done, speed="", loss="")
        per_second = self._bar.tasks[0].speed
        self._bar.update(
            self._bar.task_ids[0],
            completed=step.done,
            speed=f"{per_second * step.items:,.0f} {step.noun}/s" if per_second else "",
            loss="" if step.loss is None else f"loss {step.loss:.4f}",
        )

    def validated(self, validation: Validation) -> None:
        """Print the loss above the bar."""
        bt = "" if validation.bt_log_loss is None else f", BT log-loss {validation.bt_log_loss:.4f}"
        text = f"epoch {validation.epoch:.2f}: validation loss {validation.loss:.4f}{bt}"
        self._errors.print(text, highlight=False)

    def trained(self, kept: Validation | None) -> None:
        """Print which checkpoint is kept."""
        self.close()
        if kept is not None:
            say(f"kept: epoch {kept.epoch:.2f}, validation loss {kept.loss:.4f}", err=True)

    def calibrated(self, keep: float) -> None:
        """Print how much is kept."""
        say(f"calibrated: {keep:.0%} of the departure from the averaged leaderboard is kept", err=True)

    def cross_validated(self, choice: Choice) -> None:
        """Print what was chosen, and what more votes would bring."""
        print_choice(choice)

    def too_few_prompts(self) -> None:
        """Print what that means, in place of a verdict."""
        say(f"verdict: {_TOO_FEW}")

    def verdict(self, verdict: Verdict) -> None:
        """Print how the model compares with the averaged leaderboard, and what to do where it is no better."""
        say(f"{verdict.measured}, {verdict.n_prompts:,} prompts: {verdict.figures}")
        say(f"verdict: {verdict.sentence}")
        if verdict.keep and not verdict.better:
            say("  --calibrate makes such a model return the averaged leaderboard; more votes may make a better one")

    def refined(self, refined: Refined) -> None:
        """Print what the votes said about the base."""
        print_refined(refined)

    def measured(self, reports: Mapping[str, Report]) -> None:
        """Print the figures on held-out data."""
        print_held_out(reports)

    def pushed(self, n_models: int, address: str) -> None:
        """Print where the model went."""
        say(f"pushed model of {n_models} LLMs: {address}")

    def close(self) -> None:
        """Remove the bar and restore the cursor."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
