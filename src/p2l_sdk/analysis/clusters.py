"""A tree of clusters of prompts, found by what the prompts say, and how many clusters are worth telling apart.

The leaves are k-means clusters of the prompts' points; Ward's method joins them into a tree, those with less than a
twentieth of the prompts first. The leaderboards have no part in that, so what is then found about them was not put in
by the search for clusters. How many clusters are shown is decided by the leaderboards of held-out prompts: the fewest
that explain nine tenths of the variance that the best number of clusters explains, each holding a twentieth of the
prompts (`choose`): what is said of a few prompts can be checked by nobody, and holds less often. Where clusters explain
nothing, there is one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2l_sdk.analysis.extra import require_sklearn

MOST = 30  # leaves
_SMALLEST = 20  # prompts of a leaf, on average at least
SHARE = 0.05  # of the prompts, in each cluster that is shown unasked
_FOLDS, _RESAMPLES = 5, 5
_STARTS = 4  # of k-means, of which the best is kept
_ENOUGH = 0.9  # of what the best number of clusters explains
_SURE = 2.0  # standard errors above 0 that this must be


@dataclass(frozen=True)
class Tree:
    """Leaves, and how they join.

    Attributes:
        centres: `(n_leaves, n_directions)`.
        joins: `(n_leaves - 1, 2)` the two nodes that join, in this order; node `n_leaves + i` is the result of
            join i.
    """

    centres: np.ndarray
    joins: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, seed: int, most: int = MOST, starts: int = _STARTS) -> Tree:
        """The tree of these points, with at most so many leaves, and 20 points in each on average at least; `starts` is
        how often k-means begins anew, the best result being kept."""
        require_sklearn()
        from sklearn.cluster import KMeans

        n_leaves = max(1, min(most, len(points) // _SMALLEST, len(np.unique(points, axis=0))))
        found = KMeans(n_leaves, n_init=starts, random_state=seed).fit(points)
        centres = found.cluster_centers_.astype(np.float32)
        return cls(centres, joins_of(centres, np.bincount(found.labels_, minlength=n_leaves)))

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


def joins_of(centres: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`(n_leaves - 1, 2)` the nodes that join, given the leaves' centres and numbers of points: those whose join adds
    least to the squares of distances to the centres (Ward 1963); first, as long as there are any, nodes with less than
    `SHARE` of the points, each with whichever it is nearest to."""
    middle, size = list(centres.astype(np.float64)), np.maximum(counts, 1).tolist()
    least, alive, joins = SHARE * sum(size), list(range(len(middle))), []
    while len(alive) > 1:
        at, n = np.array([middle[i] for i in alive]), np.array([size[i] for i in alive], dtype=np.float64)
        added = np.square(at[:, None] - at[None]).sum(-1) * (n[:, None] * n[None] / (n[:, None] + n[None]))
        added[np.tril_indices(len(alive))] = np.inf
        small = n < least
        if small.any():
            added[~(small[:, None] | small[None])] = np.inf
        a, b = (alive[k] for k in np.unravel_index(np.argmin(added), added.shape))
        joins.append((a, b))
        middle.append((size[a] * middle[a] + size[b] * middle[b]) / (size[a] + size[b]))
        size.append(size[a] + size[b])
        alive = [i for i in alive if i not in (a, b)] + [len(middle) - 1]
    return np.array(joins, dtype=int).reshape(-1, 2)


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
    everywhere = counts.sum(0)
    sums, counts = sums.sum(0) - sums, everywhere - counts  # of the other folds
    total, explained, errors = None, [], []
    for n_clusters in range(1, tree.n_leaves + 1):
        of_leaf = members[tree.cut(n_clusters)]  # which leaves are in which cluster
        if (of_leaf @ everywhere).min() < SHARE * len(leaf) and n_clusters > 1:
            break
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
