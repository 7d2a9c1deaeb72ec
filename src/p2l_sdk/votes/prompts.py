"""Reading prompts, one at a time, from files and standard input."""

from __future__ import annotations

import itertools
import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from p2l_sdk.errors import TableError, VotesError
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.tables.columns import checked, checked_prompt, prompt_column
from p2l_sdk.tables.files import KINDS, UNTYPED, Rows, kind_of, no_table, read_rows
from p2l_sdk.tables.headers import guess, names_prompt
from p2l_sdk.tables.json_files import json_items, json_rows
from p2l_sdk.tables.places import Places, placed
from p2l_sdk.tables.prompt_cells import PromptCells
from p2l_sdk.tables.reading import Reading
from p2l_sdk.tables.sources import Source, of_rows, table_errors
from p2l_sdk.tables.text import open_text, text_lines

_TEXT = ("", ".txt", ".md")


def read_prompts(path: str | Path, column: str | None = None) -> Iterator[Prompt]:
    """Yield the prompts of a file: the lines of a text file (.txt, .md or no suffix), the `prompt` column of a table
    (`p2l_sdk.tables.files.KINDS`; also named as in `Votes.read`: "Prompt", "Question"), or the items of a JSON array;
    "-" is standard input, with one prompt per line or JSON lines. Blank lines are skipped.

    Args:
        path: the file.
        column: the name of the column of prompts in a table, where it is not certain.

    Raises:
        VotesError: the file cannot be read, has no prompt column, or holds an invalid prompt.
    """
    columns = None if column is None else {"prompt": column}
    with table_errors(VotesError, None if str(path) == "-" else path):
        if str(path) == "-":
            yield from _standard_input(columns)
        elif kind_of(path) == ".json" and (items := json_items(Path(path))) is not None:
            yield from checked(items, checked_prompt, 0)
        elif (kind := kind_of(path)) is not None:
            yield from _of_rows(read_rows(path, most=None), columns, kind in UNTYPED)
        elif Path(path).suffix.lower() in _TEXT:
            with open_text(Path(path)) as file:
                for number, line in text_lines(file, path):
                    yield _checked(line, f"line {number}")
        else:
            raise VotesError(no_table(path, f"text with one prompt per line (.txt, .md or no ending), {KINDS}"))


def _of_rows(rows: Rows, columns: Mapping[str, str] | None, untyped: bool = False) -> Iterator[Prompt]:
    source, _ = Reading.of(columns).apply(Source("the table", of_rows(rows), untyped, rows.place))
    cells, start = PromptCells(), 0
    for chunk in source.chunks:
        if not {"prompt", "conversation_a"} & chunk.keys():
            near = guess(chunk, ["prompt"], []).get("prompt", "NAME")
            raise TableError(
                f"{rows.place(start)} has no column 'prompt' (it has: {', '.join(map(str, chunk))}); if it has another "
                f"name: --column {shlex.quote(f'prompt={near}')} (column={near!r})"
            )
        with placed(rows.place):
            found = prompt_column(chunk, start, cells)
        for row, value in enumerate(found, start):
            with placed(rows.place):
                prompts = checked([value], checked_prompt, row)
            yield from prompts
        start += len(found)


def _checked(line: str, place: str) -> Prompt:
    try:
        return checked_prompt(line)
    except TableError as error:
        raise TableError(f"{place}: {error}") from None


def _standard_input(columns: Mapping[str, str] | None) -> Iterator[Prompt]:
    """Plain lines, or JSON lines if the first one is a JSON object with a prompt."""
    lines = text_lines(sys.stdin, "standard input")
    first = next(lines, None)
    if first is None:
        return
    text = first[1].removeprefix("\ufeff")
    following = itertools.chain([(first[0], text)], lines)
    if text.lstrip().startswith("{") and _has_prompt(text, columns):
        places = Places()
        with table_errors(VotesError, "standard input"):
            yield from _of_rows(Rows(json_rows(following, "standard input", places), places), columns)
    else:
        for number, line in following:
            yield _checked(line, f"standard input, line {number}")


def _has_prompt(text: str, columns: Mapping[str, str] | None) -> bool:
    """Whether a line that may be a JSON object has a prompt; one that is damaged counts by what it holds."""
    try:
        keys = json.loads(text).keys()
    except ValueError:
        return any(f'"{name}"' in text for name in ("prompt", "conversation_a"))
    return any(names_prompt(key) or key in (columns or {}).values() for key in keys)
