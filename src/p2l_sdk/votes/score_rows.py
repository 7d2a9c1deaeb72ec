"""The rows of a table of scores that keep to its contract; all others are listed at once, or left out and counted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from p2l_sdk.errors import TableError
from p2l_sdk.tables.columns import checked_prompt, is_no_number, llm_name, number_of, thousands_in
from p2l_sdk.tables.faults import Faults, Skipped
from p2l_sdk.tables.places import Place
from p2l_sdk.tables.prompt_cells import PromptCells
from p2l_sdk.tables.sources import ABSENT, Chunk


def score_of(value: Any) -> float:
    """The score in a cell; NaN if there is none."""
    return number_of(value)


def sound_rows(
    table: Chunk, names: Sequence[str], *, long: bool, allow_missing: bool, hint: str = "", place: Place, skip: bool
) -> tuple[Chunk, np.ndarray, Skipped | None]:
    """The rows without a fault, their numbers in the table, and what was left out.

    Args:
        table: all rows; with `long`, one for each prompt and LLM.
        names: the columns of scores.
        long: whether a row has an LLM in the column `model` too, and may lack a score.
        allow_missing: whether any row may lack a score.
        hint: more of the remedy for what is no score.
        place, skip: see `Faults`.

    Raises:
        TableError: rows are faulty and not to be left out; all are listed.
    """
    n_rows, faults = len(next(iter(table.values()))), Faults(place, skip)
    name = "prompt" if "prompt" in table else "conversation_a"
    if name in table and not (long and not skip and ABSENT in table[name]):  # of long tables, `wide_table` says more
        cells = table[name]
        if name == "prompt" and "conversation_a" in table:
            both = zip(cells, table["conversation_a"], strict=True)
            cells = [b if a is ABSENT else a for a, b in both]
        _check(table, name, PromptCells()(table, cells), checked_prompt, faults)
    if long:
        _check(table, "model", table["model"], lambda value: llm_name("model", value), faults)
    missing = allow_missing or long
    for column in names:
        values = [None if value is ABSENT else value for value in table[column]] if missing else table[column]
        _check(table, column, values, _score_check(column, missing, hint), faults)
    skipped = faults.settle(n_rows)
    if skipped is None:
        return table, np.arange(n_rows), None
    keep = faults.keep(n_rows)
    return {n: list(itertools.compress(values, keep)) for n, values in table.items()}, np.flatnonzero(keep), skipped


def _check(table: Chunk, name: str, values: Sequence[Any], check: Callable[[Any], Any], faults: Faults) -> None:
    for row, value in enumerate(values):
        if value is ABSENT:
            has = ", ".join(str(other) for other, column in table.items() if column[row] is not ABSENT)
            faults.add(row, f"has no column {name!r} (it has: {has})", " ")
            continue
        try:
            check(value)
        except TableError as error:
            faults.add(row, str(error))


def _score_check(name: str, allow_missing: bool, hint: str) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if allow_missing and is_no_number(value):
            return
        if not math.isfinite(score_of(value)):
            rule = f"it must be a finite number{thousands_in(value)}{hint}"
            raise TableError(f"the score of {name!r} is {value!r}; {rule}")

    return check
