"""Numbers per prompt and LLM that come with names: a frame's columns count by their names, whatever their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import P2LError, did_you_mean
from p2l_sdk.modeling.prompt_p2l import Prompt


def is_named(values: Any) -> bool:
    """Whether numbers come with names: a table, a file of one, `Scores`; an array, or a list of numbers, has none."""
    if isinstance(values, str | Path | Mapping) or hasattr(values, "columns") or hasattr(values, "schema"):
        return True
    if hasattr(values, "models") and hasattr(values, "scores"):
        return True
    return isinstance(values, list | tuple) and bool(values) and isinstance(values[0], Mapping)


def columns_of(values: Any, names: Sequence[str], what: str, prompts: Sequence[Prompt] | None = None) -> np.ndarray:
    """The columns of these LLMs, `(n_prompts, n_names)`, in this order; other columns are ignored.

    Args:
        values: `Scores`, or any table that `Votes.read` accepts, with a row per prompt and a column per LLM.
        names: the LLMs; a name may stand twice.
        what: what the numbers are, for messages.
        prompts: the prompts, if they are known; a column `prompt` must hold the same.

    Raises:
        P2LError: the table cannot be read, a column is missing, a number is not finite, or a row is of another prompt.
    """
    from p2l_sdk.tables.columns import is_long, number_of, prompt_column
    from p2l_sdk.tables.sources import Chunk, open_source, table_errors, whole_table

    with table_errors(P2LError, values):
        if hasattr(values, "models") and hasattr(values, "scores"):
            table: Chunk = dict(zip(values.models, values.scores.T.tolist(), strict=True))
            table["prompt"] = list(values.prompts)
        else:
            source = open_source(values)
            table = whole_table(source.chunks)
            if is_long(table, source.untyped):
                raise P2LError(f"{what} have a row per LLM; read them with Scores.read(..., p2l.models) and give these")
        for name in names:
            if name not in table:
                known = [str(column) for column in table]
                raise P2LError(f"{what} have no column {name!r}, which may be chosen; {did_you_mean(name, known)}")
        if prompts is not None and {"prompt", "conversation_a"} & set(table):
            _require_same(prompt_column(table, 0), prompts, what)
    numbers = np.array([[number_of(value) for value in table[name]] for name in names]).T
    for row, column in np.argwhere(~np.isfinite(numbers)).tolist():
        value = table[names[column]][row]
        raise P2LError(f"row {row + 1} of {what}: {names[column]!r} has {value!r}; it must be a finite number")
    return numbers


def _require_same(given: Sequence[Any], prompts: Sequence[Prompt], what: str) -> None:
    from p2l_sdk.tables.columns import turns_of

    if len(given) != len(prompts):
        raise P2LError(f"{what} have {len(given):,} rows; there are {len(prompts):,} prompts")
    for row, (one, other) in enumerate(zip(given, prompts, strict=True), 1):
        if turns_of(one) != turns_of(other):
            raise P2LError(f"row {row} of {what} is of another prompt than prompt {row}; put both in the same order")
