"""A mean budget over an unknown stream of prompts, held by dual ascent.

Each prompt calls argmax(score - price * cost); after it the price of money moves with what was spent beyond the
budget, so the price is a multiple of the debt: what was spent so far beyond the budget. Debt is bounded by the highest
useful price, whatever the stream: the running mean cost exceeds the budget by at most highest price / (step * n) of
it. What was saved while the budget did not bind may be spent later.
"""

from __future__ import annotations

import numpy as np

from p2l_sdk.errors import P2LError
from p2l_sdk.routing import check_budget, check_points


class BudgetPacer:
    """Chooses one LLM per prompt so that the mean cost of the stream approaches the budget, and no more.

    Args:
        costs: `(n_models,)` USD per response.
        budget: mean USD per response.
        start: price before anything was spent, score per USD: that of a sample of the stream
            (`Allocation.multiplier`), if there is one; 0 overspends for the first prompts.
        step: how fast the price moves: by step / budget for a debt of one prompt's budget.

    Attributes:
        n: prompts so far.
        spent: USD so far.

    Raises:
        BudgetError: the budget is no finite number, or lies under the cheapest LLM.
    """

    def __init__(self, costs: np.ndarray, budget: float, *, start: float = 0.0, step: float = 0.02) -> None:
        costs = np.asarray(costs, dtype=np.float64)
        check_points(costs, costs)
        check_budget(float(costs.min()), budget)
        if not (start >= 0 and step > 0 and budget > 0):
            raise P2LError("the budget and the step must be above 0, the start at least 0")
        self.budget = budget
        self.n = 0
        self.spent = 0.0
        self._costs = costs
        self._start, self._slope = start, step / budget**2

    @property
    def mean_cost(self) -> float:
        """USD per response so far."""
        return self.spent / self.n if self.n else 0.0

    @property
    def multiplier(self) -> float:
        """Price of money now, score per USD; 0 where the budget does not bind."""
        return max(0.0, self._start + self._slope * (self.spent - self.n * self.budget))

    def choose(self, scores: np.ndarray) -> int:
        """Index of the LLM to call for a prompt with these scores `(n_models,)`; call `record` with what it cost."""
        check_points(scores, self._costs)
        return int(np.argmax(scores - self.multiplier * self._costs))

    def record(self, cost: float) -> None:
        """Take note of what a response cost, USD."""
        if not (np.isfinite(cost) and cost >= 0):
            raise P2LError(f"the response cost {cost}; it must be a finite number >= 0, USD")
        self.n += 1
        self.spent += cost

    def correct(self, recorded: float, cost: float | None) -> None:
        """Put what a response did cost in the place of what was recorded for it; None if there was no response.

        Where many responses are under way at once, their expected costs are recorded when they are chosen: the price
        of money would else be that of a stream long past.
        """
        if cost is None:
            self.n -= 1
            self.spent -= recorded
            return
        self.record(cost)
        self.n -= 1
        self.spent -= recorded
