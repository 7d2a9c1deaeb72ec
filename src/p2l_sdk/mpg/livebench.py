"""LiveBench's public tables: `table_<date>.csv` (an LLM per row, a task per column, in percent) and
`categories_<date>.json` (category: [tasks])."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from p2l_sdk.errors import ResultsError
from p2l_sdk.mpg.results import Results
from p2l_sdk.mpg.tree import Tree
from p2l_sdk.mpg.wide import benchmark_columns, wide_means
from p2l_sdk.tables.columns import is_missing
from p2l_sdk.tables.files import read_json, read_rows
from p2l_sdk.tables.places import placed
from p2l_sdk.tables.sources import table_errors


@table_errors(ResultsError)
def read_livebench(
    table: str | Path, categories: str | Path | None = None, *, tasks: Sequence[str] | None = None
) -> tuple[Results, Tree]:
    """Published means and the tree of LiveBench's categories.

    Args:
        table: the CSV file; an empty cell is a missing result.
        categories: the JSON file; if not given, the package's own tree of the categories.
        tasks: the columns that are tasks; if not given, all but `model` and row numbers.

    Raises:
        ResultsError: a file cannot be read or has another format, an LLM has two rows, a column is plainly no task,
            or a score is outside [0, 100].
    """
    read = read_rows(table)
    rows = list(read)
    if not rows or "model" not in rows[0]:
        raise ResultsError(f"{str(table)!r} is no table of LiveBench: it has no column 'model'")
    columns = {str(name): [row.get(name) for row in rows] for name in rows[0]}
    nameless = next((at for at, name in enumerate(columns["model"]) if is_missing(name)), None)
    if nameless is not None:
        raise ResultsError(f"{str(table)!r}, {read.place(nameless)} has no model")
    models = tuple(map(str, columns["model"]))
    twice = next((name for i, name in enumerate(models) if name in models[:i]), None)
    if twice is not None:
        raise ResultsError(f"{str(table)!r} has two rows of {twice!r}; keep one")
    with table_errors(ResultsError, table):
        tasks = benchmark_columns(columns, tasks)
    with table_errors(ResultsError, table), placed(read.place):
        means = wide_means(columns, tasks, len(models), np.arange(len(models)), True, empty=("-",))
    counts = np.where(np.isnan(means), 0.0, np.nan)
    results = Results(models, tasks, means, counts)
    if categories is None:
        return results, Tree.read("livebench").only(tasks)
    groups = read_json(categories)
    if not isinstance(groups, dict):
        raise ResultsError(f"{str(categories)!r} must hold an object, category: [tasks]")
    nodes = {"Goodness": list(groups), **groups}
    return results, Tree.read({"name": "livebench", "nodes": nodes}).only(tasks)
