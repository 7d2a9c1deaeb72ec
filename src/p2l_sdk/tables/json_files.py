"""Reading JSON: lines with one object each, a table in one value, and any other value."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from p2l_sdk.errors import TableError
from p2l_sdk.tables.documents import json_value, whole_text
from p2l_sdk.tables.grids import require_distinct
from p2l_sdk.tables.places import Places
from p2l_sdk.tables.promptfoo import promptfoo_rows
from p2l_sdk.tables.text import open_text, read_text

Row = Mapping[str, Any]


def json_rows(lines: Iterable[tuple[int, str]], name: str | Path, places: Places) -> Iterator[Row]:
    """Yield one JSON object per line, skipping blank lines; `TableError` for a line that is not one.

    Args:
        lines: the lines, each with its number.
        name: name of their source, for messages.
        places: takes the numbers.
    """
    places.word = "line"
    row, before = 0, 0  # blank lines before the row
    for number, line in lines:
        if line.isspace() or not line:
            continue
        try:
            value = json_value(line)
        except ValueError as error:
            raise TableError(f"{str(name)!r}, line {number} is no JSON: {error}") from None
        if not isinstance(value, dict):
            remedy = "; a JSON array goes into a .json file" if line.lstrip().startswith("[") else ""
            raise TableError(
                f"{str(name)!r}, line {number} is no JSON object; JSON lines hold one object per line{remedy}"
            )
        if number - 1 - row != before:
            before = number - 1 - row
            places.note(row, number)
        yield value
        row += 1


def json_lines(path: Path, places: Places) -> Iterator[Row]:
    """The rows of a file of JSON lines."""
    with open_text(path) as file:
        yield from json_rows(enumerate(file, 1), path, places)


def json_table(path: Path, places: Places) -> Iterator[Row]:
    """The rows of a .json file: an array of objects, an object of columns (lists, or objects by index, as pandas writes
    them), or JSON lines, if that is what it holds."""
    text = read_text(path)
    try:
        value = json_value(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise TableError(f"{str(path)!r} is no whole JSON: {error}") from None
        return json_rows(enumerate(io.StringIO(text, newline=""), 1), path, places)
    except ValueError as error:
        raise TableError(f"{str(path)!r} is no JSON: {error}") from None
    return iter(_rows(value, path))


def json_items(path: Path) -> list[Any] | None:
    """The items of a .json file that is an array of anything but objects; None if it is something else."""
    text = read_text(path)
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json_value(text)
    except ValueError:  # the reader of tables says what is wrong
        return None
    return value if isinstance(value, list) and value and not any(isinstance(item, dict) for item in value) else None


def read_json(path: str | Path) -> Any:
    """The value in a JSON file; `TableError` if it cannot be read."""
    text = read_text(path)
    try:
        value = json_value(text)
        whole_text(text, value)
        return value
    except ValueError as error:
        raise TableError(f"{str(path)!r} cannot be read as JSON: {error}") from None


def _rows(value: Any, path: Path) -> Sequence[Row]:
    if isinstance(value, list):
        for number, row in enumerate(value, 1):
            if not isinstance(row, dict):
                raise TableError(f"{str(path)!r}, row {number} is no JSON object; an array of objects is a table")
        return value
    if not isinstance(value, dict):
        raise TableError(f"{str(path)!r} is no table: it holds neither an array of objects nor an object of columns")
    if {"columns", "data"} <= value.keys() <= {"columns", "index", "data"}:
        return _of_split(value, path)
    if value.keys() == {"schema", "data"} and isinstance(value["data"], list):
        return _rows(value["data"], path)  # as pandas writes orient="table"
    if (graded := promptfoo_rows(value)) is not None:
        return graded
    columns = list(value.values())
    rows = [name for name, column in value.items() if isinstance(column, list) and _all_objects(column)]
    if rows and not {"prompt", "conversation_a"} & value.keys():
        raise TableError(f"{str(path)!r} is no table; its rows may be in {rows[0]!r}: save that array alone")
    if columns and all(isinstance(column, list) for column in columns):
        if len({len(column) for column in columns}) > 1:
            lengths = ", ".join(f"{name} {len(column):,}" for name, column in value.items())
            raise TableError(f"{str(path)!r}: the columns differ in length: {lengths}")
        return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    if columns and all(isinstance(column, dict) for column in columns):
        return _of_index(value, path)
    return [value]  # one row: a file of one line


def _of_split(value: dict[str, Any], path: Path) -> list[Row]:
    """The rows of a frame that pandas wrote with orient="split": the names of columns, and rows of cells."""
    names, rows = value["columns"], value["data"]
    if not (isinstance(names, list) and isinstance(rows, list) and all(isinstance(name, str) for name in names)):
        raise TableError(f"{str(path)!r} is no table: 'columns' are no names, or 'data' no rows")
    require_distinct(names, repr(str(path)))
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list) or len(row) != len(names):
            raise TableError(f"{str(path)!r}, row {number} of 'data' has not {len(names)} cells, one for each column")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _of_index(value: dict[str, dict[str, Any]], path: Path) -> list[Row]:
    """The rows of a frame that pandas wrote by columns (its default) or by index: {name: {"0": cell, ...}, ...}."""
    keys = list(next(iter(value.values())))
    if all(list(column) == keys for column in value.values()):
        if all(key.isdecimal() for key in keys):
            return [{name: column[key] for name, column in value.items()} for key in keys]
        if all(name.isdecimal() for name in value):
            return list(value.values())
    raise TableError(f"{str(path)!r} is no table: it holds neither an array of objects nor an object of columns")


def _all_objects(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, dict) for value in values)
