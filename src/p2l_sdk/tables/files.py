"""Reading files: rows of .jsonl, .csv and .parquet tables, a JSON value, and lines of text."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from p2l_sdk.errors import MissingExtraError, TableError

Row = Mapping[str, Any]


def read_rows(path: str | Path) -> Iterator[Row]:
    """Rows of a .jsonl, .csv or .parquet file as dictionaries.

    Raises:
        TableError: the file does not exist, has another suffix, or is damaged.
        MissingExtraError: it is a Parquet file, and pyarrow is not installed.
    """
    reader = READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise TableError(f"{str(path)!r} is of no known kind; known: {', '.join(READERS)}")
    return reader(Path(path))


def open_text(path: Path) -> TextIO:
    """Open a file as UTF-8 text; `TableError` if it cannot be opened."""
    try:
        return path.open(encoding="utf-8-sig", newline="")  # Excel writes a byte order mark
    except OSError as error:
        raise TableError(f"{str(path)!r} cannot be read: {error.strerror}") from None


def text_lines(file: Iterable[str], name: str | Path) -> Iterator[str]:
    """Yield the non-blank lines, without line endings."""
    try:
        for line in file:
            if line.strip():
                yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise TableError(f"{str(name)!r} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def json_rows(lines: Iterable[str], name: str | Path) -> Iterator[Row]:
    """Yield one JSON object per line; `TableError` for a line that is not one."""
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TableError(f"{str(name)!r}, row {number} is no JSON: {error}") from None
        if not isinstance(row, dict):
            raise TableError(f"{str(name)!r}, row {number} is no JSON object; JSON lines hold one object per line")
        yield row


def read_json(path: str | Path) -> Any:
    """The value in a JSON file; `TableError` if it cannot be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TableError(f"{str(path)!r} cannot be read: {error}") from None


def arrow_batches(path: Path) -> Iterator[Any]:
    """The record batches of a Parquet file (`pyarrow.RecordBatch`)."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingExtraError("Parquet", "pyarrow", "data") from None
    open_text(path).close()
    try:
        yield from parquet.ParquetFile(path).iter_batches()
    except (ArrowException, OSError) as error:
        raise TableError(f"{str(path)!r} is no whole Parquet file: {error}") from None


def require_distinct(columns: Iterable[str], name: str) -> None:
    """Raise `TableError` if two columns have the same name."""
    twice = [column for column, n in Counter(columns).items() if n > 1]
    if twice:
        raise TableError(f"{name}: two columns are named {twice[0]!r}; rename one")


def _read_jsonl(path: Path) -> Iterator[Row]:
    with open_text(path) as file:
        yield from json_rows(text_lines(file, path), path)


def _read_csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    with open_text(path) as file:
        try:
            reader = csv.DictReader(file)
            _require_commas(reader.fieldnames or (), path)
            require_distinct(reader.fieldnames or (), repr(str(path)))
            for number, row in enumerate(reader, 1):
                if None in row or None in row.values():
                    fields = "more" if None in row else "fewer"
                    raise TableError(f"{str(path)!r}: row {number} has {fields} fields than the header")
                yield row
        except UnicodeDecodeError as error:
            raise TableError(f"{str(path)!r} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
        except csv.Error as error:
            raise TableError(f"{str(path)!r} is no whole CSV file: {error}") from None


def _require_commas(header: Sequence[str], path: Path) -> None:
    """Raise `TableError` for a header separated by semicolons, as spreadsheets write it in some locales, or by tabs."""
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and mark in header[0]:
            raise TableError(f"{str(path)!r}: its header is separated by {name}; save it as CSV with commas")


def _read_parquet(path: Path) -> Iterator[Row]:
    for batch in arrow_batches(path):
        yield from batch.to_pylist()


READERS = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
