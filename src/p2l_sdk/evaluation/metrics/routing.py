"""The field's measures of routing, from scores and costs prompt by prompt, with standard errors over prompts.

RouterArena (arXiv 2510.00202): with accuracy A in [0, 1] and c USD per 1,000 queries,

    S = (1 + beta) A C / (beta A + C),    C = (log2 c_max - log2 c) / (log2 c_max - log2 c_min) in [0, 1],

beta = 0.1, c_min = 0.0044, c_max = 200: a harmonic mean of quality and cheapness in which quality counts ten times.

LLMRouterBench (arXiv 2601.07206): the gain over the best single LLM and the gap to the oracle, both relative, and the
cost saved: 1 - cost / cost of the best single LLM, at the cheapest setting of the router that is at least as good.

A standard error of a function of means follows from its gradient (the delta method); that of the cost saved, where the
setting is chosen in hindsight, from a bootstrap over prompts that chooses it anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from p2l_sdk.evaluation.metrics.estimates import Estimate

BETA, CHEAPEST, DEAREST = 0.1, 0.0044, 200.0  # RouterArena's constants; USD per 1,000 queries
_THOUSAND = 1000.0
_STEP = 1e-6


def arena_score(accuracy: float, cost: float) -> float:
    """RouterArena's score S in [0, 1].

    Args:
        accuracy: mean score in [0, 1].
        cost: mean USD per response, not per 1,000; costs beyond the limits above count as the limits.
    """
    per_thousand = min(max(cost * _THOUSAND, CHEAPEST), DEAREST)
    cheapness = (math.log2(DEAREST) - math.log2(per_thousand)) / (math.log2(DEAREST) - math.log2(CHEAPEST))
    below = BETA * accuracy + cheapness
    return (1.0 + BETA) * accuracy * cheapness / below if below > 0.0 else 0.0


def router_arena_score(scores: np.ndarray, costs: np.ndarray) -> Estimate:
    """RouterArena's score of `(n,)` scores in [0, 1] and `(n,)` costs, USD per response; by the delta method."""
    return function_of_means(lambda means: arena_score(float(means[0]), float(means[1])), scores, costs)


def relative_difference(values: np.ndarray, others: np.ndarray) -> Estimate | None:
    """Mean of `(n,)` values / mean of `(n,)` others - 1, paired; None if the second mean is not above 0."""
    if not others.mean() > 0.0:
        return None
    return function_of_means(lambda means: float(means[0] / means[1] - 1.0), values, others)


def function_of_means(function: Callable[[np.ndarray], float], *columns: np.ndarray) -> Estimate:
    """A smooth function of the means of `(n,)` columns, one value for each prompt, by the delta method."""
    table = np.stack(columns, 1).astype(np.float64)
    means, n = table.mean(0), len(table)
    if n < 2:
        return Estimate(function(means), None, n)
    gradient = np.zeros(len(means))
    for i, mean in enumerate(means):
        step = np.zeros(len(means))
        step[i] = _STEP * max(abs(float(mean)), _STEP)
        gradient[i] = (function(means + step) - function(means - step)) / (2.0 * step[i])
    influence = (table - means) @ gradient
    return Estimate(function(means), float(influence.std(ddof=1) / math.sqrt(n)), n)


def cost_saved(
    scores: np.ndarray,
    costs: np.ndarray,
    single_scores: np.ndarray,
    single_cost: float,
    *,
    replicates: int = 500,
    seed: int = 0,
) -> Estimate | None:
    """Share of the best single LLM's cost that a router saves at equal quality.

    Args:
        scores, costs: `(n_settings, n)` the router's score and cost on each prompt, for each of its settings.
        single_scores: `(n,)` scores of the best single LLM.
        single_cost: its cost, in the unit of `costs`.
        replicates, seed: of the bootstrap over prompts; a draw on which no setting is as good counts as nothing saved.

    Returns:
        1 - cost / single_cost of the cheapest setting whose mean score is at least the single LLM's; None if there is
        none, or if the single LLM costs nothing. It is negative if that setting is dearer.
    """
    n = scores.shape[1]
    if not single_cost > 0.0:
        return None

    def saved(weights: np.ndarray) -> np.ndarray:
        good = (scores - single_scores) @ weights >= -1e-12
        cheapest = np.where(good, costs @ weights, np.inf).min(0)
        return np.where(np.isfinite(cheapest), 1.0 - cheapest / single_cost, np.nan)

    value = float(saved(np.full((n, 1), 1.0 / n))[0])
    if math.isnan(value):
        return None
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=replicates).T / n
    spread = float(np.nan_to_num(saved(draws)).std(ddof=1)) if n > 1 else None
    return Estimate(value, spread, n)
