"""Means with standard errors that allow for votes on the same prompt not being independent.

The errors are clustered by prompt: the mean is a ratio of sums over prompts, and its variance follows from the prompts'
residuals (linearisation, with the factor n / (n - 1)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from p2l_sdk.errors import VotesError


@dataclass(frozen=True)
class Estimate:
    """A number, its standard error clustered by prompt (None for a single prompt, or if the number is not a mean), and
    the number of votes or prompts behind it."""

    value: float
    standard_error: float | None
    n: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval, by the normal approximation; None without a standard error."""
        if self.standard_error is None:
            return None
        margin = 1.96 * self.standard_error
        return self.value - margin, self.value + margin

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"value": self.value, "standard_error": self.standard_error, "n": self.n}


def clustered_mean(values: np.ndarray, weights: np.ndarray, cluster: np.ndarray) -> Estimate:
    """Weighted mean with a cluster-robust standard error (None with fewer than two clusters).

    Args:
        values, weights: `(n,)`.
        cluster: `(n,)` integers >= 0.

    Raises:
        VotesError: no weight is above 0.
    """
    used = weights > 0
    values, weights, cluster = values[used], weights[used], cluster[used]
    if not len(values):
        raise VotesError("there is nothing to average: no vote of this kind in the file")
    total = weights.sum()
    mean = float((weights * values).sum() / total)
    residuals = np.bincount(cluster, weights * (values - mean))
    n_clusters = len(np.unique(cluster))
    if n_clusters < 2:
        return Estimate(mean, None, len(values))
    variance = np.square(residuals).sum() * n_clusters / (n_clusters - 1)
    return Estimate(mean, float(np.sqrt(variance) / total), len(values))
