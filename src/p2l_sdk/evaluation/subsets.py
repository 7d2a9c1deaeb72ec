"""How many prompts until their votes say more than the model? (the paper's aggregation-scale study)

Random subsets of the prompts are drawn, several of each size. On each, the model's aggregate of the subset (which
needs no vote) and the marginal leaderboard of the subset's own votes are compared with the marginal leaderboard of
*all* votes. The latter two share votes, so with growing size the votes win by construction: at the whole file their
distance is 0. The question is at which size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.comparison_graph import undetermined
from p2l_sdk.errors import VotesError
from p2l_sdk.evaluation.agreement import marginal_of
from p2l_sdk.evaluation.predictions import Predictions
from p2l_sdk.facade import P2L
from p2l_sdk.metrics.leaderboards import compare_leaderboards
from p2l_sdk.results import Coefficients
from p2l_sdk.vote_counts import VoteCounts
from p2l_sdk.votes import Votes

if TYPE_CHECKING:
    import matplotlib.axes

_LADDER = (10, 25, 50, 100, 250, 500, 1000, 2500, 5000)


@dataclass(frozen=True)
class Range:
    """A metric over the subsets of one size: the mean, and the limits within which 95 % of the subsets lie."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class SubsetPoint:
    """All subsets of one size: the metrics of `compare_leaderboards`, of the model's aggregate and of the votes."""

    size: int
    model: dict[str, Range]
    votes: dict[str, Range]


@dataclass(frozen=True)
class SubsetStudy:
    """The study: a point for each size, the number of subsets of each, the seed, and what all votes are."""

    points: tuple[SubsetPoint, ...]
    trials: int
    seed: int
    n_prompts: int
    n_votes: int

    @property
    def overtaken_at(self) -> int | None:
        """The smallest size from which on the votes alone are nearer to all votes than the model, in the mean
        difference of pair probabilities; None if the model is nearer at the largest size still."""
        overtaken = None
        for point in reversed(self.points):
            if point.votes["preference_l1"].mean >= point.model["preference_l1"].mean:
                break
            overtaken = point.size
        return overtaken

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "overtaken_at": self.overtaken_at}

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draws the distances over the size (needs matplotlib)."""
        from p2l_sdk.plots import plot_subset_sizes

        return plot_subset_sizes(self, ax)


def subset_study(
    p2l: P2L,
    votes: Votes,
    sizes: Sequence[int] | None = None,
    *,
    trials: int = 20,
    seed: int = 0,
    scored: Coefficients | None = None,
) -> SubsetStudy:
    """Random subsets of the prompts, by size.

    Args:
        p2l, votes, scored: as in `evaluate_votes`. The model reads every prompt once, whatever the number of subsets.
        sizes: numbers of prompts; 10, 25, 50, 100, ... up to half of the prompts, if not given.
        trials: subsets of each size, drawn without replacement.
        seed: of the draw. A size draws the same subsets whatever the other sizes.

    Raises:
        VotesError: a size is below 1 or above the number of prompts, trials are below 1, or the votes do not
            determine a leaderboard.
    """
    everything = Predictions.of(p2l, votes, scored)
    prompts = np.flatnonzero(everything.prompt_weights)
    if sizes is None:
        sizes = [size for size in _LADDER if size <= len(prompts) / 2] or [max(1, len(prompts) // 2)]
    if trials < 1 or min(sizes, default=0) < 1:
        raise VotesError(f"subsets need sizes and trials of 1 or more; they are {list(sizes)} and {trials}")
    if max(sizes) > len(prompts):
        raise VotesError(f"subsets of {max(sizes):,} prompts cannot be drawn from {len(prompts):,}; give smaller sizes")
    if reason := undetermined(VoteCounts.of(votes), everything.feedback):
        raise VotesError(reason)
    truth = marginal_of(everything)
    points = []
    for size in sorted(set(sizes)):
        random = np.random.default_rng([seed, size])
        results: list[tuple[dict[str, float], dict[str, float]]] = []
        for _ in range(trials):
            drawn = random.choice(prompts, size, replace=False)
            part = everything.where(np.isin(votes.prompt, drawn))
            boards = part.aggregate(), marginal_of(part)
            results.append(tuple(compare_leaderboards(board, truth) for board in boards))  # type: ignore[arg-type]
        model, own = ([result[side] for result in results] for side in (0, 1))
        points.append(SubsetPoint(size, _ranges(model), _ranges(own)))
    return SubsetStudy(tuple(points), trials, seed, len(prompts), len(votes))


def _ranges(results: list[dict[str, float]]) -> dict[str, Range]:
    """Over the trials; without the metrics that are absent from one of them."""
    ranges = {}
    for name in results[0]:
        values = [result[name] for result in results if name in result]
        if len(values) == len(results):
            low, high = np.quantile(values, [0.025, 0.975])
            ranges[name] = Range(float(np.mean(values)), float(low), float(high))
    return ranges
