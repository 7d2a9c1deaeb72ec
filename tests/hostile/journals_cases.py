"""Hostile results of runs that were stopped: costs below 0 or NaN, under which a spend limit would never end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hostile import Case

from p2l_sdk.analysis.scaling_points import Cell, PointsFile
from p2l_sdk.judging.answers import LAYOUT
from p2l_sdk.judging.spending import Ledger
from p2l_sdk.mpg.measure.journal import Journal

ROW = {"prompt": "hi", "model": "a", "answer": "b", "run": {}}


def _journal(name: str, cells: dict[str, Any] | str, says: str | None = "line 1 is no answer") -> Case:
    def run(place: Path) -> int:
        line = cells if isinstance(cells, str) else json.dumps({**ROW, **cells})
        (place / "answers.jsonl").write_text(line + "\n")
        with Journal(place / "answers.jsonl", LAYOUT, lambda _: {}) as journal:
            return len(journal.rows)

    return Case(f"journal-{name}", run, says, None if says else (1).__eq__)


def _ledger(name: str, *lines: Any, says: str | None = "is no line of a ledger of costs", spent: float = 0.0) -> Case:
    def run(place: Path) -> float:
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        (place / "out.spending").write_text(text)
        with Ledger(place / "out", 0.0, 1.0) as ledger:
            return ledger.spent

    return Case(f"ledger-{name}", run, says, None if says else spent.__eq__)


def _point(name: str, cells: dict[str, Any], says: str | None = "line 1 is no point of a scaling study") -> Case:
    def run(place: Path) -> bool:
        row = {name: value for name, value in {**POINT, **cells}.items() if value is not ...}
        (place / "points.jsonl").write_text(json.dumps({**row, "run": {}}) + "\n")
        with PointsFile(place, {}) as file:
            return file[Cell("static", 4, 3, None, 0)].loss == 0.5

    return Case(f"point-{name}", run, says, None if says else bool)


CELL = {"base": "static", "width": 4, "n_prompts": 3, "per_prompt": None, "seed": 0}
POINT = {**CELL, "n_votes": 3, "parameters": 9, "loss": 0.5, "averaged_loss": 0.75}
NUMBERS = ("cost", "seconds", "input_tokens", "output_tokens", "loss")
STRANGE = {"nan": float("nan"), "inf": float("inf"), "below": -1, "text": "1", "list": [1], "large": 1e301}
CASES = [
    _journal("whole", {"cost": 0.5, "seconds": 1, "input_tokens": None}, None),
    *(_journal(f"{name}-{key}", {name: value}) for name in NUMBERS for key, value in STRANGE.items()),
    _journal("run", {"run": []}),
    _point("whole", {}, None),
    *(
        _point(f"{column}-{key}", {column: value})
        for column in POINT
        for key, value in {**STRANGE, "true": True, "gone": ..., "half": 3.5, "huge": 10**400, "none": None}.items()
        if not (column == "base" and key == "text")
        and not (column in ("loss", "averaged_loss") and key == "half")
        and not (column in ("width", "per_prompt") and key == "none")
    ),
    *(_point(f"{name}-of-0", {name: 0}) for name in ("width", "n_prompts", "per_prompt", "n_votes")),
    *(_point(f"{name}-float", {name: float(POINT[name])}) for name in ("width", "n_prompts", "seed")),
    _journal("deep", "[" * 10**5),
    _journal("model", {"model": []}),
    _ledger("whole", {"reserved": 1, "usd": 0.5}, {"settled": 1, "usd": 0.25, "assumed": False}, says=None, spent=0.25),
    _ledger("killed", {"reserved": 1, "usd": 0.5}, says=None, spent=0.5),
    *(_ledger(f"reserved-{key}", {"reserved": 1, "usd": STRANGE[key]}) for key in ("nan", "inf", "below", "list")),
    *(
        _ledger(f"settled-{key}", {"reserved": 1, "usd": 1}, {"settled": 1, "usd": STRANGE[key], "assumed": False})
        for key in ("nan", "inf", "below", "list")
    ),
    _ledger("number-of-text", {"reserved": "x", "usd": 1}),
    _ledger("number-of-infinity", {"reserved": float("inf"), "usd": 1}),
    _ledger("list", []),
    _ledger("deep", "[" * 10**5),
    _ledger("settled-twice", {"reserved": 1, "usd": 1}, *[{"settled": 1, "usd": 1, "assumed": False}] * 2),
]
