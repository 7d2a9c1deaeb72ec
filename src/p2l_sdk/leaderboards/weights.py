"""Weights of any size: only their ratios count, so they are brought to a size at which nothing overflows or vanishes.

The factor is a power of two, which changes no digit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from p2l_sdk.errors import P2LError, VotesError
from p2l_sdk.modeling.limits_p2l import shown
from p2l_sdk.modeling.number_p2l import to_number

_ORDINARY = 64  # weights whose largest lies between 2^-64 and 2^64 stay as they are
_MOST_EVIDENCE = 1e12  # votes
NEGLIGIBLE = 1e-10  # share of the total weight below which double precision tells nothing


def exponent_of(values: np.ndarray) -> int:
    """The power of two to divide by so that the largest of these numbers >= 0 is in [1, 2); 0 for ordinary numbers, and
    if all are 0."""
    largest = float(values.max(initial=0.0))
    exponent = math.frexp(largest)[1] - 1
    return 0 if largest == 0.0 or abs(exponent) < _ORDINARY else exponent


def scaled(values: np.ndarray) -> np.ndarray:
    """These finite numbers >= 0, divided by a power of two if they are so large or small that sums or squares of them
    would not be exact. What is less than about 1e-300 of the largest becomes 0."""
    exponent = exponent_of(values)
    return np.ldexp(values, -exponent) if exponent else values


def require_evidence(weights: np.ndarray) -> None:
    """Refuse votes that would outweigh all that a model knows: beside it, a weight is a number of votes.

    Raises:
        VotesError: the weights sum to more than 1e12.
    """
    with np.errstate(over="ignore"):
        total = weights.sum()
    if total > _MOST_EVIDENCE:
        raise VotesError(
            f"the weights of the votes sum to {total:g}; beside what the model knows, a weight of 1 is one vote: "
            "divide them all by the same number"
        )


def weights_of(values: Any, rule: str) -> np.ndarray:
    """Weights given by a user, `(n,)` finite numbers >= 0.

    Args:
        values: numbers, or texts that spell them.
        rule: what they must be, for the message.

    Raises:
        P2LError: one is no finite number >= 0.
    """
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "biuf":
        weights = values.astype(np.float64)
    else:
        values = list(values)
        weights = np.array([to_number(value) for value in values], dtype=np.float64)
    wrong = np.flatnonzero(~((weights >= 0.0) & (weights < np.inf)))
    if len(wrong):
        raise P2LError(f"{rule}; one is {shown(values[wrong[0]])}")
    return weights + 0.0  # -0.0 is 0.0
