"""`Differences`: by how much each LLM is better in one category of prompts than in the others, with 95 % intervals.

A category's leaderboard is known up to what other prompts of it would have said. The difference of two is taken
relative to the mean LLM of each, so that a category that is hard for all moves none, and the errors are those of the
LLMs' relative strengths: the mean moves with every prompt too, and its error is not an LLM's own. The two groups of
prompts have nothing in common, so their variances add; with a handful of prompts a Student t distribution with Welch's
degrees of freedom makes the interval wide enough.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.leaderboards.leaderboard import Z_95, Leaderboard
from p2l_sdk.scorers.aggregate import PromptAggregate
from p2l_sdk.tabular import Tabular, html_table

if TYPE_CHECKING:
    import matplotlib.axes

_TOLD = 3  # LLMs of a category


@dataclass(frozen=True, eq=False)
class Side:
    """What is known of the LLMs' relative strengths on a group of prompts.

    Attributes:
        coefs: `(n_models,)` in logits, with mean 0.
        errors: `(n_models,)` standard errors from the prompts; inf for a single prompt.
        n: the effective number of prompts.
        kinds: `(n_kinds,)` mean share of each kind that the model recognises.
        group_variance: of the model's error for these prompts, in squared logits, as far as it does not concern all
            LLMs alike: its share of the variance among prompts is assumed.
    """

    coefs: np.ndarray
    errors: np.ndarray
    n: float
    kinds: np.ndarray
    group_variance: float

    @classmethod
    def of(cls, prompts: PromptAggregate, board: Leaderboard, relative_spread: float, work: float = 1.0) -> Side:
        """That of prompts and their leaderboard; `relative_spread` is that of all prompts, see `PromptAggregate`, and
        `work` the share of that of measuring how sure it is."""
        errors, n = prompts.statistics.relative_errors(board, work)
        coefs = board.coefs - board.coefs.mean()
        return cls(coefs, errors, n, prompts.kinds, prompts.group_variance * relative_spread)

    def less(self, other: Side, variance: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """By how much the coefs are higher here than on other prompts, and half the width of the 95 % intervals, both
        `(n_models,)` in logits.

        Args:
            other: of prompts that are not among these.
            variance: of the model's last layer, if it recognises kinds of prompt; see `EditableScorer.variance`.
        """
        own, others = np.square(self.errors), np.square(other.errors)
        known = np.isfinite(own) & np.isfinite(others)
        margins = np.full(len(own), np.inf)
        pair = own[known], others[known]
        margins[known] = t_95(welch(*pair, self.n, other.n)) * np.sqrt(sum(pair))
        model = np.full(len(own), self.group_variance + other.group_variance)
        if variance is not None:  # what both have of a kind has the same error in both
            model = model + np.square(self.kinds - other.kinds) @ variance[:, :-1].astype(np.float64).T
        return self.coefs - other.coefs, np.hypot(margins, Z_95 * np.sqrt(model))


def welch(a: np.ndarray, b: np.ndarray, n_a: float, n_b: float) -> np.ndarray:
    """Welch's degrees of freedom of a difference, from the squared standard errors and the numbers of prompts."""
    total = np.maximum(a + b, 1e-300)
    share_a, share_b = a / total, b / total
    return np.asarray(1.0 / (np.square(share_a) / max(n_a - 1.0, 1.0) + np.square(share_b) / max(n_b - 1.0, 1.0)))


def t_95(freedom: np.ndarray) -> np.ndarray:
    """The limit that a Student t variable keeps within in 95 of 100 cases; for degrees of freedom of 1 or more."""
    return np.interp(1.0 / np.asarray(freedom), *_limits_of_t())


@functools.cache
def _limits_of_t() -> tuple[np.ndarray, np.ndarray]:
    """The limits for some degrees of freedom f, as a function of 1 / f, in which they are smooth.

    With t = sqrt(f) tan(u), the density of u is proportional to cos(u)^(f - 1), which is integrated.
    """
    inverse, limits = np.linspace(0.002, 1.0, 200), [Z_95]
    u = np.linspace(0.0, np.pi / 2, 4000)
    for x in inverse.tolist():
        density = np.cos(u[:-1]) ** (1.0 / x - 1.0)
        mass = np.append(0.0, np.cumsum(density + np.append(density[1:], float(x == 1.0))))
        limits.append(float(np.tan(np.interp(0.95, mass / mass[-1], u)) / np.sqrt(x)))
    return np.append(0.0, inverse), np.array(limits)


@dataclass(frozen=True, eq=False, repr=False)
class Differences(Tabular):
    """By how many rating points each LLM is better in categories than elsewhere, relative to the mean LLM.

    Attributes:
        models: names of the LLMs.
        categories: name and number of prompts of each.
        against: what they are compared with: "all others", or a category.
        values, margins: `(n_categories, n_models)` rating points, and half the width of their 95 % intervals (each
            interval by itself; inf where a single prompt says nothing).
        overall: `(n_models,)` ratings over all prompts, by which LLMs are chosen for a picture.
    """

    models: tuple[str, ...]
    categories: tuple[tuple[str, int], ...]
    against: str
    values: np.ndarray
    margins: np.ndarray
    overall: np.ndarray

    @property
    def clear(self) -> np.ndarray:
        """`(n_categories, n_models)` which intervals do not hold 0."""
        return np.asarray(np.abs(self.values) > self.margins)

    @property
    def caption(self) -> str:
        """A one-line description."""
        n = len(self.categories)
        what = f"Category {self.categories[0][0]}" if n == 1 else f"{n} categories of prompts"
        return f"{what} against {self.against}: {len(self.models)} LLMs"

    def told(self, k: int, n: int = _TOLD) -> tuple[list[str], list[str]]:
        """The LLMs that are most clearly better, and worse, in category `k`: "NAME +31"; at most `n` of each."""
        order = sorted(np.flatnonzero(self.clear[k]), key=lambda i: -abs(self.values[k, i]))
        sides = [[i for i in order if self.values[k, i] * sign > 0][:n] for sign in (1, -1)]
        above, below = ([f"{self.models[i]} {self.values[k, i]:+.0f}" for i in side] for side in sides)
        return above, below

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each category and LLM: category, n_prompts, model, difference, low, high (None where the
        prompts are too few to tell) and clear."""
        return [
            {
                "category": name,
                "n_prompts": n,
                "model": model,
                "difference": float(self.values[k, i]),
                **self._limits(k, i),
                "clear": bool(self.clear[k, i]),
            }
            for k, (name, n) in enumerate(self.categories)
            for i, model in enumerate(self.models)
        ]

    def _limits(self, k: int, i: int) -> dict[str, float | None]:
        value, margin = float(self.values[k, i]), float(self.margins[k, i])
        known = bool(np.isfinite(margin))
        return {"low": value - margin if known else None, "high": value + margin if known else None}

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"against": self.against, "rows": self.rows()}

    def plot(self, ax: matplotlib.axes.Axes | None = None, *, llms: int = 15) -> matplotlib.axes.Axes:
        """Draw the differences as a map of categories and LLMs; those whose interval holds 0 are left white.

        Args:
            ax: where to draw; a new figure if not given.
            llms: how many LLMs are drawn: those with the highest overall rating.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures
        from p2l_sdk.analysis.heat_map import draw

        columns = np.argsort(-self.overall, kind="stable")[:llms]
        values = np.where(self.clear, self.values, np.nan)[:, columns]
        against = pictures.as_written(self.against)
        meaning = f"rating points better (+) or worse (-, hatched)\nthan on {against}, relative to the mean LLM"
        ax = draw(values, self.categories, [self.models[i] for i in columns], ax, meaning=meaning)
        best = "" if len(columns) == len(self.models) else f", the best {len(columns)} drawn"
        told = (
            "columns: the best LLM overall first; white: no clear difference\n"
            "(its 95 % interval, over prompts like these, holds 0). Each cell\n"
            f"by itself: of {values.size:,}, some {0.05 * values.size:.0f} would be coloured by chance"
        )
        ax.set_title(f"{self.caption}{best}\n{told}", loc="left", fontsize=pictures.SMALL)
        return ax

    def __repr__(self) -> str:
        lines = [self.caption]
        for k, (name, n) in enumerate(self.categories):
            said = ", ".join([name for side in self.told(k) for name in side]) or "no clear difference"
            lines.append(f"{n:>8,}  {name}: {said}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        cells = [
            [name, f"{n:,}", *(", ".join(side) for side in self.told(k))] for k, (name, n) in enumerate(self.categories)
        ]
        return html_table(self.caption, ["category", "prompts", "better than elsewhere", "worse"], cells)
