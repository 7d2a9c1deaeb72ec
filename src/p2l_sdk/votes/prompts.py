"""Reading prompts, one at a time, from files and standard input."""

from __future__ import annotations

import itertools
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from p2l_sdk.errors import TableError, VotesError, did_you_mean
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.tables.columns import checked, checked_prompt, prompt_column
from p2l_sdk.tables.files import KINDS, UNTYPED, Rows, kind_of, no_table, read_rows
from p2l_sdk.tables.grids import column_key
from p2l_sdk.tables.headers import guess, is_json_row, lines_of_prompts
from p2l_sdk.tables.json_files import json_items, json_rows
from p2l_sdk.tables.places import Places, placed
from p2l_sdk.tables.prompt_cells import PromptCells
from p2l_sdk.tables.reading import Reading
from p2l_sdk.tables.sources import ABSENT, Chunk, Source, of_rows, table_errors
from p2l_sdk.tables.text import open_text, text_lines
from p2l_sdk.tables.warn import warn_caller
from p2l_sdk.votes.odd_lines import warn_of_total, watched

_TEXT = ("", ".txt", ".md")
_SHOWN = 40  # characters of a line in a message


def read_prompts(path: str | Path, column: str | None = None, *, shared: bool = False) -> Iterator[Prompt]:
    """Yield the prompts of a file: the lines of a text file (.txt, .md or no suffix), the `prompt` column of a table
    (`p2l_sdk.tables.files.KINDS`; also named as in `Votes.read`: "Prompt", "Question"), or the items of a JSON array;
    "-" is standard input, with one prompt per line or JSON lines. Blank lines are skipped.

    Args:
        path: the file.
        column: the name of the column of prompts in a table, where it is not certain.
        shared: whether the name is that of other files, too: a table without such a column is then read by itself.

    Raises:
        VotesError: the file cannot be read, has no prompt column, or holds an invalid prompt.
    """
    for prompt, _ in _read(path, column, None, shared):
        yield prompt


def read_labelled_prompts(path: str | Path, by: str, column: str | None = None) -> Iterator[tuple[Prompt, Any]]:
    """Yield the prompts of a table, each with what stands in another column beside it, such as its category.

    Args:
        path, column: as in `read_prompts`; JSON lines if it is "-".
        by: the name of the other column, in any letter case.

    Raises:
        VotesError: as in `read_prompts`, or the file is no table, or it has no such column.
    """
    yield from _read(path, column, by)


def _read(path: str | Path, column: str | None, by: str | None, shared: bool = False) -> Iterator[tuple[Prompt, Any]]:
    n = 0
    for n, pair in enumerate(_pairs(path, column, by, shared), 1):  # noqa: B007 - counts
        yield pair
    if not n:
        name = "standard input" if str(path) == "-" else repr(str(path))
        raise VotesError(f"{name} holds no prompts; give at least one")


def _pairs(path: str | Path, column: str | None, by: str | None, shared: bool) -> Iterator[tuple[Prompt, Any]]:
    columns = None if column is None else {"prompt": column}
    with table_errors(VotesError, None if str(path) == "-" else path):
        if str(path) == "-":
            yield from _standard_input(columns, by)
        elif kind_of(path) == ".json" and (items := json_items(Path(path))) is not None:
            _require_no_column(by, "this JSON array holds prompts alone")
            for prompt in checked(items, checked_prompt, 0):
                yield prompt, None
        elif (kind := kind_of(path)) is not None:
            yield from _of_rows(read_rows(path, most=None), columns, kind in UNTYPED, by, shared)
        elif Path(path).suffix.lower() in _TEXT:
            _require_no_column(by, f"{str(path)!r} is a text of one prompt per line")
            if column is not None and not shared:
                warn_caller(f"{str(path)!r} is a text of one prompt per line, and has no columns")
            with open_text(Path(path)) as file:
                yield from ((prompt, None) for prompt in _of_text(file))
        else:
            raise VotesError(no_table(path, f"text with one prompt per line (.txt, .md or no ending), {KINDS}"))


def _of_text(file: TextIO) -> Iterator[Prompt]:
    """A prompt from each line; see `odd_lines.watched` for its warnings."""
    for number, line in watched(lines_of_prompts(text_lines(file))):
        yield _checked(line, f"line {number}")


def _require_no_column(by: str | None, what: str) -> None:
    if by is not None:
        raise TableError(f"{what}, so there is no column {by!r}; give a table (.csv, .jsonl, .parquet, ...)")


def _of_rows(
    rows: Rows,
    columns: Mapping[str, str] | None,
    untyped: bool = False,
    by: str | None = None,
    shared: bool = False,
) -> Iterator[tuple[Prompt, Any]]:
    first, source = Source("the table", of_rows(rows), untyped, rows.place).peek()
    if shared and columns is not None and column_key(columns["prompt"]) not in map(column_key, first):
        columns = None
    source, _ = Reading.of(columns).apply(source)
    cells, start, prompt = PromptCells(), 0, None
    for chunk in source.chunks:
        if not {"prompt", "conversation_a"} & chunk.keys():
            near = guess(chunk, ["prompt"], []).get("prompt", "NAME")
            only = str(next(iter(chunk))) if len(chunk) == 1 and untyped else ""
            if len(only.split()) > 1:  # a header that is a text itself
                raise TableError(
                    f"there is no column 'prompt', and the first line ({only[:_SHOWN]!r}), which names the columns, "
                    "may be a prompt itself: write prompt above it, or let the file's name end in .txt; if it is a "
                    f"name: --column {shlex.quote(f'prompt={only}')} (column={only!r})"
                )
            raise TableError(
                f"{rows.place(start)} has no column 'prompt' (it has: {', '.join(map(str, chunk))}); if it has another "
                f"name: --column {shlex.quote(f'prompt={near}')} (column={near!r})"
            )
        with placed(rows.place):
            found = prompt_column(chunk, start, cells)
        labels = [None] * len(found) if by is None else _labels(chunk, by, start)
        for row, (value, label) in enumerate(zip(found, labels, strict=True), start):
            with placed(rows.place):
                (prompt,) = checked([value], checked_prompt, row)
            yield prompt, label
        start += len(found)
    if start > 1:
        warn_of_total(prompt, rows.place(start - 1))


def _labels(chunk: Chunk, by: str, start: int) -> list[Any]:
    """The column beside the prompts; empty cells if only this part of the table lacks it."""
    near = [name for name in chunk if name == by] or [name for name in chunk if column_key(name) == column_key(by)]
    if len(near) == 1:
        return chunk[near[0]]
    if start:
        return [ABSENT] * len(next(iter(chunk.values())))
    others = [str(name) for name in chunk if name not in ("prompt", "conversation_a")]
    raise TableError(f"there is no column {by!r}; {did_you_mean(by, others)}")


def _checked(line: str, place: str) -> Prompt:
    try:
        return checked_prompt(line)
    except TableError as error:
        raise TableError(f"{place}: {error}") from None


def _standard_input(columns: Mapping[str, str] | None, by: str | None) -> Iterator[tuple[Prompt, Any]]:
    """Plain lines, or JSON lines if the first one is a JSON object with a prompt."""
    lines = text_lines(sys.stdin, "standard input")
    first = next(lines, None)
    if first is None:
        return
    text = first[1].removeprefix("\ufeff")
    following = itertools.chain([(first[0], text)], lines)
    if is_json_row(text, (columns or {}).values()):
        places = Places()
        with table_errors(VotesError, "standard input"):
            yield from _of_rows(Rows(json_rows(following, "standard input", places), places), columns, by=by)
    else:
        _require_no_column(by, "standard input holds one prompt per line")
        for number, line in watched(following):
            yield _checked(line, f"standard input, line {number}"), None
