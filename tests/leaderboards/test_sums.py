"""The sums of pair outcomes against the laws, pair by pair: weights, extreme coefficients, float32, threads."""

from __future__ import annotations

import os

import numpy as np
import pytest

from p2l_sdk.leaderboards import sums
from p2l_sdk.leaderboards.aggregate import PairStatistics
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.leaderboards.sums import pair_sums
from p2l_sdk.modeling.feedback_p2l import Feedback, log_pair_probabilities

ALL = list(Feedback)


def prompts(n: int, m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Theta, log s and weights."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, m)) + np.linspace(-1.5, 1.5, m), rng.normal(-0.5, 0.3, n), rng.exponential(1.0, n)


def one_by_one(feedback: Feedback, theta: np.ndarray, log_s: np.ndarray, weights: np.ndarray) -> np.ndarray:
    a, b = np.triu_indices(theta.shape[1], 1)
    total = np.zeros((len(feedback.outcomes), len(a)))
    for x, u, w in zip(theta, log_s, weights, strict=True):
        total += w * np.exp(log_pair_probabilities(feedback, x[a], x[b], np.full(len(a), u))).T
    return total


@pytest.fixture
def in_float32(monkeypatch):
    monkeypatch.setattr(sums, "_MANY", 2)


@pytest.mark.parametrize("feedback", ALL)
@pytest.mark.parametrize(("n", "m"), [(1, 2), (3, 7), (600, 12), (257, 8)])
def test_sums_are_the_laws(feedback, n, m):
    theta, log_s, weights = prompts(n, m)
    weights[::4] = 0.0
    expected = one_by_one(feedback, theta, log_s, weights)
    np.testing.assert_allclose(pair_sums(feedback, theta, log_s, weights), expected, rtol=1e-12)


@pytest.mark.parametrize("feedback", ALL)
def test_tiles_change_nothing(feedback, monkeypatch):
    theta, log_s, weights = prompts(30, 41)
    whole = pair_sums(feedback, theta, log_s, weights)
    monkeypatch.setattr(sums, "_TILE_BYTES", 3000)
    np.testing.assert_array_equal(pair_sums(feedback, theta, log_s, weights), whole)


@pytest.mark.parametrize("feedback", ALL)
@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_coefficients_up_to_700_are_right_and_nothing_overflows(feedback, kind, monkeypatch):
    """Each prompt alone, so that no other hides what is wrong with it; differences up to 1,400 overflow exp."""
    monkeypatch.setattr(sums, "_MANY", 2 if kind == "float32" else 100)
    rng = np.random.default_rng(1)
    for largest in (10.0, 22.0, 24.0, 30.0, 100.0, 170.0, 230.0, 240.0, 400.0, 700.0):
        theta, log_s = np.append(rng.uniform(-1, 1, 5), [1.0, -1.0])[None] * largest, np.array([rng.normal(0, 2)])
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            found = pair_sums(feedback, theta, log_s, np.ones(1))
        expected = one_by_one(feedback, theta, log_s, np.ones(1))
        # relative to itself, but for what vanishes below the smallest number on the way
        np.testing.assert_allclose(found, expected, rtol=2e-6 if largest < 30 else 1e-10, atol=1e-20)
        np.testing.assert_allclose(found.sum(0), 1.0, rtol=1e-5)


def test_bradley_terry_of_extremes_is_what_arithmetic_says():
    theta = np.array([[700.0, -700.0, 0.0], [0.0, 40.0, -0.0]])
    wins, losses = pair_sums(Feedback.BT, theta, np.zeros(2), np.ones(2))
    np.testing.assert_allclose(wins, [1.0, 1.5, 1.0], rtol=1e-15)  # of 0 against 1, 0 against 2, 1 against 2
    np.testing.assert_allclose(losses, [1.0, 0.5, 1.0], rtol=1e-15)
    assert pair_sums(Feedback.BT, theta[1:], np.zeros(1), np.ones(1))[0, 0] == pytest.approx(np.exp(-40.0), rel=1e-12)


@pytest.mark.parametrize("feedback", ALL)
@pytest.mark.usefixtures("in_float32")
def test_a_batch_of_everything_in_float32(feedback):
    """Ordinary prompts, such as float32 cannot hold, and such as float64 cannot, in one batch of several chunks."""
    theta, log_s, weights = prompts(700, 6)
    theta[::5] *= 20.0
    theta[::7] *= 30.0
    expected = one_by_one(feedback, theta, log_s, weights)
    np.testing.assert_allclose(pair_sums(feedback, theta, log_s, weights), expected, rtol=1e-6)


@pytest.mark.parametrize("feedback", ALL)
@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("scale", [1e-300, 1e-18, 1e18, 1e300])
def test_weights_of_any_size(feedback, scale):
    """The weights are multiplied by odds up to e^24: in float32, 1e18 would be too much."""
    theta, log_s, weights = prompts(20, 5)
    theta[0] = [24.0, -24.0, 24.0, 20.0, -20.0]
    with np.errstate(over="raise", invalid="raise"):
        found = pair_sums(feedback, theta, log_s, weights * scale) / scale
    np.testing.assert_allclose(found, one_by_one(feedback, theta, log_s, weights), rtol=2e-6)


@pytest.mark.parametrize("feedback", ALL)
def test_float32_moves_no_coefficient_by_1e_6(feedback, monkeypatch):
    rng = np.random.default_rng(2)
    n, m = 300, 110
    batch = Coefficients(prompts(n, m)[0], rng.normal(-0.5, 0.3, (n, 1)), rng.normal(0.0, 0.1, (n, 1)))
    boards = []
    for many in (100, 1000):
        monkeypatch.setattr(sums, "_MANY", many)
        statistics = PairStatistics(feedback, m, sample=0)
        statistics.add(batch)
        boards.append(statistics.solve(tuple(map(str, range(m))), replicates=0))
    difference = np.abs(boards[0].coefs - boards[1].coefs).max()
    assert 0 < difference < 1e-6
    if feedback.has_eta:
        assert boards[0].eta == pytest.approx(boards[1].eta, abs=1e-6)


@pytest.mark.parametrize("feedback", [Feedback.BT, Feedback.GRK])
@pytest.mark.parametrize("m", [9, 110])
def test_the_number_of_threads_changes_no_digit(feedback, m):
    theta, log_s, weights = prompts(600, m)
    theta[5] *= 100.0
    one = pair_sums(feedback, theta, log_s, weights, threads=1)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(pair_sums(feedback, theta, log_s, weights, threads=threads), one)


def test_how_many_threads(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    for setting, expected in (("", 8), ("3", 3), ("0", 8), ("nonsense", 8), ("100", 8)):
        monkeypatch.setenv("OMP_NUM_THREADS", setting)
        assert sums._threads(1 << 30) == expected
    assert sums._threads(1 << 19) == 1
    assert sums._threads(3 << 20) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert sums._threads(1 << 30) == 1


def test_nothing_and_no_weight():
    theta, log_s, weights = prompts(4, 3)
    assert not pair_sums(Feedback.GRK, theta[:0], log_s[:0], weights[:0]).any()
    assert not pair_sums(Feedback.GRK, theta, log_s, np.zeros(4)).any()
