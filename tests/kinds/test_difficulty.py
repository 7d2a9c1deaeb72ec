"""From shares of right answers to shares of outcomes."""

from __future__ import annotations

import numpy as np
import pytest

from p2l_sdk.kinds.difficulty import SPREAD, grounded_leaderboard, outcome_shares
from p2l_sdk.leaderboards.likelihood import PairLikelihood
from p2l_sdk.modeling.feedback_p2l import Feedback

RIGHT = np.array([0.93, 0.71, 0.5, 0.32, 0.08])
A, B = np.triu_indices(len(RIGHT), 1)


@pytest.mark.parametrize("spread", [0.0, 1.0, SPREAD, 5.0])
def test_the_outcomes_have_the_shares_as_their_margins(spread):
    a, b, both, neither = outcome_shares(RIGHT, spread).T
    np.testing.assert_allclose(a + b + both + neither, 1.0, atol=1e-12)
    np.testing.assert_allclose(a + both, RIGHT[A], atol=1e-9)
    np.testing.assert_allclose(b + both, RIGHT[B], atol=1e-9)
    assert (np.stack([a, b, both, neither]) > 0).all()


def test_without_a_spread_answers_are_independent():
    _, _, both, neither = outcome_shares(RIGHT, 0.0).T
    np.testing.assert_allclose(both, RIGHT[A] * RIGHT[B], atol=1e-9)
    np.testing.assert_allclose(neither, (1 - RIGHT[A]) * (1 - RIGHT[B]), atol=1e-9)


def test_the_more_questions_differ_the_more_the_llms_agree():
    agreed = np.stack([outcome_shares(RIGHT, spread)[:, 2:].sum(1) for spread in (0.0, 0.5, 1.0, SPREAD, 4.0, 8.0)])
    assert (np.diff(agreed, axis=0) > 0).all()
    most = 1.0 - np.abs(RIGHT[A] - RIGHT[B])  # the one answers whatever the other does, and more
    assert (agreed < most + 1e-9).all()


def test_the_spread_is_that_of_known_answers():
    """GPT-4 and Mixtral on MMLU, as in the docstring: both were right on 0.628."""
    _, _, both, _ = outcome_shares(np.array([0.806, 0.680]))[0]
    assert both == pytest.approx(0.628, abs=0.02)


def test_a_drawn_rasch_model_agrees(rng):
    """Answers drawn question by question from sigmoid(m - s d)."""
    difficulty = rng.normal(size=400_000)
    right = rng.random((2, 400_000)) < 1 / (1 + np.exp(-(np.array([[1.5], [-0.4]]) - SPREAD * difficulty)))
    drawn = [(right[0] & ~right[1]).mean(), (~right[0] & right[1]).mean()]
    drawn += [(right[0] & right[1]).mean(), (~right[0] & ~right[1]).mean()]
    np.testing.assert_allclose(outcome_shares(right.mean(1))[0], drawn, atol=0.004)


def test_shares_of_nothing_and_all_are_finite():
    shares = outcome_shares(np.array([0.0, 1.0, 0.5]))
    assert np.isfinite(shares).all()
    board = grounded_leaderboard(shares, 3)
    assert np.isfinite(board).all()
    assert board[1] > board[2] > board[0]


def test_the_leaderboard_is_the_optimum_of_its_outcomes():
    shares = outcome_shares(RIGHT)
    board = grounded_leaderboard(shares, len(RIGHT))
    assert (np.diff(board[: len(RIGHT)]) < 0).all()
    problem = PairLikelihood(Feedback.GRK, len(RIGHT), ridge=1e-4)
    again = problem.minimise(shares, np.append(RIGHT * 3.0, -0.5))  # from another start
    np.testing.assert_allclose(again, board, atol=1e-6)
