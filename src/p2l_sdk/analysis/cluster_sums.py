"""`ClusterSums`: what is kept of all prompts, by leaf, and how wrong the model itself may be about a cluster.

The limits of a deviation have two parts. What drawing the prompts brings is tested as a search (`deviations.py`). What
the model gets wrong about a group of like prompts does not shrink with their number: its variance is measured when the
model is trained (`P2L.group_error`) and counts as far as the group is alike and as it concerns the LLMs' strengths
relative to each other, as in the intervals of `by_category`. A model built from ratings knows the errors of these.
"""

from __future__ import annotations

import numpy as np

from p2l_sdk.analysis.deviations import GroupMoments
from p2l_sdk.analysis.prompt_map import centred, shares
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.p2l import P2L
from p2l_sdk.scorers.aggregate import set_likeness


class ClusterSums:
    """Sums over the prompts of each leaf, added batch by batch.

    Args:
        p2l: the model.
        n_leaves: of the tree.
    """

    def __init__(self, p2l: P2L, n_leaves: int) -> None:
        self._variance, self._group_error = p2l.variance, p2l.group_error
        self._floating = p2l.spec.feedback.floating
        self.moments = GroupMoments(n_leaves, len(p2l.models))
        self._common = GroupMoments(n_leaves, 1)  # of each prompt's mean coefficient
        self._kinds = np.zeros((n_leaves, len(p2l.spec.kinds)))

    def add(self, leaf: np.ndarray, scored: Coefficients) -> None:
        """Add prompts: `(n,)` their leaves, and their coefficients."""
        self.moments.add(leaf, centred(scored))
        common = scored.coefs.mean(1, keepdims=True, dtype=np.float64)
        self._common.add(leaf, np.zeros_like(common) if self._floating else common)
        np.add.at(self._kinds, leaf, shares(scored))

    def of_ratings(self, of_leaf: np.ndarray) -> np.ndarray:
        """`(n_clusters, n_models)` variance, in squared logits, that errors of the ratings which the model was built
        from bring to the deviations of clusters, `(n_clusters, n_leaves)` truth values; 0 for other models."""
        counts, mean, _ = self.moments.joined(of_leaf.astype(float))
        error = np.zeros(mean.shape)
        if self._variance is not None:  # by the kinds of which the cluster has more or fewer than all prompts
            overall = self._kinds.sum(0) / self.moments.counts.sum()
            more = of_leaf @ self._kinds / np.maximum(counts, 1.0)[:, None] - overall
            error += np.square(more) @ self._variance[:, :-1].astype(np.float64).T
        return error

    def of_groups(self, of_leaf: np.ndarray) -> np.ndarray:
        """`(n_clusters,)` variance, in squared logits, of the model's error for each cluster as a group; 0 where the
        model does not know it."""
        if self._group_error is None:
            return np.zeros(len(of_leaf))
        everything = np.ones((1, of_leaf.shape[1]))
        relative, common = (part.joined(everything)[2].mean() for part in (self.moments, self._common))
        share = relative / max(relative + common, 1e-300)
        spread = sum(part.joined(of_leaf.astype(float))[2].mean(1) for part in (self.moments, self._common))
        variance, among_all = self._group_error.tolist()
        return np.array([variance * share * set_likeness(float(x), among_all) for x in np.asarray(spread)])
