"""Files of lm-evaluation-harness as one kind of log: what one LLM got on one task, by metric and filter."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import ResultsError
from p2l_sdk.tables.columns import number_of
from p2l_sdk.tables.files import read_json, read_rows
from p2l_sdk.tables.text import no_file

Measure = tuple[str, str]  # a metric and a filter, which says how answers are extracted
NO_FILTER = "none"

_STAMP = re.compile(r".*?_(?P<stamp>\d{4}-\d{2}-\d{2}T.*)")
_SAMPLES = re.compile(r"samples_(?P<task>.+?)_\d{4}-\d{2}-\d{2}T.*")
_NO_METRIC = {"alias", "name", "sample_len", "sample_count", "samples", "filter", "doc_id", "metrics"}


@dataclass(frozen=True)
class Log:
    """What one LLM got on one task in one run.

    Attributes:
        file: where it stands.
        model, task: names.
        stamp: time of the run, as in the file's name; empty if it has none.
        values: by metric and filter, a mean (and the number of questions behind it) or the scores by question.
        faults: by metric and filter, what is wrong with the values there.
        asked: how the task was put to the LLM, as far as the result file says: shots and version.
    """

    file: Path
    model: str
    task: str
    stamp: str
    values: dict[Measure, tuple[float, float] | dict[str, float]] = field(default_factory=dict)
    faults: dict[Measure, str] = field(default_factory=dict)
    asked: tuple[str, ...] = ()

    @property
    def sampled(self) -> bool:
        """Whether the log has the scores by question."""
        return self.file.suffix == ".jsonl"

    def __str__(self) -> str:
        return f"{str(self.file)!r}, task {self.task!r} of {self.model}"


def files_in(path: Path) -> list[Path]:
    """The logs in a folder; a file alone. Raises `ResultsError` if there is no such path, or of another kind."""
    if path.is_dir():
        return sorted([*path.rglob("results*.json"), *path.rglob("samples_*.jsonl")])
    if not path.exists():
        raise ResultsError(no_file(path))
    if path.suffix not in (".json", ".jsonl"):
        raise ResultsError(
            f"{str(path)!r} is of no known kind; known: results_*.json, samples_*.jsonl, a folder of them"
        )
    return [path]


def read_logs(files: Sequence[Path], model: str | None) -> tuple[list[Log], list[Mapping[str, Any]]]:
    """The logs in these files, and the result files as they are.

    Args:
        files: result files and files of samples.
        model: name of the LLM; if not given, that in the result file of the run, or the folder's.

    Raises:
        ResultsError: a file is damaged, or it is open whose samples they are.
    """
    logs: list[Log] = []
    summaries: list[Mapping[str, Any]] = []
    names: dict[Path, dict[str, str]] = {}  # folder -> time of the run -> LLM
    for file in files:
        if file.suffix == ".json":
            summary = _load(file)
            name = model or str(summary.get("model_name") or _of_folder(file.parent))
            names.setdefault(file.parent, {})[stamp_of(file)] = name
            summaries.append(summary)
            logs += _means(file, summary, name)
    for file in files:
        if file.suffix == ".jsonl":
            logs.append(_samples(file, model or _owner(file, names.get(file.parent, {}))))
    return logs, summaries


def stamp_of(file: Path) -> str:
    """The time in a file's name, as text that sorts by time; empty if there is none."""
    found = _STAMP.fullmatch(file.stem)
    return found["stamp"] if found else ""


def _owner(file: Path, runs: Mapping[str, str]) -> str:
    """The LLM of a file of samples, from the result files beside it."""
    if len(set(runs.values())) <= 1:
        return next(iter(runs.values()), _of_folder(file.parent))
    if stamp_of(file) not in runs:
        raise ResultsError(
            f"{str(file)!r}: its folder has results of {', '.join(dict.fromkeys(runs.values()))}, and none of the same "
            "time; put each LLM's files into a folder of its own"
        )
    return runs[stamp_of(file)]


def _of_folder(folder: Path) -> str:
    return folder.name.replace("__", "/")  # how the harness writes a slash


def _load(file: Path) -> Mapping[str, Any]:
    summary = read_json(file)
    if not isinstance(summary, dict) or not isinstance(summary.get("results"), dict):
        raise ResultsError(f"{str(file)!r} is no result file of lm-evaluation-harness: it has no table 'results'")
    return summary


def _means(file: Path, summary: Mapping[str, Any], model: str) -> Iterator[Log]:
    sizes = table(summary.get("n-samples"))
    for task, values in summary["results"].items():
        if not isinstance(values, dict):
            raise ResultsError(f"{str(file)!r}: the results of {task!r} are no table of metrics")
        given = (("shots", "n-shot"), ("version", "versions"))
        asked = tuple(
            f"{word} {table(summary.get(key))[task]}" for word, key in given if task in table(summary.get(key))
        )
        log = Log(file, model, str(task), stamp_of(file), asked=asked)
        size = number_of(table(sizes.get(task)).get("effective"))
        for key, value in values.items():
            name, _, kind = str(key).partition(",")
            if not _is_metric(name, value):
                continue
            error = values.get(f"{name}_stderr,{kind}" if kind else f"{name}_stderr")
            measure = name, kind or NO_FILTER
            mean, fault = _mean(value)
            if fault:
                log.faults[measure] = f"{log}: {key} is {fault}"
            else:
                log.values[measure] = mean, _questions(mean, error, size)
        yield log


def _questions(mean: float, error: Any, size: float) -> float:
    """The number of right-or-wrong questions whose mean has this standard error, NaN if it is not known."""
    if isinstance(error, int | float) and error > 0 and 0 < mean < 1:
        return max(1.0, mean * (1 - mean) / error**2)
    if isinstance(error, int | float) and error > 0 and 1 < mean < 100:  # both in percent
        return max(1.0, mean * (100 - mean) / error**2)
    return size if size >= 1 else math.nan


def _samples(file: Path, model: str) -> Log:
    found = _SAMPLES.fullmatch(file.stem)
    log = Log(file, model, found["task"] if found else file.stem.removeprefix("samples_"), stamp_of(file))
    rows = read_rows(file)
    for at, row in enumerate(rows):
        if "doc_id" not in row:
            raise ResultsError(f"{log}, {rows.place(at)} has no doc_id; it has: {', '.join(map(str, row))}")
        kind, question = str(row.get("filter", NO_FILTER)), str(row["doc_id"])
        listed = row.get("metrics")
        for key, value in row.items():
            named = key in listed if isinstance(listed, list | dict) else _is_metric(str(key), value)
            measure = str(key), kind
            if not named or measure in log.faults:
                continue
            mean, fault = _mean(value)
            scores = log.values.setdefault(measure, {})
            assert isinstance(scores, dict)
            if not fault and scores.setdefault(question, mean) != mean:  # old logs list a document once per filter
                fault = f"{mean:g} and {scores[question]:g} for the same document, {question}; a log has it once"
            if fault:
                log.faults[measure] = f"{log}, {rows.place(at)}: {key} is {fault}"
                del log.values[measure]
    return log


def _is_metric(name: str, value: Any) -> bool:
    numeric = isinstance(value, int | float | list)
    return numeric and name not in _NO_METRIC and not name.endswith("_stderr")


def _mean(value: Any) -> tuple[float, str]:
    """The mean of a score or a list of scores, and what is wrong with it, empty if nothing is."""
    scores = [number_of(score) for score in value] if isinstance(value, list) else [number_of(value)]
    if not scores or not math.isfinite(sum(scores)):
        return math.nan, f"{value!r}; it must be a number, or a list of numbers"
    return float(np.mean(scores)), ""


def table(value: Any) -> Mapping[str, Any]:
    """A JSON value that should be an object; empty if it is none."""
    return value if isinstance(value, dict) else {}
