"""A mean budget over a stream of prompts that is not known in advance, held by dual ascent.

Each prompt calls argmax(score - price * cost). The price of money rises linearly with the debt: what has been spent
beyond the budget so far. Above some highest useful price every prompt calls the cheapest LLM, so the debt is bounded
for any stream: after n prompts, the mean cost exceeds the budget by at most highest price * budget**2 / (step * n),
plus 1 / n of the cost of one response. What was saved while the budget did not bind may be spent later.
"""

from __future__ import annotations

import numpy as np

from p2l_sdk.errors import P2LError
from p2l_sdk.modeling.limits_p2l import shown
from p2l_sdk.modeling.number_p2l import to_number
from p2l_sdk.routing.mixture import check_budget, check_points

_MOST = 1e200  # budgets that a response may cost


class BudgetPacer:
    """Chooses one LLM per prompt so that, in the long run, the mean cost of the stream does not exceed the budget.

    Args:
        costs: `(n_models,)` USD per response.
        budget: mean USD per response.
        start: initial price, score per USD; ideally that of a sample of the stream (`Allocation.multiplier`). With 0,
            the first prompts overspend.
        step: how fast the price moves: by step / budget for a debt of one prompt's budget.

    Attributes:
        n: number of prompts so far.
        spent: USD spent so far.

    Raises:
        BudgetError: the budget is not a finite number, or is below the cost of the cheapest LLM.
        P2LError: the budget or step is not positive, start is negative, or a cost is not finite.
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
        self._start, self._step = start * budget, step

    def __repr__(self) -> str:
        so_far = (
            f"{self.n:,} prompt{'' if self.n == 1 else 's'} so far, mean cost {self.mean_cost:.4g}"
            if self.n
            else "no prompt so far"
        )
        return f"BudgetPacer(budget: {self.budget:g} USD per response; {so_far})"

    @property
    def mean_cost(self) -> float:
        """Mean USD per response so far."""
        return self.spent / self.n if self.n else 0.0

    @property
    def multiplier(self) -> float:
        """Current price of money, score per USD; 0 while the budget does not bind."""
        return self._price / self.budget

    @property
    def _price(self) -> float:
        """The price of one budget, in score: no budget is so small or large that it overflows."""
        return max(0.0, self._start + self._step * (self.spent / self.budget - self.n))

    def choose(self, scores: np.ndarray, costs: np.ndarray | None = None) -> int:
        """Index of the LLM to call for a prompt with scores `(n_models,)`; afterwards, `record` what it cost.

        Args:
            scores: of the LLMs on this prompt.
            costs: `(n_models,)` USD, of a response to this prompt; by default those of any response.
        """
        costs = self._costs if costs is None else costs
        check_points(scores, costs)
        with np.errstate(over="ignore"):
            relative = np.minimum(costs / self.budget, _MOST)
        return int(np.argmax(scores - self._price * relative))

    def record(self, cost: float) -> None:
        """Record the cost of a response, in USD."""
        if not (number := to_number(cost)) >= 0:
            raise P2LError(f"the response cost {shown(cost)}; it must be a finite number >= 0, USD")
        self.n += 1
        self.spent += number

    def correct(self, recorded: float, cost: float | None) -> None:
        """Replace the cost recorded for a response by its actual cost; None if there was no response.

        With many responses in flight, expected costs are recorded when the LLMs are chosen; otherwise the price of
        money would lag behind the stream.
        """
        if cost is None:
            self.n -= 1
            self.spent -= recorded
            return
        self.record(cost)
        self.n -= 1
        self.spent -= recorded
