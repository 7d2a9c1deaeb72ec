"""What `p2l mpg` shows: reports and measurements as tables, and how far a measurement is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from p2l_sdk.cli.terminal import Console, Text
from p2l_sdk.mpg.correlation import COEFFICIENTS
from p2l_sdk.mpg.fastness import measure_text
from p2l_sdk.mpg.node_estimates import plural

if TYPE_CHECKING:
    from p2l_sdk.mpg.measure.measurement import Measurement
    from p2l_sdk.mpg.report import Report

_WORDS = {"seconds_to_first_token": "seconds to first token", "usd_per_query": "USD per query"}
_WORDS |= {name: name.replace("_", " ") for name in ("queries_per_second", "tokens_per_second")}
_NAMES = ("LLM", "rating", "node")
_SHORT = {"rank": "#", "95 % interval": "95 %", "usd per query": "USD/query"}
_SHORT |= {"queries per second": "queries/s", "tokens per second": "tokens/s", "seconds to first token": "first token"}
_LEAST = ("best", "ranks")  # columns dropped on a narrow terminal, in this order
_UNBOUND = 10_000  # columns


def print_report(report: Report) -> None:
    """Print the overall table, the best LLM of every domain and subdomain, the agreement and the notes."""
    goodness = report.goodness
    header, rows = goodness.cells()
    measure = report.shown_measure
    if report.fastness is not None and measure is not None:
        table = report.fastness.measures[measure]
        header = [*header, measure.replace("_", " ")]
        rows = [[*row, measure_text(measure, table[row[1]]) if row[1] in table else ""] for row in rows]
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
        title = f"Agreement with the reference, {plural(report.agreement[0].n, 'LLM')}"
        _show(title, ["rating", *(key.capitalize() for key in COEFFICIENTS)], agreement)
    console = Console()
    for note in report.notes:
        _print(console, Text(note, style="dim"))


def print_measurement(found: Measurement) -> None:
    """Print accuracy, speed, cost and failures."""
    rows = []
    for name, accuracy in found.accuracy.items():
        label = "accuracy" if name == "all" else f"  {name}"
        value = f"{accuracy.value:.1%}"
        if accuracy.low is not None and accuracy.high is not None:
            value += f" ({accuracy.low:.1%} to {accuracy.high:.1%})"
        rows.append([label, value])
    for name, measured in found.fastness.measures.items():
        rows.append([_WORDS.get(name, name), measure_text(name, measured[found.model])])
        quantiles = found.latency.get(name, {})
        if quantiles:
            rows.append([f"  {', '.join(quantiles)}", ", ".join(f"{value:.3g}" for value in quantiles.values())])
    rows += [[f"mean {name.replace('_', ' ')}", f"{value:.4g}"] for name, value in found.tokens.items()]
    rows += [[f"failed: {kind}", str(n)] for kind, n in found.failures.items()]
    console = Console()
    console.print(
        Text(f"{found.model}: {found.n_answered:,} of {found.n_questions:,} questions answered"), style="bold"
    )
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(overflow="fold", min_width=len("  p50, p95, p99"))
    table.add_column(no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    _print(console, table)
    for note in (f"{found.load}; {found.elapsed:.1f} s; 95 % intervals", *found.notes):
        _print(console, Text(note, style="dim"))


@contextlib.contextmanager
def measuring_bar(total: int) -> Iterator[Callable[[int, float], None]]:
    """A progress bar on stderr, removed when done; yields a function that sets the number done and the rate."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.3g} per second"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total, rate=0.0)
        yield lambda done, rate: progress.update(task, completed=done, rate=rate)


def _print(console: Console, what: Table | Text) -> None:
    """Print without trailing spaces."""
    with console.capture() as captured:
        console.print(what)
    console.file.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with full names; on a narrow terminal with short headers and without the least useful columns."""
    console = Console()
    kept = list(header)
    table = _table(title, header, rows, kept)
    for left_out in (None, *_LEAST):
        if console.measure(table, options=console.options.update(max_width=_UNBOUND)).maximum <= console.width:
            break
        kept = [name for name in kept if name != left_out]
        table = _table(title, header, rows, kept, short=True)
    _print(console, table)
    absent = [name for name in header if name not in kept]
    if absent:
        _print(console, Text(f"no room here for: {', '.join(absent)} (--json has all)", style="dim"))


def _table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], kept: Sequence[str], short: bool = False
) -> Table:
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in kept:
        label = _SHORT.get(name, name) if short else name
        if name in _NAMES:
            table.add_column(label, overflow="fold")  # names are folded only as a last resort
        else:
            table.add_column(label, justify="right", no_wrap=True)
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        table.add_row(*(Text(cells[name]) for name in kept))  # Text: names must not be parsed as markup
    return table
