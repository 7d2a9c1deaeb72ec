"""The six files of docs/your-file.md: each gives the numbers that its three rows say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT
from forks import python

from p2l_sdk.modeling.feedback_p2l import Winner
from p2l_sdk.mpg.harness import read_harness
from p2l_sdk.mpg.results import Results
from p2l_sdk.tables.columns import turns_of
from p2l_sdk.votes.votes import Votes

PAGE = (ROOT / "docs" / "your-file.md").read_text(encoding="utf-8")
NAMED = re.compile(r"^`(\S+)`\n\n```\w+\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
A, B, TIE, BAD = Winner
SEA, SUM, PRODUCT = "Write a haiku about the sea", "Sum a list in Python", "What is 17 * 23?"


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in NAMED.findall(PAGE):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("arena.jsonl", {}, [
            ((SEA,), "gpt-4o-mini", "claude-3-5-haiku", A),
            ((SUM,), "llama-3.1-8b", "gpt-4o-mini", BAD),
            ((PRODUCT,), "claude-3-5-haiku", "llama-3.1-8b", TIE),
        ]),
        ("lmsys.csv", {}, [
            ((SEA, "Now one about rain"), "gpt-4-1106-preview", "koala-13b", A),
            ((SUM,), "koala-13b", "vicuna-13b", B),
            ((PRODUCT,), "vicuna-13b", "gpt-4-1106-preview", TIE),
        ]),
        ("mt_bench.jsonl", {}, [
            ((SEA,), "gpt-4", "vicuna-13b", A),
            (("You overtake the second runner: what is your place?",), "vicuna-13b", "llama-13b", TIE),
            ((PRODUCT,), "llama-13b", "gpt-4", B),
        ]),
        ("sheet.csv", {"columns": {"winner": "Which is better?"}, "skip_invalid": True}, [
            ((SEA,), "GPT-4o-mini", "Claude 3.5 Haiku", A),
            ((SUM,), "Claude 3.5 Haiku", "Llama 3.1 8B", B),
            ((PRODUCT,), "Llama 3.1 8B", "GPT-4o-mini", TIE),
        ]),
    ],
)  # fmt: skip
def test_votes(name, options, expected):
    votes = Votes.read(name, **options)
    read = [
        (turns_of(votes.prompts[p]), votes.models[a], votes.models[b], w)
        for p, a, b, w in zip(votes.prompt, votes.a, votes.b, votes.winner, strict=True)
    ]
    assert read == expected
    assert votes.weight.tolist() == [1.0, 1.0, 1.0]
    if name == "mt_bench.jsonl":
        assert votes.categories["judge"].tolist() == ["expert_1", "expert_2", "expert_1"]
    if name == "sheet.csv":
        assert votes.findings.skipped.first == ("line 5: model_a is missing",)


def test_results():
    bench = Results.read("bench.csv")
    assert bench.models == ("gpt-4o-mini", "claude-3-5-haiku", "llama-3.1-8b")
    assert bench.benchmarks == ("math", "code", "writing")
    assert bench.means.tolist() == [[0.70, 0.87, 0.80], [0.69, 0.88, 0.82], [0.52, 0.73, 0.61]]
    harness = read_harness("lm_eval")
    means = dict(zip(harness.models, harness.means[:, 0].tolist(), strict=True))
    assert means == {"gpt-4o-mini": pytest.approx(2 / 3), "llama-3.1-8b": pytest.approx(1 / 3)}
    assert harness.benchmarks == ("gsm8k",)


def test_the_first_command_on_the_spreadsheet_prints_what_the_page_says():
    (command,) = re.findall(r"^```bash\np2l (.*)\n```", PAGE, re.MULTILINE)
    (shown,) = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    result = python("-m", "p2l_sdk", *shlex.split(command), text=True)
    assert result.returncode == 2
    assert result.stderr == shown
    (options,) = re.findall(r"add: (--.*) \(in Python", shown)
    assert f"p2l {command} {options}\n" in PAGE
