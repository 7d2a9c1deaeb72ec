"""Faulty rows of a table: all of them are found before one error names them, or they are left out and counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2l_sdk.errors import NEW_LINE, TableError
from p2l_sdk.tables.places import Place

_MOST = 20
_TOGETHER = 4  # rows with the same fault from which one line names all
_VALUE = re.compile(r"'(?:[^'\\]|\\.)*'|\"[^\"]*\"|\[[^\]]*\]|(?<![\w.])-?\d[\d.e+-]*")


@dataclass(frozen=True)
class Skipped:
    """The rows that were left out.

    Attributes:
        n, n_rows: their number, and that of all rows.
        reasons: what is wrong -> number of rows, the most frequent first.
        first: the first twenty, each with its place in the file and what is wrong.
    """

    n: int
    n_rows: int
    reasons: Mapping[str, int]
    first: tuple[str, ...]

    def __str__(self) -> str:
        """How many, and why."""
        return f"{self.n:,} of {self.n_rows:,} rows are left out ({self.why})"

    @property
    def why(self) -> str:
        """The reasons with their numbers."""
        return ", ".join(f"{n:,} x {reason}" for reason, n in self.reasons.items())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"n": self.n, "n_rows": self.n_rows, "reasons": dict(self.reasons), "first": list(self.first)}


class Faults:
    """Collects the faulty rows of a table, counted from 0; of a row with several faults, the first that is added.

    Args:
        place: names a row, for messages (see `Source.place`).
        skip: whether faulty rows are to be left out. Otherwise `settle` raises.
    """

    def __init__(self, place: Place, skip: bool = False) -> None:
        self.place = place
        self.skip = skip
        self._found: dict[int, tuple[str, str]] = {}  # row -> what is wrong, and what is between the two
        self._wanted: dict[int, str] = {}  # rows without a fault that are to be left out, and why

    def __len__(self) -> int:
        return len(self._found)

    def add(self, row: int, text: str, mark: str = ": ") -> None:
        """Row `row` is faulty: `text` says how, and the remedy after a semicolon; `mark` follows the row's place."""
        self._found.setdefault(row, (text, mark))

    def add_all(self, rows: Iterable[int], text: str, mark: str = ": ") -> None:
        """Each of these rows is faulty in the same way."""
        for row in rows:
            self.add(int(row), text, mark)

    def leave_out(self, rows: Iterable[int], text: str) -> None:
        """These rows are to be left out, whether or not faulty ones are."""
        self._wanted |= dict.fromkeys(map(int, rows), text)

    def keep(self, n_rows: int) -> np.ndarray:
        """`(n_rows,)` booleans: the rows without fault."""
        kept = np.ones(n_rows, dtype=bool)
        kept[[*self._found, *self._wanted]] = False
        return kept

    def settle(self, n_rows: int, advice: str = "") -> Skipped | None:
        """What is left out; None if no row is faulty.

        Args:
            n_rows: number of rows of the table.
            advice: a last line for the error.

        Raises:
            TableError: rows are faulty and not to be left out, or none is left. The message has the first twenty and
                the numbers by reason.
        """
        if not self._found and not self._wanted:
            return None
        found = self.skipped(n_rows)
        if self._found and not self.skip:
            if len(self._found) == 1:
                raise TableError(f"{self.lines()[0]}; or leave this row out: --skip-invalid (skip_invalid=True)")
            raise TableError(NEW_LINE.join([*self.lines(), self.summary(n_rows), *([advice] if advice else [])]))
        if found.n == n_rows:
            raise TableError(f"no row is left: {NEW_LINE.join([*self.lines(), str(found)])}")
        return found

    def skipped(self, n_rows: int) -> Skipped:
        """The rows to leave out as counts."""
        found = {row: (text, ": ") for row, text in self._wanted.items()} | self._found
        named = [
            f"{self.place(row)}{mark}{text.partition(';')[0]}" for row, (text, mark) in sorted(found.items())[:_MOST]
        ]
        return Skipped(len(found), n_rows, _reasons(found.values()), tuple(named))

    def lines(self) -> list[str]:
        """The first twenty faulty rows, four or more with the same fault together; a remedy stands only once."""
        first = sorted(self._found.items())[:_MOST]
        alike: dict[tuple[str, str], list[str]] = {}
        for row, fault in first:
            alike.setdefault(fault, []).append(self.place(row))
        lines, said = [], set()
        for row, fault in first:
            (text, mark), places = fault, alike[fault]
            what, _, remedy = text.partition("; ")
            if len(places) < _TOGETHER:
                lines.append(f"{self.place(row)}{mark}{what if remedy in said else text}")
            elif places[0] == self.place(row):
                lines.append(f"{places[0]}{mark}{what if remedy in said else text}")
                lines.append(f"likewise {_listed(places[1:])}")
            said.add(remedy)
        more = len(self._found) - min(len(self._found), _MOST)
        return lines + ([f"and {more:,} more"] if more else [])

    def summary(self, n_rows: int) -> str:
        """How many rows are faulty and why, and how to go on without them."""
        n, why = len(self._found), Skipped(0, n_rows, _reasons(self._found.values()), ()).why
        are, them = ("is", "it") if n == 1 else ("are", "them")
        return (
            f"{n:,} of {n_rows:,} rows {are} faulty ({why}); mend {them}, or leave {them} out: --skip-invalid "
            "(skip_invalid=True)"
        )


def _listed(places: Sequence[str]) -> str:
    """Places in one line: "line 3", "line 4" as "lines 3, 4"."""
    numbers = [place.removeprefix("line ") for place in places]
    alone = len(places) > 1 and all(map(str.isdigit, numbers))
    return f"lines {', '.join(numbers)}" if alone else ", ".join(places)


def _reasons(found: Iterable[tuple[str, str]]) -> dict[str, int]:
    return dict(Counter(_VALUE.sub("…", text.partition(";")[0]) for text, _ in found).most_common())
