"""Many LLMs: the solver that goes block by block against one that holds all pairs at once, its memory, its limits."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from dense_likelihood import DensePairLikelihood

from p2l_sdk import fit_leaderboard
from p2l_sdk.errors import P2LError
from p2l_sdk.evaluation.metrics import leaderboards as comparison
from p2l_sdk.evaluation.metrics.leaderboards import compare_leaderboards
from p2l_sdk.leaderboards import pairs
from p2l_sdk.leaderboards.aggregate import PairStatistics
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.leaderboards.likelihood import PairLikelihood
from p2l_sdk.leaderboards.pair_matrix import PairMatrix, conjugate_gradients
from p2l_sdk.leaderboards.pairs import natural_parameters, newton_steps
from p2l_sdk.leaderboards.sums import pair_sums
from p2l_sdk.modeling.feedback_p2l import Feedback, vote_targets
from p2l_sdk.modeling.leaderboard_p2l import ranks, win_rates
from p2l_sdk.votes.counts import VoteCounts

ALL = list(Feedback)


def scored(n: int, m: int, seed: int = 0) -> Coefficients:
    rng = np.random.default_rng(seed)
    return Coefficients(
        rng.normal(size=(n, m)) + np.linspace(-1, 1, m), rng.normal(-0.5, 0.3, (n, 1)), np.zeros((n, 1))
    )


def names(m: int) -> tuple[str, ...]:
    return tuple(f"m{i:05d}" for i in range(m))


@pytest.mark.parametrize("feedback", ALL)
@pytest.mark.parametrize("m", [2, 9, 60])
def test_the_aggregate_is_that_of_the_dense_solver(feedback, m):
    statistics = PairStatistics(feedback, m)
    statistics.add(scored(30, m))
    start = statistics._arrays["start"] / statistics._arrays["weight"]
    mean = statistics._mean()
    expected = DensePairLikelihood(feedback, m).minimise(np.ascontiguousarray(mean.T), start)
    np.testing.assert_allclose(statistics.solve(names(m), replicates=0).coefs, expected[:m], atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("feedback", ["bt", "grk"])
def test_the_aggregate_of_300_llms_is_that_of_the_dense_solver(feedback):
    test_the_aggregate_is_that_of_the_dense_solver(Feedback(feedback), 300)


@pytest.mark.parametrize("feedback", ALL)
def test_derivatives_and_covariances_are_those_of_the_dense_solver(feedback, rng):
    m, pairs = 12, 66
    x, target = rng.normal(size=m + 1), rng.random((pairs, len(feedback.outcomes)))
    ours, dense = (kind(feedback, m, 0.01) for kind in (PairLikelihood, DensePairLikelihood))
    value, gradient, hessian = dense._evaluate(target, x)
    assert ours.slope(target, x)[0] == pytest.approx(value, abs=1e-12)
    np.testing.assert_allclose(ours.slope(target, x)[1], gradient, atol=1e-12)
    np.testing.assert_allclose(ours.hessian(target, x), hessian, atol=1e-12)
    weights, kinds = rng.random((pairs, 4)), vote_targets(feedback)
    scatter = dense.score_covariance(weights, kinds, x)
    np.testing.assert_allclose(ours.score_covariance(weights, kinds, x), scatter, atol=1e-10)
    targets = rng.random((5, target.size))
    np.testing.assert_allclose(ours.one_step(targets, x), dense.one_step(targets, x), atol=1e-8)


@pytest.mark.parametrize("feedback", ALL)
@pytest.mark.parametrize("size", [0.1, 30, 110, 150])
def test_products_of_matrices_and_logarithms_agree_at_extreme_coefficients(feedback, size, rng):
    """Below and above the coefficients at which squares of odds can no longer be represented."""
    m = 40
    x, a, b = np.append(rng.uniform(-size, size, m), -0.5), *np.triu_indices(m, 1)
    target = rng.random((len(a), len(feedback.outcomes)))
    whole, listed = PairLikelihood(feedback, m), PairLikelihood(feedback, m, pairs=(a, b))
    value, gradient, hessian = listed._evaluate(target, x)
    assert whole.slope(target, x)[0] == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(whole.slope(target, x)[1], gradient, atol=1e-13)
    np.testing.assert_allclose(whole.hessian(target, x), hessian, atol=1e-13)
    some = pairs.pair_scores(feedback, x, slice(3, 9), 20)
    one = pairs.pair_scores(feedback, x, slice(5, 6), 40)
    np.testing.assert_allclose(some[2], one[0, :, :, :20], atol=1e-6)
    assert not some[2, :, :, 5].any()


def test_iterations_solve_what_a_factorisation_solves_or_say_that_they_cannot(rng):
    m = 320
    problem, x = PairLikelihood(Feedback.GRK, m), rng.normal(size=m + 1)
    matrix = problem.hessian(rng.random((m * (m - 1) // 2, 4)), x)
    right = rng.normal(size=m + 1)
    found = conjugate_gradients(matrix, right)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right), rtol=1e-6, atol=1e-6 * np.abs(found).max())
    assert conjugate_gradients(-matrix, right) is None
    assert conjugate_gradients(matrix - 2 * matrix.diagonal().mean() * np.ones((m + 1, m + 1)), right) is None


def sparse(feedback: Feedback, m: int, rng: np.random.Generator):
    """The pairs of a ring and of chance, and what their votes say."""
    a, b = np.triu_indices(m, 1)
    chosen = np.sort(rng.permutation(len(a))[: 6 * m])
    chosen = np.union1d(chosen, np.flatnonzero(b - a == 1))
    counts = rng.integers(0, 3, (len(chosen), 4)) @ vote_targets(feedback)
    return a[chosen], b[chosen], chosen, counts * len(chosen) / counts.sum()


@pytest.mark.parametrize("feedback", ALL)
@pytest.mark.parametrize("ridge", [0.0, 1e-4])
def test_pairs_that_met_are_solved_as_all_pairs_are(feedback, ridge, rng):
    """Without a matrix of all LLMs."""
    m = 350
    a, b, chosen, target = sparse(feedback, m, rng)
    listed = PairLikelihood(feedback, m, ridge, (a, b))
    x = rng.normal(size=m + 1)
    _, gradient, hessian = listed._evaluate(target, x)
    assert isinstance(hessian, PairMatrix)
    every = np.zeros((m * (m - 1) // 2, target.shape[1]))
    every[chosen] = target * len(every) / len(chosen)
    dense = DensePairLikelihood(feedback, m, ridge)
    _, expected, matrix = dense._evaluate(every, x)
    np.testing.assert_allclose(gradient, expected, atol=1e-12)
    np.testing.assert_allclose(hessian.whole(), matrix, atol=1e-12)
    np.testing.assert_allclose(hessian @ x, matrix @ x, atol=1e-12)
    np.testing.assert_allclose(hessian.with_diagonal(0.5).whole(), matrix + 0.5 * np.eye(m + 1), atol=1e-12)
    solved, start = listed.minimise(target, np.zeros(m + 1)), np.zeros(m + 1)
    assert np.abs(dense._evaluate(every, solved)[1]).max() < 1e-11
    np.testing.assert_allclose(solved, PairLikelihood(feedback, m, ridge).minimise(every, start), atol=1e-7)


def test_a_long_chain_of_llms_is_solved(rng):
    """A chain is what iterations find hardest."""
    m = 1_000
    wins = rng.integers(3, 8, m - 1)
    names_a, names_b = np.repeat(names(m)[:-1], 10), np.repeat(names(m)[1:], 10)
    winner = np.where(np.arange(10) < wins[:, None], "model_a", "model_b").ravel()
    board = fit_leaderboard({"model_a": names_a, "model_b": names_b, "winner": winner}, intervals=None)
    np.testing.assert_allclose(-np.diff(board.coefs), np.log(wins / (10 - wins)), atol=1e-6)


def test_some_opponents_stand_for_many(rng, monkeypatch):
    """Widths of intervals differ by less than those of two samples of prompts do, whatever the order of the LLMs."""
    m = 400
    theta = rng.normal(size=(60, m)) + rng.permutation(np.linspace(-2, 2, m))
    prompts = theta, rng.normal(-0.5, 0.3, 60), np.ones(60)
    optimum = np.append(theta.mean(0), -0.5)
    mean = pair_sums(Feedback.GRK, *prompts) / 60
    hessian = PairLikelihood(Feedback.GRK, m).hessian(mean.T, optimum)
    exact = newton_steps(Feedback.GRK, optimum, hessian, prompts).std(0)
    monkeypatch.setattr(pairs, "_OPPONENTS", 100)
    rough = newton_steps(Feedback.GRK, optimum, hessian, prompts).std(0)
    assert not np.array_equal(rough, exact)
    np.testing.assert_allclose(rough, exact, rtol=0.06)
    assert rough.mean() == pytest.approx(exact.mean(), rel=0.005)


def test_pairs_that_never_met_change_nothing(rng):
    m = 8
    a, b = np.triu_indices(m, 1)
    met = rng.random(len(a)) < 0.6
    target = rng.random((len(a), 2)) * met[:, None]
    whole = PairLikelihood(Feedback.BT, m, 1e-3).minimise(target, np.zeros(m + 1))
    few = PairLikelihood(Feedback.BT, m, 1e-3, (a[met], b[met]))
    np.testing.assert_allclose(few.minimise(target[met] * met.mean(), np.zeros(m + 1)), whole, atol=1e-10)


def test_counts_hold_the_pairs_that_met_in_either_order():
    counts = VoteCounts.of(
        {"model_a": list("dbad"), "model_b": list("bddc"), "winner": ["model_a", "model_a", "tie", "tie"]}
    )
    assert counts.models == tuple("abcd")
    assert list(zip(counts.a.tolist(), counts.b.tolist(), strict=True)) == [(0, 3), (1, 3), (2, 3)]
    assert counts.number.tolist() == [[0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize("feedback", ["bt", "grk"])
def test_sums_of_many_llms_are_accurate_in_float32(feedback):
    batch = scored(40, 520)
    batch.coefs[3] *= 60  # beyond what float32 holds
    theta, log_s = natural_parameters(Feedback(feedback), batch, 520)
    rough = pair_sums(Feedback(feedback), theta, log_s, np.ones(40))
    alone = [
        pair_sums(Feedback(feedback), theta[:, part], log_s, np.ones(40)) for part in (slice(0, 40), slice(480, 520))
    ]
    a, b = np.triu_indices(520, 1)
    for exact, start in zip(alone, (0, 480), strict=True):
        inside = (a >= start) & (b < start + 40)
        np.testing.assert_allclose(rough[:, inside], exact, atol=1e-5)


@pytest.mark.long
def test_a_thousand_llms_take_little_memory():
    """Peak of what is allocated: far below all pairs' derivatives, 870 MB."""
    batch = scored(20, 1000)
    tracemalloc.start()
    statistics = PairStatistics(Feedback.BT, 1000)
    statistics.add(batch)
    board = statistics.solve(names(1000), replicates=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert board.intervals is not None
    assert np.corrcoef(board.coefs, np.linspace(-1, 1, 1000))[0, 1] > 0.9
    assert peak < 150e6


PROGRAM = """
import resource, time, numpy as np
from p2l_sdk.leaderboards.aggregate import PairStatistics
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback
rng = np.random.default_rng(0)
batch = Coefficients(rng.normal(size=(1000, 1000)).astype(np.float32), rng.normal(-0.5, 0.3, (1000, 1)), None)
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
statistics = PairStatistics(Feedback.GRK, 1000)
statistics.add(batch)
statistics.solve(tuple(map(str, range(1000))))
print(time.process_time() - began, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
def test_a_thousand_prompts_among_a_thousand_llms_take_5_seconds_and_300_megabytes():
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 5.0
    assert megabytes < 300.0


@pytest.mark.long
def test_what_does_not_fit_is_refused_by_its_size_before_anything_is_allocated():
    tracemalloc.start()
    with pytest.raises(P2LError, match=r"one leaderboard of 20,001 LLMs would take [\d.]+ GB of memory; at most"):
        PairStatistics(Feedback.BT, 20_001)
    everyone = list(names(10_000))
    votes = {"model_a": everyone, "model_b": everyone[1:] + everyone[:1], "winner": ["model_a"] * 10_000}
    with pytest.raises(P2LError, match=r"10,000 LLMs would take 4.0 GB of memory; at most 7,327"):
        fit_leaderboard(votes)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize("spread", [0.0, 0.3, 4.0, 60.0, 1e6])
def test_win_rates_of_very_many_llms_are_interpolated_exactly(spread, rng):
    coefs = rng.normal(size=(2, 6000)) * spread
    weights = rng.dirichlet(np.ones(800))
    rates = win_rates(coefs, coefs[:, :800], weights)
    exact = np.concatenate([win_rates(coefs[:, i : i + 500], coefs[:, :800], weights) for i in range(0, 6000, 500)], 1)
    np.testing.assert_allclose(rates, exact, atol=1e-14)
    np.testing.assert_array_equal(win_rates(coefs[0], coefs[0, :800], weights), rates[0])


def test_ranks_and_win_rates_of_many_llms_are_those_of_few(rng):
    coefs = np.append(rng.normal(size=2999), 0.5)
    coefs[7] = coefs[8]
    assert (ranks(coefs) == 1 + (coefs[None, :] > coefs[:, None]).sum(1)).all()
    weights = np.full(3000, 1 / 3000)
    some = win_rates(coefs[:5], coefs, weights)
    np.testing.assert_allclose(win_rates(coefs, coefs, weights)[:5], some, atol=1e-14)


@pytest.mark.long
def test_leaderboards_of_many_llms_are_compared_in_little_memory(rng, monkeypatch):
    m = 700
    boards = [
        Leaderboard(names(m), rng.normal(size=m).round(1), Feedback.GRK, eta=eta, gamma=None) for eta in (-0.5, 0.3)
    ]
    at_once = compare_leaderboards(*boards)
    monkeypatch.setattr(comparison, "_PIECE", 5000)
    tracemalloc.start()
    in_pieces = compare_leaderboards(*boards)
    assert tracemalloc.get_traced_memory()[1] < 5e6  # all pairs at once took 30 MB
    tracemalloc.stop()
    assert in_pieces == pytest.approx(at_once, abs=1e-12)
    x, y = (board.coefs for board in boards)
    a, b = np.triu_indices(m, 1)
    difference = 1 / (1 + np.exp(x[b] - x[a])) - 1 / (1 + np.exp(y[b] - y[a]))
    assert at_once["preference_l1"] == pytest.approx(np.abs(difference).mean(), abs=1e-12)
