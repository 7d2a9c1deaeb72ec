"""Reading CSV files, whose fields may be separated by commas, semicolons, tabs or bars."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from p2l_sdk.errors import TableError
from p2l_sdk.tables.grids import Header, is_blank, is_title, without_titles
from p2l_sdk.tables.json_files import Row
from p2l_sdk.tables.limits import LONGEST_ROW
from p2l_sdk.tables.places import Places
from p2l_sdk.tables.text import open_text

_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SAMPLE_TITLES = 10  # lines that may stand above the header
_SAMPLE = 200  # lines that are looked at to find the separator
_SAMPLE_SIZE = 1 << 20  # and their characters
_QUOTES = "; put a text that holds one of them into double quotes"
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SAID = re.compile(r'"?sep=([,;\t|])"?\r?\n?', re.IGNORECASE)  # the first line, as Excel writes and reads it


def csv_rows(path: Path, places: Places) -> Iterator[Row]:
    """Yield the rows of a CSV file as strings; rows without any value are skipped.

    Raises:
        TableError: it cannot be read, its separator is not certain, a column has no name or that of another, or a row
            has more or fewer fields than the header.
    """
    csv.field_size_limit(LONGEST_ROW)
    places.word = "line"
    with open_text(path) as file:
        sample = _sample(file, path)
        lines, skipped = itertools.chain(sample, file), 0
        said = _SAID.fullmatch(sample[0]) if sample else None
        if said is not None:
            next(lines)
            skipped = 1
        separator = said[1] if said else _separator(sample, path)
        reader = csv.reader(lines, delimiter=separator, strict=True)
        line = 1 + skipped

        def numbered() -> Iterator[tuple[int, Sequence[str]]]:
            nonlocal line
            for fields in reader:
                at, line = line, reader.line_num + 1 + skipped
                yield at, fields

        rows = without_titles(numbered(), path)
        try:
            fields = next(rows, (0, None))[1]
            if fields is None:
                return
            header, n_fields = Header(fields, path), len(fields)
            ahead = 0  # lines ahead of the row
            for row, (at, fields) in enumerate(rows):
                if len(fields) != n_fields:
                    which = "more" if len(fields) > n_fields else "fewer"
                    raise TableError(
                        f"{str(path)!r}, line {at} has {which} fields than the header: {len(fields)}, not {n_fields} "
                        f"(they are separated by {_NAMES.get(separator, repr(separator))}{_QUOTES * (which == 'more')})"
                    )
                if at - row != ahead:
                    ahead = at - row
                    places.note(row, at)
                yield header.row(fields, at)
        except csv.Error as error:
            raise TableError(f"{str(path)!r} is no whole CSV file: line {line}: {_reason(error)}") from None


def _reason(error: csv.Error) -> str:
    if "expected after" in str(error):
        return 'a quoted field goes on after its closing quote; double the quotes within a field ("")'
    if "field limit" in str(error):
        return f"a field has more than {LONGEST_ROW:,} characters; is there a quote without an end?"
    return "a quoted field has no end" if "unexpected end" in str(error) else str(error)


def _sample(file: Iterator[str], path: Path) -> list[str]:
    """The first lines: `_SAMPLE` of them, or fewer if they are long."""
    sample, left = [], _SAMPLE_SIZE
    for line in itertools.islice(file, _SAMPLE):
        sample.append(line)
        left -= len(line)
        if left < 0:
            if len(sample) == 1:
                raise TableError(
                    f"{str(path)!r} is no CSV file: its first line, which names the columns, has {len(line):,} "
                    f"characters; at most {_SAMPLE_SIZE:,} are read"
                )
            break
    return sample


def _separator(sample: Sequence[str], path: Path) -> str:
    """What separates the fields: the only mark in the header outside quotes, or the only one that fits the rows."""
    usual = "\t" if ".tsv" in path.name.lower() else ","
    start = _begin(sample)
    header = _QUOTED.sub("", _first_record(sample[start:]))
    found = [mark for mark in _NAMES if mark in header]
    if len(found) < 2 or (usual == "\t" and usual in found):
        return usual if usual in found or not found else found[0]
    share = {mark: _share(sample[start:], mark) for mark in found}
    for least in (1.0, 1e-9):
        fitting = [mark for mark in found if share[mark] >= least]
        if len(fitting) == 1:
            return fitting[0]
    marks = " or ".join(_NAMES[mark] for mark in found)
    raise TableError(f"{str(path)!r}: its header may be separated by {marks}; put quotes around names that hold them")


def _begin(sample: Sequence[str]) -> int:
    """The line of the header: the first that is not blank, or the one below titles."""
    filled = [i for i, line in enumerate(sample) if line.strip(" \t\r\n,;|")]
    for i, below in itertools.pairwise(filled[:_SAMPLE_TITLES]):
        if any(_below_title(sample[i], sample[below], mark) for mark in _NAMES):
            return below
        if any(_fields(sample[i], mark) > 1 for mark in ";\t|"):
            break
    return filled[0] if filled else len(sample)


def _below_title(title: str, line: str, mark: str) -> bool:
    """Whether a line is a header with this separator, and the one above it has no fields at all."""
    if any(_fields(title, other) > 1 for other in (";", "\t", "|", mark)) or title.count('"') % 2:
        return False  # it has fields, or begins one that goes on in the next line
    names = next(csv.reader([line], delimiter=mark))
    return is_title([title.strip(" \t\r\n,;|"), ""], names) and not any(
        other in name for name in names for other in _NAMES
    )


def _fields(line: str, mark: str) -> int:
    """The number of fields that are not empty."""
    return sum(bool(field.strip()) for field in line.split(mark))


def _first_record(lines: Sequence[str]) -> str:
    """The first line, or the first lines if a quoted field goes on over several."""
    text = ""
    for line in lines:
        text += line
        if text.count('"') % 2 == 0:
            return text
    return lines[0] if lines else ""


def _share(sample: Sequence[str], separator: str) -> float:
    """The share of the rows of a sample that have as many fields as the header."""
    lengths, cut = [], len(sample) == _SAMPLE or sum(map(len, sample)) > _SAMPLE_SIZE  # maybe within a row
    try:
        for fields in csv.reader(sample, delimiter=separator, strict=True):
            if not is_blank(fields):
                lengths.append(len(fields))
    except csv.Error:
        if not cut:
            return 0.0
    rows = lengths[1:-1] if cut else lengths[1:]
    return sum(n == lengths[0] for n in rows) / len(rows) if rows and lengths[0] > 1 else 0.0
