"""The measurements repeated for each category of prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import VotesError
from p2l_sdk.evaluation.agreement import Agreement, agreement_of
from p2l_sdk.evaluation.averaged import Averaged, AveragedSource
from p2l_sdk.evaluation.metrics.estimates import Estimate
from p2l_sdk.evaluation.metrics.pairs import pair_metrics
from p2l_sdk.evaluation.predictions import Predictions
from p2l_sdk.evaluation.votes import Baseline, comparison_of
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.p2l import P2L
from p2l_sdk.tabular import Tabular, estimates_of
from p2l_sdk.votes.votes import Votes

if TYPE_CHECKING:
    import matplotlib.axes


@dataclass(frozen=True, eq=False)
class Category(Tabular):
    """The measurements on the votes of one category.

    Attributes:
        n_votes, n_prompts: numbers of votes and of prompts.
        metrics: as from `evaluate_votes`; those that do not apply to these votes are absent.
        baseline: as from `compare_with_baseline`; None if no baseline was given.
        agreement: as from `aggregate_agreement`; None if the votes do not determine a leaderboard.
    """

    n_votes: int
    n_prompts: int
    metrics: dict[str, Estimate]
    baseline: Baseline | None
    agreement: Agreement | None

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"{self.n_votes:,} votes on {self.n_prompts:,} prompts of one category"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each metric: metric, value, standard_error and n."""
        return estimates_of(self.metrics)

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw the metrics.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        return pictures.draw_bars(
            self.rows(), "metric", "value", meaning="value of the metric", title=self.caption, ax=ax
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "n_votes": self.n_votes,
            "n_prompts": self.n_prompts,
            "metrics": {name: estimate.to_dict() for name, estimate in self.metrics.items()},
            "baseline": None if self.baseline is None else self.baseline.to_dict(),
            "agreement": None if self.agreement is None else self.agreement.to_dict(),
        }


def by_category(
    p2l: P2L,
    votes: Votes,
    column: str,
    *,
    baseline: AveragedSource | None = None,
    scored: Coefficients | None = None,
) -> dict[str, Category]:
    """Measure the model on the votes of each value of a category column, in sorted order.

    Args:
        p2l, votes, scored: as in `evaluate_votes`.
        column: the name of a column in `votes.categories`.
        baseline: as in `compare_with_baseline`.

    Raises:
        VotesError: the votes have no such column.
    """
    _labels(votes, column)  # an unknown column is refused before the model reads any prompt
    averaged = None if baseline is None else Averaged.of(baseline, p2l.spec.feedback)
    return categories_of(Predictions.of(p2l, votes, scored), column, averaged)


def categories_of(predictions: Predictions, column: str, averaged: Averaged | None = None) -> dict[str, Category]:
    """`by_category`, given predictions."""
    labels = _labels(predictions.votes, column)
    return {str(label): _category(predictions.where(labels == label), averaged) for label in np.unique(labels)}


def _labels(votes: Votes, column: str) -> np.ndarray:
    if column not in votes.categories:
        known = f"they have: {', '.join(votes.categories)}" if votes.categories else "they have none"
        raise VotesError(f"the votes have no category column {column!r} ({known})")
    return votes.categories[column]


def _category(predictions: Predictions, averaged: Averaged | None) -> Category:
    votes = predictions.votes
    try:
        agreement = agreement_of(predictions, None if averaged is None else averaged.board)
    except VotesError:  # too few votes for a leaderboard
        agreement = None
    return Category(
        n_votes=len(votes),
        n_prompts=len(np.unique(votes.prompt)),
        metrics=pair_metrics(predictions.pairs),
        baseline=None if averaged is None else comparison_of(predictions, averaged),
        agreement=agreement,
    )
