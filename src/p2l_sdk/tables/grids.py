"""What CSV files and sheets have in common: a header, and rows of cells below it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from p2l_sdk.errors import TableError
from p2l_sdk.tables.limits import MOST_CELLS, MOST_COLUMNS
from p2l_sdk.tables.warn import warn_caller

_NAMES, _LONGEST = 3, 60  # least columns of a header below a title; characters of the longest name
_TITLES = 10  # rows above a header


def column_key(name: object) -> str:
    """The name of a column in small letters, with one underscore for all that is neither letter nor digit."""
    return re.sub(r"[\W_]+", "_", str(name).casefold()).strip("_")


def require_distinct(columns: Iterable[str], name: str) -> None:
    """Raise `TableError` if two columns have the same name."""
    twice = [column for column, n in Counter(columns).items() if n > 1]
    if twice:
        raise TableError(
            f"{name}: two columns are named {twice[0]!r}; rename one (names over two rows: join them in one)"
        )


def require_few_columns(n: int, name: str) -> None:
    """Raise `TableError` if a table has more columns than any honest one."""
    if n > MOST_COLUMNS:
        raise TableError(f"{name} has {n:,} columns; at most {MOST_COLUMNS:,} are read")


def require_few_cells(n_rows: int, n_columns: int) -> None:
    """Raise `TableError` if a table that is held in memory as a whole has more cells than any honest one."""
    require_few_columns(n_columns, "the table")
    if n_rows * n_columns > MOST_CELLS:
        raise TableError(
            f"the table has more than {MOST_CELLS:,} cells ({n_rows:,} rows so far, {n_columns:,} columns), and has to "
            "be held as a whole; give it in parts, or without the columns that nobody needs"
        )


def is_blank(cells: Sequence[Any]) -> bool:
    """Whether a row has no value."""
    for cell in cells:
        if cell is not None and not (isinstance(cell, str) and (not cell or cell.isspace())):
            return False
    return True


def is_title(cells: Sequence[Any], below: Sequence[Any]) -> bool:
    """Whether a row is no header but a title above it: a single cell (a text of several words, or one beside empty
    cells), where the next row has three short texts or more, all different."""
    filled = [cell for cell in cells if not is_blank([cell])]
    names = [cell.strip() for cell in below if isinstance(cell, str) and any(map(str.isalpha, cell))]
    one = len(filled) == 1 and (len(cells) > 1 or len(str(filled[0]).split()) > 1)
    header = len(names) >= _NAMES and len(names) == sum(not is_blank([cell]) for cell in below)
    return one and header and len(set(names)) == len(names) and max(map(len, names)) <= _LONGEST


def without_titles(rows: Iterator[tuple[int, Sequence[Any]]], path: Path) -> Iterator[tuple[int, Sequence[Any]]]:
    """The rows that are not blank, each with its line, from the header on.

    Warns:
        P2LWarning: rows above the header are left out.
    """
    filled = ((line, cells) for line, cells in rows if not is_blank(cells))
    above: list[tuple[int, Sequence[Any]]] = []
    for line, cells in filled:
        above.append((line, cells))
        if not _one_cell(cells) or len(above) > _TITLES:
            if len(above) > 1 and all(is_title(title, cells) for _, title in above[:-1]):
                warn_caller(f"{str(path)!r}: line {line} is read as the header; what stands above it is left out")
                above = above[-1:]
            break
    yield from above
    yield from filled


def _one_cell(cells: Sequence[Any]) -> bool:
    return sum(not is_blank([cell]) for cell in cells) == 1


class Header:
    """The names of columns. The first column without a name (row numbers, as pandas writes them) is named ""; others
    have to be empty, and are left out.

    Args:
        cells: the cells of the header.
        path: the file, for messages.

    Raises:
        TableError: two columns have the same name.
    """

    def __init__(self, cells: Sequence[Any], path: Path) -> None:
        names = ["" if cell is None else str(cell).strip() for cell in cells]
        self._path = path
        nameless = names.index("") if "" in names else None
        self._named = [i for i, name in enumerate(names) if name or i == nameless]
        self._all = len(self._named) == len(names)
        self._names = [names[i] for i in self._named]
        require_distinct(self._names, repr(str(path)))
        require_few_columns(len(self._names), repr(str(path)))

    def row(self, cells: Sequence[Any], line: int) -> dict[str, Any]:
        """The cells of a row by name; `TableError` if a cell that has a value has no name."""
        if self._all and len(cells) == len(self._names):
            return dict(zip(self._names, cells, strict=True))
        named = set(self._named)
        for i, cell in enumerate(cells):
            if i not in named and not is_blank([cell]):
                raise TableError(
                    f"{str(self._path)!r}, line {line} has {str(cell)[:40]!r} in column {i + 1}, which has no name in "
                    "the header; name it, or delete it"
                )
        return {name: cells[i] if i < len(cells) else None for name, i in zip(self._names, self._named, strict=True)}
