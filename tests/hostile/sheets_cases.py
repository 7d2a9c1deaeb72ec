"""Hostile sheets: .xlsx files that unpack to more than they hold, lie about rows and columns, or declare entities."""

from __future__ import annotations

import functools
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Case

from p2l_sdk import Votes

ROW = {"prompt": "hello", "model_a": "a", "model_b": "b", "winner": "tie"}
Make = Callable[[Path], Any]


def _votes(
    name: str, make: Make, says: str | None, right: Callable[[Any], bool] | None = None, quick: bool = True
) -> Case:
    """A case that reads votes from the file that `make` writes to the path it is given."""

    def run(folder: Path) -> Any:
        make(folder / name)
        return len(Votes.read(folder / name))

    return Case(name, run, says, right, quick)


def _text(data: bytes) -> Make:
    return lambda path: path.write_bytes(data)


SHEET = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{}</sheetData></worksheet>'
)


@functools.cache
def _book() -> bytes:
    from openpyxl import Workbook

    book = Workbook()
    for row in (ROW, ROW.values(), ROW.values()):
        book.active.append(list(row))
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _excel(sheet: str | bytes | None = None, name: str = "xl/worksheets/sheet1.xml", more: int = 0) -> Make:
    """A sheet of two votes with one part replaced, and further ones."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(io.BytesIO(_book())) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for part in old.namelist():
                data = old.read(part)
                new.writestr(part, data if part != name or sheet is None else sheet)
            if name not in old.namelist() and sheet is not None:
                new.writestr(name, sheet)
            for i in range(more):
                new.writestr(f"x{i}", b"")

    return make


def _sized(sheet: str, size: str) -> str:
    """The sheet with what it says of its size."""
    return sheet.replace("<sheetData>", f'<dimension ref="{size}"/><sheetData>')


def _cells(*rows: str) -> str:
    return SHEET.format("".join(rows))


def _cell(at: str, text: str) -> str:
    return f'<c r="{at}" t="inlineStr"><is><t>{text}</t></is></c>'


HEADER = "<row r='1'>" + "".join(_cell(f"{c}1", n) for c, n in zip("ABCD", ROW, strict=True)) + "</row>"
VOTE = "".join(_cell(f"{c}{{0}}", v) for c, v in zip("ABCD", ROW.values(), strict=True))
SECOND = f"<row r='2'>{VOTE.format(2)}</row>"
_PAIRS = zip("abcdefgh", "bcdefghi", strict=True)
LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha">' + "".join(f'<!ENTITY {c} "{f"&{b};" * 10}">' for b, c in _PAIRS) + "]>"
OF_A_FILE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'

CASES = [
    _votes("honest.xlsx", _excel(), None, {2}.__contains__),
    _votes("empty-rows.xlsx", _excel(_cells(HEADER, "<row/>" * 10**6)), "empty rows one after another", quick=False),
    _votes("2-million-empty-rows.xlsx", _excel(_cells(HEADER, "<row/>" * 3 * 10**6)), "unpacks to more|more rows"),
    _votes(
        "row-number-of-a-billion.xlsx",
        _excel(_cells(HEADER, f'<row r="999999999">{VOTE.format(999999999)}</row>')),
        "empty rows one after another",
    ),
    _votes("row-number-negative.xlsx", _excel(_cells(HEADER, f'<row r="-5">{VOTE.format(2)}</row>')), "."),
    _votes("row-number-no-number.xlsx", _excel(_cells(HEADER, f'<row r="x">{VOTE.format(2)}</row>')), "no whole Excel"),
    _votes(
        "far-column.xlsx",
        _excel(_cells(HEADER, f"<row r='2'>{VOTE.format(2)}{_cell('ZZZ2', 'x')}</row>")),
        "has no name in the header",
    ),
    _votes(
        "far-columns.xlsx",
        _excel(_cells(HEADER, *(f"<row r='{i}'>{VOTE.format(i)}<c r='XFD{i}'/></row>" for i in range(2, 6000)))),
        "more rows or cells|unpacks",
        quick=False,
    ),
    _votes(
        "no-such-column.xlsx", _excel(_cells(HEADER, f"<row r='2'>{_cell('ZZZZZZZ2', 'x')}</row>")), "no whole Excel"
    ),
    _votes(
        "dimension-lies.xlsx",
        _excel(
            _cells(HEADER, f'<row r="2">{VOTE.format(2)}</row>').replace(
                "<sheetData>", '<dimension ref="A1:XFD1048576"/><sheetData>'
            )
        ),
        None,
        {1}.__contains__,
    ),
    _votes(
        "dimension-lies-small.xlsx",
        _excel(
            _cells(HEADER, f'<row r="2">{VOTE.format(2)}</row>').replace(
                "<sheetData>", '<dimension ref="A1"/><sheetData>'
            )
        ),
        None,
        {1}.__contains__,
    ),
    _votes("zip-bomb-sheet.xlsx", _excel(b" " * (1 << 25)), "unpacks to more than a sheet"),
    _votes("zip-bomb-strings.xlsx", _excel(b" " * (1 << 25), "xl/sharedStrings.xml"), "unpacks to more than a sheet"),
    _votes("zip-bomb-beside.xlsx", _excel(b" " * (1 << 25), "xl/media/image1.png"), "unpacks to more than a sheet"),
    _votes("3000-parts.xlsx", _excel(more=3000), "3,0.. parts"),
    _votes(
        "entities.xlsx", _excel(LAUGHS + _cells(HEADER, f"<row r='2'>{_cell('A2', '&i;')}</row>")), "declares entities"
    ),
    _votes(
        "entity-of-a-file.xlsx",
        _excel(
            '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
            + _cells(HEADER, f"<row r='2'>{_cell('A2', '&a;')}</row>")
        ),
        "declares entities",
    ),
    _votes(
        "entities-in-strings.xlsx",
        _excel(LAUGHS + "<sst><si><t>&i;</t></si></sst>", "xl/sharedStrings.xml"),
        "declares entities",
    ),
    _votes("nested-elements.xlsx", _excel(_cells("<row>" * 50_000)), "no whole Excel|unpacks"),
    _votes(
        "no-shared-string.xlsx",
        _excel(_cells(HEADER, "<row r='2'><c r='A2' t='s'><v>999999</v></c></row>")),
        "no whole Excel",
    ),
    _votes(
        "number-of-5000-digits.xlsx",
        _excel(_cells(HEADER, f"<row r='2'><c r='A2'><v>{'9' * 5000}</v></c></row>")),
        "no whole Excel|prompt",
    ),
    _votes(
        "infinite-date.xlsx",
        _excel(_cells(HEADER, "<row r='2'><c r='A2' t='d'><v>9999999-99-99</v></c></row>")),
        "no whole Excel|prompt",
    ),
    _votes(
        "brackets-in-a-comment.xlsx",
        _excel(
            "<!--"
            + "<c " * 10**5
            + "-->"
            + _cells(HEADER, f"<row r='2'>{VOTE.format(2)}</row>", "<row r='3'><c r='B3'/><c r='F3'><v>1</v></c></row>")
        ),
        ".",
    ),
    _votes("no-zip.xlsx", _text(b"PK\3\4" + bytes(5000)), "no whole Excel"),
    _votes("zip-of-nothing.xlsx", _text(b"PK\5\6" + bytes(18)), "no whole Excel"),
    _votes("name-in-book.xlsx", _excel("<workbook/>", "xl/workbook.xml"), "no whole Excel"),
]
