"""The learning curve of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from p2l_sdk.pictures import BLUE, ORANGE, PALE_BLUE, axes_of_size

if TYPE_CHECKING:
    import matplotlib.axes


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
    ax = axes_of_size(ax, 7.5, 4.2)
    styles: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("loss", "training", {"color": PALE_BLUE, "lw": 1.2}),
        ("eval_loss", "validation", {"color": BLUE, "lw": 2.2, "marker": "o", "ms": 4}),
    )
    for key, label, style in styles:
        points = [(entry["step"], entry[key]) for entry in history if key in entry]
        if points:
            ax.plot(*zip(*points, strict=True), label=label, **style)
    if baseline is not None:
        ax.axhline(baseline, color=ORANGE, ls="--", label=f"averaged leaderboard ({baseline:.3f})")
    ax.set_xlabel("step")
    ax.set_ylabel(f"loss, {unit}")
    ax.legend(frameon=False)
    return ax
