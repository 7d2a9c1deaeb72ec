"""The plain Python values of a column: no numpy, pandas or pyarrow objects, however deep they are nested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_PLAIN = {str, int, float, bool, type(None), object}  # object: the mark of a cell that is absent


def plain_values(column: Any) -> list[Any]:
    """The plain Python values of any column; missing ones of pandas are None, except in numpy float columns (NaN)."""
    if hasattr(column, "to_pylist"):  # pyarrow
        return _of_dictionary(column) if hasattr(column.type, "index_type") else list(column.to_pylist())
    if hasattr(column, "notna"):  # pandas
        if not isinstance(column.dtype, np.dtype) or column.dtype.kind != "f":  # pandas' own floats may hold NA
            column = column.astype(object).where(column.notna(), None)
        return all_plain(list(column))
    return all_plain(list(column.tolist() if hasattr(column, "tolist") else column))


def _of_dictionary(column: Any) -> list[Any]:
    """The values of a pyarrow column that keeps each once: one object for all rows that repeat it."""
    found: list[Any] = []
    for part in getattr(column, "chunks", [column]):
        values = part.dictionary.to_pylist()
        found += [None if code is None else values[code] for code in part.indices.to_pylist()]
    return found


def all_plain(values: list[Any]) -> list[Any]:
    """The values, each plain; the list itself if they are."""
    return values if set(map(type, values)) <= _PLAIN else [plain(value) for value in values]


def plain(value: Any) -> Any:
    """A value with lists for arrays and tuples, dictionaries for mappings, and Python's own strings and numbers."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy, torch
        value = value.tolist()
        return [plain(item) for item in value] if isinstance(value, list) else value
    return value.as_py() if hasattr(value, "as_py") else value  # pyarrow
