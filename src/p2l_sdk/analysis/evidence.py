"""What is known of LLMs in clusters of prompts: what the model expects there, or what votes on the prompts measured.

The model's limits have two parts: what drawing the prompts brings anywhere in the search (`deviations.py`), and how
wrong the model itself may be about a group of like prompts (`cluster_sums.py`), which does not shrink with their
number. Votes on the very prompts need no model to be believed. Their noise is part of the spread among prompts, so that
the search alone would be test enough; but what it finds may be too small to be seen again by whoever looks. So the
limits of a measured deviation are those for the next check: what an eighth as many prompts of the same make measures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from p2l_sdk.analysis.cluster_sums import ClusterSums
from p2l_sdk.analysis.deviations import GroupMoments, deviations, largest_by_chance
from p2l_sdk.analysis.distinct import Distinct
from p2l_sdk.analysis.prompt_map import PromptMap, Tell, centred, pooling
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.p2l import P2L
from p2l_sdk.scorers.batches import in_batches
from p2l_sdk.votes.averaged import steps_of_prompts
from p2l_sdk.votes.votes import Votes

_CHECK = 8  # the next check has one prompt for so many of these


@dataclass(frozen=True)
class Evidence:
    """What is known of each cluster.

    Attributes:
        n_prompts: `(n_clusters,)`.
        overall: `(n_models,)` coefficients over all prompts, in logits around 0.
        away, margins: `(n_clusters, n_models)` deviations from these, and half the width of their limits.
    """

    n_prompts: np.ndarray
    overall: np.ndarray
    away: np.ndarray
    margins: np.ndarray


@dataclass(frozen=True)
class Search:
    """Where is looked for deviations, and how surely they are to be found.

    Attributes:
        found: the map of the prompts.
        of_leaf: `(n_clusters, n_leaves)` which leaves of its tree are in which cluster.
        columns: the LLMs that are asked about.
        level: of the limits.
        seed: of the test.
    """

    found: PromptMap
    of_leaf: np.ndarray
    columns: np.ndarray
    level: float
    seed: int

    def threshold(self, leaf: np.ndarray, values: np.ndarray) -> float:
        """What chance brings anywhere in the tree, in standard errors."""
        nodes = self.found.tree.members()[:-1]
        return largest_by_chance(leaf, values, nodes, self.columns, self.level, self.seed)

    @property
    def limit(self) -> float:
        """What one normal variable keeps within, in standard errors."""
        return NormalDist().inv_cdf((1.0 + self.level) / 2.0)

    def evidence(self, moments: GroupMoments, overall: np.ndarray, away: np.ndarray, margins: np.ndarray) -> Evidence:
        """What is known, given the sums by leaf."""
        return Evidence(moments.joined(self.of_leaf.astype(float))[0], overall, away, margins)


def expected(p2l: P2L, prompts: Iterable[Prompt], search: Search, tell: Tell) -> Evidence:
    """What the model expects of the prompts."""
    tell("what chance brings", 0)
    threshold = search.threshold(search.found.leaf, centred(search.found.scored))
    sums = _sums(p2l, prompts, search.found, tell)
    away, errors = deviations(sums.moments, search.of_leaf)
    by_prompts = threshold * np.sqrt(np.square(errors) + sums.of_ratings(search.of_leaf))
    by_model = search.limit * np.sqrt(sums.of_groups(search.of_leaf))
    overall = sums.moments.joined(np.ones((1, search.found.tree.n_leaves)))[1][0]
    return search.evidence(sums.moments, overall, away, np.hypot(by_prompts, by_model[:, None]))


def measured(p2l: P2L, votes: Votes, search: Search, tell: Tell) -> Evidence:
    """What the votes on the prompts measured."""
    tell("what the votes measured", 0)
    board, steps = steps_of_prompts(votes, p2l.spec.feedback)
    leaf = _leaves(p2l, votes.prompts, search.found, tell)
    moments = GroupMoments(search.found.tree.n_leaves, len(votes.models))
    moments.add(leaf, steps)
    away, errors = deviations(moments, search.of_leaf)
    tell("what chance brings", 0)
    sure = max(search.threshold(leaf, steps), search.limit * np.sqrt(1.0 + _CHECK))
    return search.evidence(moments, board.coefs - board.coefs.mean(), away, sure * errors)


def of_the_compared(votes: Votes) -> Votes:
    """The votes without the LLMs that none is on."""
    kept, places = np.unique(np.concatenate([votes.a, votes.b]), return_inverse=True)
    a, b = np.split(places, 2)
    return replace(votes, models=tuple(votes.models[i] for i in kept), a=a, b=b)


def _sums(p2l: P2L, prompts: Iterable[Prompt], found: PromptMap, tell: Tell) -> ClusterSums:
    """What is kept of all prompts, by leaf."""
    scorer, tree, done = pooling(p2l), found.tree, 0
    sums = ClusterSums(p2l, tree.n_leaves)
    if len(found.texts) == found.n_prompts:  # all prompts are in the sample
        sums.add(found.leaf, found.scored)
        return sums
    for batch in in_batches(Distinct(prompts)):
        pooled = scorer.pooled(batch)
        sums.add(tree.leaf(found.space.points(pooled)), scorer.score_pooled(pooled))
        done += len(batch)
        tell(f"of {found.n_prompts:,} prompts assigned to clusters", done)
    return sums


def _leaves(p2l: P2L, prompts: list[Prompt], found: PromptMap, tell: Tell) -> np.ndarray:
    """`(n_prompts,)` the leaf of each prompt."""
    if len(found.texts) == len(prompts):
        return found.leaf
    parts, done = [], 0
    for batch in in_batches(prompts):
        parts.append(found.leaf_of(p2l, batch))
        done += len(batch)
        tell(f"of {len(prompts):,} prompts assigned to clusters", done)
    return np.concatenate(parts)
