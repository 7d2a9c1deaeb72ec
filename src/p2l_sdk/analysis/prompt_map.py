"""`PromptMap`: a sample of prompts, where they lie, and the tree of clusters that they form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from p2l_sdk.analysis.clusters import Tree
from p2l_sdk.analysis.distinct import Distinct
from p2l_sdk.analysis.space import Space
from p2l_sdk.errors import P2LError
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.prompt_p2l import Prompt, user_turns
from p2l_sdk.p2l import P2L
from p2l_sdk.scorers.batches import in_batches
from p2l_sdk.scorers.scorer import PoolingScorer

FEWEST = 40  # prompts
_SAMPLE = 20_000

Tell = Callable[[str, int], None]


def silent(doing: str, done: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class PromptMap:
    """Prompts by what they say.

    Attributes:
        texts: the user turns of the sampled prompts.
        points: `(n_sampled, n_directions)` where they lie.
        scored: their coefficients.
        leaf: `(n_sampled,)` the leaf of the tree that each is in.
        space, tree: for further prompts.
        n_prompts: how many there are in all, each different one counted once.
        n_repeated: how many more there are, which repeat one of these.
    """

    texts: list[str]
    points: np.ndarray
    scored: Coefficients
    leaf: np.ndarray
    space: Space
    tree: Tree
    n_prompts: int
    n_repeated: int

    @classmethod
    def of(cls, p2l: P2L, prompts: Iterable[Prompt], seed: int, tell: Tell = silent) -> PromptMap:
        """The map of a random sample of at most 20,000 of the prompts; `tell` is called as the `progress` of
        `strengths`.

        Raises:
            P2LError: there are too few prompts, they are all alike, they can be iterated only once, or the model is on
                a server.
            PromptError: a prompt is invalid; its position is named.
        """
        scorer = pooling(p2l)
        if isinstance(prompts, Iterator):
            raise P2LError("these prompts can be read only once; give a list, or an object that can be iterated again")
        different = Distinct(prompts, lambda done: tell("prompts read", done))
        sample, n_prompts = _sample(different, seed)
        if n_prompts < FEWEST:
            besides = f", and {n} that repeat another one" if (n := different.n_repeated) else ""
            raise P2LError(f"clusters need {FEWEST} prompts or more to be found in; there are {n_prompts}{besides}")
        vectors = _vectors(scorer, sample, tell)
        tell("finding clusters", 0)
        space = Space.of(vectors)
        points = space.points(vectors)
        tree = Tree.of(points, seed)
        texts, scored = ["\n".join(user_turns(prompt)) for prompt in sample], scorer.score_pooled(vectors)
        return cls(texts, points, scored, tree.leaf(points), space, tree, n_prompts, different.n_repeated)

    def leaf_of(self, p2l: P2L, batch: Sequence[Prompt]) -> np.ndarray:
        """`(n,)` the leaf of each prompt of a batch."""
        return self.tree.leaf(self.space.points(pooling(p2l).pooled(batch)))

    def nearest(self, inside: np.ndarray, n: int) -> tuple[str, ...]:
        """The texts of the prompts nearest to the middle of some `(n_sampled,)` of them, each text once."""
        middle = self.points[inside].mean(0)
        ranked = np.flatnonzero(inside)[np.argsort(-(self.points[inside] @ middle), kind="stable")]
        return tuple(list(dict.fromkeys(self.texts[i] for i in ranked[: 10 * n]))[:n])


def pooling(p2l: P2L) -> PoolingScorer:
    """The model's scorer; P2LError if the model is on a server."""
    scorer = p2l._scorer
    if not isinstance(scorer, PoolingScorer):
        raise P2LError("this needs a model whose weights are here; load it from a folder or a Hub repository")
    return scorer


def centred(scored: Coefficients) -> np.ndarray:
    """`(n_prompts, n_models)` coefficients relative to the mean LLM of each prompt: who stands where, not how hard the
    prompt is."""
    coefs = scored.coefs.astype(np.float64)
    return np.asarray(coefs - coefs.mean(1, keepdims=True))


def shares(scored: Coefficients) -> np.ndarray:
    """`(n_prompts, n_kinds)` how much of each kind prompts show; no columns if the model recognises none."""
    return np.zeros((len(scored), 0)) if scored.kinds is None else scored.kinds.shares


def _vectors(scorer: PoolingScorer, sample: list[Prompt], tell: Tell) -> np.ndarray:
    """`(n_sampled, width)` the vectors of prompts."""
    parts, done = [], 0
    for batch in in_batches(sample):
        parts.append(scorer.pooled(batch))
        done += len(batch)
        tell("vectors of prompts", done)
    return np.concatenate(parts)


def _sample(prompts: Iterable[Prompt], seed: int) -> tuple[list[Prompt], int]:
    """A random sample of prompts in their order, and how many there are (reservoir sampling)."""
    random, kept, n = np.random.default_rng(seed), dict[int, tuple[int, Prompt]](), 0
    for batch in in_batches(prompts):
        slots = random.integers(0, np.arange(n, n + len(batch)) + 1)
        for i, (slot, prompt) in enumerate(zip(slots.tolist(), batch, strict=True), start=n):
            if i < _SAMPLE or slot < _SAMPLE:
                kept[i if i < _SAMPLE else slot] = (i, prompt)
        n += len(batch)
    return [prompt for _, prompt in sorted(kept.values(), key=lambda pair: pair[0])], n
