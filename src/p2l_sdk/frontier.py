"""`Frontier`: what each budget buys, with the router and with single LLMs (as in Figure 5 of the paper)."""

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
        """Draw the router's curve and the single LLMs as points (needs matplotlib)."""
        from p2l_sdk.plots import plot_frontier

        return plot_frontier(self, ax)
