"""A model whose coefficients are given, and votes drawn from such coefficients."""

from __future__ import annotations

import numpy as np
from conftest import MODELS

from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback, log_probabilities
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.votes.votes import Votes


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
