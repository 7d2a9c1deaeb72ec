"""From shares of right answers to votes: how often one LLM is right where another is wrong.

Of two LLMs that are right on 80 % and 60 % of a benchmark's questions, one does not know on how many both are. Were
they independent, it would be 48 %; in truth the same questions are hard for all, so it is more. Every question has a
difficulty d, standard normal, that all LLMs share, and an LLM is right with probability sigmoid(m - s d): its m is such
that its share comes out (a Rasch model). The one number s = `SPREAD` says how much questions differ. It was fitted to
RouteLLM's 13,880 answers of GPT-4 and Mixtral to MMLU (0.806 and 0.680 right, both 0.628), and is used for all others.
"""

from __future__ import annotations

import warnings

import numpy as np

from p2l_sdk.errors import P2LWarning
from p2l_sdk.leaderboards.likelihood import PairLikelihood, require_room
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.mpg.node_estimates import plural

SPREAD = 2.25  # logits
_LEAST = 0.005  # shares are kept this far from 0 and 1, whose logits are infinite
_UNSTATED = 100.0  # questions assumed behind a published share that does not say how many
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(31)  # quadrature over the difficulty
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def outcome_shares(right: np.ndarray, spread: float = SPREAD) -> np.ndarray:
    """Expected shares of the outcomes of votes between LLMs with these shares of right answers.

    Args:
        right: `(n_models,)` share of questions answered right, in [0, 1].
        spread: standard deviation of the questions' difficulty, in logits; 0 for independent answers.

    Returns:
        `(n_pairs, 4)` for the pairs a < b: a is right alone, b is, both are, neither is.
    """
    require_room(len(right), 8.0)
    logits = _abilities(np.clip(right, _LEAST, 1.0 - _LEAST), spread)
    p = _sigmoid(logits - spread * _NODES[:, None])
    pairs, wrong = np.triu_indices(len(right), 1), 1.0 - p
    outcomes = ((p, wrong), (wrong, p), (p, p), (wrong, wrong))
    return np.stack([((_WEIGHTS * a.T) @ b)[pairs] for a, b in outcomes], 1)


def grounded_leaderboard(shares: np.ndarray, n_models: int, start: np.ndarray | None = None) -> np.ndarray:
    """The grounded Rao-Kupper leaderboard of these `(n_pairs, 4)` shares of outcomes: `(n_models + 1,)` coefficients in
    logits, and log(t - 1) of the tie threshold."""
    # a light ridge: of LLMs that are never right, or always, the likelihood says no finite coefficient
    problem = PairLikelihood(Feedback.GRK, n_models, ridge=1e-4)
    return problem.minimise(shares, np.zeros(n_models + 1) if start is None else start)


def questions_of(counts: np.ndarray) -> np.ndarray:
    """Numbers of questions, with 100 for NaN, where shares of right answers were published without.

    Warns:
        P2LWarning: there are such.
    """
    unstated = np.isnan(counts)
    if unstated.any():
        one = f"{plural(int(unstated.sum()), 'score')} without a number of questions"
        warnings.warn(
            f"{one}: taken as of {_UNSTATED:g} questions each, which sets the errors of the ratings; state it in a "
            "column n, in a table of the columns model, benchmark, score and n",
            P2LWarning,
            stacklevel=3,
        )
    return np.where(unstated, _UNSTATED, counts)


def _abilities(right: np.ndarray, spread: float) -> np.ndarray:
    """The m whose mean of sigmoid(m - spread d) over the difficulties is the share, by bisection."""
    low, high = np.full(len(right), -40.0), np.full(len(right), 40.0)
    for _ in range(60):
        middle = (low + high) / 2.0
        too_low = _WEIGHTS @ _sigmoid(middle - spread * _NODES[:, None]) < right
        low, high = np.where(too_low, middle, low), np.where(too_low, high, middle)
    return (low + high) / 2.0


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)
