"""A model's error for a group of prompts: its estimate from clusters left out, and the intervals of aggregates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from p2l_sdk.leaderboards.aggregate import aggregate
from p2l_sdk.leaderboards.leaderboard import Z_95, Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.scorers.aggregate import aggregate_scored, set_likeness, spread_of
from p2l_sdk.training import group_error
from p2l_sdk.training.group_error import clusters
from p2l_sdk.votes.votes import Votes

MODELS = tuple("abcd")
SPEC = ModelSpec(models=MODELS, feedback=Feedback.BT)


def drawn(coefs: np.ndarray, per_prompt: int, seed: int) -> Votes:
    """Votes of prompts with these `(n_prompts, n_models)` coefficients, by Bradley-Terry."""
    random, n = np.random.default_rng(seed), len(coefs)
    prompt = np.repeat(np.arange(n), per_prompt)
    a = random.integers(0, len(MODELS), len(prompt))
    b = (a + random.integers(1, len(MODELS), len(prompt))) % len(MODELS)
    wins = random.random(len(prompt)) < 1.0 / (1.0 + np.exp(coefs[prompt, b] - coefs[prompt, a]))
    names = [f"question {i}" for i in range(n)]
    return Votes(names, MODELS, prompt, a, b, np.where(wins, Winner.A, Winner.B), np.ones(len(prompt)))


@pytest.mark.parametrize("deviation", [0.0, 0.5])
def test_the_error_of_groups_is_recovered_without_the_noise_of_the_votes(deviation):
    """Each group's true coefficients are the predicted ones plus an error that all its prompts share; with few votes
    the noise of the measured leaderboards is as large as the error."""
    random, groups, size = np.random.default_rng(0), 60, 30
    cluster = np.repeat(np.arange(groups), size)
    predicted = random.normal(0.0, 0.5, (groups, len(MODELS)))[cluster]
    errors = random.normal(0.0, deviation, (groups, len(MODELS)))
    errors -= errors.mean(1, keepdims=True)
    votes = drawn(predicted + errors[cluster], 6, seed=1)

    folds: Any = SimpleNamespace(votes=votes, feedback=Feedback.BT)
    found = group_error._variance(folds, torch.from_numpy(predicted), cluster, np.random.default_rng(2))
    assert found == pytest.approx(np.square(errors).mean(), abs=0.035)


def test_clusters_are_those_of_the_vectors():
    random = np.random.default_rng(3)
    centres = 10.0 * np.eye(4)
    there = np.repeat(np.arange(4), 25)
    found = clusters(centres[there] + random.normal(0.0, 0.1, (100, 4)), 4, seed=0)
    assert len(found) == 100
    for k in range(4):
        assert len(np.unique(found[there == k])) == 1


def scored(spread: float, n: int = 40) -> Coefficients:
    random = np.random.default_rng(4)
    return Coefficients(np.array([0.5, 0.2, -0.2, -0.5]) + random.normal(0.0, spread, (n, 4)), None, None)


def test_an_aggregate_of_like_prompts_is_as_uncertain_as_the_model():
    like = scored(0.0)
    board = aggregate_scored([like], SPEC, None, np.array([0.25, 1.0]))
    np.testing.assert_allclose(np.diff(board.intervals, axis=1)[:, 0] / 2, Z_95 * 0.5, rtol=1e-6)
    without = aggregate([like], Feedback.BT, MODELS)
    assert np.diff(without.intervals, axis=1).max() < 1e-6


def test_errors_cancel_in_a_mixture_of_many_groups():
    mixed = scored(1.0)
    everything = spread_of(mixed.coefs, Feedback.BT)
    with_error = aggregate_scored([mixed], SPEC, None, np.array([0.25, everything]))
    np.testing.assert_allclose(with_error.intervals, aggregate([mixed], Feedback.BT, MODELS).intervals, atol=1e-9)
    assert set_likeness(0.5, 1.0) == 0.5
    assert set_likeness(2.0, 1.0) == 0.0
    assert set_likeness(0.0, 0.0) == 1.0


def test_the_spread_is_that_of_the_centred_coefficients_and_weighs_prompts():
    coefs = np.random.default_rng(5).normal(size=(50, 4))
    shifted = coefs + np.random.default_rng(6).normal(size=(50, 1))
    centred = coefs - coefs.mean(1, keepdims=True)
    assert spread_of(shifted, Feedback.BT) == pytest.approx(centred.var(0).mean())
    assert spread_of(coefs, Feedback.GRK) == pytest.approx(coefs.var(0).mean())
    weights = np.array([1.0] * 20 + [0.0] * 20)
    part = scored(0.3)
    some = aggregate_scored([part[:20]], SPEC, None, np.array([0.04, 1.0]))
    all_of_them = aggregate_scored([part], SPEC, None, np.array([0.04, 1.0]), weights=weights)
    np.testing.assert_allclose(some.coefs, all_of_them.coefs, atol=1e-7)
