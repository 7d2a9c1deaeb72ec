"""What is hardly a prompt, in a text of one prompt per line or at the end of a table: it is read, and said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from p2l_sdk.tables.headers import names_prompt
from p2l_sdk.tables.identifiers import is_figure
from p2l_sdk.tables.warn import warn_caller

_MARKUP = re.compile(r"#{1,6} \S|```|~~~|-{3,}\s*$|={3,}\s*$|\|.*\|\s*$")  # headings, fences, rules, tables
_NUMBERED = re.compile(r"\s*[(\[]?(\d{1,9})(?:[.):\]]\s|\t|  )\s*\S")
_MARKS = {
    "stand in quotes": re.compile(r"""\s*(?:"[^"]*"|'[^']*'|“[^”]*”|«[^»]*»)[,;]?\s*"""),
    "begin with a bullet": re.compile(r"\s*[-*•]\s+\S.*"),
}
_TOTAL = re.compile(r"\s*([^\W\d_]+)[\s:=;,|]*[\d.,%]*\s*")
_SHOWN = 40  # characters of a line in a message
_FEWEST = 2  # lines that show a mark


def watched(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The lines of a text, numbered from 1, as they are.

    Warns:
        P2LWarning: a line looks like Markdown, the name of a column or a total; or all lines have numbers, quotes or
            bullets, or are a table as pandas prints it.
    """
    n, number, line, first, marked = 0, 0, "", "", False
    marks, counted = dict.fromkeys(_MARKS, 0), [0, 0, 0]  # lines that count on from 0, from 1, and from 0 below a first
    for number, line in lines:
        first = first if n else line
        if not marked and _MARKUP.match(line):
            marked = True
            warn_caller(
                f"line {number} ({_start(line)}) looks like Markdown, and is read as a prompt; "
                "leave such lines out, or put prompts of several lines into a table"
            )
        for mark, pattern in _MARKS.items():
            marks[mark] += pattern.fullmatch(line) is not None
        if (found := _NUMBERED.match(line)) is not None:
            counted = [count + (int(found[1]) == n + shift) for count, shift in zip(counted, (0, 1, -1), strict=True)]
        n += 1
        yield number, line
    if n <= _FEWEST - 1:
        return
    if names_prompt(first):
        warn_caller(f"the first line ({_start(first)}) looks like the name of a column, and is read as a prompt")
    if n == counted[2] + 1 and n > _FEWEST:
        warn_caller("the text looks like a table as pandas prints it; each line is read as a prompt: write it as CSV")
    said = ["are numbered"] if n in counted[:2] else [f"all {mark}" for mark, count in marks.items() if count == n]
    for mark in said:
        warn_caller(f"the lines {mark}, which is read as part of the prompts; take it off, or write a table")
    warn_of_total(line, f"line {number}")


def warn_of_total(prompt: Any, place: str) -> None:
    """Warn of a last prompt that looks like the total below the others: "Total", "Mean: 7"."""
    found = _TOTAL.fullmatch(prompt) if isinstance(prompt, str) else None
    if found is not None and is_figure(found[1]):
        warn_caller(
            f"{place}: the last prompt is {_start(prompt)}, which looks like a total of the others, and is read as a "
            "prompt; if it is one, leave it out"
        )


def _start(line: str) -> str:
    return repr(line.strip()[:_SHOWN])
