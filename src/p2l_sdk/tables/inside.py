"""Prompts that stand inside a cell, as logs of requests have them: {"body": {"messages": [...]}}.

Where a table names no column of prompts, a column of objects that holds them is found by itself, if there is only one;
a user may name it with dots: "request_body.messages".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from p2l_sdk.tables.columns import is_missing
from p2l_sdk.tables.grids import column_key
from p2l_sdk.tables.prompt_cells import HOLDERS
from p2l_sdk.tables.sources import ABSENT, Chunk
from p2l_sdk.tables.warn import warn_caller

_TEXTS = ("prompt", "question", "instruction", "query", "input", "user_prompt")
_OF_ANSWERS = ("output", "response", "answer", "completion", "result", "reference", "expected", "metadata")
_DEEPEST = 3  # names of a path


def cells_inside(chunk: Chunk, path: str) -> list[Any] | None:
    """The cells that a path with dots leads to, ABSENT where a row has none; None if it leads nowhere."""
    column, *keys = path.split(".")
    if column not in chunk or not keys or not _are_objects(chunk[column]):
        return None
    cells = [_inside(cell, keys) for cell in chunk[column]]
    return None if all(cell is ABSENT for cell in cells) else cells


def prompt_inside(chunk: Chunk) -> str | None:
    """The only path to conversations inside cells, or, if there is none, to texts named as prompts are; else None.

    Warns:
        P2LWarning: there is one, and prompts are read from it.
    """
    if {"doc", "resps"} <= chunk.keys():  # a log of lm-evaluation-harness, of which more has to be said
        return None
    paths = list(_paths(chunk))
    for names in (HOLDERS, _TEXTS):
        found = [path for path, key in paths if key in names and _are_prompts(cells_inside(chunk, path) or ())]
        if len(found) == 1:
            warn_caller(f"prompts are read from {found[0]!r}; if they stand elsewhere: --column prompt=NAME")
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _paths(chunk: Chunk) -> Iterator[tuple[str, str]]:
    """The paths into columns of objects, but for those of answers, each with the key of its last name."""
    for name, cells in chunk.items():
        if isinstance(name, str) and "." not in name and _are_objects(cells):
            first = next(cell for cell in cells if isinstance(cell, Mapping))
            yield from _below(name, first, _DEEPEST - 1)


def _below(path: str, value: Mapping[str, Any], left: int) -> Iterator[tuple[str, str]]:
    if any(word in column_key(path.rpartition(".")[2]) for word in _OF_ANSWERS):
        return
    for name, inner in value.items():
        if "." not in str(name):
            yield f"{path}.{name}", column_key(name)
            if isinstance(inner, Mapping) and left > 1:
                yield from _below(f"{path}.{name}", inner, left - 1)


def _inside(cell: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if not isinstance(cell, Mapping) or key not in cell:
            return ABSENT
        cell = cell[key]
    return cell


def _are_objects(cells: Sequence[Any]) -> bool:
    there = (cell for cell in cells if not is_missing(cell))  # millions, of which the first one mostly decides
    return isinstance(next(there, None), Mapping) and all(isinstance(cell, Mapping) for cell in there)


def _are_prompts(cells: Sequence[Any]) -> bool:
    there = [cell for cell in cells if not is_missing(cell)]
    return bool(there) and all(
        isinstance(cell, str) or (isinstance(cell, list) and all(isinstance(turn, Mapping) for turn in cell))
        for cell in there
    )
