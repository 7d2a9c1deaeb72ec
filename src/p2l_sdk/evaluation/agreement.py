"""The model's aggregate over prompts against the leaderboard of the votes on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2l_sdk.evaluation.metrics.leaderboards import compare_leaderboards
from p2l_sdk.evaluation.predictions import Predictions
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.p2l import P2L
from p2l_sdk.tabular import Tabular
from p2l_sdk.votes.votes import Votes

if TYPE_CHECKING:
    import matplotlib.axes


@dataclass(frozen=True, eq=False)
class Agreement(Tabular):
    """How close a model's aggregate is to the leaderboard of the votes on the same prompts.

    Attributes:
        aggregate: the model's aggregate over the prompts.
        marginal: the averaged leaderboard of the votes, taken as the truth.
        metrics: aggregate against marginal (`compare_leaderboards`).
        baseline: the same metrics for another leaderboard, e.g. that of the training votes; None if not given.
    """

    aggregate: Leaderboard
    marginal: Leaderboard
    metrics: dict[str, float]
    baseline: dict[str, float] | None = None

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"The aggregate of {self.aggregate.n_prompts:,} prompts against the leaderboard of their votes"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each metric: metric, value, and baseline if one was given."""
        baseline = self.baseline or {}
        return [
            {"metric": name, "value": value, **({"baseline": baseline[name]} if name in baseline else {})}
            for name, value in self.metrics.items()
        ]

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw the metrics of the aggregate.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        return pictures.draw_bars(
            self.rows(),
            "metric",
            "value",
            meaning="aggregate against the leaderboard of the votes",
            title=self.caption,
            ax=ax,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "metrics": self.metrics,
            "baseline": self.baseline,
            "aggregate": self.aggregate.to_dict(),
            "marginal": self.marginal.to_dict(),
        }


def aggregate_agreement(
    p2l: P2L, votes: Votes, *, baseline: Leaderboard | None = None, scored: Coefficients | None = None
) -> Agreement:
    """Compare the model's aggregate over the prompts of the votes with the maximum-likelihood leaderboard of the votes.

    Args:
        p2l, votes, scored: as in `evaluate_votes`.
        baseline: another leaderboard, to be compared in the same way.

    Raises:
        VotesError: the votes do not determine a leaderboard, so there is nothing to compare with.
    """
    return agreement_of(Predictions.of(p2l, votes, scored), baseline)


def agreement_of(predictions: Predictions, baseline: Leaderboard | None = None) -> Agreement:
    """`aggregate_agreement`, given predictions."""
    predictions.require_determined()
    aggregate, averaged = predictions.aggregate(), predictions.averaged
    other = None if baseline is None else compare_leaderboards(baseline, averaged)
    return Agreement(aggregate, averaged, compare_leaderboards(aggregate, averaged), other)
