"""The columns and rows of results as tables have them: other names, names with blanks, and rows that are no LLM."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from p2l_sdk.errors import P2LWarning, ResultsError, did_you_mean
from p2l_sdk.tables.columns import is_missing, is_numeric
from p2l_sdk.tables.figures import figures
from p2l_sdk.tables.grids import column_key
from p2l_sdk.tables.identifiers import is_figure
from p2l_sdk.tables.near_names import near_names
from p2l_sdk.tables.places import RowError
from p2l_sdk.tables.score_cells import as_numbers
from p2l_sdk.tables.sources import Chunk

_OF_LLMS = ("model", "llm", "model_name", "llm_name", "modell", "language_model")
_BENCHMARK = ("benchmark", "task", "dataset", "eval")
_SCORE = ("score", "accuracy", "acc", "exact_match")
_SAME = (
    "question_id", "correct", "total", "n", "error", "prompt", "seconds", "first_token_seconds", "input_tokens",
    "output_tokens", "cost",
)  # fmt: skip
_QUESTIONS = "questions"  # the benchmark of results that name none
_FEWEST = 3  # rows: a figure and two LLMs


def known_columns(table: Chunk, named: Mapping[str, str]) -> Chunk:
    """The table with the names that results have.

    Args:
        table: the columns.
        named: those that the user names: ours -> name in the table.

    Raises:
        ResultsError: a named column is not there, or is none of results.
    """
    ours_known = {"model", "benchmark", "score", *_SAME}
    for ours, theirs in named.items():
        if ours not in ours_known:
            raise ResultsError(f"{ours!r} is no column of results; {did_you_mean(ours, sorted(ours_known))}")
        if theirs not in table:
            raise ResultsError(f"there is no column {theirs!r} (for {ours}); {did_you_mean(theirs, map(str, table))}")
    found = dict(named)

    def find(ours: str, keys: Sequence[str], *, texts: bool) -> None:
        if ours in table or ours in found:
            return
        for key in keys:
            same = [name for name in table if column_key(name) == key and name not in found.values()]
            if len(same) == 1 and not (texts and is_numeric(table[same[0]], True)):
                found[ours] = same[0]
                return

    find("model", _OF_LLMS, texts=True)
    if "model" in table or "model" in found:
        find("benchmark", _BENCHMARK, texts=True)
        if "benchmark" in table or "benchmark" in found:  # else they may be benchmarks themselves
            find("score", _SCORE, texts=False)
            for name in _SAME:
                find(name, (name,), texts=False)
    if "question_id" in table and not {"benchmark", "score", "total"} & (table.keys() | found.keys()):
        find("score", (*_SCORE, "correct", "is_correct"), texts=False)
    theirs_to_ours = {theirs: ours for ours, theirs in found.items()}
    return {
        theirs_to_ours.get(name, name): values
        for name, values in table.items()
        if name not in named.keys() - theirs_to_ours
    }


def of_one_benchmark(table: Chunk) -> tuple[Chunk, tuple[str, ...]]:
    """Results of single questions that name no benchmark, as those of one, and what to say of it; scores may be spelt
    as outcomes ("correct")."""
    if "benchmark" in table or not {"model", "question_id", "score"} <= table.keys():
        return table, ()
    named = {**table, "score": as_numbers(table["score"]), "benchmark": [_QUESTIONS] * len(table["model"])}
    return named, (f"no column of benchmarks: all {_QUESTIONS} count as one",)


def llm_names(table: Chunk) -> tuple[tuple[str, ...], np.ndarray]:
    """Distinct names of LLMs in order of appearance, without blanks at their ends, and for each row the index of its
    name.

    Raises:
        RowError: a row has no name, or that of a figure of the others.

    Warns:
        P2LWarning: two names are probably one LLM.
    """
    numbers: dict[str, int] = {}
    code = np.empty(len(table["model"]), dtype=np.int64)
    for row, value in enumerate(table["model"]):
        name = "" if is_missing(value) else str(value).strip()
        if not name:
            raise RowError(row, " has no model")
        code[row] = numbers.setdefault(name, len(numbers))
    names = [list(numbers)[number] for number in code]
    refuse_figures(names)
    warn_of_near_names(names)
    return tuple(numbers), code


def refuse_figures(names: Sequence[str]) -> None:
    """Raise `RowError` for the first row, of all with these names, that is named as a figure of the other LLMs is."""
    figure = next((name for name in dict.fromkeys(names) if is_figure(name)), None)
    if figure is not None and len(set(names)) >= _FEWEST:
        raise RowError(
            list(names).index(figure),
            f" is of {figure!r}, which looks like a figure of the other LLMs, not like one; leave it out",
        )


def warn_of_near_names(names: Sequence[str]) -> None:
    """Warn of LLMs that are probably one, written in two ways; `names` are those of all rows."""
    near = near_names(Counter(names))
    if near:
        pairs = "; ".join(map(str, near))
        said = f"LLMs whose names are nearly the same count as different ones (rows of each): {pairs}"
        warnings.warn(f"{said}; if they are one, write it alike in the table", P2LWarning, stacklevel=3)


def warn_of_figures(models: Sequence[str], means: np.ndarray, digits: Sequence[int]) -> None:
    """Warn of a row that is the mean, sum, maximum or minimum of the other LLMs on all benchmarks; an LLM may be so by
    chance, and nothing else can be said of a row but that it is to be left out.

    Args:
        models: names of the rows.
        means: `(n_models, n_benchmarks)`, NaN where there is no result.
        digits: `(n_models,)` digits after the point of the means of each.
    """
    for at, what in figures(means.T, digits).items():
        said = f"the results of {models[at]!r} look like {what} on every benchmark; if it is no LLM, leave the row out"
        warnings.warn(said, P2LWarning, stacklevel=3)
