"""Policies on prompts whose answers have scores: which LLM each calls, its score, and its cost where it is known.

A score may be missing, and so may a cost. Every mean is over the prompts where all that it needs is known; its `n` says
how many they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from p2l_sdk.evaluation.metrics.estimates import Estimate, clustered_mean
from p2l_sdk.evaluation.metrics.routing import arena_score, function_of_means, router_arena_score

MOSTLY = 0.5  # share of the prompts on which an LLM must have a score to be the best single one


@dataclass(frozen=True, eq=False)
class Policy:
    """The answers that a policy buys.

    Attributes:
        scores: `(n_prompts,)` scores, NaN where unknown.
        costs: `(n_prompts,)` USD per response, NaN where unknown.
    """

    scores: np.ndarray
    costs: np.ndarray

    @classmethod
    def of(cls, choice: np.ndarray | int, scores: np.ndarray, costs: np.ndarray) -> Policy:
        """The policy that calls the LLM `choice`, `(n_prompts,)` indices or one for all.

        Args:
            choice: indices of LLMs.
            scores: `(n_prompts, n_models)`, NaN where unknown.
            costs: `(n_models,)` USD per response, NaN where unknown.
        """
        rows = np.broadcast_to(choice, (len(scores),))
        return cls(scores[np.arange(len(scores)), rows], costs[rows])

    @cached_property
    def metrics(self) -> dict[str, Estimate]:
        """`routed_score`, `routed_cost` and `router_arena_score`, as far as they are known."""
        found = {"routed_score": mean_of(self.scores), "routed_cost": mean_of(self.costs)}
        both = np.isfinite(self.scores) & np.isfinite(self.costs)
        if both.any() and not self._outside:
            found["router_arena_score"] = router_arena_score(self.scores[both], self.costs[both])
        return {name: estimate for name, estimate in found.items() if estimate is not None}

    @property
    def _outside(self) -> bool:
        """Whether a score is outside [0, 1], where no accuracy is."""
        return bool(((self.scores < 0.0) | (self.scores > 1.0)).any())

    def where_known(self, other: Policy) -> Policy:
        """This policy where the other's scores and costs are known too."""
        return Policy(
            np.where(np.isfinite(other.scores), self.scores, np.nan),
            np.where(np.isfinite(other.costs), self.costs, np.nan),
        )

    def less(self, other: Policy) -> dict[str, Estimate]:
        """This policy minus another, prompt by prompt: `routed_score`, `routed_cost` and `router_arena_score`, as far
        as they are known."""
        found = {
            "routed_score": mean_of(self.scores - other.scores),
            "routed_cost": mean_of(self.costs - other.costs),
        }
        columns = (self.scores, self.costs, other.scores, other.costs)
        known = np.isfinite(np.stack(columns)).all(0)
        if known.any() and not self._outside and not other._outside:
            found["router_arena_score"] = function_of_means(
                lambda means: arena_score(*means[:2].tolist()) - arena_score(*means[2:].tolist()),
                *(column[known] for column in columns),
            )
        return {name: estimate for name, estimate in found.items() if estimate is not None}


def mean_of(values: np.ndarray) -> Estimate | None:
    """Mean of `(n,)` values over those that are known (not NaN); None if none is."""
    known = np.isfinite(values)
    return clustered_mean(values[known], np.ones(known.sum()), np.arange(known.sum())) if known.any() else None


def best_single(scores: np.ndarray) -> int:
    """Index of the LLM with the highest mean score in hindsight, of those with a score on most prompts (of all that
    have one, if none has so many)."""
    known = np.isfinite(scores)
    share = known.mean(0)
    means = np.divide(np.where(known, scores, 0.0).sum(0), known.sum(0), out=np.zeros(len(share)), where=share > 0)
    eligible = share >= MOSTLY if (share >= MOSTLY).any() else share > 0
    return int(np.where(eligible, means, -np.inf).argmax())
