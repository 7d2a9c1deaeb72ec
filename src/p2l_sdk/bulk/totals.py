"""The statistics of scored prompts, overall and for each category: batches are added, parts are merged, saved, loaded.

The pairs of LLMs take far longer than the coefficients: of 282 LLMs there are 39,621. So the aggregate of many LLMs is
by default that of a random sample of each part of the input, in which a prompt weighs as much as those that it stands
for. It is unbiased, and the intervals are those of the sample.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from p2l_sdk.bulk.settings import Aggregate
from p2l_sdk.errors import P2LError
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.outputs.files import write_file
from p2l_sdk.p2l import P2L
from p2l_sdk.scorers.aggregate import PromptAggregate
from p2l_sdk.scorers.batches import BATCH

MOST = 100  # categories; prompts of further ones are counted together
OTHERS = "(others)"
_PAIRS = 2000  # per prompt, on average: these take less time than the prompt's tokens
_LEAST = 1000  # prompts of a sample
_FEW = 20  # prompts of a category in it
_FORMAT = "p2l_sdk.bulk.Totals/1"


def sample_of(labels: Sequence[str | None], n_models: int, which: Aggregate | str, seed: int) -> np.ndarray:
    """The prompts of a part that the aggregate is made of.

    Args:
        labels: the category of each prompt of the part; None for none.
        n_models: number of LLMs. Of up to 63 (some 2,000 pairs), all prompts are taken; of more, as many as give 2,000
            pairs for each prompt of the part, but at least 1,000, and at least 20 of each category.
        which: "sample", "all" or "none".
        seed: of the draw.

    Returns:
        `(n_prompts,)` booleans.
    """
    n, n_pairs = len(labels), n_models * (n_models - 1) // 2
    wanted = n if which == Aggregate.ALL else 0 if which == Aggregate.NONE else max(_LEAST, n * _PAIRS // n_pairs)
    if wanted >= n or wanted == 0:
        return np.full(n, wanted > 0)
    random, taken = np.random.default_rng(seed), np.zeros(n, dtype=bool)
    places: dict[str | None, list[int]] = {}
    for i, label in enumerate(labels):
        places.setdefault(label, []).append(i)
    for rows in places.values():
        size = min(len(rows), max(_FEW, -(-wanted * len(rows) // n)))
        taken[random.choice(rows, size, replace=False)] = True
    return taken


def few(labels: Sequence[str | None], known: Iterable[str] = ()) -> list[str | None]:
    """The labels, of which all but the first hundred different ones (those known come first) are `OTHERS`."""
    kept = dict.fromkeys(known)
    for label in dict.fromkeys(labels):
        if label is not None and label not in kept and len(kept) < MOST:
            kept[label] = None
    return [label if label is None or label in kept else OTHERS for label in labels]


class Totals:
    """What is kept of scored prompts, for each category.

    Args:
        p2l: the model that scored them.

    Attributes:
        categories: category -> its `PromptAggregate` (whose `statistics` are `PairStatistics`); None stands for prompts
            without a category.
        n_prompts: category -> number of prompts, those included that are not in the sample.
    """

    def __init__(self, p2l: P2L) -> None:
        self._p2l = p2l
        self.categories: dict[str | None, PromptAggregate] = {}
        self.n_prompts: Counter[str | None] = Counter()

    @classmethod
    def of(
        cls,
        p2l: P2L,
        scored: Coefficients | None,
        labels: Sequence[str | None],
        sampled: np.ndarray,
        key: str,
    ) -> Totals:
        """The totals of the prompts of a part.

        Args:
            p2l: the model.
            scored: coefficients of the prompts in the sample, in their order; None if there are none.
            labels: the category of every prompt of the part, from `few`.
            sampled: `(n_prompts,)` booleans: which prompts are in the sample.
            key: names the part; parts that are merged need different ones.
        """
        totals = cls(p2l)
        totals.n_prompts.update(labels)
        own = [label for label, taken in zip(labels, sampled, strict=True) if taken]
        for label, n in Counter(own).items():
            assert scored is not None
            rows = np.flatnonzero([other == label for other in own])
            weight = totals.n_prompts[label] / n
            found = PromptAggregate(p2l.spec, p2l.variance, p2l.group_error, _seed(f"{key}/{label}"))
            for start in range(0, n, BATCH):
                part = scored[rows[start : start + BATCH]]
                found.add(part, None if weight == 1.0 else np.full(len(part), weight))
            totals.categories[label] = found
        return totals

    def merge(self, other: Totals) -> None:
        """Add the prompts of another part. The order of parts decides only about the last digits, and about which
        categories are the first hundred."""
        names = list(other.n_prompts)
        own = (name for name in self.n_prompts if name not in (None, OTHERS))
        for name, new in zip(names, few(names, filter(None, own)), strict=True):
            self.n_prompts[new] += other.n_prompts[name]
            if name not in other.categories:
                continue
            if new in self.categories:
                self.categories[new].merge(other.categories[name])
            else:
                self.categories[new] = copy.deepcopy(other.categories[name])

    def __len__(self) -> int:
        return self.n_prompts.total()

    @property
    def n_sampled(self) -> int:
        """Number of prompts that the aggregates are of."""
        return sum(map(len, self.categories.values()))

    @property
    def overall(self) -> PromptAggregate | None:
        """The aggregate of all prompts, those without a category included; None if there is none."""
        total: PromptAggregate | None = None
        for prompts in self.categories.values():
            if total is None:
                total = copy.deepcopy(prompts)
            else:
                total.merge(prompts)
        return total

    def board(self) -> Leaderboard | None:
        """The leaderboard of all prompts; None if there is no aggregate."""
        total = self.overall
        return None if total is None else replace(total.board(), costs=self._p2l.costs)

    def boards(self) -> dict[str, Leaderboard]:
        """The leaderboard of each category, that of most prompts first."""
        return {
            name: replace(self.categories[name].board(), costs=self._p2l.costs)
            for name, _ in self.n_prompts.most_common()
            if name is not None and name in self.categories
        }

    def to_bytes(self) -> bytes:
        """Everything, as the content of a safetensors file; the same prompts give the same bytes."""
        from safetensors.numpy import save

        states, arrays = [], dict[str, np.ndarray]()
        for i, (name, prompts) in enumerate(self.categories.items()):
            state, own = prompts.state()
            states.append({"category": name, **state})
            arrays |= {f"{i}.{key}": np.asarray(array, order="C") for key, array in own.items()}
        spec = {"models": list(self._p2l.models), "feedback": str(self._p2l.spec.feedback)}
        told = {"format": _FORMAT, **spec, "n_prompts": list(self.n_prompts.items()), "categories": states}
        return save(arrays, {"state": json.dumps(told)})  # of several keys, the order is not defined

    @classmethod
    def of_bytes(cls, content: bytes, p2l: P2L, name: str = "the statistics") -> Totals:
        """The totals that `to_bytes` gave.

        Raises:
            P2LError: they are damaged, or those of another model; the message has the name.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        totals = cls(p2l)
        try:
            arrays = load(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            told = json.loads(header["__metadata__"]["state"])
            if told["format"] != _FORMAT:
                raise ValueError(f"it is no {_FORMAT}")
            models, counts, states = tuple(told["models"]), dict(told["n_prompts"]), list(told["categories"])
            if not all(type(n) is int and n >= 0 for n in counts.values()):
                raise ValueError("a number of prompts is none")
            names = [state["category"] for state in states]
            if not all(name is None or isinstance(name, str) for name in [*names, *counts]):
                raise ValueError("a category is no text")
        except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise P2LError(f"{name} cannot be read as saved statistics of prompts: {error}") from error
        if models != p2l.models or told["feedback"] != str(p2l.spec.feedback):
            raise P2LError(f"{name} holds the statistics of another model: load that one")
        totals.n_prompts.update(counts)
        for i, state in enumerate(states):
            prompts = PromptAggregate(p2l.spec, p2l.variance, p2l.group_error)
            own = {key.partition(".")[2]: a for key, a in arrays.items() if key.partition(".")[0] == str(i)}
            prompts.restore(state, own, name)
            totals.categories[state["category"]] = prompts
        return totals

    def save(self, path: str | Path) -> None:
        """Write one file, whole or not at all; P2LError if that fails."""
        write_file(path, self.to_bytes())

    @classmethod
    def load(cls, path: str | Path, p2l: P2L) -> Totals:
        """Load what `save` wrote, with the model that scored the prompts; errors as in `of_bytes`."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise P2LError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
        return cls.of_bytes(content, p2l, repr(str(path)))


def _seed(key: str) -> int:
    """The seed of the bootstrap of one category of one part."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:7])
