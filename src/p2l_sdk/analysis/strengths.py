"""Where each LLM is stronger and weaker than overall, found without being told what to look for.

Prompts are clustered by what they say (`prompt_map.py`, `clusters.py`), and each cluster is named after its terms
(`terms.py`). An LLM's deviation in a cluster is its mean coefficient there, relative to the other LLMs, minus that over
all prompts: as the model expects it, or as votes on the prompts measured it (`evidence.py`). Its limits hold for all
clusters and LLMs at once (`deviations.py`), for further prompts like these, and include the model's own error, as far
as it knows that (`cluster_sums.py`). The model expects of prompts unlike those in training what it expects on average,
so that without votes nothing is found about them. The paper finds strengths and weaknesses by
hierarchical clustering of prompts, too; the test, and the rule for how many clusters there are, are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from p2l_sdk.analysis.clusters import choose, stability
from p2l_sdk.analysis.evidence import Evidence, Search, expected, measured, of_the_compared
from p2l_sdk.analysis.prompt_map import PromptMap, Tell, centred, silent
from p2l_sdk.analysis.report import LEAST, POINTS, Cluster, Strengths
from p2l_sdk.analysis.terms import distinctive, name_of
from p2l_sdk.errors import P2LError
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.names import find_model, places
from p2l_sdk.p2l import P2L
from p2l_sdk.scorers.batches import in_batches
from p2l_sdk.votes.votes import Votes

_EXAMPLES = 3

Namer = Callable[[Sequence[str], Sequence[str]], str]


def strengths(
    p2l: P2L,
    prompts: Iterable[Prompt] | Votes,
    llm: str | None = None,
    *,
    clusters: int | None = None,
    least: float | None = None,
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
            constant memory. Or `Votes`, on any LLMs: then what is told is what they measured on their prompts, and the
            model only says which prompts are alike.
        llm: the only LLM to ask about; fewer questions make the test of each less strict.
        clusters: how many to show; None to choose.
        least: rating points; what deviates by less is not worth telling. None: 60 of what the model expects, and any
            number of what votes measured.
        level: of the limits, in [0.5, 1): for all deviations together, as to which prompts these are; for each by
            itself, as to the error of the model for such a group of prompts or, with votes, as to what the votes on an
            eighth as many further prompts would measure.
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
    if least is not None and not least >= 0.0:
        raise P2LError(f"the least deviation is {least}; it must be 0 or more rating points")
    if not 0.5 <= level < 1.0:
        raise P2LError(f"the level is {level}; it must be at least 0.5 and less than 1, such as 0.95")
    votes: Votes | None = None
    if isinstance(prompts, Votes):
        votes, prompts = of_the_compared(prompts), prompts.prompts
    models = p2l.models if votes is None else votes.models
    least = (LEAST if votes is None else 0.0) if least is None else least
    asked = models if llm is None else (find_model(llm, models, "strengths"),)
    tell = progress or silent
    found = PromptMap.of(p2l, prompts, seed, tell)
    tree = found.tree
    chosen, explained = choose(tree, found.leaf, centred(found.scored), seed)
    if clusters is not None:
        if not 1 <= clusters <= tree.n_leaves:
            raise P2LError(f"{clusters} clusters are not possible; of these prompts, 1 to {tree.n_leaves} are")
        chosen = clusters
    nodes = tree.cut(chosen) if chosen > 1 else []
    of_leaf = tree.members()[nodes] if nodes else np.zeros((0, tree.n_leaves), dtype=bool)
    search = Search(found, of_leaf, np.array([places(models)[name] for name in asked]), level, seed)
    known = expected(p2l, prompts, search, tell) if votes is None else measured(p2l, votes, search, tell)
    order = np.argsort(-known.n_prompts, kind="stable")
    place = np.argmax(of_leaf[order], axis=0) if nodes else np.zeros(tree.n_leaves, dtype=int)

    def assign(others: Iterable[Prompt]) -> np.ndarray:
        parts = [found.leaf_of(p2l, batch) for batch in in_batches(others)]
        return place[np.concatenate(parts)] if parts else np.zeros(0, dtype=int)

    shown = _clusters(search, nodes, known, namer, tell)
    return Strengths(
        models=models,
        overall=POINTS * known.overall,
        clusters=tuple(shown[k] for k in order),
        deviations=POINTS * known.away[order],
        margins=POINTS * known.margins[order],
        asked=asked,
        costs=dict(p2l.costs),
        n_prompts=found.n_prompts,
        n_repeated=found.n_repeated,
        level=level,
        measured=votes is not None,
        own_error=votes is None and (p2l.group_error is not None or p2l.variance is not None),
        least=least,
        explained=tuple(explained),
        assign=assign,
    )


def _clusters(search: Search, nodes: list[int], known: Evidence, namer: Namer | None, tell: Tell) -> list[Cluster]:
    """What is known of each cluster but its leaderboard."""
    if not nodes:
        return []
    tell("finding the clusters again", 0)
    found = search.found
    inside = search.of_leaf[:, found.leaf]
    sure = stability(found.tree, found.points, nodes, search.seed)
    shown = []
    for k, terms in enumerate(distinctive(found.texts, inside)):
        examples = found.nearest(inside[k], _EXAMPLES)
        name = name_of(terms) if namer is None else namer(terms, examples)
        shown.append(Cluster(name, terms, int(known.n_prompts[k]), float(sure[k]), examples))
        tell("clusters named", len(shown))
    return shown
