"""Summary of a table of votes, before anything is trained on it: sizes, balance, gaps, and the loss to beat."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import P2LWarning, VotesError
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner, log_probabilities, vote_log_likelihood
from p2l_sdk.tables.reading import Findings
from p2l_sdk.tabular import Tabular
from p2l_sdk.votes.averaged import fit_bt, fit_leaderboard
from p2l_sdk.votes.connected import undetermined
from p2l_sdk.votes.counts import VoteCounts
from p2l_sdk.votes.votes import Votes

if TYPE_CHECKING:
    import matplotlib.axes

_OUTCOMES = {"model_a": Winner.A, "model_b": Winner.B, "tie": Winner.TIE, "tie (bothbad)": Winner.BOTH_BAD}


@dataclass(frozen=True)
class ModelVotes:
    """Numbers of votes on one LLM by outcome, from its own side."""

    model: str
    n_votes: int
    wins: int
    losses: int
    ties: int
    both_bad: int


@dataclass(frozen=True)
class VoteSummary(Tabular):
    """The figures of a table of votes.

    Attributes:
        n_votes, n_prompts: numbers of votes and of distinct prompts.
        mean_votes_per_prompt, max_votes_per_prompt: mean and maximum over the prompts.
        models: one entry per LLM, the largest share of wins first.
        outcomes: shares of the votes by outcome, summing to 1: model_a, model_b, tie, tie (bothbad).
        total_weight: sum of the weights; None if all are 1.
        n_duplicates: number of votes that repeat an earlier one (see `Votes.n_duplicates`).
        undetermined: message about what the votes leave open; None if they determine every coefficient.
        feedback: the feedback model of the two losses below.
        marginal_cross_entropy: cross-entropy of these votes' own averaged leaderboard, over the outcomes of the
            feedback model: mean over the votes that count, in nats. A model that reads prompts has to be below it.
        marginal_bt_log_loss: log-loss on decisive votes of their averaged leaderboard under `bt`, in nats; None if no
            vote is decisive.
        findings: what was noticed, and done, when the votes were read.
        why_feedback: why the feedback model is this one, in words, where it was chosen from the votes.
    """

    n_votes: int
    n_prompts: int
    mean_votes_per_prompt: float
    max_votes_per_prompt: int
    models: tuple[ModelVotes, ...]
    outcomes: dict[str, float]
    total_weight: float | None
    n_duplicates: int
    undetermined: str | None
    feedback: Feedback
    marginal_cross_entropy: float
    marginal_bt_log_loss: float | None
    why_feedback: str = ""
    findings: Findings = field(default_factory=Findings)

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"{self.n_votes:,} votes on {self.n_prompts:,} prompts, {len(self.models)} LLMs"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each LLM: model, n_votes, wins, losses, ties and both_bad."""
        return [asdict(row) for row in self.models]

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw the share of its votes that each LLM wins.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        shares = [{"model": row.model, "wins": row.wins / max(row.n_votes, 1)} for row in self.models]
        return pictures.draw_bars(
            shares, "model", "wins", meaning="share of its votes that an LLM wins", title=self.caption, ax=ax
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = {**asdict(self), "models": [asdict(row) for row in self.models], "feedback": str(self.feedback)}
        return {**values, "findings": self.findings.to_dict()}


def summarise(
    votes: Votes,
    feedback: Feedback | str,
    *,
    counts: VoteCounts | None = None,
    averaged: Leaderboard | None = None,
    bt: Leaderboard | None = None,
) -> VoteSummary:
    """Summarise votes under a feedback model; takes about as long as fitting an averaged leaderboard.

    Args:
        votes: the votes.
        feedback: the feedback model, or its name.
        counts, averaged, bt: the counts of these votes, their averaged leaderboard and their `fit_bt`, where they are
            known already.

    Raises:
        VotesError: no vote counts in this feedback model.
    """
    feedback = Feedback.parse(feedback)
    counts = VoteCounts.of(votes) if counts is None else counts
    if averaged is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", P2LWarning)  # `undetermined` says the same
            averaged = fit_leaderboard(counts, feedback, intervals=None)
    per_prompt = np.bincount(votes.prompt, minlength=len(votes.prompts))
    balance = np.bincount(votes.winner, minlength=len(Winner)) / len(votes)
    bt = fit_bt(counts, averaged) if bt is None else bt
    return VoteSummary(
        n_votes=len(votes),
        n_prompts=len(votes.prompts),
        mean_votes_per_prompt=float(per_prompt.mean()),
        max_votes_per_prompt=int(per_prompt.max()),
        models=_by_model(votes),
        outcomes={name: float(balance[winner]) for name, winner in _OUTCOMES.items()},
        total_weight=None if (votes.weight == 1.0).all() else _total(votes.weight),
        n_duplicates=votes.n_duplicates,
        undetermined=undetermined(counts, feedback),
        feedback=feedback,
        marginal_cross_entropy=_cross_entropy(counts, averaged, feedback),
        marginal_bt_log_loss=None if bt is None else _cross_entropy(counts, bt, Feedback.BT),
        findings=votes.findings,
    )


def _total(weight: np.ndarray) -> float:
    with np.errstate(over="ignore"):
        total = float(weight.sum())
    if math.isinf(total):
        raise VotesError("the weights sum to more than a number can be; divide all of them by the largest")
    return total


def _cross_entropy(counts: VoteCounts, board: Leaderboard, feedback: Feedback) -> float:
    """Mean negative log-likelihood (nats) of this leaderboard under a feedback model, over the votes that count."""
    log_probs = log_probabilities(feedback, board.coefs[counts.a], board.coefs[counts.b], board.eta, board.gamma)
    log_likelihood, says = vote_log_likelihood(feedback, log_probs[:, None, :], np.arange(len(Winner)))
    weight = counts.weight * says
    return float(-(weight * log_likelihood).sum() / weight.sum())


def _by_model(votes: Votes) -> tuple[ModelVotes, ...]:
    n, kinds = len(votes.models), len(Winner)
    ended_a, ended_b = (
        np.bincount(side * kinds + votes.winner, minlength=n * kinds).reshape(n, kinds) for side in (votes.a, votes.b)
    )
    wins, losses = ended_a[:, Winner.A] + ended_b[:, Winner.B], ended_a[:, Winner.B] + ended_b[:, Winner.A]
    both = ended_a + ended_b
    rows = [
        ModelVotes(name, *(int(x) for x in row))
        for name, *row in zip(
            votes.models, both.sum(1), wins, losses, both[:, Winner.TIE], both[:, Winner.BOTH_BAD], strict=True
        )
    ]
    return tuple(sorted(rows, key=lambda row: (-row.wins / max(row.n_votes, 1), row.model)))
