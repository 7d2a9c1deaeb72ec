"""One part of the input: scored, written, and noted down as done. What a worker process does, again and again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from p2l_sdk.bulk.batch import PROMPT, BatchScorer
from p2l_sdk.bulk.folder import RunFolder
from p2l_sdk.bulk.reading import FILE, ID, ROW
from p2l_sdk.bulk.routes import COST

Part = dict[str, Any]


class PartScorer:
    """Scores parts of the input and writes their results.

    Args:
        scorer: scores.
        folder: where the results go.
    """

    def __init__(self, scorer: BatchScorer, folder: RunFolder) -> None:
        self.scorer = scorer
        self.folder = folder

    def __call__(self, number: int, part: Part) -> dict[str, Any]:
        """Score a part; the note on it is returned, and written when everything else is on disk.

        Args:
            number: of the part; it names its files.
            part: from `Input.parts`.
        """
        folder = self.folder
        scored = self.scorer.score(part, number)
        folder.write_table(folder.scored(number), scored.table)
        totals = self.scorer.totals(scored, f"part {number}")
        folder.write(folder.statistics(number), totals.to_bytes())
        note = {
            "n_rows": len(part[PROMPT]),
            "n_scored": scored.table.num_rows,
            "errors": [_named(part, i, text) for i, text in sorted(scored.errors.items())],
            "n_cut": scored.n_cut,
            "cost": cost_of(scored.table),
        }
        folder.write(folder.note_path(number), json.dumps(note))
        return note


def cost_of(table: Any) -> float | None:
    """The sum of the routes' expected costs, USD; None if there are no routes, or a cost is not known."""
    if COST not in table.column_names or table[COST].null_count:
        return None
    return float(table[COST].to_numpy().sum())


def _named(part: Mapping[str, Any], i: int, text: str) -> dict[str, Any]:
    """A faulty row as the report has it."""
    found = {FILE: part[FILE][i].as_py(), ROW: part[ROW][i].as_py()}
    if ID in part:
        value = part[ID][i].as_py()
        found[ID] = value if isinstance(value, str | int | float | bool | None) else str(value)
    return {**found, "error": text.partition(";")[0]}
