"""Coefficients in readable form: ranks, ratings and probabilities, as shown by the SDK and the Hub pipelines.

Coefficients are in logits, `(n_models,)` unless stated otherwise. Needs only numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .feedback_p2l import Feedback

ARENA_CENTRE, ARENA_SCALE = 1000.0, 400.0 / math.log(10.0)  # Chatbot Arena's scale: 400 points for odds of 10 to 1
_MANY_PAIRS = 1 << 22  # of LLMs and opponents, from which on win rates are interpolated
_NODES = 14
_MOST_PAIRS = 1 << 22  # win rates that are computed together
Z_95 = 1.959963984540054  # standard errors in half a 95 % interval


def ranks(coefs: np.ndarray) -> np.ndarray:
    """Rank of each LLM, 1 being the best; equal coefficients share a rank."""
    return 1 + len(coefs) - np.searchsorted(np.sort(coefs), coefs, side="right")


def ratings(feedback: Feedback, coefs: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
    """Ratings on the Arena scale, 1000 + 400 / ln 10 * coefficient; shifted to a mean of 1000 except for grk, whose
    zero has a meaning. `values`, of any shape, are converted to the scale of these coefs; by default the coefs are.
    """
    centre = 0.0 if feedback.grounded else float(coefs.mean())
    return ARENA_CENTRE + ARENA_SCALE * ((coefs if values is None else values) - centre)


def usable(feedback: Feedback, coefs: np.ndarray) -> np.ndarray | None:
    """Probability that each LLM's answer is usable, sigmoid(coef); None unless the feedback model is grounded."""
    return 1.0 / (1.0 + np.exp(-coefs)) if feedback.grounded else None


def win_rates(coefs: np.ndarray, opponents: np.ndarray, opponent_weights: np.ndarray) -> np.ndarray:
    """Expected win rate of each LLM against the opponents.

    Args:
        coefs: `(..., n_models)` in logits.
        opponents: `(..., n_opponents)` in logits.
        opponent_weights: `(n_opponents,)`, summing to 1.

    Returns:
        `(..., n_models)` in (0, 1).
    """
    n = coefs.shape[-1]
    if n * opponents.shape[-1] > _MANY_PAIRS:
        boards = np.broadcast_shapes(coefs.shape[:-1], opponents.shape[:-1])
        rates = np.empty((*boards, n))
        for board in np.ndindex(boards):
            x, y = (np.broadcast_to(side, (*boards, side.shape[-1]))[board] for side in (coefs, opponents))
            rates[board] = _smooth_win_rates(x, y, opponent_weights)
        return rates
    return _win_rates(coefs, opponents, opponent_weights)


def _smooth_win_rates(coefs: np.ndarray, opponents: np.ndarray, opponent_weights: np.ndarray) -> np.ndarray:
    """Win rates of very many LLMs, by interpolation.

    The rate is a smooth function of the coefficient: its poles lie pi away from the real line. On an interval of one
    logit, a polynomial through 14 Chebyshev nodes is therefore exact to 1e-15, and the opponents need only be met at
    these nodes.
    """
    from_low = coefs.astype(np.float64) - coefs.min()
    cells, place = np.unique(np.floor(from_low), return_inverse=True)
    if len(cells) * _NODES > len(coefs):  # too far apart
        return _win_rates(coefs, opponents, opponent_weights)
    degrees, angles = np.arange(_NODES), np.pi * (np.arange(_NODES) + 0.5) / _NODES
    nodes = coefs.min() + cells[:, None] + 0.5 + 0.5 * np.cos(angles)
    values = _win_rates(nodes.ravel(), opponents, opponent_weights).reshape(nodes.shape)
    polynomials = values @ np.cos(angles[:, None] * degrees) * np.where(degrees, 2.0, 1.0) / _NODES
    own = np.arccos(np.clip(2.0 * (from_low - cells[place]) - 1.0, -1.0, 1.0))
    return np.asarray((polynomials[place] * np.cos(own[:, None] * degrees)).sum(-1))


def _win_rates(coefs: np.ndarray, opponents: np.ndarray, opponent_weights: np.ndarray) -> np.ndarray:
    n = coefs.shape[-1]
    if n > 1 and coefs.size * opponents.shape[-1] > _MOST_PAIRS:  # so that no array holds the pairs of very many
        halves = coefs[..., : n // 2], coefs[..., n // 2 :]
        return np.concatenate([_win_rates(half, opponents, opponent_weights) for half in halves], -1)
    # sigmoid(x) = (1 + tanh(x / 2)) / 2
    return 0.5 + 0.5 * (np.tanh(0.5 * (coefs[..., :, None] - opponents[..., None, :])) @ opponent_weights)


def chances(feedback: Feedback, coefs: np.ndarray) -> np.ndarray:
    """One probability in (0, 1) per LLM: of a usable answer if the feedback model is grounded (grk), otherwise the mean
    win rate against all LLMs, itself included (which counts as one half)."""
    known = usable(feedback, coefs)
    return win_rates(coefs, coefs, np.full(len(coefs), 1.0 / len(coefs))) if known is None else known


def kind_errors(shares: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """`(n_prompts, n_models)` standard errors of the coefs, from `(n_prompts, n_kinds)` shares of kinds and the
    `(n_models, n_kinds + 1)` variances of the last layer."""
    return np.sqrt(np.square(shares) @ variance[:, :-1].T + variance[:, -1])


def rows(
    models: Sequence[str], feedback: Feedback, coefs: np.ndarray, intervals: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """One dictionary per LLM, best first (ties in the model's order): rank, model, coef, rating and, if known, usable,
    and low and high, the limits of the rating from the `(n_models, 2)` intervals of the coefs."""
    order = np.argsort(-coefs, kind="stable").tolist()
    values, rated, chance = coefs.tolist(), ratings(feedback, coefs).tolist(), usable(feedback, coefs)
    chances_of = None if chance is None else chance.tolist()
    limits = None if intervals is None else ratings(feedback, coefs, intervals).tolist()
    table: list[dict[str, Any]] = []
    for place, i in enumerate(order):  # plain numbers: a server builds thousands of these tables a second
        shared = place > 0 and values[i] == table[-1]["coef"]
        row = {"rank": table[-1]["rank"] if shared else place + 1, "model": models[i]}
        row |= {"coef": values[i], "rating": rated[i]}
        if chances_of is not None:
            row["usable"] = chances_of[i]
        if limits is not None:
            row["low"], row["high"] = limits[i]
        table.append(row)
    return table
