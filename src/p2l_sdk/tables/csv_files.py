"""Reading CSV files, whose fields may be separated by commas, semicolons, tabs or bars."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
_AFTER = "expected after"  # of the message on a quote within a field
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SAID = re.compile(r'"?sep=([,;\t|])"?\r?\n?', re.IGNORECASE)  # the first line, as Excel writes and reads it


def csv_rows(path: Path, places: Places, faults: dict[int, str] | None = None) -> Iterator[Row]:
    """Yield the rows of a CSV file as strings; rows without any value are skipped.

    Args:
        path: the file.
        places: where its rows stand.
        faults: is told of rows with more or fewer fields than the header, and of those whose quotes are wrong, by their
            numbers from 0; they come without values. Without it, the first is an error.

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
        records = _Records(csv.reader(lines, delimiter=separator, strict=True), skipped)
        rows = without_titles(iter(records), path)
        try:
            records.lenient = faults is not None  # also of the rows that are looked at to find the header
            begins, fields = next(rows, (0, None))
            if (above := min(records.broken, default=begins + 1)) <= begins:
                raise TableError(f"{str(path)!r}, line {above}, at the header or above it, {records.broken[above]}")
            if fields is None:
                return
            header, n_fields = Header(fields, path), len(fields)
            ahead = 0  # lines ahead of the row
            for row, (at, fields) in enumerate(rows):
                wrong = records.broken.pop(at, None)
                if wrong is None and len(fields) != n_fields:
                    wrong = _ragged(len(fields), n_fields, separator)
                    if faults is None:
                        raise TableError(f"{str(path)!r}, line {at} {wrong}")
                if wrong is not None and faults is not None:
                    faults[row], fields = f"it {wrong}", [""] * n_fields
                if at - row != ahead:
                    ahead = at - row
                    places.note(row, at)
                yield header.row(fields, at)
        except csv.Error as error:
            raise TableError(f"{str(path)!r} is no whole CSV file: line {records.line}: {_reason(error)}") from None


class _Records:
    """The records of a CSV file, each with the line at which it begins.

    Args:
        reader: of `csv`.
        skipped: lines above the first that it reads.

    Attributes:
        line: where the next record begins.
        lenient: whether a record with a quote at a wrong place is no error.
        broken: line of such a record -> what is wrong with it.
    """

    def __init__(self, reader: Any, skipped: int) -> None:
        self._reader, self._skipped = reader, skipped
        self.line, self.lenient, self.broken = 1 + skipped, False, dict[int, str]()

    def __iter__(self) -> Iterator[tuple[int, Sequence[str]]]:
        while True:
            try:
                fields = next(self._reader, None)
            except csv.Error as error:
                if not self.lenient or _AFTER not in str(error):  # a quote without an end takes all that follows
                    raise
                last, fields = self._reader.line_num + self._skipped, [_AFTER]
                lines = f" (it takes the lines {self.line} to {last})" if last > self.line else ""
                self.broken[self.line] = f"is no row of CSV: {_reason(error)}{lines}"
            if fields is None:
                return
            at, self.line = self.line, self._reader.line_num + 1 + self._skipped
            yield at, fields


def _ragged(n: int, wanted: int, separator: str) -> str:
    which = "more" if n > wanted else "fewer"
    return (
        f"has {which} fields than the header: {n}, not {wanted} (they are separated by "
        f"{_NAMES.get(separator, repr(separator))}){_QUOTES * (which == 'more')}"
    )


def _reason(error: csv.Error) -> str:
    if _AFTER in str(error):
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
