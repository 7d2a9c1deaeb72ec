"""A file of JSON lines that a run appends to, each written in full before it counts, so that an interrupted run can be
resumed: it is locked for one process, a half-written last line is removed, and a run with other settings is refused."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

from p2l_sdk.errors import P2LError, ResultsError
from p2l_sdk.outputs.faults import real_path, write_faults
from p2l_sdk.outputs.folders import require_writable

try:
    import fcntl
except ImportError:  # not available on Windows
    fcntl = None  # type: ignore[assignment]

Row = dict[str, Any]
# columns that hold numbers in every kind of journal
_NUMBERS = frozenset(
    {"cost", "seconds", "input_tokens", "output_tokens", "loss", "averaged_loss", "n_votes", "parameters"}
)
_LARGEST = 1e300
Self = TypeVar("Self", bound="Journal")


@dataclass(frozen=True)
class Layout:
    """What the rows of a journal look like.

    Attributes:
        what: what a row is, for messages ("answer of a measurement"); `many` for several ("answers of a measurement").
        first: the first column of every row, by which a half-written line is recognised.
        columns: columns that every row has, beside `run`, the settings that all parts of a run must share.
        key: what identifies a row's query; of several rows with one key the last counts.
        sound: whether the values of a row, which has all columns, can be right.
    """

    what: str
    many: str
    first: str
    columns: frozenset[str]
    key: Callable[[Mapping[str, Any]], Hashable]
    sound: Callable[[Mapping[str, Any]], bool] = lambda row: True

    def rows(self, path: str | Path, content: bytes) -> list[Row]:
        """The rows in the content of a file. Raises `ResultsError` for a line that is none."""
        rows = []
        for number, line in enumerate(content.split(b"\n"), 1):
            if not line and number > content.count(b"\n"):
                continue  # what follows the last line
            try:
                row = json.loads(line)
                sound = isinstance(row["run"], dict) and self.columns <= set(row) and all(map(_is_sound, row.items()))
                sound = sound and self.sound(row)
                hash(self.key(row))
            except (P2LError, ValueError, KeyError, TypeError, RecursionError):
                sound = False
            if not sound:
                raise ResultsError(f"{str(path)!r}, line {number} is no {self.what}; name another file")
            rows.append(row)
        return rows


def _is_sound(cell: tuple[str, Any]) -> bool:
    """Whether a cell of a row is a number of 0 or more where one must be: a cost of NaN would be under every limit."""
    name, value = cell
    if name not in _NUMBERS or value is None:
        return True
    return isinstance(value, int | float) and 0 <= value <= _LARGEST


class Journal:
    """Appends rows to a file; a context manager, which leaves neither file nor folder where there is no row.

    Attributes:
        path: path of the file.
        rows: all rows of the file, in order.
        last: the last row of each query, by its key.
    """

    def __init__(self, path: str | Path, layout: Layout, settings: Callable[[Row], Mapping[str, Any]]) -> None:
        """Open or create the file for this process alone; a half-written last line is removed.

        Args:
            path: path of the file.
            layout: what its rows look like.
            settings: the columns that a row of the file must have had, and, for those that it lacks, its `run`.

        Raises:
            ResultsError: the file holds something else or another run, or another process is writing to it.
            P2LError: it cannot be written.
        """
        real_path(path)  # refuses what can be none
        self.path, self._layout = Path(path).expanduser(), layout
        with write_faults(path):
            if self.path.is_dir():
                raise ResultsError(f"{str(path)!r} is a folder; name a file for the answers")
            new = [self.path, *itertools.takewhile(lambda folder: not folder.exists(), self.path.parents)]
            self._new = [] if self.path.exists() else new
            if not self.path.parent.is_dir():
                require_writable(self.path.parent)
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        try:
            lock(self._file, path)
            self._file.seek(0)
            content = self._file.read()
            whole = content[: content.rfind(b"\n") + 1]
            rows = layout.rows(self.path, whole) if whole else []
            half, beginning = content[len(whole) :], f'{{"{layout.first}": '.encode()
            if half and not (half.startswith(beginning) or beginning.startswith(half)):
                raise ResultsError(f"{str(path)!r} holds no {layout.many}; name another file")
            for row in rows:
                self._require_same(row, settings(row))
            self._file.truncate(len(whole))
        except BaseException:
            self._file.close()
            raise
        self.rows, self.last = rows, {layout.key(row): row for row in rows}

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # of a line that `write` could not write; it has said so
            self._file.close()
        if not self.rows:
            with contextlib.suppress(OSError):  # something else stands there by now
                for path in self._new:
                    path.rmdir() if path.is_dir() else path.unlink()

    def write(self, row: Row) -> None:
        """Write one line; it is handed to the operating system before this returns, so it survives this process.

        Raises:
            P2LError: it cannot be written, for instance since the disk is full.
        """
        line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"
        with write_faults(self.path, "; its lines so far are kept, from which the same run goes on"):
            self._file.write(line)
            self._file.flush()
        self.rows.append(row)
        self.last[self._layout.key(row)] = row

    def _require_same(self, row: Row, now: Mapping[str, Any]) -> None:
        for name, value in now.items():
            then = row["run"].get(name) if name not in row else row[name]
            if then != value:
                raise ResultsError(
                    f"{str(self.path)!r} holds a run with {name} {then!r}, not {value!r}; "
                    "run it again as it was, or name another file"
                )


def lock(file: IO[bytes], path: str | Path) -> None:
    """Lock out other processes until the file is closed; without effect on file systems that have no locks."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ResultsError(f"another process writes to {str(path)!r}; wait for its end, or name another file") from None
    except OSError:
        return
