"""A model whose coefficients are given, and votes drawn from such coefficients: on prompts, or without any."""

from __future__ import annotations

import numpy as np
from conftest import MODELS

from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback, eta_of_threshold, log_probabilities
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.votes.votes import Votes

OUTCOMES = np.array(["model_a", "model_b", "tie", "tie (bothbad)"])
THETA = np.array([0.3, 1.0, -0.6, 0.5, 1.4])
NAMES = np.array([f"m{i}" for i in range(5)])


class Given:
    """A scorer with given coefficients: those of prompt "7" are row 7."""

    def __init__(self, coefs, eta=None, feedback=Feedback.GRK, models=MODELS):
        self.spec, self.coefs, self.eta = ModelSpec(models=tuple(models), feedback=feedback), coefs, eta
        self.prompts_read = 0

    def score(self, prompts):
        rows = [int(prompt) for prompt in prompts]
        self.prompts_read += len(rows)
        return Coefficients(self.coefs[rows], None if self.eta is None else self.eta[rows], None)


def votes_of(coefs, eta, rng, per_prompt=6, models=MODELS, feedback=Feedback.GRK):
    """Votes on prompts "0", "1", ..., drawn from the feedback model."""
    prompt = np.repeat(np.arange(len(coefs)), per_prompt)
    a = rng.integers(0, len(models), len(prompt))
    b = (a + rng.integers(1, len(models), len(prompt))) % len(models)
    law = np.exp(log_probabilities(feedback, coefs[prompt, a], coefs[prompt, b], eta[prompt, 0]))
    winner = (rng.random((len(prompt), 1)) > law.cumsum(1)).sum(1).clip(max=law.shape[1] - 1)
    prompts = [str(i) for i in range(len(coefs))]
    return Votes(prompts, tuple(models), prompt, a, b, winner, np.ones(len(prompt)))


def truth(feedback: Feedback) -> float | None:
    """The raw eta of the threshold t = 1.8."""
    return float(eta_of_threshold(feedback, np.log(0.8))) if feedback.has_eta else None


def simulated(feedback: Feedback, n: int, rng: np.random.Generator, theta=THETA) -> dict[str, np.ndarray]:
    """Votes drawn from known coefficients, as string columns."""
    a = rng.integers(0, len(theta), n)
    b = (a + rng.integers(1, len(theta), n)) % len(theta)
    eta, gamma = truth(feedback), 0.0
    extra = [None if x is None else np.full(n, x) for x in (eta, gamma)]
    law = np.exp(log_probabilities(feedback, theta[a], theta[b], *extra))
    drawn = (rng.random((n, 1)) > law.cumsum(1)[:, :-1]).sum(1)
    winner = OUTCOMES[np.array(feedback.outcomes)[drawn]]
    return {"model_a": NAMES[a], "model_b": NAMES[b], "winner": winner}


def widths(board: Leaderboard) -> np.ndarray:
    """The widths of the intervals of a leaderboard."""
    return board.intervals[:, 1] - board.intervals[:, 0]
