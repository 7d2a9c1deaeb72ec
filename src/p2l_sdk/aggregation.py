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

from p2l_sdk.errors import ConvergenceError, P2LError
from p2l_sdk.modeling.feedback_p2l import (
    Feedback,
    eta_of_threshold,
    log_probabilities,
    log_probability_derivatives,
    log_threshold,
)
from p2l_sdk.results import Coefficients, Leaderboard

_CHUNK_VALUES = 4_000_000  # probabilities held at a time, 32 MB
_MAX_STEPS, _LONGEST_STEP, _ROUNDING = 300, 4.0, 1e-14


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
        problem = _Problem(self.feedback, self.n_models, self._a, self._b)
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
    batches: Iterable[Coefficients], feedback: Feedback, models: tuple[str, ...], *, replicates: int = 200, seed: int = 0
) -> Leaderboard:
    """The aggregate leaderboard of a stream of batches of coefficients; see `PairStatistics`."""
    statistics = PairStatistics(feedback, len(models), replicates=replicates, seed=seed)
    for batch in batches:
        statistics.add(batch)
    return statistics.solve(models)


def _natural(feedback: Feedback, batch: Coefficients) -> tuple[np.ndarray, np.ndarray]:
    """theta `(n, n_models)` (less gamma) and log(t - 1) `(n,)` in float64: the unknowns of the solve."""
    theta = batch.coefs.astype(np.float64)
    if feedback.has_gamma:
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


class _Problem:
    """F and its derivatives in x = (theta, log(t - 1)) for given mean probabilities."""

    def __init__(self, feedback: Feedback, n_models: int, a: np.ndarray, b: np.ndarray) -> None:
        self.feedback, self.n_models, self.a, self.b = feedback, n_models, a, b
        self.slots = np.stack([a, b, np.full_like(a, n_models)], 1)  # where a pair's three unknowns stand in x
        free = np.ones(n_models + 1, dtype=bool)
        free[-1] = feedback.has_eta
        self.free = free
        self.floating = feedback in (Feedback.BT, Feedback.BT_TIE, Feedback.RK)  # a shift changes nothing at all

    def minimise(self, target: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Newton's method from x; damped where a step does not lower F, no step longer than `_LONGEST_STEP`."""
        x = self._centred(x.copy())
        damping = 0.0
        value, gradient, hessian = self._evaluate(target, x)
        for _ in range(_MAX_STEPS):
            slope = np.abs(gradient).max()
            if slope < 1e-12:
                return x
            step = self._solve(hessian, gradient, damping)
            step *= min(1.0, _LONGEST_STEP / np.abs(step).max())
            trial = self._centred(x - step)
            trial_value, trial_gradient, trial_hessian = self._evaluate(target, trial)
            flat = abs(trial_value - value) <= _ROUNDING * abs(value)  # at the bottom only the gradient still tells
            if trial_value < value and not flat or flat and np.abs(trial_gradient).max() < slope:
                x, value, gradient, hessian = trial, trial_value, trial_gradient, trial_hessian
                damping = 0.0 if damping < 1e-8 else damping / 10
            elif damping > 1e6:
                break
            else:
                damping = max(damping * 10, 1e-6)
        if np.abs(gradient).max() < 1e-8:
            return x
        raise ConvergenceError(
            f"the aggregate did not converge (largest gradient {np.abs(gradient).max():.2g}); "
            "are the coefficients extreme? scale them down, or report this"
        )

    def one_step(self, targets: np.ndarray, x: np.ndarray) -> np.ndarray:
        """One Newton step from the optimum for each replicate `(n_replicates, n_pairs * n_outcomes)`."""
        _, gradients, _ = self._derivatives(x)
        scatter = np.zeros((gradients.shape[0], gradients.shape[1], self.n_models + 1))
        np.put_along_axis(scatter, self.slots[:, None, :].repeat(gradients.shape[1], 1), gradients, 2)
        gradient = -targets @ scatter.reshape(-1, self.n_models + 1) / len(self.a)
        _, _, hessian = self._evaluate(targets.mean(0), x)
        replicates = x - self._solve(hessian, gradient, 0.0)
        if not self.feedback.grounded:  # the shift is no finding: leave its scatter out
            theta = replicates[:, : self.n_models]
            theta += x[: self.n_models].mean() - theta.mean(1, keepdims=True)
        return replicates

    def _derivatives(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        log_s = np.full(len(self.a), x[-1])
        return log_probability_derivatives(self.feedback, x[self.a], x[self.b], log_s)

    def _evaluate(self, target: np.ndarray, x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        values, gradients, hessians = self._derivatives(x)
        p = target.reshape(values.shape)
        size = self.n_models + 1
        gradient, hessian = np.zeros(size), np.zeros((size, size))
        np.add.at(gradient, self.slots, -np.einsum("po,poi->pi", p, gradients))
        np.add.at(
            hessian, (self.slots[:, :, None], self.slots[:, None, :]), -np.einsum("po,poij->pij", p, hessians)
        )
        return -float((p * values).sum()) / len(p), gradient / len(p), hessian / len(p)

    def _solve(self, hessian: np.ndarray, gradient: np.ndarray, damping: float) -> np.ndarray:
        free = self.free
        matrix = hessian[np.ix_(free, free)].copy()
        if self.floating:  # the shift has no curvature: give it some, the step along it is 0 all the same
            matrix[: self.n_models, : self.n_models] += 1.0 / self.n_models
        values, vectors = np.linalg.eigh(matrix)
        curvature = np.maximum(np.abs(values), 1e-14) + damping  # downhill where F is not convex
        step = np.zeros_like(gradient)  # one gradient, or a row for each replicate
        step[..., free] = ((gradient[..., free] @ vectors) / curvature) @ vectors.T
        return step

    def _centred(self, x: np.ndarray) -> np.ndarray:
        if self.floating:
            x[: self.n_models] -= x[: self.n_models].mean()
        return x
