"""The picture of personal leaderboards: LLMs by rating, a row each, with the overall rating beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from p2l_sdk import pictures

if TYPE_CHECKING:
    import matplotlib.axes

_LOOKS = ((pictures.BLUE, "o"), (pictures.ORANGE, "s"), (pictures.BROWN, "D"), (pictures.INK, "^"))


class Person(Protocol):
    """What is drawn of a person; see `Personal`."""

    name: str
    models: tuple[str, ...]
    overall: np.ndarray
    ratings: np.ndarray
    margins: np.ndarray
    n_conversations: int


def draw(people: Sequence[Person], ax: matplotlib.axes.Axes | None, top: int) -> matplotlib.axes.Axes:
    """Draw each person's ratings with their limits, and the overall ones as ticks; see `Personal.plot`."""
    first = people[0]
    shown = {int(i) for person in people for i in np.argsort(-person.ratings, kind="stable")[:top]}
    rows = sorted(shown, key=lambda i: float(first.ratings[i]))
    ax = pictures.axes_of_size(ax, 7.5, 1.3 + 0.34 * len(rows))
    at = np.arange(len(rows))
    ax.scatter(first.overall[rows], at, marker="|", s=190, color=pictures.GREY, lw=2, label="overall", zorder=2)
    for k, person in enumerate(people):
        color, marker = _LOOKS[k % len(_LOOKS)]
        n = person.n_conversations
        ax.errorbar(
            person.ratings[rows], at + (k - (len(people) - 1) / 2) * 0.26, xerr=person.margins[rows], fmt=marker,
            color=color, ms=5, capsize=2, lw=1.2, label=f"{person.name} ({n:,} conversation{'' if n == 1 else 's'})",
        )  # fmt: skip
    ax.set_yticks(at, [first.models[i] for i in rows], fontsize=pictures.SMALL)
    ax.grid(axis="x", color="#eeeeee")
    ax.set_axisbelow(True)
    ax.set_xlabel("rating points above the mean LLM (400 points are odds of 10 to 1)")
    ax.set_title("Who is best for whom", loc="left", fontsize=pictures.NORMAL)
    ax.legend(frameon=False, fontsize=pictures.SMALL, loc="lower right")
    return ax
