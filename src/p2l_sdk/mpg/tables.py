"""A report on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from p2l_sdk.mpg.correlation import COEFFICIENTS
from p2l_sdk.mpg.fastness import shown

if TYPE_CHECKING:
    from p2l_sdk.mpg.report import Report

_FOLDED = ("LLM", "rating", "node")


def print_report(report: Report) -> None:
    """Overall, the best of every domain and subdomain, the agreement, the notes."""
    goodness = report.goodness
    header, rows = goodness.cells()
    if report.fastness is not None and report.measure in report.fastness.measures:
        table = report.fastness.measures[report.measure]
        header = [*header, report.measure.replace("_", " ")]
        rows = [[*row, shown(report.measure, table[row[1]]) if row[1] in table else ""] for row in rows]
    _show(goodness.caption, header, rows)
    inner = [(node, depth) for node, depth in goodness.tree.walk() if depth and node in goodness.nodes]
    best = []
    for node, depth in inner:
        if node in goodness.tree.nodes:
            row = goodness.cells(node)[1][0]
            best.append([f"{'  ' * (depth - 1)}{node}", row[1], row[2], row[3], row[5]])
    if best:
        _show("The best by domain and subdomain", ["node", "LLM", "Goodness", "95 % interval", "best"], best)
    if report.agreement:
        agreement = [[row.name, *(str(row.coefficients[key]) for key in COEFFICIENTS)] for row in report.agreement]
        title = f"Agreement with the reference, {report.agreement[0].n} LLMs"
        _show(title, ["rating", *(key.capitalize() for key in COEFFICIENTS)], agreement)
    console = Console()
    notes = list(goodness.notes) + ([f"Fastness: {report.fastness.note}"] if report.fastness is not None else [])
    for note in notes:
        console.print(Text(note), style="dim")


def _show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in header:
        if name in _FOLDED:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))  # Text: a name is no markup
    Console().print(table)
