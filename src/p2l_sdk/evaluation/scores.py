"""How well a model routes prompts whose answers have scores, beside one LLM for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from p2l_sdk.errors import P2LError
from p2l_sdk.evaluation.metrics.estimates import Estimate
from p2l_sdk.evaluation.metrics.routing import cost_saved, relative_difference
from p2l_sdk.evaluation.routed import Policy, best_single, mean_of
from p2l_sdk.evaluation.votes import Baseline
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.p2l import P2L
from p2l_sdk.routing.allocation import JointFrontier
from p2l_sdk.routing.router import Router
from p2l_sdk.votes.votes import Scores

ROUTING_METRICS = (
    "routed_score",
    "routed_cost",
    "router_arena_score",
    "best_single_score",
    "best_single_cost",
    "gain_over_best_single",
    "relative_gain_over_best_single",
    "oracle_score",
    "gap_to_oracle",
    "relative_gap_to_oracle",
    "cost_saved",
)
_SETTINGS = 101  # budgets, from the cheapest LLM to the dearest, at which the saved cost is looked for


def evaluate_scores(p2l: P2L, scores: Scores, *, scored: Coefficients | None = None) -> dict[str, Any]:
    """Measure routing by mean scores over the prompts; no budget, the LLM with the highest coefficient is called.

    Scores and costs may be missing: each mean is over the prompts where all that it needs is known, and its `n` says
    how many they are. What cannot be measured is absent.

    Args:
        p2l: the model; its costs are used where they are known.
        scores: scores of its LLMs, from `Scores.read(file, p2l.models, allow_missing=True)`.
        scored: `p2l.coefficients(scores.prompts)`, if known.

    Returns:
        `routed_score`, and `routed_cost` in USD per response; `router_arena_score`, RouterArena's score of the two
        (scores in [0, 1] only).
        `best_single_score`, `best_single_cost`: of `best_single_model`, the best LLM on these prompts in hindsight.
        `gain_over_best_single`: the difference to `routed_score`, paired by prompt, and
        `relative_gain_over_best_single`: relative to the best single LLM's score.
        `oracle_score`: of the best LLM for each prompt, on the prompts with the scores of all LLMs; `gap_to_oracle`,
        `relative_gap_to_oracle`: what `routed_score` is below it.
        `cost_saved`: share of the best single LLM's cost that the router saves at equal quality, at the cheapest mean
        budget (in hindsight) at which its score is not lower.

    Raises:
        P2LError: the scores are for other LLMs than the model's, or in another order, or there is none.
    """
    return Routing.of(p2l, scores, scored).metrics


@dataclass(frozen=True, eq=False)
class Routing:
    """Scored prompts, and what a model makes of them.

    Attributes:
        p2l: the model.
        models: names of the LLMs among which it chooses.
        coefs: `(n_prompts, n_models)` their coefficients.
        scores: `(n_prompts, n_models)` their scores, NaN where missing.
        costs: `(n_models,)` USD per response, NaN where unknown.
    """

    p2l: P2L
    models: tuple[str, ...]
    coefs: np.ndarray
    scores: np.ndarray
    costs: np.ndarray

    @classmethod
    def of(cls, p2l: P2L, scores: Scores, scored: Coefficients | None = None) -> Routing:
        """The routing of a model on scores of its own LLMs."""
        if not isinstance(scores, Scores):
            raise P2LError(f"scores must be Scores, not {type(scores).__name__}: Scores.read(source, p2l.models)")
        if scores.models != p2l.models:
            raise P2LError(
                "these scores are of other LLMs than the model; read them with Scores.read(file, p2l.models)"
            )
        return cls.among(p2l, p2l.models, scores, scored)

    @classmethod
    def among(cls, p2l: P2L, models: tuple[str, ...], scores: Scores, scored: Coefficients | None = None) -> Routing:
        """The routing of a model among some LLMs, all of which have a column in the scores."""
        if not np.isfinite(scores.scores).any():
            raise P2LError("there is no score to measure routing on; all of them are missing")
        scored = p2l.coefficients(scores.prompts) if scored is None else scored
        own, columns = ([names.index(name) for name in models] for names in (p2l.models, scores.models))
        costs = np.array([p2l.costs.get(name, np.nan) for name in models])
        return cls(p2l, models, scored.coefs[:, own], scores.scores[:, columns], costs)

    @cached_property
    def choice(self) -> np.ndarray:
        """`(n_prompts,)` indices of the LLMs that are called without a budget."""
        return self.coefs.argmax(1)

    @cached_property
    def routed(self) -> Policy:
        """The model as a router without a budget."""
        return Policy.of(self.choice, self.scores, self.costs)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """See `evaluate_scores`."""
        single = best_single(self.scores)
        alone = Policy.of(single, self.scores, self.costs)
        complete = np.isfinite(self.scores).all(1)
        oracle = np.where(complete, self.scores.max(1), np.nan)
        found: dict[str, Any] = {
            **self.routed.metrics,
            "best_single_score": mean_of(alone.scores),
            "best_single_model": self.models[single],
            "best_single_cost": mean_of(alone.costs),
            "gain_over_best_single": mean_of(self.routed.scores - alone.scores),
            "relative_gain_over_best_single": _relative(self.routed.scores, alone.scores),
            "oracle_score": mean_of(oracle),
            "gap_to_oracle": mean_of(oracle - self.routed.scores),
            "relative_gap_to_oracle": _negated(_relative(self.routed.scores, oracle)),
            "cost_saved": self._cost_saved(single),
        }
        return {name: value for name, value in found.items() if value is not None}

    def against(self, averaged: Leaderboard) -> Baseline:
        """The averaged leaderboard as a router: its first LLM among these for every prompt, and the difference."""
        policy = Policy.of(self.models.index(self.first_of(averaged)), self.scores, self.costs)
        return Baseline(policy.metrics, self.routed.less(policy))

    def first_of(self, averaged: Leaderboard) -> str:
        """The LLM that the averaged leaderboard puts first, of these."""
        coefs = dict(zip(averaged.models, averaged.coefs.tolist(), strict=True))
        return max(self.models, key=lambda name: coefs.get(name, -np.inf))

    def _cost_saved(self, single: int) -> Estimate | None:
        priced = np.flatnonzero(np.isfinite(self.costs))
        if single not in priced:
            return None
        rows = np.isfinite(self.scores[:, priced]).all(1)
        if not rows.any():
            return None
        costs, truth = self.costs[priced], self.scores[rows][:, priced]
        names = [self.models[i] for i in priced]
        usd = dict(zip(names, costs.tolist(), strict=True))
        router = Router(self.models, self.p2l.spec.feedback, usd, models=names)
        joint = JointFrontier(router.scores(self.coefs[rows]), costs)
        low, high = float(costs.min()), float(costs.max())
        budgets = np.geomspace(low, high, _SETTINGS) if low > 0.0 else np.linspace(low, high, _SETTINGS)
        budgets[[0, -1]] = low, high  # exactly: below the cheapest there is no choice
        settings = [Policy.of(joint.at(float(budget)).choice, truth, costs) for budget in budgets]
        return cost_saved(
            np.stack([setting.scores for setting in settings]),
            np.stack([setting.costs for setting in settings]),
            self.scores[rows, single],
            float(self.costs[single]),
        )


def _relative(values: np.ndarray, others: np.ndarray) -> Estimate | None:
    known = np.isfinite(values) & np.isfinite(others)
    return relative_difference(values[known], others[known]) if known.any() else None


def _negated(estimate: Estimate | None) -> Estimate | None:
    return None if estimate is None else Estimate(-estimate.value, estimate.standard_error, estimate.n)
