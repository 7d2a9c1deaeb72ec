"""Shared luck on questions that several LLMs answered: it makes differences more certain than two intervals suggest.

If r_ij is the correlation of two LLMs' scores over the questions that both answered, their mean scores have correlation
r_ij n_ij / sqrt(n_i n_j). The draws of a benchmark's accuracies are given this correlation without changing any LLM's
own distribution, by reordering its draws (Iman and Conover 1982). The correlation is reduced by the share of a draw
that comes from the prior rather than the questions, and where r rests on few questions.
"""

from __future__ import annotations

import numpy as np

_DOUBT = 4.0  # questions: an r from n of them is multiplied by n / (n + 4)


def paired(draws: np.ndarray, scores: np.ndarray, weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws of the accuracies on one benchmark, reordered so that they are correlated by the LLMs' shared luck.

    Args:
        draws: `(n_draws, n_models)`.
        scores: `(n_models, n_questions)`, NaN where not asked.
        weight: `(n_models,)` in [0, 1], the share of the information that comes from the questions.
        rng: source of the normal scores assigned to the ranks.

    Returns:
        `(n_draws, n_models)`, each column a permutation of that of `draws`.
    """
    values, vectors = np.linalg.eigh(shared_luck(scores, weight))
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    places = _ranks(draws)
    normal = np.sort(rng.standard_normal(draws.shape), 0)
    return np.take_along_axis(np.sort(draws, 0), _ranks(np.take_along_axis(normal, places, 0) @ root), 0)


def shared_luck(scores: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`(n_models, n_models)` correlation of the LLMs' mean scores (see the module), 1 on the diagonal."""
    asked = (~np.isnan(scores)).astype(np.float64)
    filled = np.where(asked > 0, scores, 0.0)
    both = asked @ asked.T
    n = np.maximum(both, 1.0)
    first = filled @ asked.T / n  # mean of i over the questions that i and j answered
    covariance = filled @ filled.T / n - first * first.T
    square = np.square(filled) @ asked.T / n - first**2
    scale = np.sqrt(np.maximum(square * square.T, 0.0))
    r = np.where(scale > 1e-12, covariance / np.maximum(scale, 1e-12), 0.0)
    counts = np.maximum(np.diag(both), 1.0)
    luck = r * both / np.sqrt(np.outer(counts, counts)) * both / (both + _DOUBT) * np.sqrt(np.outer(weight, weight))
    np.fill_diagonal(luck, 1.0)
    return luck


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values, 0, kind="stable"), 0, kind="stable")
