"""All measurements of a model in one call, as shown by `p2l evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from p2l_sdk.errors import VotesError
from p2l_sdk.evaluation.agreement import Agreement, agreement_of
from p2l_sdk.evaluation.categories import Category, categories_of
from p2l_sdk.evaluation.metrics.calibration import Reliability
from p2l_sdk.evaluation.metrics.estimates import Estimate
from p2l_sdk.evaluation.metrics.leaderboards import spread_of_coefficients
from p2l_sdk.evaluation.metrics.pairs import pair_reliability
from p2l_sdk.evaluation.predictions import Predictions
from p2l_sdk.evaluation.scores import evaluate_scores
from p2l_sdk.evaluation.subsets import SubsetStudy, study_of
from p2l_sdk.evaluation.votes import Baseline, comparison_of, metrics_of
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.p2l import P2L
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.votes import Scores, Votes


@dataclass(kw_only=True)
class Report:
    """The results of `evaluate`; parts that were not requested, or do not apply, are None or empty.

    Attributes:
        feedback: the model's feedback model.
        sizes: `n_votes`, `n_prompts`, `n_scored_prompts`.
        metrics: from `evaluate_votes` and `evaluate_scores`.
        reliability: from `calibration`.
        spread: mean over the prompts of `spread_of_coefficients`, in logits.
        baseline: from `compare_with_baseline`.
        agreement: from `aggregate_agreement`.
        categories: column -> result of `by_category`.
        subsets: from `subset_study`.
        notes: remarks for the reader, such as why a part is missing.
    """

    feedback: str
    sizes: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    reliability: Reliability | None = None
    spread: dict[str, float] | None = None
    baseline: Baseline | None = None
    agreement: Agreement | None = None
    categories: dict[str, Mapping[str, Category]] = field(default_factory=dict)
    subsets: SubsetStudy | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; missing parts are left out."""
        result: dict[str, Any] = {"feedback": self.feedback, **self.sizes}
        result["metrics"] = {name: m.to_dict() if isinstance(m, Estimate) else m for name, m in self.metrics.items()}
        for name in ("reliability", "baseline", "agreement", "subsets"):
            if (part := getattr(self, name)) is not None:
                result[name] = part.to_dict()
        if self.spread is not None:
            result["spread"] = self.spread
        if self.categories:
            result["categories"] = {
                column: {name: category.to_dict() for name, category in values.items()}
                for column, values in self.categories.items()
            }
        if self.notes:
            result["notes"] = self.notes
        return result


def evaluate(
    p2l: P2L,
    votes: Votes | None = None,
    scores: Scores | None = None,
    *,
    baseline_votes: Votes | Leaderboard | None = None,
    by: Iterable[str] = (),
    subsets: Sequence[int] | None = None,
    trials: int = 20,
    seed: int = 0,
) -> Report:
    """Measure a model on votes, on scores, or on both; it reads every prompt of the votes only once.

    Args:
        p2l: the model.
        votes, scores: the data to measure on, read with `p2l.models`.
        baseline_votes: the model's training votes; their averaged leaderboard is the baseline that it has to beat. That
            leaderboard can be given instead, where it is known already.
        by: category columns of the votes.
        subsets, trials, seed: see `subset_study`; without sizes, there is no study.

    Raises:
        VotesError: the feedback model ignores every vote, or a column or a subset size does not exist.
    """
    report = Report(feedback=str(p2l.spec.feedback))
    if votes is not None:
        averaged = baseline_votes if isinstance(baseline_votes, Leaderboard) else None
        if isinstance(baseline_votes, Votes):
            averaged = fit_leaderboard(baseline_votes, p2l.spec.feedback, intervals=None)
        predictions = Predictions.of(p2l, votes)
        _measure_votes(report, predictions, averaged)
        report.categories = {column: categories_of(predictions, column, averaged) for column in by}
        if subsets is not None:
            report.subsets = study_of(predictions, subsets, trials=trials, seed=seed)
    if scores is not None:
        report.sizes["n_scored_prompts"] = len(scores.prompts)
        report.metrics |= evaluate_scores(p2l, scores)
    return report


def _measure_votes(report: Report, predictions: Predictions, averaged: Leaderboard | None) -> None:
    """All votes together: the predictions alone, and beside those of the averaged leaderboard of the baseline votes."""
    report.sizes |= {"n_votes": len(predictions.votes), "n_prompts": len(predictions.votes.prompts)}
    report.metrics |= metrics_of(predictions)
    spread = spread_of_coefficients(predictions.scored.coefs)
    report.spread = {name: float(values.mean()) for name, values in spread.items()}
    if "ece" in report.metrics:
        report.reliability = pair_reliability(predictions.pairs)
    if averaged is not None:
        report.baseline = comparison_of(predictions, averaged)
    try:
        report.agreement = agreement_of(predictions, averaged)
    except VotesError as error:  # too few votes for a leaderboard; the rest of the report is valid
        report.notes.append(f"no leaderboard to compare the aggregate with: {error}")
