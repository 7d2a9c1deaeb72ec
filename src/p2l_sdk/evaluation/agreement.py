"""The aggregate leaderboard of prompts against the leaderboard of the votes on them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from p2l_sdk.comparison_graph import undetermined
from p2l_sdk.errors import P2LWarning, VotesError
from p2l_sdk.evaluation.predictions import Predictions
from p2l_sdk.facade import P2L
from p2l_sdk.marginal import fit_leaderboard
from p2l_sdk.metrics.leaderboards import compare_leaderboards
from p2l_sdk.results import Coefficients, Leaderboard
from p2l_sdk.vote_counts import VoteCounts
from p2l_sdk.votes import Votes


@dataclass(frozen=True, eq=False)
class Agreement:
    """How near a model's aggregate is to what the votes on the same prompts say.

    Attributes:
        aggregate: of the model, over the prompts.
        marginal: of the votes, whatever the prompt: what is taken for true.
        metrics: aggregate against marginal (`compare_leaderboards`).
        baseline: the same of another leaderboard, e.g. that of the training votes; None if there is none.
    """

    aggregate: Leaderboard
    marginal: Leaderboard
    metrics: dict[str, float]
    baseline: dict[str, float] | None = None

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
    """The model's aggregate over the prompts of the votes against the maximum-likelihood leaderboard of these votes.

    Args:
        p2l, votes, scored: as in `evaluate_votes`.
        baseline: a leaderboard to compare in place of the model's, too.

    Raises:
        VotesError: the votes do not determine a leaderboard, so there is nothing to compare with.
    """
    return agreement_of(Predictions.of(p2l, votes, scored), baseline)


def agreement_of(predictions: Predictions, baseline: Leaderboard | None = None) -> Agreement:
    """`aggregate_agreement` of predictions."""
    if reason := undetermined(VoteCounts.of(predictions.votes), predictions.feedback):
        raise VotesError(reason)
    aggregate, marginal = predictions.aggregate(), marginal_of(predictions)
    other = None if baseline is None else compare_leaderboards(baseline, marginal)
    return Agreement(aggregate, marginal, compare_leaderboards(aggregate, marginal), other)


def marginal_of(predictions: Predictions) -> Leaderboard:
    """The leaderboard of the votes, no intervals; what they leave open is set by its ridge, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", P2LWarning)
        return fit_leaderboard(predictions.votes, predictions.feedback, intervals=None)
