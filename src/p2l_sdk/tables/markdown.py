"""Reading a table in Markdown, as people paste it from a page or a model card: cells between bars, below a header with
a line of dashes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from p2l_sdk.errors import TableError
from p2l_sdk.tables.grids import Header, is_blank
from p2l_sdk.tables.json_files import Row
from p2l_sdk.tables.places import Places
from p2l_sdk.tables.text import read_text
from p2l_sdk.tables.warn import warn_caller

_DASHES = re.compile(r":?-+:?")
_BAR = re.compile(r"(?<!\\)\|")
_EMPHASIS = re.compile(r"(\*\*|__|\*|`)(.+)\1")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")


def markdown_rows(path: Path, places: Places) -> Iterator[Row]:
    """Yield the rows of the first table as strings, without marks of emphasis and links.

    Raises:
        TableError: the file cannot be read, or holds no table; or as of CSV files.

    Warns:
        P2LWarning: there are more tables.
    """
    places.word = "line"
    lines = read_text(path).splitlines()
    headers = [i for i in range(len(lines) - 1) if "|" in lines[i] and "|" in lines[i + 1] and _is_dashes(lines[i + 1])]
    if not headers:
        raise TableError(f"{str(path)!r} holds no table in Markdown: cells between bars, with a line |---|---| below "
                         "the first row; or save it as CSV")  # fmt: skip
    start = headers[0]
    if len(headers) > 1:
        warn_caller(f"{str(path)!r} has {len(headers)} tables; the first, at line {start + 1}, is read")
    header, n = Header(_cells(lines[start]), path), len(_cells(lines[start]))
    row = 0
    for at in range(start + 2, len(lines)):
        if "|" not in lines[at]:
            return
        cells = _cells(lines[at])
        if len(cells) > n:
            raise TableError(f"{str(path)!r}, line {at + 1} has {len(cells)} cells, and the header {n}")
        if not is_blank(cells):
            places.note(row, at + 1)
            yield header.row(cells + [""] * (n - len(cells)), at + 1)
            row += 1


def _is_dashes(line: str) -> bool:
    return all(_DASHES.fullmatch(cell) for cell in _cells(line))


def _cells(line: str) -> list[str]:
    text = line.strip().removeprefix("|")
    return [_plain(cell) for cell in _BAR.split(text[:-1] if text.endswith("|") else text)]


def _plain(cell: str) -> str:
    text = _LINK.sub(r"\1", cell.strip().replace("\\|", "|"))
    while found := _EMPHASIS.fullmatch(text):
        text = found[2]
    return text.strip()
