"""A model of kinds without weights: the kinds of a prompt are its words."""

from __future__ import annotations

import numpy as np

from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner, eta_of_threshold, log_probabilities, log_threshold
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.votes.votes import Votes

KINDS = ("code", "poem", "proof", "recipe")
LLMS = tuple(f"llm-{i}" for i in range(6))
_NAMES = {Winner.A: "model_a", Winner.B: "model_b", Winner.TIE: "tie", Winner.BOTH_BAD: "tie (bothbad)"}


class Kinds:
    """A scorer whose last layer can be edited; prompt "7 code proof" is of the kinds code and proof."""

    def __init__(self, rows, feedback=Feedback.BT, models=LLMS, eta=None, gamma=None, variances=None):
        self.spec = ModelSpec(models=tuple(models), feedback=feedback)
        self.rows, self.eta, self.gamma, self.variance = np.asarray(rows), eta, gamma, variances

    def features(self, prompts):
        return np.array([[kind in prompt.split() for kind in KINDS] for prompt in prompts], dtype=np.float32)

    def score_features(self, features):
        coefs = features @ self.rows[:, :-1].T + self.rows[:, -1]
        eta, gamma = (None if x is None else np.full((len(coefs), 1), x) for x in (self.eta, self.gamma))
        return Coefficients(coefs, eta, gamma)

    def score(self, prompts):
        return self.score_features(self.features(prompts))

    def with_rows(self, spec, rows, variance=None):
        return Kinds(rows, spec.feedback, spec.models, self.eta, self.gamma, variance)

    def with_feedback(self, feedback, eta):
        return Kinds(self.rows, feedback, self.spec.models, eta, variances=self.variance)


def rows_of(rng, n=6, levels=0.8, weights=1.0):
    """Random rows `(n, kinds + 1)`."""
    return np.hstack([weights * rng.normal(size=(n, len(KINDS))), levels * rng.normal(size=(n, 1))])


def scorer_of(rows, feedback=Feedback.BT, **options):
    """A scorer with these rows and the threshold t = 2 if the feedback model has one."""
    eta = float(eta_of_threshold(feedback, 0.0)) if feedback.has_eta else None
    return Kinds(rows, feedback, eta=eta, gamma=0.1 if feedback.has_gamma else None, **options)


def prompts(n, seed=0):
    """Prompts of one kind, a few of two or none."""
    rng = np.random.default_rng(seed)
    return [" ".join([str(i), *rng.choice(KINDS, rng.choice(3, p=[0.1, 0.7, 0.2]), replace=False)]) for i in range(n)]


def drawn(truth: Kinds, texts, n, seed=0, models=None) -> Votes:
    """Votes on random prompts and pairs, drawn from a scorer."""
    rng, names = np.random.default_rng(seed), truth.spec.models
    among = np.array([names.index(name) for name in models or names])
    a = rng.integers(0, len(among), n)
    b = (a + rng.integers(1, len(among), n)) % len(among)
    a, b, prompt = among[a], among[b], rng.integers(0, len(texts), n)
    scored, feedback = truth.score(texts), truth.spec.feedback
    extra = [None if x is None else x[prompt, 0] for x in (scored.eta, scored.gamma)]
    law = np.exp(log_probabilities(feedback, scored.coefs[prompt, a], scored.coefs[prompt, b], *extra))
    outcome = np.array(feedback.outcomes)[(rng.random((n, 1)) > law.cumsum(1)[:, :-1]).sum(1)]
    return Votes.from_rows(
        {"prompt": texts[p], "model_a": names[i], "model_b": names[j], "winner": _NAMES[Winner(w)]}
        for p, i, j, w in zip(prompt, a, b, outcome, strict=True)
    )


def threshold(scorer: Kinds) -> float:
    """log(t - 1) of a scorer."""
    return float(log_threshold(scorer.spec.feedback, np.array(scorer.eta)))
