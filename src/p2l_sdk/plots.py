"""Plots (need matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import MissingExtraError, P2LError

if TYPE_CHECKING:
    import matplotlib.axes

    from p2l_sdk.evaluation import SubsetStudy
    from p2l_sdk.frontier import Frontier
    from p2l_sdk.metrics import Reliability
    from p2l_sdk.results import Leaderboard

_PICTURES = (".png", ".pdf", ".svg")


def plot_leaderboard(board: Leaderboard, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
    """Plot ratings as horizontal bars, best on top, with 95 % intervals if there are any.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    pyplot = require_pyplot()
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


def plot_reliability(curve: Reliability, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
    """Plot how often the favourite of a pair won against the predicted probability, with 95 % intervals.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    pyplot = require_pyplot()
    if ax is None:
        _, ax = pyplot.subplots(figsize=(4.8, 4.8), layout="constrained")
    ax.plot([0.0, 1.0], [0.0, 1.0], "--", color="#999999", lw=1, label="perfectly calibrated")
    errors = 1.96 * np.nan_to_num(curve.standard_error)
    ax.errorbar(
        curve.probability,
        curve.frequency,
        yerr=[np.minimum(errors, curve.frequency), np.minimum(errors, 1.0 - curve.frequency)],
        fmt="o-",
        color="#1f5f99",
        ecolor="#7a9cc0",
        ms=4.5,
        lw=1.6,
        label=f"model, ECE {curve.ece:.3f}",
    )
    low = max(0.0, min(curve.probability.min(), (curve.frequency - errors).min(), 0.5) - 0.02)
    ax.set(xlim=(low, 1.01), ylim=(low, 1.01), aspect="equal")
    ax.set_xlabel("predicted chance that the favourite wins")
    ax.set_ylabel("share of votes that it won")
    ax.set_title("Calibration on decisive votes", loc="left", fontsize=10)
    ax.legend(frameon=False, loc="lower right")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_subset_sizes(study: SubsetStudy, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
    """Plot, for random subsets of prompts, the distance of the model's aggregate and of a fit to the subset's votes
    alone from the leaderboard of all votes, against the subset size; the bands hold 95 % of the subsets.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    pyplot = require_pyplot()
    if ax is None:
        _, ax = pyplot.subplots(figsize=(6.4, 4.8), layout="constrained")
    sizes = [point.size for point in study.points]
    lines = (("model", "#1f5f99", "o-", "model's aggregate, no votes"), ("votes", "#b5541c", "s-", "their votes alone"))
    for side, colour, style, label in lines:
        ranges = [getattr(point, side)["preference_l1"] for point in study.points]
        low, mean, high = ([getattr(r, name) for r in ranges] for name in ("low", "mean", "high"))
        ax.fill_between(sizes, low, high, color=colour, alpha=0.15, lw=0)
        ax.plot(sizes, mean, style, color=colour, ms=4.5, lw=1.8, label=label)
    ax.set_xscale("log")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.minorticks_off()
    ax.set_ylim(bottom=0.0)
    ax.set_xlabel(f"prompts in the subset, of {study.n_prompts:,}")
    ax.set_ylabel("mean difference of pair probabilities to all votes")
    ax.set_title(f"Random subsets of prompts, {study.trials} of each size", loc="left", fontsize=10)
    ax.legend(frameon=False, loc="upper right")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def save_evaluation(path: str, curve: Reliability, study: SubsetStudy | None = None) -> None:
    """Save the reliability curve, with the study of subsets beside it if there is one, as a .png, .pdf or .svg file.

    Raises:
        MissingExtraError: matplotlib is not installed.
        P2LError: the file has another suffix, or cannot be written.
    """
    check_picture(path)
    pyplot = require_pyplot()
    widths = [4.8] if study is None else [4.8, 6.0]
    figure, axes = pyplot.subplots(
        1, len(widths), figsize=(sum(widths), 4.8), width_ratios=widths, layout="constrained", squeeze=False
    )
    plot_reliability(curve, axes[0, 0])
    if study is not None:
        plot_subset_sizes(study, axes[0, 1])
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise P2LError(f"{path!r} cannot be written: {error.strerror or error}") from error
    finally:
        pyplot.close(figure)


def check_picture(path: str) -> None:
    """Raise the error that `save_evaluation` would raise for this file name, before anything is computed."""
    if not path.lower().endswith(_PICTURES):
        raise P2LError(f"{path!r} is no name of a picture; known endings: {', '.join(_PICTURES)}")
    require_pyplot()


def plot_frontier(frontier: Frontier, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
    """Plot the router's score against its mean cost, with the single LLMs and the same budget for each prompt.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    pyplot = require_pyplot()
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
        # names go where there is room: left of expensive LLMs, below the cheapest, right of the others
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
    """Plot training and validation loss against the step, with the averaged leaderboard's validation loss as a line.

    Args:
        history: the Trainer's logs, with `step` and `loss` or `eval_loss`.
        baseline: validation loss of the averaged leaderboard, the one to beat.
        unit: unit of the losses.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    pyplot = require_pyplot()
    if ax is None:
        _, ax = pyplot.subplots(figsize=(7.5, 4.2), layout="constrained")
    styles: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("loss", "training", {"color": "#9db8d2", "lw": 1.2}),
        ("eval_loss", "validation", {"color": "#1f5f99", "lw": 2.2, "marker": "o", "ms": 4}),
    )
    for key, label, style in styles:
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
    """Save a plot and close its figure."""
    figure: Any = ax.figure
    figure.savefig(path, dpi=120)
    require_pyplot().close(figure)


def require_pyplot() -> Any:
    """matplotlib.pyplot; `MissingExtraError` if matplotlib is not installed."""
    try:
        from matplotlib import pyplot
    except ImportError:
        raise MissingExtraError("plot", "matplotlib", "data") from None
    return pyplot
