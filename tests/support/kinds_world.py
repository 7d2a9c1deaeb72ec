"""Kinds of prompt that the embedded text model tells apart, and leaderboards of made-up LLMs in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2l_sdk.modeling.leaderboard_p2l import ARENA_SCALE

TOPICS = {
    "code": "function loop array compile bug class sort recursion stack pointer compiler variable",
    "food": "recipe bake onion garlic soup oven butter cake dinner salad pasta spice",
    "law": "court contract lawyer lease clause tenant verdict statute plaintiff liability damages treaty",
    "python": "python numpy pandas django pip decorator generator tuple pytest flask",
    "careful": "carefully step-by-step thoroughly precise detailed rigorous justify accurate",
    None: "weather river monday garden train holiday window music village mountain blanket lamp",
}

# the kinds of a world -> what its prompts are about: each set of topics is one sort of prompt
WORLDS = {
    "disjoint": [("code",), ("food",), ("law",), (None,)],
    "overlapping": [("code",), ("code", "careful"), ("food",), ("food", "careful"), (None,)],
    "nested": [("code",), ("code", "python"), ("law",), (None,)],
}
LLMS = tuple(f"llm-{i}" for i in range(8))


def text(topics: tuple[str | None, ...], random: np.random.Generator) -> str:
    return " ".join(word for topic in topics for word in random.choice(TOPICS[topic].split(), 5, replace=False))


def prompts(world: str, n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of n prompts of each sort."""
    random = np.random.default_rng(seed)
    return [
        {"prompt": text(topics, random), "category": [name for name in topics if name]}
        for topics in WORLDS[world]
        for _ in range(n)
    ]


def of_kind(rows: Iterable[Mapping[str, Any]], kind: str | None) -> list[str]:
    """The prompts of a kind, or of none."""
    return [row["prompt"] for row in rows if (kind in row["category"] if kind else not row["category"])]


def kinds_of(world: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for topics in WORLDS[world] for name in topics if name))


class Truth:
    """Overall Elo ratings, and departures from them by kind that are centred."""

    def __init__(self, kinds: Iterable[str], spread: float = 25.0, seed: int = 0, llms: tuple[str, ...] = LLMS) -> None:
        random = np.random.default_rng(seed)
        self.llms, self.overall = llms, 1000.0 + random.normal(0, 80, len(llms))
        self.departures = {}
        for kind in kinds:
            drawn = random.normal(0, 1, len(llms))
            self.departures[kind] = spread * (drawn - drawn.mean()) / drawn.std()

    def rows(self, half: float | None = None) -> list[dict[str, Any]]:
        """The table of ratings, each with 95 % limits so far away, if given."""
        tables = {"overall": self.overall} | {kind: self.overall + d for kind, d in self.departures.items()}
        return [
            {"model": llm, "category": kind, "rating": rating}
            | ({} if half is None else {"lower": rating - half, "upper": rating + half})
            for kind, ratings in tables.items()
            for llm, rating in zip(self.llms, ratings.tolist(), strict=True)
        ]


def elo(coefs: np.ndarray) -> np.ndarray:
    """Coefficients in Elo points, centred."""
    return ARENA_SCALE * (coefs - coefs.mean())


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def quick():
    """Small networks of one length of training, enough for kinds as far apart as these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("p2l_sdk.kinds.recogniser.EPOCHS", (40,))
        for module in ("recogniser", "build"):
            patch.setattr(f"p2l_sdk.kinds.{module}.HIDDEN", 64)
        yield
