"""How far a file is read: told to a listener, if there is one, so that a long one can be shown on the terminal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

Item = TypeVar("Item")

_EVERY = 1000  # rows


class ReadingListener:
    """Is told of files that are read; these methods do nothing."""

    def __init__(self) -> None:
        self.positions: dict[str, Callable[[], float | None]] = {}  # of open files, shares of their bytes

    def read(self, name: str, rows: int, share: float | None) -> None:
        """A file has been read so far.

        Args:
            name: of the file.
            rows: how many of its rows.
            share: of the file, in [0, 1]; None if that is not known.
        """

    def done(self, name: str) -> None:
        """A file has been read, or reading it has ended otherwise."""


_listener: ContextVar[ReadingListener | None] = ContextVar("reading_listener", default=None)


@contextlib.contextmanager
def told(listener: ReadingListener | None) -> Iterator[None]:
    """Context manager: this listener is told of the files that are read; None for nobody."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def counted(
    items: Iterator[Item], path: Path, n_rows: int | None = None, size: Callable[[Item], int] | None = None
) -> Iterator[Item]:
    """The rows of a file, or chunks of them, of which the listener is told.

    Args:
        items: rows, or chunks.
        path: the file.
        n_rows: how many rows it says it has; if not given, its share is that of its bytes.
        size: the number of rows of a chunk; 1 if not given.
    """
    listener = _listener.get()
    return items if listener is None else _counted(listener, items, str(path), n_rows, size)


def _counted(
    listener: ReadingListener, items: Iterator[Item], name: str, n_rows: int | None, size: Callable[[Item], int] | None
) -> Iterator[Item]:
    rows = 0
    try:
        for item in items:
            rows += 1 if size is None else size(item)
            if size is not None or not rows % _EVERY:
                position = listener.positions.get(name)
                listener.read(name, rows, rows / n_rows if n_rows else position and position())
            yield item
    finally:
        listener.done(name)


@contextlib.contextmanager
def located(path: Path, file: BinaryIO) -> Iterator[None]:
    """Context manager: while it is open, the listener can ask how far a file of lines is read."""
    listener = _listener.get()
    if listener is None or path.suffix.lower() == ".xlsx":  # whose sheets lie anywhere in it
        yield
        return
    listener.positions[str(path)] = lambda: _share(file)
    try:
        yield
    finally:
        del listener.positions[str(path)]


def _share(file: Any) -> float | None:
    """The share of a file's bytes that lie behind; None of a pipe."""
    try:
        size = os.fstat(file.fileno()).st_size
        return min(file.tell() / size, 1.0) if size else None
    except (OSError, ValueError):
        return None
