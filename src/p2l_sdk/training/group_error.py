"""How wrong a model is about a kind of prompt that it has not seen: the variance of its error for a whole group.

The prompts are put into clusters of like prompts, and clusters are left out of training, not single prompts. The model
trained without a cluster gives its aggregate leaderboard over the prompts of one half of the cluster, p_1, and of the
other, p_2; the votes on each half give their averaged leaderboards m_1 and m_2. The noise of the votes is independent
in the two halves, so that the mean of (m_1 - p_1)(m_2 - p_2) over clusters and LLMs estimates the variance of the
model's error, without that of the votes.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch

from p2l_sdk.errors import ConvergenceError, P2LError, P2LWarning
from p2l_sdk.leaderboards.aggregate import aggregate
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.scorers.aggregate import set_likeness, spread_of
from p2l_sdk.training.static_folds import FOLDS, Folds
from p2l_sdk.training.static_heads import Scales, Steps
from p2l_sdk.votes.averaged import fit_leaderboard

_MOST_CLUSTERS, _FEWEST_CLUSTERS, _PER_CLUSTER = 15, 5, 15  # prompts in a cluster, at least
_ROUNDS = 10
_FARTHEST = 3.0  # logits; a coefficient that few votes leave open may be anywhere


def group_error(folds: Folds, how: Steps, hidden_size: int, scales: Scales, recognised: Scales | None = None) -> float:
    """The variance of the error of a group's coefficients, in squared logits, as `aggregate` uses it; 0 if there are
    too few prompts or votes to tell.

    Args:
        folds: the prompts and votes.
        how, hidden_size: the training.
        scales: what is kept of the departure from the averaged leaderboard.
        recognised: shares of the heads that recognise categories; None without.
    """
    vectors = folds.vectors.numpy()
    n_clusters = min(_MOST_CLUSTERS, len(vectors) // _PER_CLUSTER)
    if n_clusters < _FEWEST_CLUSTERS:
        return 0.0
    cluster = clusters(vectors, n_clusters, how.seed)
    apart = folds.knowing(np.arange(len(vectors)), _in_folds(cluster))
    members = apart.members()
    base = apart.averaged(members)
    if base is None:
        return 0.0
    heads = apart.train(base, members, how, hidden_size, lambda: None, recognised)
    outputs = apart.keep_of(apart.left_out(heads), base, scales)
    return _variance(folds, outputs, cluster, np.random.default_rng(how.seed))


def clusters(vectors: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """`(n_prompts,)` cluster of each prompt by k-means, from 0."""
    random = np.random.default_rng(seed)
    vectors = vectors / np.maximum(np.sqrt(vectors.var(0)), np.sqrt(vectors.var(0).mean()))
    centres = vectors[random.choice(len(vectors), n_clusters, replace=False)]
    nearest = np.zeros(len(vectors), dtype=np.intp)
    for _ in range(_ROUNDS):
        nearest = (np.square(centres).sum(1) - 2.0 * vectors @ centres.T).argmin(1)
        for k in np.unique(nearest):
            centres[k] = vectors[nearest == k].mean(0)
    return nearest


def _in_folds(cluster: np.ndarray) -> np.ndarray:
    """The fold of each prompt: whole clusters, the largest first, each into the fold that has the fewest prompts."""
    sizes, fold_of = np.bincount(cluster), np.zeros(cluster.max() + 1, dtype=np.intp)
    load = np.zeros(FOLDS)
    for k in np.argsort(-sizes, kind="stable"):
        fold_of[k] = load.argmin()
        load[fold_of[k]] += sizes[k]
    return fold_of[cluster]


def _variance(folds: Folds, outputs: torch.Tensor, cluster: np.ndarray, random: np.random.Generator) -> float:
    """The mean product of the errors on the halves of the clusters, by how alike the prompts of a cluster are."""
    scored = as_coefficients(outputs, folds.feedback, len(folds.votes.models))
    spread = spread_of(scored.coefs, folds.feedback)
    products, likeness = [], []
    for k in range(cluster.max() + 1):
        rows = random.permutation(np.flatnonzero(cluster == k))
        errors = [_error(folds, scored, half) for half in (rows[::2], rows[1::2])]
        if errors[0] is not None and errors[1] is not None:
            products.append(float((errors[0] * errors[1]).mean()))
            likeness.append(set_likeness(spread_of(scored.coefs[rows], folds.feedback), spread))
    return max(0.0, float(np.sum(products)) / max(float(np.sum(likeness)), 1.0)) if products else 0.0


def _error(folds: Folds, scored: Coefficients, rows: np.ndarray) -> np.ndarray | None:
    """`(n_models,)` measured minus predicted coefficients of a group; None if too few votes measure them."""
    models, feedback = folds.votes.models, folds.feedback
    if len(rows) < 2:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", P2LWarning)  # the votes do not determine all LLMs
            measured = fit_leaderboard(folds.votes.subset(rows), feedback, intervals=None).coefs
        predicted = aggregate([scored[rows]], feedback, models, sample=0, replicates=0).coefs
    except (P2LError, P2LWarning, ConvergenceError):
        return None
    if feedback.floating:
        measured, predicted = measured - measured.mean(), predicted - predicted.mean()
    return np.clip(measured - predicted, -_FARTHEST, _FARTHEST)


def as_coefficients(outputs: torch.Tensor, feedback: Feedback, n_models: int) -> Coefficients:
    """`(n_prompts, n_outputs)` of a head as coefficients."""
    values = outputs.numpy()
    eta = values[:, n_models : n_models + 1] if feedback.has_eta else None
    return Coefficients(values[:, :n_models], eta, values[:, -1:] if feedback.has_gamma else None)
