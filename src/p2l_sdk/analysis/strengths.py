"""Where each LLM is stronger and weaker than overall, found without being told what to look for.

Prompts are clustered by what they say (`prompt_map.py`, `clusters.py`), and each cluster is named after its terms
(`terms.py`). An LLM's deviation in a cluster is its mean coefficient there, relative to the other LLMs, minus that over
all prompts. Its limits hold for all clusters and LLMs at once (`deviations.py`), for further prompts like these; where
a model was built from ratings, they include the errors of these. Prompts unlike those in training have leaderboards
close to the averaged one, so that nothing is found about them. The paper finds strengths and weaknesses by hierarchical
clustering of prompts, too; the test, and the rule for how many clusters there are, are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from p2l_sdk.analysis.clusters import choose, stability
from p2l_sdk.analysis.deviations import GroupMoments, deviations, largest_by_chance
from p2l_sdk.analysis.prompt_map import PromptMap, centred, pooling, shares
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
    progress: Callable[[int], None] | None = None,
) -> Strengths:
    """Find clusters of prompts, and in each the LLMs that stand above and below their overall rating.

    Args:
        p2l: a model whose weights are here (a folder, a repository, an embedded one).
        prompts: at least 40. They are iterated twice: clusters are found in a random sample of 20,000, then all prompts
            are assigned to them, in constant memory.
        llm: the only LLM to ask about; fewer questions make the test of each less strict.
        clusters: how many to show; None to choose.
        least: rating points; what deviates by less is not worth telling.
        level: of the limits, for all deviations together, in [0.5, 1).
        seed: of the sample, of the clusters and of the test.
        namer: gives a cluster its name, from its terms and some of its prompts; None for the first terms.
        progress: called after each batch with the number of prompts done so far.

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
    found = PromptMap.of(p2l, prompts, seed)
    tree = found.tree
    chosen, explained = choose(tree, found.leaf, found.coefs, seed)
    if clusters is not None:
        if not 1 <= clusters <= tree.n_leaves:
            raise P2LError(f"{clusters} clusters are not possible; of these prompts, 1 to {tree.n_leaves} are")
        chosen = clusters
    below_root = tree.members()[:-1]
    threshold = largest_by_chance(found.leaf, found.coefs, below_root, columns, level, seed)
    moments, of_kinds = _assign(p2l, prompts, found, progress)
    nodes = tree.cut(chosen) if chosen > 1 else []
    of_leaf = tree.members()[nodes] if nodes else np.zeros((0, tree.n_leaves), dtype=bool)
    away, errors = deviations(moments, of_leaf)
    margins = threshold * np.sqrt(np.square(errors) + _model_error(p2l, moments, of_leaf, of_kinds))
    order = np.argsort(-moments.joined(of_leaf.astype(float))[0], kind="stable")
    place = np.argmax(of_leaf[order], axis=0) if nodes else np.zeros(tree.n_leaves, dtype=int)

    def assign(others: Iterable[Prompt]) -> np.ndarray:
        parts = [tree.leaf(found.space.points(pooling(p2l).pooled(batch))) for batch in in_batches(others)]
        return place[np.concatenate(parts)] if parts else np.zeros(0, dtype=int)

    shown = _clusters(found, nodes, of_leaf, moments, seed, namer)
    return Strengths(
        models=p2l.models,
        overall=POINTS * moments.joined(np.ones((1, tree.n_leaves)))[1][0],
        clusters=tuple(shown[k] for k in order),
        deviations=POINTS * away[order],
        margins=POINTS * margins[order],
        asked=asked,
        costs=dict(p2l.costs),
        n_prompts=found.n_prompts,
        level=level,
        least=least,
        explained=tuple(explained),
        assign=assign,
    )


def _assign(
    p2l: P2L, prompts: Iterable[Prompt], found: PromptMap, progress: Callable[[int], None] | None
) -> tuple[GroupMoments, np.ndarray]:
    """Of all prompts by leaf: the moments of their coefficients, and the `(n_leaves, n_kinds)` sums of their kinds."""
    scorer, tree, done = pooling(p2l), found.tree, 0
    moments, of_kinds = GroupMoments(tree.n_leaves, len(p2l.models)), np.zeros((tree.n_leaves, found.shares.shape[1]))

    def add(leaf: np.ndarray, coefs: np.ndarray, shares_of: np.ndarray) -> None:
        moments.add(leaf, coefs)
        np.add.at(of_kinds, leaf, shares_of)

    if len(found.texts) == found.n_prompts:  # all prompts are in the sample
        add(found.leaf, found.coefs, found.shares)
        return moments, of_kinds
    for batch in in_batches(prompts):
        pooled = scorer.pooled(batch)
        scored = scorer.score_pooled(pooled)
        add(tree.leaf(found.space.points(pooled)), centred(scored), shares(scored))
        done += len(batch)
        if progress is not None:
            progress(done)
    return moments, of_kinds


def _model_error(p2l: P2L, moments: GroupMoments, of_leaf: np.ndarray, of_kinds: np.ndarray) -> np.ndarray:
    """`(n_clusters, n_models)` variance, in squared logits, that the errors of the model's ratings bring; 0 for a model
    that was not built from ratings."""
    counts = moments.joined(of_leaf.astype(float))[0]
    error = np.zeros((len(of_leaf), len(p2l.models)))
    if p2l.variance is not None:  # by the kinds of which the cluster has more or fewer than all prompts
        more = of_leaf @ of_kinds / np.maximum(counts, 1.0)[:, None] - of_kinds.sum(0) / moments.counts.sum()
        error += np.square(more) @ p2l.variance[:, :-1].astype(np.float64).T
    return error


def _clusters(
    found: PromptMap, nodes: list[int], of_leaf: np.ndarray, moments: GroupMoments, seed: int, namer: Namer | None
) -> list[Cluster]:
    """What is known of each cluster but its leaderboard."""
    if not nodes:
        return []
    inside = of_leaf[:, found.leaf]
    counts = moments.joined(of_leaf.astype(float))[0]
    sure = stability(found.tree, found.points, nodes, seed)
    shown = []
    for k, terms in enumerate(distinctive(found.texts, inside)):
        examples = found.nearest(inside[k], _EXAMPLES)
        name = name_of(terms) if namer is None else namer(terms, examples)
        shown.append(Cluster(name, terms, int(counts[k]), float(sure[k]), examples))
    return shown
