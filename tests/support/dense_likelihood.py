"""The solver before `leaderboards/likelihood.py` went block by block: all pairs at once, by eigenvalues. An oracle.

    F(theta, eta) = - mean over pairs of  sum over outcomes of  P[pair, outcome] * log q(outcome | pair; theta, eta)

With P the mean probabilities over many prompts, the minimum is their aggregate leaderboard; with P the (scaled) counts
of votes, it is the maximum-likelihood leaderboard of those votes. The size of the problem depends only on the number of
LLMs. The unknown for ties is log(t - 1), in which F is smooth for every feedback model.
"""

from __future__ import annotations

import numpy as np

from p2l_sdk.errors import ConvergenceError
from p2l_sdk.modeling.feedback_p2l import Feedback, log_probability_derivatives

_MAX_STEPS, _LONGEST_STEP, _ROUNDING = 300, 4.0, 1e-14


class DensePairLikelihood:
    """F, its derivatives and its minimum as functions of x = (theta, log(t - 1)), `(n_models + 1,)`.

    Targets are `(n_pairs, n_outcomes)` or flat, for the pairs a < b of `numpy.triu_indices(n_models, 1)`. A ridge adds
    ridge / 2 * |theta - centre|^2, which makes the optimum finite if comparisons are disconnected or separated.
    """

    def __init__(self, feedback: Feedback, n_models: int, ridge: float = 0.0) -> None:
        a, b = np.triu_indices(n_models, 1)
        self.feedback, self.n_models, self.a, self.b = feedback, n_models, a, b
        self.ridge = ridge
        self.slots = np.stack([a, b, np.full_like(a, n_models)], 1)  # positions in x of a pair's three unknowns
        free = np.ones(n_models + 1, dtype=bool)
        free[-1] = feedback.has_eta
        self.free = free

    def minimise(
        self, target: np.ndarray, x: np.ndarray, centre: np.ndarray | None = None, tolerance: float = 1e-12
    ) -> np.ndarray:
        """Newton's method from x, damped after a step that does not lower F; no step exceeds `_LONGEST_STEP`.

        Args:
            target: probabilities or scaled counts to fit.
            x: `(n_models + 1,)` starting point.
            centre: `(n_models,)` values towards which the ridge pulls theta; 0 if not given.
            tolerance: bound on the largest absolute entry of the gradient.

        Raises:
            ConvergenceError: the gradient is still 1e-8 or more when no step lowers F or the steps run out.
        """
        x = self._centred(x.copy())
        damping = 0.0
        value, gradient, hessian = self._evaluate(target, x, centre)
        for _ in range(_MAX_STEPS):
            slope = np.abs(gradient).max()
            if slope < tolerance:
                return x
            step = self._solve(hessian, gradient, damping)
            step *= min(1.0, _LONGEST_STEP / np.abs(step).max())
            trial = self._centred(x - step)
            trial_value, trial_gradient, trial_hessian = self._evaluate(target, trial, centre)
            # near the optimum only the gradient is informative: F is computed from differences of numbers as large as x
            flat = abs(trial_value - value) <= _ROUNDING * (1.0 + np.abs(x).max())
            if (trial_value < value and not flat) or (flat and np.abs(trial_gradient).max() < slope):
                x, value, gradient, hessian = trial, trial_value, trial_gradient, trial_hessian
                damping = 0.0 if damping < 1e-8 else damping / 10
            elif damping > 1e6:
                break
            else:
                damping = max(damping * 10, 1e-6)
        if np.abs(gradient).max() < 1e-8:
            return x
        raise ConvergenceError(
            f"Newton's method did not converge (largest gradient {np.abs(gradient).max():.2g}); "
            "are the coefficients extreme? scale them down, or report this"
        )

    def one_step(self, targets: np.ndarray, x: np.ndarray, centres: np.ndarray | float = 0.0) -> np.ndarray:
        """One Newton step from the optimum for each replicate, `(n_replicates, n_models + 1)`.

        Args:
            targets: `(n_replicates, n_pairs * n_outcomes)` targets of the replicates.
            x: the optimum.
            centres: `(n_replicates, n_models)` values towards which each replicate's ridge pulls theta.
        """
        _, gradients, _ = self._derivatives(x)
        gradient = -targets @ self._spread(gradients).reshape(-1, self.n_models + 1) / len(self.a)
        gradient[:, : self.n_models] += self.ridge * (x[: self.n_models] - centres)
        return self.aligned(x - self._solve(self.hessian(targets.mean(0), x), gradient, 0.0), x)

    def hessian(self, target: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Second derivatives of F, `(n_models + 1, n_models + 1)`."""
        return self._evaluate(target, x)[2]

    def aligned(self, replicates: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The replicates shifted to the mean coefficient of x; unless the model is grounded, the shift is arbitrary."""
        if not self.feedback.grounded:
            theta = replicates[:, : self.n_models]
            theta += x[: self.n_models].mean() - theta.mean(1, keepdims=True)
        return replicates

    def score_covariance(self, weights: np.ndarray, kinds: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Mean outer product of the votes' gradients at x, with the ridge as one more observation.

        Args:
            weights: `(n_pairs, n_kinds)` weights of the votes of each kind, summing to 1.
            kinds: `(n_kinds, n_outcomes)` target of a vote of each kind (`vote_targets`).
            x: `(n_models + 1,)`.
        """
        scores = np.einsum("ko,poi->pki", kinds, self._derivatives(x)[1])
        covariance = self._assemble(np.einsum("pk,pki,pkj->pij", weights, scores, scores))
        theta = np.arange(self.n_models)
        covariance[theta, theta] += self.ridge
        return covariance

    def _derivatives(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        log_s = np.full(len(self.a), x[-1])
        return log_probability_derivatives(self.feedback, x[self.a], x[self.b], log_s)

    def _evaluate(
        self, target: np.ndarray, x: np.ndarray, centre: np.ndarray | None = None
    ) -> tuple[float, np.ndarray, np.ndarray]:
        values, gradients, hessians = self._derivatives(x)
        p = target.reshape(values.shape) / -len(values)
        gradient: np.ndarray = np.bincount(self.slots.ravel(), np.einsum("po,poi->pi", p, gradients).ravel(), len(x))
        hessian = self._assemble(np.einsum("po,poij->pij", p, hessians))
        value = float((p * values).sum())
        if self.ridge:
            theta = np.arange(self.n_models)
            pulled = x[theta] if centre is None else x[theta] - centre
            value += self.ridge / 2 * float(np.square(pulled).sum())
            gradient[theta] += self.ridge * pulled
            hessian[theta, theta] += self.ridge
        return value, gradient, hessian

    def _spread(self, gradients: np.ndarray) -> np.ndarray:
        """Expand gradients in each pair's own unknowns, `(n_pairs, n_outcomes, 3)`, to `(..., n_models + 1)`."""
        n_outcomes = gradients.shape[1]
        spread = np.zeros((len(gradients), n_outcomes, self.n_models + 1))
        np.put_along_axis(spread, self.slots[:, None, :].repeat(n_outcomes, 1), gradients, 2)
        return spread

    def _assemble(self, blocks: np.ndarray) -> np.ndarray:
        """Sum `(n_pairs, 3, 3)` blocks into the full `(n_models + 1, n_models + 1)` matrix."""
        size = self.n_models + 1
        place = self.slots[:, :, None] * size + self.slots[:, None, :]
        return np.bincount(place.ravel(), blocks.ravel(), size * size).reshape(size, size)

    def _solve(self, hessian: np.ndarray, gradient: np.ndarray, damping: float) -> np.ndarray:
        free = self.free
        matrix = hessian[np.ix_(free, free)].copy()
        if self.feedback.floating:  # a shift has no curvature: give it some, the step along it is still 0
            matrix[: self.n_models, : self.n_models] += 1.0 / self.n_models
        values, vectors = np.linalg.eigh(matrix)
        curvature = np.maximum(np.abs(values), 1e-14) + damping  # downhill where F is not convex
        step = np.zeros_like(gradient)  # one gradient, or one row per replicate
        step[..., free] = ((gradient[..., free] @ vectors) / curvature) @ vectors.T
        return step

    def _centred(self, x: np.ndarray) -> np.ndarray:
        if self.feedback.floating:
            x[: self.n_models] -= x[: self.n_models].mean()
        return x
