"""What several commands show on the terminal: a counter of work, the bars of tables."""

from __future__ import annotations

import contextlib
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


@contextlib.contextmanager
def counting(things: str) -> Iterator[Callable[[int], None]]:
    """A live counter on stderr that disappears when done; yields the function that sets it."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} " + things), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
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
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=3600) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
