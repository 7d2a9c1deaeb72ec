"""The cross-entropy of pair outcomes as a function of one leaderboard, minimised by Newton's method.

    F(theta, eta) = - mean over pairs of  sum over outcomes of  P[pair, outcome] * log q(outcome | pair; theta, eta)

With P the mean probabilities over many prompts, the minimum is their aggregate leaderboard; with P the (scaled) counts
of votes, it is the maximum-likelihood leaderboard of those votes. The size of the problem depends only on the number of
LLMs. The unknown for ties is log(t - 1), in which F is smooth for every feedback model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from p2l_sdk.errors import ConvergenceError, P2LError
from p2l_sdk.leaderboards.all_pairs import AllPairs, fits
from p2l_sdk.leaderboards.pair_matrix import PairMatrix, conjugate_gradients, positive
from p2l_sdk.modeling.feedback_p2l import Feedback, cross_entropy_derivatives, log_probability_slopes
from p2l_sdk.modeling.polynomial_p2l import PAIRS

_MAX_STEPS, _LONGEST_STEP, _ROUNDING = 300, 4.0, 1e-14
_BLOCK = 4096  # pairs that are evaluated together
_MANY = 300  # unknowns from which on a linear system is solved by iteration
_SPARSE = 16  # matrices in which at most one entry of so many is not 0 are kept as sums over pairs
_MATRICES, _MOST_BYTES = 5, 2 << 30  # a solver holds so many n_models x n_models matrices at once


class PairLikelihood:
    """F, its derivatives and its minimum as functions of x = (theta, log(t - 1)), `(n_models + 1,)`.

    Targets are `(n_pairs, n_outcomes)` or flat, for the distinct pairs a < b given, by default those of
    `numpy.triu_indices(n_models, 1)`. A ridge adds
    ridge / 2 * |theta - centre|^2, which makes the optimum finite if comparisons are disconnected or separated.
    """

    def __init__(
        self,
        feedback: Feedback,
        n_models: int,
        ridge: float = 0.0,
        pairs: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        require_room(n_models, 0.0)
        self.feedback, self.n_models, self.ridge = feedback, n_models, ridge
        first: np.ndarray
        second: np.ndarray
        first, second = np.triu_indices(n_models, 1) if pairs is None else pairs
        self.a, self.b, self._all = first, second, pairs is None
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
        gradient = np.stack([self.slope(target, x)[1] for target in targets])
        gradient[:, : self.n_models] -= self.ridge * centres
        return self.aligned(x - self._solve(self.hessian(targets.mean(0), x), gradient, 0.0), x)

    def slope(self, target: np.ndarray, x: np.ndarray) -> tuple[float, np.ndarray]:
        """F and its gradient, `(n_models + 1,)`."""
        return self._evaluate(target, x, curved=False)[:2]

    def hessian(self, target: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Second derivatives of F, `(n_models + 1, n_models + 1)`."""
        found = self._evaluate(target, x)[2]
        return found.whole() if isinstance(found, PairMatrix) else found

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
        total = PairMatrix(self.n_models)
        for block in self._blocks():
            a, b = self.a[block], self.b[block]
            scores = np.einsum("ko,oip->kip", kinds, log_probability_slopes(self.feedback, x[a], x[b], x[-1]))
            total.add(a, b, np.einsum("pk,kep,kep->ep", weights[block], scores[:, PAIRS[0]], scores[:, PAIRS[1]]))
        covariance = total.whole()
        theta = np.arange(self.n_models)
        covariance[theta, theta] += self.ridge
        return covariance

    def _blocks(self) -> Iterator[slice]:
        for start in range(0, len(self.a), _BLOCK):
            yield slice(start, start + _BLOCK)

    def _evaluate(
        self, target: np.ndarray, x: np.ndarray, centre: np.ndarray | None = None, curved: bool = True
    ) -> tuple[float, np.ndarray, np.ndarray | PairMatrix]:
        n, target = self.n_models, target.reshape(len(self.a), -1)
        if self._all and fits(x):
            value, gradient, hessian = AllPairs(self.feedback, x).derivatives(target.T, curved)
            return self._mean(value, gradient, hessian, x, centre)
        value, gradient, total = 0.0, np.zeros(n + 1), PairMatrix(n if curved else 0)
        for block in self._blocks():  # stays in the processor's cache; all pairs at once would be gigabytes
            a, b = self.a[block], self.b[block]
            part, slope, curvature = cross_entropy_derivatives(self.feedback, x[a], x[b], x[-1], target[block])
            value += part
            gradient[:n] += np.bincount(a, slope[0], n) + np.bincount(b, slope[1], n)
            gradient[n] += slope[2].sum()
            if curved:
                total.add(a, b, curvature)
        if curved and n > _MANY and _SPARSE * len(self.a) < n * n:
            value, gradient, _ = self._mean(value, gradient, np.zeros((0, 0)), x, centre)
            total.divide(len(self.a))
            return value, gradient, total.with_diagonal(self.ridge * (np.arange(n + 1) < n)).joined()
        return self._mean(value, gradient, total.whole() if curved else np.zeros((0, 0)), x, centre)

    def _mean(
        self, value: float, gradient: np.ndarray, hessian: np.ndarray, x: np.ndarray, centre: np.ndarray | None
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """The mean over the pairs of sums over them, with the ridge."""
        n = self.n_models
        value /= len(self.a)
        gradient /= len(self.a)
        hessian /= len(self.a)
        if self.ridge:
            pulled = x[:n] if centre is None else x[:n] - centre
            value += self.ridge / 2 * float(np.square(pulled).sum())
            gradient[:n] += self.ridge * pulled
        if len(hessian):
            hessian[np.arange(n), np.arange(n)] += self.ridge
        return value, gradient, hessian

    def _solve(self, hessian: np.ndarray | PairMatrix, gradient: np.ndarray, damping: float) -> np.ndarray:
        free = self.free
        if isinstance(hessian, PairMatrix):
            fixed = ~free * hessian.diagonal().max()
            right = self._centred(gradient * free)  # a common shift has no curvature
            found = conjugate_gradients(hessian.with_diagonal(damping + fixed), right, 4 * self.n_models)
            if found is not None:
                return self._centred(found)
            hessian = hessian.whole()
        matrix = hessian if free.all() else hessian[:-1, :-1]
        if self.feedback.floating:  # a shift has no curvature: give it some, the step along it is still 0
            matrix = matrix.copy()
            matrix[: self.n_models, : self.n_models] += 1.0 / self.n_models
        step = np.zeros_like(gradient)  # one gradient, or one row per replicate
        if gradient.ndim == 1 and len(matrix) > _MANY and not damping:
            found = conjugate_gradients(matrix, gradient[free])
            if found is not None:
                step[free] = found
                return step
        if positive(matrix):
            matrix = matrix + damping * np.eye(len(matrix)) if damping else matrix
            step[..., free] = np.linalg.solve(matrix, gradient[..., free].T).T
            return step
        values, vectors = np.linalg.eigh(matrix)
        curvature = np.maximum(np.abs(values), 1e-14) + damping  # downhill where F is not convex
        step[..., free] = ((gradient[..., free] @ vectors) / curvature) @ vectors.T
        return step

    def _centred(self, x: np.ndarray) -> np.ndarray:
        if self.feedback.floating:
            x[: self.n_models] -= x[: self.n_models].mean()
        return x


def require_room(n_models: int, per_pair: float, remedy: str = "leave out those with few votes") -> None:
    """Refuse what would not fit into memory, before anything is allocated.

    Args:
        n_models: number of LLMs.
        per_pair: numbers to be kept for each ordered pair of them, beside a few matrices to solve.
        remedy: what to do about it, beside comparing them in groups.

    Raises:
        P2LError: it is more than 2 GiB; the message says how much.
    """
    needed = 8 * n_models**2 * (per_pair + _MATRICES)
    if needed > _MOST_BYTES:
        most = math.isqrt(int(_MOST_BYTES / (8 * (per_pair + _MATRICES))))
        raise P2LError(
            f"one leaderboard of {n_models:,} LLMs would take {needed / 1e9:,.1f} GB of memory; at most {most:,} LLMs "
            f"can be compared at once: {remedy}, or compare them in groups"
        )
