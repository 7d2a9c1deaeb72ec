"""`p2l judge --grader`: scores where there is a right answer."""

from __future__ import annotations

import json

import numpy as np
from asked_llms import config_file, lines, write_answers
from click.testing import CliRunner
from mpg_results import refusal
from scripted_server import Script, ScriptedServer

from p2l_sdk import Scores
from p2l_sdk.cli import cli
from p2l_sdk.judging import grade
from p2l_sdk.judging.answers import read_answers
from p2l_sdk.mpg.measure.questions import read_questions

ROWS = [
    {
        "question_id": "1",
        "prompt": "Which city?",
        "answer": "Rome",
        "choices": ["Paris", "Rome"],
        "benchmark": "cities",
    },
    {"question_id": "2", "prompt": "What is 5 + 7?", "answer": "12", "benchmark": "sums"},
]


def test_questions_are_asked_with_their_choices_and_graded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def answer(body: dict) -> Script:
        prompt = body["messages"][-1]["content"]
        right = "The answer is B." if "A. Paris" in prompt else "12" if "5 + 7" in prompt else "?"
        return Script(text=right if body["model"] == "good" or "Paris" in prompt else "<think>12</think>13")

    run = CliRunner().invoke
    with ScriptedServer({"*": answer}) as server:
        config_file(tmp_path / "r.yaml", server, "good", "poor")
        command = ["collect", "--questions", "q.jsonl", "--config", "r.yaml", "--output", "a.jsonl"]
        run(cli, command, catch_exceptions=False)
    command = ["judge", "a.jsonl", "--grader", "choice", "--questions", "q.jsonl", "--output", "s.jsonl"]
    assert "question '2' has no choices" in refusal(run, cli, command, catch_exceptions=False, standalone_mode=False)
    assert not (tmp_path / "s.jsonl").exists()
    found = grade(read_answers("a.jsonl"), read_questions("q.jsonl"), "s.jsonl")
    assert found.means == {"good": 1.0, "poor": 0.5}
    scores = Scores.read("s.jsonl")
    assert scores.models == ("good", "poor")
    assert sorted(scores.scores.tolist()) == [[1.0, 0.0], [1.0, 1.0]]
    assert sorted(scores.categories["benchmark"]) == ["cities", "sums"]
    assert "'s.jsonl' exists" in refusal(grade, read_answers("a.jsonl"), read_questions("q.jsonl"), "s.jsonl")


def test_a_failed_query_is_missing_and_an_empty_answer_is_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    write_answers(tmp_path / "a.jsonl", {"What is 5 + 7?": {"a": "12", "b": None, "c": " "}, "another": {"a": "x"}})
    command = ["judge", "a.jsonl", "--grader", "exact", "--questions", "q.jsonl", "--output", "s.jsonl"]
    shown = CliRunner().invoke(cli, command, catch_exceptions=False).stdout.splitlines()
    assert shown == [
        "a: 100.0% of 1",
        "c: 0.0% of 1",
        "1 prompts are none of the questions, and have no score",
        "scores: s.jsonl",
    ]
    assert lines(tmp_path / "s.jsonl") == [
        {"prompt": "What is 5 + 7?", "benchmark": "sums", "a": 1.0, "b": None, "c": 0.0}
    ]
    assert np.isnan(Scores.read("s.jsonl", ["a", "b", "c"], allow_missing=True).scores).sum() == 1
    write_answers(tmp_path / "b.jsonl", {"another": {"a": "x"}})
    assert "none of the prompts is one of the questions" in refusal(
        grade, read_answers("b.jsonl"), read_questions("q.jsonl"), "t.jsonl"
    )
