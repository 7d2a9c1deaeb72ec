"""LiveBench's public tables: `table_<date>.csv` (an LLM per row, a task per column, in percent) and
`categories_<date>.json` (category: [tasks])."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from p2l_sdk.errors import ResultsError
from p2l_sdk.mpg.results import Results
from p2l_sdk.mpg.tree import Tree
from p2l_sdk.tables.columns import is_missing, number_of
from p2l_sdk.tables.files import read_json, read_rows
from p2l_sdk.tables.sources import table_errors


@table_errors(ResultsError)
def read_livebench(table: str | Path, categories: str | Path | None = None) -> tuple[Results, Tree]:
    """Published means and the tree of LiveBench's categories.

    Args:
        table: the CSV file; an empty cell is a missing result.
        categories: the JSON file; if not given, the package's own tree of the categories.

    Raises:
        ResultsError: a file cannot be read or has another format, an LLM has two rows, or a score is outside [0, 100].
    """
    rows = list(read_rows(table))
    if not rows or "model" not in rows[0]:
        raise ResultsError(f"{str(table)!r} is no table of LiveBench: it has no column 'model'")
    tasks = tuple(str(name) for name in rows[0] if name != "model")
    nameless = next((number for number, row in enumerate(rows, 1) if is_missing(row.get("model"))), None)
    if nameless is not None:
        raise ResultsError(f"{str(table)!r}, row {nameless} has no model")
    models = tuple(str(row["model"]) for row in rows)
    twice = next((name for i, name in enumerate(models) if name in models[:i]), None)
    if twice is not None:
        raise ResultsError(f"{str(table)!r} has two rows of {twice!r}; keep one")
    means = np.full((len(models), len(tasks)), np.nan)
    for m, row in enumerate(rows):
        for t, task in enumerate(tasks):
            score = row.get(task)
            if is_missing(score) or score == "-":
                continue
            means[m, t] = number_of(score) / 100.0
            if not 0.0 <= means[m, t] <= 1.0:
                raise ResultsError(f"row {m + 1}: {task} is {score!r}; it must be a number in [0, 100]")
    counts = np.where(np.isnan(means), 0.0, np.nan)
    results = Results(models, tasks, means, counts)
    if categories is None:
        return results, Tree.read("livebench").only(tasks)
    groups = read_json(categories)
    if not isinstance(groups, dict):
        raise ResultsError(f"{str(categories)!r} must hold an object, category: [tasks]")
    nodes = {"Goodness": list(groups), **groups}
    return results, Tree.read({"name": "livebench", "nodes": nodes}).only(tasks)
