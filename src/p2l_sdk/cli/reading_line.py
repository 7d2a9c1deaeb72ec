"""The line on a terminal's stderr while a long file is read: rows, rows per second, and how much of it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from p2l_sdk.cli.failures import printable
from p2l_sdk.tables.progress import ReadingListener, told

if TYPE_CHECKING:
    from rich.progress import Progress

_PATIENCE = 1.5  # seconds; a file that is read faster shows nothing


@contextlib.contextmanager
def reading_shown() -> Iterator[None]:
    """Context manager: on a terminal, files that take long to read are shown."""
    if not sys.stderr.isatty():
        yield
        return
    line = ReadingLine()
    try:
        with told(line):
            yield
    finally:
        line.stop()


class ReadingLine(ReadingListener):
    """Shows the file that is being read; the line disappears when it is done."""

    def __init__(self) -> None:
        super().__init__()
        self._began: dict[str, float] = {}
        self._shown = ""
        self._progress: Progress | None = None

    def read(self, name: str, rows: int, share: float | None) -> None:
        """Show the file, if it has taken long."""
        now = time.monotonic()
        seconds = max(now - self._began.setdefault(name, now), 1e-9)
        if seconds <= _PATIENCE or (self._shown and name != self._shown) or not self._free():
            return
        self._shown = name
        of_all = "" if share is None else f", {share:.0%}"
        text = f"{printable(name)}: {rows:,} rows{of_all} ({rows / seconds:,.0f} a second)"
        self._bar().update(self._bar().task_ids[0], description=text)

    def done(self, name: str) -> None:
        """Remove the line."""
        self._began.pop(name, None)
        if name == self._shown:
            self.stop()

    def stop(self) -> None:
        """Remove the line, if there is one."""
        if self._progress is not None:
            self._progress.stop()
        self._progress, self._shown = None, ""

    def _free(self) -> bool:
        """Whether the terminal is free for the line: without another counter, and no JSON is asked for."""
        from p2l_sdk.cli import terminal

        context = click.get_current_context(silent=True)
        if context is not None and context.params.get("as_json"):
            return False
        if terminal.busy():
            self.stop()
            return False
        return True

    def _bar(self) -> Progress:
        if self._progress is None:
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self._progress.add_task("", total=None)
            self._progress.start()
        return self._progress
