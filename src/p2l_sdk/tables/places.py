"""Where the rows of a table stand in what a user opens: "line 7" of a text file or spreadsheet, "row 6" of the rest."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Callable, Iterator

from p2l_sdk.errors import TableError

Place = Callable[[int], str]  # row, counted from 0 -> where it stands


class Places:
    """Names the rows of one table as its file counts them.

    A reader notes the places that it meets (`note`); only those that do not follow the one before are kept. Calling it
    with the number of a row, counted from 0, gives its place ("line 7"), for rows that have been read.

    Attributes:
        word: what a place is called.
    """

    def __init__(self, word: str = "row") -> None:
        self.word = word
        self._rows, self._numbers = [0], [1]

    def note(self, row: int, number: int) -> None:
        """The row (from 0) stands at this number, and each one after it at the next."""
        if number - row != self._numbers[-1] - self._rows[-1]:
            self._rows.append(row)
            self._numbers.append(number)

    def __call__(self, row: int) -> str:
        """The place of a row, counted from 0."""
        at = bisect_right(self._rows, row) - 1
        return f"{self.word} {self._numbers[at] + row - self._rows[at]}"


class JoinedPlaces:
    """Names the rows of several tables that are read one after another: "'votes-2.csv', line 7"."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._tables: list[tuple[str, Place]] = []

    def begin(self, row: int, name: str, place: Place) -> None:
        """The rows from this one on (from 0) are those of this table."""
        self._starts.append(row)
        self._tables.append((name, place))

    def __call__(self, row: int) -> str:
        """The place of a row, counted from 0 over all tables, with the table's name."""
        at = bisect_right(self._starts, row) - 1
        name, place = self._tables[at]
        return f"{name!r}, {place(row - self._starts[at])}"


class RowError(TableError):
    """An error in a row of a table, as "row 6: it is empty" until `placed` names it as the table's file does.

    Args:
        row: the row, from 0.
        reason: what follows the place, such as ": it is empty" or " has no column 'prompt'".
        before: an earlier row that is named too, if there is one.
    """

    def __init__(self, row: int, reason: str, before: int | None = None) -> None:
        self.rows, self.reason = [row] if before is None else [before, row], reason
        super().__init__(self.text(Places()))

    def text(self, place: Place) -> str:
        """The message."""
        return f"{' and '.join(map(place, self.rows))}{self.reason}"


@contextlib.contextmanager
def placed(place: Place) -> Iterator[None]:
    """Context manager of a reader: a `RowError` names the place of its row."""
    try:
        yield
    except RowError as error:
        raise TableError(error.text(place)) from None
