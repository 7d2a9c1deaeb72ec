"""Files of votes, scores and prompts; the metrics and their standard errors."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from conftest import MODELS

from p2l_sdk import P2L
from p2l_sdk.errors import MissingExtraError, P2LError, TableError, UnknownModelError, VotesError
from p2l_sdk.evaluation import clustered_mean, evaluate_scores, evaluate_votes
from p2l_sdk.modeling.feedback_p2l import Winner
from p2l_sdk.tables.files import read_rows
from p2l_sdk.votes.prompts import read_prompts
from p2l_sdk.votes.votes import Scores, Votes

A, B, C, D = MODELS
ROWS = [
    {"prompt": "write a poem", "model_a": A, "model_b": B, "winner": "model_a"},
    {"prompt": "write a poem", "model_a": B, "model_b": C, "winner": "model_b"},
    {"prompt": "sum list", "model_a": C, "model_b": A, "winner": "tie"},
    {"prompt": "python code", "model_a": D, "model_b": A, "winner": "tie (bothbad)", "weight": 2.0},
]


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        import pandas

        pandas.DataFrame(rows).to_parquet(path)
    return path


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_all_kinds_of_files_read_alike(suffix, tmp_path):
    rows = [{"weight": 1.0, **row} for row in ROWS]
    votes = Votes.read(write(tmp_path / f"votes{suffix}", rows))
    assert votes.prompts == ["write a poem", "sum list", "python code"]
    assert votes.models == tuple(sorted(MODELS))
    assert [votes.models[i] for i in votes.a] == [A, B, C, D]
    assert [votes.models[i] for i in votes.b] == [B, C, A, A]
    assert votes.prompt.tolist() == [0, 0, 1, 2]
    assert votes.winner.tolist() == [Winner.A, Winner.B, Winner.TIE, Winner.BOTH_BAD]
    assert votes.weight.tolist() == [1, 1, 1, 2]


def test_prompts_may_be_turns_messages_or_conversations():
    turns = Votes.from_rows([{**ROWS[0], "prompt": ["write", "a poem"]}]).prompts
    assert turns == [[{"role": "user", "content": "write"}, {"role": "user", "content": "a poem"}]]
    messages = [{"role": "user", "content": "write"}, {"role": "assistant", "content": "no"}]
    row = {key: value for key, value in ROWS[0].items() if key != "prompt"}
    assert Votes.from_rows([{**row, "conversation_a": messages}] * 2).prompts == [messages]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"winner": "model_c"}, "row 2: winner is 'model_c'; legal values: model_a, model_b, tie, tie"),
        ({"winner": None}, "row 2: winner is missing"),
        ({"model_b": A}, "row 2: 'alpha-7b' is compared with itself"),
        ({"model_a": ""}, "row 2: model_a is missing"),
        ({"prompt": "  "}, "row 2: the prompt is empty"),
        ({"prompt": 7}, "row 2: the prompt is empty, or neither"),
        ({"weight": float("nan")}, "row 2: weight is missing"),
        ({"weight": -1}, "row 2: weight is -1"),
    ],
)
def test_a_row_that_breaks_the_contract_is_named(change, message):
    with pytest.raises(VotesError, match=message):
        Votes.from_rows([ROWS[0], {**ROWS[0], **change}])


def test_missing_columns_are_named():
    for column in ("prompt", "model_a", "winner"):
        row = {key: value for key, value in ROWS[0].items() if key != column}
        with pytest.raises(VotesError, match=f"row 1 has no column '{column}'"):
            Votes.from_rows([row])


def test_unknown_llms_are_named():
    with pytest.raises(UnknownModelError, match="the votes file names 'alpha-7b'"):
        Votes.from_rows(ROWS, ["beta-13b", "gamma-70b"])


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "votes.ods").touch()
    with pytest.raises(TableError, match=r"no known kind; .*; known: \.json, \.jsonl, \.ndjson, \.csv, \.tsv"):
        read_rows(tmp_path / "votes.ods")
    with pytest.raises(VotesError, match=r"^no such file: '.*votes.jsonl'; in its folder there is 'votes.ods'$"):
        Votes.read(tmp_path / "votes.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "x"\n')
    with pytest.raises(VotesError, match="line 1 is no JSON"):
        Votes.read(tmp_path / "bad.jsonl")
    (tmp_path / "list.jsonl").write_text("[1]\n")
    with pytest.raises(VotesError, match="line 1 is no JSON object"):
        Votes.read(tmp_path / "list.jsonl")
    (tmp_path / "short.csv").write_text("prompt,model_a,model_b,winner\nx,a\n")
    with pytest.raises(VotesError, match="fewer fields than the header"):
        Votes.read(tmp_path / "short.csv")
    for mark in (";", "\t"):
        header, row = mark.join(("prompt", "model_a", "model_b", "winner")), mark.join(("a, b", "A", "B", "tie"))
        (tmp_path / "excel.csv").write_text(f"{header}\n{row}\n")
        assert Votes.read(tmp_path / "excel.csv").prompts == ["a, b"]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(VotesError, match="no whole Parquet file"):
        Votes.read(tmp_path / "bad.parquet")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(VotesError, match="holds no votes"):
        Votes.read(tmp_path / "empty.jsonl")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r'pip install "p2l-sdk\[data\]"'):
        Votes.read(tmp_path / "bad.parquet")


def test_prompts_of_a_file(tmp_path, monkeypatch):
    (tmp_path / "p.txt").write_text("write a poem\n\n  \nsum list\r\n")
    assert list(read_prompts(tmp_path / "p.txt")) == ["write a poem", "sum list"]
    assert list(read_prompts(write(tmp_path / "p.csv", ROWS[:2]))) == ["write a poem"] * 2
    monkeypatch.setattr("sys.stdin", (tmp_path / "p.txt").open())
    assert list(read_prompts("-")) == ["write a poem", "sum list"]
    talks = [[{"role": "user", "content": text}] for text in ("write a poem", "sum list")]
    rows = write(tmp_path / "talks.jsonl", [{"conversation_a": talk} for talk in talks])
    monkeypatch.setattr("sys.stdin", rows.open())
    assert list(read_prompts("-")) == list(read_prompts(rows)) == talks


# --- metrics -----------------------------------------------------------------------------------------------------


def test_the_standard_error_is_clustered(rng):
    """Copies of a vote on one prompt add nothing; on prompts of their own they do."""
    values = rng.normal(size=50)
    alone = clustered_mean(values, np.ones(50), np.arange(50))
    assert alone.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(50))
    copied = clustered_mean(np.repeat(values, 4), np.ones(200), np.repeat(np.arange(50), 4))
    assert copied.value == pytest.approx(alone.value)
    assert copied.standard_error == pytest.approx(alone.standard_error)
    assert copied.n == 200
    assert clustered_mean(values, np.ones(50), np.zeros(50, int)).standard_error is None


def test_metrics_by_hand(saved):
    p2l = P2L.from_pretrained(saved("static"))
    votes = Votes.from_rows(ROWS, p2l.models)
    metrics = evaluate_votes(p2l, votes)
    boards = {prompt: p2l.leaderboard(prompt) for prompt in votes.prompts}
    first, second = boards["write a poem"].win_probability(A, B), boards["write a poem"].win_probability(C, B)
    assert metrics["bt_log_loss"].value == pytest.approx(-(math.log(first) + math.log(second)) / 2, rel=1e-5)
    assert metrics["bt_log_loss"].n == 2
    assert metrics["pair_accuracy"].value == ((first > 0.5) + (second > 0.5)) / 2
    losses = [
        -math.log(boards[row["prompt"]].outcomes(row["model_a"], row["model_b"])[key])
        for row, key in zip(ROWS, ("a", "b", "tie", "both_bad"), strict=True)
    ]
    assert metrics["cross_entropy"].value == pytest.approx(np.average(losses, weights=[1, 1, 1, 2]), rel=1e-5)


def test_bradley_terry_skips_ties_and_says_how_many_votes_are_left(saved):
    p2l = P2L.from_pretrained(saved("static", "bt"))
    metrics = evaluate_votes(p2l, Votes.from_rows(ROWS, p2l.models))
    assert metrics["cross_entropy"].n == metrics["bt_log_loss"].n == 2
    assert metrics["cross_entropy"].value == pytest.approx(metrics["bt_log_loss"].value)
    with pytest.raises(VotesError, match="nothing to average"):
        evaluate_votes(p2l, Votes.from_rows(ROWS[2:], p2l.models))


def test_routed_scores_by_hand(saved, tmp_path):
    p2l = P2L.from_pretrained(saved("static"))
    prompts = ["write a poem", "sum list", "python code"]
    table = np.arange(12.0).reshape(3, 4) % 5
    rows = [
        {"prompt": p, "task": "x", **dict(zip(MODELS, map(float, s), strict=True))}
        for p, s in zip(prompts, table, strict=True)
    ]
    metrics = evaluate_scores(p2l, Scores.read(write(tmp_path / "scores.jsonl", rows), p2l.models))
    routed = [table[i, MODELS.index(p2l.leaderboard(p).best)] for i, p in enumerate(prompts)]
    assert metrics["routed_score"].value == pytest.approx(np.mean(routed))
    assert metrics["oracle_score"].value == pytest.approx(table.max(1).mean())
    assert metrics["best_single_model"] == MODELS[int(table.mean(0).argmax())]
    assert metrics["gain_over_best_single"].value == pytest.approx(np.mean(routed) - table.mean(0).max())
    with pytest.raises(VotesError, match="no column 'delta-405b'"):
        Scores.read(write(tmp_path / "s.jsonl", [{k: v for k, v in rows[0].items() if k != D}]), p2l.models)
    with pytest.raises(VotesError, match="line 1: the score of 'beta-13b' is None"):
        Scores.read(write(tmp_path / "s.jsonl", [{**rows[0], B: None}]), p2l.models)


def test_routed_scores_are_of_the_models_own_llms(saved):
    """The columns stand where the coefficients do, also of a model whose LLMs are not sorted any more."""
    p2l = P2L.from_pretrained(saved("static")).rename_model(A, "zeta")
    rows = [{"prompt": "sum list", "zeta": 0.1, B: 0.2, C: 0.3, D: 0.4}]
    best = p2l.leaderboard("sum list").best
    assert evaluate_scores(p2l, Scores.read(rows, p2l.models))["routed_score"].value == rows[0][best]
    for scores in (Scores.read(rows), Scores.read(rows, p2l.models[:3])):
        with pytest.raises(P2LError, match=r"of other LLMs than the model; read them with Scores.read\(file, p2l.mo"):
            evaluate_scores(p2l, scores)
    nothing = Scores.read([{**rows[0], **dict.fromkeys(p2l.models)}], p2l.models, allow_missing=True)
    with pytest.raises(P2LError, match="there is no score to measure routing on; all of them are missing"):
        evaluate_scores(p2l, nothing)


def test_errors_share_one_root():
    for error in (VotesError, UnknownModelError, MissingExtraError):
        assert issubclass(error, P2LError)
