"""Votes together with the coefficients of their prompts: the input of every measurement on votes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from p2l_sdk.errors import P2LError, P2LWarning, VotesError
from p2l_sdk.evaluation.metrics.pairs import PairPredictions
from p2l_sdk.leaderboards.aggregate import aggregate
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.leaderboards.weights import scaled
from p2l_sdk.modeling.feedback_p2l import Feedback, vote_targets
from p2l_sdk.p2l import P2L
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.connected import undetermined
from p2l_sdk.votes.counts import VoteCounts
from p2l_sdk.votes.votes import Votes


@dataclass(frozen=True, eq=False)
class Predictions:
    """Votes and the coefficients of `votes.prompts`."""

    feedback: Feedback
    votes: Votes
    scored: Coefficients

    @classmethod
    def of(cls, p2l: P2L, votes: Votes, scored: Coefficients | None = None) -> Predictions:
        """The predictions of a model; `scored` are its coefficients, if known.

        Raises:
            P2LError: the votes are on other LLMs than the model's, or `scored` is of another number of prompts.
        """
        if not isinstance(votes, Votes):
            raise P2LError(f"votes must be Votes, not {type(votes).__name__}: Votes.read(source, p2l.models)")
        if votes.models != p2l.models:
            raise P2LError("these votes count other LLMs than the model; read them with Votes.read(file, p2l.models)")
        scored = p2l.coefficients(votes.prompts) if scored is None else scored
        if len(scored) != len(votes.prompts):
            raise P2LError(f"scored holds {len(scored)} prompts, the votes {len(votes.prompts)}")
        return cls(p2l.spec.feedback, votes, scored)

    @classmethod
    def of_leaderboard(cls, board: Leaderboard, votes: Votes) -> Predictions:
        """The predictions of one leaderboard, which are the same for every prompt.

        Raises:
            P2LError: the votes are on other LLMs than the leaderboard's.
        """
        if votes.models != board.models:
            raise P2LError("these votes count other LLMs than the leaderboard; fit it on Votes.read(file, p2l.models)")
        n = len(votes.prompts)
        eta, gamma = (None if x is None else np.full((n, 1), x) for x in (board.eta, board.gamma))
        return cls(board.feedback, votes, Coefficients(np.tile(board.coefs, (n, 1)), eta, gamma))

    def where(self, chosen: np.ndarray) -> Predictions:
        """The predictions for some of the votes, selected by `(n_votes,)` booleans or by indices. Prompts keep their
        indices."""
        v = self.votes
        columns = (column[chosen] for column in (v.prompt, v.a, v.b, v.winner, v.weight))
        return Predictions(self.feedback, Votes(v.prompts, v.models, *columns), self.scored)

    @cached_property
    def pairs(self) -> PairPredictions:
        """The predictions vote by vote, weighted by the votes and clustered by prompt."""
        row, scored = self.votes.prompt, self.scored
        eta, gamma = (None if x is None else x[row, 0] for x in (scored.eta, scored.gamma))
        return PairPredictions(
            self.feedback,
            scored.coefs[row, self.votes.a],
            scored.coefs[row, self.votes.b],
            self.votes.winner,
            eta=eta,
            gamma=gamma,
            weights=scaled(self.votes.weight),
            cluster=row,
        )

    @cached_property
    def counts(self) -> VoteCounts:
        """The votes as counts, of which a leaderboard of the votes is made."""
        return VoteCounts.of(self.votes)

    @cached_property
    def averaged(self) -> Leaderboard:
        """The averaged leaderboard of the votes, without intervals; whatever they leave open is determined by its ridge
        penalty, without a warning."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", P2LWarning)
            return fit_leaderboard(self.counts, self.feedback, intervals=None)

    def require_determined(self) -> None:
        """Raise `VotesError` if the votes do not determine a leaderboard, so that there is nothing to compare with."""
        if reason := undetermined(self.counts, self.feedback):
            raise VotesError(reason)

    @cached_property
    def prompt_weights(self) -> np.ndarray:
        """Weight of the votes on each prompt that the feedback model does not ignore, `(n_prompts,)`."""
        counts = vote_targets(self.feedback).sum(1)[self.votes.winner]
        return np.bincount(self.votes.prompt, scaled(self.votes.weight) * counts, len(self.scored))

    def aggregate(self) -> Leaderboard:
        """The aggregate over the prompts, each weighted by its votes; without intervals."""
        rows = np.flatnonzero(self.prompt_weights)
        weights = self.prompt_weights[rows]
        return aggregate([self.scored[rows]], self.feedback, self.votes.models, weights=weights, sample=0)
