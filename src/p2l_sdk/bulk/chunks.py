"""Files as chunks of columns, in which a line that cannot be read is a faulty row, and the others are read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from p2l_sdk.bulk.batch import PROMPT
from p2l_sdk.errors import TableError
from p2l_sdk.tables.csv_files import csv_rows
from p2l_sdk.tables.documents import json_value
from p2l_sdk.tables.files import kind_of
from p2l_sdk.tables.headers import lines_of_prompts
from p2l_sdk.tables.parquet import arrow_batches, parquet_values
from p2l_sdk.tables.places import Places
from p2l_sdk.tables.plain import plain_values
from p2l_sdk.tables.sources import Chunk, Source, open_source
from p2l_sdk.tables.text import expanded, open_text, text_lines

LINES, TEXT = (".jsonl", ".ndjson"), ("", ".txt", ".md")
_CSV, _ROWS = (".csv", ".tsv"), 20_000


def opened(name: str, faults: dict[int, str], rows: int = _ROWS) -> Source:
    """A file, or whatever else a name stands for, as a source.

    Args:
        name: of a file, a folder saved by `datasets`, or a Hub data set.
        faults: faulty lines are added to it: row, from 0 -> what is wrong.
        rows: of a chunk, where the file has lines.
    """
    path, places, kind = expanded(name), Places("line"), kind_of(name)
    if not path.is_file():
        return open_source(name)
    if kind in LINES:
        return Source(name, _json_chunks(path, places, faults, rows), place=places)
    if kind in _CSV:
        return Source(name, _csv_chunks(path, places, faults, rows), untyped=True, place=places)
    if kind is None and path.suffix.lower() in TEXT:
        return Source(name, _text_chunks(path, places, rows), place=places)
    return open_source(name)


def parquet_chunks(path: Path, columns: list[str]) -> Iterator[Chunk]:
    """Some columns of a Parquet file."""
    with parquet_values(path):
        for table in arrow_batches(path, columns):
            yield {name: plain_values(table.column(name)) for name in columns}


def _json_chunks(path: Path, places: Places, faults: dict[int, str], size: int) -> Iterator[Chunk]:
    """JSON lines; one that is none is a row without values, and a fault."""
    with open_text(path) as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        for at in itertools.count(0, size):
            rows: list[Mapping[str, Any]] = []
            for row, (number, line) in enumerate(itertools.islice(lines, size), at):
                places.note(row, number)
                try:
                    value = json_value(line.removeprefix("\ufeff"))
                    if not isinstance(value, dict):
                        raise ValueError("it is no object")
                    rows.append(value)
                except (ValueError, RecursionError) as error:
                    rows.append({})
                    faults[row] = f"this is no JSON object: {error}"
            if not rows:
                return
            names = dict.fromkeys(itertools.chain.from_iterable(rows))
            if names or at:
                yield {name: [row.get(name) for row in rows] for name in names or ("prompt",)}
            else:
                raise TableError(f"its first {len(rows):,} lines hold no JSON object: {faults[0]}")


def _csv_chunks(path: Path, places: Places, faults: dict[int, str], size: int) -> Iterator[Chunk]:
    """CSV; a line that is no row is one without values, and a fault."""
    rows = csv_rows(path, places, faults)
    for at in itertools.count(0, size):
        batch = list(itertools.islice(rows, size))
        if not batch:
            return
        if not at and len(faults) == len(batch):
            raise TableError(f"none of its first {len(batch):,} rows is one of its table: {places(0)}: {faults[0]}")
        yield {name: [row[name] for row in batch] for name in batch[0]}


def _text_chunks(path: Path, places: Places, size: int) -> Iterator[Chunk]:
    with open_text(path) as file:
        lines = lines_of_prompts(text_lines(file))
        for at in itertools.count(0, size):
            held = list(itertools.islice(lines, size))
            if not held:
                return
            for row, (number, _) in enumerate(held, at):
                places.note(row, number)
            yield {PROMPT: [line for _, line in held]}
