"""Reading .xlsx files: the first sheet, with the values that Excel computed."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from p2l_sdk.errors import MissingExtraError, TableError
from p2l_sdk.tables.grids import Header, without_titles
from p2l_sdk.tables.json_files import Row
from p2l_sdk.tables.places import Places
from p2l_sdk.tables.text import open_bytes
from p2l_sdk.tables.warn import warn_caller

_NO_VALUE = re.compile(  # a cell with a formula alone; of an empty text, Excel says that it is one
    rb'<c (?![^>]*\bt="str")[^>]*><f[^>]*(?:/>|>[^<]*</f>)\s*(?:<v\s*/>|<v>\s*</v>)?\s*</c>'
)
_FAULTS = ("#N/A", "#DIV/0!", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!")


def excel_rows(path: Path, places: Places) -> Iterator[Row]:
    """Yield the rows of the first visible sheet, below its first row that is not empty; empty rows are skipped.

    Raises:
        TableError: it is no whole Excel file, a column has no name or that of another, or a cell is an error.
        MissingExtraError: openpyxl is not installed.

    Warns:
        P2LWarning: there are several sheets.
    """
    places.word = "line"
    name, n_sheets, cells = _sheet(path)
    if n_sheets > 1:
        warn_caller(f"{str(path)!r} has {n_sheets} sheets; the first, {name!r}, is read")
    header, row = None, 0
    for line, values in without_titles(enumerate(cells, 1), path):
        if header is None:
            header = Header(values, path)
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


def _sheet(path: Path) -> tuple[str, int, list[tuple[Any, ...]]]:
    """Name of the first sheet, number of sheets, and the sheet's rows, each as long as its last cell."""
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise MissingExtraError("an Excel file", "openpyxl", "excel") from None
    with open_bytes(path) as file:
        try:
            with warnings.catch_warnings():  # openpyxl's, of styles and extensions that it does not know
                warnings.simplefilter("ignore")
                book = load_workbook(file, read_only=True, data_only=True)
                sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"] or book.worksheets
                sheets[0].reset_dimensions()  # what a file says of its size may be wrong
                cells = list(sheets[0].iter_rows(values_only=True))
                computed = not any(None in row for row in cells) or _is_computed(file)
        except Exception as error:  # openpyxl raises errors of many kinds
            raise TableError(f"{str(path)!r} is no whole Excel file (.xlsx): {error}") from None
    if not computed:
        raise TableError(f"{str(path)!r} has formulas without values; open it in Excel, and save it")
    return sheets[0].title, len(sheets), cells


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
