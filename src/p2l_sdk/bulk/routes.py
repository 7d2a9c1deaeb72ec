"""Which LLM to call for each prompt of a batch, as columns of a table.

A budget for each prompt is spent at once. One budget for all prompts is known to buy best only when all are scored:
until then, each prompt keeps the steps that more money could buy it (the upper concave hull of its LLMs' costs and
scores); `joint` takes the best of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.bulk.settings import Settings
from p2l_sdk.routing.mixture import optimal_support, upper_hull
from p2l_sdk.routing.router import Router, draw

if TYPE_CHECKING:
    import pyarrow

ROUTE, COST, SCORE = "route", "route_cost", "route_score"
HULL, HULL_SCORES = "_hull", "_hull_scores"  # until the joint budget is spent


def route_columns(router: Router, coefs: np.ndarray, settings: Settings, rows: Sequence[int]) -> dict[str, Any]:
    """The LLM to call, its expected cost in USD per response and its expected score, for each prompt; with a joint
    budget, the steps instead.

    Args:
        router: chooses; with a budget, its LLMs have known costs.
        coefs: `(n_prompts, n_models)` in logits.
        settings: with the budget and the seed.
        rows: the prompts' places in the whole input: the draw from a mixture of two LLMs is that of
            `P2L.route(..., seed=settings.seed + row)`.
    """
    scores = router.scores(coefs)
    if settings.joint:
        return _steps(scores, router.prices)
    if settings.cost is None:
        return chosen_columns(router.names, scores.argmax(1), router.known_prices[scores.argmax(1)], scores.max(1))
    prices, budget = router.prices, settings.cost
    places, costs, values = [], [], []
    for row, own in zip(rows, scores, strict=True):
        support = optimal_support(own, prices, budget)
        places.append(draw(support, settings.seed + row))
        costs.append(sum(p * float(prices[i]) for i, p in support.items()))
        values.append(sum(p * float(own[i]) for i, p in support.items()))
    return chosen_columns(router.names, np.array(places, dtype=np.int64), np.array(costs), np.array(values))


def chosen_columns(
    names: Sequence[str], places: np.ndarray, costs: np.ndarray, scores: np.ndarray
) -> dict[str, pyarrow.Array]:
    """The columns of a route: the LLMs at these places of the names, their costs (NaN is not known) and scores."""
    import pyarrow as pa

    costs = np.asarray(costs, dtype=np.float64)
    return {
        ROUTE: pa.array(names, pa.string()).take(pa.array(np.asarray(places, dtype=np.int64))),
        COST: pa.array(costs, pa.float64(), mask=np.isnan(costs)),
        SCORE: pa.array(np.asarray(scores, dtype=np.float64)),
    }


def _steps(scores: np.ndarray, prices: np.ndarray) -> dict[str, pyarrow.Array]:
    import pyarrow as pa

    hulls = [upper_hull(row, prices) for row in scores]
    values = [row[hull].tolist() for row, hull in zip(scores, hulls, strict=True)]
    return {
        HULL: pa.array(hulls, pa.list_(pa.int32())),
        HULL_SCORES: pa.array(values, pa.list_(pa.float64())),
    }


def mean_cost(columns: Any) -> float:
    """Mean of the expected costs, USD per response; NaN if one is not known."""
    values = columns[COST]
    return math.nan if values.null_count or not len(values) else float(np.mean(values.to_numpy()))
