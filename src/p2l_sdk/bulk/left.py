"""What a run left in its folder, looked at before it is believed: another program may have written to it, or a disk
have failed. A note that promised too many rows would leave some out in silence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from p2l_sdk.bulk.reading import FILE, ROW
from p2l_sdk.errors import P2LError

PROBE, _NEAR = "probe", 1e-3  # coefficients of one prompt, by which a model is recognised; in logits
NEW = "name another folder (--output)"
_MOST = 2**53
COUNTS = ("n_rows", "n_scored", "n_bad", "n_cut", "n_parts")
_SUMMARY = {*COUNTS, "first_bad", "mean_cost", "multiplier", "run"}


def again(note: Path) -> str:
    """The remedy where a part can be scored again: it is, without its note."""
    return f"delete {str(note)!r}, and give the same command again: that part is scored again"


def note_of(path: Path) -> dict[str, Any] | None:
    """The note on a part; None if there is none, or half of one.

    Raises:
        P2LError: the file holds something else.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if not content.strip(b"\0 \n").endswith(b"}"):  # the power went out before it was on the disk
        return None
    return _read(path, content, _is_note, "note on a finished part", again(path))


def run_of(path: Path) -> dict[str, Any]:
    """What a run computes that was stopped; P2LError if the file says nothing of it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise P2LError(f"{str(path)!r} cannot be read: {error.strerror or error}; {NEW}") from error
    return _read(path, content, _is_run, "description of a run", NEW)


def summary_of(path: Path) -> dict[str, Any] | None:
    """The summary of a finished run, with its `run`; None if there is no such file.

    Raises:
        P2LError: it cannot be read, or is no such summary.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise P2LError(f"{str(path)!r} cannot be read: {error.strerror or error}; {NEW}") from error
    return _read(path, content, _is_summary, "summary of a finished run", NEW)


def same_probe(old: Any, new: Any) -> bool:
    """Whether two runs' coefficients of one prompt are those of one model."""
    return len(old) == len(new) and all(abs(a - b) <= _NEAR for a, b in zip(old, new, strict=True))


def _read(path: Path, content: bytes, sound: Callable[[Any], bool], what: str, remedy: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not sound(found):
        raise P2LError(f"{str(path)!r} is no {what}; {remedy}")
    return found


def _is_note(found: Mapping[str, Any]) -> bool:
    errors = found.get("errors")
    return (
        _is_count(found.get("n_rows"))
        and _is_count(found.get("n_scored"))
        and _is_count(found.get("n_cut"))
        and found["n_cut"] <= found["n_scored"]
        and isinstance(errors, list)
        and found["n_rows"] == found["n_scored"] + len(errors)
        and all(map(_is_fault, errors))
        and "cost" in found
        and _is_number(found["cost"], none=True)
    )


def _is_fault(row: Any) -> bool:
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in (FILE, "error")):
        return False
    return _is_count(row.get(ROW)) and row[ROW] > 0


def _is_run(found: Mapping[str, Any]) -> bool:
    probe = found.get(PROBE)
    return isinstance(probe, list) and all(map(_is_number, probe))


def _is_summary(found: Mapping[str, Any]) -> bool:
    first = found.get("first_bad")
    return (
        set(found) == _SUMMARY
        and all(_is_count(found[name]) for name in COUNTS)
        and found["n_rows"] == found["n_scored"] + found["n_bad"]
        and found["n_cut"] <= found["n_scored"]
        and isinstance(first, list)
        and all(isinstance(line, str) for line in first)
        and all(_is_number(found[name], none=True) for name in ("mean_cost", "multiplier"))
        and isinstance(found["run"], dict)
        and _is_run(found["run"])
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MOST


def _is_number(value: Any, none: bool = False) -> bool:
    if value is None:
        return none
    return (type(value) is int and abs(value) <= _MOST) or (type(value) is float and math.isfinite(value))
