"""`Frontier`: what each budget buys, with the router and with single LLMs (as in Figure 5 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import matplotlib.axes


_MOST_NAMES = 15  # LLMs that are all named in a picture
_LINE = 0.03  # height of a name, as a share of the scores
_FAR = 50  # how many times as dear as the cheapest the dearest LLM is where the axis is one of magnitudes


@dataclass(frozen=True, eq=False)
class Frontier:
    """Mean cost and mean score over a set of prompts, for a range of budgets.

    Attributes:
        budgets: `(n_budgets,)` USD per response.
        router_costs, router_scores: `(n_budgets,)`, with one mean budget for all prompts.
        prompt_costs, prompt_scores: `(n_budgets,)`, with the same budget for each prompt.
        models: names of the LLMs.
        model_costs, model_scores: `(n_models,)`, when always calling that LLM.
        measured: whether the scores are true outcomes rather than the model's expectation.
        objective: what the router maximises.
    """

    budgets: np.ndarray
    router_costs: np.ndarray
    router_scores: np.ndarray
    prompt_costs: np.ndarray
    prompt_scores: np.ndarray
    models: tuple[str, ...]
    model_costs: np.ndarray
    model_scores: np.ndarray
    measured: bool
    objective: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        arrays = ("budgets", "router_costs", "router_scores", "prompt_costs", "prompt_scores")
        models = zip(self.models, self.model_costs.tolist(), self.model_scores.tolist(), strict=True)
        return {
            **{name: getattr(self, name).tolist() for name in arrays},
            "models": [{"model": name, "cost": cost, "score": score} for name, cost, score in models],
            "measured": self.measured,
            "objective": str(self.objective),
        }

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw the router's score against its mean cost, with the single LLMs as points, and the same budget for each
        prompt. Of many LLMs, only those are named that no other one beats in cost and score, as far as there is room.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        ax = pictures.axes_of_size(ax, 7.5, 4.8)
        thousand = 1000.0
        ax.plot(
            self.prompt_costs * thousand,
            self.prompt_scores,
            "--",
            color=pictures.GREY_BLUE,
            label="router, budget per prompt",
        )
        ax.plot(
            self.router_costs * thousand,
            self.router_scores,
            color=pictures.BLUE,
            lw=2.2,
            label="router, one mean budget",
        )
        ax.scatter(
            self.model_costs * thousand, self.model_scores, s=26, color=pictures.ORANGE, zorder=3, label="single LLM"
        )
        named = self._named()
        dearest, cheapest = (float(x) * thousand for x in (self.model_costs.max(), self.model_costs.min()))
        points = zip(self.models, self.model_costs * thousand, self.model_scores, strict=True)
        if cheapest > 0 and dearest > _FAR * cheapest:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:g}")
        for name, cost, score in (point for i, point in enumerate(points) if i in named):
            # names go where there is room: left of expensive LLMs, below the cheapest, right of the others
            offset, align = ((-6, 0), "right") if cost > 0.6 * dearest else ((6, 0), "left")
            if cost == cheapest < dearest:
                offset, align = (0, -11), "center"
            ax.annotate(
                name,
                (cost, score),
                offset,
                textcoords="offset points",
                ha=align,
                va="center",
                fontsize=8,
                color=pictures.BROWN,
            )
        ax.margins(x=0.1)
        ax.set_xlabel("mean cost, USD per 1,000 responses")
        ax.set_ylabel("measured score" if self.measured else f"expected {self.objective}".replace("_", " "))
        ax.legend(frameon=False, loc="center right")
        return ax

    def _named(self) -> set[int]:
        """The LLMs that are named in a picture."""
        if len(self.models) <= _MOST_NAMES:
            return set(range(len(self.models)))
        room = _LINE * float(np.ptp(self.model_scores))
        named: list[int] = []
        best = lowest = -np.inf
        for i in np.lexsort((-self.model_scores, self.model_costs)).tolist():  # the cheapest first
            best, better = max(best, self.model_scores[i]), self.model_scores[i] > best
            if better and self.model_scores[i] > lowest + room:
                named, lowest = [*named, i], self.model_scores[i]
        return set(named)
