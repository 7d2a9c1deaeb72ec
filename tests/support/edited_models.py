"""LLMs drawn from a model itself, to be added to it, for tests."""

from __future__ import annotations

import numpy as np
from conftest import WORDS

from p2l_sdk import P2L
from p2l_sdk.modeling.feedback_p2l import Winner, log_probabilities

NEW = "epsilon-1t"
NAMES = {Winner.A: "model_a", Winner.B: "model_b", Winner.TIE: "tie", Winner.BOTH_BAD: "tie (bothbad)"}


def prompts(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 6)) for _ in range(n)]


def simulated(model: P2L, row: np.ndarray, texts: list[str], each: int, seed: int = 0) -> list[dict]:
    """Votes drawn from the model itself between an LLM with this row and random known LLMs, `each` per prompt."""
    rng = np.random.default_rng(seed)
    feedback, scored = model.spec.feedback, model.coefficients(texts)
    features = model._scorer.features(texts).astype(np.float64)
    new = features @ row[:-1] + row[-1]
    rows = []
    for i, text in enumerate(texts):
        for opponent in rng.integers(0, len(model.models), each):
            eta, gamma = (None if x is None else np.float64(x[i, 0]) for x in (scored.eta, scored.gamma))
            log_probs = log_probabilities(feedback, new[i], np.float64(scored.coefs[i, opponent]), eta, gamma)
            outcome = rng.choice(feedback.outcomes, p=np.exp(log_probs) / np.exp(log_probs).sum())
            sides = (NEW, model.models[opponent])
            if rng.random() < 0.5:
                sides, outcome = sides[::-1], {0: 1, 1: 0}.get(int(outcome), outcome)
            rows.append({"prompt": text, "model_a": sides[0], "model_b": sides[1], "winner": NAMES[Winner(outcome)]})
    return rows


def true_row(model: P2L, seed: int = 1) -> np.ndarray:
    rows = model._scorer.rows.astype(np.float64)
    return rows.mean(0) + np.random.default_rng(seed).normal(size=rows.shape[1])
