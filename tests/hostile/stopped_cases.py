"""Hostile folders of `p2l score`: of runs that were stopped, and of finished ones. No row may be skipped in silence."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bulk_prompts import digests, write_lines
from hostile import Case

from p2l_sdk.bulk import Columns, Settings, score_files

ROWS, PART = 54, 3
ALONE, JOINT = Settings(model="routing9", top=1), Settings(model="routing9", cost=0.0003, top=1)
_PLACE = tempfile.TemporaryDirectory()


class _StoppedError(Exception):
    pass


def _score(out: Path, settings: Settings, parts: int | None = None) -> Any:
    """A run over all rows, or one that is stopped when so many parts are done."""
    lines = Path(_PLACE.name, "log.jsonl")
    if not lines.exists():
        write_lines(lines, ROWS)
        with lines.open("a") as file:
            file.write('{"prompt": 7}\n')

    def progress(done: int, total: int | None) -> None:
        if parts is not None and done >= parts * PART:
            raise _StoppedError

    options = {"columns": Columns(), "part_rows": PART, "processes": 1}
    return score_files(lines, out, settings, **options, progress=progress)


@functools.cache
def _folder(kind: str) -> Path:
    out, joint = Path(_PLACE.name, kind), kind.startswith("joint")
    with contextlib.suppress(_StoppedError):
        _score(out, JOINT if joint else ALONE, None if kind == "whole" else 17)
    return out


def _case(name: str, kind: str, tamper: Callable[[Path], Any], says: str | None) -> Case:
    def run(place: Path) -> bool:
        out = Path(shutil.copytree(_folder(kind), place / "out"))
        tamper(out)
        found = _score(out, JOINT if kind == "joint" else ALONE)
        whole = digests(_folder("whole"))
        return found.n_rows == ROWS + 1 and (kind == "joint" or digests(out) == whole)

    return Case(f"stopped-{name}", run, says, None if says else bool)


def _put(file: str, content: Any) -> Callable[[Path], Any]:
    text = content if isinstance(content, str) else json.dumps(content)
    return lambda out: (out / file).write_text(text)


def _change(file: str, **cells: Any) -> Callable[[Path], Any]:
    """Change cells of a JSON file; those that are `...` are removed."""

    def change(out: Path) -> None:
        row = {**json.loads((out / file).read_text()), **cells}
        (out / file).write_text(json.dumps({name: value for name, value in row.items() if value is not ...}))

    return change


def _move(old: str, new: str, copy: bool = False) -> Callable[[Path], Any]:
    return lambda out: (shutil.copy if copy else shutil.move)(out / old, out / new)


NOTE, RUN, SUMMARY = ".checkpoints/part-00016.json", ".checkpoints/run.json", "summary.json"
MERGED, STATISTICS = ".checkpoints/merged-00016.safetensors", ".checkpoints/part-00016.safetensors"
NO_NOTE = r"part-00016.json' is no note on a finished part; delete .*same command again: that part is scored again"
NO_RUN, NO_SUMMARY = "run.json' is no description of a run; name", "summary.json' is no summary of a finished run; name"
NO_MERGED = r"merged-[^']*' does not hold the merged statistics of finished parts; name another folder"
FAULT = {"file": "log.jsonl", "row": 1, "error": "x"}
NOTES = {
    "n_rows": (..., 2, -3, 3.0, "3", True, None, 10**400),
    "n_scored": (..., 4, -1, "3", [3]),
    "n_cut": (..., 4, -1, "0"),
    "errors": (..., None, {}, [FAULT], "xxx"),
    "cost": (..., "1", float("nan"), [1], 10**400),
}
RUNS = {"probe": (..., "abcdefghi", ["a"] * 9, [[1]], 5, None, {}, [float("nan")] * 9)}
SUMMARIES: dict[str, tuple[Any, ...]] = {
    "n_rows": (..., "55", 56, -1, 55.0),
    "n_bad": (..., "1", 0),
    "n_cut": (..., 10**6, None),
    "n_parts": (..., None),
    "first_bad": (..., None, 5, "abc", [1], [["a"]]),
    "mean_cost": (..., "1", [1], float("inf")),
    "multiplier": (..., "1"),
    "run": (..., [], None, "x", {"probe": "x"}),
    "more": (1, None),
}


def _cells(file: str, kind: str, cells: dict[str, tuple[Any, ...]], says: str) -> list[Case]:
    return [
        _case(f"{Path(file).stem}-{name}-{i}", kind, _change(file, **{name: value}), says)
        for name, values in cells.items()
        for i, value in enumerate(values)
    ]


CASES = [
    _case("untouched", "alone", lambda out: None, None),
    _case("half-a-note", "alone", _put(NOTE, '{"n_rows": 3, "n_sc'), None),
    _case("empty-note", "alone", _put(NOTE, ""), None),
    _case("part-removed", "alone", lambda out: (out / "part-00016.parquet").unlink(), None),
    *_cells(NOTE, "alone", NOTES, NO_NOTE),
    *_cells(RUN, "alone", RUNS, NO_RUN),
    *_cells(SUMMARY, "whole", SUMMARIES, NO_SUMMARY),
    *(
        _case(f"note-of-{i}", "alone", _put(NOTE, text), NO_NOTE)
        for i, text in enumerate(("[]}", '{"a":' * 10**5 + "}"))
    ),
    _case("note-of-another-file", "alone", _change(NOTE, n_scored=2, errors=[FAULT]), "holds the statistics of other"),
    _case("run-of-list", "alone", _put(RUN, [1]), NO_RUN),
    _case("run-deep", "alone", _put(RUN, "[" * 10**5), NO_RUN),
    _case("run-without", "alone", lambda out: (out / RUN).unlink(), "run.json' cannot be read: No such file"),
    _case("run-files", "alone", _change(RUN, files=[5]), r"files was \[5\], and is 1 file"),
    _case("run-probe-moved", "alone", _change(RUN, probe=[0.0] * 9), "the weights of the model have changed"),
    _case("run-probe-short", "alone", _change(RUN, probe=[0.0]), "the weights of the model have changed"),
    _case("summary-of-list", "whole", _put(SUMMARY, [1]), NO_SUMMARY),
    _case("summary-deep", "whole", _put(SUMMARY, "[" * 10**5), NO_SUMMARY),
    _case("summary-of-nothing", "whole", _put(SUMMARY, ""), NO_SUMMARY),
    _case("merged-of-x", "alone", _move(MERGED, ".checkpoints/merged-x.safetensors"), NO_MERGED),
    _case("merged-and-x", "alone", _move(MERGED, ".checkpoints/merged-x.safetensors", True), NO_MERGED),
    *(
        _case(f"merged-of-{n}", "alone", _move(MERGED, f".checkpoints/merged-{n}.safetensors"), NO_MERGED)
        for n in ("00015", "00017", "00018", "00019", "99999", "-0016", "999999999", "٠٠٠١٦")
    ),
    _case("merged-damaged", "alone", _put(MERGED, "x" * 99), "cannot be read as saved statistics.*name another folder"),
    _case("merged-removed", "alone", lambda out: (out / MERGED).unlink(), "part-00000.safetensors' cannot be read"),
    _case("statistics-damaged", "alone", _put(STATISTICS, "x" * 99), "saved statistics of prompts.*scored again"),
    _case("statistics-of-all", "alone", _move(MERGED, STATISTICS, True), "statistics of other prompts; delete"),
    _case("joint", "joint", lambda out: None, None),
    _case("joint-price-of-list", "joint", _put(".checkpoints/price.json", [1]), "is no price of a joint budget"),
    _case(
        "joint-price-short",
        "joint",
        _put(".checkpoints/price.json", {"budget": 1, "rate": None, "multiplier": 0, "left": [0.0]}),
        "is no price of a joint budget",
    ),
    _case(
        "joint-scored-damaged",
        "joint",
        _put(".checkpoints/scored-00002.parquet", "PAR1"),
        "scored-00002.parquet' cannot be read.*part-00002.json', and give the same command again",
    ),
]
