"""Results of promptfoo, as `promptfoo eval -o results.json` writes them, as scores: a row for each prompt and LLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BROKEN = 2  # the reason of a failure that says nothing of the answer, such as a timeout


def promptfoo_rows(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The rows of a JSON value: `prompt`, `model`, `score`, which a query that failed has not; None if the value is
    something else."""
    results = value.get("results")
    graded = results.get("results") if isinstance(results, Mapping) else None
    if not isinstance(graded, list) or not graded or not all(map(_is_graded, graded)):
        return None
    return [
        {"prompt": _of(row["prompt"], "raw"), "model": _of(row["provider"], "label", "id"), "score": _score(row)}
        for row in graded
    ]


def _is_graded(row: Any) -> bool:
    return isinstance(row, Mapping) and {"prompt", "provider", "score"} <= row.keys()


def _of(value: Any, *names: str) -> Any:
    """The first of these values of an object that is not empty; older versions have a string in its place."""
    if not isinstance(value, Mapping):
        return value
    return next((value[name] for name in names if value.get(name)), None)


def _score(row: Mapping[str, Any]) -> Any:
    return None if row.get("failureReason") == _BROKEN else row["score"]
