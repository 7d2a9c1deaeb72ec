"""Reading .xlsx files: one sheet, with the values that Excel computed."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from p2l_sdk.errors import MissingExtraError, TableError
from p2l_sdk.tables.grids import Header, column_key, without_titles
from p2l_sdk.tables.json_files import Row
from p2l_sdk.tables.places import Places
from p2l_sdk.tables.text import open_bytes, sheet_of
from p2l_sdk.tables.warn import warn_caller

_NO_VALUE = re.compile(  # a cell with a formula alone; of an empty text, Excel says that it is one
    rb'<c (?![^<>]*\bt="str")[^<>]*><f[^<>]*(?:/>|>[^<]*</f>)\s*(?:<v\s*/>|<v>\s*</v>)?\s*</c>'
)
_MOST, _FIRST = 20, 20  # sheets, and rows of each, that are looked at to find the table
_KNOWN = {
    "prompt", "question", "instruction", "query", "conversation_a", "model_a", "model_b", "winner", "model", "score",
    "model_1", "model_2", "left_model", "right_model", "benchmark", "loser", "llm", "llm_a", "llm_b", "rating",
    "category", "accuracy", "correct",
}  # fmt: skip
_MOST_PARTS, _MOST_UNPACKED = 2_000, 1 << 29  # files in an .xlsx file, and their bytes
_UNPACKED = 1 << 24  # bytes; less is harmless
_TIMES = 100  # an honest sheet unpacks to ten or twenty times its size
_MOST_ROWS = 1 << 20  # as in Excel
_MOST_CELLS = 1 << 24  # of a sheet, empty ones included
_MOST_EMPTY = 100_000  # rows one after another; a row's number may lie
_DECLARED = re.compile(rb"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_HEAD = 1 << 16  # bytes of a part, where a declaration stands
_FAULTS = ("#N/A", "#DIV/0!", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!")


def excel_rows(path: Path, places: Places) -> Iterator[Row]:
    """Yield the rows of a sheet, below its first row that is not empty and no title; empty rows are skipped.

    Args:
        path: the file; with ":Votes" behind its name, that sheet. Otherwise the first visible one is read, or the only
            one whose columns are named as those of votes, scores or results are.
        places: takes the lines.

    Raises:
        TableError: it is no whole Excel file, has no such sheet, a column has no name or that of another, or a cell is
            an error.
        MissingExtraError: openpyxl is not installed.

    Warns:
        P2LWarning: there are several sheets, and none is named.
    """
    places.word = "line"
    path, wanted = sheet_of(path)
    header = None
    for line, values in without_titles(enumerate(_cells(path, wanted), 1), path):
        if header is None:
            header, row = Header(values, path), 0
            continue
        places.note(row, line)
        named = header.row([_plain(value) for value in values], line)
        for column, value in named.items():
            if isinstance(value, str) and value in _FAULTS:
                raise TableError(
                    f"{str(path)!r}, line {line}: {column!r} is {value}, an error in the sheet; correct it"
                )
        yield named
        row += 1


def _cells(path: Path, wanted: str | None) -> list[tuple[Any, ...]]:
    """The rows of a sheet, each as long as its last cell."""
    with open_bytes(path) as file:
        try:
            from openpyxl import load_workbook
        except ImportError:
            raise MissingExtraError("an Excel file", "openpyxl", "excel") from None
        try:
            with warnings.catch_warnings():  # openpyxl's, of styles and extensions that it does not know
                warnings.simplefilter("ignore")
                _check(file, path)
                book = load_workbook(file, read_only=True, data_only=True)
                sheets = {sheet.title: sheet for sheet in book.worksheets}
                seen = [name for name, sheet in sheets.items() if sheet.sheet_state == "visible"] or list(sheets)
                for sheet in sheets.values():
                    sheet.reset_dimensions()  # what a file says of its size may be wrong
                starts = {} if wanted or len(seen) < 2 else {name: _header(sheets[name]) for name in seen[:_MOST]}
                name = _chosen(path, list(sheets), seen, starts, wanted)
                cells = list(_limited(sheets[name].iter_rows(values_only=True), path))
                computed = not any(None in row for row in cells) or _is_computed(file)
        except TableError:
            raise
        except Exception as error:  # openpyxl raises errors of many kinds
            raise TableError(f"{str(path)!r} is no whole Excel file (.xlsx): {error}") from None
    if not computed:
        raise TableError(f"{str(path)!r} has formulas without values; open it in Excel, and save it")
    if len(seen) > 1 and wanted is None:
        which = f"the first, {name!r}," if name == seen[0] else f"{name!r}, the only one that begins as a table does,"
        others = ", ".join(f"'{path}:{other}'" for other in seen if other != name)
        warn_caller(f"{str(path)!r} has {len(seen)} sheets; {which} is read; to read another one, name {others}")
    return cells


def _check(file: BinaryIO, path: Path) -> None:
    """Refuse a file that unpacks to more than any sheet, or declares entities, before it is read."""
    parts = zipfile.ZipFile(file).infolist()
    unpacked, packed = sum(part.file_size for part in parts), sum(part.compress_size for part in parts)
    if len(parts) > _MOST_PARTS or unpacked > _MOST_UNPACKED or (unpacked > _UNPACKED and unpacked > _TIMES * packed):
        size = f"{len(parts):,} parts, {unpacked >> 20:,} MB"
        raise TableError(f"{str(path)!r} unpacks to more than a sheet does ({size}); save it as CSV")
    archive = zipfile.ZipFile(file)
    for part in parts:
        with archive.open(part) as opened:
            if part.filename.endswith((".xml", ".rels")) and _DECLARED.search(opened.read(_HEAD)):
                raise TableError(f"{str(path)!r} declares entities, as no spreadsheet does; save it as CSV")
    file.seek(0)


def _limited(rows: Iterator[tuple[Any, ...]], path: Path) -> Iterator[tuple[Any, ...]]:
    """The rows without the empty cells at their ends; `TableError` if there are more than a sheet can have."""
    n_cells = n_empty = 0
    for number, cells in enumerate(rows, 1):
        n_cells += len(cells)
        if number > _MOST_ROWS or n_cells > _MOST_CELLS:
            raise TableError(f"{str(path)!r} has more rows or cells than can be read from a sheet; save it as CSV")
        filled = len(cells)
        while filled and cells[filled - 1] is None:
            filled -= 1
        n_empty = 0 if filled else n_empty + 1
        if n_empty > _MOST_EMPTY:
            raise TableError(f"{str(path)!r} has more than {_MOST_EMPTY:,} empty rows one after another; delete them")
        yield cells[:filled]


def _chosen(path: Path, names: list[str], seen: list[str], starts: dict[str, bool], wanted: str | None) -> str:
    """The sheet to read: the one that is wanted, the only one that starts as a table does, or the first."""
    if wanted is None:
        tables = [name for name, starts_well in starts.items() if starts_well]
        return tables[0] if len(tables) == 1 else seen[0]
    alike = [name for name in names if name.casefold() == wanted.casefold()]
    if not alike:
        raise TableError(f"{str(path)!r} has no sheet {wanted!r}; its sheets: {', '.join(names)}")
    return wanted if wanted in alike else alike[0]


def _header(sheet: Any) -> bool:
    """Whether two cells in one of the first rows of a sheet are named as columns of votes, scores or results are."""
    for cells in sheet.iter_rows(values_only=True, max_row=_FIRST):
        named = {column_key(cell) for cell in cells if isinstance(cell, str)}
        if len(named & _KNOWN) > 1 or ("prompt" in named and len(named) > 1):
            return True
    return False


def _is_computed(file: BinaryIO) -> bool:
    """Whether all formulas have values; a program that is no spreadsheet may write formulas alone."""
    archive = zipfile.ZipFile(file)
    names = [name for name in archive.namelist() if name.startswith("xl/worksheets/") and name.endswith(".xml")]
    return not any(_NO_VALUE.search(archive.read(name)) for name in names)


def _plain(value: Any) -> Any:
    """A cell as in other files: Excel has one type for all numbers, and writes a carriage return as `_x000D_`."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.replace("_x000D_", "\r") if isinstance(value, str) and "_x000D_" in value else value
