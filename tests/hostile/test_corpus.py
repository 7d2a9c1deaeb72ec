"""The hostile corpus: each case ends in the right answer or a P2LError, within 10 s and 1 GB.

A file `*_cases.py` beside this one has a list `CASES`; `tests/support/hostile.py` says what a case is.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile import Case, cases_of, outcomes

FILES = sorted(Path(__file__).parent.glob("*_cases.py"))


def _faults(file: Path, wanted: list[Case]) -> str:
    ended = list(outcomes(file, [case.name for case in wanted]))
    assert sorted(outcome["name"] for outcome in ended) == sorted(case.name for case in wanted)
    return "\n".join(f"{outcome['name']}: {outcome['fault']}" for outcome in ended if outcome["fault"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_quick_cases(file: Path) -> None:
    faults = _faults(file, [case for case in cases_of(file) if case.quick])
    assert not faults, faults


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_slow_cases(file: Path) -> None:
    faults = _faults(file, [case for case in cases_of(file) if not case.quick])
    assert not faults, faults
