"""The picture of a scaling study: loss over the number of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk import pictures
from p2l_sdk.analysis.power_law import PowerLaw

if TYPE_CHECKING:
    import matplotlib.axes

_MARKERS = "osD^vP*X"
_BESIDE = 1.025  # factor between the marks of two lines, which would hide each other
End = tuple[float, float, str, tuple[float, float, float], str]  # of a line: y, x, its name, colour and mark
_LIMIT = 1.96  # standard errors: 95 %


@dataclass(frozen=True, eq=False)
class Line:
    """What is drawn of a model: its name, its law with the points, and the losses of the averaged leaderboards."""

    name: str
    law: PowerLaw
    averaged: np.ndarray


def draw(
    lines: Sequence[Line], best: int, title: str, factor: float, ax: matplotlib.axes.Axes | None
) -> matplotlib.axes.Axes:
    """Draw every line, dashed beyond its points up to `factor` times the prompts; the band is that of line `best`."""
    ax = pictures.axes_of_size(ax, 7.6, 5.0)
    colours, ends = _shades(len(lines)), []
    for number, line in enumerate(lines):
        law, colour, mark = line.law, colours[number], _MARKERS[number % len(_MARKERS)]
        beside = law.n * _BESIDE ** (number - (len(lines) - 1) / 2)
        ax.errorbar(beside, law.loss, _LIMIT * law.error, fmt=mark, color=colour, ms=5, lw=1, capsize=2, zorder=3)
        inside, beyond = np.geomspace(law.n[0], law.n[-1], 60), np.geomspace(law.n[-1], factor * law.n[-1], 40)
        ax.plot(inside, law.curve(inside), color=colour, lw=1.6)
        ax.plot(beyond, law.curve(beyond), color=colour, lw=1.3, ls="--")
        ends.append((float(law.curve(beyond)[-1]), float(beyond[-1]), line.name, colour, mark))
        if number == best:
            limits = [(n, x.low, x.high) for n in beyond for x in [law.at(float(n))] if x.low is not None]
            if limits:
                ax.fill_between(*np.array(limits, dtype=float).T, color=colour, alpha=0.15, lw=0)
    law, averaged = lines[best].law, lines[best].averaged
    ax.plot(law.n, averaged, color=pictures.ORANGE, lw=1.4)
    place, text = (float(law.n[-1]), float(averaged[-1])), "averaged leaderboard,\nthe same for every prompt"
    ax.annotate(
        text, place, (6, 0), textcoords="offset points", va="center", color=pictures.BROWN, fontsize=pictures.SMALL
    )
    ax.set_xscale("log")
    _ticks(ax, lines, factor)
    _bounds(ax, lines, best, factor)
    _name_lines(ax, ends)
    band = f"; shaded: 95 % limits of {lines[best].name}" if ax.collections and _has_band(lines[best], factor) else ""
    ax.set_xlabel(
        "prompts learned from\nmarks: means of the draws, with 95 % intervals (beside each other at the same size); "
        f"lines: fitted laws\ndashed: forecast{band}"
    )
    ax.xaxis.label.set_fontsize(pictures.SMALL)
    ax.set_ylabel("loss on held-out votes, nats a vote")
    ax.set_title(title, loc="left", fontsize=pictures.SMALL)
    return ax


def _shades(n: int) -> list[tuple[float, float, float]]:
    """Blues from pale to dark, told apart in grey too."""
    pale, dark = np.array([0.62, 0.74, 0.86]), np.array([0.05, 0.20, 0.38])
    shares = np.linspace(0.0, 1.0, n) if n > 1 else np.array([0.6])
    return [tuple(pale + share * (dark - pale)) for share in shares]


def _ticks(ax: matplotlib.axes.Axes, lines: Sequence[Line], factor: float) -> None:
    low, high = min(line.law.n[0] for line in lines), factor * max(line.law.n[-1] for line in lines)
    ladder = [m * 10**k for k in range(10) for m in (1, 3)]
    shown = [tick for tick in ladder if 0.95 * low <= tick <= 1.05 * high]
    ax.set_xticks(shown, [f"{tick:,}" for tick in shown])
    ax.minorticks_off()


def _bounds(ax: matplotlib.axes.Axes, lines: Sequence[Line], best: int, factor: float) -> None:
    """The losses, the forecasts and the band fill the height; a band that is wider than all of it leaves it."""
    values = [x for line in lines for x in (*(line.law.loss + _LIMIT * line.law.error), *line.averaged)]
    values += [float(line.law.curve(factor * line.law.n[-1:])[0]) for line in lines]
    low, high = min(values), max(values)
    height = high - low or 0.1
    band = lines[best].law.at(factor * float(lines[best].law.n[-1])).low
    low = low if band is None else min(low, max(band, low - height))
    ax.set_ylim(low - 0.06 * height, high + 0.06 * height)


def _has_band(line: Line, factor: float) -> bool:
    return line.law.at(factor * float(line.law.n[-1])).low is not None


def _name_lines(ax: matplotlib.axes.Axes, ends: list[End]) -> None:
    """Name each line at its right end, with its mark; names that would touch are moved apart, with a thin line to their
    own."""
    low, high = ax.get_ylim()
    apart, last = 0.046 * (high - low), -np.inf
    middle = float(np.mean([y for y, *_ in ends]))
    start = min(min(y for y, *_ in ends), middle - apart * (len(ends) - 1) / 2)
    places = []
    for y, *_ in sorted(ends):
        last = max(y if y > middle + apart * len(ends) / 2 else start, last + apart)
        places.append(last)
    for (y, x, name, colour, mark), place in zip(sorted(ends), places, strict=True):
        pieces: dict[str, Any] = {"color": colour, "clip_on": False}
        ax.plot((x, 1.13 * x, 1.2 * x), (y, place, place), lw=0.8, **pieces)
        ax.plot(1.25 * x, place, mark, ms=5, **pieces)
        ax.annotate(
            pictures.as_written(name),
            (1.25 * x, place),
            (6, 0),
            textcoords="offset points",
            va="center",
            color=pictures.INK,
            fontsize=pictures.SMALL,
            annotation_clip=False,
        )
