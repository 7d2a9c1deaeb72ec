"""Polynomials in a, b and s with positive coefficients, of which `feedback_p2l` makes its laws, and their logarithms.

The logarithm of such a polynomial is a log-sum-exp of terms that are affine in log a, log b and log s: it neither
overflows nor cancels. Needs only numpy, and torch only for torch arguments.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

PAIRS = ([0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2])  # rows and columns of the upper half of a 3 x 3 matrix
Array = Any  # numpy.ndarray or torch.Tensor; every function returns the type that it was given


@dataclass(frozen=True)
class Polynomial:
    """A sum of monomials c * a^i * b^j * s^k with c > 0.

    Attributes:
        terms: {(i, j, k): c}.
    """

    terms: dict[tuple[int, int, int], float]

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for powers, c in other.terms.items():
            terms[powers] = terms.get(powers, 0.0) + c
        return Polynomial(terms)

    def __mul__(self, other: Polynomial) -> Polynomial:
        product = Polynomial({})
        for (i, j, k), c in self.terms.items():
            product += Polynomial({(i + p, j + q, k + r): c * d for (p, q, r), d in other.terms.items()})
        return product

    def slope(self, axis: int) -> Polynomial:
        """The derivative by the logarithm of a, b or s (axis 0, 1 or 2), a polynomial of the same monomials."""
        return Polynomial({powers: powers[axis] * c for powers, c in self.terms.items() if powers[axis]})

    def in_powers_of_b(self, a: Array, s: Array) -> dict[int, Array]:
        """The coefficients of this polynomial in b alone, by power of b."""
        coefficients: dict[int, Array] = {}
        for (i, j, k), c in self.terms.items():
            monomial = functools.reduce(operator.mul, [a] * i + [s] * k, c)
            coefficients[j] = coefficients[j] + monomial if j in coefficients else monomial
        return coefficients

    def log_value(self, xp: Any, log_a: Array, log_b: Array, log_s: Array) -> Array:
        """The polynomial's logarithm; xp is the module of the arguments, numpy or torch, whose shapes broadcast."""
        zero = xp.zeros_like(log_a)
        terms = [
            sum((n * v for n, v in zip(powers, (log_a, log_b, log_s), strict=True) if n), zero + float(np.log(c)))
            for powers, c in self.terms.items()
        ]
        return functools.reduce(xp.logaddexp, terms)

    def log_moments(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `log_derivatives`, with the points last, which is much faster for many points.

        Args:
            point: `(3, n)` float64, log a, log b and log s.

        Returns:
            `(n,)`, `(3, n)`, and `(6, n)` for the entries `PAIRS` of the Hessian.
        """
        exponents = np.array(list(self.terms), dtype=np.float64)
        logits = exponents @ point + np.log(list(self.terms.values()))[:, None]
        if len(exponents) == 1:
            n = point.shape[1]
            return logits[0], np.broadcast_to(exponents.T, (3, n)), np.zeros((6, n))
        top = logits.max(0)
        weights = np.exp(logits - top)
        total = weights.sum(0)
        weights /= total
        mean, (i, j) = exponents.T @ weights, PAIRS
        return top + np.log(total), mean, (exponents[:, i] * exponents[:, j]).T @ weights - mean[i] * mean[j]

    def log_derivatives(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The polynomial's logarithm, its gradient and its Hessian with respect to (log a, log b, log s).

        Args:
            point: `(n, 3)` float64, log a, log b and log s.

        Returns:
            `(n,)`, `(n, 3)`, `(n, 3, 3)`.
        """
        # the gradient of a log-sum-exp of affine terms is the softmax mean of the exponents, the Hessian the covariance
        exponents = np.array(list(self.terms), dtype=np.float64)
        logits = point @ exponents.T + np.log(list(self.terms.values()))
        top = logits.max(-1, keepdims=True)
        weights = np.exp(logits - top)
        total = weights.sum(-1, keepdims=True)
        weights /= total
        mean = weights @ exponents
        squares = exponents[:, :, None] * exponents[:, None, :]
        second = (weights @ squares.reshape(-1, 9)).reshape(-1, 3, 3)
        return (top + np.log(total))[:, 0], mean, second - mean[:, :, None] * mean[:, None, :]


def horner(coefficients: dict[int, Array], b: np.ndarray) -> np.ndarray:
    """The value of a polynomial in b from its coefficients by power; see `Polynomial.in_powers_of_b`."""
    top = max(coefficients)
    value = coefficients[top]
    for j in range(top - 1, -1, -1):
        value = b if isinstance(value, float) and value == 1.0 else value * b
        if j in coefficients:
            value = value + coefficients[j]
    return value
