"""Pictures (needs matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import MissingExtraError

if TYPE_CHECKING:
    import matplotlib.axes

    from p2l_sdk.frontier import Frontier
    from p2l_sdk.results import Leaderboard


def plot_leaderboard(board: Leaderboard, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
    """Ratings as horizontal bars from the lowest shown rating, best on top, with 95 % intervals where there are any.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    pyplot = _pyplot()
    order = board.order[::-1]
    ratings, intervals = board.ratings[order], board.rating_intervals
    if ax is None:
        _, ax = pyplot.subplots(figsize=(7.5, 0.8 + 0.32 * len(order)), layout="constrained")
    lowest = ratings.min() if intervals is None else intervals.min()
    highest = ratings.max() if intervals is None else intervals.max()
    left = lowest - 0.08 * max(highest - lowest, 1.0)
    errors = None
    if intervals is not None:
        errors = np.maximum(np.stack([ratings - intervals[order, 0], intervals[order, 1] - ratings]), 0.0)
    colours = ["#9db8d2"] * (len(order) - 1) + ["#1f5f99"]
    ax.barh([board.models[i] for i in order], ratings - left, left=left, color=colours, xerr=errors, ecolor="#333333")
    ends = ratings if intervals is None else intervals[order, 1]
    for y, (end, rating) in enumerate(zip(ends, ratings, strict=True)):
        ax.annotate(f"{rating:.0f}", (end, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_xlim(left, highest + 0.12 * max(highest - left, 1.0))
    ax.set_xlabel("rating (400 points are odds of 10 to 1)")
    ax.set_title(board.caption, loc="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_frontier(frontier: Frontier, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
    """The router's score over its mean cost, beside the single LLMs and the same budget for each prompt.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    pyplot = _pyplot()
    if ax is None:
        _, ax = pyplot.subplots(figsize=(7.5, 4.8), layout="constrained")
    thousand = 1000.0
    ax.plot(
        frontier.prompt_costs * thousand,
        frontier.prompt_scores,
        "--",
        color="#7a9cc0",
        label="router, budget per prompt",
    )
    ax.plot(
        frontier.router_costs * thousand,
        frontier.router_scores,
        color="#1f5f99",
        lw=2.2,
        label="router, one mean budget",
    )
    ax.scatter(
        frontier.model_costs * thousand, frontier.model_scores, s=26, color="#b5541c", zorder=3, label="single LLM"
    )
    dearest, cheapest = (float(x) * thousand for x in (frontier.model_costs.max(), frontier.model_costs.min()))
    for name, cost, score in zip(frontier.models, frontier.model_costs * thousand, frontier.model_scores, strict=True):
        # names stand where there is room: left of dear LLMs, under the cheapest, right of the others
        offset, align = ((-6, 0), "right") if cost > 0.6 * dearest else ((6, 0), "left")
        if cost == cheapest < dearest:
            offset, align = (0, -11), "center"
        ax.annotate(
            name, (cost, score), offset, textcoords="offset points", ha=align, va="center", fontsize=8, color="#7a3a14"
        )
    ax.margins(x=0.1)
    ax.set_xlabel("mean cost, USD per 1,000 responses")
    ax.set_ylabel("measured score" if frontier.measured else f"expected {frontier.objective}".replace("_", " "))
    ax.legend(frameon=False, loc="center right")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_learning_curve(
    history: Sequence[Mapping[str, float]],
    baseline: float | None = None,
    ax: matplotlib.axes.Axes | None = None,
    *,
    unit: str = "nats per vote",
) -> matplotlib.axes.Axes:
    """Training and validation loss over the steps, the averaged leaderboard's validation loss as a line.

    Args:
        history: the Trainer's logs: `step`, and `loss` or `eval_loss`.
        baseline: what the model has to beat.
        unit: of the losses.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    pyplot = _pyplot()
    if ax is None:
        _, ax = pyplot.subplots(figsize=(7.5, 4.2), layout="constrained")
    for key, label, style in (
        ("loss", "training", {"color": "#9db8d2", "lw": 1.2}),
        ("eval_loss", "validation", {"color": "#1f5f99", "lw": 2.2, "marker": "o", "ms": 4}),
    ):
        points = [(entry["step"], entry[key]) for entry in history if key in entry]
        if points:
            ax.plot(*zip(*points, strict=True), label=label, **style)
    if baseline is not None:
        ax.axhline(baseline, color="#b5541c", ls="--", label=f"averaged leaderboard ({baseline:.3f})")
    ax.set_xlabel("step")
    ax.set_ylabel(f"loss, {unit}")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def save_plot(ax: matplotlib.axes.Axes, path: Path) -> None:
    """Write a picture and free it."""
    ax.figure.savefig(path, dpi=120)
    _pyplot().close(ax.figure)


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise MissingExtraError("plot", "matplotlib", "data") from None
    return pyplot
