"""The averaged leaderboard: known parameters, an independent solver, the reference, intervals, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import shared
from drawn_votes import NAMES, OUTCOMES, THETA, simulated, truth, widths
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from scipy.optimize import minimize
from thorough import thorough
from vote_tables import A, B, columns

from p2l_sdk import fit_leaderboard
from p2l_sdk.errors import ConvergenceError, P2LError
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback, log_probabilities, log_threshold, vote_log_likelihood
from p2l_sdk.votes.votes import Votes

ALL = list(Feedback)


def centred(feedback: Feedback, coefs: np.ndarray) -> np.ndarray:
    return coefs if feedback.grounded or feedback is Feedback.BA else coefs - coefs.mean()


# --- the optimum -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feedback", ALL)
def test_known_parameters_are_recovered(feedback, rng):
    board = fit_leaderboard(simulated(feedback, 200_000, rng), feedback)
    np.testing.assert_allclose(centred(feedback, board.coefs), centred(feedback, THETA), atol=0.04)
    if feedback.has_eta:
        shifts = {log_threshold(feedback, np.float64(x)) for x in (board.eta, truth(feedback))}
        assert max(shifts) - min(shifts) < 0.05
    assert board.models == tuple(NAMES)
    assert board.n_votes == 200_000
    assert board.caption == f"Leaderboard of 5 LLMs on 200,000 votes ({feedback})"


@pytest.mark.parametrize("feedback", ALL)
def test_an_independent_solver_agrees(feedback, rng):
    """SciPy's BFGS on rows, with nothing shared but the law, in the raw eta."""
    votes = simulated(Feedback.GRK, 2_000, rng)
    votes["weight"] = rng.uniform(0.2, 3, 2_000)
    codes = {name: np.searchsorted(NAMES, votes[name]) for name in ("model_a", "model_b")}
    winner = np.array([list(OUTCOMES).index(word) for word in votes["winner"]])
    board = fit_leaderboard(votes, feedback)

    def loss(x: np.ndarray) -> float:
        eta = np.full(2_000, x[-1]) if feedback.has_eta else None
        theta = x[:-1][codes["model_a"]], x[:-1][codes["model_b"]]
        likelihood, counts = vote_log_likelihood(
            feedback, log_probabilities(feedback, *theta, eta, np.zeros(2_000)), winner
        )
        return -(votes["weight"] @ likelihood) / (votes["weight"] @ counts)

    start = np.append(np.zeros(5), truth(feedback) or 0.0)
    found = minimize(loss, start, method="BFGS", jac="3-point", options={"gtol": 1e-9, "maxiter": 500})
    np.testing.assert_allclose(centred(feedback, board.coefs), centred(feedback, found.x[:-1]), atol=2e-6)
    assert loss(np.append(board.coefs, board.eta or 0.0)) <= found.fun + 1e-12


def test_the_optimum_of_the_reference():
    tensors = load_file(shared("oracle/aggregation.safetensors"))
    keys = sorted(
        key.removesuffix(".exact.coefs") for key in tensors if key.startswith("marginal.") and "exact.c" in key
    )
    assert len(keys) == 10
    for key in keys:
        _, loss, n_models = key.split(".")
        feedback = Feedback.parse(loss)
        winner, loser, tie = tensors[f"marginal.{n_models}.labels_tie012"].T
        names = np.array([f"{i:03d}" for i in range(int(n_models))])
        votes = {"model_a": names[winner], "model_b": names[loser], "winner": OUTCOMES[[0, 2, 3]][tie]}
        board = fit_leaderboard(votes, feedback)
        for kind, atol in (("exact", 5e-7), ("ref", 1e-3)):
            theirs = tensors[f"{key}.{kind}.coefs"].ravel().astype(float)
            np.testing.assert_allclose(
                centred(feedback, board.coefs), centred(feedback, theirs), atol=atol, err_msg=key
            )
            if feedback.has_eta:
                assert board.eta == pytest.approx(tensors[f"{key}.{kind}.eta"].item(), abs=max(atol, 1e-6))


def test_the_real_votes_have_the_averaged_leaderboard_that_their_readme_states():
    train = Votes.read(shared("data/routing9/votes_train.parquet"))
    val = Votes.read(shared("data/routing9/votes_val.parquet"), train.models)
    for feedback, expected in (("bt", 0.4633), ("grk", 1.2016)):
        board = fit_leaderboard(train, feedback)
        eta = None if board.eta is None else np.full(len(val), board.eta)
        log_probs = log_probabilities(board.feedback, board.coefs[val.a], board.coefs[val.b], eta)
        likelihood, counts = vote_log_likelihood(board.feedback, log_probs, val.winner)
        assert -likelihood.sum() / counts.sum() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("feedback", ALL)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(1e-3, 1e3))
def test_what_changes_nothing(feedback, seed, factor):
    """Order of rows and columns' names, the sides of a vote, a factor of all weights, a vote of weight 0; a vote of
    weight 2 is as two for the coefficients."""
    rng = np.random.default_rng(seed)
    votes = simulated(Feedback.GRK, 1_000, rng)
    weight = rng.integers(1, 4, 1_000)
    board = fit_leaderboard({**votes, "weight": weight}, feedback)
    assert np.isfinite(board.intervals).all()

    def same(other: Leaderboard, intervals: bool = True) -> None:
        np.testing.assert_allclose(other.coefs - other.coefs.mean(), board.coefs - board.coefs.mean(), atol=1e-6)
        if intervals:
            np.testing.assert_allclose(other.rating_intervals, board.rating_intervals, atol=1e-2)

    order = rng.permutation(1_000)
    same(fit_leaderboard({**{k: v[order] for k, v in votes.items()}, "weight": weight[order]}, feedback))
    turned = OUTCOMES[[1, 0, 2, 3]][[list(OUTCOMES).index(word) for word in votes["winner"]]]
    sides = {"model_a": votes["model_b"], "model_b": votes["model_a"], "winner": turned, "weight": weight}
    same(fit_leaderboard(sides, feedback))
    same(fit_leaderboard({**votes, "weight": weight * factor}, feedback))
    more = {k: np.append(v, x) for (k, v), x in zip(votes.items(), ("m0", "m1", "model_a"), strict=True)}
    same(fit_leaderboard({**more, "weight": np.append(weight, 0)}, feedback))
    same(fit_leaderboard({k: v.repeat(weight) for k, v in votes.items()}, feedback), intervals=False)
    renamed = {k: v if k == "winner" else np.char.replace(v, "m", "x-") for k, v in votes.items()}
    same(fit_leaderboard({**renamed, "weight": weight}, feedback))


# --- intervals -------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("feedback", [Feedback.GRK, *thorough(Feedback.BT, Feedback.RK)])
@pytest.mark.parametrize("kind", ["sandwich", *thorough("hessian")])
def test_intervals_cover_the_truth_95_times_in_100(feedback, kind, rng):
    runs, true = 250, centred(feedback, THETA)
    covered = []
    for _ in range(runs):
        low, high = fit_leaderboard(simulated(feedback, 600, rng), feedback, intervals=kind).intervals.T
        covered.append((low <= true) & (true <= high))
    # the five coefficients of a run are correlated, so each run counts as a single case
    assert np.mean(covered) == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / runs))


@pytest.mark.long
@pytest.mark.parametrize(
    "feedback", [Feedback.GRK, *thorough(*(f for f in ALL if f not in (Feedback.GRK, Feedback.BT_TIE)))]
)
def test_the_three_kinds_agree_where_the_model_is_true(feedback, rng):
    votes = simulated(feedback, 20_000, rng)
    boards = {
        kind: fit_leaderboard(votes, feedback, intervals=kind, replicates=1_000)
        for kind in ("sandwich", "hessian", "bootstrap")
    }
    np.testing.assert_allclose(widths(boards["sandwich"]), widths(boards["hessian"]), rtol=0.05)
    np.testing.assert_allclose(widths(boards["bootstrap"]), widths(boards["sandwich"]), rtol=0.15)


def test_the_sandwich_and_the_bootstrap_know_that_ties_are_less_noisy_than_coins(rng):
    """Half a win each is no law of probability: the Hessian's intervals are too wide."""
    votes = simulated(Feedback.RK, 20_000, rng)
    boards = [fit_leaderboard(votes, "bt_tie", intervals=kind) for kind in ("hessian", "sandwich", "bootstrap")]
    assert (widths(boards[1]) < 0.95 * widths(boards[0])).all()
    np.testing.assert_allclose(widths(boards[2]), widths(boards[1]), rtol=0.3)


@pytest.mark.long
def test_weighted_intervals_are_those_of_resampled_rows(rng):
    """Unequal weights: the spread over samples of the rows themselves is what the sandwich and the bootstrap say."""
    votes = {**simulated(Feedback.GRK, 3_000, rng), "weight": rng.exponential(size=3_000)}
    spread = []
    for _ in range(300):
        rows = rng.integers(0, 3_000, 3_000)
        spread.append(fit_leaderboard({k: v[rows] for k, v in votes.items()}, "grk", intervals=None).coefs)
    for kind in ("sandwich", "bootstrap"):
        board = fit_leaderboard(votes, "grk", intervals=kind)
        np.testing.assert_allclose(widths(board) / 3.92, np.std(spread, axis=0), rtol=0.25)


@pytest.mark.long
def test_the_bootstrap_is_seeded_and_none_is_none(rng):
    votes = simulated(Feedback.BT, 500, rng)
    one, same, other = (fit_leaderboard(votes, intervals="bootstrap", seed=s).intervals for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert fit_leaderboard(votes, intervals=None).intervals is None


# --- refusals --------------------------------------------------------------------------------------------------------


def test_unknown_options_are_refused():
    votes = columns((A, B, "model_a"), (B, A, "model_a"))
    with pytest.raises(P2LError, match="unknown intervals 'wald'; known: sandwich, hessian, bootstrap, or None"):
        fit_leaderboard(votes, intervals="wald")
    with pytest.raises(P2LError, match="at least 2 replicates, got 1"):
        fit_leaderboard(votes, intervals="bootstrap", replicates=1)
    with pytest.raises(P2LError, match="unknown feedback model 'elo'"):
        fit_leaderboard(votes, "elo")
    assert issubclass(ConvergenceError, P2LError)
