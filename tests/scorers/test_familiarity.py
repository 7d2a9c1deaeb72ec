"""Familiarity: the formulas in numpy and torch, what a trained model knows, and that edits and copies keep it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from p2l_sdk import P2L, Votes
from p2l_sdk.cli.leaderboard_tables import print_leaderboard
from p2l_sdk.errors import ModelFormatError
from p2l_sdk.hub.folders import STATIC_MODEL
from p2l_sdk.modeling.familiarity_p2l import SHARES, damping, distances, familiarity
from p2l_sdk.scorers.familiarity import learned_familiarity
from p2l_sdk.serve.engine.rows import from_rows, to_rows
from p2l_sdk.training.static import StaticRecipe, train_static, write_static
from p2l_sdk.training.token_table import table_of

LLMS = ("good at sums", "good at words", "weak")
CHINESE = "请用中文解释量子力学的基本原理并举例说明"


def questions(n: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    fruits, verbs = ["apples", "pears", "plums", "cherries"], ["buys", "eats", "sells", "counts"]
    return [
        f"Anna {verbs[i % 4]} {random.integers(10_000)} {fruits[random.integers(4)]}. How many are left?"
        if i % 2
        else f"Write a {['poem', 'letter', 'story'][random.integers(3)]} about {fruits[i % 4]}, number {i}."
        for i in range(n)
    ]


def votes() -> Votes:
    """Votes that mostly follow the kind of question, with enough others to determine every coefficient."""
    random, rows = np.random.default_rng(1), []
    for i, prompt in enumerate(questions(240, 0)):
        best, other = (LLMS[0], LLMS[1]) if i % 2 else (LLMS[1], LLMS[0])
        for a, b in ((best, other), (best, LLMS[2]), (other, LLMS[2])):
            winner = random.choice(["model_a", "model_b", "tie", "tie (bothbad)"], p=[0.6, 0.1, 0.1, 0.2])
            rows.append({"prompt": prompt, "model_a": a, "model_b": b, "winner": winner})
    return Votes.from_rows(rows, LLMS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place, table = tmp_path_factory.mktemp("familiar"), table_of(STATIC_MODEL)
    recipe = StaticRecipe(hidden_size=32, steps=30, warmup_steps=3)
    write_static(train_static(votes(), table, recipe), table.tokenizer, place)
    return place


@pytest.fixture(scope="module")
def p2l(folder) -> P2L:
    return P2L.from_pretrained(folder)


def test_the_share_of_prompts_at_least_as_far_away():
    known = learned_familiarity(np.random.default_rng(0).normal(size=(2000, 12)), np.zeros(3))
    assert known is not None
    fresh = np.random.default_rng(1).normal(size=(4000, 12)).astype(np.float32)
    shares = familiarity(
        distances(fresh, *(known[k] for k in ("centre", "directions", "precision"))), known["quantiles"]
    )
    found = np.quantile(shares, [0.02, 0.1, 0.25, 0.5, 0.75, 0.9])
    np.testing.assert_allclose(found, [0.02, 0.1, 0.25, 0.5, 0.75, 0.9], atol=0.03)


def test_distances_are_those_of_the_covariance_of_the_prompts():
    """With every direction but one among the leading ones, this is Mahalanobis' distance."""
    vectors = np.random.default_rng(2).normal(size=(400, 5)) @ np.diag([5.0, 4.0, 3.0, 2.0, 1.0])
    known = learned_familiarity(vectors, np.zeros(1))
    assert known is not None
    found = distances(vectors, *(known[k].astype(np.float64) for k in ("centre", "directions", "precision")))
    away = vectors - vectors.mean(0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", away, np.linalg.inv(np.cov(vectors.T)), away))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_entries_that_do_not_count_change_nothing():
    random = np.random.default_rng(2)
    vectors = random.normal(size=(400, 5)) @ np.diag([5.0, 4.0, 3.0, 2.0, 1.0])
    alone = learned_familiarity(vectors, np.zeros(1))
    beside = learned_familiarity(np.hstack([vectors, random.normal(size=(400, 3)) * 50.0]), np.zeros(1), uncounted=3)
    assert alone is not None
    assert beside is not None
    np.testing.assert_array_equal(beside["quantiles"], alone["quantiles"])
    far = np.hstack([vectors, random.normal(size=(400, 3)) * 1e3])
    found, expected = (
        distances(x, *(known[k] for k in ("centre", "directions", "precision")))
        for x, known in ((far, beside), (vectors, alone))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_torch_and_numpy_agree_and_familiarity_falls_with_the_distance():
    quantiles = np.sort(np.random.default_rng(3).uniform(1.0, 9.0, len(SHARES))).astype(np.float32)
    away = np.concatenate([np.linspace(0.0, 30.0, 400), [1e6]]).astype(np.float32)
    found = familiarity(away, quantiles)
    np.testing.assert_allclose(familiarity(torch.from_numpy(away), torch.from_numpy(quantiles)), found, rtol=2e-4)
    np.testing.assert_allclose(familiarity(quantiles, quantiles), SHARES, rtol=1e-4)
    assert (np.diff(found) <= 1e-7).all()
    assert found.min() >= 0.0
    assert found.max() == 1.0
    assert damping(found).min() < 1e-3
    assert damping(np.float32(0.005)) == 1.0


def test_few_or_equal_prompts_say_nothing():
    assert learned_familiarity(np.random.default_rng(0).normal(size=(19, 4)), np.zeros(2)) is None
    assert learned_familiarity(np.ones((50, 4)), np.zeros(2)) is None


@pytest.mark.long
def test_prompts_like_those_in_training_are_familiar_and_others_are_not(p2l):
    like = p2l.coefficients(questions(200, 9))
    assert 0.3 < np.median(like.familiarity) < 0.7
    assert 0.6 < (like.familiarity > 0.25).mean() < 0.9
    unlike = p2l.leaderboard(CHINESE)
    assert unlike.familiarity is not None
    assert unlike.familiarity < 1e-3
    average = p2l._scorer.rows[:, -1]
    departures = np.abs(like.coefs - average).mean()
    assert np.abs(unlike.coefs - average).mean() < 0.5 * departures


def test_the_bias_is_the_mean_leaderboard_of_the_training_prompts(p2l):
    known = p2l.coefficients(questions(240, 0))
    kept = damping(known.familiarity)[:, None]
    undamped = p2l._scorer.rows[:, -1] + (known.coefs - p2l._scorer.rows[:, -1]) / kept
    np.testing.assert_allclose(undamped.mean(0), p2l._scorer.rows[:, -1], atol=0.02)


def test_numpy_and_torch_agree(folder, p2l):
    prompts = [*questions(20, 4), CHINESE, "x"]
    here, there = p2l.coefficients(prompts), P2L.from_pretrained(folder, device="cpu").coefficients(prompts)
    for name in ("coefs", "eta", "familiarity"):
        np.testing.assert_allclose(getattr(there, name), getattr(here, name), atol=2e-5)


def test_edits_and_copies_keep_it(p2l, tmp_path):
    prompts = [*questions(12, 5), CHINESE]
    rows = [
        {"prompt": prompt, "model_a": "new", "model_b": LLMS[i % 3], "winner": ("model_a", "model_b")[i % 2]}
        for i, prompt in enumerate(questions(120, 6))
    ]
    edited = p2l.add_model("new", Votes.from_rows(rows)).remove_model(LLMS[2])
    edited.save_pretrained(tmp_path / "m")
    loaded = P2L.from_pretrained(tmp_path / "m").coefficients(prompts)
    before, after = p2l.coefficients(prompts), edited.coefficients(prompts)
    np.testing.assert_array_equal(after.familiarity, before.familiarity)
    np.testing.assert_array_equal(loaded.familiarity, before.familiarity)
    np.testing.assert_allclose(after.coefs[:, :2], before.coefs[:, :2], atol=1e-5)
    np.testing.assert_allclose(loaded.coefs, after.coefs, atol=1e-5)


def test_an_older_model_does_not_know(routing9):
    if routing9.spec.familiarity:
        pytest.skip("the embedded model knows its prompts")
    assert routing9.leaderboard("Hello").familiarity is None
    assert "familiarity" not in routing9.leaderboard("Hello").to_dict()


def test_a_table_and_a_route_say_so(p2l, capsys):
    board, usual = p2l.leaderboard(CHINESE), p2l.leaderboard(questions(1, 0)[0])
    line = "unlike the prompts that this model learned from (familiarity"
    print_leaderboard(board, {})
    assert line in " ".join(capsys.readouterr().out.split())
    assert line in repr(board)
    assert line in repr(p2l.route(CHINESE))
    assert line not in repr(usual)
    assert board.to_dict()["familiarity"] == board.familiarity
    json.dumps(board.to_dict())


def test_a_set_of_prompts_has_the_mean(p2l):
    prompts = questions(30, 7)
    found, each = p2l.aggregate(prompts).familiarity, p2l.coefficients(prompts).familiarity
    np.testing.assert_allclose(found, each.mean(), rtol=1e-5)
    weighted = p2l.aggregate(prompts, weights=[1.0] + [0.0] * 29).familiarity
    np.testing.assert_allclose(weighted, each[0], rtol=1e-5)


def test_rows_of_the_server_hold_it(p2l):
    scored = p2l.coefficients(questions(5, 8))
    again = from_rows(to_rows(scored), p2l.spec)
    for name in ("coefs", "eta", "familiarity"):
        np.testing.assert_array_equal(getattr(again, name), getattr(scored, name))


def test_weights_that_lack_it_are_refused(folder, tmp_path):
    from safetensors.numpy import load_file, save_file

    broken = tmp_path / "broken"
    P2L.from_pretrained(folder).save_pretrained(broken)
    tensors = load_file(broken / "model.safetensors")
    tensors.pop("head.familiarity.quantiles")
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelFormatError, match="quantiles"):
        P2L.from_pretrained(broken)
