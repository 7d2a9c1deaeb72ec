"""The hostile corpus: each case ends in the right answer or a P2LError, within 10 s of the processor and 1 GB.

A file `*_cases.py` beside this one has a list `CASES`; `tests/support/hostile.py` says what a case is.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile import cases_of, outcomes
from thorough import thorough

FILES = sorted(Path(__file__).parent.glob("*_cases.py"))


def _ids(files: list[Path], quick: bool) -> list[str]:
    return [f"{file}::{case.name}" for file in files for case in cases_of(file) if case.quick == quick]


def _faults(ids: list[str]) -> str:
    ended = list(outcomes(ids))
    assert sorted(outcome["name"] for outcome in ended) == sorted(ids)
    return "\n".join(f"{outcome['name']}: {outcome['fault']}" for outcome in ended if outcome["fault"])


@pytest.mark.long
@pytest.mark.parametrize("part", [0, *thorough(1, 2)])
def test_quick_cases(part: int) -> None:
    """Every third, in one process, as most of their time would go into starting one for each file."""
    faults = _faults(_ids(FILES, quick=True)[part::3])
    assert not faults, faults


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_slow_cases(file: Path) -> None:
    faults = _faults(_ids([file], quick=False))
    assert not faults, faults
