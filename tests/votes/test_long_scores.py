"""Scores with a row for each prompt and LLM, among them what `p2l mpg measure` wrote; several files by a pattern."""

from __future__ import annotations

import json

import numpy as np
import pandas
import pytest
from click.testing import CliRunner
from mpg_results import refusal
from scripted_server import Script, ScriptedServer
from vote_tables import SCORES, as_csv, seen

from p2l_sdk.cli import cli
from p2l_sdk.errors import ScoresError, VotesError
from p2l_sdk.mpg.measure.endpoint import Endpoint
from p2l_sdk.mpg.measure.questions import Question
from p2l_sdk.mpg.measure.run import measure
from p2l_sdk.votes.votes import Scores, Votes

NAMES = [name for name in SCORES[0] if name not in ("prompt", "task")]
LONG = [
    {"prompt": row["prompt"], "model": name, "score": row[name], "task": row["task"], "note": f"{name} {row['prompt']}"}
    for name in NAMES
    for row in SCORES
]


def test_a_long_table_is_the_wide_one(tmp_path):
    wide = Scores.read(SCORES)
    for source in (LONG, as_csv(LONG, tmp_path / "s.csv"), pandas.DataFrame(LONG)):
        scores = Scores.read(source)
        assert scores.models == wide.models
        assert scores.prompts == wide.prompts
        assert np.array_equal(scores.scores, wide.scores)
        assert {name: list(labels) for name, labels in scores.categories.items()} == {
            name: list(labels) for name, labels in wide.categories.items()
        }
        assert seen(Votes.read(source)) == seen(Votes.read(SCORES))
    assert Scores.read(LONG, NAMES[::-1]).models == tuple(NAMES[::-1])


def test_what_is_missing_or_there_twice():
    holes = [{**LONG[0], "score": None}, *LONG[1:-1]]
    scores = Scores.read(holes, allow_missing=True)
    assert np.isnan(scores.scores).sum() == 2
    assert f"the score of {NAMES[0]!r} is None" in refusal(Scores.read, holes)
    assert f"no column {'nobody'!r}" in refusal(Scores.read, LONG, ["nobody"])
    assert "row 1 and row 7 both have a score of" in refusal(Scores.read, [*LONG, LONG[0]])
    assert (
        len(Scores.read([{**LONG[0], "score": None}, *LONG], allow_missing=True).prompts) == 2
    )  # failed, then asked again
    assert "row 2: model is missing" in refusal(Scores.read, [LONG[0], {**LONG[1], "model": ""}])
    assert "row 1: the score of" in refusal(Scores.read, [{**LONG[0], "score": "good"}, *LONG[1:]])
    with pytest.raises(ScoresError, match="row 2: the prompt is empty"):
        Scores.read([LONG[0], {**LONG[1], "prompt": " "}])
    wide = Scores.read([{"prompt": "x", "model": 0.5, "score": 1.0}])  # LLMs with these names
    assert wide.models == ("model", "score")


def test_train_takes_what_measure_wrote(tmp_path, monkeypatch):
    """One file per LLM, by a pattern, or all in one file; a failed query is a missing score."""
    monkeypatch.chdir(tmp_path)
    kinds = {"poem": "verse", "sum": "12"}
    questions = [
        Question(f"{kind}{i}", f"{kind} number {i}", (kinds[kind],), kind) for kind in kinds for i in range(12)
    ]
    good = {"poet": "poem", "adder": "sum"}

    def answer(body: dict) -> Script:
        kind = body["messages"][-1]["content"].split()[0]
        if body["messages"][-1]["content"] == "sum number 3" and body["model"] == "poet":
            return Script(status=500)
        if body["messages"][-1]["content"] == "poem number 5":
            return Script(text="nobody can")
        return Script(text=kinds[kind] if good.get(body["model"], kind) == kind else "no idea")

    with ScriptedServer({"*": answer}) as server:
        for name in (*good, "both"):
            there = Endpoint(base_url=server.base_url, model=name)
            measure(there, questions, f"answers-{name}.jsonl", warm_up=0, replicates=100)
    scores = Scores.read("answers-*.jsonl", allow_missing=True)
    assert scores.models == ("adder", "both", "poet")
    assert np.isnan(scores.scores).sum() == 1
    assert set(scores.categories) == {"benchmark"}
    assert scores.scores[:, 1].sum() == 23
    files = [f"answers-{name}.jsonl" for name in ("adder", "both", "poet")]
    (tmp_path / "all.jsonl").write_text("".join((tmp_path / file).read_text() for file in files))
    assert np.array_equal(Scores.read("all.jsonl", allow_missing=True).scores, scores.scores, equal_nan=True)
    assert len(Votes.read("all.jsonl")) == len(Votes.read("answers-*.jsonl")) == 24 * 3 - 2
    train = ["train", "--votes", "answers-*.jsonl", "--output", "mine", "--quiet", "--keep", "1", "--epochs", "20"]
    run = CliRunner().invoke
    run(cli, train, catch_exceptions=False)
    for prompt, worst in (("poem number 99", "adder"), ("sum number 99", "poet")):
        shown = run(cli, ["leaderboard", prompt, "--model", "mine", "--json"], catch_exceptions=False).stdout
        assert json.loads(shown)["leaderboard"][-1]["model"] == worst


def test_an_old_file_without_prompts_is_refused_with_the_remedy_which_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = [
        {"model": model, "benchmark": "b", "question_id": str(i), "score": float(i % 2 == right), "answer": f"{i % 2}"}
        for right, model in enumerate("xy")
        for i in range(4)
    ]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    text = refusal(Votes.read, "old.jsonl")
    assert text.startswith(
        "'old.jsonl': line 1 has a model and a score, but no prompt (the table has: model, benchmark,"
    )
    assert text.endswith(
        "measure again (`p2l mpg measure` writes the prompt now), or make scores of these answers: p2l judge FILE "
        "--grader exact --questions QUESTIONS --output scores.jsonl"
    )
    asked = [{"question_id": str(i), "prompt": f"what is {i}?", "answer": "1", "benchmark": "b"} for i in range(4)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    command = ["judge", "old.jsonl", "--grader", "exact", "--questions", "q.jsonl", "--output", "scores.jsonl"]
    CliRunner().invoke(cli, command, catch_exceptions=False)
    scores = Scores.read("scores.jsonl")
    assert scores.prompts == [f"what is {i}?" for i in range(4)]
    assert scores.scores.tolist() == [[0.0, 0.0], [1.0, 1.0]] * 2


def test_files_by_a_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vote = {"prompt": "x", "model_a": "a", "model_b": "b", "winner": "tie"}
    for i in range(3):
        (tmp_path / f"v{i}.jsonl").write_text(json.dumps({**vote, "prompt": f"x {i}"}) + "\n")
    assert Votes.read("v?.jsonl").prompts == ["x 0", "x 1", "x 2"]
    assert Votes.read(tmp_path / "v*.jsonl").prompts == ["x 0", "x 1", "x 2"]
    with pytest.raises(VotesError, match=r"no file is named like 'w\*\.jsonl'"):
        Votes.read("w*.jsonl")
    (tmp_path / "v3.csv").write_text("prompt,model_a,model_b,winner\nx,a,b,tie\n")
    with pytest.raises(VotesError, match="CSV files and others"):
        Votes.read("v*")


def test_answers_that_nobody_judged_are_no_votes():
    rows = [{"prompt": "x", "model": "a", "answer": "y", "cost": 0.1}]
    with pytest.raises(VotesError, match="these are answers, as p2l collect writes them, not votes; let p2l judge"):
        Votes.read(rows)
