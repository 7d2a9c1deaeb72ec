"""Pictures (needs matplotlib)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from p2l_sdk.errors import MissingExtraError
from p2l_sdk.results import Leaderboard

if TYPE_CHECKING:
    import matplotlib.axes


def plot_leaderboard(board: Leaderboard, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
    """Ratings as horizontal bars from the lowest shown rating, best on top, with 95 % intervals where there are any.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError:
        raise MissingExtraError("plot", "matplotlib", "data") from None
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
