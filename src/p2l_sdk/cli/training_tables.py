"""Tables of what a model is trained on, and lines of what it was measured to be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rich.table import Table

from p2l_sdk.cli.common import say
from p2l_sdk.cli.terminal import WIDE, Console, Text, print_table
from p2l_sdk.editing.refined import Refined
from p2l_sdk.evaluation import Estimate, Report
from p2l_sdk.tabular import text_bar
from p2l_sdk.training.choice import Choice
from p2l_sdk.training.score_summary import ScoreSummary
from p2l_sdk.votes.summary import VoteSummary


def print_held_out(reports: Mapping[str, Report]) -> None:
    """Print, for each file on which a new model was evaluated, its main loss beside the averaged leaderboard's, and its
    routed score beside the best single LLM's, as available."""
    for name, report in reports.items():
        metrics, file = report.metrics, name.partition(" (")[0]
        averaged = report.baseline.metrics if report.baseline else {}
        loss = next((key for key in ("cross_entropy", "bt_log_loss") if isinstance(metrics.get(key), Estimate)), None)
        if loss is not None:
            text = f"{file}: {'cross-entropy' if loss == 'cross_entropy' else 'BT log-loss'} {metrics[loss].value:.3f}"
            if loss in averaged:
                text += f", averaged leaderboard {averaged[loss].value:.3f}"
                if metrics[loss].value >= averaged[loss].value:
                    text += ": not better than the averaged leaderboard"
            say(text)
        if isinstance(metrics.get("routed_score"), Estimate):
            best = metrics["best_single_score"].value
            say(f"{file}: routed score {metrics['routed_score'].value:.3f}, best single LLM {best:.3f}")


def print_choice(choice: Choice) -> None:
    """Print what cross-validation chose for a static model, and what more votes would bring."""
    for line in choice.words:
        say(line)


def print_refined(refined: Refined) -> None:
    """Print what votes said about the model that they refined, and whether the result is better."""
    loss, choice = refined.held_out_loss, refined.choice
    losses = f"{loss['refined']:.3f}, base {loss['base']:.3f}, averaged leaderboard {loss['averaged']:.3f}"
    say(
        f"refined with {refined.source} ({refined.feedback}): loss per vote, predicted from the votes on other "
        f"prompts: {losses}: {refined.verdict}"
    )
    say(
        f"of the base's differences between LLMs {choice.level_scale:g} were kept, between kinds of prompt "
        f"{choice.kinds_scale:g}; departures ± {choice.level:g} and ± {choice.kinds:g} logits"
    )
    if refined.n_ignored:
        say(
            f"{refined.n_ignored:,} votes are ties, which say nothing in {refined.feedback}; --feedback rk learns from "
            'them too, grk from "both bad" as well'
        )
    if refined.matched:
        say(f"read: {', '.join(f'{name} as {own}' for name, own in refined.matched.items())}")
    if refined.added:
        say(f"new to the base: {', '.join(refined.added)}")


def print_facts(console: Console, name: str, rows: Iterable[tuple[str, str]]) -> None:
    """Print labels and texts below the name of the data that they are about."""
    facts = Table(
        title=Text(name), title_justify="left", title_style="bold", box=None, pad_edge=False, show_header=False
    )
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    for label, text in rows:
        facts.add_row(label, Text(text))
    console.print(facts)
    console.print()


def print_vote_summary(summary: VoteSummary, name: str, top: int = 20) -> None:
    """Print the figures of a file of votes, one row for each of the first `top` LLMs, and what the votes leave open."""
    console = Console()
    print_facts(console, name, _facts(summary))
    bars = console.width >= WIDE and not console.options.ascii_only
    table = Table(box=None, pad_edge=False)
    table.add_column("LLM", overflow="fold")
    for title in ("votes", "won", "lost", "tied", "bad"):
        table.add_column(title, justify="right", no_wrap=True)
    if bars:
        table.add_column("", no_wrap=True, style="cyan")
    for row in summary.models[:top]:
        shares = [n / max(row.n_votes, 1) for n in (row.wins, row.losses, row.ties, row.both_bad)]
        cells: list[str | Text] = [Text(row.model), f"{row.n_votes:,}", *(f"{share:.0%}" for share in shares)]
        table.add_row(*cells, *([text_bar(shares[0], 0.0, 1.0)] if bars else []))
    print_table(console, table, ["bad", "tied"])
    if len(summary.models) > top:
        console.print(Text(f"and {len(summary.models) - top:,} more LLMs", style="dim"))
    if summary.undetermined:
        console.print(Text(f"Note: {summary.undetermined}.", style="yellow"))


def _facts(summary: VoteSummary) -> Iterator[tuple[str, str]]:
    mean, most = summary.mean_votes_per_prompt, summary.max_votes_per_prompt
    each = f"{most:,} each" if mean == most else f"{mean:.3g} each on average, at most {most:,}"
    prompts = "1 prompt" if summary.n_prompts == 1 else f"{summary.n_prompts:,} prompts"
    yield "votes", f"{summary.n_votes:,} on {prompts}, {each}"
    if summary.total_weight is not None:
        yield "weight", f"{summary.total_weight:,.6g} in all"
    yield "outcomes", ", ".join(f"{outcome} {share:.1%}" for outcome, share in summary.outcomes.items())
    if summary.n_duplicates:
        yield (
            "duplicates",
            f"{summary.n_duplicates:,} repeat an earlier vote: same prompt, LLMs and outcome; all are kept",
        )
    yield from summary.findings.facts.items()
    if summary.why_feedback:
        yield "feedback", f"{summary.feedback}, chosen from the votes: {summary.why_feedback}"
    beaten = f"cross-entropy {summary.marginal_cross_entropy:.4f} ({summary.feedback})"
    if summary.marginal_bt_log_loss is not None:
        beaten += f", BT log-loss {summary.marginal_bt_log_loss:.4f} on decisive votes"
    yield "to beat", f"the averaged leaderboard: {beaten}, on these votes"


def print_score_summary(summary: ScoreSummary, name: str, top: int = 20) -> None:
    """Print the figures of a table of scores, and one row for each of the first `top` LLMs."""
    console = Console()
    print_facts(console, name, _facts_of_scores(summary))
    table = Table(box=None, pad_edge=False)
    table.add_column("LLM", overflow="fold")
    for title in ("answers", "mean"):
        table.add_column(title, justify="right", no_wrap=True)
    for model, answers, mean in summary.models[:top]:
        table.add_row(Text(model), f"{answers:,}", f"{mean:.4g}" if answers else "-")
    console.print(table)
    if len(summary.models) > top:
        console.print(Text(f"and {len(summary.models) - top:,} more LLMs", style="dim"))


def _facts_of_scores(summary: ScoreSummary) -> Iterator[tuple[str, str]]:
    prompts = "1 prompt" if summary.n_prompts == 1 else f"{summary.n_prompts:,} prompts"
    rows = f"{summary.n_rows:,} rows, {summary.n_missing:,} missing"
    yield "scores", f"{summary.n_answers:,} on {prompts} in {rows}"
    if summary.n_duplicates:
        yield "duplicates", f"{summary.n_duplicates:,} rows repeat an earlier one: same prompt and scores"
    yield from summary.findings.facts.items()
    loss = f"loss {summary.averaged_loss:.4f} ({summary.feedback})"
    yield "to beat", f"the averaged leaderboard: {loss}, on these scores"
