"""Leaderboards and routes as tables."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from p2l_sdk.cli.terminal import WIDE, bar
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.routing.route import Route


def print_leaderboard(board: Leaderboard, costs: Mapping[str, float], top: int | None = None) -> None:
    """Print a table with bars, best LLM first, with costs per 1,000 responses if any are known."""
    rows = board.rows()[:top]
    low, high = float(board.ratings.min()), float(board.ratings.max())
    console = Console()
    # no bars beside intervals, in a narrow terminal (names need the room), or in one limited to ASCII
    bars = "low" not in rows[0] and console.width >= WIDE and not console.options.ascii_only
    table = Table(title=board.caption, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("LLM", overflow="fold")  # the only column that may wrap
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
        ]  # Text: a name is not markup
        if bars:
            cells.append(bar(row["rating"], low, high))
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
    """Print the chosen LLM and why."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in route.facts():
        table.add_row(name, Text(value), style="bold" if name == "call" else None)
    Console().print(table)
