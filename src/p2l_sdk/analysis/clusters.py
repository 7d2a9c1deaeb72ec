"""A tree of clusters of prompts, found by what the prompts say, and how many clusters are worth telling apart.

The leaves are k-means clusters of the prompts' points; Ward's method joins them into a tree. The leaderboards have no
part in that, so what is then found about them was not put in by the search for clusters. How many clusters are shown
is decided by the leaderboards of held-out prompts: the fewest that explain nine tenths of the variance that the best
number of clusters explains (`choose`). Where that is nothing, there is one cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2l_sdk.analysis.extra import require_sklearn

MOST = 30  # leaves
_SMALLEST = 20  # prompts of a leaf, on average at least
_FOLDS, _RESAMPLES = 5, 5
_STARTS = 4  # of k-means, of which the best is kept
_ENOUGH = 0.9  # of what the best number of clusters explains
_SURE = 2.0  # standard errors above 0 that this must be


@dataclass(frozen=True)
class Tree:
    """Leaves, and how they join.

    Attributes:
        centres: `(n_leaves, n_directions)`.
        joins: `(n_leaves - 1, 2)` the two nodes that join, the nearest first; node `n_leaves + i` is the result of
            join i.
    """

    centres: np.ndarray
    joins: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, seed: int, most: int = MOST, starts: int = _STARTS) -> Tree:
        """The tree of these points, with at most so many leaves, and 20 points in each on average at least; `starts` is
        how often k-means begins anew, the best result being kept."""
        require_sklearn()
        from scipy.cluster.hierarchy import linkage
        from sklearn.cluster import KMeans

        n_leaves = max(1, min(most, len(points) // _SMALLEST, len(np.unique(points, axis=0))))
        centres = KMeans(n_leaves, n_init=starts, random_state=seed).fit(points).cluster_centers_.astype(np.float32)
        joins = linkage(centres, "ward")[:, :2].astype(int) if n_leaves > 1 else np.zeros((0, 2), dtype=int)
        return cls(centres, joins)

    @property
    def n_leaves(self) -> int:
        """The number of leaves."""
        return len(self.centres)

    def leaf(self, points: np.ndarray) -> np.ndarray:
        """`(n,)` the nearest leaf of each point."""
        away = np.square(self.centres).sum(1) - 2.0 * (points @ self.centres.T)
        return np.argmin(away, axis=1)

    def members(self) -> np.ndarray:
        """`(n_nodes, n_leaves)` which leaves each node of the tree is made of: the leaves first, then the joins."""
        rows = list(np.eye(self.n_leaves, dtype=bool))
        for left, right in self.joins:
            rows.append(rows[left] | rows[right])
        return np.array(rows)

    def cut(self, n_clusters: int) -> list[int]:
        """The nodes that remain when the leaves are joined until there are so many."""
        done = self.joins[: self.n_leaves - n_clusters]
        nodes = set(range(self.n_leaves + len(done))) - set(done.ravel().tolist())
        return sorted(nodes)

    def parents(self) -> dict[int, int]:
        """The node that each node but the root is a part of."""
        return {int(child): self.n_leaves + i for i, pair in enumerate(self.joins) for child in pair}


def choose(tree: Tree, leaf: np.ndarray, coefs: np.ndarray, seed: int) -> tuple[int, list[float]]:
    """How many clusters to show.

    Args:
        tree: of the prompts' points.
        leaf: `(n_prompts,)` the leaf of each prompt.
        coefs: `(n_prompts, n_models)` centred coefficients.
        seed: of the folds.

    Returns:
        The number, and for 1, 2, ... clusters the share of the variance among the leaderboards of held-out prompts
        that the clusters' mean leaderboards explain (below 0 if they mislead).
    """
    fold = np.random.default_rng(seed).permutation(len(leaf)) % _FOLDS
    members = tree.members()
    sums = np.zeros((_FOLDS, tree.n_leaves, coefs.shape[1]))
    counts = np.zeros((_FOLDS, tree.n_leaves))
    np.add.at(sums, (fold, leaf), coefs)
    np.add.at(counts, (fold, leaf), 1.0)
    sums, counts = sums.sum(0) - sums, counts.sum(0) - counts  # of the other folds
    total, explained, errors = None, [], []
    for n_clusters in range(1, tree.n_leaves + 1):
        of_leaf = members[tree.cut(n_clusters)]  # which leaves are in which cluster
        whole = np.einsum("kl,flm->fkm", of_leaf, sums) / np.maximum(of_leaf @ counts.T, 1e-9).T[:, :, None]
        cluster = np.argmax(of_leaf, axis=0)[leaf]
        away = np.square(coefs - whole[fold, cluster]).sum(1)
        total = away if total is None else total
        gain = total - away
        explained.append(float(gain.mean() / max(total.mean(), 1e-300)))
        errors.append(float(gain.std() / np.sqrt(len(gain)) / max(total.mean(), 1e-300)))
    most = int(np.argmax(explained))
    if explained[most] <= _SURE * errors[most]:
        return 1, explained
    return 1 + next(i for i, share in enumerate(explained) if share >= _ENOUGH * explained[most]), explained


def stability(tree: Tree, points: np.ndarray, nodes: list[int], seed: int) -> np.ndarray:
    """How surely each cluster is found again: the largest Jaccard similarity with a cluster of another tree, one of a
    random half of the prompts, on average over 5 halves (Hennig 2007). Above 0.6 a cluster is a pattern of the data.

    Returns:
        `(n_nodes,)` in [0, 1].
    """
    random, members = np.random.default_rng(seed), tree.members()
    mine = members[nodes][:, tree.leaf(points)]
    found = []
    for i in range(_RESAMPLES):
        half = random.permutation(len(points))[: len(points) // 2]
        other = Tree.of(points[half], seed + 1 + i, tree.n_leaves, starts=1)
        theirs = other.members()[:, other.leaf(points)].astype(np.float32)
        both = mine.astype(np.float32) @ theirs.T
        either = mine.sum(1)[:, None] + theirs.sum(1)[None] - both
        found.append((both / np.maximum(either, 1.0)).max(1))
    return np.mean(found, axis=0)
