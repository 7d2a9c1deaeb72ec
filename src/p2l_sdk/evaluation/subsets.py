"""From how many prompts on do the votes alone tell more than the model?

This is the paper's aggregation-scale study.

Random subsets of the prompts are drawn, several of each size. For each subset, the model's aggregate (which needs no
votes) and the averaged leaderboard of the subset's own votes are compared with the averaged leaderboard of *all* votes.
A subset's votes are among all votes, so at full size their distance is 0 by construction. The question is from which
size on the votes are closer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import VotesError
from p2l_sdk.evaluation.metrics.leaderboards import compare_leaderboards
from p2l_sdk.evaluation.predictions import Predictions
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.p2l import P2L
from p2l_sdk.tabular import Tabular
from p2l_sdk.votes.votes import Votes

if TYPE_CHECKING:
    import matplotlib.axes

_LADDER = (10, 25, 50, 100, 250, 500, 1000, 2500, 5000)


@dataclass(frozen=True)
class Range:
    """A metric over the subsets of one size: the mean, and the limits that contain 95 % of the subsets."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class SubsetPoint:
    """All subsets of one size: the metrics of `compare_leaderboards` for the model's aggregate and for the votes."""

    size: int
    model: dict[str, Range]
    votes: dict[str, Range]


@dataclass(frozen=True)
class SubsetStudy(Tabular):
    """The study: a point for each size, the number of subsets of each size, the seed, and the size of the whole data.

    `n_prompts` counts the prompts from which subsets are drawn, `n_votes` all votes.
    """

    points: tuple[SubsetPoint, ...]
    trials: int
    seed: int
    n_prompts: int
    n_votes: int

    @property
    def overtaken_at(self) -> int | None:
        """The smallest size from which on the votes alone are closer to all votes than the model is, by the mean
        difference of pair probabilities; None if the model is still at least as close at the largest size."""
        overtaken = None
        for point in reversed(self.points):
            if point.votes["preference_l1"].mean >= point.model["preference_l1"].mean:
                break
            overtaken = point.size
        return overtaken

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"Random subsets of {self.n_prompts:,} prompts with {self.n_votes:,} votes, {self.trials} of each size"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each size, side (model or votes) and metric: prompts, side, metric, mean, low, high."""
        return [
            {"prompts": point.size, "side": side, "metric": name, **asdict(found)}
            for point in self.points
            for side in ("model", "votes")
            for name, found in getattr(point, side).items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "overtaken_at": self.overtaken_at}

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Plot the distance of the model's aggregate, and of a fit to the subset's votes alone, from the leaderboard of
        all votes, against the subset size; the bands hold 95 % of the subsets.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        ax = pictures.axes_of_size(ax, 6.4, 4.8)
        sizes = [point.size for point in self.points]
        lines = (
            ("model", pictures.BLUE, "o-", "the model's aggregate, without votes"),
            ("votes", pictures.ORANGE, "s-", "votes on the subset alone"),
        )
        for side, colour, style, label in lines:
            ranges = [getattr(point, side)["preference_l1"] for point in self.points]
            low, mean, high = ([getattr(r, name) for r in ranges] for name in ("low", "mean", "high"))
            ax.fill_between(sizes, low, high, color=colour, alpha=0.15, lw=0)
            ax.plot(sizes, mean, style, color=colour, ms=4.5, lw=1.8, label=label)
        ax.set_xscale("log")
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
        ax.minorticks_off()
        ax.set_ylim(bottom=0.0)
        ax.set_xlabel(f"prompts in the subset, of {self.n_prompts:,}")
        ax.set_ylabel("distance to the leaderboard of all votes\n(mean difference of the pairs' probabilities)")
        title = f"Random subsets of prompts, {self.trials} of each size (bands: 95 % of them)"
        ax.set_title(title, loc="left", fontsize=pictures.NORMAL)
        ax.legend(frameon=False, loc="upper right")
        return ax


def subset_study(
    p2l: P2L,
    votes: Votes,
    sizes: Sequence[int] | None = None,
    *,
    trials: int = 20,
    seed: int = 0,
    scored: Coefficients | None = None,
) -> SubsetStudy:
    """Compare the model with the votes alone on random subsets of the prompts.

    Args:
        p2l, votes, scored: as in `evaluate_votes`. The model reads every prompt once, whatever the number of subsets.
        sizes: numbers of prompts; by default 10, 25, 50, 100, ... up to half of the prompts.
        trials: number of subsets of each size; prompts are drawn without replacement.
        seed: seed of the draws. The subsets of a size do not depend on the other sizes.

    Raises:
        VotesError: a size is below 1 or above the number of prompts, `trials` is below 1, or the votes do not
            determine a leaderboard.
    """
    return study_of(Predictions.of(p2l, votes, scored), sizes, trials=trials, seed=seed)


def study_of(everything: Predictions, sizes: Sequence[int] | None, *, trials: int, seed: int) -> SubsetStudy:
    """`subset_study`, given predictions."""
    prompts = np.flatnonzero(everything.prompt_weights)
    if sizes is None:
        sizes = [size for size in _LADDER if size <= len(prompts) / 2] or [max(1, len(prompts) // 2)]
    if trials < 1 or min(sizes, default=0) < 1:
        raise VotesError(f"subsets need sizes and trials of 1 or more; they are {list(sizes)} and {trials}")
    if max(sizes) > len(prompts):
        raise VotesError(f"subsets of {max(sizes):,} prompts cannot be drawn from {len(prompts):,}; give smaller sizes")
    everything.require_determined()
    points = []
    for size in sorted(set(sizes)):
        random = np.random.default_rng([seed, size])
        model, own = [], []  # of each subset: the distances of the model's aggregate, and of its own votes
        for _ in range(trials):
            drawn = random.choice(prompts, size, replace=False)
            part = everything.where(np.isin(everything.votes.prompt, drawn))
            model.append(compare_leaderboards(part.aggregate(), everything.averaged))
            own.append(compare_leaderboards(part.averaged, everything.averaged))
        points.append(SubsetPoint(size, _ranges(model), _ranges(own)))
    return SubsetStudy(tuple(points), trials, seed, len(prompts), len(everything.votes))


def _ranges(results: list[dict[str, float]]) -> dict[str, Range]:
    """The range of each metric over the trials; metrics that are absent from any trial are left out."""
    ranges = {}
    for name in results[0]:
        values = [result[name] for result in results if name in result]
        if len(values) == len(results):
            low, high = np.quantile(values, [0.025, 0.975])
            ranges[name] = Range(float(np.mean(values)), float(low), float(high))
    return ranges
