"""What a table that cannot be read may be, with the remedy: printed, turned, or of numbers with their errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from p2l_sdk.tables.columns import is_index, is_no_number, is_numeric
from p2l_sdk.tables.sources import Chunk

_WITH_ERROR = re.compile(
    r"\s*[+-]?\d+([.,]\d+)?\s*%?\s*((±|\+/?-)\s*\d+([.,]\d+)?|\(\s*±?\s*\d+([.,]\d+)?\s*\))\s*%?\s*"
)
_FEWEST = 2  # columns of numbers in a table to be turned


def other_shape(table: Chunk) -> str:
    """What a table is that was printed, or has numbers with their errors, and what to do; empty if it is neither."""
    if len(table) == 1 and _is_printed(*next(iter(table.items()))):
        return "it looks like a table as it is printed, with blanks between its columns: write it as CSV (df.to_csv)"
    for name, values in table.items():
        if (sample := _with_error(values)) is not None:
            return (
                f"{name!r} has cells such as {sample!r}: keep the number alone, and the error, if it is needed, in a "
                "column of its own"
            )
    return ""


def turned(table: Chunk, *, rows: str, columns: str, first: str) -> str:
    """What to do if the rows of a table should be its columns; empty if it has not one column of names beside numbers.

    Args:
        table: the columns.
        rows, columns: what its rows and columns are if so, such as "benchmarks" and "LLMs".
        first: what its first column is called once it is turned.
    """
    texts = [name for name, values in table.items() if not is_numeric(values, True)]
    numbers = [name for name in table if name not in texts and not is_index(name)]
    if len(texts) != 1 or len(numbers) < _FEWEST or len(set(map(str, table[texts[0]]))) < len(table[texts[0]]):
        return ""
    return (
        f"if its rows are {rows} and its columns {columns}, turn it: pandas.read_csv(FILE, index_col={texts[0]!r})"
        f".T.rename_axis({first!r}).to_csv(NEW)"
    )


def columns_of_numbers(table: Chunk) -> list[str]:
    """The names of the columns of numbers, but for row numbers."""
    return [str(name) for name, values in table.items() if not is_index(name) and is_numeric(values, True)]


def _is_printed(name: Any, values: Sequence[Any]) -> bool:
    n = len(str(name).split())
    rows = [value for value in values if isinstance(value, str) and len(value.split()) >= n]
    return n > 1 and 0 < len(rows) >= len(values) - 1  # the name of an index may stand in a row of its own


def _with_error(values: Sequence[Any]) -> Any:
    """A cell of a column of numbers with their errors, "82.0 ± 1.2" or "82.0 (1.2)"; None if it is none."""
    cells = [value for value in values if not is_no_number(value)]
    found = [value for value in cells if isinstance(value, str) and _WITH_ERROR.fullmatch(value)]
    return found[0] if 2 * len(found) > len(cells) else None
