"""The pictures of categories: leaderboards side by side, and the LLMs that a router calls in each."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk import pictures
from p2l_sdk.analysis.choices import OTHERS, Choices

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

    from p2l_sdk.analysis.category_report import Categories

_NAME = 30  # characters of a category's name
_LETTER = 0.05  # share of a bar that has room for a letter
_ABREAST = 3  # panels


def labels_of(names: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """The categories with their numbers of prompts, long names cut."""
    short = [textwrap.shorten(name, _NAME, placeholder="…") for name in names]  # a long word alone becomes "…"
    cut = [s if s != "…" else name[: _NAME - 1] + "…" for s, name in zip(short, names, strict=True)]
    return [f"{name}  ({n:,})" for name, n in zip(cut, sizes, strict=True)]


def draw_leaderboards(
    found: Categories, llms: Sequence[int], ax: matplotlib.axes.Axes | None = None
) -> matplotlib.axes.Axes:
    """Draw the ratings of some LLMs, a row for each category and a mark for each LLM, with their 95 % intervals.

    Args:
        found: the leaderboards.
        llms: places of the LLMs, the best first.
        ax: where to draw; a new figure if None.
    """
    boards = list(found.boards.values())
    step = min(0.8 / len(llms), 0.2)
    ax = pictures.axes_of_size(ax, 8.0, 1.7 + len(boards) * (0.16 + 0.085 * len(llms)))
    rows = np.arange(len(boards))
    for row in rows[::2]:
        ax.axhspan(row - 0.5, row + 0.5, color="#f5f5f5", lw=0)
    for j, i in enumerate(llms):
        ratings = np.array([board.ratings[i] for board in boards])
        limits = np.array([_limits(board.rating_intervals, i, board.ratings[i]) for board in boards]).T
        ax.errorbar(
            ratings,
            rows + (j - (len(llms) - 1) / 2) * step,
            xerr=np.maximum(np.stack([ratings - limits[0], limits[1] - ratings]), 0.0),
            fmt=pictures.MARKERS[j % len(pictures.MARKERS)],
            color=pictures.PALETTE[j % len(pictures.PALETTE)],
            mec=pictures.INK,
            mew=0.5,
            ms=5.5,
            elinewidth=1.2,
            label=found.models[i],
        )
    ax.set_yticks(rows, labels_of(found.names, [board.n_prompts for board in boards]))
    ax.set_ylim(len(boards) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color="#dddddd", lw=0.7)
    ax.set_axisbelow(True)
    ax.set_xlabel(f"rating with its 95 % interval ({boards[0].scale_text})")
    shown = "" if len(llms) == len(found.models) else f", {len(llms)} of them drawn"
    ax.set_title(f"{found.caption}{shown}", loc="left", fontsize=pictures.NORMAL)
    ax.figure.legend(
        *ax.get_legend_handles_labels(), loc="outside lower center", ncols=min(3, len(llms)), frameon=False,
        fontsize=pictures.SMALL,
    )  # fmt: skip
    return ax


def _limits(intervals: np.ndarray | None, i: int, rating: float) -> tuple[float, float]:
    return (rating, rating) if intervals is None else (float(intervals[i, 0]), float(intervals[i, 1]))


def draw_choices(found: Choices, most: int) -> matplotlib.figure.Figure:
    """Draw a bar for each category, divided by the LLMs that are called, each with a letter; a panel for each budget.

    Args:
        found: the router's choices.
        most: how many LLMs are named at most.
    """
    pyplot = pictures.require_pyplot()
    n, n_rows = len(found.budgets), len(found.categories)
    across = min(n, _ABREAST)
    down = -(-n // across)
    names = found.pooled(0, most)[0]
    columns = 3 if max(map(len, names)) < 32 else 2
    legend = 0.22 * -(-len(names) // columns)
    figure, axes = pyplot.subplots(
        down, across, squeeze=False, sharey=True, sharex=True, layout="constrained",
        figsize=(max(7.5, 2.4 + 2.5 * across), 1.1 + legend + down * (0.5 + 0.27 * n_rows)),
    )  # fmt: skip
    for b, ax in enumerate(axes.flat):
        if b >= n:
            ax.set_visible(False)
            continue
        _draw_bars(ax, found, b, most)
        if b + across >= n:
            ax.set_xlabel("share of the category's prompts", fontsize=pictures.SMALL)
            ax.tick_params(labelbottom=True)
    figure.suptitle(textwrap.fill(found.caption, 90), fontsize=pictures.NORMAL, x=0.01, ha="left")
    patches = [
        pyplot.Rectangle((0, 0), 1, 1, color=_colour(j, name), label=_named(j, name)) for j, name in enumerate(names)
    ]
    figure.legend(
        handles=patches, loc="outside lower center", ncols=columns, frameon=False, fontsize=pictures.SMALL,
        handlelength=1.2,
    )  # fmt: skip
    return figure


def _draw_bars(ax: Any, found: Choices, budget: int, most: int) -> None:
    names, shares = found.pooled(budget, most)
    left = np.zeros(len(shares))
    for j, (name, share) in enumerate(zip(names, shares.T, strict=True)):
        colour = _colour(j, name)
        ax.barh(range(len(shares)), share, left=left, color=colour, edgecolor="white", linewidth=0.6, height=0.82)
        for row in np.flatnonzero(share >= _LETTER):
            ink = "white" if pictures.on_dark(colour) else pictures.INK
            middle = left[row] + share[row] / 2
            text = "" if name == OTHERS else _letter(j)
            ax.text(middle, row, text, ha="center", va="center", fontsize=pictures.SMALL - 1, color=ink)
        left = left + share
    ax.set_yticks(range(len(shares)), labels_of(found.categories, found.sizes.tolist()), fontsize=pictures.SMALL)
    ax.set_ylim(len(shares) - 0.5, -0.5)
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"], fontsize=pictures.SMALL)
    ax.tick_params(axis="y", length=0)
    ax.spines[:].set_visible(False)
    given = found.budgets[budget]
    told = "at any cost" if given is None else f"budget ${1000 * given:.4g} per 1,000"
    ax.set_title(told, fontsize=pictures.SMALL)


def _letter(j: int) -> str:
    return chr(ord("A") + j)


def _colour(j: int, name: str) -> str:
    return pictures.PALE if name == OTHERS else pictures.PALETTE[j % len(pictures.PALETTE)]


def _named(j: int, name: str) -> str:
    return "others, each rarer" if name == OTHERS else f"{_letter(j)}  {name}"
