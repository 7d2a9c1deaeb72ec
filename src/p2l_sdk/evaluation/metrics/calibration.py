"""Calibration: do events that are predicted with probability p happen in a share p of the cases?

Cases are sorted into bins of equal weight (with bins of equal width, most cases would fall into two or three of them).
Cases with the same probability stay together, so their order does not matter. The expected calibration error is

    ECE = sum over bins of  share of the bin * |mean probability - frequency|        (Naeini et al. 2015)

By chance, even a perfectly calibrated model has an ECE above 0: a gap with standard error s is sqrt(2 / pi) * s on
average.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import P2LError, VotesError
from p2l_sdk.evaluation.metrics.estimates import clustered_mean
from p2l_sdk.leaderboards.weights import weights_of
from p2l_sdk.tabular import Tabular

if TYPE_CHECKING:
    import matplotlib.axes

_ROUNDED = 1e-6  # by which a share may lie outside [0, 1]


@dataclass(frozen=True, eq=False)
class Reliability(Tabular):
    """A reliability curve.

    Attributes:
        probability, frequency: `(n_bins,)` mean predicted probability and observed frequency, in [0, 1], in ascending
            order of probability.
        standard_error: `(n_bins,)` clustered standard error of frequency - probability; NaN in a bin of one cluster.
        share: `(n_bins,)` shares of the total weight, summing to 1.
        n: `(n_bins,)` numbers of cases.
    """

    probability: np.ndarray
    frequency: np.ndarray
    standard_error: np.ndarray
    share: np.ndarray
    n: np.ndarray

    @property
    def ece(self) -> float:
        """Expected calibration error, in [0, 1]."""
        return float(self.share @ np.abs(self.probability - self.frequency))

    @property
    def ece_by_chance(self) -> float | None:
        """The approximate ECE that a perfectly calibrated model would show on as many cases; None if a bin has no
        standard error."""
        by_chance = float(self.share @ self.standard_error) * math.sqrt(2.0 / math.pi)
        return by_chance if math.isfinite(by_chance) else None

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"Calibration on {int(self.n.sum()):,} decisive votes: ECE {self.ece:.3f}"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each bin: probability, frequency, standard_error (None if not known), share, n."""
        errors = [error if math.isfinite(error) else None for error in self.standard_error.tolist()]
        columns = (self.probability.tolist(), self.frequency.tolist(), errors, self.share.tolist(), self.n.tolist())
        names = ("probability", "frequency", "standard_error", "share", "n")
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: ece, ece_by_chance and one row per bin."""
        return {"ece": self.ece, "ece_by_chance": self.ece_by_chance, "bins": self.rows()}

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Plot how often the favourite of a pair won against the predicted probability, with 95 % intervals.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        ax = pictures.axes_of_size(ax, 4.8, 4.8)
        ax.plot([0.0, 1.0], [0.0, 1.0], "--", color=pictures.GREY, lw=1, label="perfectly calibrated")
        errors = 1.96 * np.nan_to_num(self.standard_error)
        ax.errorbar(
            self.probability,
            self.frequency,
            yerr=[np.minimum(errors, self.frequency), np.minimum(errors, 1.0 - self.frequency)],
            fmt="o-",
            color=pictures.BLUE,
            ecolor=pictures.GREY_BLUE,
            ms=4.5,
            lw=1.6,
            label=f"model, ECE {self.ece:.3f}",
        )
        low = max(0.0, min(self.probability.min(), (self.frequency - errors).min(), 0.5) - 0.02)
        ax.set(xlim=(low, 1.01), ylim=(low, 1.01), aspect="equal")
        ax.set_xlabel("predicted chance that the favourite wins")
        ax.set_ylabel("share of votes that it won")
        ax.set_title("Calibration on decisive votes", loc="left", fontsize=pictures.NORMAL)
        ax.legend(frameon=False, loc="lower right")
        return ax


def reliability(
    probabilities: np.ndarray,
    outcomes: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
    bins: int = 10,
) -> Reliability:
    """Compute the reliability curve of predicted probabilities.

    Args:
        probabilities: `(n,)` in [0, 1].
        outcomes: `(n,)` in [0, 1]; 1 if the event happened.
        weights: `(n,)` >= 0; 1 if not given.
        cluster: `(n,)` integers >= 0, the prompts; by default each case is its own cluster.
        bins: number of bins of equal weight; the result has fewer if many cases share a probability.

    Raises:
        VotesError: no weight is above 0.
        P2LError: `bins` is below 1, or a number is not in its range.
    """
    if bins < 1:
        raise P2LError(f"calibration needs at least 1 bin, got {bins}")
    probabilities, outcomes = _shares("probabilities", probabilities), _shares("outcomes", outcomes)
    weights = np.ones(len(probabilities)) if weights is None else weights_of(weights, "weights must be numbers >= 0")
    if not len(probabilities) == len(outcomes) == len(weights):
        lengths = f"{len(probabilities):,}, {len(outcomes):,} and {len(weights):,}"
        raise P2LError(f"probabilities, outcomes and weights are {lengths} numbers; give one of each for every case")
    cluster = np.arange(len(probabilities)) if cluster is None else np.asarray(cluster)
    used = weights > 0
    if not used.any():
        raise VotesError("there is nothing to calibrate on: no decisive vote in the file")
    p, y = probabilities[used], outcomes[used]
    weights, cluster = weights[used], cluster[used]
    _, level = np.unique(p, return_inverse=True)
    mass = np.bincount(level, weights)
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    _, place = np.unique(np.floor(bins * middle).astype(int)[level], return_inverse=True)
    total = np.bincount(place, weights)
    errors = [clustered_mean(y - p, weights * (place == k), cluster).standard_error for k in range(len(total))]
    return Reliability(
        probability=np.bincount(place, weights * p) / total,
        frequency=np.bincount(place, weights * y) / total,
        standard_error=np.array([np.nan if error is None else error for error in errors]),
        share=total / total.sum(),
        n=np.bincount(place),
    )


def _shares(what: str, values: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1], rounding aside."""
    shares = np.asarray(values, dtype=np.float64)
    wrong = np.flatnonzero(~((shares >= -_ROUNDED) & (shares <= 1.0 + _ROUNDED)))
    if shares.ndim != 1 or len(wrong):
        found = f"one is {shares.flat[wrong[0]]:g}" if len(wrong) else f"theirs is the shape {shares.shape}"
        raise P2LError(f"{what} must be numbers in [0, 1], one for each case; {found}")
    return np.clip(shares, 0.0, 1.0)
