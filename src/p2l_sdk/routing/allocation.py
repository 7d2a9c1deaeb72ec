"""One mean budget for many prompts: the exact solution of the linear programme over all of them.

Along a prompt's upper concave hull, from the cheapest LLM to the best, each step buys score for cost at a decreasing
rate. The best allocation takes the steps of all prompts in order of their rate until the common budget is spent (the
fractional knapsack). The rate of the last step taken is the budget's multiplier lambda: each prompt calls
argmax(score - lambda * cost), and at most one prompt mixes two LLMs. This is never worse than the same budget for each
prompt, which is one of the feasible allocations.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from p2l_sdk.leaderboards.weights import exponent_of
from p2l_sdk.routing.mixture import check_budget, check_points, upper_hull

_MOST = 2.0**200  # a budget that pays for everything, relative to the highest cost


@dataclass(frozen=True, eq=False)
class Allocation:
    """Which LLM answers which prompt.

    Attributes:
        choice: `(n_prompts,)` index of the LLM for each prompt.
        split: (prompt, index of a second LLM, its probability) for the one prompt that mixes two, or None.
        multiplier: lambda, score per USD at the margin; 0 if the budget does not bind.
    """

    choice: np.ndarray
    split: tuple[int, int, float] | None
    multiplier: float

    def mixture(self, prompt: int) -> dict[int, float]:
        """The mixture for one prompt, {index of LLM: probability}."""
        first = int(self.choice[prompt])
        if self.split is None or self.split[0] != prompt:
            return {first: 1.0}
        _, second, share = self.split
        return {first: 1.0 - share, second: share}

    def shares(self, n_models: int) -> np.ndarray:
        """`(n_models,)` share of the prompts that each LLM answers on average."""
        found = np.bincount(self.choice, minlength=n_models).astype(np.float64)
        if self.split is not None:
            prompt, second, share = self.split
            found[self.choice[prompt]] -= share
            found[second] += share
        return found / len(self.choice)

    def mean(self, values: np.ndarray) -> float:
        """Expected mean over prompts of `(n_prompts, n_models)` scores or `(n_models,)` costs."""
        values = np.broadcast_to(values, (len(self.choice), values.shape[-1]))
        total = values[np.arange(len(self.choice)), self.choice].sum()
        if self.split is not None:
            prompt, second, share = self.split
            total += share * (values[prompt, second] - values[prompt, self.choice[prompt]])
        return float(total / len(self.choice))


class JointFrontier:
    """All allocations for a set of prompts, from the cheapest to the best; built once, queried for any budget.

    Args:
        scores: `(n_prompts, n_models)`, finite.
        costs: `(n_models,)` USD per response, finite.

    Raises:
        P2LError: shapes disagree, or a number is not finite.
    """

    def __init__(self, scores: np.ndarray, costs: np.ndarray) -> None:
        check_points(scores, costs)
        self._exponent = exponent_of(costs)  # so that no difference of costs vanishes, and no sum overflows
        self._costs = costs = np.ldexp(costs, -self._exponent)
        hulls = [upper_hull(row, costs) for row in scores]
        self._cheapest = np.array([hull[0] for hull in hulls])
        steps = np.array([(i, a, b) for i, hull in enumerate(hulls) for a, b in itertools.pairwise(hull)])
        self._prompt, self._start, self._end = steps.reshape(-1, 3).astype(np.int64).T
        self._cost = costs[self._end] - costs[self._start]
        rate = (scores[self._prompt, self._end] - scores[self._prompt, self._start]) / self._cost
        order = np.argsort(-rate, kind="stable")  # rates decrease along each hull, so its steps stay in order
        self._prompt, self._start, self._end, self._cost, self._rate = (
            x[order] for x in (self._prompt, self._start, self._end, self._cost, rate)
        )
        self._spent = np.cumsum(self._cost)

    def at(self, budget: float) -> Allocation:
        """The best allocation whose mean cost is at most this budget, USD per response.

        Raises:
            BudgetError: the budget is not a finite number, or is below the cost of the cheapest LLM.
        """
        check_budget(float(np.ldexp(self._costs.min(), self._exponent)), budget)
        n = len(self._cheapest)
        with np.errstate(over="ignore"):
            relative = min(float(np.ldexp(budget, -self._exponent)), _MOST)
        free = n * relative - float(self._costs[self._cheapest].sum())
        whole = int(np.searchsorted(self._spent, free * (1 + 1e-12), side="right"))
        choice = self._cheapest.copy()
        choice[self._prompt[:whole]] = self._end[:whole]  # the last step of a prompt is written last
        if whole == len(self._spent):
            return Allocation(choice, None, 0.0)
        share = max(0.0, (free - (self._spent[whole - 1] if whole else 0.0)) / self._cost[whole])
        split = (int(self._prompt[whole]), int(self._end[whole]), share) if share > 0.0 else None
        with np.errstate(over="ignore"):  # per USD, a gain may be infinite
            multiplier = float(np.ldexp(self._rate[whole], -self._exponent))
        return Allocation(choice, split, multiplier)

    def means(self, budgets: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """What the best allocations give on average if some prompts come more often than others.

        Args:
            budgets: `(n_budgets,)` mean USD per response, none below the cost of the cheapest LLM.
            values: `(n_prompts, n_models)` of the LLMs' answers, such as true scores.
            weights: `(n_replicates, n_prompts)` how often each prompt comes; none of the rows is 0.

        Returns:
            `(n_replicates, n_budgets)` weighted means of the values over the prompts.
        """
        rows = np.arange(len(self._cheapest))
        base, cheapest = values[rows, self._cheapest], self._costs[self._cheapest]
        gain = values[self._prompt, self._end] - values[self._prompt, self._start]
        found = np.empty((len(weights), len(budgets)))
        for r, weight in enumerate(weights):
            often, total = weight[self._prompt], weight.sum()
            spent = np.append(0.0, np.cumsum(often * self._cost))
            gained = np.append(0.0, np.cumsum(often * gain))
            free = total * np.ldexp(budgets, -self._exponent) - weight @ cheapest
            found[r] = (weight @ base + np.interp(free, spent, gained)) / total
        return found
