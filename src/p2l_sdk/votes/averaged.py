"""The averaged leaderboard of votes (in the paper: marginal), the same for every prompt; the baseline for P2L models.

It is a maximum-likelihood fit to counts. With H the mean second derivative of a vote's negative log-likelihood at the
optimum, J the mean outer product of its gradient, and n the number of votes, the covariance of the coefficients is

    hessian:   H^-1 / n               valid if the feedback model is right
    sandwich:  H^-1 J H^-1 / n        valid even if it is misspecified (Huber 1967, White 1982)
    bootstrap: the spread of the optimum over resampled votes

Weighted votes enter both means with their weights (squared in J), and n is sum(w)^2 / sum(w^2), so a common factor of
all weights changes nothing. If a common shift of all coefficients has no meaning (all models but grk), the intervals
are those of the coefficients minus their mean.
"""

from __future__ import annotations

import warnings
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from p2l_sdk.errors import P2LError, P2LWarning, VotesError, member
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.leaderboards.likelihood import PairLikelihood, require_room
from p2l_sdk.leaderboards.pair_matrix import positive
from p2l_sdk.modeling.feedback_p2l import (
    Feedback,
    Winner,
    eta_of_threshold,
    log_probability_slopes,
    vote_targets,
)
from p2l_sdk.options import named_options, whole_number
from p2l_sdk.votes.connected import undetermined
from p2l_sdk.votes.counts import VoteCounts
from p2l_sdk.votes.votes import Votes

_PRIOR_VARIANCE = 100.0  # of the ridge, logits squared: wide, so that it decides only what the votes leave open
_Z = 1.959963984540054  # half-width of the central 95 % of a standard normal distribution
_MOST_TARGETS = 1 << 24  # numbers of the replicates that are resampled together
_BLOCK = 1 << 16  # votes whose slopes are computed together
_FLAT = 3e-12  # curvature per vote below which a direction is undetermined (a common shift, or t without ties)


class Intervals(StrEnum):
    """How the 95 % intervals of an averaged leaderboard are computed."""

    SANDWICH = "sandwich"
    HESSIAN = "hessian"
    BOOTSTRAP = "bootstrap"

    @classmethod
    def parse(cls, name: str) -> Intervals:
        """The member of this name; raises `P2LError` listing the legal names."""
        return member(cls, "intervals", name, ", or None for none")


@named_options()
def fit_leaderboard(
    votes: Any,
    feedback: Feedback | str = Feedback.BT,
    *,
    intervals: Intervals | str | None = Intervals.SANDWICH,
    replicates: int = 200,
    seed: int = 0,
) -> Leaderboard:
    """Maximum-likelihood leaderboard of votes, with 95 % intervals.

    Args:
        votes: `Votes` or their `VoteCounts`, or a table with the string columns model_a, model_b, winner and,
            optionally, a numeric column weight, in any form that `Votes.read` accepts: a file, a mapping of columns, a
            pandas frame, a pyarrow table, a list of dictionaries... It needs no prompts. A row is one vote; its weight
            says how much it counts.
        feedback: the feedback model, or its name. Ties are ignored in `bt`, and half a win for each side in `bt_tie`.
        intervals: "sandwich", "hessian", "bootstrap", or None for no intervals; see the module docstring.
        replicates, seed: of the bootstrap; at least 2 replicates.

    Returns:
        The leaderboard, with `coefs` in logits (mean 0 for bt, bt_tie, rk) and `n_votes`, the number of votes that
        count.

    Raises:
        VotesError: a column is missing, a row violates the contract, or no vote counts in this feedback model.
        P2LError: the kind of intervals is unknown, or there are too few replicates.
        ConvergenceError: the fit did not reach the optimum.

    Warns:
        P2LWarning: some LLMs are never compared, or only ever win or lose (the message names them), or no vote is
            decisive, so that the tie threshold is unbounded. A ridge penalty (a normal prior with a standard deviation
            of 10 logits) then keeps the coefficients finite and their intervals wide.
    """
    feedback = Feedback.parse(feedback)
    intervals = None if intervals is None else Intervals.parse(intervals)
    replicates, seed = whole_number("replicates", replicates), whole_number("seed", seed)
    if intervals is Intervals.BOOTSTRAP and replicates < 2:
        raise P2LError(f"the bootstrap needs at least 2 replicates, got {replicates}")
    fit = _fit(VoteCounts.of(votes), feedback)
    n_models = fit.problem.n_models
    limits = None
    if intervals is Intervals.BOOTSTRAP:
        draws = fit.bootstrap(replicates, np.random.default_rng(seed))
        limits = np.quantile(draws[:, :n_models], [0.025, 0.975], axis=0).T
    elif intervals is not None:
        margin = _Z * fit.standard_errors(intervals)
        limits = fit.optimum[:n_models, None] + margin[:, None] * [-1.0, 1.0]
    return fit.leaderboard(limits)


def steps_of_prompts(votes: Votes, feedback: Feedback) -> tuple[Leaderboard, np.ndarray]:
    """The averaged leaderboard of votes, and by how much those on each prompt pull it away from there: to first order,
    the leaderboard of the votes on a group of prompts differs by the mean of their steps, if they have as many votes
    each as all prompts have.

    Returns:
        The leaderboard, without intervals, and `(n_prompts, n_models)` steps in logits, all with mean 0.

    Raises:
        VotesError, ConvergenceError: as in `fit_leaderboard`, which warns of the same, too.
    """
    fit = _fit(VoteCounts.of(votes), feedback)
    x, n_models, kinds = fit.optimum, fit.problem.n_models, vote_targets(feedback)
    pulls = np.zeros((len(votes.prompts), n_models + 1))
    for start in range(0, len(votes), _BLOCK):
        prompt, a, b, winner, weight = (
            part[start : start + _BLOCK] for part in (votes.prompt, votes.a, votes.b, votes.winner, votes.weight)
        )
        slopes = np.einsum("vo,oev->ev", kinds[winner], log_probability_slopes(feedback, x[a], x[b], x[-1])) * weight
        for column, slope in zip((a, b, n_models), slopes, strict=True):
            np.add.at(pulls, (prompt, np.asarray(column)), slope)
    total = votes.weight @ (kinds.sum(1) > 0)[votes.winner]  # of those that count
    steps = pulls @ fit.inverse * (len(votes.prompts) / total)
    return fit.leaderboard(None), steps[:, :-1] - steps[:, :-1].mean(1, keepdims=True)


def _fit(counts: VoteCounts, feedback: Feedback) -> _Fit:
    """The fit, with a ridge where the votes leave something open, of which it warns."""
    require_room(len(counts.models), 0.0)
    problem = undetermined(counts, feedback)
    if problem:
        advice = ": do not compare across groups" if "groups" in problem else ""
        warnings.warn(
            f"{problem}. What the votes leave open is set by a small ridge{advice}",
            P2LWarning,
            stacklevel=4,  # the caller of `fit_leaderboard`, which is wrapped
        )
    return _Fit(counts, feedback, regular=problem is None)


def fit_bt(counts: VoteCounts, averaged: Leaderboard | None = None) -> Leaderboard | None:
    """The Bradley-Terry leaderboard of votes, which predicts the winners of decisive votes best; None if none is
    decisive. It has no intervals, and what the votes leave open is set by a small ridge, without a warning.

    Args:
        counts: the votes, counted.
        averaged: their leaderboard in some feedback model, where it is known already; used if that is `bt`.
    """
    if not counts.weight[:, [Winner.A, Winner.B]].any():
        return None
    if averaged is not None and averaged.feedback is Feedback.BT:
        return averaged
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", P2LWarning)
        return fit_leaderboard(counts, Feedback.BT, intervals=None)


class _Fit:
    """The optimum for some counts, and its uncertainty.

    Attributes:
        n_votes: number of votes that count in this feedback model.
        n: their effective number, sum(w)^2 / sum(w^2).
        optimum: `(n_models + 1,)`, theta and log(t - 1).
    """

    def __init__(self, counts: VoteCounts, feedback: Feedback, regular: bool) -> None:
        self.models, self.kinds = counts.models, vote_targets(feedback)
        says = self.kinds.sum(1) > 0
        self.weight, self.square = counts.weight * says, counts.square * says
        self.n_votes = int((counts.number * says).sum())
        if not self.n_votes:
            raise VotesError(f"no vote counts: all weights are 0, or all are ties, which say nothing in {feedback}")
        self.n = self.weight.sum() ** 2 / self.square.sum()
        ridge = 0.0 if regular else 1.0 / (self.n * _PRIOR_VARIANCE)
        n_models = len(counts.models)
        all_met = len(counts.a) == n_models * (n_models - 1) // 2
        self.pairs = None if all_met else (counts.a, counts.b)
        self.problem = PairLikelihood(feedback, n_models, ridge, self.pairs)
        self.optimum = self.problem.minimise(self._target(self.weight), np.zeros(n_models + 1))

    def _target(self, weight: np.ndarray) -> np.ndarray:
        """The target for `PairLikelihood`, scaled so that its mean over pairs is the mean over votes."""
        return weight @ self.kinds * (len(weight) / self.weight.sum())

    def leaderboard(self, limits: np.ndarray | None) -> Leaderboard:
        """The optimum as a leaderboard, with these intervals."""
        feedback = self.problem.feedback
        return Leaderboard(
            models=self.models,
            coefs=self.optimum[:-1],
            feedback=feedback,
            eta=float(eta_of_threshold(feedback, self.optimum[-1])) if feedback.has_eta else None,
            gamma=0.0 if feedback.has_gamma else None,
            n_prompts=0,
            n_votes=self.n_votes,
            intervals=limits,
        )

    @cached_property
    def inverse(self) -> np.ndarray:
        """The inverse of the mean Hessian of a vote at the optimum, `(n_models + 1, n_models + 1)`."""
        return self._inverse(self.problem.hessian(self._target(self.weight), self.optimum))

    def standard_errors(self, kind: Intervals) -> np.ndarray:
        """`(n_models,)` standard errors of theta, from the Hessian or the sandwich."""
        covariance = inverse = self.inverse
        if kind is Intervals.SANDWICH:
            scatter = self.problem.score_covariance(self.square / self.square.sum(), self.kinds, self.optimum)
            covariance = inverse @ scatter @ inverse
        theta = covariance[: self.problem.n_models, : self.problem.n_models] / self.n
        if not self.problem.feedback.grounded:
            theta = theta - theta.mean(0) - theta.mean(1)[:, None] + theta.mean()
        return np.sqrt(np.maximum(np.diag(theta), 0.0))

    def _inverse(self, h: np.ndarray) -> np.ndarray:
        """The inverse of the Hessian, in which undetermined directions are left out; a common shift is, later."""
        free = np.flatnonzero(self.problem.free)
        matrix, n = h[np.ix_(free, free)], self.problem.n_models
        if self.problem.feedback.floating:
            matrix[:n, :n] += matrix[:n, :n].trace() / n**2
        if positive(matrix):
            inverse = np.zeros_like(h)
            inverse[np.ix_(free, free)] = np.linalg.inv(matrix)
            return inverse
        values, vectors = np.linalg.eigh(h)
        return (vectors / np.where(values > _FLAT, values, np.inf)) @ vectors.T

    def bootstrap(self, replicates: int, random: np.random.Generator) -> np.ndarray:
        """`(replicates, n_models + 1)` optima of resampled votes, by Newton's method from the optimum of all votes.

        Every vote counts Poisson(1) times. The total weight W of a cell then has variance S, its sum of squared
        weights; it is drawn as S / W times a Poisson variable, which is exact if all weights in the cell are equal.
        """
        unit = np.divide(self.square, self.weight, out=np.zeros_like(self.weight), where=self.weight > 0)
        size = np.divide(self.weight, unit, out=np.zeros_like(self.weight), where=unit > 0)
        # a replicate may have no finite optimum though the votes have one: hence a ridge towards the optimum of all
        # votes. If the votes themselves need a ridge, its centre is resampled too; otherwise, what the ridge alone
        # decides would seem to be known exactly
        ridge, n = 1.0 / (self.n * _PRIOR_VARIANCE), self.problem.n_models
        problem = PairLikelihood(self.problem.feedback, n, ridge, self.pairs)
        optima: list[np.ndarray] = []
        together = max(2, _MOST_TARGETS // size.size)
        for start in range(0, replicates, together):
            draws = range(start, min(start + together, replicates))
            targets = np.stack([self._target(unit * random.poisson(size)) for _ in draws])
            centres = np.tile(self.optimum[:-1], (len(draws), 1))
            if self.problem.ridge:
                centres = random.normal(0.0, np.sqrt(_PRIOR_VARIANCE), centres.shape)
            if problem.feedback.floating:
                centres -= centres.mean(1, keepdims=True)
            starts = problem.one_step(targets.reshape(len(draws), -1), self.optimum, centres)
            steps = zip(targets, starts, centres, strict=True)
            optima += [problem.minimise(target, x, centre, tolerance=1e-8) for target, x, centre in steps]
        return problem.aligned(np.stack(optima), self.optimum)
