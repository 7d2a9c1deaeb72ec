"""Published means with a row per LLM and a column per benchmark, and checks shared by all forms of results."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from p2l_sdk.errors import ResultsError, did_you_mean
from p2l_sdk.tables.columns import is_index, is_no_number, is_numeric, number_of
from p2l_sdk.tables.identifiers import BENCHMARKS, score_columns
from p2l_sdk.tables.places import RowError
from p2l_sdk.tables.score_cells import as_number, is_percent
from p2l_sdk.tables.sources import Chunk

_LONG = {"benchmark", "question_id", "score", "correct", "total", "n", "error", "prompt"}  # columns of other forms
Percent = bool | Sequence[str]  # whether scores are in [0, 100]; or the benchmarks of which they are
RANGE = {
    1.0: "it must be a number in [0, 1] (of a table in percent say so: percent=True, --percent)",
    100.0: "it must be a number in [0, 100]",
}


def within(scale: float) -> Callable[[float], str]:
    """A check that returns what is wrong with a score, empty if it is in [0, scale]."""
    return lambda x: "" if 0.0 <= x <= scale else RANGE[scale]


def scale_of(percent: Percent, benchmark: str) -> float:
    """The highest score that there can be on a benchmark, 1 or 100."""
    return 100.0 if percent is True or (not isinstance(percent, bool) and benchmark in percent) else 1.0


def checked_percent(percent: Percent, benchmarks: Sequence[str]) -> None:
    """Raise `ResultsError` for a benchmark that is said to be in percent and is not there."""
    for name in [] if isinstance(percent, bool) else [percent] if isinstance(percent, str) else percent:
        if name not in benchmarks:
            raise ResultsError(f"percent: there is no benchmark {name!r}; {did_you_mean(name, benchmarks)}")


def unsigned(values: Sequence[Any], scale: float) -> list[Any]:
    """Scores without percent signs, in [0, `scale`]; other cells as they are."""
    return [as_number(v) * scale if isinstance(v, str) and is_percent(v) else v for v in values]


def require_one_scale(columns: Mapping[str, Sequence[Any]], percent: Percent, *, wide: bool) -> None:
    """Refuse benchmarks some of which are in [0, 1] and others in [0, 100], if the user does not say which.

    Args:
        columns: benchmark -> its scores.
        percent: as the user says.
        wide: whether each benchmark is a column, so that another column may be taken for one.

    Raises:
        ResultsError: names those of each kind, and the option that tells them apart.
    """
    if not isinstance(percent, bool):
        return
    numbers = {name: np.array([number_of(value) for value in values]) for name, values in columns.items()}
    numbers = {name: found[np.isfinite(found)] for name, found in numbers.items()}
    few = 2 if percent else 1  # one score below 1 % is no sign of another scale
    shares = [
        n for n, x in numbers.items() if len(x) >= few and x.min() >= 0 and x.max() <= 1 and (x != np.floor(x)).any()
    ]
    points = [n for n, x in numbers.items() if len(x) and x.min() >= 0 and 1 < x.max() <= 100]
    if not shares or not points:
        return
    remedy = f"name those in percent: --percent {shlex.quote(','.join(points))} (percent=[...])"
    if percent:
        remedy += f"; if all are, name all: --percent {shlex.quote(','.join(columns))}"
    if wide:
        remedy += f"; if a column is no benchmark, name those that are: --columns {shlex.quote(','.join(shares))}"
    raise ResultsError(f"{_joined(shares)} in [0, 1], {_joined(points)} in [0, 100]; {remedy}")


def _joined(names: Sequence[str]) -> str:
    first = ", ".join(names[:-1])
    return f"{first} and {names[-1]} are" if first else f"{names[-1]} is"


def is_wide(table: Chunk) -> bool:
    """Whether every column except `model` contains numbers, and none belongs to another form."""
    others = [column for name, column in table.items() if name != "model" and not is_index(name)]
    if "model" not in table or not others or _LONG & set(table):
        return False
    others = [[as_number(value) if not isinstance(value, bool) else value for value in column] for column in others]
    numeric = [[not np.isnan(number_of(value)) for value in column if not is_no_number(value)] for column in others]
    return all(map(any, numeric))  # a single bad cell does not change the form: its row is reported later


def benchmark_columns(table: Chunk, columns: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the columns that are benchmarks: those that the user names, else all but `model` and row numbers.

    Raises:
        ResultsError: one is not there.
        TableError: a column is plainly no benchmark.
    """
    if columns is None:
        others = {name: values for name, values in table.items() if name != "model"}
        flag = next((name for name, values in others.items() if any(isinstance(value, bool) for value in values)), None)
        if flag is not None:
            names = shlex.quote(",".join(name for name in others if name != flag))
            remedy = BENCHMARKS.remedy.format(names=names)
            raise ResultsError(f"the column {flag!r} looks like a flag, not like {BENCHMARKS.one}: {remedy}")
        scores = score_columns(others, True, BENCHMARKS, own=lambda name: name == "model")
        texts = {name for name in others if not is_index(name) and not is_numeric(others[name], True)}
        return tuple(name for name in others if name in scores or name in texts)  # a text is reported with its row
    for name in columns:
        if name not in table or name == "model":
            known = [str(other) for other in table if other != "model"]
            raise ResultsError(f"there is no column {name!r}; {did_you_mean(name, known)}")
    return tuple(dict.fromkeys(columns))


def wide_means(
    table: Chunk,
    benchmarks: Sequence[str],
    models: int,
    model: np.ndarray,
    percent: Percent,
    *,
    empty: Sequence[str] = (),
) -> np.ndarray:
    """`(n_models, n_benchmarks)` means in [0, 1] of the columns `benchmarks`, NaN where a cell is empty.

    Args:
        table: the columns.
        benchmarks: names of the columns.
        models: number of LLMs.
        model: `(n_rows,)` the LLM of each row.
        percent: whether scores are in [0, 100], or the benchmarks of which they are.
        empty: texts that stand for a missing result, beside an empty cell.

    Raises:
        RowError: a cell is not a number in its range; names row and column.
    """
    means = np.full((models, len(benchmarks)), np.nan)
    for b, name in enumerate(benchmarks):
        scale = scale_of(percent, name)
        check = within(scale)
        for row, value in enumerate(table[name]):
            if is_no_number(value) or value in empty:
                continue
            problem = check(number_of(value))
            if problem:
                raise RowError(
                    row,
                    f": {name} is {value!r}; {problem} (if {name!r} is no benchmark, name those that are: "
                    "columns=[...], --columns A,B)",
                )
            means[model[row], b] = number_of(value) / scale
    return means
