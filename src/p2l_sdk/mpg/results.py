"""Results of LLMs on benchmarks, in any of three forms, as one validated table.

    per question        model, benchmark, question_id, score in [0, 1] (or correct); optional seconds,
                        first_token_seconds, input_tokens, output_tokens, cost; rows with an `error` are left out;
                        without benchmark, all questions are of one
    counts              model, benchmark, correct, total
    published means     model, benchmark, score in [0, 1]; optional n (questions); or model and a column per benchmark

Columns may have other names in any letter case (`result_columns`), and scores percent signs.

A cell says as much about the true accuracy as a number of right-or-wrong questions with the same mean. A graded
question counts as m (1 - m) / v of them, where m is the mean score and v its variance per question; a cell counts as at
least one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np

from p2l_sdk.errors import ResultsError
from p2l_sdk.mpg.result_columns import known_columns, llm_names, of_one_benchmark, warn_of_figures
from p2l_sdk.mpg.wide import (
    RANGE,
    Percent,
    benchmark_columns,
    checked_percent,
    is_wide,
    require_one_scale,
    scale_of,
    unsigned,
    wide_means,
    within,
)
from p2l_sdk.tables.columns import is_index, is_missing, is_numeric, number_of
from p2l_sdk.tables.figures import decimals
from p2l_sdk.tables.notation import require_one_notation
from p2l_sdk.tables.places import RowError, placed
from p2l_sdk.tables.shapes import columns_of_numbers, other_shape, turned
from p2l_sdk.tables.sources import ABSENT, Chunk, open_source, table_errors, whole_table
from p2l_sdk.votes.scores import Scores

MEASURES = ("seconds", "first_token_seconds", "input_tokens", "output_tokens", "cost")
_VARIANCE_QUESTIONS = 1.0  # the variance of graded scores is shrunk as if one right-or-wrong question had been added


class Form(StrEnum):
    """The forms of results in long format."""

    QUESTIONS = "questions"
    COUNTS = "counts"
    MEANS = "means"


_COLUMNS = {
    Form.QUESTIONS: ("question_id", "score"),
    Form.COUNTS: ("correct", "total"),
    Form.MEANS: ("score",),
}


@dataclass(frozen=True, eq=False)
class Results:
    """A table of results, LLMs by benchmarks.

    Attributes:
        models: names of the LLMs, in order of appearance.
        benchmarks: names of the benchmarks, in order of appearance.
        means: `(n_models, n_benchmarks)` mean score in [0, 1]; NaN where there is no result.
        counts: `(n_models, n_benchmarks)` number of right-or-wrong questions that the mean is worth; 0 where there is
            no result, NaN where a published mean does not state it.
        questions: benchmark -> `(n_models, n_questions)` scores, NaN where not asked; only where known.
        samples: measure (`seconds`, `output_tokens`, ...) -> LLM -> `(n,)` one number per question, NaN where absent.
        notes: how the table was read, one sentence each.
    """

    models: tuple[str, ...]
    benchmarks: tuple[str, ...]
    means: np.ndarray
    counts: np.ndarray
    questions: Mapping[str, np.ndarray] = field(default_factory=dict)
    samples: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        source: Any,
        *,
        percent: Percent = False,
        columns: Sequence[str] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> Results:
        """Results from a table: a file (`p2l_sdk.tables.files.KINDS`), a frame, a mapping of columns, or dictionaries.

        The columns determine the form; see the module.

        Args:
            source: anything that `Votes.read` accepts.
            percent: scores are in [0, 100]; or the benchmarks of which they are, the others' being in [0, 1].
            columns: of a table with a column per benchmark, those that are benchmarks; if not given, all but `model`
                and row numbers.
            names: the columns that have other names in the table: {"model": "LLM"}.

        Raises:
            ResultsError: the source cannot be read, a column is missing, or is plainly no benchmark, a row is a figure
                of the others, a score is not a number in its range, benchmarks are on different scales, `correct` is
                above `total`, or two rows are for the same cell (or question); names the row.

        Warns:
            P2LWarning: columns of row numbers were left out, or two names are probably one LLM.
        """
        with table_errors(ResultsError, source):
            opened = open_source(source)
            table, rows = _answered(known_columns(whole_table(opened.chunks), names or {}))
            table, notes = of_one_benchmark(table)
            with placed(lambda row: opened.place(rows[row])):
                return replace(cls._of_table(table, percent, columns), notes=notes)

    @classmethod
    def _of_table(cls, table: Chunk, percent: Percent, columns: Sequence[str] | None) -> Results:
        if not table:
            raise ResultsError("the table of results is empty")
        if is_wide(table) or (columns is not None and "model" in table):
            return cls._of_wide(table, percent, columns)
        form = _form(table)
        models, model = llm_names(table)
        benchmarks, benchmark = _names(table, "benchmark")
        checked_percent(percent, benchmarks)
        if form is Form.QUESTIONS:
            score = _scores(table, percent, benchmarks, benchmark)
            return _of_questions(table, models, model, benchmarks, benchmark, score)
        _distinct({"LLM": (models, model), "benchmark": (benchmarks, benchmark)})
        means = np.full((len(models), len(benchmarks)), np.nan)
        counts = np.zeros(means.shape)
        if form is Form.COUNTS:
            correct, total = (_numbers(table, name, _count) for name in ("correct", "total"))
            for row in np.flatnonzero((correct > total) | (total <= 0)):
                right = "correct" if total[row] > 0 else "total"
                bound = f"at most total, {total[row]:g}" if total[row] > 0 else "above 0"
                value = correct[row] if total[row] > 0 else total[row]
                raise RowError(int(row), f": {right} is {value:g}; it must be {bound}")
            means[model, benchmark], counts[model, benchmark] = correct / total, total
        else:
            means[model, benchmark] = _scores(table, percent, benchmarks, benchmark)
            counts[model, benchmark] = _stated(table)
            warn_of_figures(models, means, [decimals(table["score"]) + (0 if percent is False else 2)] * len(models))
        return cls(models, benchmarks, means, counts)

    @classmethod
    def _of_wide(cls, table: Chunk, percent: Percent, columns: Sequence[str] | None) -> Results:
        others = [name for name in table if name != "model"]
        checked_percent(percent, others)
        table = {**table, **{name: unsigned(table[name], scale_of(percent, name)) for name in others}}
        benchmarks = benchmark_columns(table, columns)
        models, model = llm_names(table)
        _distinct({"LLM": (models, model)})
        require_one_scale({name: table[name] for name in benchmarks}, percent, wide=True)
        for name in benchmarks:
            require_one_notation(name, table[name])
        means = wide_means(table, benchmarks, len(models), model, percent)
        digits = [
            decimals(table[name][int(row)] for name in benchmarks) for row in np.unique(model, return_index=True)[1]
        ]
        warn_of_figures(models, means, [number + (0 if percent is False else 2) for number in digits])
        return cls(models, benchmarks, means, np.where(np.isnan(means), 0.0, np.nan))

    @classmethod
    def of_scores(cls, scores: Scores, benchmark: str) -> Results:
        """Results from a scores table (a prompt per row, a column per LLM), with a category column as the benchmark.

        Raises:
            ResultsError: there is no such column, or a score is outside [0, 1].
        """
        if benchmark not in scores.categories:
            has = ", ".join(scores.categories) or "none"
            raise ResultsError(
                f"the scores have no category column {benchmark!r}; they have: {has}. Goodness is of benchmarks: it "
                "needs a column that says of which one each prompt is (one text in all rows makes one benchmark). "
                "Scores without it can be trained on and measured on (p2l train --votes, p2l evaluate --scores)"
            )
        bad = np.argwhere((scores.scores < 0) | (scores.scores > 1))
        if len(bad):
            row, column = bad[0]
            value = scores.scores[row, column]
            raise ResultsError(f"row {row + 1}: the score of {scores.models[column]!r} is {value:g}; {RANGE[1.0]}")
        labels = np.asarray(scores.categories[benchmark])
        names = tuple(dict.fromkeys(labels.tolist()))
        return cls.of_questions(scores.models, {str(name): scores.scores[labels == name].T for name in names})

    @classmethod
    def of_questions(cls, models: Sequence[str], questions: Mapping[str, np.ndarray], **more: Any) -> Results:
        """Results from arrays of scores `(n_models, n_questions)` in [0, 1], NaN where not asked."""
        means = np.full((len(models), len(questions)), np.nan)
        counts = np.zeros(means.shape)
        for b, scores in enumerate(questions.values()):
            means[:, b], counts[:, b] = _summary(scores)
        return cls(tuple(models), tuple(questions), means, counts, questions, **more)

    def of_models(self, models: Sequence[str]) -> Results:
        """The results of these LLMs, in this order. Raises `ResultsError` for one without results."""
        unknown = [name for name in models if name not in self.models]
        if unknown:
            raise ResultsError(f"there is no result of {unknown[0]!r}; known: {', '.join(self.models)}")
        at = [self.models.index(name) for name in models]
        return Results(
            tuple(models),
            self.benchmarks,
            self.means[at],
            self.counts[at],
            {name: scores[at] for name, scores in self.questions.items()},
            {k: {m: v for m, v in by_model.items() if m in models} for k, by_model in self.samples.items()},
            self.notes,
        )

    @staticmethod
    def joined(parts: Sequence[Results]) -> Results:
        """Several tables as one. Raises `ResultsError` if two contain the same cell."""
        models = tuple(dict.fromkeys(name for part in parts for name in part.models))
        benchmarks = tuple(dict.fromkeys(name for part in parts for name in part.benchmarks))
        means = np.full((len(models), len(benchmarks)), np.nan)
        counts = np.zeros(means.shape)
        questions: dict[str, np.ndarray] = {}
        for part in parts:
            at = np.ix_([models.index(name) for name in part.models], [benchmarks.index(n) for n in part.benchmarks])
            twice = np.argwhere(~np.isnan(means[at]) & ~np.isnan(part.means))
            if len(twice):
                m, b = twice[0]
                raise ResultsError(f"two tables have a result of {part.models[m]!r} on {part.benchmarks[b]!r}")
            held = ~np.isnan(part.means)
            means[at] = np.where(held, part.means, means[at])
            counts[at] = np.where(held, part.counts, counts[at])
            for name, scores in part.questions.items():
                if name not in questions:  # questions of different tables cannot be matched: keep the first
                    questions[name] = np.full((len(models), scores.shape[1]), np.nan)
                    questions[name][at[0].ravel()] = scores
        notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
        return Results(models, benchmarks, means, counts, questions, _joined_samples(parts, models), notes)


def _of_questions(
    table: Chunk,
    models: tuple[str, ...],
    model: np.ndarray,
    benchmarks: tuple[str, ...],
    benchmark: np.ndarray,
    score: np.ndarray,
) -> Results:
    ids, question = _names(table, "question_id")
    _distinct({"LLM": (models, model), "benchmark": (benchmarks, benchmark), "question": (ids, question)})
    questions = {}
    for b, name in enumerate(benchmarks):
        rows = np.flatnonzero(benchmark == b)
        used, place = np.unique(question[rows], return_inverse=True)
        scores = np.full((len(models), len(used)), np.nan)
        scores[model[rows], place] = score[rows]
        questions[name] = scores
    samples = {}
    for measure in MEASURES:
        if measure in table:
            values = _numbers(table, measure, _count, optional=True)
            held = {name: values[model == m] for m, name in enumerate(models)}
            samples[measure] = {name: array for name, array in held.items() if not np.isnan(array).all()}
    return Results.of_questions(models, questions, samples=samples)


def _joined_samples(parts: Sequence[Results], models: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """The samples of all parts, concatenated; NaN where a part lacks a measure that another has."""
    joined: dict[str, dict[str, np.ndarray]] = {name: {} for part in parts for name in part.samples}
    for model in models:
        tables = [{name: held[model] for name, held in part.samples.items() if model in held} for part in parts]
        sizes = [len(next(iter(table.values()), ())) for table in tables]
        for name in dict.fromkeys(name for table in tables for name in table):
            pieces = [table.get(name, np.full(n, np.nan)) for table, n in zip(tables, sizes, strict=True)]
            joined[name][model] = np.concatenate(pieces)
    return joined


def _summary(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(n_models,)` means of scores `(n_models, n_questions)`, and how many right-or-wrong questions they are worth."""
    asked = ~np.isnan(scores)
    n = asked.sum(1).astype(np.float64)
    total = np.where(asked, scores, 0.0).sum(1)
    means = np.where(n > 0, total / np.maximum(n, 1.0), np.nan)
    if np.isin(scores[asked], (0.0, 1.0)).all():
        return means, n
    inner = (total + 0.5) / (n + 1.0)  # never 0 or 1
    binary = inner * (1.0 - inner)
    squares = np.square(np.where(asked, scores - means[:, None], 0.0)).sum(1)
    variance = (squares + _VARIANCE_QUESTIONS * binary) / np.maximum(n - 1.0 + _VARIANCE_QUESTIONS, 1.0)
    return means, np.where(n > 0, np.maximum(n * binary / variance, np.minimum(n, 1.0)), 0.0)


# --- the columns -----------------------------------------------------------------------------------------------------


def _answered(table: Chunk) -> tuple[Chunk, Sequence[int]]:
    """The table without failed queries, which say nothing about the LLM's answer, and its rows among all."""
    if "error" not in table:
        return table, range(len(next(iter(table.values()), [])))
    kept = [row for row, error in enumerate(table["error"]) if is_missing(error)]
    if not kept:
        raise ResultsError("every row of the results has an error; there is nothing to score")
    return {name: [column[row] for row in kept] for name, column in table.items()}, kept


def _form(table: Chunk) -> Form:
    if {"model", "benchmark"} <= set(table):
        for form, columns in _COLUMNS.items():
            if set(columns) <= set(table):
                return form
    forms = "; ".join(f"model, benchmark, {', '.join(columns)}" for columns in _COLUMNS.values())
    unnamed = next((str(name) for name in table if is_index(name)), None) if "model" not in table else None
    if unnamed is not None and not is_numeric(table[unnamed], True):
        raise ResultsError(
            f"the results have no column 'model'; if the column {unnamed!r} names the LLMs, call it model"
        )
    has = f"the results have the columns {', '.join(map(str, table))}"
    shape = other_shape(table)
    if "model" not in table:
        shape = shape or turned(table, rows="benchmarks", columns="LLMs", first="model")
    if shape:
        raise ResultsError(f"{has}; {shape}")
    numbers = columns_of_numbers(table) if "model" in table else []
    among = f" (of {', '.join(numbers)})" if numbers else ""
    raise ResultsError(
        f"{has}; they need one of: {forms}; or model and a column of numbers per benchmark (beside others, name them: "
        f"columns=[...], --columns A,B{among}; a column of another name: --column model=NAME, names={{...}})"
    )


def _names(table: Chunk, column: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Distinct names in order of appearance, and for each row the index of its name."""
    numbers: dict[str, int] = {}
    code = np.empty(len(table[column]), dtype=np.int64)
    for row, value in enumerate(table[column]):
        if is_missing(value):
            raise RowError(row, f" has no {column}")
        code[row] = numbers.setdefault(str(value).strip(), len(numbers))
    return tuple(numbers), code


def _distinct(columns: Mapping[str, tuple[tuple[str, ...], np.ndarray]]) -> None:
    keys = np.stack([code for _, code in columns.values()], 1)
    _, first, place = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    twice = np.flatnonzero(first[place.ravel()] != np.arange(len(keys)))
    if len(twice):
        row = int(twice[0])
        what = ", ".join(f"{label} {names[code[row]]!r}" for label, (names, code) in columns.items())
        raise RowError(row, f" are both of {what}; keep one", before=int(first[place.ravel()[row]]))


def _scores(table: Chunk, percent: Percent, benchmarks: Sequence[str], benchmark: np.ndarray) -> np.ndarray:
    """`(n_rows,)` scores in [0, 1], each on the scale of its benchmark."""
    values: list[Any] = list(table["score"])
    scales = np.array([scale_of(percent, name) for name in benchmarks])[benchmark]
    for scale in np.unique(scales):
        rows = np.flatnonzero(scales == scale)
        for row, value in zip(rows, unsigned([values[row] for row in rows], float(scale)), strict=True):
            values[row] = value
    by_name = {name: [values[row] for row in np.flatnonzero(benchmark == b)] for b, name in enumerate(benchmarks)}
    require_one_scale(by_name, percent, wide=False)
    whole = {**table, "score": values}
    numbers = _numbers(whole, "score", within(float(scales.max())))
    for row in np.flatnonzero(numbers > scales):
        raise RowError(int(row), f": score is {values[row]!r}; {RANGE[1.0]}")
    return numbers / scales


def _numbers(table: Chunk, column: str, check: Callable[[float], str], *, optional: bool = False) -> np.ndarray:
    values = table[column]
    require_one_notation(column, values)
    numbers = np.array([np.nan if value is ABSENT else number_of(value) for value in values])
    for row, number in enumerate(numbers):
        if optional and np.isnan(number) and is_missing(values[row]):
            continue
        problem = check(float(number))
        if problem:
            value = "missing" if values[row] is ABSENT else repr(values[row])
            raise RowError(row, f": {column} is {value}; {problem}")
    return numbers


def _count(x: float) -> str:
    return "" if 0.0 <= x < np.inf else "it must be a finite number >= 0"


def _stated(table: Chunk) -> np.ndarray:
    """The number of questions behind each published mean; NaN where not stated."""
    if "n" not in table:
        return np.full(len(table["score"]), np.nan)
    return _numbers(table, "n", lambda x: "" if 1.0 <= x < np.inf else "it must be a number >= 1", optional=True)
