"""Only ratios count: weights times 1e-300 to 1e300, or costs and budgets together, change no result."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2l_sdk import Router, fit_leaderboard
from p2l_sdk.leaderboards.aggregate import PairStatistics, aggregate
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.leaderboards.weights import scaled
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.routing.pacing import BudgetPacer

LLMS = tuple("abcde")
COSTS = np.array([1.0, 2.5, 0.5, 4.0, 1.5]) * 1e-3
SCALE = st.one_of(st.floats(-300, 300).map(lambda x: 10.0**x), st.sampled_from([1e-300, 1e300, 1e-165, 1e155, 1.0]))
FEEDBACK = st.sampled_from(list(Feedback))
EXAMPLES = settings(max_examples=25, deadline=None)


def scored(n: int = 12, seed: int = 0) -> Coefficients:
    rng = np.random.default_rng(seed)
    return Coefficients(rng.normal(size=(n, 5)), rng.normal(size=(n, 1)), np.zeros((n, 1)))


def the_same(one, other) -> None:
    np.testing.assert_allclose(one.coefs, other.coefs, atol=1e-9)
    np.testing.assert_allclose(one.intervals, other.intervals, rtol=1e-6, atol=1e-6)


@EXAMPLES
@given(SCALE, FEEDBACK, st.integers(0, 5))
def test_weights_of_prompts(scale, feedback, seed):
    weights = np.random.default_rng(seed).random(12)
    batches = [scored()[:5], scored()[5:]]
    boards = [aggregate(batches, feedback, LLMS, weights=weights * factor, replicates=20) for factor in (1.0, scale)]
    the_same(*boards)


@pytest.mark.long
@EXAMPLES
@given(SCALE, st.booleans())
def test_statistics_of_weighted_prompts_merge_and_are_saved(tmp_path_factory, scale, first):
    """One worker saw prompts of ordinary weights, the other of weights of another scale, which is that of all."""
    weights = np.linspace(0.5, 1.5, 12)
    boards = []
    for factor in (1.0, scale):
        workers = [PairStatistics(Feedback.GRK, 5, seed=i) for i in range(2)]
        workers[0].add(scored()[:5], weights[:5] * factor)
        workers[1].add(scored()[5:], weights[5:] * factor)
        path = tmp_path_factory.mktemp("saved") / "worker"
        workers[1].save(path)
        workers[not first].merge(PairStatistics.load(path) if first else workers[0])
        boards.append(workers[not first].solve(LLMS, replicates=20))
        assert workers[not first].weight == pytest.approx(weights.sum() * factor)
    the_same(*boards)


def test_prompts_of_far_larger_weights_decide_alone():
    later, alone = (PairStatistics(Feedback.BT, 5) for _ in range(2))
    later.add(scored()[:6], np.full(6, 1e-200))
    for statistics in (later, alone):
        statistics.add(scored()[6:], np.full(6, 1e200))
    np.testing.assert_allclose(later.solve(LLMS).coefs, alone.solve(LLMS).coefs, atol=1e-9)


@pytest.mark.long
@EXAMPLES
@given(SCALE, FEEDBACK, st.sampled_from(["sandwich", "hessian", "bootstrap"]))
def test_weights_of_votes(scale, feedback, intervals):
    rng = np.random.default_rng(3)
    a = rng.integers(0, 4, 80)
    b = (a + rng.integers(1, 4, 80)) % 4
    words = np.array(["model_a", "model_b", "tie", "tie (bothbad)"])[rng.choice(4, 80, p=[0.3, 0.3, 0.1, 0.3])]
    table = {"model_a": np.array(LLMS)[a], "model_b": np.array(LLMS)[b], "winner": words}
    weights = rng.random(80)
    boards = [
        fit_leaderboard({**table, "weight": weights * factor}, feedback, intervals=intervals, replicates=4)
        for factor in (1.0, scale)
    ]
    the_same(*boards)


@EXAMPLES
@given(SCALE)
def test_weights_of_opponents(scale):
    board = scored().leaderboards(LLMS, Feedback.BT)[0]
    costs = dict(zip(LLMS, COSTS, strict=True))
    one, other = (
        Router(LLMS, "bt", costs, opponents={"a": 1.0 * factor, "c": 3.0 * factor}).route(board, 2e-3, seed=0)
        for factor in (1.0, scale)
    )
    assert (one.model, one.ranking) == (other.model, other.ranking)
    assert one.expected_score == pytest.approx(other.expected_score, abs=1e-12)


@EXAMPLES
@given(SCALE, st.floats(0.6, 4.5), st.sampled_from(["optimal", "strict"]))
def test_costs_and_budget_together(scale, budget, policy):
    board, results = scored().leaderboards(LLMS, Feedback.BT)[0], []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for factor in (1.0, scale):
            router = Router(LLMS, "bt", dict(zip(LLMS, COSTS * factor, strict=True)), policy=policy)
            route = router.route(board, budget * 1e-3 * factor, seed=1)
            many = router.route_many(scored(), budget * 1e-3 * factor, seed=1)
            frontier = router.frontier(scored().coefs, np.array([0.7, budget, 3.0]) * 1e-3 * factor)
            results.append((route, many, frontier))
    (one, ones, first), (other, others, second) = results
    for left, right in zip([one, *ones], [other, *others], strict=True):
        assert left.ranking == right.ranking
        shares = [[route.mixture.get(name, 0.0) for name in LLMS] for route in (left, right)]
        assert shares[0] == pytest.approx(shares[1], abs=1e-9)
        assert left.expected_cost * scale == pytest.approx(right.expected_cost, rel=1e-9)
    np.testing.assert_allclose(first.router_scores, second.router_scores, atol=1e-9)


@EXAMPLES
@given(SCALE)
def test_a_pacer(scale):
    scores, chosen = np.array([0.3, 0.6, 0.2, 0.9, 0.5]), []
    for factor in (1.0, scale):
        pacer = BudgetPacer(COSTS * factor, 1.7e-3 * factor)
        picks = []
        for _ in range(200):
            picks.append(pacer.choose(scores))
            pacer.record(float(COSTS[picks[-1]] * factor))
        chosen.append(np.bincount(picks, minlength=5))
    assert np.abs(chosen[0] - chosen[1]).max() <= 1  # rounding may turn one


@EXAMPLES
@given(st.lists(st.floats(0, 1.7e308), min_size=1, max_size=9))
def test_scaling_changes_no_ratio(values):
    weights = np.array(values)
    found = scaled(weights)
    assert np.isfinite(found.sum())
    assert np.isfinite(np.square(found).sum())
    assert (np.argsort(found, kind="stable") == np.argsort(weights, kind="stable")).all() or found.min() == 0
