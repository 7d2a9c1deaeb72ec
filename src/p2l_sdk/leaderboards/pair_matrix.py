"""Symmetric matrices that are sums over pairs of LLMs, and linear systems with them."""

from __future__ import annotations

import numpy as np

_ITERATIONS, _ACCURATE = 60, 1e-10  # at the most; the residual relative to the right-hand side
_LEAST_PIVOT = 1e-10  # of a matrix, relative to the largest, for a linear system to be solved with it


class PairMatrix:
    """A symmetric `(n_models + 1, n_models + 1)` matrix, summed from a 3 x 3 block of each pair.

    Args:
        n_models: number of LLMs.
    """

    def __init__(self, n_models: int) -> None:
        self.n = n_models
        self._blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # a, b, and the entry (a, b)
        self._diagonal, self._edge = np.zeros(n_models + 1), np.zeros(n_models)

    def add(self, a: np.ndarray, b: np.ndarray, entries: np.ndarray) -> None:
        """Add the blocks of pairs, each of which comes once: `(6, n)` entries `PAIRS`."""
        aa, ab, a_s, bb, b_s, ss = entries
        self._blocks.append((a, b, ab))
        self._diagonal[:-1] += np.bincount(a, aa, self.n) + np.bincount(b, bb, self.n)
        self._edge += np.bincount(a, a_s, self.n) + np.bincount(b, b_s, self.n)
        self._diagonal[-1] += ss.sum()

    def divide(self, number: float) -> None:
        """Divide it by a number."""
        self._blocks = [(a, b, ab / number) for a, b, ab in self._blocks]
        self._diagonal /= number
        self._edge /= number

    def with_diagonal(self, more: float | np.ndarray) -> PairMatrix:
        """The same with more on its diagonal: a number, or `(n_models + 1,)`."""
        found = PairMatrix(self.n)
        found._blocks, found._edge, found._diagonal = self._blocks, self._edge, self._diagonal + more
        return found

    def diagonal(self) -> np.ndarray:
        """`(n_models + 1,)`."""
        return self._diagonal

    def __matmul__(self, vector: np.ndarray) -> np.ndarray:
        """The product with a vector `(n_models + 1,)`, in a time that grows with the number of pairs."""
        theta: np.ndarray = vector[:-1]
        image: np.ndarray = self._diagonal * vector
        for a, b, ab in self._blocks:
            image[:-1] += np.bincount(a, ab * theta[b], self.n) + np.bincount(b, ab * theta[a], self.n)
        image[:-1] += self._edge * vector[-1]
        image[-1] += self._edge @ theta
        return image

    def joined(self) -> PairMatrix:
        """The same, with its pairs in one block: products are faster."""
        if self._blocks:
            a, b, ab = (np.concatenate(part) for part in zip(*self._blocks, strict=True))
            self._blocks = [(a, b, ab)]
        return self

    def whole(self) -> np.ndarray:
        """The matrix as an array."""
        matrix, every = np.zeros((self.n + 1, self.n + 1)), np.arange(self.n + 1)
        for a, b, ab in self._blocks:
            matrix[a, b] = ab
            matrix[b, a] = ab
        matrix[every, every] = self._diagonal
        matrix[-1, :-1] = matrix[:-1, -1] = self._edge
        return matrix


def conjugate_gradients(
    matrix: np.ndarray | PairMatrix, right: np.ndarray, iterations: int = _ITERATIONS
) -> np.ndarray | None:
    """The solution of a symmetric linear system, scaled by the diagonal; the time grows with the square of its size, or
    of a `PairMatrix` with its pairs.

    The Hessian of a leaderboard that compares all with all is close to its diagonal but for few directions, so that a
    dozen iterations do, where a factorisation would take longer than everything else. Of a singular matrix, such as
    the Hessian where a common shift changes nothing, a solution is found if there is one.

    Args:
        iterations: at the most.

    Returns:
        `(n,)`, or None where the matrix is not positive along the way, or iterations do not converge.
    """
    diagonal = matrix.diagonal()
    if diagonal.min() <= _LEAST_PIVOT * diagonal.max():
        return None
    solution, residual = np.zeros_like(right), right.copy()
    scaled = residual / diagonal
    direction, size = scaled, float((residual * scaled).sum())
    enough = _ACCURATE**2 * size
    for _ in range(iterations):
        if size <= enough:
            return solution
        image = matrix @ direction
        curvature = float((direction * image).sum())
        if not curvature > 0.0:
            return None
        solution += size / curvature * direction
        residual -= size / curvature * image
        scaled = residual / diagonal
        last, size = size, float((residual * scaled).sum())
        direction = scaled + size / last * direction
    return None


def positive(matrix: np.ndarray) -> bool:
    """Whether a symmetric matrix is positive definite, and so well conditioned that a linear system can be solved."""
    try:
        pivots = np.square(np.linalg.cholesky(matrix).diagonal())
    except np.linalg.LinAlgError:
        return False
    return bool(pivots.min() > _LEAST_PIVOT * pivots.max())
