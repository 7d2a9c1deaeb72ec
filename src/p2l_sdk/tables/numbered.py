"""Columns as numbers of their distinct values, and the distinct rows of a table with how often each occurs."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

_LONG = 1 << 17  # rows from which a thread for each column is worth its while
_BLOCK = 1 << 16  # rows that are counted together, in the processor's cache


@dataclass(frozen=True, eq=False)
class Numbered:
    """A column, encoded.

    Attributes:
        codes: `(n_rows,)` integers: the number of each row's value, -1 for a missing one.
        values: the value of each number.
        spare: whether values may be among them that no row has.
    """

    codes: np.ndarray
    values: Sequence[Any]
    spare: bool = False

    @classmethod
    def of(cls, column: Any) -> Numbered:
        """Encode a column of any kind; what is encoded already stays as it is.

        Raises:
            TypeError, NotImplementedError: of Python or pyarrow, for lists and other values that are not comparable.
        """
        if isinstance(column, Numbered):
            return column
        if len(column) == 0:  # pyarrow's may have no chunk
            return cls(np.empty(0, dtype=np.intp), [])
        if hasattr(column, "dictionary_encode"):  # pyarrow
            return cls._of_arrow(column)
        if hasattr(column, "cat") and hasattr(column.cat, "codes"):  # pandas' categories
            return cls(column.cat.codes.to_numpy(), column.cat.categories.tolist(), spare=True)
        if hasattr(column, "factorize"):  # pandas
            codes, values = column.factorize()
            return cls(codes, list(values))
        numbers: defaultdict[Any, int] = defaultdict(count().__next__)  # a new value gets the next number
        column = column.tolist() if isinstance(column, np.ndarray) else column
        codes = np.fromiter(map(numbers.__getitem__, column), np.intp, len(column))
        return cls(codes, list(numbers))

    @classmethod
    def _of_arrow(cls, column: Any) -> Numbered:
        spare = str(column.type).startswith("dictionary")
        column = column.dictionary_encode()
        column = column.unify_dictionaries() if hasattr(column, "unify_dictionaries") else column
        chunks = getattr(column, "chunks", [column])
        missing = any(chunk.indices.null_count for chunk in chunks)
        parts = [chunk.indices.fill_null(-1) if missing else chunk.indices for chunk in chunks]
        codes = joined([part.to_numpy(zero_copy_only=False) for part in parts])
        return cls(codes, chunks[0].dictionary.to_pylist(), spare)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int) -> Any:
        code = self.codes[row]
        return None if code < 0 else self.values[code]

    @property
    def missing(self) -> bool:
        """Whether a row has no value."""
        return len(self) > 0 and bool(self.codes.min() < 0)

    def occurring(self) -> dict[int, Any]:
        """The numbers that occur, each with its value; that of -1 is None."""
        found = dict(enumerate(self.values)) | ({-1: None} if self.missing else {})
        if not self.spare:
            return found
        seen = np.flatnonzero(np.bincount(self.codes.astype(np.intp) + 1)) - 1
        return {code: found[code] for code in seen.tolist()}


def numbered_columns(chunk: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A chunk with these of its columns encoded, unless their values cannot be compared; long ones of Arrow's strings
    each in a thread (Arrow needs no Python's lock)."""
    arrow = {name: column for name in names if (column := _in_arrow(chunk[name])) is not None}
    long = [name for name, column in arrow.items() if len(column) >= _LONG]
    made = {**chunk, **arrow}
    if long:
        with ThreadPoolExecutor(len(long)) as pool:
            made |= zip(long, pool.map(Numbered.of, [arrow[name] for name in long]), strict=True)
    for name in names:
        with contextlib.suppress(TypeError, NotImplementedError):
            made[name] = Numbered.of(made[name])
    return made


def distinct_rows(chunk: Mapping[str, Any]) -> tuple[dict[str, Numbered], np.ndarray] | None:
    """The distinct rows of a chunk, and how often each occurs, `(n_distinct,)`; None if not all columns are encoded, a
    value is missing, or there could be more distinct rows than rows."""
    columns = {name: column for name, column in chunk.items() if isinstance(column, Numbered)}
    sizes = [len(column.values) for column in columns.values()]
    if len(columns) < len(chunk) or any(column.missing for column in columns.values()):
        return None
    n_rows = len(next(iter(columns.values()), ()))
    n_cells = math.prod(sizes)
    if not n_rows or n_cells > n_rows:
        return None
    times = np.zeros(n_cells, dtype=np.intp)
    together = max(_BLOCK, n_cells)
    for start in range(0, n_rows, together):
        first, *others = (column.codes[start : start + together] for column in columns.values())
        cell = first.astype(np.intp)
        for codes_of, size in zip(others, sizes[1:], strict=True):
            cell *= size
            cell += codes_of
        times += np.bincount(cell, minlength=n_cells)
    met = np.flatnonzero(times)
    codes = np.unravel_index(met, sizes)
    rows = {name: Numbered(code, c.values, True) for (name, c), code in zip(columns.items(), codes, strict=True)}
    return rows, times[met]


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The parts of a column as one array; a single part is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _in_arrow(column: Any) -> Any:
    """A column of strings as pyarrow has it, of pyarrow or of pandas; None if it is another one."""
    if getattr(getattr(column, "dtype", None), "storage", None) == "pyarrow":  # pandas' strings
        column = column.array.__arrow_array__()
    return column if str(getattr(column, "type", "")) in ("string", "large_string") else None
