"""All budgets at once: the `Frontier` of a router over a set of prompts, with limits from a bootstrap over prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from p2l_sdk.errors import BudgetError
from p2l_sdk.modeling.limits_p2l import shown
from p2l_sdk.routing.allocation import JointFrontier
from p2l_sdk.routing.frontier import Frontier
from p2l_sdk.routing.mixture import as_budget, upper_hull

_REPLICATES, _CHUNK = 400, 50


def frontier_of(
    scores: np.ndarray,
    prices: np.ndarray,
    budgets: Iterable[Any] | None,
    outcomes: np.ndarray | None,
    models: tuple[str, ...],
    objective: str,
    seed: int = 0,
) -> Frontier:
    """The frontier of a router; see `Router.frontier`.

    Args:
        scores: `(n_prompts, n_models)` by which the router chooses.
        prices: `(n_models,)` USD per response.
        budgets: USD per response; None for 41, from the cheapest LLM to the dearest.
        outcomes: `(n_prompts, n_models)` true scores; None for `scores`.
        models, objective: of the router.
        seed: of the bootstrap.
    """
    values = scores if outcomes is None else outcomes
    grid, joint = _grid(prices, budgets), JointFrontier(scores, prices)
    allocations = [joint.at(float(budget)) for budget in grid]
    each, prompt_costs = _each(scores, prices, grid, values)
    strict = [_strict(scores, prices, float(budget)) for budget in grid]
    rows = np.arange(len(scores))
    chosen = np.stack([values[rows, choice] for choice in strict], 1)
    oracle = None if outcomes is None else JointFrontier(outcomes, prices)
    return Frontier(
        budgets=grid,
        router_costs=np.array([a.mean(prices) for a in allocations]),
        router_scores=np.array([a.mean(values) for a in allocations]),
        prompt_costs=prompt_costs,
        prompt_scores=each.mean(0),
        router_shares=np.stack([a.shares(len(prices)) for a in allocations]),
        strict_costs=np.array([prices[choice].mean() for choice in strict]),
        strict_scores=chosen.mean(0),
        models=models,
        model_costs=prices,
        model_scores=values.mean(0),
        measured=outcomes is not None,
        objective=objective,
        n_prompts=len(scores),
        oracle_scores=None if oracle is None else np.array([oracle.at(float(b)).mean(values) for b in grid]),
        limits=_limits(joint, grid, values, {"prompt": each, "strict": chosen, "models": values}, seed),
    )


def _each(
    scores: np.ndarray, prices: np.ndarray, budgets: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The best mixture for each prompt under the same budget: its value, `(n_prompts, n_budgets)`, and the mean cost,
    `(n_budgets,)`. Between two corners of a prompt's hull, both are linear in the budget, so one hull serves all."""
    hulls = [upper_hull(row, prices) for row in scores]
    each = np.stack([np.interp(budgets, prices[hull], row[hull]) for hull, row in zip(hulls, values, strict=True)])
    most = np.array([prices[hull[-1]] for hull in hulls])  # what is spent where money is no matter
    return each, np.array([np.minimum(most, budget).mean() for budget in budgets])


def _strict(scores: np.ndarray, prices: np.ndarray, budget: float) -> np.ndarray:
    """`(n_prompts,)` the best LLM for each that costs no more than the budget, the cheapest of equal ones."""
    order = np.argsort(prices, kind="stable")
    order = order[prices[order] <= budget]
    return np.asarray(order[scores[:, order].argmax(1)])


def _limits(
    joint: JointFrontier, budgets: np.ndarray, values: np.ndarray, of_prompts: Mapping[str, np.ndarray], seed: int
) -> dict[str, np.ndarray]:
    """95 % limits of means over prompts: those of the router, and of the columns `(n_prompts, ...)` that are given.

    As in `leaderboards.pairs.bootstrap`, the replicates are scaled to a Student t distribution, so that the limits of a
    handful of prompts are wide enough; those of scores in [0, 1] stay there.
    """
    n = len(values)
    if n < 2:
        return {}
    random, parts = np.random.default_rng(seed), dict[str, list[np.ndarray]]()
    centre = {name: columns.mean(0) for name, columns in of_prompts.items()}
    centre["router"] = joint.means(budgets, values, np.ones((1, n)))[0]
    for _ in range(0, _REPLICATES, _CHUNK):  # all draws at once would be the largest array
        weights = random.multinomial(n, np.full(n, 1.0 / n), size=_CHUNK).astype(np.float64)
        drawn = {name: weights @ columns / n for name, columns in of_prompts.items()}
        drawn["router"] = joint.means(budgets, values, weights)
        wider = np.sqrt(n / random.chisquare(n - 1.0, (_CHUNK, 1)))
        for name, means in drawn.items():
            parts.setdefault(name, []).append(centre[name] + wider * (means - centre[name]))
    found = {name: np.quantile(np.concatenate(part), [0.025, 0.975], axis=0).T for name, part in parts.items()}
    inside = bool(((values >= 0.0) & (values <= 1.0)).all())
    return {name: np.clip(limits, 0.0, 1.0) if inside else limits for name, limits in found.items()}


def spread_budgets(prices: np.ndarray, n: int) -> np.ndarray:
    """`(n,)` budgets from the cheapest LLM to the dearest, each so many times the one before where that is possible;
    one if all cost the same."""
    low, high = float(prices.min()), float(prices.max())
    if low == high:
        return np.array([low])
    inner = np.geomspace(low, high, n) if low > 0 else np.linspace(low, high, n)
    return np.array([low, *inner[1:-1], high])


def _grid(prices: np.ndarray, budgets: Iterable[Any] | None) -> np.ndarray:
    """The budgets of a frontier; BudgetError if one is no number."""
    if budgets is None:
        return spread_budgets(prices, 41)
    if isinstance(budgets, str) or not isinstance(budgets, Iterable):
        raise BudgetError(f"budgets are {shown(budgets)}; give a list of numbers, USD per response")
    given = [as_budget(budget) for budget in budgets]
    if not given or None in given:
        raise BudgetError("the list of budgets is empty, or holds None; give numbers, USD per response")
    return np.array(given, dtype=np.float64)
