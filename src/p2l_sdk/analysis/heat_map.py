"""A map of differences: groups of prompts by LLMs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk import pictures

if TYPE_CHECKING:
    import matplotlib.axes

_LINE, _LINES = 34, 2  # characters of a line of a group's name, and lines
_LEAST = 5  # rows that a picture has room for: the colours' label stands beside them
_BESIDE = 4  # of its characters, beside one row


def draw(
    values: np.ndarray,
    groups: Sequence[tuple[str, int]],
    llms: Sequence[str],
    ax: matplotlib.axes.Axes | None,
    *,
    meaning: str = "rating points above (+) or below (-, hatched)\nthe LLM's own rating over all prompts",
) -> matplotlib.axes.Axes:
    """Draw rating points above and below each LLM's overall rating, those below hatched.

    Args:
        values: `(n_groups, n_llms)`; NaN is left white.
        groups: name and number of prompts.
        llms: names of the columns.
        ax: where to draw; a new figure if None.
        meaning: of the numbers.
    """
    ax = pictures.axes_of_size(ax, 3.6 + 0.42 * len(llms), 1.9 + 0.33 * max(len(groups), _LEAST))
    if not groups:
        ax.set_axis_off()
        ax.text(0.5, 0.5, "nothing found", ha="center", va="center", fontsize=pictures.SMALL, color=pictures.INK)
        return ax
    most = float(np.nanmax(np.abs(values), initial=1.0))
    image = ax.imshow(values, cmap="PuOr_r", vmin=-most, vmax=most, aspect="auto")
    for (k, j), value in np.ndenumerate(values):
        if not np.isfinite(value):
            continue
        colour = f"#{''.join(f'{round(255 * part):02x}' for part in image.cmap(image.norm(value))[:3])}"
        ink = "white" if pictures.on_dark(colour) else pictures.INK
        text: dict[str, Any] = {
            "ha": "center",
            "va": "center",
            "fontsize": pictures.SMALL - 1,
            "color": ink,
            "zorder": 3,
        }
        if value < 0.0:  # in a grey copy, the two colours are one
            box: dict[str, Any] = {"fill": False, "hatch": "////", "edgecolor": "white", "lw": 0.0, "alpha": 0.5}
            ax.add_patch(pictures.require_pyplot().Rectangle((j - 0.5, k - 0.5), 1, 1, **box))
            text["bbox"] = {"facecolor": colour, "edgecolor": "none", "pad": 1.0}
        ax.text(j, k, f"{value:+.0f}", **text)
    names = _named(groups)
    ax.set_xticks(range(len(llms)), pictures.llm_names(llms), rotation=40, ha="right")
    ax.set_yticks(range(len(groups)), names)
    ax.tick_params(length=0, labelsize=pictures.SMALL)
    ax.spines[:].set_visible(False)
    ax.set_xticks(np.arange(1, len(llms)) - 0.5, minor=True)
    ax.set_yticks(np.arange(1, len(groups)) - 0.5, minor=True)
    ax.grid(which="minor", color="#eeeeee")
    ax.tick_params(which="minor", length=0)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, pad=0.02)
    room = _BESIDE * max(len(groups), _LEAST)
    if max(map(len, meaning.splitlines())) > room:
        meaning = textwrap.fill(meaning, room)
    bar.set_label(meaning, fontsize=pictures.SMALL)
    return ax


def _named(groups: Sequence[tuple[str, int]]) -> list[str]:
    """Names in one or two lines, with sizes; longer ones lose their end."""
    lines = [textwrap.wrap(name, _LINE, max_lines=_LINES, placeholder="…") or [""] for name, _ in groups]
    last = pictures.with_sizes([of_name[-1] for of_name in lines], [n for _, n in groups])
    return ["\n".join([*map(pictures.as_written, of_name[:-1]), end]) for of_name, end in zip(lines, last, strict=True)]
