"""Where each LLM is stronger and weaker than overall, found without being told what to look for.

Prompts are clustered by what they say (`prompt_map.py`, `clusters.py`), and each cluster is named after its terms
(`terms.py`). An LLM's deviation in a cluster is its mean coefficient there, relative to the other LLMs, minus that over
all prompts. Its limits hold for all clusters and LLMs at once (`deviations.py`), for further prompts like these, and
include the model's own error, as far as it knows that (`cluster_sums.py`). Prompts unlike those in training have
leaderboards close to the averaged one, so that nothing is found about them. The paper finds strengths and weaknesses by
hierarchical clustering of prompts, too; the test, and the rule for how many clusters there are, are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import NormalDist

import numpy as np

from p2l_sdk.analysis.cluster_sums import ClusterSums
from p2l_sdk.analysis.clusters import choose, stability
from p2l_sdk.analysis.deviations import deviations, largest_by_chance
from p2l_sdk.analysis.distinct import Distinct
from p2l_sdk.analysis.prompt_map import PromptMap, Tell, centred, pooling, silent
from p2l_sdk.analysis.report import LEAST, POINTS, Cluster, Strengths
from p2l_sdk.analysis.terms import distinctive, name_of
from p2l_sdk.errors import P2LError
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.names import find_model, places
from p2l_sdk.p2l import P2L
from p2l_sdk.scorers.batches import in_batches

_EXAMPLES = 3

Namer = Callable[[Sequence[str], Sequence[str]], str]


def strengths(
    p2l: P2L,
    prompts: Iterable[Prompt],
    llm: str | None = None,
    *,
    clusters: int | None = None,
    least: float = LEAST,
    level: float = 0.95,
    seed: int = 0,
    namer: Namer | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Strengths:
    """Find clusters of prompts, and in each the LLMs that stand above and below their overall rating.

    Args:
        p2l: a model whose weights are here (a folder, a repository, an embedded one).
        prompts: at least 40 different ones; what repeats one of the first million is left out, and counted. They are
            iterated twice: clusters are found in a random sample of 20,000, then all prompts are assigned to them, in
            constant memory.
        llm: the only LLM to ask about; fewer questions make the test of each less strict.
        clusters: how many to show; None to choose.
        least: rating points; what deviates by less is not worth telling.
        level: of the limits, in [0.5, 1): for all deviations together, as to which prompts these are; for each by
            itself, as to the error of the model for such a group of prompts.
        seed: of the sample, of the clusters and of the test.
        namer: gives a cluster its name, from its terms and some of its prompts; None for the first terms.
        progress: called with what is being done, in words, and how much of it is done, such as ("prompts read", 512).

    Raises:
        P2LError: there are too few prompts, they are all alike, they can be iterated only once, the model is on a
            server, or level or clusters are out of range.
        PromptError: a prompt is invalid; its position is named.
        UnknownModelError: the model does not know the LLM.
        MissingExtraError: scikit-learn is not installed.
    """
    if not least >= 0.0:
        raise P2LError(f"the least deviation is {least}; it must be 0 or more rating points")
    if not 0.5 <= level < 1.0:
        raise P2LError(f"the level is {level}; it must be at least 0.5 and less than 1, such as 0.95")
    asked = p2l.models if llm is None else (find_model(llm, p2l.models, "strengths"),)
    columns = np.array([places(p2l.models)[name] for name in asked])
    tell = progress or silent
    found = PromptMap.of(p2l, prompts, seed, tell)
    tree, relative = found.tree, centred(found.scored)
    chosen, explained = choose(tree, found.leaf, relative, seed)
    if clusters is not None:
        if not 1 <= clusters <= tree.n_leaves:
            raise P2LError(f"{clusters} clusters are not possible; of these prompts, 1 to {tree.n_leaves} are")
        chosen = clusters
    tell("what chance brings", 0)
    threshold = largest_by_chance(found.leaf, relative, tree.members()[:-1], columns, level, seed)
    sums = _sums(p2l, prompts, found, tell)
    nodes = tree.cut(chosen) if chosen > 1 else []
    of_leaf = tree.members()[nodes] if nodes else np.zeros((0, tree.n_leaves), dtype=bool)
    away, errors = deviations(sums.moments, of_leaf)
    by_prompts = threshold * np.sqrt(np.square(errors) + sums.of_ratings(of_leaf))
    by_model = NormalDist().inv_cdf((1.0 + level) / 2.0) * np.sqrt(sums.of_groups(of_leaf))
    order = np.argsort(-sums.moments.joined(of_leaf.astype(float))[0], kind="stable")
    place = np.argmax(of_leaf[order], axis=0) if nodes else np.zeros(tree.n_leaves, dtype=int)

    def assign(others: Iterable[Prompt]) -> np.ndarray:
        parts = [tree.leaf(found.space.points(pooling(p2l).pooled(batch))) for batch in in_batches(others)]
        return place[np.concatenate(parts)] if parts else np.zeros(0, dtype=int)

    shown = _clusters(found, nodes, of_leaf, sums, seed, namer, tell)
    return Strengths(
        models=p2l.models,
        overall=POINTS * sums.moments.joined(np.ones((1, tree.n_leaves)))[1][0],
        clusters=tuple(shown[k] for k in order),
        deviations=POINTS * away[order],
        margins=POINTS * np.hypot(by_prompts, by_model[:, None])[order],
        asked=asked,
        costs=dict(p2l.costs),
        n_prompts=found.n_prompts,
        n_repeated=found.n_repeated,
        level=level,
        own_error=p2l.group_error is not None or p2l.variance is not None,
        least=least,
        explained=tuple(explained),
        assign=assign,
    )


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


def _clusters(
    found: PromptMap,
    nodes: list[int],
    of_leaf: np.ndarray,
    sums: ClusterSums,
    seed: int,
    namer: Namer | None,
    tell: Tell,
) -> list[Cluster]:
    """What is known of each cluster but its leaderboard."""
    if not nodes:
        return []
    tell("finding the clusters again", 0)
    inside = of_leaf[:, found.leaf]
    counts = sums.moments.joined(of_leaf.astype(float))[0]
    sure = stability(found.tree, found.points, nodes, seed)
    shown = []
    for k, terms in enumerate(distinctive(found.texts, inside)):
        examples = found.nearest(inside[k], _EXAMPLES)
        name = name_of(terms) if namer is None else namer(terms, examples)
        shown.append(Cluster(name, terms, int(counts[k]), float(sure[k]), examples))
        tell("clusters named", len(shown))
    return shown
