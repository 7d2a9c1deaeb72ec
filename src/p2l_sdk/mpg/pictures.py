"""The two pictures of a report (needs matplotlib)."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import ResultsError
from p2l_sdk.mpg.fastness import Fastness
from p2l_sdk.mpg.labels import above, apart, label_ends, side_by_side
from p2l_sdk.mpg.node_estimates import NodeEstimates
from p2l_sdk.pictures import BLUE, NORMAL, SMALL, axes_of_size, require_pyplot

if TYPE_CHECKING:
    import matplotlib.axes

_MOST_NAMES, _MOST_ROWS = 24, 40
_CHARACTERS_PER_INCH = 11.0  # of the title
_AXES = {
    "usd_per_query": ("cost, USD per 1,000 queries", 1000.0),
    "queries_per_second": ("queries per second", 1.0),
    "seconds": ("seconds to the whole answer", 1.0),
    "seconds_to_first_token": ("seconds to the first token", 1.0),
    "tokens_per_second": ("output tokens per second", 1.0),
}
_MORE_IS_BETTER = ("queries_per_second", "tokens_per_second")
_BEHIND, _NAME, _GRID = "#8a8a8a", "#444444", "#eeeeee"  # what is not on the front or not measured; its text; lines
_NUMBER, _DOMAIN, _SUBDOMAIN = "#222222", "#111111", "#555555"  # text of the table


def pareto_front(goodness: np.ndarray, fastness: np.ndarray) -> np.ndarray:
    """Indices of the LLMs that no other beats in both, from best to fastest; both are `(n,)`, higher is better."""
    order = np.lexsort((-fastness, -goodness))
    best, front = -np.inf, []
    for i in order:
        if fastness[i] > best:
            best = fastness[i]
            front.append(i)
    return np.array(front, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Points:
    """The LLMs of a picture of Goodness over Fastness.

    Attributes:
        names: `n` names.
        x: `(n,)` the measure in the unit of its axis.
        shown_x: `(n,)` where the points are drawn; LLMs of the same x stand side by side.
        y, limits: `(n,)` and `(n, 2)` Goodness and its 95 % limits, in percent.
        front: indices of the Pareto front, from best to fastest.
        inward: the direction away from the front: 1 towards more expensive or slower if that is right, else -1.
    """

    names: list[str]
    x: np.ndarray
    shown_x: np.ndarray
    y: np.ndarray
    limits: np.ndarray
    front: np.ndarray
    inward: float

    @classmethod
    def of(cls, goodness: NodeEstimates, fastness: Fastness, measure: str) -> _Points:
        """The LLMs whose measure is known and above 0. Raises `ResultsError` if they are fewer than two."""
        values = fastness.values_of(measure)
        known = [m for m, name in enumerate(goodness.models) if values.get(name, 0.0) > 0]
        if len(known) < 2:
            raise ResultsError(f"{measure!r} is known of {len(known)} of the LLMs; a picture needs two")
        names = [goodness.models[m] for m in known]
        x = np.array([values[name] for name in names]) * _AXES[measure][1]
        y = 100 * goodness.means[known, 0]
        inward = -1.0 if measure in _MORE_IS_BETTER else 1.0
        shown_x = x * np.exp(inward * side_by_side(np.log(x), y, 0.022 * _log_range(x)))
        front = pareto_front(y, -inward * x)
        return cls(names, x, shown_x, y, 100 * goodness.intervals[known, 0], front, inward)

    @property
    def on_front(self) -> np.ndarray:
        """`(n,)` booleans."""
        return np.isin(np.arange(len(self.names)), self.front)


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
    points = _Points.of(goodness, fastness, measure)
    ax = axes_of_size(ax, 9.0, 5.6)
    ax.set_xscale("log")
    gain, most = ("cheaper", "cheapest") if measure == "usd_per_query" else ("faster", "fastest")
    line, alone = f"Pareto front: none is both better and {gain}", f"both the best and the {most}"
    _draw_points(ax, points, line if len(points.front) > 1 else alone)
    _draw_names(ax, points)
    ticks = np.unique(points.x)
    if len(ticks) <= 6:
        ax.set_xticks(ticks, [f"{t:.3g}" for t in ticks])
        ax.minorticks_off()
    moved = (points.shown_x != points.x).any()
    beside = "; LLMs of the same value stand side by side" if moved else ""
    ax.set_xlabel(f"{_AXES[measure][0]} (log scale{beside})")
    ax.set_ylabel(f"Goodness: estimated share of {_right(goodness)}, %")
    side = "right" if measure in _MORE_IS_BETTER else "left"
    ax.set_title(f"Better is up, {gain} is {side}; bars are 95 % intervals", loc="left", fontsize=11)
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, fontsize=SMALL)
    ax.grid(axis="y", color=_GRID)
    ax.set_axisbelow(True)
    return ax


def _draw_points(ax: matplotlib.axes.Axes, points: _Points, label: str) -> None:
    """Draw the points with their intervals, and the front, which has the label in the legend."""
    x, y, front = points.shown_x, points.y, points.front
    if len(front) > 1:
        ax.plot(x[front], y[front], "--", color=BLUE, lw=1.2, alpha=0.7, zorder=1, label=label)
    else:  # a single point draws no line
        ax.plot(x[front], y[front], "o", color=BLUE, ms=6, zorder=1, label=label)
    for chosen, colour in ((points.on_front, BLUE), (~points.on_front, _BEHIND)):
        if chosen.any():
            bars = np.abs(points.limits[chosen] - y[chosen, None]).T
            ax.errorbar(x[chosen], y[chosen], bars, fmt="o", color=colour, ms=6, lw=1.3, alpha=0.95)


def _draw_names(ax: matplotlib.axes.Axes, points: _Points) -> None:
    """Name all points, or those of the front if there are many, and set the limits of the axes to contain the names."""
    x, y, front, on_front, inward = np.log(points.shown_x), points.y, points.front, points.on_front, points.inward
    low, high = points.limits.min(), points.limits.max()
    line = 0.042 * (high - low)  # height of a line of text
    named = np.arange(len(x)) if len(x) <= _MOST_NAMES else front
    behind = named[~on_front[named]]
    places = np.empty(len(x))
    places[behind] = apart(np.log(points.x[behind]), y[behind], 0.35 * _log_range(points.x), line)
    ends = label_ends(x, [len(name) for name in points.names], np.where(on_front, -inward, inward), named)
    places[front] = above(ends, places, points.limits, x, front, behind, line)
    ax.set_xlim(*np.exp([min(x.min(), ends[named].min()), max(x.max(), ends[named].max())]))
    margin = 0.06 * (high - low)
    ax.set_ylim(min(low, places[named].min()) - margin, max(high, places[named].max()) + margin)
    for i in named:
        colour = BLUE if on_front[i] else _NAME
        ax.annotate(
            points.names[i],
            (points.shown_x[i], y[i]),
            (np.exp(ends[i, 0]), places[i]),
            va="center",
            ha="left" if ends[i, 1] > x[i] else "right",
            fontsize=SMALL,
            color=colour,
            fontweight="bold" if on_front[i] else "normal",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8},
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "alpha": 0.5, "shrinkA": 1, "shrinkB": 3},
        )


def _log_range(x: np.ndarray) -> float:
    """How far apart the least and the greatest value are on a log axis; 1 if they are equal."""
    return float(np.log(x.max() / x.min())) or 1.0


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
                    hatch: dict[str, Any] = {"fill": False, "hatch": "/////", "edgecolor": _BEHIND, "lw": 0}
                    ax.add_patch(plt.Rectangle((at_left, r), 0.12, 0.94, **hatch))
            ink = "white" if shade[r, c] > 0.65 else _NUMBER
            weight = "bold" if f"{means[r, c]:.0f}" == f"{high[c]:.0f}" else "normal"
            text: dict[str, Any] = {"va": "center", "color": ink}
            ax.text(left + 0.47, r + 0.47, f"{means[r, c]:.0f}", ha="right", fontsize=NORMAL, weight=weight, **text)
            ax.text(left + 0.52, r + 0.49, f"±{half[r, c]:.0f}", ha="left", fontsize=7.5, **text)
    for c, left in enumerate(gaps):
        node = goodness.nodes[columns[c]]
        top = depth[node] <= 1
        name = "\n".join(textwrap.wrap(node, 13, break_long_words=False))
        style: dict[str, Any] = {"weight": "bold", "color": _DOMAIN} if top else {"color": _SUBDOMAIN}
        ax.text(left + 0.48, -0.15, name, ha="center", va="bottom", fontsize=9.5 if top else SMALL, **style)
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
    ax.set_title("\n".join(textwrap.wrap(what, characters)), loc="left", fontsize=9.5, color=_NAME)
    return ax


def _right(goodness: NodeEstimates) -> str:
    """What Goodness is a share of: chance is subtracted if the tree has it."""
    return "questions right beyond chance" if any(goodness.tree.chance.values()) else "questions right"
