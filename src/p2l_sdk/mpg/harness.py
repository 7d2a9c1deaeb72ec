"""Output of lm-evaluation-harness: `results_*.json` (means and standard errors) and `samples_*.jsonl` (per question).

All LLMs are compared by the same metric and the same filter on a task. Where all LLMs have samples of it, these are
used: they show which questions several LLMs got right together. A group of tasks does not count beside its own tasks,
and of two runs of an LLM on a task, the newest counts.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from p2l_sdk.errors import P2LWarning, ResultsError
from p2l_sdk.mpg.harness_groups import children_of, counted_once
from p2l_sdk.mpg.harness_logs import NO_FILTER, Log, Measure, files_in, read_logs
from p2l_sdk.mpg.results import Results
from p2l_sdk.mpg.wide import RANGE, within
from p2l_sdk.tables.sources import table_errors

METRICS = ("acc_norm", "acc", "exact_match", "pass@1", "pass_at_1", "prompt_level_strict_acc", "mc2", "f1", "em")
FILTERS = (NO_FILTER, "strict-match", "custom-extract", "get-answer", "remove_whitespace", "flexible-extract")
_NAMED = 6  # tasks in a warning


def is_harness(path: str | Path) -> bool:
    """Whether this is output of the harness rather than a table: a folder, samples, or JSON that is not a list."""
    file = Path(path)
    if file.is_dir() or file.name.startswith("samples_"):
        return True
    if file.suffix != ".json":
        return False
    try:
        with file.open(encoding="utf-8-sig") as text:
            return text.read(200).lstrip()[:1] != "["
    except (OSError, UnicodeDecodeError):  # which its reader says
        return True


@table_errors(ResultsError)
def read_harness(
    *paths: str | Path,
    metric: str | None = None,
    filter: str | None = None,
    model: str | None = None,
    percent: bool = False,
) -> Results:
    """Results of one or several LLMs from the harness's output.

    Args:
        paths: result files, sample files, or folders to search.
        metric: the metric to read for every task; if not given, the first of `METRICS` that all LLMs have on the task.
        filter: the filter to read, on tasks that have it; if not given, the first of `FILTERS` that all LLMs have on
            the task with this metric, and then the first in the files.
        model: name of the LLM; if not given, that in the result file, or the folder's.
        percent: tasks with a score above 1 are in [0, 100].

    Raises:
        ResultsError: there is nothing to read, a file is damaged, no task can be used, or the LLMs have no metric and
            filter in common on a task.

    Warns:
        P2LWarning: what was left out, and why: groups beside their own tasks, older runs, tasks that cannot be used.
    """
    files = list(dict.fromkeys(file for path in paths for file in files_in(Path(path))))
    if not files:
        raise ResultsError(f"no results_*.json and no samples_*.jsonl in {', '.join(map(str, paths))}")
    logs, summaries = read_logs(files, model)
    logs, older = _newest(logs)
    logs, groups, tasks_of = counted_once(logs, children_of(summaries))
    usable, problems = _usable(logs, metric, 100.0 if percent else 1.0)
    if filter is not None and not any(kind == filter for log in usable for _, kind in log.values):
        has = ", ".join(dict.fromkeys(kind for log in usable for _, kind in log.values))
        raise ResultsError(f"no task has the filter {filter!r}; they have: {has}")
    if not usable:
        raise ResultsError(
            problems[0] if problems else f"no known metric in {_listed(files)}; name one that they have (metric=...)"
        )
    rows: list[dict[str, Any]] = []
    shares = []
    by_measure: dict[Measure, list[str]] = {}
    for task in dict.fromkeys(log.task for log in usable):
        found, scales, measure = _rows([log for log in usable if log.task == task], metric, filter, percent)
        rows += found
        by_measure.setdefault(measure, []).append(task)
        shares += [task] if percent and scales == {1.0} else []
    said = [f"the newest of several runs counts for {_listed(older)}"] if older else []
    said += [f"a group does not count beside its own tasks; left out: {_listed(groups)}"] if groups else []
    said += [
        f"not all LLMs have the tasks of {group!r}, so all are compared on its mean; left out: {_listed(tasks)}"
        for group, tasks in tasks_of.items()
    ]
    said += [f"not asked alike, so hardly comparable: {_listed(unlike)}"] if (unlike := _unlike(logs)) else []
    said += [f"taken as shares, though in percent: {_listed(shares)}"] if shares else []
    said += [f"left out: {problem}" for problem in problems]
    if said:
        warnings.warn("; ".join(said), P2LWarning, stacklevel=3)
    asked, means = ([row for row in rows if ("question_id" in row) is sampled] for sampled in (True, False))
    results = Results.joined([Results.read(part) for part in (asked, means) if part])
    return dataclasses.replace(results, notes=(_measures(by_measure),))


def _measures(by_measure: Mapping[Measure, Sequence[str]]) -> str:
    """By which metric and filter the LLMs were compared, on which tasks."""
    names = {
        measure: measure[0] + ("" if measure[1] == NO_FILTER else f", filter {measure[1]}") for measure in by_measure
    }
    if len(names) == 1:
        return f"metric: {next(iter(names.values()))}"
    return "metrics: " + "; ".join(f"{names[measure]} ({_listed(tasks)})" for measure, tasks in by_measure.items())


def _listed(names: Sequence[object]) -> str:
    return ", ".join(map(str, names[:_NAMED])) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _newest(logs: Sequence[Log]) -> tuple[list[Log], list[str]]:
    """The logs of the newest run of each LLM on each task, and what older ones there are.

    Raises:
        ResultsError: it is open which of two files is newer.
    """
    runs: dict[tuple[str, str], list[Log]] = {}
    for log in logs:
        runs.setdefault((log.model, log.task), []).append(log)
    kept: list[Log] = []
    older = []
    for (model, task), found in runs.items():
        newest = max(log.stamp for log in found)
        dated = {log.stamp for log in found if log.stamp}
        chosen = [log for log in found if log.stamp == newest or (not log.stamp and len(dated) == 1)]
        for sampled in (True, False):
            same = [log for log in found if log.sampled is sampled]
            if len({log.file.parent for log in same}) > 1 or len([log for log in same if log in chosen]) > 1:
                files = " and ".join(dict.fromkeys(repr(str(log.file)) for log in same))
                raise ResultsError(f"{files} are both of {model!r} on {task!r}; give the one that counts")
        kept += chosen
        older += [f"{task} ({model})"] if len(chosen) < len(found) else []
    return kept, older


def _unlike(logs: Sequence[Log]) -> list[str]:
    """The tasks that were put to LLMs in different ways, with these."""
    found: dict[str, dict[tuple[str, ...], str]] = {}
    for log in logs:
        if log.asked and (log.values or log.faults):
            found.setdefault(log.task, {}).setdefault(log.asked, log.model)
    return [
        f"{task} ({'; '.join(model + ': ' + ', '.join(asked) for asked, model in ways.items())})"
        for task, ways in found.items()
        if len(ways) > 1
    ]


def _usable(logs: Sequence[Log], metric: str | None, highest: float) -> tuple[list[Log], list[str]]:
    """The logs with a value of the metric in its range, without the values that are not, and why there is none where an
    LLM has none on a task."""
    wanted = METRICS if metric is None else (metric,)
    check, kept = within(highest), []
    reasons: dict[tuple[str, str], str] = {}
    for log in logs:
        values, faults = {}, dict(log.faults)
        for measure, value in log.values.items():
            scores = value.values() if isinstance(value, dict) else value[:1]
            bad = next((score for score in scores if check(score)), None)
            if bad is None:
                values[measure] = value
            else:
                faults[measure] = f"{log}: {measure[0]} is {bad:g}; {RANGE[highest]}"
        known = {measure: value for measure, value in values.items() if measure[0] in wanted}
        if known:
            kept.append(Log(log.file, log.model, log.task, log.stamp, known))
        elif log.values or log.faults or log.sampled:
            has = ", ".join(dict.fromkeys(name for name, _ in (*log.values, *log.faults))) or "none"
            row = ", row 1" if log.sampled else ""
            reason = next((faults[measure] for measure in faults if measure[0] in wanted), None)
            missing = f"{log}{row} has no {repr(metric) if metric else 'known metric'}; it has: {has}"
            reasons[log.model, log.task] = reason or missing
    have = {(log.model, log.task) for log in kept}
    return kept, [reason for key, reason in reasons.items() if key not in have]


def _rows(
    logs: Sequence[Log], metric: str | None, wanted: str | None, percent: bool
) -> tuple[list[dict[str, Any]], set[float], Measure]:
    """The rows of one task, all LLMs by the same metric and filter (per question where all have samples), the highest
    possible scores of its logs, 1 or 100, and metric and filter."""
    models = list(dict.fromkeys(log.model for log in logs))
    sampled, means = ([log for log in logs if log.sampled is kind] for kind in (True, False))
    chosen, measure = sampled, _common(sampled, models, metric, wanted)
    if measure is None:
        chosen = [*sampled, *means]
        measure = _common(chosen, models, metric, wanted)
    if measure is None:
        raise ResultsError(_differing(logs, models, wanted))
    used = [next(log for log in chosen if log.model == model and measure in log.values) for model in models]
    top = {
        kind: max((_top(log, measure) for log in used if log.sampled is kind), default=0.0) for kind in (True, False)
    }
    rows: list[dict[str, Any]] = []
    scales = {log.sampled: 100.0 if percent and top[log.sampled] > 1 else 1.0 for log in used}
    for log in used:
        value, row, scale = log.values[measure], {"model": log.model, "benchmark": log.task}, scales[log.sampled]
        if isinstance(value, dict):
            rows += [{**row, "question_id": question, "score": score / scale} for question, score in value.items()]
        else:
            rows.append({**row, "score": value[0] / scale, "n": value[1]})
    return rows, set(scales.values()), measure


def _top(log: Log, measure: Measure) -> float:
    value = log.values[measure]
    return max(value.values()) if isinstance(value, dict) else value[0]


def _common(logs: Sequence[Log], models: Sequence[str], metric: str | None, wanted: str | None) -> Measure | None:
    """The metric and filter in which every LLM has a value in these logs, by preference; None if there is none."""
    has = [{measure: None for log in logs if log.model == model for measure in log.values} for model in models]
    shared = [measure for measure in has[0] if all(measure in measures for measures in has)]
    if wanted is not None and any(kind == wanted for measures in has for _, kind in measures):
        shared = [measure for measure in shared if measure[1] == wanted]
    metrics = METRICS if metric is None else (metric,)
    preferred = {kind: i for i, kind in enumerate(FILTERS)}
    order = lambda m: (metrics.index(m[0]), preferred.get(m[1], math.inf))  # noqa: E731
    return min(shared, key=order, default=None)


def _differing(logs: Sequence[Log], models: Sequence[str], wanted: str | None) -> str:
    has = {
        model: dict.fromkeys(",".join(measure) for log in logs if log.model == model for measure in log.values)
        for model in models
    }
    which = "no metric and filter" if wanted is None else f"no metric with the filter {wanted!r}"
    listed = "; ".join(f"{model} has {' and '.join(measures)}" for model, measures in has.items())
    return (
        f"the LLMs have {which} in common on {logs[0].task!r}: {listed}; evaluate them alike, or name what all have "
        "(metric=..., filter=...; --metric, --filter)"
    )
