"""Which LLM to call: pure functions of scores, costs and coefficients (paper, Theorem 1 and Algorithm 1).

W[b, a] = sigmoid(theta_b - theta_a) is the probability that b is preferred to a, q the weights of the opponents, and
W q the LLMs' scores. The best mixture p under a budget C maximises p . score subject to p . cost <= C. With one budget,
the optimum of this linear programme lies on the upper concave hull of the points (cost, score), so that it mixes at
most two LLMs.
"""

from __future__ import annotations

import bisect
import math
from enum import StrEnum
from typing import Any

import numpy as np

from p2l_sdk.errors import BudgetError, P2LError
from p2l_sdk.leaderboards.weights import exponent_of
from p2l_sdk.modeling.limits_p2l import shown
from p2l_sdk.modeling.number_p2l import to_number
from p2l_sdk.routing.route import usd

_LEAST = 2.0**-64  # USD: costs whose highest lies between this and its inverse are used as they are


class Policy(StrEnum):
    """How an LLM is chosen under a budget; without a budget, all policies choose the best LLM."""

    OPTIMAL = "optimal"  # the best mixture whose mean cost stays within the budget
    STRICT = "strict"  # the best single LLM that costs no more than the budget
    BEST = "best"  # the best LLM, whatever the budget


class Objective(StrEnum):
    """What an LLM is scored on."""

    WIN_RATE = "win_rate"  # expected win rate against the opponents (as in the paper)
    USABLE = "usable"  # probability that the answer is usable, sigmoid(theta); grounded models (grk) only


def as_budget(cost: Any) -> float | None:
    """A budget as a float, or None for no budget; BudgetError if it is not a number."""
    if cost is None or type(cost) is float:  # `check_budget` refuses what is not finite
        return cost
    budget = to_number(cost)
    if math.isnan(budget):
        raise BudgetError(f"the budget is {shown(cost)}; it must be a finite number, USD per response")
    return budget


def upper_hull(scores: np.ndarray, costs: np.ndarray) -> list[int]:
    """Indices of the LLMs on the upper concave hull, from the cheapest to the best: the exact efficient frontier.

    Each next LLM costs more and scores more, at a decreasing gain per cost. Of LLMs equal in both, one is kept.
    """
    return _hull(scores, costs)[0]


def _hull(scores: np.ndarray, costs: np.ndarray) -> tuple[list[int], list[float]]:
    """The hull's indices and their costs."""
    order = costs.argsort()
    if not _LEAST < costs[order[-1]] < 1.0 / _LEAST:  # products of costs and scores would vanish or overflow
        found = _hull(scores, np.ldexp(costs, -exponent_of(costs)))[0] if costs.any() else [int(scores.argmax())]
        return found, costs[found].tolist()
    ranked = scores.take(order)
    record = np.empty(len(order), dtype=bool)  # better than every cheaper LLM: only these few are scanned
    record[0] = True
    np.greater(ranked[1:], np.maximum.accumulate(ranked)[:-1], out=record[1:])
    candidates = order.compress(record)
    hull: list[int] = []
    x: list[float] = []  # costs and scores of the hull so far; plain floats are scanned faster than arrays
    y: list[float] = []
    for i, cost, score in zip(
        candidates.tolist(), costs.take(candidates).tolist(), scores.take(candidates).tolist(), strict=True
    ):  # fmt: skip
        while hull and (x[-1] == cost or (len(x) > 1 and _under(x[-2], y[-2], x[-1], y[-1], cost, score))):
            del hull[-1], x[-1], y[-1]
        hull.append(i)
        x.append(cost)
        y.append(score)
    return hull, x


def _under(x0: float, y0: float, x1: float, y1: float, x2: float, y2: float) -> bool:
    """Whether point 1 lies on or below the line from point 0 to point 2."""
    return (y1 - y0) * (x2 - x1) <= (y2 - y1) * (x1 - x0)


def optimal_support(scores: np.ndarray, costs: np.ndarray, budget: float) -> dict[int, float]:
    """The best mixture under a budget, as {index: probability} of its one or two LLMs; see `optimal_mixture`."""
    if (
        not isinstance(scores, np.ndarray) or scores.shape != costs.shape or not math.isfinite(scores @ costs)
    ):  # a quick test; `check_points` finds the fault
        check_points(scores, costs)
    hull, prices = _hull(scores, costs)
    check_budget(prices[0], budget)
    place = bisect.bisect_right(prices, budget)
    if place == len(hull):
        return {hull[-1]: 1.0}  # the best LLM of all fits
    share = (budget - prices[place - 1]) / (prices[place] - prices[place - 1])
    return {hull[place - 1]: 1.0 - share, hull[place]: share} if share > 0.0 else {hull[place - 1]: 1.0}


def price_of_money(scores: np.ndarray, costs: np.ndarray, budget: float) -> float:
    """What more money would add to the score of the best mixture under a budget, per USD: the slope of the hull at
    the budget, 0 if it pays the best LLM. Arguments as in `optimal_mixture`, and not checked."""
    hull, prices = _hull(scores, costs)
    place = bisect.bisect_right(prices, budget)
    if place in (0, len(hull)):
        return 0.0
    return float((scores[hull[place]] - scores[hull[place - 1]]) / (prices[place] - prices[place - 1]))


def strict_choice(scores: np.ndarray, costs: np.ndarray, budget: float) -> int:
    """Index of the best single LLM that costs no more than the budget, the cheaper one if scores are equal; errors as
    in `optimal_mixture`."""
    check_points(scores, costs)
    check_budget(float(costs.min()), budget)
    affordable = np.flatnonzero(costs <= budget)
    return int(affordable[np.lexsort((costs[affordable], -scores[affordable]))[0]])


def check_points(scores: np.ndarray, costs: np.ndarray) -> None:
    """Raise P2LError unless scores `(..., n_models)` and costs `(n_models,)` are arrays, finite, and as many."""
    for values in (scores, costs):
        if not isinstance(values, np.ndarray):  # a frame's names would be ignored
            raise P2LError(
                f"scores and costs must be arrays with the LLMs in the same order, not {type(values).__name__}"
            )
    if scores.shape[-1:] != costs.shape or not costs.size:
        raise P2LError(
            f"scores are of shape {scores.shape}, costs of {costs.shape}; there must be one cost for each LLM"
        )
    if not (np.isfinite(scores).all() and np.isfinite(costs).all()):
        raise P2LError("scores and costs must be finite numbers")


def check_budget(cheapest: float, budget: float) -> None:
    """Raise BudgetError unless the budget is a finite number and at least the cost of the cheapest LLM."""
    if not math.isfinite(budget):
        raise BudgetError(f"the budget is {budget}; it must be a finite number, USD per response")
    if budget < cheapest:
        raise BudgetError(
            f"no LLM fits the budget of {usd(budget)} per response; the cheapest feasible budget is {usd(cheapest)}",
            cheapest,
        )


def optimal_mixture(scores: np.ndarray, costs: np.ndarray, budget: float) -> np.ndarray:
    """The best mixture under a budget: argmax p . scores subject to p . costs <= budget, exact.

    Args:
        scores: `(n_models,)`, in any unit.
        costs: `(n_models,)`, USD per response.
        budget: highest allowed mean cost of the mixture, USD per response.

    Returns:
        `(n_models,)` probabilities, at most two of them above 0.

    Raises:
        BudgetError: the budget is not a finite number, or is below the cost of the cheapest LLM.
        P2LError: a score or a cost is not finite, or their numbers differ.
    """
    mixture = np.zeros(len(scores))
    for i, probability in optimal_support(scores, costs, budget).items():
        mixture[i] = probability
    return mixture


def router_coefficient(score: float, opponents: np.ndarray, opponent_weights: np.ndarray) -> float:
    """The router's own coefficient: the root theta' of sum_a q[a] sigmoid(theta' - theta_a) = score.

    Args:
        score: the mixture's expected win rate, in (0, 1).
        opponents: `(n_opponents,)` coefficients in logits.
        opponent_weights: `(n_opponents,)` weights that sum to 1.
    """
    score = min(max(score, 1e-300), 1.0 - 1e-16)
    odds = math.log(score) - math.log1p(-score)
    opponents, weights = opponents.astype(np.float64), opponent_weights
    low, high = odds + float(opponents.min()), odds + float(opponents.max())  # if all were the weakest, the strongest
    theta = odds + float(weights @ opponents)
    for _ in range(100):  # Newton's method, bisection if a step leaves the bracket
        rates = 0.5 + 0.5 * np.tanh(0.5 * (theta - opponents))
        gap, slope = float(weights @ rates) - score, float(weights @ (rates * (1.0 - rates)))
        low, high = (low, theta) if gap > 0 else (theta, high)
        step = theta - gap / slope if slope > 0 else math.inf
        following = step if low <= step <= high else (low + high) / 2
        if abs(following - theta) <= 1e-12 * max(1.0, abs(theta)):
            return following
        theta = following
    return theta
