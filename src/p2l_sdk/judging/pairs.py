"""Which two LLMs are compared on which prompt: all pairs, some drawn at random, or those of a plan."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import P2LError, VotesError, require_known
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.tables.columns import checked_prompt, llm_name, turns_of
from p2l_sdk.tables.files import read_rows
from p2l_sdk.tables.sources import table_errors

Turns = tuple[str, ...]
Pair = tuple[str, str]
COLUMNS = ("prompt", "model_a", "model_b")


@dataclass(frozen=True)
class Pairs:
    """The pairs of LLMs to compare.

    Attributes:
        per_prompt: number of pairs drawn per prompt; None for all.
        seed: of the draw.
        plan: prompt -> its pairs, instead; see `read_plan`.

    Raises:
        P2LError: both a number and a plan are given, or a number is out of range.
    """

    per_prompt: int | None = None
    seed: int = 0
    plan: Mapping[Turns, tuple[Pair, ...]] | None = None

    def __post_init__(self) -> None:
        if self.per_prompt is not None and self.plan is not None:
            raise P2LError("give the number of pairs per prompt or a plan, which names the pairs, not both")
        if self.per_prompt is not None and self.per_prompt < 1:
            raise P2LError(f"the number of pairs per prompt is {self.per_prompt}; it must be at least 1")
        if self.seed < 0:
            raise P2LError(f"the seed is {self.seed}; it must be an integer >= 0")

    @property
    def whole(self) -> bool:
        """Whether all pairs of every prompt are compared."""
        return self.per_prompt is None and self.plan is None

    def of(self, prompt: Prompt, models: Sequence[str]) -> tuple[Pair, ...]:
        """The pairs of a prompt among these LLMs, each pair's sides in the plan's order, or drawn at random.

        They depend on the prompt, the LLMs and the seed alone, not on other prompts.
        """
        turns = turns_of(prompt)
        if self.plan is not None:
            return tuple(pair for pair in self.plan.get(turns, ()) if set(pair) <= set(models))
        rng = np.random.default_rng([self.seed, *_digits(turns)])
        pairs = list(itertools.combinations(sorted(models), 2))
        order = rng.permutation(len(pairs))[: self.per_prompt]
        flipped = rng.random(len(pairs)) < 0.5
        return tuple((b, a) if flipped[i] else (a, b) for i in order.tolist() for a, b in [pairs[i]])

    def models(self, prompt: Prompt, models: Sequence[str]) -> tuple[str, ...]:
        """The LLMs that occur in the pairs of a prompt, in the order of `models`; all if all pairs are compared."""
        if self.whole:
            return tuple(models)
        wanted = set(itertools.chain.from_iterable(self.of(prompt, models)))
        return tuple(name for name in models if name in wanted)

    def text(self, models: Sequence[str]) -> str:
        """What the pairs depend on beside the prompts, in words: parts of one run must agree in it."""
        if self.whole:
            return "all"
        if self.per_prompt is not None:
            return f"{self.per_prompt} per prompt, seed {self.seed}, of {', '.join(sorted(models))}"
        content = json.dumps(sorted(self.plan.items())) if self.plan is not None else ""
        return f"plan {hashlib.sha256(content.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"

    def require_known(self, prompts: Sequence[Prompt], models: Sequence[str]) -> None:
        """Raise `P2LError` unless a plan names these LLMs and prompts only."""
        if self.plan is None:
            return
        names = dict.fromkeys(name for pairs in self.plan.values() for pair in pairs for name in pair)
        require_known(names, list(models), "the plan", "which is none of the LLMs here")
        known = set(map(turns_of, prompts))
        unknown = [turns for turns in self.plan if turns not in known]
        if unknown:
            n = f"{len(unknown):,} prompt{'s' * (len(unknown) > 1)}"
            raise P2LError(f"the plan has {n} not among the prompts here; the first is {' '.join(unknown[0])[:80]!r}")


@table_errors(VotesError)
def read_plan(path: str | Path) -> dict[Turns, tuple[Pair, ...]]:
    """A plan: a table (`p2l_sdk.tables.files.KINDS`) with the columns prompt, model_a, model_b.

    Raises:
        VotesError: it cannot be read, a column is missing, an LLM is compared with itself, or there is no row.
    """
    plan: dict[Turns, dict[frozenset[str], Pair]] = {}
    rows = read_rows(path)
    for at, row in enumerate(rows):
        prompt, pair = _planned(row, f"{str(path)!r}, {rows.place(at)}")
        plan.setdefault(turns_of(prompt), {}).setdefault(frozenset(pair), pair)
    if not plan:
        raise VotesError(f"{str(path)!r} plans nothing: it has no row")
    return {turns: tuple(pairs.values()) for turns, pairs in plan.items()}


def _planned(row: Mapping[str, Any], where: str) -> tuple[Prompt, Pair]:
    for name in COLUMNS:
        if name not in row:
            raise VotesError(f"{where} has no column {name!r}; a plan has {', '.join(COLUMNS)}")
    try:
        prompt = checked_prompt(row["prompt"])
        pair = llm_name("model_a", row["model_a"]), llm_name("model_b", row["model_b"])
    except P2LError as error:
        raise VotesError(f"{where}: {error}") from None
    if pair[0] == pair[1]:
        raise VotesError(f"{where}: {pair[0]!r} is compared with itself")
    return prompt, pair


def _digits(turns: Turns) -> Iterator[int]:
    """Numbers that a prompt seeds its draw with."""
    digest = hashlib.sha256(json.dumps(turns).encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[i : i + 4], "big") for i in range(0, 16, 4))
