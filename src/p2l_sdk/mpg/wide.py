"""Published means with a row per LLM and a column per benchmark, and checks shared by all forms of results."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from p2l_sdk.errors import ResultsError
from p2l_sdk.tables.columns import is_missing, number_of
from p2l_sdk.tables.sources import Chunk

_LONG = {"benchmark", "question_id", "score", "correct", "total", "n", "error", "prompt"}  # columns of other forms
RANGE = {
    1.0: "it must be a number in [0, 1] (of a table in percent say so: percent=True, --percent)",
    100.0: "it must be a number in [0, 100]",
}


def within(scale: float) -> Callable[[float], str]:
    """A check that returns what is wrong with a score, empty if it is in [0, scale]."""
    return lambda x: "" if 0.0 <= x <= scale else RANGE[scale]


def is_wide(table: Chunk) -> bool:
    """Whether every column except `model` contains numbers, and none belongs to another form."""
    others = [column for name, column in table.items() if name != "model"]
    if "model" not in table or not others or _LONG & set(table):
        return False
    numeric = [[not np.isnan(number_of(value)) for value in column if not is_missing(value)] for column in others]
    return all(map(any, numeric))  # a single bad cell does not change the form: its row is reported later


def wide_means(table: Chunk, models: int, model: np.ndarray, scale: float) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the benchmarks, and `(n_models, n_benchmarks)` means in [0, 1], NaN where a cell is empty.

    Raises:
        ResultsError: a cell is not a number in its range; names row and column.
    """
    benchmarks = tuple(name for name in table if name != "model")
    means = np.full((models, len(benchmarks)), np.nan)
    check = within(scale)
    for b, name in enumerate(benchmarks):
        for row, value in enumerate(table[name]):
            if is_missing(value):
                continue
            problem = check(number_of(value))
            if problem:
                raise ResultsError(f"row {row + 1}: {name} is {value!r}; {problem}")
            means[model[row], b] = number_of(value) / scale
    return benchmarks, means
