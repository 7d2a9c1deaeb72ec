"""Category columns of votes and scores: labels of the rows, such as a task or a language."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from p2l_sdk.tables.sources import ABSENT, Chunk

LONGEST_LABEL = 200  # characters; a longer string is a text, not the name of a category

# columns that are neither a category nor an LLM; `_INDEX` begins the columns that pandas writes for an index
_OWN = {"prompt", "model_a", "model_b", "winner", "weight", "timestamp", "conversation_a", "conversation_b"}
_INDEX = "__index_level_"


def is_own(name: Any) -> bool:
    """Whether a column has a meaning in the contract, or is an index written by pandas."""
    return name in _OWN or str(name).startswith(_INDEX)


class Categories:
    """Collects the columns that label rows: strings (of at most `LONGEST_LABEL` characters), bools and integers.

    Args:
        without: names of columns to leave out.
    """

    def __init__(self, without: Iterable[str] = ()) -> None:
        self._columns: dict[str, list[Any]] = {}
        self._refused = set(without)
        self._same: dict[str, str] = {}  # keeps one object per distinct string
        self._n_rows = 0

    def add(self, chunk: Chunk, n_rows: int) -> None:
        """Add the next rows."""
        for name, values in chunk.items():
            if not is_own(name) and name not in self._refused:
                if _are_labels(values):
                    column = self._columns.setdefault(name, [None] * self._n_rows)
                    column += (self._same.setdefault(v, v) if isinstance(v, str) else v for v in values)
                else:
                    self._refused.add(name)
                    self._columns.pop(name, None)
        self._n_rows += n_rows
        for column in self._columns.values():
            column += [None] * (self._n_rows - len(column))

    def arrays(self) -> dict[str, np.ndarray]:
        """The columns, `(n_rows,)` each: bool or int64 if all values are, otherwise strings ('' for a missing one)."""
        found = {}
        for name, column in self._columns.items():
            kinds = {type(value) for value in column if value is not None and value is not ABSENT}
            if kinds:
                found[name] = _array(column, kinds)
        return found


def _are_labels(values: list[Any]) -> bool:
    return all(
        len(value) <= LONGEST_LABEL if isinstance(value, str) else value is ABSENT or isinstance(value, int | None)
        for value in values
    )


def _array(column: list[Any], kinds: set[type]) -> np.ndarray:
    whole = all(value is not None and value is not ABSENT for value in column)
    if whole and kinds == {bool}:
        return np.array(column, dtype=bool)
    if whole and kinds == {int} and max(map(abs, column)) < 2**63:
        return np.array(column, dtype=np.int64)
    return np.array(["" if value is None or value is ABSENT else str(value) for value in column], dtype=object)
