"""All measurements of a model in one call, as shown by `p2l evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import VotesError
from p2l_sdk.evaluation.agreement import Agreement, agreement_of
from p2l_sdk.evaluation.averaged import Averaged, AveragedSource
from p2l_sdk.evaluation.categories import Category, categories_of
from p2l_sdk.evaluation.metrics.calibration import Reliability
from p2l_sdk.evaluation.metrics.estimates import Estimate
from p2l_sdk.evaluation.metrics.leaderboards import spread_of_coefficients
from p2l_sdk.evaluation.metrics.pairs import pair_reliability
from p2l_sdk.evaluation.predictions import Predictions
from p2l_sdk.evaluation.scores import ROUTING_METRICS, Routing
from p2l_sdk.evaluation.subsets import SubsetStudy, study_of
from p2l_sdk.evaluation.votes import Baseline, comparison_of, metrics_of
from p2l_sdk.p2l import P2L
from p2l_sdk.tabular import Tabular, estimates_of
from p2l_sdk.votes.votes import Scores, Votes

if TYPE_CHECKING:
    import matplotlib.axes


@dataclass(kw_only=True)
class Report(Tabular):
    """The results of `evaluate`; parts that were not requested, or do not apply, are None or empty.

    Attributes:
        feedback: the model's feedback model.
        sizes: `n_votes`, `n_prompts`, `n_scored_prompts`.
        metrics: from `evaluate_votes` and `evaluate_scores`; beside these `averaged_leaderboard_model`, the LLM that
            the averaged leaderboard of the baseline votes puts first.
        reliability: from `calibration`.
        spread: mean over the prompts of `spread_of_coefficients`, in logits.
        baseline: from `compare_with_baseline`; on scores, of calling `averaged_leaderboard_model` for every prompt.
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

    @property
    def caption(self) -> str:
        """A one-line description."""
        return "Evaluation on " + ", ".join(f"{n:,} {name[2:].replace('_', ' ')}" for name, n in self.sizes.items())

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each metric: metric, value, standard_error and n; beside a baseline also its value as
        baseline, and the difference to it."""
        rows = estimates_of(self.metrics)
        for row in rows:
            for key, values in (("baseline", "metrics"), ("difference", "difference")):
                if self.baseline is not None and row["metric"] in getattr(self.baseline, values):
                    row[key] = getattr(self.baseline, values)[row["metric"]].value
        return rows

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Plot the calibration; see `Reliability.plot`, and `subsets.plot` for the study of subsets.

        Raises:
            VotesError: there were no decisive votes.
        """
        if self.reliability is None:
            raise VotesError("no vote is decisive, so there is no calibration to draw")
        return self.reliability.plot(ax)

    def joined(self, other: Report) -> Report:
        """This report with the sizes, metrics, baseline and notes of another one on the same data too."""
        pair = [baseline for baseline in (self.baseline, other.baseline) if baseline is not None]
        return replace(
            self,
            sizes=self.sizes | other.sizes,
            metrics=self.metrics | other.metrics,
            baseline=pair[0] | pair[1] if len(pair) == 2 else next(iter(pair), None),
            notes=[*self.notes, *other.notes],
        )

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
    votes: Votes | Any | None = None,
    scores: Scores | Any | None = None,
    *,
    baseline_votes: AveragedSource | Any | None = None,
    by: Iterable[str] = (),
    subsets: Sequence[int] | None = None,
    trials: int = 20,
    seed: int = 0,
) -> Report:
    """Measure a model on votes, on scores, or on both; it reads every prompt of the votes only once.

    Args:
        p2l: the model.
        votes, scores: the data to measure on, read with `p2l.models`; or what `Votes.read` and `Scores.read` accept.
        baseline_votes: the model's training votes (or what `Votes.read` accepts), or their counts; their averaged
            leaderboard is the baseline that it has to beat. That leaderboard can be given instead, where it is known.
        by: category columns of the votes.
        subsets, trials, seed: see `subset_study`; without sizes, there is no study.

    Raises:
        VotesError: the feedback model ignores every vote, or a column or a subset size does not exist.
    """
    if votes is not None and not isinstance(votes, Votes):
        votes = Votes.read(votes, p2l.models)
    if scores is not None and not isinstance(scores, Scores):
        scores = Scores.read(scores, p2l.models, allow_missing=True)
    if baseline_votes is not None and not isinstance(baseline_votes, AveragedSource):
        baseline_votes = Votes.read(baseline_votes, p2l.models)
    report = Report(feedback=str(p2l.spec.feedback))
    averaged = None if baseline_votes is None else Averaged.of(baseline_votes, p2l.spec.feedback)
    if votes is not None:
        predictions = Predictions.of(p2l, votes)
        _measure_votes(report, predictions, averaged)
        report.categories = {column: categories_of(predictions, column, averaged) for column in by}
        if subsets is not None:
            report.subsets = study_of(predictions, subsets, trials=trials, seed=seed)
    if scores is not None:
        _measure_scores(report, p2l, scores, averaged)
    return report


def _measure_scores(report: Report, p2l: P2L, scores: Scores, averaged: Averaged | None) -> None:
    """All scores together: the model as a router, and beside it the averaged leaderboard of the baseline votes."""
    routing = Routing.of(p2l, scores)
    report.sizes["n_scored_prompts"] = len(scores.prompts)
    report.metrics |= routing.metrics
    if averaged is not None:
        report.metrics["averaged_leaderboard_model"] = routing.first_of(averaged.board)
        baseline = routing.against(averaged.board)
        report.baseline = baseline if report.baseline is None else report.baseline | baseline
    report.notes += notes_on_scores(scores, report.metrics)


def notes_on_scores(scores: Scores, metrics: Mapping[str, Any]) -> list[str]:
    """What the reader of the metrics must know about the scores: how many are missing or outside [0, 1], and how many
    prompts are therefore left out of which measure."""
    notes = [] if scores.outside is None else [f"scores: {scores.outside.outcome}"]
    n, missing = len(scores.prompts), int((~np.isfinite(scores.scores)).sum())
    if missing:
        notes.append(
            f"{missing:,} of {scores.scores.size:,} scores are missing; a measure is of the prompts that have those it "
            "needs (the oracle: all LLMs')"
        )
    out: dict[int, list[str]] = {}
    for name in ROUTING_METRICS:
        if isinstance(estimate := metrics.get(name), Estimate) and estimate.n < n:
            out.setdefault(n - estimate.n, []).append(name)
    if out:
        parts = [f"{count:,} of {', '.join(names)}" for count, names in sorted(out.items())]
        notes.append(f"prompts left out, of {n:,} (a score or a cost is unknown): {'; '.join(parts)}")
    return notes


def _measure_votes(report: Report, predictions: Predictions, averaged: Averaged | None) -> None:
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
        report.agreement = agreement_of(predictions, None if averaged is None else averaged.board)
    except VotesError as error:  # too few votes for a leaderboard; the rest of the report is valid
        report.notes.append(f"no leaderboard to compare the aggregate with: {error}")
