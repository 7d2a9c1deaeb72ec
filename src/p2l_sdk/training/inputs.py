"""The inputs of a run: every file is read and checked before torch is imported and any model is loaded."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from p2l_sdk.errors import P2LError, P2LWarning, VotesError
from p2l_sdk.evaluation import Averaged, Report, evaluate
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback, Pointwise
from p2l_sdk.names import matched, own_names
from p2l_sdk.p2l import P2L
from p2l_sdk.routing.costs import load_costs
from p2l_sdk.training.card import Card, data_hash
from p2l_sdk.training.categories import Categories
from p2l_sdk.training.checks import check_ground, check_prompts, choose_feedback, warn_of_thin_ground
from p2l_sdk.training.config import TrainingConfig
from p2l_sdk.training.plan import Plan
from p2l_sdk.training.verdict import Verdict
from p2l_sdk.votes.averaged import fit_bt, fit_leaderboard
from p2l_sdk.votes.counts import VoteCounts
from p2l_sdk.votes.summary import VoteSummary, summarise
from p2l_sdk.votes.votes import Scores, Votes, warn_if_shared


@dataclass(frozen=True)
class Inputs:
    """What a run has read.

    Attributes:
        config: the settings.
        data: votes or scores to learn from.
        data_hash: their fingerprint, for the card.
        feedback: the feedback model: that of the plan or, where none is given, the one that suits the votes, or that of
            the model that they refine.
        costs: USD per response by LLM name.
        held_out: by description, the data to measure on after training.
        notes: Markdown for the end of the card.
        read_as: LLMs that votes name otherwise than the model that they refine: as written -> its own name.
        categories: those that teach as well, or are recognised; None without `by`.
        averaged, summary: the averaged leaderboard and the figures of all votes; None for scores.
        bt: their Bradley-Terry fit, likewise; None if no vote is decisive, too.
    """

    config: TrainingConfig
    data: Votes | Scores
    data_hash: str
    feedback: Feedback | Pointwise
    costs: dict[str, float]
    held_out: list[tuple[str, Votes | Scores]]
    notes: str
    read_as: dict[str, str]
    categories: Categories | None = None
    averaged: Leaderboard | None = None
    summary: VoteSummary | None = None
    bt: Leaderboard | None = None

    @classmethod
    def read(cls, config: TrainingConfig, plan: Plan) -> Inputs:
        """Read every file that the settings name.

        Raises:
            VotesError: votes or scores are invalid, or not enough for the feedback model.
            P2LError: costs or notes cannot be read, or the costs name an unknown LLM.

        Warns:
            P2LWarning: the votes leave something open, or held-out prompts are in the training data.
        """
        notes = _notes(config)
        data = _data(config, plan.feedback)
        categories = None
        if config.by is not None:
            recognised = plan.static_base is not None and config.teacher_weight is None
            categories = Categories.of(cast(Votes, data), config.by, recognised=recognised)
        held_out, read_as = _held_out(config, data), {}
        models, why = data.models, ""
        feedback = plan.feedback
        if feedback is None:
            feedback, why = choose_feedback(cast(Votes, data))  # without a feedback model, votes are read
        if plan.refined is not None and isinstance(data, Votes):
            spec = plan.refined[1]
            own = own_names(models, spec.models, "a vote")
            read_as = matched(dict(zip(models, own, strict=True)))
            models, data = own, replace(data, models=own)
            held_out = [(name, replace(part, models=own)) for name, part in held_out]
            models = (*spec.models, *(name for name in models if name not in spec.models))
            if config.feedback is None:
                feedback, why = spec.feedback, ""
        costs = dict(load_costs(config.costs, models)) if config.costs else {}
        read = cls(config, data, data_hash(config.votes, data), feedback, costs, held_out, notes, read_as, categories)
        if not isinstance(data, Votes) or not isinstance(feedback, Feedback):
            return read
        if plan.refined is None:
            check_ground(data, feedback)
            warn_of_thin_ground(data, feedback)
        if plan.static_base is not None:
            check_prompts(data)
        counts = VoteCounts.of(data)
        with warnings.catch_warnings():
            if plan.refined is not None or (plan.static_base is None and config.held_out):
                warnings.simplefilter("ignore", P2LWarning)  # the fit to the training side says the same
            averaged = fit_leaderboard(counts, feedback, intervals=None)
        bt = fit_bt(counts, averaged)
        summary = summarise(data, feedback, counts=counts, averaged=averaged, bt=bt)
        return replace(read, averaged=averaged, summary=replace(summary, why_feedback=why), bt=bt)

    def measure(self, p2l: P2L) -> dict[str, Report]:
        """Reports by description of the held-out data; votes and scores of the same file share a report."""
        reports: dict[str, Report] = {}
        averaged = None if self.averaged is None else Averaged(self.averaged, self.bt)
        for name, held_out in self.held_out:
            if isinstance(held_out, Votes):
                report = evaluate(p2l, held_out, baseline_votes=averaged)
            else:
                report = evaluate(p2l, scores=held_out, baseline_votes=averaged)
            reports[name] = reports[name].joined(report) if name in reports else report
        return reports

    def card(
        self,
        p2l: P2L,
        method: str,
        settings: dict[str, Any],
        *,
        verdict: Verdict | None = None,
        seconds: float = 0.0,
        baseline: float | None = None,
        history: list[dict[str, float]] | None = None,
        measured: P2L | None = None,
    ) -> Card:
        """The card of the trained model, which is measured for it (or `measured`, its part on the LLMs of the votes);
        see `Card` for the other arguments."""
        return Card(
            config=self.config,
            spec=p2l.spec,
            data=self.data,
            summary=self.summary,
            method=method,
            settings=settings,
            reports=self.measure(measured or p2l),
            data_hash=self.data_hash,
            notes=self.notes,
            verdict=verdict,
            seconds=seconds,
            baseline=baseline,
            history=history,
        )


def _notes(config: TrainingConfig) -> str:
    if config.notes is None:
        return ""
    try:
        return Path(config.notes).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise P2LError(f"notes {config.notes!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _data(config: TrainingConfig, feedback: Feedback | Pointwise | None) -> Votes | Scores:
    if not isinstance(feedback, Pointwise):
        return Votes.read(config.votes, **config.llm_columns, scores_outside=config.scores_outside, **config.reading)
    try:
        named = _of_scores(config)
        return Scores.read(config.votes, **config.llm_columns, allow_missing=True, **named)
    except VotesError as error:
        raise VotesError(f"feedback {config.feedback} learns from scores of single answers: {error}") from None


def _of_scores(config: TrainingConfig) -> dict[str, Any]:
    """How scores are read; winners are of votes."""
    named = {name: value for name, value in config.reading.items() if name != "winners"}
    return {**named, "outside": config.scores_outside}


def _held_out(config: TrainingConfig, data: Votes | Scores) -> list[tuple[str, Votes | Scores]]:
    """The held-out data, described by file name, number of prompts shared with the training data, and hash."""
    files = {"votes": config.eval_votes, "scores": config.eval_scores}
    given = {kind: str(file) for kind, file in files.items() if file is not None}
    namesakes = len({Path(file).name for file in given.values()}) < len(set(given.values()))
    parts = []
    for kind, file in given.items():
        held_out: Votes | Scores
        if kind == "votes":
            held_out = Votes.read(file, data.models, scores_outside=config.scores_outside, **config.reading)
        else:
            held_out = Scores.read(file, data.models, allow_missing=True, **_of_scores(config))
        name = f"{Path(file).name}, {kind}" if namesakes else Path(file).name
        shared = warn_if_shared(data, held_out, name)
        n = f"{shared:,} of its {len(held_out.prompts):,} prompts are in the training data"
        parts.append((f"{name} ({n}; {data_hash(file, held_out)})", held_out))
    return parts
