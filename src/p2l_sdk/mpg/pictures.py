"""The two pictures of a report (needs matplotlib)."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import ResultsError
from p2l_sdk.mpg.fastness import Fastness
from p2l_sdk.mpg.node_estimates import NodeEstimates
from p2l_sdk.pictures import BLUE, axes_of_size, require_pyplot

if TYPE_CHECKING:
    import matplotlib.axes

_MOST_NAMES, _MOST_ROWS = 24, 40
_CHARACTER_SHARE = 0.0102  # of the axes' width, for a bold character
_CHARACTERS_PER_INCH = 11.0  # of the title
_AXES = {
    "usd_per_query": ("cost, USD per 1,000 queries", 1000.0),
    "queries_per_second": ("queries per second", 1.0),
    "seconds": ("seconds to the whole answer", 1.0),
    "seconds_to_first_token": ("seconds to the first token", 1.0),
    "tokens_per_second": ("output tokens per second", 1.0),
}
_MORE_IS_BETTER = ("queries_per_second", "tokens_per_second")


def pareto_front(goodness: np.ndarray, fastness: np.ndarray) -> np.ndarray:
    """Indices of the LLMs that no other beats in both, from best to fastest; both are `(n,)`, higher is better."""
    order = np.lexsort((-fastness, -goodness))
    best, front = -np.inf, []
    for i in order:
        if fastness[i] > best:
            best = fastness[i]
            front.append(i)
    return np.array(front, dtype=np.int64)


def plot_goodness_fastness(
    goodness: NodeEstimates,
    fastness: Fastness,
    measure: str = "usd_per_query",
    ax: matplotlib.axes.Axes | None = None,
) -> matplotlib.axes.Axes:
    """Goodness with 95 % intervals over a measure of Fastness, with the Pareto front.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ResultsError: the measure is known, and above 0, for fewer than two of the LLMs.
    """
    values = fastness.values_of(measure)
    known = [m for m, name in enumerate(goodness.models) if values.get(name, 0.0) > 0]
    if len(known) < 2:
        raise ResultsError(f"{measure!r} is known of {len(known)} of the LLMs; a picture needs two")
    axis, unit = _AXES[measure]
    x = np.array([values[goodness.models[m]] for m in known]) * unit
    y, limits = 100 * goodness.means[known, 0], 100 * goodness.intervals[known, 0]
    names = [goodness.models[m] for m in known]
    front = pareto_front(y, x if measure in _MORE_IS_BETTER else -x)
    ax = axes_of_size(ax, 9.0, 5.6)
    ax.set_xscale("log")
    wide = np.log(x.max() / x.min()) or 1.0
    inward = -1.0 if measure in _MORE_IS_BETTER else 1.0  # towards slower or more expensive
    shift = _side_by_side(np.log(x), y, 0.022 * wide)
    shown = x * np.exp(inward * shift)
    on_front = np.isin(np.arange(len(x)), front)
    gain, most = ("cheaper", "cheapest") if measure == "usd_per_query" else ("faster", "fastest")
    if len(front) > 1:
        label = f"Pareto front: none is both better and {gain}"
        ax.plot(shown[front], y[front], "--", color=BLUE, lw=1.2, alpha=0.7, zorder=1, label=label)
    else:  # a single point draws no line
        ax.plot(shown[front], y[front], "o", color=BLUE, ms=6, zorder=1, label=f"both the best and the {most}")
    for chosen, colour in ((on_front, BLUE), (~on_front, "#8a8a8a")):
        if chosen.any():
            bars = np.abs(limits[chosen] - y[chosen, None]).T
            ax.errorbar(shown[chosen], y[chosen], bars, fmt="o", color=colour, ms=6, lw=1.3, alpha=0.95)
    low, high = limits.min(), limits.max()
    named = np.arange(len(x)) if len(x) <= _MOST_NAMES else front
    places = np.empty(len(x))
    behind = named[~on_front[named]]
    places[behind] = _apart(np.log(x[behind]), y[behind], 0.35 * wide, 0.042 * (high - low))
    ends = _label_ends(np.log(shown), [len(name) for name in names], np.where(on_front, -inward, inward), named)
    places[front] = _above(ends, places, limits, np.log(shown), front, behind, 0.042 * (high - low))
    ax.set_xlim(*np.exp([min(np.log(shown).min(), ends[named].min()), max(np.log(shown).max(), ends[named].max())]))
    ax.set_ylim(
        min(low, places[named].min()) - 0.06 * (high - low), max(high, places[named].max()) + 0.06 * (high - low)
    )
    for i in named:
        colour = BLUE if on_front[i] else "#444444"
        rightwards = ends[i, 1] > np.log(shown[i])
        ax.annotate(
            names[i],
            (shown[i], y[i]),
            (np.exp(ends[i, 0]), places[i]),
            va="center",
            ha="left" if rightwards else "right",
            fontsize=9,
            color=colour,
            fontweight="bold" if on_front[i] else "normal",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8},
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "alpha": 0.5, "shrinkA": 1, "shrinkB": 3},
        )
    ticks = np.unique(x) if len(np.unique(x)) <= 6 else None
    if ticks is not None:
        ax.set_xticks(ticks, [f"{t:.3g}" for t in ticks])
        ax.minorticks_off()
    ax.set_xlabel(f"{axis} (log scale{'; LLMs of the same value stand side by side' if shift.any() else ''})")
    ax.set_ylabel(f"Goodness: estimated share of {_right(goodness)}, %")
    side = "right" if measure in _MORE_IS_BETTER else "left"
    ax.set_title(f"Better is up, {gain} is {side}; bars are 95 % intervals", loc="left", fontsize=11)
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, fontsize=9)
    ax.grid(axis="y", color="#eeeeee")
    ax.set_axisbelow(True)
    return ax


def plot_subdomains(goodness: NodeEstimates, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
    """Goodness of every LLM overall, by domain and by subdomain, as a heat map with half the width of each interval.

    The colours of a column run from its worst LLM to its best, and are similar where the LLMs are within an interval of
    each other; the best number is bold. Estimates that do not rest on results alone are hatched. At most 40 LLMs are
    shown.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    plt = require_pyplot()
    depth = dict(goodness.tree.walk())
    inner = [i for i, node in enumerate(goodness.nodes) if node in goodness.tree.nodes]
    columns = inner if len(inner) > 1 else list(range(len(goodness.nodes)))
    order = np.argsort(-goodness.means[:, 0], kind="stable")[:_MOST_ROWS]
    means = 100 * goodness.means[order][:, columns]
    half = 50 * np.ptp(goodness.intervals[order][:, columns], axis=2)
    part = goodness.partly[order][:, columns] & ~np.isnan(means)
    ax = axes_of_size(ax, 2.6 + 1.0 * len(columns), 1.6 + 0.42 * len(order))
    low, high = np.nanmin(means, 0), np.nanmax(means, 0)
    span = np.maximum(high - low, 2 * np.nanmean(half, 0))  # no contrast from differences within an interval
    shade = 0.5 + (means - (low + high) / 2) / np.where(span > 0, span, 1.0)
    gaps: list[float] = []
    at = 0.0
    for column in columns:  # a gap before each domain
        at += 0.25 if depth[goodness.nodes[column]] <= 1 and gaps else 0.0
        gaps.append(at)
        at += 1.0
    colours = plt.get_cmap("Blues")
    for c, left in enumerate(gaps):
        for r in range(len(order)):
            if np.isnan(means[r, c]):
                continue
            ax.add_patch(plt.Rectangle((left, r), 0.96, 0.94, color=colours(0.04 + 0.72 * shade[r, c]), lw=0))
            if part[r, c]:  # hatch the edges only, so that the number stays readable
                for at_left in (left, left + 0.84):
                    hatch: dict[str, Any] = {"fill": False, "hatch": "/////", "edgecolor": "#8a8a8a", "lw": 0}
                    ax.add_patch(plt.Rectangle((at_left, r), 0.12, 0.94, **hatch))
            ink = "white" if shade[r, c] > 0.65 else "#222222"
            weight = "bold" if f"{means[r, c]:.0f}" == f"{high[c]:.0f}" else "normal"
            text: dict[str, Any] = {"va": "center", "color": ink}
            ax.text(left + 0.47, r + 0.47, f"{means[r, c]:.0f}", ha="right", fontsize=10, weight=weight, **text)
            ax.text(left + 0.52, r + 0.49, f"±{half[r, c]:.0f}", ha="left", fontsize=7.5, **text)
    for c, left in enumerate(gaps):
        node = goodness.nodes[columns[c]]
        top = depth[node] <= 1
        name = "\n".join(textwrap.wrap(node, 13, break_long_words=False))
        style: dict[str, Any] = {"weight": "bold", "color": "#111111"} if top else {"color": "#555555"}
        ax.text(left + 0.48, -0.15, name, ha="center", va="bottom", fontsize=9.5 if top else 9, **style)
    ax.set_xlim(-0.05, at)
    ax.set_ylim(len(order), -1.0)
    ax.set_yticks(np.arange(len(order)) + 0.47, [goodness.models[m] for m in order], fontsize=9.5)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    what = f"Goodness (estimated share of {_right(goodness)}, %) ± half a 95\u00a0% interval"
    what += "; bold: domains, and the best of a column" + ("; hatched: not all of it is measured" if part.any() else "")
    beside = max(len(goodness.models[m]) for m in order)  # space for the names, left of the axes
    inches = ax.figure.get_figure(root=True).get_size_inches()[0]
    characters = max(30, int(_CHARACTERS_PER_INCH * inches) - beside - 4)
    ax.set_title("\n".join(textwrap.wrap(what, characters)), loc="left", fontsize=9.5, color="#444444")
    return ax


def _right(goodness: NodeEstimates) -> str:
    """What Goodness is a share of: chance is subtracted if the tree has it."""
    return "questions right beyond chance" if any(goodness.tree.chance.values()) else "questions right"


def _side_by_side(x: np.ndarray, y: np.ndarray, step: float) -> np.ndarray:
    """`(n,)` small shifts that separate the bars of points with the same x."""
    shift = np.zeros(len(x))
    for value in np.unique(x):
        same = np.flatnonzero(x == value)
        shift[same[np.argsort(-y[same])]] = step * np.arange(len(same))
    return shift


def _label_ends(x: np.ndarray, lengths: list[int], side: np.ndarray, named: np.ndarray) -> np.ndarray:
    """`(n, 2)` start and end of each label on the log axis: next to its point, clear of others of nearly the same x."""
    share = np.minimum(np.array(lengths) * _CHARACTER_SHARE, 0.4)
    low, high = x.min(), x.max()
    ends = np.stack([x, x], 1)
    for _ in range(30):  # fixed point: the labels' width depends on the range, and the range on the labels
        span = (high - low) or 1.0
        for i in named:
            near = x[(np.abs(x - x[i]) < 0.07 * span) & (side == side[i])]
            start = (near.max() if side[i] > 0 else x[i]) + side[i] * 0.015 * span
            if side[i] < 0:
                start = (near.min() if len(near) > 1 else x[i]) - 0.015 * span
            ends[i] = start, start + side[i] * share[i] * span
        low, high = min(x.min(), ends[named].min()), max(x.max(), ends[named].max())
    return ends


def _above(
    ends: np.ndarray,
    places: np.ndarray,
    limits: np.ndarray,
    x: np.ndarray,
    front: np.ndarray,
    behind: np.ndarray,
    least: float,
) -> np.ndarray:
    """Heights of the front's labels, on its outer side: no LLM lies there, so upwards is always clear of the line."""
    heights = places.copy()
    done = list(behind)
    for i in sorted(front, key=lambda i: limits[i].mean()):
        left, right = sorted(ends[i])
        heights[i] = limits[i].mean() + 0.5 * least
        blocks = [(limits[j, 0] - least / 2, limits[j, 1] + least / 2) for j in range(len(x)) if left < x[j] < right]
        blocks += [
            (heights[j] - least, heights[j] + least) for j in done if min(ends[j]) < right and max(ends[j]) > left
        ]
        for bottom, top in sorted(blocks):
            if bottom < heights[i] < top:
                heights[i] = top
        done.append(i)
    return np.asarray(heights[front])


def _apart(x: np.ndarray, y: np.ndarray, near: float, least: float) -> np.ndarray:
    """`(n,)` heights of labels: close to y, and at least `least` apart where their x differ by less than `near`."""
    places: Any = y.astype(np.float64).copy()
    order = np.argsort(y)
    for _ in range(200):
        moved = False
        for k, i in enumerate(order):
            for j in order[k + 1 :]:
                gap = places[j] - places[i]
                if abs(x[i] - x[j]) < near and gap < least - 1e-9:
                    places[i] -= (least - gap) / 2
                    places[j] += (least - gap) / 2
                    moved = True
        if not moved:
            break
    return places
