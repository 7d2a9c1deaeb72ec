"""How well a model predicts votes, also in comparison with one leaderboard for all prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2l_sdk.errors import VotesError
from p2l_sdk.evaluation.averaged import Averaged, AveragedSource
from p2l_sdk.evaluation.metrics.calibration import Reliability
from p2l_sdk.evaluation.metrics.estimates import Estimate
from p2l_sdk.evaluation.metrics.pairs import pair_metrics, pair_reliability, paired_differences
from p2l_sdk.evaluation.predictions import Predictions
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.p2l import P2L
from p2l_sdk.tabular import Tabular
from p2l_sdk.votes.votes import Votes

if TYPE_CHECKING:
    import matplotlib.axes


def evaluate_votes(p2l: P2L, votes: Votes, *, scored: Coefficients | None = None) -> dict[str, Estimate]:
    """Measure how well the model predicts votes.

    Args:
        p2l: the model.
        votes: votes on its LLMs, from `Votes.read(file, p2l.models)`.
        scored: `p2l.coefficients(votes.prompts)`, if known.

    Returns:
        The metrics of `metrics.pairs` that apply to the feedback model and to these votes: `bt_log_loss`, `bt_mse`,
        `pair_accuracy` and `ece` if any vote is decisive; `cross_entropy`; with ties `winner_log_loss`,
        `brier_score`, `outcome_accuracy`, `tie_log_loss`, `tie_accuracy`; with "both bad" `both_bad_log_loss`,
        `both_bad_accuracy`.

    Raises:
        VotesError: the feedback model ignores every vote.
    """
    return metrics_of(Predictions.of(p2l, votes, scored))


def metrics_of(predictions: Predictions) -> dict[str, Estimate]:
    """`evaluate_votes`, given predictions."""
    metrics = pair_metrics(predictions.pairs)
    if "cross_entropy" not in metrics:
        raise VotesError(
            f"there is nothing to average: no vote in the file counts in the feedback model {predictions.feedback}"
        )
    return metrics


def calibration(p2l: P2L, votes: Votes, *, bins: int = 10, scored: Coefficients | None = None) -> Reliability:
    """The model's reliability curve over decisive votes (`metrics.pair_reliability`).

    Raises:
        VotesError: no vote is decisive.
    """
    return pair_reliability(Predictions.of(p2l, votes, scored).pairs, bins)


_BT_METRICS = ("bt_log_loss", "bt_mse", "pair_accuracy")  # of sigmoid(coef_a - coef_b): the baseline is a BT fit


@dataclass(frozen=True, eq=False)
class Baseline(Tabular):
    """One leaderboard for all prompts, as a predictor of the same votes and as a router of the same prompts.

    Attributes:
        metrics: the baseline's metrics. Those of sigmoid(coef_a - coef_b) (`bt_log_loss`, `bt_mse`, `pair_accuracy`)
            are of a Bradley-Terry fit, the others of a fit in the model's feedback model. `routed_score`, `routed_cost`
            and `router_arena_score` are those of its first LLM, called for every prompt.
        difference: model minus baseline, vote by vote or prompt by prompt; for losses and costs, negative means that
            the model is better.
    """

    metrics: dict[str, Estimate]
    difference: dict[str, Estimate]

    def __or__(self, other: Baseline) -> Baseline:
        """The metrics of both."""
        return Baseline(self.metrics | other.metrics, self.difference | other.difference)

    @property
    def caption(self) -> str:
        """A one-line description."""
        n = max((estimate.n for estimate in self.metrics.values()), default=0)
        return f"One leaderboard for all prompts, and the model's difference to it, on {n:,} votes or prompts"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each metric: metric, value (of the baseline), n, difference (model minus baseline), low
        and high (its 95 % limits)."""
        found = []
        for name, estimate in self.metrics.items():
            row: dict[str, Any] = {"metric": name, "value": estimate.value, "n": estimate.n}
            if (known := self.difference.get(name)) is not None:
                low, high = known.interval or (None, None)
                row |= {"difference": known.value, "low": low, "high": high}
            found.append(row)
        return found

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw the differences.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        return pictures.draw_bars(
            self.rows(),
            "metric",
            "difference",
            meaning="model minus baseline; of losses and costs, less is better",
            title=self.caption,
            ax=ax,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            name: {metric: estimate.to_dict() for metric, estimate in values.items()}
            for name, values in (("metrics", self.metrics), ("difference", self.difference))
        }


def compare_with_baseline(
    p2l: P2L, votes: Votes, baseline: AveragedSource, *, scored: Coefficients | None = None
) -> Baseline:
    """Compare the model with the baseline that it has to beat: the averaged leaderboard of its *training* votes.

    Args:
        p2l, votes, scored: as in `evaluate_votes`.
        baseline: the training votes, `Votes.read(training_votes, p2l.models)`, or their `VoteCounts`. A leaderboard of
            them, `fit_leaderboard(..., p2l.spec.feedback)`, is taken as it is, for the metrics of decisive votes too.
    """
    return comparison_of(Predictions.of(p2l, votes, scored), Averaged.of(baseline, p2l.spec.feedback))


def comparison_of(predictions: Predictions, averaged: Averaged) -> Baseline:
    """`compare_with_baseline`, given predictions and the leaderboard."""
    pairs = Predictions.of_leaderboard(averaged.board, predictions.votes).pairs
    metrics, difference = pair_metrics(pairs), paired_differences(predictions.pairs, pairs)
    if averaged.bt is not None and averaged.bt is not averaged.board:
        pairs = Predictions.of_leaderboard(averaged.bt, predictions.votes).pairs
        for found, fitted in (
            (metrics, pair_metrics(pairs)),
            (difference, paired_differences(predictions.pairs, pairs)),
        ):
            found |= {name: fitted[name] for name in _BT_METRICS if name in found}
    return Baseline(metrics, difference)
