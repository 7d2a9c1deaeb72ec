"""Agreement of ratings with a reference: Pearson, Spearman and Kendall, with bootstrap intervals over the LLMs.

Each replicate draws the LLMs with replacement. All ratings share the draws, so the interval of a difference between two
of them is a paired one. Weighted by how often each LLM was drawn,

    Pearson     covariance over the product of the standard deviations
    Spearman    the same of the mean ranks
    Kendall     tau-b: concordant minus discordant pairs, over the geometric mean of the pairs untied in each
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import ResultsError
from p2l_sdk.tabular import Tabular

if TYPE_CHECKING:
    import matplotlib.axes

COEFFICIENTS = ("pearson", "spearman", "kendall")


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % limits."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Plain JSON values."""
        return {"value": self.value, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Correlation(Tabular):
    """Agreement of one rating with the reference.

    Attributes:
        name: name of the rating.
        n: number of LLMs compared.
        coefficients: pearson, spearman and kendall.
        differences: each coefficient minus that of the baseline, on the same LLMs; empty for the baseline itself.
    """

    name: str
    n: int
    coefficients: Mapping[str, Interval]
    differences: Mapping[str, Interval]

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"{self.name} and the reference, {self.n} LLMs"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each coefficient: coefficient, value, low and high (its 95 % limits)."""
        return [{"coefficient": name, **found.to_dict()} for name, found in self.coefficients.items()]

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw the coefficients.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        return pictures.draw_bars(self.rows(), "coefficient", "value", meaning="correlation", title=self.caption, ax=ax)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        tables = {"coefficients": self.coefficients, "differences": self.differences}
        return {
            "name": self.name,
            "n": self.n,
            **{key: {k: v.to_dict() for k, v in table.items()} for key, table in tables.items()},
        }


def correlations(
    ratings: Mapping[str, Mapping[str, float]],
    reference: Mapping[str, float],
    *,
    baseline: str | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> list[Correlation]:
    """Agreement of ratings with a reference, over the LLMs that the reference and all ratings have in common.

    Args:
        ratings: name -> LLM -> number, NaN for none; higher is better.
        reference: LLM -> number.
        baseline: the rating that the others are compared with; the first if not given.
        replicates, seed: of the bootstrap.

    Raises:
        ResultsError: fewer than three LLMs in common, a constant rating or reference, or an unknown baseline.
    """
    names = [name for name in reference if all(np.isfinite(rating.get(name, np.nan)) for rating in ratings.values())]
    if len(names) < 3:
        raise ResultsError(
            f"the ratings and the reference have {len(names)} LLMs in common; at least 3 are needed "
            "(check how the LLMs are named)"
        )
    baseline = next(iter(ratings)) if baseline is None else baseline
    if baseline not in ratings:
        raise ResultsError(f"there is no rating {baseline!r} to compare with; known: {', '.join(ratings)}")
    y = np.array([float(reference[name]) for name in names])
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(names), np.full(len(names), 1.0 / len(names)), size=replicates)
    weights = np.vstack([np.ones(len(names)), draws])  # the first row is the sample itself
    agreement = {}
    for name, rating in ratings.items():
        x = np.array([float(rating[model]) for model in names])
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            raise ResultsError(f"{name if np.ptp(x) == 0 else 'the reference'!r} is the same for all LLMs")
        agreement[name] = _agreement(x, y, weights)
    return [
        Correlation(
            name,
            len(names),
            {key: _interval(values[key]) for key in COEFFICIENTS},
            {}
            if name == baseline
            else {key: _interval(values[key] - agreement[baseline][key]) for key in COEFFICIENTS},
        )
        for name, values in agreement.items()
    ]


def _agreement(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Coefficient -> `(n_replicates,)`, for weights `(n_replicates, n)`; NaN where a replicate is constant."""
    above_x, above_y = (np.sign(values[:, None] - values) for values in (x, y))
    n = len(weights)
    ranks = weights @ above_x.T, weights @ above_y.T  # twice the mean ranks, up to a shift
    pairs = [np.einsum("ri,ij,rj->r", weights, a * b, weights, optimize=True) for a, b in
             ((above_x, above_y), (above_x, above_x), (above_y, above_y))]  # fmt: skip
    with np.errstate(divide="ignore", invalid="ignore"):
        kendall = pairs[0] / np.sqrt(pairs[1] * pairs[2])
    plain = np.broadcast_to(x, (n, len(x))), np.broadcast_to(y, (n, len(y)))
    return {"pearson": _pearson(*plain, weights), "spearman": _pearson(*ranks, weights), "kendall": kendall}


def _pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = weights.sum(1, keepdims=True)
    dx, dy = (values - (weights * values).sum(1, keepdims=True) / total for values in (x, y))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (weights * dx * dy).sum(1) / np.sqrt((weights * dx * dx).sum(1) * (weights * dy * dy).sum(1))


def _interval(values: np.ndarray) -> Interval:
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return Interval(float(values[0]), float(low), float(high))
