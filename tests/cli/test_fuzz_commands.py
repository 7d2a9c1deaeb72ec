"""Every option and argument of every command, with hostile values: what a user gives never ends in a traceback."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import ROOT

SUPPORT = ROOT / "tests" / "support"


def faults(seed: int, calls: int, seconds: float) -> list[str]:
    """How calls end that should not end so; they run in a process of their own, with time and memory of their own."""
    argv = [sys.executable, str(SUPPORT / "fuzz_commands.py"), str(seed), str(calls), str(seconds)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=seconds * 3 + 120)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, done.stderr[-3000:]
    assert lines, done.stderr[-3000:]
    summary = lines.pop()
    assert summary["calls"] > 0
    assert summary["parameters"] > 300  # the tree was found
    return [f"p2l {line['call']}\n{line['fault']}\n{line['says']}" for line in lines]


@pytest.mark.long
def test_some_calls():
    found = faults(seed=1, calls=400, seconds=12)
    assert not found, "\n\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_calls(seed):
    found = faults(seed, calls=2500, seconds=400)
    assert not found, "\n\n".join(found)


def test_a_bug_says_how_to_report_it(monkeypatch, capsys):
    from p2l_sdk.cli import run

    def bug() -> None:
        {}["nothing"]

    monkeypatch.delenv("P2L_DEBUG", raising=False)
    assert run(bug) == 70
    said = capsys.readouterr().err
    assert said.startswith("p2l: this is a bug of p2l-sdk, no fault of yours: KeyError: 'nothing'\n  please report it")
    assert "test_fuzz_commands.py" in said
    assert "Traceback" not in said
    monkeypatch.setenv("P2L_DEBUG", "1")
    assert run(bug) == 70
    assert "Traceback" in capsys.readouterr().err


def test_what_the_system_refuses_is_not_always_the_output(capsys):
    from p2l_sdk.cli import run

    assert run(lambda: open("/nonexistent/file")) == 2  # noqa: SIM115
    assert capsys.readouterr().err == "p2l: '/nonexistent/file': No such file or directory\n"
