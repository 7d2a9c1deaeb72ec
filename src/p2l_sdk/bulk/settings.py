"""What is computed of each prompt: settings that are plain values, so that a run can be compared with the one that it
goes on with, and sent to other processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from p2l_sdk.errors import BudgetError, P2LError, member
from p2l_sdk.options import whole_number
from p2l_sdk.routing.mixture import Objective, as_budget

if TYPE_CHECKING:
    from p2l_sdk.p2l import P2L
    from p2l_sdk.routing.router import Router

TOP = 5  # LLMs of a prompt, by default


class Budget(StrEnum):
    """What a budget is one for."""

    JOINT = "joint"  # the mean over all prompts, of which more is spent where it helps most
    PER_PROMPT = "per-prompt"  # each prompt


class Aggregate(StrEnum):
    """Which prompts the aggregate leaderboards are of."""

    SAMPLE = "sample"  # all for few LLMs, otherwise a random sample of each part (see `totals.sample_of`)
    ALL = "all"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is computed of each prompt.

    Args:
        model: as in `P2L.from_pretrained`: None for "arena", "routing9", a folder, a Hub id.
        revision, base, device, runtime: as there.
        costs: as there: a mapping, a file or "genai-prices".
        top: how many of the best LLMs are written, with their coefficients; 0 for none.
        coefficients: whether the coefficients of all LLMs are written, a column for each.
        route: "joint" or "per-prompt", what `cost` is the budget for; None for no routing.
        cost: budget, mean USD per response; None with `route` for the best LLM at any cost.
        total: instead, for a joint budget: USD for all prompts together.
        models, opponents, objective: of the `Router`.
        aggregate: "sample", "all" or "none": the prompts of the aggregate leaderboards.
        seed: of the sample, and of the draws from mixtures of two LLMs.

    Raises:
        P2LError: a setting is none of the legal ones, or two do not fit together.
    """

    model: str | None = None
    revision: str | None = None
    base: str | None = None
    device: str | None = None
    runtime: str | None = None
    costs: str | Mapping[str, float] | None = None
    top: int = TOP
    coefficients: bool = False
    route: Budget | str | None = None
    cost: float | None = None
    total: float | None = None
    models: tuple[str, ...] | None = None
    opponents: Mapping[str, float] | None = None
    objective: Objective | str = Objective.WIN_RATE
    aggregate: Aggregate | str = Aggregate.SAMPLE
    seed: int = 0

    def __post_init__(self) -> None:
        self._set("top", whole_number("top", self.top))
        self._set("seed", whole_number("seed", self.seed))
        self._set("cost", as_budget(self.cost))
        self._set("total", as_budget(self.total))
        self._set("aggregate", member(Aggregate, "aggregate", self.aggregate))
        self._set("objective", member(Objective, "objective", self.objective))
        if self.route is None and (self.cost is not None or self.total is not None):
            self._set("route", Budget.JOINT)
        if self.route is not None:
            self._set("route", member(Budget, "route", self.route))
        if self.cost is not None and self.total is not None:
            raise BudgetError("give a mean cost or a total budget, not both (in commands, --cost or --budget)")
        if self.total is not None and self.route is not Budget.JOINT:
            raise BudgetError("a total budget is one for all prompts: route='joint' (in commands, --route joint)")
        if self.route is None and (self.models is not None or self.opponents is not None):
            raise P2LError(
                "models and opponents are those that are routed between; give a cost or a total budget, or for the "
                "best at any cost route='joint' (in commands, --cost, --budget or --route joint)"
            )
        for name in ("models",):
            if getattr(self, name) is not None:
                self._set(name, tuple(getattr(self, name)))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def joint(self) -> bool:
        """Whether there is one budget for all prompts, which is spent once all are scored."""
        return self.route is Budget.JOINT and (self.cost is not None or self.total is not None)

    def load(self) -> P2L:
        """The model; errors as in `P2L.from_pretrained`."""
        from p2l_sdk.p2l import P2L

        found: dict[str, Any] = {
            name: getattr(self, name) for name in ("revision", "base", "device", "runtime", "costs")
        }
        return P2L.from_pretrained(self.model, **found)

    def router(self, p2l: P2L) -> Router | None:
        """The router that chooses, for LLMs of known cost if there is a budget; None if nothing is routed.

        Raises:
            P2LError: a name, a cost or the budget does not fit the model.
        """
        if self.route is None:
            return None
        router = p2l.router(models=self.models, opponents=self.opponents, objective=self.objective)
        if self.cost is None and self.total is None:
            return router
        if self.cost is not None:
            router.require_budgets([self.cost])
        return router.within_budget

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        found = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
