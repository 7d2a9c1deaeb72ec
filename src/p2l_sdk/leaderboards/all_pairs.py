"""Every pair of LLMs at one leaderboard: the logarithms of a feedback model's polynomials, in matrix products.

A polynomial of the laws is, over all pairs (i, j), the matrix A C B': A and B hold powers of the LLMs' odds exp(theta),
and C its coefficients at the tie threshold. Its derivatives by log a, log b and log s are polynomials too, with other
coefficients, so that sums of a quotient over the opponents need only the sums of the denominator times powers. That is
many times faster than logarithms pair by pair, and as accurate as long as nothing overflows (`fits`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from p2l_sdk.modeling.feedback_p2l import Feedback, factors
from p2l_sdk.modeling.polynomial_p2l import PAIRS, Polynomial

_TILE = 32_768  # pairs that are evaluated together
_LARGEST = 340.0  # of the logarithm of a polynomial: its square fits in float64
_POWERS = 6


def fits(x: np.ndarray) -> bool:
    """Whether squares of all polynomials can be represented at x = (theta, log(t - 1)), `(n_models + 1,)`."""
    return bool(3.0 * np.abs(x[:-1]).max() + 2.0 * abs(x[-1]) < _LARGEST)


def tiles(n_models: int, n_opponents: int) -> Iterator[slice]:
    """The LLMs in slices: with all their opponents, what is evaluated together."""
    size = max(1, _TILE // n_opponents)
    for start in range(0, n_models, size):
        yield slice(start, min(start + size, n_models))


class AllPairs:
    """The factors of the outcomes' probabilities at one leaderboard.

    Args:
        feedback: the feedback model.
        x: `(n_models + 1,)` theta and log(t - 1); see `fits`.
    """

    def __init__(self, feedback: Feedback, x: np.ndarray) -> None:
        self.x, self.n_models = x, len(x) - 1
        self._powers = np.exp(x[:-1, None] * np.arange(_POWERS))
        self._factors = [(_Factor(polynomial, x[-1]), powers) for polynomial, powers in factors(feedback)]

    def derivatives(self, target: np.ndarray, curved: bool) -> tuple[float, np.ndarray, np.ndarray]:
        """The cross-entropy -sum(target * log-probability) over all pairs, and its derivatives.

        Args:
            target: `(n_outcomes, n_pairs)` weights of the outcomes, for the pairs a < b of `numpy.triu_indices`.
            curved: whether second derivatives are wanted.

        Returns:
            The sum, `(n_models + 1,)` gradient, and `(n_models + 1, n_models + 1)` Hessian; of no size if not wanted.
        """
        n = self.n_models
        total = _Sums(0.0, np.zeros(n + 1), np.zeros((n + 1, n + 1) if curved else (0, 0)))
        for rows in tiles(n, n):
            weights = self._tile(target, rows)
            for factor, powers in self._factors:
                self._add(total, rows, factor, -np.tensordot(powers, weights, 1))
        if curved:
            diagonal = total.hessian.diagonal().copy()
            total.hessian += total.hessian.T
            np.fill_diagonal(total.hessian, diagonal)
        return total.value, total.gradient, total.hessian

    def slopes(self, rows: slice, n_opponents: int) -> np.ndarray:
        """`(n_outcomes, 2, n_rows, n_opponents)` derivatives of the log-probabilities of the outcomes of LLM i of the
        rows against j, one of the first LLMs, by theta_i and log(t - 1); an LLM against itself is an opponent of equal
        strength."""
        a, b = self._powers[rows], self._powers[:n_opponents]
        total = np.zeros((len(self._factors[0][1]), 2, len(a), n_opponents))
        for factor, powers in self._factors:
            inverse = 1.0 / _product(a, factor.value, b)
            slope = np.stack([_product(a, factor.first[k], b) * inverse for k in (0, 2)])
            for outcome in np.flatnonzero(powers):
                total[outcome] += powers[outcome] * slope
        return total

    def _tile(self, target: np.ndarray, rows: slice) -> np.ndarray:
        """The weights of the rows' pairs with all LLMs from the first row on, `(n_outcomes, n_rows, n_columns)`."""
        n, columns = self.n_models, self.n_models - rows.start
        tile = np.zeros((len(target), rows.stop - rows.start, columns))
        for place, i in enumerate(range(rows.start, rows.stop)):
            end = (i + 1) * n - (i + 1) * (i + 2) // 2
            tile[:, place, place + 1 :] = target[:, end - (n - 1 - i) : end]
        return tile

    def _add(self, total: _Sums, rows: slice, factor: _Factor, weight: np.ndarray) -> None:
        """Add a weighted logarithm and its derivatives."""
        columns = slice(rows.start, self.n_models)
        if factor.monomial is not None:
            return total.add_monomial(rows, columns, factor.monomial, weight, self.x)
        a, b = self._powers[rows], self._powers[columns]
        value = _product(a, factor.value, b)
        total.value += float((weight * np.log(value)).sum())
        weight /= value  # the derivatives are sums of weight / value * (a derivative of the polynomial)
        self._add_slopes(total, rows, factor.first, weight, a, b)
        if len(total.hessian):
            self._add_curvature(total, rows, factor.second, weight, a, b)
            weight = weight / value
            self._add_curvature(total, rows, factor.squares, -weight, a, b)

    def _add_slopes(
        self, total: _Sums, rows: slice, first: list[np.ndarray], weight: np.ndarray, a: np.ndarray, b: np.ndarray
    ) -> None:
        by_row, by_column = weight @ b, weight.T @ a
        total.gradient[rows] += _contracted(a, first[0], by_row)
        total.gradient[rows.start : -1] += _contracted(b, first[1].T, by_column)
        total.gradient[-1] += _contracted(a, first[2], by_row).sum()

    def _add_curvature(
        self, total: _Sums, rows: slice, second: list[np.ndarray], weight: np.ndarray, a: np.ndarray, b: np.ndarray
    ) -> None:
        aa, ab, a_s, bb, b_s, ss = second
        by_row, by_column, columns = weight @ b, weight.T @ a, slice(rows.start, self.n_models)
        diagonal = total.hessian.reshape(-1)[: -1 : self.n_models + 2]
        diagonal[rows] += _contracted(a, aa, by_row)
        diagonal[columns] += _contracted(b, bb.T, by_column)
        total.hessian[rows, columns] += _product(a, ab, b) * weight
        total.hessian[rows, -1] += _contracted(a, a_s, by_row)
        total.hessian[columns, -1] += _contracted(b, b_s.T, by_column)
        total.hessian[-1, -1] += _contracted(a, ss, by_row).sum()


@dataclass
class _Sums:
    value: float
    gradient: np.ndarray
    hessian: np.ndarray

    def add_monomial(self, rows: slice, columns: slice, powers: np.ndarray, weight: np.ndarray, x: np.ndarray) -> None:
        """Add the weighted logarithm of a monomial of coefficient 1, which is linear in x."""
        slopes = np.zeros_like(x)
        slopes[rows] += powers[0] * weight.sum(1)
        slopes[columns] += powers[1] * weight.sum(0)
        slopes[-1] = powers[2] * weight.sum()
        self.value += float((slopes * x).sum())
        self.gradient += slopes


class _Factor:
    """A polynomial's coefficients, and those of its derivatives by (log a, log b, log s), as matrices."""

    def __init__(self, polynomial: Polynomial, log_s: float) -> None:
        first = [polynomial.slope(axis) for axis in range(3)]
        self.monomial = np.array(next(iter(polynomial.terms))) if list(polynomial.terms.values()) == [1.0] else None
        self.value = _matrix(polynomial, log_s)
        self.first = [_matrix(p, log_s) for p in first]
        self.second = [_matrix(first[i].slope(j), log_s) for i, j in zip(*PAIRS, strict=True)]
        self.squares = [_matrix(first[i] * first[j], log_s) for i, j in zip(*PAIRS, strict=True)]


def _matrix(polynomial: Polynomial, log_s: float) -> np.ndarray:
    """`(_POWERS, _POWERS)` coefficients by the powers of a and b."""
    matrix = np.zeros((_POWERS, _POWERS))
    for (i, j, k), c in polynomial.terms.items():
        matrix[i, j] += c * np.exp(k * log_s)
    return matrix


def _product(a: np.ndarray, coefficients: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A polynomial at every pair of rows of a and b."""
    used = np.flatnonzero(coefficients.any(0))
    return np.asarray((a @ coefficients[:, used]) @ b[:, used].T)


def _contracted(a: np.ndarray, coefficients: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """The polynomial summed over the opponents, given the weighted sums of their powers."""
    return np.asarray(((a @ coefficients) * sums).sum(1))
