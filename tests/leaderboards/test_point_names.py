"""Names beside points in pictures."""

from __future__ import annotations

import numpy as np
import pytest

pyplot = pytest.importorskip("matplotlib.pyplot")

from p2l_sdk import pictures  # noqa: E402


def test_names_meet_no_error_bar():
    """A long name on the left has its usual places beside the bars of two points at its right; a legend below makes
    the axes lower than they were."""
    figure, ax = pyplot.subplots(figsize=(7.5, 5.2), layout="constrained")
    x, y = np.array([0.1, 0.2, 0.2]), np.array([0.52, 0.54, 0.35])
    bars = np.column_stack([y - 0.055, y + 0.055])
    ax.errorbar(x, y, 0.055, fmt="o")
    ax.set(xlim=(0.0, 0.9), ylim=(0.1, 0.9), xlabel="cost", ylabel="score")
    figure.legend(["one", "two"], title="three\nlines\nhere", loc="outside lower center")
    pictures.name_points(ax, x, y, ["gemma-2-9b-instruct", "b", "c"], pictures.BROWN, [0, 1, 2], bars)
    figure.draw_without_rendering()
    for text in ax.texts:
        name = text.get_window_extent()
        for at, (low, high) in zip(x, bars, strict=True):
            (left, bottom), (_, top) = ax.transData.transform([(at, low), (at, high)])
            assert not (name.x0 <= left <= name.x1 and name.y0 < top and bottom < name.y1), text.get_text()
    pyplot.close(figure)
