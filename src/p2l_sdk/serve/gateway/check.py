"""`check`: what a config lacks, as far as it shows only with the P2L model and the environment at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from p2l_sdk.errors import BudgetError, P2LError, nearest
from p2l_sdk.names import find_model, find_models, meant
from p2l_sdk.routing.route import idle_budget, usd
from p2l_sdk.serve.gateway.address import read_key
from p2l_sdk.serve.gateway.choice import Chooser
from p2l_sdk.serve.gateway.config import GatewayConfig, costs, known_llms

if TYPE_CHECKING:
    from p2l_sdk.p2l import P2L


@dataclass(frozen=True)
class LLMCheck:
    """What is known of an LLM of the config.

    Attributes:
        name: its name in the config.
        base_url: its address; of several all, separated by commas.
        cost: USD per response, from the config or the P2L model; None if neither has one.
        known: whether the P2L model knows it; if not, it can be called by name, but is never routed to.
        similar: the closest name that the P2L model knows, for an LLM that it does not know; None if there is none.
        own: the P2L model's own name of an LLM that it knows, where that is another one.
        candidates: the LLMs that an ambiguous name may mean; such an LLM counts as not known.
        fallback: whether it is called after those that a request is routed to.
    """

    name: str
    base_url: str
    cost: float | None
    known: bool
    similar: str | None
    own: str | None = None
    candidates: tuple[str, ...] = ()
    fallback: bool = False


@dataclass(frozen=True)
class Check:
    """A config in this environment and with this P2L model.

    Attributes:
        llms: each LLM, in the order of the config.
        missing_keys: environment variables that hold no key.
        budget_error: set if a budget of the config is below its cheapest LLM.
        unbounded: what to say of LLMs without a bound for budgets of keys; see `unbounded_note`.
        budget: what the budget of the config means, in words; "" if it has none.
        idle: what to say of such a budget that limits nothing, and may be in another unit; "" if it limits something.
    """

    llms: tuple[LLMCheck, ...]
    missing_keys: tuple[str, ...] = ()
    budget_error: BudgetError | None = None
    unbounded: str = ""
    budget: str = ""
    idle: str = ""

    @property
    def unknown(self) -> tuple[str, ...]:
        """The LLMs that the P2L model does not know, and that are no fallback."""
        return tuple(llm.name for llm in self.llms if not (llm.known or llm.fallback))

    @property
    def warnings(self) -> list[str]:
        """What may not be meant so, in readable sentences."""
        return [*self.ambiguous, *filter(None, [self.idle, self.unbounded])]

    @property
    def ambiguous(self) -> list[str]:
        """Of each LLM whose name may mean several ones, what that leads to."""
        return [
            f"{llm.name} is never routed to, as it may be {' or '.join(llm.candidates)}; name one of them"
            for llm in self.llms
            if llm.candidates and not llm.fallback
        ]

    @property
    def matched(self) -> dict[str, str]:
        """Name in the config -> the P2L model's own name, where they differ."""
        return {llm.name: llm.own for llm in self.llms if llm.own is not None}

    @property
    def without_cost(self) -> tuple[str, ...]:
        """The LLMs whose cost is not known."""
        return tuple(llm.name for llm in self.llms if llm.cost is None)

    @property
    def problems(self) -> list[str]:
        """What is missing, in readable sentences."""
        found = []
        if self.missing_keys:
            found.append(f"these environment variables are not set: {', '.join(self.missing_keys)}")
        if self.without_cost:
            found.append(f"no cost is known for {', '.join(self.without_cost)}; give them a cost or prices")
        return found

    def require_ready(self, source: str) -> None:
        """Raise what keeps the gateway from starting.

        Args:
            source: of the config, for the message.

        Raises:
            P2LError: a key or a cost is missing.
            BudgetError: a budget is below the cheapest LLM.
        """
        if self.problems:
            raise P2LError(f"{source}: {'; '.join(self.problems)}")
        if self.budget_error is not None:
            raise self.budget_error


def check(config: GatewayConfig, p2l: P2L) -> Check:
    """Check a config against the P2L model and the environment.

    Raises:
        P2LError: the P2L model knows none of the LLMs, or not every opponent; or a key cannot be sent in a header.
    """
    if not known_llms(config, p2l):
        find_model(next(iter(config.models)), p2l.models, "the config")
    find_models(config.opponents or (), p2l.models, "the table of opponents")
    known_costs = costs(config, p2l)
    llms = []
    for name, llm in config.models.items():
        means = meant(name, p2l.models)
        known = len(means) == 1
        similar = None if means else nearest(name, p2l.models)
        own = means[0] if known and means[0] != name else None
        several = () if known else tuple(means)
        where, last = ", ".join(place.base_url for place in llm.places), name in config.fallback
        llms.append(LLMCheck(name, where, known_costs.get(name), known, similar, own, several, last))
    places = [place for llm in config.models.values() for place in llm.places]
    keys = dict.fromkeys(place.api_key_env for place in places if place.api_key_env is not None)
    missing = tuple(key for key in keys if not read_key(key))
    routed = [llm.cost for llm in llms if llm.known and llm.cost is not None]
    budget, idle = _budget_notes(config, max(routed, default=None))
    found = Check(tuple(llms), missing, unbounded=unbounded_note(config), budget=budget, idle=idle)
    return found if found.problems else replace(found, budget_error=_budget_error(config, p2l))


def unbounded_note(config: GatewayConfig) -> str:
    """What to say of LLMs whose cost is booked as the same whatever they read and write, and of those with prices that
    nobody here knows in full; "" if there are none."""
    flat = [name for name, llm in config.models.items() if not llm.bounded and not llm.unpriced]
    notes = [_flat_note(flat)] if flat else []
    for name, llm in config.models.items():
        if llm.unpriced:
            notes.append(
                f"keys with budgets cannot use {name}, as its vendor also bills {', '.join(llm.unpriced)}: state its "
                "`prices`, `request` among them (USD for a request, beside tokens; 0 if there is no such fee)"
            )
    return "; ".join(notes)


def _flat_note(names: Sequence[str]) -> str:
    one = len(names) == 1
    return (
        f"budgets of keys are no bound at {', '.join(names)}: every answer is booked at the same cost, whatever is "
        f"read and written; give {'it' if one else 'them'} `prices` by the token, or `flat: true` if "
        f"{'its' if one else 'their'} cost is the same, as on a machine of one's own"
    )


def _budget_notes(config: GatewayConfig, dearest: float | None) -> tuple[str, str]:
    """What the budget of a config means, and what to say of it if it is far above the `dearest` LLM, USD per response;
    "" where there is nothing to say."""
    name, budget = ("budget", config.budget) if config.mean_budget is None else ("mean_budget", config.mean_budget)
    if budget is None:
        return "", ""
    whose = "for each routed request" if config.mean_budget is None else "averaged over all routed requests"
    means = f"{name}: {usd(budget)} per response, {whose} ({usd(1000 * budget)} for 1,000)"
    by_token = any(llm.prices is not None for llm in config.models.values())
    but = " but requests that are far longer than usual" if by_token else ""
    idle = None if dearest is None else idle_budget(budget, dearest, but)
    return f"{means}; what may be spent in a day or month is a budget of a key", f"{name}: {idle}" if idle else ""


def _budget_error(config: GatewayConfig, p2l: P2L) -> BudgetError | None:
    try:
        Chooser(config, p2l)
    except BudgetError as error:
        return error
    return None
