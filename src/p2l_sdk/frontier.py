"""`Frontier`: what every budget buys, the router beside the single LLMs (as the paper's Figure 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import matplotlib.axes


@dataclass(frozen=True, eq=False)
class Frontier:
    """Mean cost and mean score over a set of prompts, for a range of budgets.

    Attributes:
        budgets: `(n_budgets,)` USD per response.
        router_costs, router_scores: `(n_budgets,)` with one mean budget for all prompts.
        prompt_costs, prompt_scores: `(n_budgets,)` with the same budget for each prompt.
        models: names of the LLMs; model_costs, model_scores: `(n_models,)` of always calling that one.
        measured: whether the scores are true outcomes, or the model's own expectation.
        objective: what the router chooses by.
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
        """Plain JSON values."""
        arrays = ("budgets", "router_costs", "router_scores", "prompt_costs", "prompt_scores")
        models = zip(self.models, self.model_costs.tolist(), self.model_scores.tolist(), strict=True)
        return {
            **{name: getattr(self, name).tolist() for name in arrays},
            "models": [{"model": name, "cost": cost, "score": score} for name, cost, score in models],
            "measured": self.measured,
            "objective": str(self.objective),
        }

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draws the curve of the router and the points of the single LLMs (needs matplotlib)."""
        from p2l_sdk.plots import plot_frontier

        return plot_frontier(self, ax)
