"""Summary of a table of scores, printed before training; the counterpart of `terminal.print_vote_summary`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from p2l_sdk.tables.columns import turns_of
from p2l_sdk.votes.scores import Scores


@dataclass(frozen=True)
class ScoreSummary:
    """The figures of a table of scores.

    Attributes:
        n_rows, n_prompts: number of rows and of distinct prompts.
        n_answers, n_missing: number of cells with and without a score.
        n_duplicates: rows that repeat an earlier one (same prompt, same scores).
        models: (name, number of answers, mean score or NaN without answers), highest mean first.
    """

    n_rows: int
    n_prompts: int
    n_answers: int
    n_missing: int
    n_duplicates: int
    models: tuple[tuple[str, int, float], ...]

    @classmethod
    def of(cls, scores: Scores) -> ScoreSummary:
        """Summarise scores."""
        prompts = [turns_of(prompt) for prompt in scores.prompts]
        rows = {(prompt, row.tobytes()) for prompt, row in zip(prompts, scores.scores, strict=True)}
        there = np.isfinite(scores.scores)
        answers = there.sum(0)
        sums = np.where(there, scores.scores, 0.0).sum(0)
        means = np.divide(sums, answers, out=np.full(len(answers), np.nan), where=answers > 0)
        models = [(name, int(n), float(mean)) for name, n, mean in zip(scores.models, answers, means, strict=True)]
        return cls(
            n_rows=len(prompts),
            n_prompts=len(set(prompts)),
            n_answers=int(there.sum()),
            n_missing=int((~there).sum()),
            n_duplicates=len(prompts) - len(rows),
            models=tuple(sorted(models, key=lambda row: (not row[1], -row[2], row[0]))),
        )

    def print(self, name: str, to_beat: str, top: int = 20) -> None:
        """Print the figures and one row for each of the `top` LLMs.

        Args:
            name: of the scores.
            to_beat: the loss of the averaged leaderboard, in words.
            top: number of LLMs to list.
        """
        console = Console()
        facts = Table(
            title=Text(name), title_justify="left", title_style="bold", box=None, pad_edge=False, show_header=False
        )
        facts.add_column(style="dim", no_wrap=True)
        facts.add_column()
        for label, text in (*self._facts(), ("to beat", f"the averaged leaderboard: {to_beat}, on these scores")):
            facts.add_row(label, Text(text))
        console.print(facts)
        console.print()
        table = Table(box=None, pad_edge=False)
        table.add_column("LLM", overflow="fold")
        for title in ("answers", "mean"):
            table.add_column(title, justify="right", no_wrap=True)
        for model, answers, mean in self.models[:top]:
            table.add_row(Text(model), f"{answers:,}", f"{mean:.4g}" if answers else "-")
        console.print(table)
        if len(self.models) > top:
            console.print(Text(f"and {len(self.models) - top:,} more LLMs", style="dim"))

    def _facts(self) -> Iterator[tuple[str, str]]:
        prompts = "1 prompt" if self.n_prompts == 1 else f"{self.n_prompts:,} prompts"
        yield "scores", f"{self.n_answers:,} on {prompts} in {self.n_rows:,} rows, {self.n_missing:,} missing"
        if self.n_duplicates:
            yield "duplicates", f"{self.n_duplicates:,} rows repeat an earlier one: same prompt and scores"
