"""What CSV files and sheets have in common: a header, and rows of cells below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from p2l_sdk.errors import TableError


def require_distinct(columns: Iterable[str], name: str) -> None:
    """Raise `TableError` if two columns have the same name."""
    twice = [column for column, n in Counter(columns).items() if n > 1]
    if twice:
        raise TableError(f"{name}: two columns are named {twice[0]!r}; rename one")


def is_blank(cells: Sequence[Any]) -> bool:
    """Whether a row has no value."""
    for cell in cells:
        if cell is not None and not (isinstance(cell, str) and (not cell or cell.isspace())):
            return False
    return True


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
