"""Reading prompts, one at a time, from files and standard input."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from p2l_sdk.errors import VotesError
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.tables.columns import checked, checked_prompt, prompt_column
from p2l_sdk.tables.files import READERS, Row, json_rows, open_text, read_rows, text_lines
from p2l_sdk.tables.prompt_cells import PromptCells
from p2l_sdk.tables.sources import of_rows, table_errors

_TEXT = ("", ".txt", ".md")


def read_prompts(path: str | Path) -> Iterator[Prompt]:
    """Yield the prompts of a file: the lines of a text file, or the `prompt` column of a .jsonl, .csv or .parquet file;
    "-" is standard input, with one prompt per line or JSON lines. Blank lines are skipped.

    Raises:
        VotesError: the file cannot be read, has no prompt column, or holds an invalid prompt.
    """
    with table_errors(VotesError):
        suffix = Path(path).suffix.lower()
        if str(path) == "-":
            yield from _standard_input()
        elif suffix in READERS:
            yield from _of_rows(read_rows(path))
        elif suffix in _TEXT:
            with open_text(Path(path)) as file:
                yield from text_lines(file, path)
        else:
            raise VotesError(
                f"{str(path)!r} is of no known kind; known: text with one prompt per line (.txt, .md or no ending), "
                f"{', '.join(READERS)}"
            )


def _of_rows(rows: Iterable[Row]) -> Iterator[Prompt]:
    cells, start = PromptCells(), 0
    for chunk in of_rows(rows):
        column = prompt_column(chunk, start, cells)
        for row, value in enumerate(column, start):
            yield from checked([value], checked_prompt, row)
        start += len(column)


def _standard_input() -> Iterator[Prompt]:
    """Plain lines, or JSON lines if the first one is a JSON object with a prompt."""
    lines = text_lines(sys.stdin, "standard input")
    first = next(lines, "")
    following = itertools.chain([first] if first else [], lines)
    if first.lstrip().startswith("{") and any(f'"{name}"' in first for name in ("prompt", "conversation_a")):
        yield from _of_rows(json_rows(following, "standard input"))
    else:
        yield from following
