"""What the command line shows to people."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from p2l_sdk.evaluation import Estimate
from p2l_sdk.results import Leaderboard, Route

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
