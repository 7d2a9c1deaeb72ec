"""Pictures (needs matplotlib)."""

from __future__ import annotations

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
    span = frontier.model_scores.max() - frontier.model_scores.min()
    placed: list[tuple[float, float]] = []
    for i in np.argsort(-frontier.model_scores):
        x, y = float(frontier.model_costs[i]) * thousand, float(frontier.model_scores[i])
        for other_x, other_y in placed:  # names of LLMs of one price stand under each other
            if abs(x - other_x) < 1e-9 and other_y - y < 0.05 * span:
                y = other_y - 0.05 * span
        placed.append((x, y))
        right = x > 0.6 * float(frontier.model_costs.max()) * thousand
        ax.annotate(
            frontier.models[i],
            (x, y),
            xytext=(-6 if right else 6, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            fontsize=8,
            color="#7a3a14",
        )
    ax.set_xlabel("mean cost, USD per 1,000 responses")
    ax.set_ylabel("measured score" if frontier.measured else f"expected {frontier.objective}".replace("_", " "))
    ax.legend(frameon=False, loc="lower right")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise MissingExtraError("plot", "matplotlib", "data") from None
    return pyplot
