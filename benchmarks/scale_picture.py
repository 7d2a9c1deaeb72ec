"""The picture of `scale.py`: cost by number of prompts, where the time goes, and how well many workers are used."""

from __future__ import annotations

from typing import Any

import numpy as np
from scale import GPU, MINILM, STAGES, STATIC, Way, fleets, ways

from p2l_sdk.pictures import BLUE, GREY, INK, NORMAL, ORANGE, PALETTE, SMALL, axes_of_size, require_pyplot, save

COLOURS = {STATIC: BLUE, MINILM: PALETTE[2], GPU: ORANGE}
LINES = {STATIC: "-", MINILM: "--", GPU: "-."}


def draw(figures: dict[str, Any], path: str) -> None:
    """Draw three panels into a file."""
    pyplot = require_pyplot()
    figure, axes = pyplot.subplot_mosaic(
        [["costs", "efficiency"], ["stages", "stages"]], figsize=(7.5, 6.6), height_ratios=(3, 2), layout="constrained"
    )
    found = ways(figures)
    for name, panel in {"costs": _costs, "stages": _stages, "efficiency": _efficiency}.items():
        panel(axes_of_size(axes[name], 4, 4), found, figures)
    save(figure, path)


def _label(way: Way) -> str:
    return way.name if way.measured else f"{way.name} (estimate)"


def _costs(ax: Any, found: list[Way], figures: dict[str, Any]) -> None:
    sizes = np.array([1e6, 1e8, 1e10])
    for way in found:
        usd = sizes * way.usd(figures)
        ax.plot(sizes, usd, LINES[way.name], marker="o", color=COLOURS[way.name], label=_label(way))
    ax.set(xscale="log", yscale="log", xlabel="prompts", ylabel="USD")
    ax.set_ylim(top=1e5)  # room for the legend
    ax.set_title("what it costs", fontsize=NORMAL)
    ax.legend(frameon=False, fontsize=SMALL)
    ax.grid(color=GREY, alpha=0.3, linewidth=0.5)


def _stages(ax: Any, found: list[Way], figures: dict[str, Any]) -> None:
    left = np.zeros(len(found))
    places = np.arange(len(found))[::-1]
    for stage, colour in zip(STAGES, PALETTE, strict=False):
        seconds = [way.stages(figures) for way in found]
        shares = np.array([s[stage] / sum(s.values()) for s in seconds])
        ax.barh(places, shares, 0.6, left=left, color=colour, label=stage)
        for place, share, start in zip(places, shares, left, strict=True):
            if share > 0.07:
                dark = colour in (PALETTE[0], PALETTE[2], PALETTE[4])
                ax.text(start + share / 2, place, f"{share:.0%}", ha="center", va="center", fontsize=SMALL,
                        color="white" if dark else INK)  # fmt: skip
        left += shares
    ax.set_yticks(places, [_label(way).replace(" (", "\n(") for way in found])
    ax.set(xlim=(0, 1), xticks=[], ylim=(-0.5, len(found) - 0.1))
    ax.spines["bottom"].set_visible(False)
    ax.set_title("where the time of a worker goes", fontsize=NORMAL)
    ax.legend(frameon=False, fontsize=SMALL, ncols=5, loc="upper center", bbox_to_anchor=(0.45, 0.02))


def _efficiency(ax: Any, found: list[Way], figures: dict[str, Any]) -> None:
    for prompts, marker, style in ((10**6, "s", ":"), (10**8, "o", "-")):
        rows = fleets(found[0], prompts, figures)
        x, y = [row["workers"] for row in rows], [row["efficiency"] for row in rows]
        name = "a million" if prompts == 10**6 else "100 million"
        ax.plot(x, y, style, marker=marker, color=BLUE, label=f"{name} prompts")
    ax.set(
        xscale="log",
        ylim=(0, 1.25),
        yticks=np.arange(0, 1.1, 0.2),
        xlabel="workers (cores; static)",
        ylabel="useful share of their time",
    )
    ax.set_title("how busy workers are (simulated)", fontsize=NORMAL)
    ax.legend(frameon=False, fontsize=SMALL, loc="upper right")
    ax.grid(color=GREY, alpha=0.3, linewidth=0.5)
