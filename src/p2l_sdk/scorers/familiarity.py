"""What training prompts look like to a head, learned from their vectors; the formulas are in `familiarity_p2l`."""

from __future__ import annotations

import numpy as np

from p2l_sdk.modeling.familiarity_p2l import SHARES, distances

FEWEST = 100  # prompts; from fewer, nothing can be said about a share of 1 %
_RANK, _FOLDS = 48, 10
_FLOOR = 0.01  # smallest variance, as a share of the mean one: in a direction without any, rounding must not count
_ALIKE = 1e-6  # standard deviation of vectors that are all alike


def learned_familiarity(
    vectors: np.ndarray, average: np.ndarray, seed: int = 0, held_out: np.ndarray | None = None, *, uncounted: int = 0
) -> dict[str, np.ndarray] | None:
    """The tensors of `head.familiarity`, float32, by name.

    Args:
        vectors: `(n_prompts, width)` inputs of the head for the training prompts.
        average: `(n_features,)` mean input of the last layer over them; zeros for a layer that is not centred.
        seed: of the ten folds in which the prompts' distances are taken.
        held_out: `(n, width)` vectors of other prompts, whose distances are taken instead: where the vectors were
            trained, those of the training prompts are closer together than those of new ones.
        uncounted: so many entries at the end of a vector say nothing of how familiar a prompt is.

    Returns:
        None for fewer than 100 prompts (or held-out prompts), or if all vectors are alike.
    """
    counted = vectors.shape[1] - uncounted
    vectors = vectors[:, :counted].astype(np.float64)
    n = len(vectors)
    if n < FEWEST or vectors.std(0).max() < _ALIKE:
        return None
    centre, directions, precision = _gaussian(vectors)
    if held_out is None:
        fold = np.random.default_rng(seed).permutation(n) % _FOLDS
        away = np.empty(n)
        for k in range(_FOLDS):
            away[fold == k] = distances(vectors[fold == k], *_gaussian(vectors[fold != k]))
    elif len(held_out) < FEWEST:
        return None
    else:
        away = distances(held_out[:, :counted].astype(np.float64), centre, directions, precision)
    tensors = {
        "centre": np.append(centre, np.zeros(uncounted)),
        "directions": np.block(  # an entry that does not count is a direction of its own, of precision 0
            [
                [directions, np.zeros((len(directions), uncounted))],
                [np.zeros((uncounted, counted)), np.eye(uncounted)],
            ]
        ),
        "precision": np.insert(precision, len(directions), np.zeros(uncounted)),
        "quantiles": np.quantile(away, 1.0 - np.array(SHARES)),
        "average": average,
        "error": np.zeros(2),
    }
    return {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}


def _gaussian(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, leading directions, and precisions of a probabilistic principal component analysis."""
    n, width = vectors.shape
    centre = vectors.mean(0)
    variances, axes = np.linalg.eigh(np.cov(vectors.T).reshape(width, width))  # ascending
    rank = max(1, min(_RANK, width - 1, n // 10))
    leading, rest = variances[-rank:], variances[:-rank]
    least = _FLOOR * float(variances.mean())
    spread = max(float(rest.mean()) if len(rest) else least, least)
    return centre, axes[:, -rank:].T, np.append(1.0 / np.maximum(leading, least), 1.0 / spread)
