"""Familiarity: how much a prompt is like those that a model learned from, and what the model makes of it if it is not.

The training prompts' vectors z are described by a Gaussian that knows their leading directions u_k with variances v_k,
and one variance s for all other directions (probabilistic principal component analysis). A prompt's distance d is

    d^2 = sum_k (u_k . (z - centre))^2 / v_k + |the rest of z - centre|^2 / s,

and its familiarity in [0, 1] is the share of training prompts, each held out when its distance was taken, that are at
least as far away (the p-value of conformal prediction). Down to 5 % it is linear in d between the quantiles of
`SHARES`; from there it falls exponentially, at the rate at which it falls to 1 %.

The last layer sees the centred features of the prompt times `damping(familiarity)`: a prompt unlike anything in
training falls toward the mean leaderboard of the training prompts. (Of a model of kinds, nothing is damped: where no
kind is recognised, it returns the overall leaderboard.) `error` holds two numbers in squared logits, 0 if
not known: the variance of the model's error for a group of like prompts, and that of the coefficients among the
training prompts; the SDK's aggregates use them for their intervals. Arguments are numpy arrays or torch tensors.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_STEP = 0.05
SHARES = (*(1.0 - _STEP * i for i in range(20)), 0.01)  # of training prompts at least this far away
FAMILIAR = 0.005  # from this familiarity on, a prompt keeps its whole departure from the mean leaderboard
TENSORS = ("centre", "directions", "precision", "quantiles", "average", "error")  # in head.familiarity
_INNER, _RATE = np.array(SHARES[:-1]), math.log(SHARES[-2] / SHARES[-1])
_BEND = 0.1
_FARTHEST = 80.0  # exp(-80) is still a float32
_LEAST = 1e-6  # between two quantiles

Array = Any


def shapes(rank: int, width: int, n_features: int) -> dict[str, tuple[int, ...]]:
    """The shape of each of `TENSORS`: for vectors of `width` entries, the `rank` leading directions, and a last layer
    of `n_features` inputs."""
    return {
        "centre": (width,),
        "directions": (rank, width),
        "precision": (rank + 1,),
        "quantiles": (len(SHARES),),
        "average": (n_features,),
        "error": (2,),
    }


def distances(state: Array, centre: Array, directions: Array, precision: Array) -> Array:
    """`(n_prompts,)` distances of vectors `(n_prompts, width)` from the training prompts; `precision` `(rank + 1,)` is
    1 / v_k for each direction, and 1 / s."""
    away = state - centre
    along = away @ directions.T
    rest = away - along @ directions
    return ((along * along) @ precision[:-1] + (rest * rest).sum(1) * precision[-1]) ** 0.5


def familiarity(distance: Array, quantiles: Array) -> Array:
    """`(n_prompts,)` familiarity at these distances, given the distances at `SHARES`, in ascending order."""
    known, far, farthest = quantiles[:-1], quantiles[-2], quantiles[-1]
    if isinstance(distance, np.ndarray):  # a few microseconds of a single prompt
        share = np.interp(distance, known, _INNER)
        far, farthest = float(far), float(farthest)
        if distance.max() <= far:
            return share
        beyond = (distance - far) * (_RATE / max(farthest - far, _LEAST))
        return share * np.exp(-beyond.clip(0.0, _FARTHEST))
    steps = ((distance[:, None] - known[:-1]) / (known[1:] - known[:-1]).clip(_LEAST)).clip(0.0, 1.0)
    beyond = (distance - far) * (_RATE / (farthest - far).clip(_LEAST))
    return (1.0 - _STEP * steps.sum(1)) * math.e ** (-beyond.clip(0.0, _FARTHEST))


def damping(familiar: Array) -> Array:
    """The share in [0, 1] of the departure from the mean leaderboard that prompts of this familiarity keep: all from
    `FAMILIAR` on, 0.73 at 0.001, 0.18 at 0.0001."""
    x = (familiar / FAMILIAR).clip(0.0, 1.0)
    return x * (1.0 + _BEND) / (x + _BEND)
