"""The pictures of categories: leaderboards side by side, and the LLMs that a router calls in each."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk import pictures
from p2l_sdk.leaderboards.leaderboard import Leaderboard

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

_NAME = 30  # characters of a category's name
_LETTER = 0.05  # share of a bar that has room for a letter
_ABREAST = 3  # panels
_HATCHES = ("", "", "///", "///", "...", "...", "xxx", "xxx", "---", "---")  # in a grey copy, some colours are alike
_WIDE = 24  # characters of a name; of longer ones, two are side by side in a legend


def labels_of(names: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """The categories with their numbers of prompts, long names cut."""
    short = [textwrap.shorten(name, _NAME, placeholder="…") for name in names]  # a long word alone becomes "…"
    cut = [s if s != "…" else name[: _NAME - 1] + "…" for s, name in zip(short, names, strict=True)]
    return pictures.with_sizes(cut, sizes)


def draw_leaderboards(
    found: Mapping[str, Leaderboard], llms: Sequence[int], ax: matplotlib.axes.Axes | None
) -> matplotlib.axes.Axes:
    """Draw the ratings of some LLMs, a row for each category and a mark for each LLM, with their 95 % intervals.

    Args:
        found: the leaderboards, by category.
        llms: places of the LLMs, the best first.
        ax: where to draw; a new figure if None.
    """
    boards = list(found.values())
    models = boards[0].models
    step = min(0.8 / len(llms), 0.2)
    ax = pictures.axes_of_size(ax, 7.5, 1.9 + len(boards) * (0.16 + 0.085 * len(llms)))
    rows = np.arange(len(boards))
    for row in rows[::2]:
        ax.axhspan(row - 0.5, row + 0.5, color="#f5f5f5", lw=0)
    names = pictures.llm_names([models[i] for i in llms])
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
            label=names[j],
        )
    ax.set_yticks(rows, labels_of(list(found), [board.n_prompts for board in boards]))
    ax.set_ylim(len(boards) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color="#dddddd", lw=0.7)
    ax.set_axisbelow(True)
    ax.set_xlabel(f"rating with its 95 % interval\n({boards[0].scale_text})")
    wide = max(map(len, names)) > _WIDE
    ax.figure.legend(
        *ax.get_legend_handles_labels(), loc="outside lower center", ncols=2 if wide else min(3, len(llms)),
        frameon=False, fontsize=pictures.SMALL,
    )  # fmt: skip
    return ax


def _limits(intervals: np.ndarray | None, i: int, rating: float) -> tuple[float, float]:
    return (rating, rating) if intervals is None else (float(intervals[i, 0]), float(intervals[i, 1]))


def draw_shares(
    panels: Sequence[tuple[str, np.ndarray]], rows: Sequence[str], names: Sequence[str], others: str, caption: str
) -> matplotlib.figure.Figure:
    """Draw bars that are divided by the LLMs that are called, each with a letter.

    Args:
        panels: of each its title, and `(n_rows, n_names)` shares, which sum to 1.
        rows: what stands beside the bars.
        names: of the LLMs.
        others: the one of them that stands for the rest.
        caption: of the whole.
    """
    pyplot = pictures.require_pyplot()
    n = len(panels)
    across = min(n, _ABREAST)
    down = -(-n // across)
    letters = ["" if name == others else chr(ord("A") + j) for j, name in enumerate(names)]
    colours = [pictures.PALE if not letter else pictures.PALETTE[j % 10] for j, letter in enumerate(letters)]
    hatches = [_HATCHES[j % 10] if letter else "" for j, letter in enumerate(letters)]
    columns = 2 if max(map(len, names)) > _WIDE else 3
    legend = 0.22 * -(-len(names) // columns)
    figure, axes = pyplot.subplots(
        down, across, squeeze=False, sharey=True, sharex=True, layout="constrained",
        figsize=(max(7.5, 2.4 + 2.5 * across), 1.1 + legend + down * (0.5 + 0.27 * len(rows))),
    )  # fmt: skip
    for b, ax in enumerate(axes.flat):
        if b >= n:
            ax.set_visible(False)
            continue
        _draw_bars(ax, panels[b][1], letters, colours, hatches)
        ax.set_yticks(range(len(rows)), rows, fontsize=pictures.SMALL)
        ax.set_title(panels[b][0], fontsize=pictures.SMALL)
        if b + across >= n:
            ax.set_xlabel("share of the category's prompts", fontsize=pictures.SMALL)
            ax.tick_params(labelbottom=True)
    figure.suptitle(textwrap.fill(caption, 90), fontsize=pictures.NORMAL, x=0.01, ha="left")
    told = [
        f"{letter}  {name}" if letter else f"{others}, each rarer"
        for letter, name in zip(letters, pictures.llm_names(names), strict=True)
    ]
    patches = [
        pyplot.Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor="white", lw=0.0, hatch=hatch, label=text)
        for colour, hatch, text in zip(colours, hatches, told, strict=True)
    ]
    figure.legend(
        handles=patches, loc="outside lower center", ncols=columns, frameon=False, fontsize=pictures.SMALL,
        handlelength=1.2,
    )  # fmt: skip
    return figure


def _draw_bars(
    ax: Any, shares: np.ndarray, letters: Sequence[str], colours: Sequence[str], hatches: Sequence[str]
) -> None:
    left = np.zeros(len(shares))
    for letter, colour, hatch, share in zip(letters, colours, hatches, shares.T, strict=True):
        look: dict[str, Any] = {"color": colour, "edgecolor": "white", "linewidth": 0.6, "hatch": hatch}
        ax.barh(range(len(shares)), share, left=left, height=0.82, **look)
        ink = "white" if pictures.on_dark(colour) else pictures.INK
        for row in np.flatnonzero(share >= _LETTER):
            middle = left[row] + share[row] / 2
            behind = {"facecolor": colour, "edgecolor": "none", "pad": 1.5} if hatch else None
            ax.text(middle, row, letter, ha="center", va="center", fontsize=pictures.SMALL - 1, color=ink, bbox=behind)
        left = left + share
    ax.set_ylim(len(shares) - 0.5, -0.5)
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"], fontsize=pictures.SMALL)
    ax.tick_params(axis="y", length=0)
    ax.spines[:].set_visible(False)
