"""The summary of votes: its figures, the loss to beat, and its table in the terminal."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from conftest import MODELS, shared
from vote_tables import ROWS

from p2l_sdk import P2L
from p2l_sdk.cli.training_tables import print_vote_summary
from p2l_sdk.errors import VotesError
from p2l_sdk.evaluation import evaluate_votes
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.counts import VoteCounts
from p2l_sdk.votes.summary import summarise
from p2l_sdk.votes.votes import Votes


class SameForAll:
    """A scorer that gives every prompt the same leaderboard."""

    def __init__(self, spec, board) -> None:
        self.spec, self._board = spec, board

    def score(self, prompts):
        n = len(prompts)
        eta, gamma = (None if x is None else np.full((n, 1), x) for x in (self._board.eta, self._board.gamma))
        return Coefficients(np.tile(self._board.coefs, (n, 1)), eta, gamma)


def random_votes(rng, n=400):
    sides = [rng.choice(4, 2, replace=False) for _ in range(n)]
    words = [["model_a", "model_b", "tie", "tie (bothbad)"][k] for k in rng.integers(0, 4, n)]
    rows = [
        {"prompt": f"p{k % 37}", "model_a": MODELS[a], "model_b": MODELS[b], "winner": w, "weight": 0.5 + k % 3}
        for k, ((a, b), w) in enumerate(zip(sides, words, strict=True))
    ]
    return Votes.read(rows, MODELS), rows


@pytest.mark.parametrize("feedback", ["bt", "bt_tie", "rk", "rk_reparam", "grk", "ba"])
def test_the_loss_to_beat_is_that_of_the_averaged_leaderboard_vote_by_vote(feedback, saved, rng):
    votes, _ = random_votes(rng)
    summary = summarise(votes, feedback)
    board = fit_leaderboard(votes, feedback, intervals=None)
    plain = P2L(SameForAll(P2L.from_pretrained(saved("static", feedback)).spec, board))
    metrics = evaluate_votes(plain, votes)
    assert summary.marginal_cross_entropy == pytest.approx(metrics["cross_entropy"].value, rel=1e-12)
    bt = fit_leaderboard(votes, "bt", intervals=None)  # the least log-loss of one leaderboard on decisive votes
    of_bt = evaluate_votes(P2L(SameForAll(P2L.from_pretrained(saved("static", "bt")).spec, bt)), votes)
    assert summary.marginal_bt_log_loss == pytest.approx(of_bt["bt_log_loss"].value, rel=1e-12)
    assert summary.marginal_bt_log_loss <= metrics["bt_log_loss"].value + 1e-12


def test_a_summary_counts_by_hand(rng):
    votes, rows = random_votes(rng)
    summary = summarise(votes, "grk")
    assert (summary.n_votes, summary.n_prompts) == (400, 37)
    assert summary.mean_votes_per_prompt == pytest.approx(400 / 37)
    assert summary.max_votes_per_prompt == 11
    assert summary.total_weight == pytest.approx(sum(row["weight"] for row in rows))
    assert summary.n_duplicates == votes.n_duplicates > 0
    assert summary.undetermined is None
    for name, share in summary.outcomes.items():
        assert share == sum(row["winner"] == name for row in rows) / 400
    for model in summary.models:
        won = [row for row in rows if row.get(row["winner"]) == model.model]
        met = [row for row in rows if model.model in (row["model_a"], row["model_b"])]
        assert model.n_votes == len(met)
        assert model.wins == len(won)
        assert model.ties == sum(row["winner"] == "tie" for row in met)
        assert model.both_bad == sum(row["winner"] == "tie (bothbad)" for row in met)
        assert model.wins + model.losses + model.ties + model.both_bad == model.n_votes
    shares = [model.wins / model.n_votes for model in summary.models]
    assert shares == sorted(shares, reverse=True)
    again = json.loads(json.dumps(summary.to_dict()))
    assert again == summary.to_dict()
    assert again["models"][0]["model"] == summary.models[0].model


def test_a_summary_counts_the_votes_once(rng, monkeypatch):
    votes, _ = random_votes(rng)
    of, counted = VoteCounts.of, []
    monkeypatch.setattr(VoteCounts, "of", lambda source: counted.append(source) or of(source))
    summarise(votes, "grk")
    assert [source for source in counted if isinstance(source, Votes)] == [votes]


def test_a_summary_says_what_is_amiss():
    summary = summarise(Votes.read([ROWS[0]]), "bt")  # without a warning: under pytest, our warnings are errors
    assert "do not determine the coefficients of all LLMs" in summary.undetermined
    assert summary.total_weight is None
    ties = summarise(Votes.read([{**row, "winner": "tie"} for row in ROWS]), "rk")
    assert ties.marginal_bt_log_loss is None
    with pytest.raises(VotesError, match="no vote counts"):
        summarise(Votes.read([{**row, "winner": "tie"} for row in ROWS]), "bt")


def test_a_summary_of_the_real_votes():
    votes = Votes.read(shared("data/routing9/votes_val.parquet"))
    summary = summarise(votes, "grk")
    shares = {"model_a": 0.176, "model_b": 0.173, "tie": 0.258, "tie (bothbad)": 0.394}  # as stated in its README
    assert summary.outcomes == pytest.approx(shares, abs=6e-4)
    assert (summary.n_votes, summary.n_prompts, summary.max_votes_per_prompt) == (16_200, 450, 36)
    assert summary.models[0].model == "llama-3.1-nemotron-51b-instruct"
    assert summary.marginal_cross_entropy < 1.2016 < 1.3252  # fitted on these votes; the README's is fitted on train


def printed(summary, monkeypatch, width, encoding="utf-8"):
    buffer = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys, "stdout", buffer)
    print_vote_summary(summary, "votes[b].jsonl")
    buffer.flush()
    monkeypatch.undo()
    return buffer.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_table_fits(width, encoding, monkeypatch, rng):
    votes, _ = random_votes(rng)
    text = printed(summarise(votes, "grk"), monkeypatch, width, encoding)
    lines = text.splitlines()
    assert lines[0].rstrip() == "votes[b].jsonl"
    assert all(len(line) <= width for line in lines)
    words = " ".join(text.split())
    assert "400 on 37 prompts" in words
    assert f"{votes.n_duplicates} repeat an earlier vote" in words
    assert "to beat the averaged leaderboard: cross-entropy" in words
    assert all(name in text for name in MODELS)
    assert ("█" in text) == (width >= 80 and encoding == "utf-8")
    alone = printed(summarise(Votes.read([ROWS[0]]), "bt"), monkeypatch, width, encoding)
    assert "Note: the votes do not determine the coefficients" in " ".join(alone.split())
    assert "1 on 1 prompt, 1 each" in alone
    assert "duplicates" not in alone


def test_many_llms_are_cut(monkeypatch):
    rows = [{"prompt": "x", "model_a": f"m{i}", "model_b": f"m{i + 1}", "winner": "tie"} for i in range(40)]
    text = printed(summarise(Votes.read(rows), "rk"), monkeypatch, 80)
    assert "and 21 more LLMs" in text
