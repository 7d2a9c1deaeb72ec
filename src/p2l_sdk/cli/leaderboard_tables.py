"""Leaderboards and routes as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from p2l_sdk.cli.terminal import WIDE, Console, Text, print_table
from p2l_sdk.leaderboards.leaderboard import WHOLE, ZERO, Leaderboard
from p2l_sdk.routing.route import Route
from p2l_sdk.tabular import text_bar

_FAINT, _UNSEEN = 0.05, 0.005  # shares of a kind that are not worth a word, or a line
_INTERVAL, _COST = "95 % interval", "$ per 1k"  # columns that a narrow terminal has no room for


def print_leaderboard(
    board: Leaderboard, costs: Mapping[str, float], rows: list[dict[str, Any]] | None = None, n: int | None = None
) -> None:
    """Print a table with bars, best LLM first, with costs per 1,000 responses if any are known.

    Args:
        board: the leaderboard.
        costs: USD per response by LLM name.
        rows: those of its rows that are shown, perhaps with a `win_rate`; all by default.
        n: how many LLMs were asked for, all by default; if they are many and there are fewer rows, a last line says so.
    """
    rows, n = board.rows() if rows is None else rows, n or len(board.models)
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
    for key, title in (("low", _INTERVAL), ("usable", "usable"), ("win_rate", "win rate")):
        if key in rows[0]:
            table.add_column(title, justify="right", no_wrap=True)
    if costs:
        table.add_column(_COST, justify="right", no_wrap=True)
    for row in rows:
        cells: list[str | Text] = [
            str(row["rank"]),
            Text(row["model"]),
            f"{row['rating']:.0f}",
        ]  # Text: a name is not markup
        if bars:
            cells.append(text_bar(row["rating"], low, high, ZERO))
        if "low" in row:
            cells.append(f"{row['low']:.0f} to {row['high']:.0f}")
        if "usable" in row:
            cells.append(f"{row['usable']:.0%}")
        if "win_rate" in row:
            cells.append(f"{row['win_rate']:.0%}")
        if costs:
            cost = costs.get(row["model"])
            cells.append("?" if cost is None else f"{1000 * cost:.2f}")
        table.add_row(*cells, style="bold" if row["rank"] == 1 else None)
    print_table(console, table, [_INTERVAL, _COST])
    if len(rows) < n and n > WHOLE:
        console.print(Text(f"... and {n - len(rows)} more LLMs (--all shows all, --top {2 * len(rows)} the best)"))
    note = "rating: 400 points are odds of 10 to 1"
    if bars:
        note += f"; bars start at 1000, {board.zero_text}"
    if board.usable is not None:
        note += "; usable: chance of an acceptable answer"
    if "win_rate" in rows[0]:
        note += "; win rate: chance to be preferred to an opponent"
    console.print(Text(note, style="dim"))
    if board.kinds is not None:
        console.print(Text(f"recognised: {kinds_line(board.kinds)}"))
    for warning in board.warnings():
        console.print(Text(warning, style="yellow"))


def kinds_line(kinds: Mapping[str, float]) -> str:
    """The recognised kinds in one line, the strongest first: "coding 83 %, hard 40 %"."""
    found = sorted(((share, name) for name, share in kinds.items() if share >= _FAINT), reverse=True)
    return ", ".join(f"{name} {100 * share:.0f} %" for share, name in found) or "no kind, so this is the overall order"


def print_kinds(kinds: Mapping[str, float] | None) -> None:
    """Print every kind with its share, the strongest first."""
    if kinds is None:
        Console().print("this model recognises no kinds of prompt; one built by p2l build does")
        return
    table = Table(title="Kinds of prompt", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("kind", overflow="fold")
    table.add_column("recognised", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, style="cyan")
    for name, share in sorted(kinds.items(), key=lambda pair: -pair[1]):
        if share < _UNSEEN:
            break
        table.add_row(Text(name), f"{100 * share:.0f} %", text_bar(share, 0.0, 1.0) if share >= _FAINT else "")
    Console().print(table)


def print_route(route: Route) -> None:
    """Print the chosen LLM and why."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in route.facts():
        if name == "read":  # said on stderr
            continue
        table.add_row(name, Text(value), style="bold" if name == "call" else None)
    Console().print(table)
