"""Where points and their labels stand in a picture: clear of each other, and of the line of the front."""

from __future__ import annotations

from typing import Any

import numpy as np

_CHARACTER_SHARE = 0.0102  # of the axes' width, for a bold character


def side_by_side(x: np.ndarray, y: np.ndarray, step: float) -> np.ndarray:
    """`(n,)` small shifts that separate the bars of points with the same x."""
    shift = np.zeros(len(x))
    for value in np.unique(x):
        same = np.flatnonzero(x == value)
        shift[same[np.argsort(-y[same])]] = step * np.arange(len(same))
    return shift


def label_ends(x: np.ndarray, lengths: list[int], side: np.ndarray, named: np.ndarray) -> np.ndarray:
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


def above(
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


def apart(x: np.ndarray, y: np.ndarray, near: float, least: float) -> np.ndarray:
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
