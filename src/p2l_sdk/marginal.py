"""The averaged (marginal) leaderboard of votes, whatever the prompt: what a P2L model is compared with."""

from __future__ import annotations

import numpy as np

from p2l_sdk.modeling.feedback_p2l import Feedback, eta_of_threshold, vote_targets
from p2l_sdk.pair_likelihood import PairLikelihood
from p2l_sdk.results import Leaderboard
from p2l_sdk.votes import Votes

_RIDGE = 1e-6  # keeps LLMs that always win, or are never compared, at a finite coefficient


def fit_leaderboard(votes: Votes, feedback: Feedback | str) -> Leaderboard:
    """Maximum-likelihood leaderboard of votes, from their counts.

    Args:
        votes: the votes, with their weights.
        feedback: the feedback model, or its name.

    Raises:
        ConvergenceError: the fit did not reach its optimum.
    """
    feedback = Feedback.parse(feedback)
    n_models = len(votes.models)
    counts = _counts(votes, feedback)
    problem = PairLikelihood(feedback, n_models, ridge=_RIDGE)
    optimum = problem.minimise(counts * (len(counts) / max(counts.sum(), 1.0)), np.zeros(n_models + 1))
    return Leaderboard(
        models=votes.models,
        coefs=optimum[:n_models],
        feedback=feedback,
        eta=float(eta_of_threshold(feedback, optimum[-1])) if feedback.has_eta else None,
        gamma=0.0 if feedback.has_gamma else None,
        n_prompts=len(votes.prompts),
    )


def _counts(votes: Votes, feedback: Feedback) -> np.ndarray:
    """`(n_pairs, n_outcomes)` weights of the outcomes of each pair a < b."""
    n_models = len(votes.models)
    first, second = np.triu_indices(n_models, 1)
    number = np.zeros((n_models, n_models), dtype=np.int64)
    number[first, second] = np.arange(len(first))
    turned = votes.a > votes.b
    pair = number[np.minimum(votes.a, votes.b), np.maximum(votes.a, votes.b)]
    winner = np.where(turned & (votes.winner < 2), 1 - votes.winner, votes.winner)
    by_winner = np.bincount(pair * 4 + winner, votes.weight, 4 * len(first)).reshape(-1, 4)
    return by_winner @ vote_targets(feedback)
