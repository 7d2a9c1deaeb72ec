"""`Categories`: one leaderboard for each category of prompts, their differences, and a router's choice in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.analysis.choices import Choices, SampledPrompts, choices_of
from p2l_sdk.analysis.differences import Differences, Side
from p2l_sdk.analysis.report import POINTS
from p2l_sdk.errors import P2LError, did_you_mean
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.names import find_models
from p2l_sdk.routing.router import Router
from p2l_sdk.scorers.aggregate import PromptAggregate
from p2l_sdk.tabular import Tabular, html_table

if TYPE_CHECKING:
    import matplotlib.axes

_DRAWN = 6  # LLMs in a picture
_OF_OTHERS = 0.1  # of the work of measuring errors: they are small, and anew for each category
SEEDS = 1009  # statistics that are merged need different seeds: those of an analysis' categories come before this one


@dataclass(frozen=True, eq=False, repr=False)
class Categories(Tabular):
    """One leaderboard for each category of prompts.

    Attributes:
        models: names of the LLMs.
        boards: category -> its leaderboard, as `P2L.aggregate` gives it; the category with the most prompts first.
        overall: the leaderboard of all these prompts.
        costs: USD per response, as far as they are known.
        left_out: how many prompts had no category.
    """

    models: tuple[str, ...]
    boards: Mapping[str, Leaderboard]
    overall: Leaderboard
    costs: Mapping[str, float]
    left_out: int
    _kept: Mapping[str, PromptAggregate] = field(repr=False)
    _variance: np.ndarray | None = field(repr=False)
    _sampled: SampledPrompts = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The categories, the one with the most prompts first."""
        return tuple(self.boards)

    @property
    def n_prompts(self) -> int:
        """How many prompts have a category."""
        return self.overall.n_prompts

    def __getitem__(self, category: str) -> Leaderboard:
        """The leaderboard of a category; P2LError if there is none of this name."""
        return self.boards[self.find(category)]

    def find(self, category: str) -> str:
        """The name of a category, given in any letter case; P2LError if there is none."""
        near = [name for name in self.boards if name == category] or [
            name for name in self.boards if name.casefold() == str(category).strip().casefold()
        ]
        if len(near) != 1:
            raise P2LError(f"there is no category {category!r}; {did_you_mean(category, self.boards)}")
        return near[0]

    @cached_property
    def differences(self) -> Differences:
        """By how much each LLM is better in each category than on the prompts of all others."""
        others = {}
        for name in self.boards:
            rest = PromptAggregate.merged([kept for other, kept in self._kept.items() if other != name], SEEDS - 1)
            others[name] = Side.of(rest, rest.board(intervals=False), self._relative, _OF_OTHERS)
        return self._differences(self.names, others, "all others")

    def between(self, a: str, b: str) -> Differences:
        """By how much each LLM is better in category a than in b.

        Raises:
            P2LError: there is no such category, or both are the same.
        """
        a, b = self.find(a), self.find(b)
        if a == b:
            raise P2LError(f"both categories are {a!r}; a difference is of two")
        return self._differences((a,), {a: self._side(self._kept[b], self.boards[b])}, b)

    @cached_property
    def _relative(self) -> float:
        return PromptAggregate.merged(list(self._kept.values()), SEEDS - 1).relative_spread

    def _side(self, prompts: PromptAggregate, board: Leaderboard) -> Side:
        return Side.of(prompts, board, self._relative)

    def _differences(self, names: Sequence[str], others: Mapping[str, Side], against: str) -> Differences:
        pairs = [(self._side(self._kept[name], self.boards[name]), others[name]) for name in names]
        values, margins = zip(*(own.less(other, self._variance) for own, other in pairs), strict=True)
        sizes = tuple((name, self.boards[name].n_prompts) for name in names)
        in_points = POINTS * np.stack(values), POINTS * np.stack(margins)
        return Differences(self.models, sizes, against, *in_points, self.overall.ratings)

    def choices(self, router: Router, budgets: Sequence[float | None] | None = None) -> Choices:
        """Which LLMs a router calls in each category, and how often (as in Figure 4 of the paper).

        Args:
            router: `p2l.router(models=[...], ...)`. With the policy "optimal", one mean budget is for all prompts, of
                which more is spent where it helps most; with "strict", the LLM of each prompt costs no more than the
                budget.
            budgets: USD per response, None for the best LLM at any cost (as without budgets). Of more than 10,000
                prompts, the shares are those of a random sample.

        Raises:
            BudgetError: a budget is below the cost of the cheapest LLM, or no number.
            CostError: an LLM that may be chosen has no cost.
        """
        return choices_of(router, self._sampled, self.names, budgets)

    def chosen(self, llms: Sequence[str] | int = _DRAWN) -> list[int]:
        """The LLMs that a table or a picture shows, the best first.

        Args:
            llms: names; or how many: the best overall, and of the categories' best those that are best in most prompts.
        """
        ratings = self.overall.ratings
        if not isinstance(llms, int):
            found = find_models(llms, self.models, "the LLMs to show")
            return [self.models.index(own) for own in dict.fromkeys(found.values())]
        best = dict.fromkeys(int(board.coefs.argmax()) for board in self.boards.values())
        order = dict.fromkeys([int(self.overall.order[0]), *best, *self.overall.order.tolist()])
        return sorted(list(order)[:llms], key=lambda i: -ratings[i])

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each category and LLM: category, n_prompts, rank, model, coef, rating, low, high."""
        return [
            {"category": name, "n_prompts": board.n_prompts, **row}
            for name, board in self.boards.items()
            for row in board.rows()
        ]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "n_prompts": self.n_prompts,
            "left_out": self.left_out,
            "categories": {name: board.to_dict() for name, board in self.boards.items()},
            "overall": self.overall.to_dict(),
            "differences": self.differences.to_dict(),
        }

    def plot(
        self, ax: matplotlib.axes.Axes | None = None, *, llms: Sequence[str] | int = _DRAWN
    ) -> matplotlib.axes.Axes:
        """Draw the ratings of some LLMs in each category, with 95 % intervals.

        Args:
            ax: where to draw; a new figure if not given.
            llms: names of LLMs; or how many are drawn: the best overall, and the best ones of the categories.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures
        from p2l_sdk.analysis.category_pictures import draw_leaderboards

        chosen = self.chosen(llms)
        ax = draw_leaderboards(self.boards, chosen, ax)
        shown = "" if len(chosen) == len(self.models) else f", {len(chosen)} of them drawn"
        ax.set_title(f"{self.caption}{shown}", loc="left", fontsize=pictures.NORMAL)
        return ax

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"{len(self.boards)} categories of {self.n_prompts:,} prompts, {len(self.models)} LLMs"

    def best(self, category: str, n: int = 2) -> list[dict[str, Any]]:
        """The best LLMs of a category: the first rows of its leaderboard."""
        return self[category].rows()[:n]

    def __repr__(self) -> str:
        width = max(map(len, self.names))
        lines = [self.caption]
        for name, board in self.boards.items():
            best = ", ".join(f"{row['model']} {row['rating']:.0f}" for row in self.best(name))
            lines.append(f"{board.n_prompts:>8,}  {name:{width}}  {best}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        cells = []
        for name, board in self.boards.items():
            best = [text for row in self.best(name) for text in (row["model"], f"{row['rating']:.0f}")]
            cells.append([name, f"{board.n_prompts:,}", *best])
        return html_table(self.caption, ["category", "prompts", "best LLM", "rating", "second", "rating"], cells)
