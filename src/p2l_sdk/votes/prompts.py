"""Reading prompts, one at a time, from files and standard input."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from p2l_sdk.errors import TableError, VotesError
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.tables.columns import checked, checked_prompt, prompt_column
from p2l_sdk.tables.files import KINDS, Rows, kind_of, no_table, read_rows
from p2l_sdk.tables.json_files import json_rows
from p2l_sdk.tables.places import Places, placed
from p2l_sdk.tables.prompt_cells import PromptCells
from p2l_sdk.tables.sources import of_rows, table_errors
from p2l_sdk.tables.text import open_text, text_lines

_TEXT = ("", ".txt", ".md")


def read_prompts(path: str | Path) -> Iterator[Prompt]:
    """Yield the prompts of a file: the lines of a text file (.txt, .md or no suffix), or the `prompt` column of a table
    (`p2l_sdk.tables.files.KINDS`); "-" is standard input, with one prompt per line or JSON lines. Blank lines are
    skipped.

    Raises:
        VotesError: the file cannot be read, has no prompt column, or holds an invalid prompt.
    """
    with table_errors(VotesError, None if str(path) == "-" else path):
        if str(path) == "-":
            yield from _standard_input()
        elif kind_of(path) is not None:
            yield from _of_rows(read_rows(path))
        elif Path(path).suffix.lower() in _TEXT:
            with open_text(Path(path)) as file:
                for number, line in text_lines(file, path):
                    yield _checked(line, f"line {number}")
        else:
            raise VotesError(no_table(path, f"text with one prompt per line (.txt, .md or no ending), {KINDS}"))


def _of_rows(rows: Rows) -> Iterator[Prompt]:
    cells, start = PromptCells(), 0
    for chunk in of_rows(rows):
        with placed(rows.place):
            column = prompt_column(chunk, start, cells)
        for row, value in enumerate(column, start):
            with placed(rows.place):
                found = checked([value], checked_prompt, row)
            yield from found
        start += len(column)


def _checked(line: str, place: str) -> Prompt:
    try:
        return checked_prompt(line)
    except TableError as error:
        raise TableError(f"{place}: {error}") from None


def _standard_input() -> Iterator[Prompt]:
    """Plain lines, or JSON lines if the first one is a JSON object with a prompt."""
    lines = text_lines(sys.stdin, "standard input")
    first = next(lines, None)
    if first is None:
        return
    text = first[1].removeprefix("\ufeff")
    following = itertools.chain([(first[0], text)], lines)
    if text.lstrip().startswith("{") and any(f'"{name}"' in text for name in ("prompt", "conversation_a")):
        places = Places()
        yield from _of_rows(Rows(json_rows(following, "standard input", places), places))
    else:
        for number, line in following:
            yield _checked(line, f"standard input, line {number}")
