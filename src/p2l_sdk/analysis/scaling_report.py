"""`Scaling`: the losses of a scaling study, and the law of each of its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.analysis.power_law import Interval, PowerLaw, fit_power_law
from p2l_sdk.analysis.scaling_points import Point
from p2l_sdk.tabular import Tabular, html_table

if TYPE_CHECKING:
    import matplotlib.axes

FACTOR = 10.0  # times the prompts that a forecast is for
_BACKTEST = 3  # sizes at least that a law is fitted to


@dataclass(frozen=True)
class Backtest:
    """A law through all sizes but the two largest, asked for the largest one.

    Attributes:
        up_to: the largest size that it was fitted to.
        n_prompts: the size that it was asked for.
        forecast: what it said, with its limits.
        measured: the mean loss.
    """

    up_to: int
    n_prompts: int
    forecast: Interval
    measured: float

    @classmethod
    def of(cls, losses: Mapping[int, Sequence[float]], pool: int, level: float) -> Backtest | None:
        """From the losses of the seeds by number of prompts; None for fewer than 5 sizes."""
        if len(losses) < _BACKTEST + 2:
            return None
        *known, _, asked = sorted(losses)
        law = fit_power_law({size: losses[size] for size in known}, pool=pool, level=level)
        return cls(known[-1], asked, law.at(asked), float(np.mean(losses[asked])))


@dataclass(frozen=True, eq=False)
class Curve:
    """One model, over the numbers of prompts.

    Attributes:
        base, width, per_prompt: see `Cell`.
        parameters: number of weights of a static model's head, or of a text backbone.
        law: the fitted law, with the mean losses and their standard errors.
        averaged: `(n_sizes,)` mean losses of the averaged leaderboards of the same votes.
        backtest: how well fewer sizes would have forecast the largest; None for fewer than 5 sizes.
    """

    base: str
    width: int | None
    per_prompt: int | None
    parameters: int
    law: PowerLaw
    averaged: np.ndarray
    backtest: Backtest | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        rows = zip(self.law.n, self.law.loss, self.law.error, self.averaged, strict=True)
        named = ("n_prompts", "loss", "standard_error", "averaged_loss")
        sizes = [{**dict(zip(named, map(float, row), strict=True)), "n_prompts": int(row[0])} for row in rows]
        tried = None if self.backtest is None else asdict(self.backtest)
        keys = {name: getattr(self, name) for name in ("base", "width", "per_prompt", "parameters")}
        return {**keys, "sizes": sizes, "law": self.law.to_dict(FACTOR), "backtest": tried}


@dataclass(frozen=True, eq=False, repr=False)
class Scaling(Tabular):
    """A scaling study.

    Attributes:
        curves: one for each base, width and number of votes a prompt.
        points: everything that was trained.
        n_pool: number of prompts that the parts were drawn from.
        n_held_out: number of prompts that were measured on.
        level: of the intervals.
    """

    curves: tuple[Curve, ...]
    points: tuple[Point, ...]
    n_pool: int
    n_held_out: int
    level: float

    @classmethod
    def of(cls, points: Sequence[Point], *, n_pool: int, n_held_out: int, level: float) -> Scaling:
        """Fit a law to the points of each model."""
        parts: dict[tuple[Any, ...], list[Point]] = {}
        for point in points:
            parts.setdefault((point.base, point.width, point.per_prompt), []).append(point)
        curves = []
        for (base, width, per_prompt), part in parts.items():
            losses: dict[int, list[float]] = {}
            averaged: dict[int, list[float]] = {}
            for point in part:
                losses.setdefault(point.n_prompts, []).append(point.loss)
                averaged.setdefault(point.n_prompts, []).append(point.averaged_loss)
            law = fit_power_law(losses, pool=n_pool, level=level)
            means = np.array([np.mean(averaged[size]) for size in sorted(averaged)])
            curves.append(
                Curve(base, width, per_prompt, part[0].parameters, law, means, Backtest.of(losses, n_pool, level))
            )
        return cls(tuple(curves), tuple(points), n_pool, n_held_out, level)

    @property
    def best(self) -> Curve:
        """The model with the lowest loss at its largest number of prompts."""
        return min(self.curves, key=lambda curve: float(curve.law.loss[-1]))

    def name(self, curve: Curve) -> str:
        """What tells a curve from the others, in a few words."""
        parts = [curve.base] if curve.width is None or len({x.base for x in self.curves}) > 1 else []
        votes = len({x.per_prompt for x in self.curves}) > 1
        if curve.width is not None and (not votes or len({x.width for x in self.curves}) > 1):
            parts.append(f"width {curve.width:,}")
        if votes:
            n = curve.per_prompt
            parts.append("all votes" if n is None else f"{n:,} vote{'' if n == 1 else 's'} a prompt")
        return ", ".join(parts)

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each training."""
        return [asdict(point) for point in self.points]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "n_pool": self.n_pool,
            "n_held_out": self.n_held_out,
            "level": self.level,
            "curves": [curve.to_dict() for curve in self.curves],
            "points": self.rows(),
        }

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw the losses, the laws through them, and how these go on to ten times the prompts.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk.analysis.scaling_picture import Line, draw

        lines = [Line(self.name(curve), curve.law, curve.averaged) for curve in self.curves]
        return draw(lines, self.curves.index(self.best), self._title, FACTOR, ax)

    @property
    def caption(self) -> str:
        """A one-line description."""
        seeds = len({point.seed for point in self.points})
        models = f"{len(self.curves)} model{'' if len(self.curves) == 1 else 's'}"
        return (
            f"{models} on parts of {self.n_pool:,} prompts, {seeds} draw{'' if seeds == 1 else 's'} of each size, "
            f"measured on {self.n_held_out:,} others"
        )

    @property
    def _title(self) -> str:
        law = self.best.law
        now, more = law.at(law.n[-1]), law.at(FACTOR * law.n[-1])
        doubt = "; see the warnings" if law.warnings else ""
        return (
            f"{self.caption}\n{self.name(self.best)}: {now.value:.3f} nats with {law.n[-1]:,.0f} prompts, forecast "
            f"{said(more)} with {FACTOR * law.n[-1]:,.0f}{doubt}"
        )

    @property
    def headline(self) -> str:
        """What ten times the prompts would bring to the best model."""
        law = self.best.law
        now, more, gain = law.at(law.n[-1]), law.at(FACTOR * law.n[-1]), law.gain(FACTOR)
        return (
            f"{self.name(self.best)}: {now.value:.3f} nats with {law.n[-1]:,.0f} prompts; {FACTOR:.0f} times as many "
            f"would bring {said(more)}, a gain of {said(gain)}"
        )

    @property
    def check(self) -> str:
        """How well fewer sizes forecast the largest one, for the best model; empty for fewer than 5 sizes."""
        if (tried := self.best.backtest) is None:
            return ""
        return (
            f"check: a law through the sizes up to {tried.up_to:,} says {said(tried.forecast)} for "
            f"{tried.n_prompts:,}; measured {tried.measured:.3f}"
        )

    def __repr__(self) -> str:
        lines = [self.caption]
        for curve in self.curves:
            cells = _cells(curve)
            lines.append(f"{self.name(curve)}: " + "; ".join(f"{name} {cell}" for name, cell in cells.items()))
            lines += [f"  warning: {text}" for text in curve.law.warnings]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        header = ["model", *_cells(self.curves[0]), "warnings"]
        cells = [[self.name(curve), *_cells(curve).values(), "; ".join(curve.law.warnings)] for curve in self.curves]
        return html_table(self.caption, header, cells)


def _cells(curve: Curve) -> dict[str, str]:
    law = curve.law
    return {
        f"loss with {law.n[-1]:,.0f} prompts": f"{law.loss[-1]:.4f}",
        "exponent": said(law.exponent, 2),
        "floor": said(law.floor),
        "ten times the prompts": said(law.at(FACTOR * law.n[-1])),
    }


def said(interval: Interval, digits: int = 3) -> str:
    """An estimate with its limits, in words."""
    value, low, high = (None if x is None else f"{x:.{digits}f}" for x in vars(interval).values())
    if value is None:
        return "none" if high is None else f"none (at most {high})"
    if low is None and high is None:
        return f"{value} (no limits)"
    if low is None:
        return f"{value} (at most {high})"
    return f"{value} (at least {low})" if high is None else f"{value} ({low} to {high})"
