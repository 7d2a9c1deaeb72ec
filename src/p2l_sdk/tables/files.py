"""Reading files: the kinds of files that hold a table, and their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from p2l_sdk.errors import TableError, nearest
from p2l_sdk.tables.csv_files import csv_rows
from p2l_sdk.tables.excel import excel_rows
from p2l_sdk.tables.json_files import Row, json_lines, json_table, read_json
from p2l_sdk.tables.limits import MOST_RECORDS
from p2l_sdk.tables.parquet import arrow_batches, parquet_values
from p2l_sdk.tables.places import Place, Places
from p2l_sdk.tables.progress import counted
from p2l_sdk.tables.text import expanded, no_file, path_of, sheet_of

__all__ = [
    "KINDS",
    "READERS",
    "Row",
    "Rows",
    "is_data",
    "kind_of",
    "no_table",
    "read_json",
    "read_rows",
]

Reader = Callable[[Path, Places], Iterator[Row]]


@dataclass(frozen=True)
class Rows:
    """The rows of a file, which can be read once.

    Attributes:
        place: where a row, counted from 0, stands in the file: "line 7"; see `Source.place`.
    """

    rows: Iterator[Row]
    place: Place = field(default_factory=Places)

    def __iter__(self) -> Iterator[Row]:
        return self.rows


def read_rows(path: str | Path, most: int | None = MOST_RECORDS) -> Rows:
    """Rows of a table in a file (see `KINDS`) as dictionaries.

    Args:
        path: the file.
        most: the most rows, beyond which there is an error; None where the caller keeps none or counts them itself.

    Raises:
        TableError: the file does not exist, is of another kind, is damaged, or has more rows; also while it is read.
        MissingExtraError: the package that reads it is not installed.
    """
    path_of(path)
    kind = kind_of(path)
    if kind is None:
        raise TableError(no_table(path))
    places = Places()
    rows = counted(READERS[kind](Path(path), places), Path(path))
    return Rows(rows if most is None else _limited(rows, most, path), places)


def _limited(rows: Iterator[Row], most: int, path: str | Path) -> Iterator[Row]:
    for number, row in enumerate(rows):
        if number == most:
            raise TableError(f"{str(path)!r} has more than {most:,} rows; give it in parts")
        yield row


def kind_of(path: str | Path) -> str | None:
    """The key in `READERS` for a file, by its name; None if there is none."""
    path = sheet_of(path)[0]
    suffix = path.suffix.lower()
    if suffix == ".gz" and (packed := Path(path.stem).suffix.lower()) in _PACKED:
        return packed
    return suffix if suffix in READERS else None


def is_data(path: str | Path) -> bool:
    """Whether a name ends as that of a file of data, of a known kind or another, even if mistyped ("votes.jsnl")."""
    suffix = Path(path).suffix.lower()
    if kind_of(path) is not None or suffix in _OTHERS:
        return True
    return suffix[1:].isalpha() and (close := nearest(suffix, READERS)) is not None and _typo(suffix, close)


def no_table(path: str | Path, known: str = "") -> str:
    """The message for a file that is no table; `known` lists what is, by default the kinds of files."""
    if not expanded(path).exists():
        return no_file(path) if is_data(path) else f"{no_file(path)}; known: {known or KINDS}"
    suffix = Path(path).suffix.lower()
    remedy = f"save it as {_OTHERS[suffix]}; " if _OTHERS.get(suffix) else ""
    if suffix in _PACKERS:
        remedy = "unpack it; " if suffix == ".gz" else "unpack it, or compress it with gzip; "
    return f"{str(path)!r} is of no known kind; {remedy}known: {known or KINDS}"


def _parquet_rows(path: Path, places: Places) -> Iterator[Row]:
    with parquet_values(path):
        for batch in arrow_batches(path):
            yield from batch.to_pylist()


def _typo(suffix: str, close: str) -> bool:
    """Whether one suffix is the other with letters swapped, or one letter more, less or other."""
    if len(suffix) < 3:
        return False
    if sorted(suffix) == sorted(close):
        return True
    if len(suffix) == len(close):
        return sum(a != b for a, b in zip(suffix, close, strict=True)) == 1
    longer, shorter = sorted((suffix, close), key=len, reverse=True)
    return any(longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer)))


READERS: dict[str, Reader] = {
    ".json": json_table,
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".xlsx": excel_rows,
    ".parquet": _parquet_rows,
}
UNTYPED = (".csv", ".tsv", ".xlsx")  # a string may spell a number: all are strings, or some cells of a sheet
_PACKED = (".json", ".jsonl", ".ndjson", ".csv", ".tsv")  # may be compressed: votes.csv.gz
KINDS = f"{', '.join(READERS)} ({', '.join(_PACKED)} also with .gz)"
_PACKERS = (".gz", ".zst", ".bz2", ".xz", ".zip")
_OTHERS = {  # suffixes of data that cannot be read -> what to save it as
    ".xls": ".xlsx or .csv", ".xlsm": ".xlsx or .csv", ".xlsb": ".xlsx or .csv", ".ods": ".xlsx or .csv",
    ".arrow": ".parquet", ".feather": ".parquet", ".pkl": ".parquet", ".pickle": ".parquet", ".orc": ".parquet",
    ".zip": "", ".gz": "", ".bz2": "", ".xz": "", ".zst": "", ".txt": "", ".md": "", ".yaml": "", ".yml": "",
    ".sqlite": ".csv", ".db": ".csv",
}  # fmt: skip
