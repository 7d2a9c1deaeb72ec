"""What the command line shows to people."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from p2l_sdk.evaluation import Estimate
from p2l_sdk.results import Leaderboard, Route

if TYPE_CHECKING:
    from p2l_sdk.vote_summary import VoteSummary

_BAR_WIDTH, _WIDE = 12, 76
_EIGHTHS = " ▏▎▍▌▋▊▉█"

_METRICS = {
    "bt_log_loss": "BT log-loss, decisive votes",
    "pair_accuracy": "pair accuracy, decisive votes",
    "cross_entropy": "cross-entropy of all outcomes",
    "routed_score": "routed score",
    "best_single_score": "best single LLM",
    "gain_over_best_single": "gain over the best single LLM",
    "oracle_score": "oracle (best LLM per prompt)",
}


def print_leaderboard(board: Leaderboard, costs: Mapping[str, float], top: int | None = None) -> None:
    """A table with bars: best LLM first; costs per 1,000 responses where known."""
    rows = board.rows()[:top]
    low, high = float(board.ratings.min()), float(board.ratings.max())
    console = Console()
    # bars give way to intervals, and to names where it is narrow; a terminal that knows ASCII only could not show them
    bars = "low" not in rows[0] and console.width >= _WIDE and not console.options.ascii_only
    table = Table(title=board.caption, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("LLM", overflow="fold")  # the one column that may be broken
    table.add_column("rating", justify="right", no_wrap=True)
    if bars:
        table.add_column("", no_wrap=True, style="cyan")
    for key, title in (("low", "95 % interval"), ("usable", "usable")):
        if key in rows[0]:
            table.add_column(title, justify="right", no_wrap=True)
    if costs:
        table.add_column("$ per 1k", justify="right", no_wrap=True)
    for row in rows:
        cells: list[str | Text] = [
            str(row["rank"]),
            Text(row["model"]),
            f"{row['rating']:.0f}",
        ]  # Text: a name is no markup
        if bars:
            cells.append(_bar(row["rating"], low, high))
        if "low" in row:
            cells.append(f"{row['low']:.0f} to {row['high']:.0f}")
        if "usable" in row:
            cells.append(f"{row['usable']:.0%}")
        if costs:
            cost = costs.get(row["model"])
            cells.append("?" if cost is None else f"{1000 * cost:.2f}")
        table.add_row(*cells, style="bold" if row["rank"] == 1 else None)
    console.print(table)
    note = "rating: 400 points are odds of 10 to 1"
    if board.usable is not None:
        note += "; usable: chance of an acceptable answer"
    console.print(Text(note, style="dim"))


def print_route(route: Route) -> None:
    """The choice in words."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in route.facts():
        table.add_row(name, Text(value), style="bold" if name == "call" else None)
    Console().print(table)


def print_evaluation(title: str, metrics: Mapping[str, Any]) -> None:
    """The metrics with their standard errors."""
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("standard error", justify="right")
    table.add_column("n", justify="right")
    for name, label in _METRICS.items():
        estimate = metrics.get(name)
        if isinstance(estimate, Estimate):
            error = "-" if estimate.standard_error is None else f"{estimate.standard_error:.4f}"
            if name == "best_single_score":
                label += f": {metrics['best_single_model']}"
            table.add_row(Text(label), f"{estimate.value:.4f}", error, f"{estimate.n:,}")
    console = Console()
    console.print(table)
    console.print(Text("log-losses in nats; standard errors clustered by prompt", style="dim"))


@contextlib.contextmanager
def counting(things: str) -> Iterator[Callable[[int], None]]:
    """A live counter on stderr, gone when done; yields the function that sets it."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} " + things), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda done: progress.update(task, completed=done)


def _bar(value: float, low: float, high: float) -> str:
    # the worst LLM keeps a sliver, so that every row has a bar
    filled = 1.0 if high <= low else 0.05 + 0.95 * (value - low) / (high - low)
    eighths = round(filled * _BAR_WIDTH * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def print_vote_summary(summary: VoteSummary, name: str, top: int = 20) -> None:
    """What the votes of a file hold: figures, one row for each of the `top` LLMs, and what is amiss."""
    console = Console()
    facts = Table(
        title=Text(name), title_justify="left", title_style="bold", box=None, pad_edge=False, show_header=False
    )
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    for label, text in _facts(summary):
        facts.add_row(label, Text(text))
    console.print(facts)
    console.print()
    bars = console.width >= _WIDE and not console.options.ascii_only
    table = Table(box=None, pad_edge=False)
    table.add_column("LLM", overflow="fold")
    for title in ("votes", "won", "lost", "tied", "bad"):
        table.add_column(title, justify="right", no_wrap=True)
    if bars:
        table.add_column("", no_wrap=True, style="cyan")
    for row in summary.models[:top]:
        shares = [n / max(row.n_votes, 1) for n in (row.wins, row.losses, row.ties, row.both_bad)]
        cells: list[str | Text] = [Text(row.model), f"{row.n_votes:,}", *(f"{share:.0%}" for share in shares)]
        table.add_row(*cells, *([_bar(shares[0], 0.0, 1.0)] if bars else []))
    console.print(table)
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
        yield "duplicates", f"{summary.n_duplicates:,} repeat an earlier vote: same prompt, LLMs and outcome"
    beaten = f"cross-entropy {summary.marginal_cross_entropy:.4f} ({summary.feedback})"
    if summary.marginal_bt_log_loss is not None:
        beaten += f", BT log-loss {summary.marginal_bt_log_loss:.4f} on decisive votes"
    yield "to beat", f"{beaten}: the same leaderboard for every prompt"
