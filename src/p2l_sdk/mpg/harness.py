"""Output of lm-evaluation-harness: `results_*.json` (means and standard errors) and `samples_*.jsonl` (per question).

If a task has both, the samples are used: they show which questions several LLMs got right together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import ResultsError
from p2l_sdk.mpg.results import Results
from p2l_sdk.tables.columns import number_of
from p2l_sdk.tables.files import read_json, read_rows
from p2l_sdk.tables.sources import table_errors

METRICS = ("acc_norm", "acc", "exact_match", "pass@1", "pass_at_1", "prompt_level_strict_acc", "mc2", "f1", "em")
_SAMPLES = re.compile(r"samples_(?P<task>.+?)_\d{4}-\d{2}-\d{2}T.*")


@table_errors(ResultsError)
def read_harness(*paths: str | Path, metric: str | None = None, model: str | None = None) -> Results:
    """Results of one or several LLMs from the harness's output.

    Args:
        paths: result files, sample files, or folders to search.
        metric: the metric to read for every task; if not given, the first of `METRICS` that the task has.
        model: name of the LLM; if not given, that in the result file, or the folder's.

    Raises:
        ResultsError: there is nothing to read, a file is damaged, or a task lacks the metric.
    """
    files = [file for path in paths for file in _files(Path(path))]
    if not files:
        raise ResultsError(f"no results_*.json and no samples_*.jsonl in {', '.join(map(str, paths))}")
    asked: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    names: dict[Path, str] = {}
    for file in files:
        if file.suffix == ".json":
            summary = _load(file)
            names[file.parent] = model or str(summary.get("model_name") or _of_folder(file.parent))
            means += _means(file, summary, names[file.parent], metric)
    for file in files:
        if file.suffix == ".jsonl":
            asked += _samples(file, names.get(file.parent, model or _of_folder(file.parent)), metric)
    have = {(row["model"], row["benchmark"]) for row in asked}
    means = [row for row in means if (row["model"], row["benchmark"]) not in have]
    if not asked and not means:
        raise ResultsError(f"no known metric in {', '.join(map(str, files))}; name one that they have (metric=...)")
    return Results.joined([Results.read(rows) for rows in (asked, means) if rows])


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted([*path.rglob("results*.json"), *path.rglob("samples_*.jsonl")])
    if not path.exists():
        raise ResultsError(f"{str(path)!r} does not exist")
    if path.suffix not in (".json", ".jsonl"):
        raise ResultsError(
            f"{str(path)!r} is of no known kind; known: results_*.json, samples_*.jsonl, a folder of them"
        )
    return [path]


def _load(file: Path) -> Mapping[str, Any]:
    summary = read_json(file)
    if not isinstance(summary, dict) or not isinstance(summary.get("results"), dict):
        raise ResultsError(f"{str(file)!r} is no result file of lm-evaluation-harness: it has no table 'results'")
    return summary


def _of_folder(folder: Path) -> str:
    return folder.name.replace("__", "/")  # how the harness writes a slash


def _means(file: Path, summary: Mapping[str, Any], model: str, metric: str | None) -> Iterator[dict[str, Any]]:
    for task, values in summary["results"].items():
        if not isinstance(values, dict):
            raise ResultsError(f"{str(file)!r}: the results of {task!r} are no table of metrics")
        key = _metric(values, metric)
        if key is None:
            if metric is None:  # a group of tasks without a mean of its own
                continue
            raise ResultsError(f"{str(file)!r}: {task!r} has no {metric!r}; it has: {', '.join(_measured(values))}")
        name, _, kind = key.partition(",")
        mean = _mean(values[key], f"{str(file)!r}: {key} of {task!r}")
        error = values.get(f"{name}_stderr,{kind}" if kind else f"{name}_stderr")
        n = _table(_table(summary.get("n-samples")).get(task)).get("effective")
        if isinstance(error, int | float) and error > 0 and 0 < mean < 1:
            n = max(1.0, mean * (1 - mean) / error**2)  # the number of right-or-wrong questions with this error
        row = {"model": model, "benchmark": str(task), "score": mean}
        yield row | ({"n": n} if n else {"n": math.nan})


def _samples(file: Path, model: str, metric: str | None) -> Iterator[dict[str, Any]]:
    found = _SAMPLES.fullmatch(file.stem)
    task = found["task"] if found else file.stem.removeprefix("samples_")
    filters: dict[str, None] = {}
    rows = list(read_rows(file))
    for row in rows:
        filters.setdefault(str(row.get("filter", "none")))
    first = next(iter(filters), "none")  # each filter extracts the same answer differently: use the first
    for number, row in enumerate(rows, 1):
        if str(row.get("filter", "none")) != first:
            continue
        key = _metric(row, metric)
        if key is None or "doc_id" not in row:
            metrics = row.get("metrics")
            has = ", ".join(map(str, metrics if isinstance(metrics, list | dict) else row))
            raise ResultsError(f"{str(file)!r}, row {number} has no {metric or 'known metric'}; it has: {has}")
        score = _mean(row[key], f"{str(file)!r}, row {number}: {key}")
        yield {"model": model, "benchmark": task, "question_id": str(row["doc_id"]), "score": score}


def _mean(value: Any, what: str) -> float:
    """The mean of a score or a list of scores; `ResultsError` if there is none."""
    scores = [number_of(score) for score in value] if isinstance(value, list) else [number_of(value)]
    if not scores or math.isnan(sum(scores)):
        raise ResultsError(f"{what} is {value!r}; it must be a number, or a list of numbers")
    return float(np.mean(scores))


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _metric(values: Mapping[str, Any], metric: str | None) -> str | None:
    """The key of the metric, including the name of its filter if there is one."""
    for wanted in METRICS if metric is None else (metric,):
        for key, value in values.items():
            if key.partition(",")[0] == wanted and isinstance(value, int | float | bool | list):
                return str(key)
    return None


def _measured(values: Mapping[str, Any]) -> list[str]:
    return [str(key).partition(",")[0] for key, value in values.items() if isinstance(value, int | float)]
