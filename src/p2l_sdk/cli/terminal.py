"""What several commands show on the terminal: a counter of work, the bars of tables."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

WIDE = 76  # columns from which on tables have bars
_BAR_WIDTH = 12
_AT_ONCE = 1.0  # seconds in which work of an earlier run is found
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@contextlib.contextmanager
def counting(things: str) -> Iterator[Callable[[int], None]]:
    """A live counter on stderr that disappears when done; yields the function that sets it."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} " + things), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda done: progress.update(task, completed=done)


@contextlib.contextmanager
def bar_of(things: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left, on stderr, that disappears when done; yields the function that sets done and total."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(things), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=3600) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextlib.contextmanager
def rate_of(things: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar of long work with the things per second and the time left, on stderr, that disappears when done; yields the
    function that sets how many are done, and how many there are (None: not known). What is told in the first second was
    done before."""
    left = TextColumn("{task.fields[told]}")
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(things), left)
    begun, first = time.monotonic(), 0
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, told="")

        def update(done: int, total: int | None) -> None:
            nonlocal begun, first
            passed = time.monotonic() - begun
            if passed < _AT_ONCE:  # found done, not computed
                first = done
            rate = (done - first) / passed if done > first else 0.0
            told = f"{rate:,.0f}/s" if rate else ""
            if rate and total is not None and total > done:
                told += f", {datetime.timedelta(seconds=round((total - done) / rate))} left"
            progress.update(task, completed=done, total=None if total is None else max(done, total), told=told)

        yield update


def bar(value: float, low: float, high: float) -> str:
    """A bar of the length of a value between the least and the greatest one of a table."""
    # the worst LLM keeps a sliver, so that every row has a bar
    filled = 1.0 if high <= low else 0.05 + 0.95 * (value - low) / (high - low)
    eighths = round(filled * _BAR_WIDTH * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
