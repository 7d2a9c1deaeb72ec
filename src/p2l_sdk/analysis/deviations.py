"""How far the LLMs' strengths in a group of prompts are from those overall, tested as what they are: a search.

With 30 groups and 100 LLMs, some of 3,000 deviations are large by chance. So a deviation counts only if it is larger,
in standard errors, than the largest one of all that chance brings in 95 of 100 cases; how large that is, is measured
by exchanging the prompts at random between the groups (Westfall and Young's max-T). Where nothing is there, then, at
most 5 of 100 analyses report anything at all.
"""

from __future__ import annotations

import numpy as np

_PERMUTATIONS, _SAMPLE = 200, 10_000
_LEAST = 5  # prompts in a group that is tested


class GroupMoments:
    """Sums over the prompts of each group, added batch by batch.

    Args:
        n_groups, n_models: the shape; groups do not overlap.

    Attributes:
        counts: `(n_groups,)` prompts.
        sums: `(2, n_groups, n_models)` of the coefficients and of their squares.
    """

    def __init__(self, n_groups: int, n_models: int) -> None:
        self.counts = np.zeros(n_groups)
        self.sums = np.zeros((2, n_groups, n_models))

    def add(self, group: np.ndarray, coefs: np.ndarray) -> None:
        """Add prompts: `(n,)` their groups, `(n, n_models)` their centred coefficients."""
        order = np.argsort(group, kind="stable")
        present, starts = np.unique(group[order], return_index=True)
        values = coefs[order].astype(np.float64)
        self.counts[present] += np.diff(np.append(starts, len(group)))
        self.sums[0, present] += np.add.reduceat(values, starts)
        self.sums[1, present] += np.add.reduceat(np.square(values), starts)

    def joined(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Counts `(n_nodes,)`, means and variances `(n_nodes, n_models)` of unions of groups, `(n_nodes, n_groups)`."""
        counts = members @ self.counts
        mean, square = (np.einsum("kg,gm->km", members, x) / np.maximum(counts, 1.0)[:, None] for x in self.sums)
        return counts, mean, np.maximum(square - np.square(mean), 0.0)


def deviations(moments: GroupMoments, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Deviations of unions of groups from the whole, and their standard errors, both `(n_nodes, n_models)` in logits.

    The error is that of drawing the prompts; it is infinite for groups of fewer than 5 prompts, and for the whole.
    """
    counts, mean, variance = moments.joined(members.astype(np.float64))
    everything, overall, _ = moments.joined(np.ones((1, members.shape[1])))
    rest = 1.0 - counts / everything  # a group's mean is part of the overall mean
    away = mean - overall
    spread = variance / np.maximum(counts - 1.0, 1.0)[:, None] * rest[:, None]
    tested = (counts >= _LEAST) & (rest > 1e-9)
    return away, np.where(tested[:, None], np.sqrt(np.maximum(spread, 1e-24)), np.inf)


def largest_by_chance(
    group: np.ndarray, coefs: np.ndarray, members: np.ndarray, columns: np.ndarray, level: float, seed: int
) -> float:
    """How many standard errors the largest deviation of all reaches by chance with probability `1 - level`.

    Args:
        group: `(n_prompts,)` the group of each prompt; of more than 10,000 prompts, a sample is used.
        coefs: `(n_prompts, n_models)` centred coefficients.
        members: `(n_nodes, n_groups)` the unions that are searched.
        columns: the LLMs that are searched.
        level: e.g. 0.95.
        seed: of the permutations.
    """
    random = np.random.default_rng(seed)
    kept = random.permutation(len(group))[:_SAMPLE]
    group, coefs = group[kept], coefs[kept][:, columns].astype(np.float64)
    values, largest = np.hstack([coefs, np.square(coefs)]), np.empty(_PERMUTATIONS)
    names = np.arange(members.shape[1])[:, None]
    for i in range(_PERMUTATIONS):
        inside = (random.permutation(group) == names).astype(np.float64)
        moments = GroupMoments(members.shape[1], len(columns))
        moments.counts += inside.sum(1)
        moments.sums += np.stack(np.split(inside @ values, 2, axis=1))
        away, errors = deviations(moments, members)
        largest[i] = np.abs(away / errors).max(initial=0.0)
    return float(np.quantile(largest, level))
