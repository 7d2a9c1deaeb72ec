"""Cards are Markdown: `render` fills in a template, and whatever is not declared to be Markdown stands there as text.

Names, titles and columns come from files of strangers. As text they show on a page as they are written: no HTML, no
link, no table cell and no heading comes of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib import resources
from string import Template
from typing import Any

from p2l_sdk.modeling.limits_p2l import visible

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARKS = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is one
# what makes a list, a heading or a rule of a line that begins so
_FIRST = re.compile(r"^\d{0,9}(?=[.)](?:\s|$))|^(?=[-+](?:[-\s]|$)|=+\s*$|#)")
_EDGE = re.compile(r"^ +| +$")
_ADDRESS = re.compile(r"://|\bwww\.", re.IGNORECASE)  # pages make links of these, marked as such or not


class Markdown(str):
    """A text that is Markdown already."""

    __slots__ = ()


def text(value: Any) -> Markdown:
    """Any value as Markdown that shows it, in a line, a list or a cell of a table."""
    if isinstance(value, Markdown):
        return value
    plain = re.sub("[&<>]", lambda mark: _ENTITIES[mark[0]], visible(str(value)))
    plain = _FIRST.sub(r"\g<0>\\", _MARKS.sub(r"\\\g<0>", plain))
    plain = _EDGE.sub(lambda blanks: "&#32;" * len(blanks[0]), plain)
    return Markdown(_ADDRESS.sub(lambda mark: re.sub("[/.]", lambda one: f"&#{ord(one[0])};", mark[0]), plain))


def code(value: Any) -> Markdown:
    """Any value as code within a line; not for a cell of a table."""
    plain = visible(str(value))
    fence = _fence(plain, 1)
    edge = " " if plain.startswith(("`", " ")) or plain.endswith(("`", " ")) else ""
    return Markdown(f"{fence}{edge}{plain}{edge}{fence}")


def block(value: str, language: str) -> Markdown:
    """Lines of code as a block of their own."""
    fence = _fence(value, 3)
    lines = "\n".join(map(visible, value.strip("\n").split("\n")))
    return Markdown(f"{fence}{language}\n{lines}\n{fence}")


def literal(value: str) -> Markdown:
    """A text as a string in a snippet of Python."""
    return Markdown(visible(json.dumps(value, ensure_ascii=False)))


def bullets(values: Iterable[Any]) -> Markdown:
    """A list of values, one in each line."""
    return Markdown("\n".join(f"- {text(value)}" for value in values))


def row(*cells: Any) -> Markdown:
    """A row of a table."""
    return Markdown("".join(f"| {text(cell)} " if cell != "" else "| " for cell in cells) + "|")


def rows(table: Iterable[Iterable[Any]]) -> Markdown:
    """The rows of a table."""
    return Markdown("\n".join(row(*cells) for cells in table))


def render(template: str, **fields: Any) -> Markdown:
    """Fill in a card template from `hub_cards/`; a field that is no `Markdown` stands there as text."""
    found = resources.files("p2l_sdk.hub_cards").joinpath(template).read_text(encoding="utf-8")
    return Markdown(Template(found).substitute({name: text(value) for name, value in fields.items()}))


def _fence(value: str, least: int) -> str:
    """Backticks that are more than any in the text."""
    return "`" * max(least, *(len(run) + 1 for run in re.findall("`+", value)), 0)
