"""One leaderboard for many prompts, in one pass and constant memory (paper, section 2.1.1).

The aggregate minimises the mean cross-entropy from the prompts' outcome probabilities to its own,

    F(theta, eta) = - sum over pairs and outcomes of  P[pair, outcome] * log q(outcome | pair; theta, eta),

and F is linear in P: the mean probability of every pair and outcome (`PairStatistics`) is all that is needed of the
prompts. The solve is a damped Newton method on n_models + 1 unknowns (theta and log(t - 1)); its size does not
depend on the number of prompts. Intervals are a bootstrap over prompts: the pass keeps, beside the sums, the same
sums under random Poisson(1) weights, and every replicate is solved by one Newton step from the optimum.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from p2l_sdk.errors import P2LError
from p2l_sdk.modeling.feedback_p2l import (
    Feedback,
    eta_of_threshold,
    log_probabilities,
    log_threshold,
)
from p2l_sdk.pair_likelihood import PairLikelihood
from p2l_sdk.results import Coefficients, Leaderboard

_CHUNK_VALUES = 4_000_000  # probabilities held at a time, 32 MB


class PairStatistics:
    """Mean outcome probabilities of every pair over a stream of prompts: add batches, merge, solve.

    Args:
        feedback: the feedback model of the coefficients.
        n_models: how many LLMs.
        replicates: bootstrap replicates kept for the intervals; 0 for none.
        seed: of the bootstrap. Statistics that will be merged need different seeds.
    """

    def __init__(self, feedback: Feedback, n_models: int, *, replicates: int = 200, seed: int = 0) -> None:
        self.feedback = feedback
        self.n_models = n_models
        self.n_prompts = 0
        self._a, self._b = np.triu_indices(n_models, 1)
        self._seeds = {seed}
        self._random = np.random.default_rng(seed)
        width = len(self._a) * len(feedback.outcomes)
        # row 0: the sums themselves; the others: the bootstrap replicates
        self._sums = np.zeros((1 + replicates, width))
        self._weights = np.zeros(1 + replicates)
        self._start = np.zeros(n_models + 1)  # weighted sums of theta and log(t - 1): where Newton starts

    def add(self, batch: Coefficients, weights: np.ndarray | None = None) -> None:
        """Add prompts.

        Args:
            batch: coefficients of `n` prompts.
            weights: `(n,)` finite weights >= 0, 1 if not given.

        Raises:
            P2LError: shapes disagree, or a number is not finite or negative.
        """
        n = len(batch.coefs)
        weights = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
        if batch.coefs.shape != (n, self.n_models):
            raise P2LError(f"coefs have shape {batch.coefs.shape}, expected (n_prompts, {self.n_models})")
        if weights.shape != (n,) or not np.isfinite(weights).all() or (weights < 0).any():
            raise P2LError(f"prompt weights must be {n} finite numbers >= 0")
        theta, log_s = _natural(self.feedback, batch)
        if not (np.isfinite(theta).all() and np.isfinite(log_s).all()):
            raise P2LError("coefficients hold NaN or infinite values; the model that made them is damaged")
        draws = self._random.poisson(1.0, (n, len(self._sums) - 1))
        all_weights = np.column_stack([np.ones(n), draws]) * weights[:, None]
        step = max(1, _CHUNK_VALUES // max(1, self._sums.shape[1]))
        for i in range(0, n, step):
            part = slice(i, i + step)
            probabilities = np.exp(_pair_log_probs(self.feedback, theta[part], log_s[part], self._a, self._b))
            self._sums += all_weights[part].T @ probabilities.reshape(len(probabilities), -1)
        self._weights += all_weights.sum(0)
        self._start += weights @ np.column_stack([theta, log_s])
        self.n_prompts += n

    def merge(self, other: PairStatistics) -> None:
        """Add the prompts of another worker.

        Raises:
            P2LError: it is of another model, or shares a bootstrap seed.
        """
        if (self.feedback, self._sums.shape) != (other.feedback, other._sums.shape):
            raise P2LError("only statistics of the same feedback model, LLMs and number of replicates can be merged")
        if self._seeds & other._seeds:
            raise P2LError("statistics that are merged need different seeds, or their intervals are wrong")
        self._seeds |= other._seeds
        self._sums += other._sums
        self._weights += other._weights
        self._start += other._start
        self.n_prompts += other.n_prompts

    def solve(self, models: tuple[str, ...]) -> Leaderboard:
        """The aggregate leaderboard, with 95 % intervals from two prompts on.

        Where a shift of the coefs changes nothing (bt, bt_tie, rk) they are centred (mean 0).

        Raises:
            P2LError: no prompt, or no weight.
            ConvergenceError: Newton's method did not reach the optimum.
        """
        if self._weights[0] <= 0:
            raise P2LError("there is nothing to aggregate: no prompt, or all weights are 0")
        problem = PairLikelihood(self.feedback, self.n_models)
        optimum = problem.minimise(self._sums[0] / self._weights[0], self._start / self._weights[0])
        intervals = None
        used = self._weights[1:] > 0
        if self.n_prompts > 1 and used.sum() > 1:
            replicates = problem.one_step(self._sums[1:][used] / self._weights[1:][used, None], optimum)
            intervals = np.quantile(replicates[:, : self.n_models], [0.025, 0.975], axis=0).T
        return Leaderboard(
            models=models,
            coefs=optimum[: self.n_models],
            feedback=self.feedback,
            eta=float(eta_of_threshold(self.feedback, optimum[-1])) if self.feedback.has_eta else None,
            gamma=0.0 if self.feedback.has_gamma else None,
            n_prompts=self.n_prompts,
            intervals=intervals,
        )


def aggregate(
    batches: Iterable[Coefficients],
    feedback: Feedback,
    models: tuple[str, ...],
    *,
    replicates: int = 200,
    seed: int = 0,
) -> Leaderboard:
    """The aggregate leaderboard of a stream of batches of coefficients; see `PairStatistics`."""
    statistics = PairStatistics(feedback, len(models), replicates=replicates, seed=seed)
    for batch in batches:
        statistics.add(batch)
    return statistics.solve(models)


def _natural(feedback: Feedback, batch: Coefficients) -> tuple[np.ndarray, np.ndarray]:
    """theta `(n, n_models)` (less gamma) and log(t - 1) `(n,)` in float64: the unknowns of the solve."""
    theta = batch.coefs.astype(np.float64)
    if feedback.has_gamma and batch.gamma is not None:
        theta = theta - batch.gamma
    if not feedback.has_eta:
        return theta, np.zeros(len(theta))
    return theta, log_threshold(feedback, np.asarray(batch.eta, dtype=np.float64)[:, 0])


def _pair_log_probs(
    feedback: Feedback, theta: np.ndarray, log_s: np.ndarray, a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    eta = eta_of_threshold(feedback, log_s)[:, None] if feedback.has_eta else None
    gamma = np.zeros((len(theta), 1)) if feedback.has_gamma else None
    return log_probabilities(feedback, theta[:, a], theta[:, b], eta, gamma)
