"""Where prompts lie: their vectors, whitened by half and of length 1, so that like prompts are near each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2l_sdk.errors import P2LError

_FLAT = 1e-6  # a direction with less than this share of the largest standard deviation holds rounding errors


@dataclass(frozen=True)
class Space:
    """Directions in which the vectors of prompts vary, each divided by the root of its standard deviation.

    As they are, a few directions (length, language) would decide which prompts are near each other; scaled to variance
    1, the many that hold noise would count as much as those that hold what prompts are about. Midway, clusters explain
    half as much again of what votes on other prompts say (`docs/analysis.md`).

    Attributes:
        centre: `(width,)` the mean vector.
        directions: `(width, n_directions)`.
    """

    centre: np.ndarray
    directions: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Space:
        """The space of these `(n_prompts, width)` vectors.

        Raises:
            P2LError: all vectors are alike.
        """
        centre = vectors.mean(0, dtype=np.float64)
        centred = vectors - centre
        variances, directions = np.linalg.eigh(centred.T @ centred / len(vectors))
        deviations = np.sqrt(np.maximum(variances[::-1], 0.0))
        kept = deviations > max(_FLAT * deviations[0], 1e-12)
        if not kept.any():
            raise P2LError("these prompts are all alike to the model, so there is nothing to tell apart; give others")
        scaled = directions[:, ::-1][:, kept] / np.sqrt(deviations[kept])
        return cls(centre.astype(np.float32), scaled.astype(np.float32))

    def points(self, vectors: np.ndarray) -> np.ndarray:
        """`(n_prompts, n_directions)` float32 points of length 1."""
        points = (vectors - self.centre) @ self.directions
        length = np.linalg.norm(points, axis=1, keepdims=True)
        return np.asarray(points / np.maximum(length, 1e-12), dtype=np.float32)
