"""Scores outside [0, 1]: the first of them by row, LLM and value, and what to do with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from p2l_sdk.tables.places import Place, Places

REMEDY = "clip, rescale or drop such scores with scores_outside (--scores-outside)"


_PERCENT = 10.0  # from here, the scores of one LLM may be in percent


class Outside(StrEnum):
    """What is done with scores outside [0, 1]."""

    CLIP = "clip"  # to 0 or 1, whichever is nearer
    RESCALE = "rescale"  # all scores, linearly, so that the lowest (or 0) becomes 0 and the highest (or 1) becomes 1
    DROP = "drop"  # they count as missing


@dataclass(frozen=True)
class OutsideScores:
    """The scores of a table that are outside [0, 1].

    Attributes:
        n, n_scores: number of scores outside [0, 1], and of all scores.
        row, model, value: the first of them: its row (from 1), its LLM and the score.
        lowest, highest: the range of all scores, extended to hold 0 and 1.
        done: what was done with them; None if they were kept.
        alone: the range of the LLM's scores, if all that are outside are its own; None if they are of several.
    """

    n: int
    n_scores: int
    row: int
    model: str
    value: float
    lowest: float
    highest: float
    done: Outside | None = None
    place: str = field(default="", compare=False)  # of the first, as its file counts rows
    alone: tuple[float, float] | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls,
        scores: np.ndarray,
        models: Sequence[str],
        row_of: Callable[[int, str], int] = lambda row, _: row,
        place: Place | None = None,
    ) -> OutsideScores | None:
        """Find them; None if there are none.

        Args:
            scores: `(n_prompts, n_models)`, NaN for a missing score.
            models: names of the LLMs.
            row_of: the row, from 0, of the table that holds the score of an LLM on a prompt.
            place: names a row, for messages (see `Source.place`).
        """
        found = np.argwhere((scores < 0.0) | (scores > 1.0))
        if not len(found):
            return None
        index, column = (int(x) for x in found[0])
        return cls(
            n=len(found),
            n_scores=int(np.isfinite(scores).sum()),
            row=row_of(index, models[column]) + 1,
            model=models[column],
            value=float(scores[index, column]),
            lowest=min(0.0, float(np.nanmin(scores))),
            highest=max(1.0, float(np.nanmax(scores))),
            place=(place or Places())(row_of(index, models[column])),
            alone=_range(scores[:, column]) if len(models) > 1 and (found[:, 1] == column).all() else None,
        )

    def apply(self, scores: np.ndarray, done: Outside) -> np.ndarray:
        """The scores `(n_prompts, n_models)` with none outside [0, 1]."""
        if done is Outside.CLIP:
            return np.clip(scores, 0.0, 1.0)
        if done is Outside.RESCALE:
            return np.clip((scores - self.lowest) / (self.highest - self.lowest), 0.0, 1.0)  # clipped: rounding
        return np.where((scores < 0.0) | (scores > 1.0), np.nan, scores)

    def __str__(self) -> str:
        """The first by row, LLM and value, and how many there are."""
        first = f"{self.place or f'row {self.row}'}: the score of {self.model!r} is {self.value:g}, "
        if self.n == 1:
            return f"{first}the only one of {self.n_scores:,} scores outside [0, 1]"
        text = f"{first}and {self.n:,} of {self.n_scores:,} scores are outside [0, 1]"
        if self.alone is not None and self.alone[1] > _PERCENT:
            text += f", all of them {self.model!r}'s ({self.alone[0]:g} to {self.alone[1]:g}): in percent?"
        return text

    @property
    def outcome(self) -> str:
        """What was done with them, in words; that nothing was, if so."""
        it = "it was" if self.n == 1 else "they were"
        if self.done is Outside.CLIP:
            return f"{self}; {it} clipped to the nearer end"
        if self.done is Outside.RESCALE:
            return f"{self}; all scores were rescaled from [{self.lowest:g}, {self.highest:g}] to [0, 1]"
        if self.done is Outside.DROP:
            return f"{self}; {it} dropped, as if missing"
        return f"{self}; {it} kept: {REMEDY}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        names = ("n", "n_scores", "row", "model", "value")
        return {**{name: getattr(self, name) for name in names}, "done": None if self.done is None else str(self.done)}


def _range(scores: np.ndarray) -> tuple[float, float]:
    return float(np.nanmin(scores)), float(np.nanmax(scores))
