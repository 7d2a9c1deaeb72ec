"""Cost against quality on one prompt as SVG: single LLMs as points, the concave hull that mixtures of two reach (paper,
Theorem 1), and the budget on it. Colours come from style.css, which has a dark mode."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from html import escape

import numpy as np
from board_html import price
from scale import Scale, ticks

from p2l_sdk.routing.mixture import upper_hull

_WIDTH, _HEIGHT = 560.0, 330.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 12.0, 26.0, 42.0  # margins
_LINE = 14.0  # least distance between two labels
_BEND = 12  # points of a bent line
_MANY = 16  # with more LLMs, only those on the hull are labelled


def frontier_svg(
    names: Sequence[str], costs: np.ndarray, scores: np.ndarray, budget: float, chosen: tuple[float, float] | None
) -> str:
    """The plot as an HTML figure with inline SVG.

    Args:
        names: names of the LLMs that may be chosen.
        costs: `(n,)` USD per response.
        scores: `(n,)` probability of being preferred, in (0, 1).
        budget: USD per response.
        chosen: mean cost and score of what the budget buys; None if it buys nothing.
    """
    hull = upper_hull(scores, costs)
    scale = Scale(float(costs.min()), max(float(costs.max()), budget))
    margin = 0.1 * max(float(np.ptp(scores)), 0.02)
    low, high = float(scores.min()) - margin, float(scores.max()) + margin

    def x(cost: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (0.03 + 0.94 * scale.place(cost))

    def y(score: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * (score - low) / (high - low)

    points = [(x(float(c)), y(float(s))) for c, s in zip(costs, scores, strict=True)]
    parts = _axes(x, y, scale, low, high)
    line = [(x(cost), y(score)) for cost, score in _mixtures(costs[hull], scores[hull], scale.ratios)]
    line.append((x(scale.cost(1.0)), line[-1][1]))  # flat beyond the cost of the best LLM
    floor = y(low)
    area = [(line[0][0], floor), *line, (line[-1][0], floor)]
    parts.append(f'<polygon class="p2l-area" points="{_path(area)}"/>')
    parts.append(f'<polyline class="p2l-hull" points="{_path(line)}"/>')
    end = "end" if x(budget) > 0.75 * _WIDTH else "start"
    parts.append(
        f'<line class="p2l-budget" x1="{x(budget):.1f}" x2="{x(budget):.1f}" y1="{_TOP - 8:.1f}" y2="{floor:.1f}"/>'
        f'<text class="p2l-budget-text" x="{x(budget) + (5 if end == "start" else -5):.1f}" y="{_TOP - 12:.1f}" '
        f'text-anchor="{end}">your budget {price(budget)}</text>'
    )
    few = len(names) <= _MANY
    for i, (px, py) in enumerate(points):
        title = f"{escape(names[i])}: {price(float(costs[i]))}, {scores[i]:.0%}"
        kind, radius = ("p2l-point p2l-on-hull", 4.5) if i in hull else ("p2l-point", 4.5 if few else 2.5)
        parts.append(f'<circle class="{kind}" cx="{px:.1f}" cy="{py:.1f}" r="{radius}"><title>{title}</title></circle>')
    named = range(len(names)) if few else hull
    parts += _labels([(*points[i], names[i], i in hull) for i in named])
    if chosen is not None:
        parts.append(
            f'<circle class="p2l-chosen" cx="{x(chosen[0]):.1f}" cy="{y(chosen[1]):.1f}" r="8">'
            f"<title>what the budget buys: {price(chosen[0])}, {chosen[1]:.0%}</title></circle>"
        )
    best = " then ".join(escape(names[i]) for i in hull)
    return (
        f'<figure class="p2l-frontier"><svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" '
        f'aria-label="Cost against quality. From the cheapest to the best worth its price: {best}">'
        f"{''.join(parts)}</svg><figcaption>Points: single LLMs. Line: what each budget buys at best, a mixture of "
        "the two LLMs at the ends of that piece. Ring: what yours buys.</figcaption></figure>"
    )


def _mixtures(costs: np.ndarray, scores: np.ndarray, curved: bool) -> list[tuple[float, float]]:
    """Cost and score of the best mixtures, from the LLMs on the hull; on a scale of ratios, lines between them bend."""
    corners = list(zip(costs.tolist(), scores.tolist(), strict=True))
    if not curved:
        return corners
    between = [np.geomspace(a, b, _BEND, endpoint=False) for a, b in itertools.pairwise(costs)]
    along = np.concatenate([*between, costs[-1:]])
    return list(zip(along.tolist(), np.interp(along, costs, scores).tolist(), strict=True))


def _axes(x, y, scale: Scale, low: float, high: float) -> list[str]:
    parts = []
    for score in ticks(low, high, 5):
        parts.append(
            f'<line class="p2l-grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(score):.1f}" y2="{y(score):.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y(score) + 4:.1f}" text-anchor="end">{score:.0%}</text>'
        )
    floor = y(low)
    for cost in scale.ticks():
        parts.append(
            f'<line class="p2l-tick" x1="{x(cost):.1f}" x2="{x(cost):.1f}" y1="{floor:.1f}" y2="{floor + 4:.1f}"/>'
            f'<text x="{x(cost):.1f}" y="{floor + 17:.1f}" text-anchor="middle">{price(cost)}</text>'
        )
    parts.append(f'<line class="p2l-tick" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{floor:.1f}" y2="{floor:.1f}"/>')
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">cost per response</text>'
    )
    middle = (_TOP + floor) / 2
    parts.append(
        f'<text x="14" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 14 {middle:.1f})">'
        "chance to be preferred</text>"
    )
    return parts


def _labels(points: list[tuple[float, float, str, bool]]) -> list[str]:
    """Names next to their points (x, y, name, on the hull): to the right in the left half, otherwise to the left; moved
    apart where they would overlap."""
    parts = []
    for side, shift in (("start", 11.0), ("end", -11.0)):
        # the hull is rising and concave: below to the right of a point, and above to the left, is free of it
        mine = [
            (py + (_LINE * math.copysign(0.6, shift) if on_hull else 0.0), px, py, name, on_hull)
            for px, py, name, on_hull in points
            if (px < _WIDTH / 2) == (side == "start")
        ]
        mine.sort()
        places = apart([wish for wish, *_ in mine], _LINE, _HEIGHT - _BOTTOM - 6)
        for place, (wish, px, py, name, on_hull) in zip(places, mine, strict=True):
            if abs(place - wish) > 3.0:
                parts.append(
                    f'<line class="p2l-leader" x1="{px:.1f}" y1="{py:.1f}" x2="{px + shift:.1f}" y2="{place:.1f}"/>'
                )
            parts.append(
                f'<text class="p2l-label{" p2l-label-hull" if on_hull else ""}" x="{px + shift:.1f}" '
                f'y="{place + 4:.1f}" text-anchor="{side}">{escape(name)}</text>'
            )
    return parts


def apart(wishes: Sequence[float], distance: float, last: float) -> list[float]:
    """Increasing places close to increasing wishes, at least `distance` apart and at most `last`."""
    places: list[float] = []
    for wish in wishes:
        places.append(max(wish, places[-1] + distance) if places else wish)
    for i in reversed(range(len(places))):
        places[i] = min(places[i], last if i + 1 == len(places) else places[i + 1] - distance)
    return places


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
