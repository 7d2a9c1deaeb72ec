"""What commands show on the terminal: text that a terminal cannot obey, a counter of work, the bars of tables.

Names of LLMs, columns and categories come from files of strangers. `Console` and `Text` print them as they are written:
rich's markup, its names of emoji, and characters that move the cursor or hide mean nothing in them.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import rich.cells
import rich.console
import rich.table
import rich.text
from rich.containers import Lines
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from p2l_sdk.modeling.limits_p2l import visible

WIDE = 76  # columns from which on tables have bars
_FOLDED = 10  # columns that a name needs which may be folded
_GAP = 2  # between columns of a table
_MINUTE, _CALLS = 60.0, 8  # seconds and calls that a rate is measured in
_PARTS = re.compile(r"[^-/_.:]*[-/_.:]|[^-/_.:]+")  # of a name, each with the joint after it

_live = 0  # counters and bars that are shown


def busy() -> bool:
    """Whether a counter or a bar is shown."""
    return _live > 0


@contextlib.contextmanager
def _shown(progress: Progress) -> Iterator[Progress]:
    global _live
    _live += 1
    try:
        with progress:
            yield progress
    finally:
        _live -= 1


class Console(rich.console.Console):
    """rich's console, which takes a string for what it is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> rich.text.Text:
        """A string in its style."""
        return super().render_str(visible(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich does, which forgets what kind of `Text` it is."""
        super().print(*(thing.broken(self.width) if isinstance(thing, Text) else thing for thing in objects), **options)


class Text(rich.text.Text):
    """One line in a style. A name that is wider than its column is broken at its joints, not within a word."""

    def __init__(self, text: str = "", style: str = "") -> None:
        super().__init__(visible(text), style)

    def wrap(self, console: rich.console.Console, width: int, **options: Any) -> Lines:
        """The lines of a column of this width."""
        return self.broken(width).wrap(console, width, **options)

    def broken(self, width: int) -> rich.text.Text:
        """The text with new lines in names that are wider than this."""
        return rich.text.Text("\n").join(self.divide(_breaks(self.plain, width)))


def _breaks(text: str, width: int) -> Iterator[int]:
    """Where words that are wider than this are broken, as far as they have joints that are near enough."""
    for word in re.finditer(r"\S+", text):
        parts = [(part.start(), rich.cells.cell_len(part[0])) for part in _PARTS.finditer(text, *word.span())]
        line = 0
        for start, size in parts if sum(size for _, size in parts) > width >= max(size for _, size in parts) else ():
            if line and line + size > width:
                yield start
                line = 0
            line += size


def print_table(console: Console, table: rich.table.Table, spare: Sequence[str]) -> None:
    """Print a table; in a terminal that is too narrow for it, without those columns that can be spared.

    Args:
        console: where to.
        table: without a box.
        spare: titles of columns, the one to go first first.
    """
    shown, gone = list(table.columns), list[str]()
    for title in spare:
        if sum(map(_width, shown)) + _GAP * (len(shown) - 1) <= console.width:
            break
        left = [column for column in shown if column.header != title]
        if len(left) < len(shown):
            shown = left
            gone.append(title)
    if not gone:
        console.print(table)
        return
    fitting = rich.table.Table(
        title=table.title, title_justify="left", title_style=table.title_style, box=None, pad_edge=False
    )
    for column in shown:
        fitting.add_column(column.header, justify=column.justify, no_wrap=column.no_wrap, overflow=column.overflow)
    for row, cells in zip(table.rows, zip(*(column.cells for column in shown), strict=True), strict=True):
        fitting.add_row(*cells, style=row.style)
    console.print(fitting)
    console.print(Text(f"no room for: {', '.join(gone)}", style="dim"))


def keep_words(console: Console, table: rich.table.Table) -> bool:
    """Give the columns of a table without a box their widths, such that no word is cut; False if there is no room."""
    cells = [[_text(cell) for cell in (column.header, *column.cells)] for column in table.columns]
    full = [max(text.cell_len for text in column) for column in cells]
    least = [
        most if column.no_wrap else max(word.cell_len for text in texts for word in text.split(" "))
        for column, texts, most in zip(table.columns, cells, full, strict=True)
    ]
    spare = console.width - sum(least) - _GAP * (len(least) - 1)
    if spare < 0:
        return False
    by_need = sorted(range(len(full)), key=lambda i: full[i] - least[i])
    for waiting, i in zip(range(len(full), 0, -1), by_need, strict=True):
        more = min(full[i] - least[i], spare // waiting)
        table.columns[i].width = least[i] + more
        spare -= more
    return True


def print_whole(console: Console, table: rich.table.Table, name: str) -> None:
    """Print a table without a box; where that would cut words, each of its rows as a line that begins with the cell in
    the column `name`."""
    if keep_words(console, table):
        console.print(table)
        return
    if table.title:
        console.print(Text(str(table.title), style="bold"))
    for row in zip(*(column.cells for column in table.columns), strict=True):
        cells = {str(column.header): _text(cell).plain for column, cell in zip(table.columns, row, strict=True)}
        first = cells.pop(name)
        console.print(Text(f"{first}: {'; '.join(f'{header} {cell}' for header, cell in cells.items() if cell)}"))


def _width(column: rich.table.Column) -> int:
    """The columns of a terminal that a column of a table needs."""
    widest = max(_text(cell).cell_len for cell in (column.header, *column.cells))
    return widest if column.no_wrap else min(widest, _FOLDED)


def _text(cell: Any) -> rich.text.Text:
    return cell if isinstance(cell, rich.text.Text) else Text(str(cell))


@contextlib.contextmanager
def counting(things: str) -> Iterator[Callable[[int], None]]:
    """A live counter on stderr that disappears when done; yields the function that sets it."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} " + things), TimeElapsedColumn())
    with _shown(Progress(*columns, console=Console(stderr=True), transient=True)) as progress:
        task = progress.add_task("", total=None)
        yield lambda done: progress.update(task, completed=done)


@contextlib.contextmanager
def telling() -> Iterator[Callable[[str, int], None]]:
    """A live line on stderr that disappears when done; yields the function that sets what is being done and how much of
    it is done (0 where that cannot be counted)."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda doing, done: progress.update(task, description=f"{done:,} {doing}" if done else doing)


@contextlib.contextmanager
def bar_of(things: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left, on stderr, that disappears when done; yields the function that sets done and total."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(things), TimeRemainingColumn())
    console = Console(stderr=True)
    with _shown(Progress(*columns, console=console, transient=True, speed_estimate_period=3600)) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class Rate:
    """Says how fast long work is, and how much time is left, from the last minute and at least eight calls: what an
    earlier run had done is found much faster than it was computed.

    Args:
        clock: tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen = collections.deque([(clock(), 0)])

    def __call__(self, done: int, total: int | None) -> str:
        """As "1,200/s, 0:03:10 left", after `done` of `total`; "" if nothing can be said yet."""
        now = self._clock()
        self._seen.append((now, done))
        while len(self._seen) > _CALLS + 1 and now - self._seen[1][0] >= _MINUTE:
            self._seen.popleft()
        since, before = self._seen[0]
        if done <= before or now <= since:
            return ""
        rate = (done - before) / (now - since)
        left = "" if total is None or total <= done else datetime.timedelta(seconds=round((total - done) / rate))
        return (f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s") + (f", {left} left" if left else "")


def rate_lines(
    things: str, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> Callable[[int, int | None], None]:
    """What `rate_of` shows, where there is no terminal: at most once a minute, a line is said."""
    rate, last = Rate(clock), clock()

    def update(done: int, total: int | None) -> None:
        nonlocal last
        told = rate(done, total)
        if clock() - last >= _MINUTE:
            last = clock()
            of = "" if total is None else f" of {max(done, total):,}"
            say(f"{done:,}{of} {things}{told and ', '}{told}")

    return update


@contextlib.contextmanager
def rate_of(things: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar of long work with the things per second and the time left, on stderr, that disappears when done; yields the
    function that sets how many are done, and how many there are (None: not known)."""
    left = TextColumn("{task.fields[told]}")
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(things), left)
    rate = Rate()
    with _shown(Progress(*columns, console=Console(stderr=True), transient=True)) as progress:
        task = progress.add_task("", total=None, told="")

        def update(done: int, total: int | None) -> None:
            told = rate(done, total)
            progress.update(task, completed=done, total=None if total is None else max(done, total), told=told)

        yield update
