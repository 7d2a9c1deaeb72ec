"""The benchmarks set their threads themselves, before a library reads them."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

THREADED = ("add_model", "aggregation", "latency", "leave_one_task_out", "marginal", "mpg_coverage", "routing")


def settings(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import threads, os; print(*(os.environ[name] for name in threads._SETTINGS), threads.THREADS)"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT / "benchmarks", env={"OMP_NUM_THREADS": "7"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "threads"), [([], "1"), (["--rounds", "2", "--threads", "3"], "3"), (["--threads=2"], "2")]
)
def test_one_option_sets_the_threads_of_every_library(arguments, threads):
    assert settings(*arguments).stdout.split() == [threads] * 5


@pytest.mark.parametrize("threads", ["0", "-1", "many"])
def test_what_is_no_number_of_threads_is_refused(threads):
    assert f"not a number of threads: {threads}" in settings(f"--threads={threads}").stderr


@pytest.mark.parametrize("name", THREADED)
def test_threads_are_set_before_any_other_import(name):
    body = ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")).body
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [node.module for node in imports[:2] if isinstance(node, ast.ImportFrom)] == ["__future__", "threads"]
