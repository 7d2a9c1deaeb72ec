"""The choice of the LLM for a request, and of those to call if it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2l_sdk.errors import BudgetError
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.routing.mixture import Policy, check_budget
from p2l_sdk.routing.pacing import BudgetPacer
from p2l_sdk.routing.route import Route, usd
from p2l_sdk.routing.router import RouterOptions
from p2l_sdk.serve.gateway.config import BEST, GatewayConfig, costs, known_llms

if TYPE_CHECKING:
    from p2l_sdk.p2l import P2L


@dataclass(frozen=True)
class Choice:
    """The LLMs chosen for a request.

    Attributes:
        ranking: the LLM to call, then those to call if it fails, all within the budget.
        mixture: name -> probability; the first LLM was drawn from it.
        expected_cost: of the mixture, USD per response.
        expected_score: of the mixture, in (0, 1); None if the client named the LLM, so that nothing was scored.
        pacer: of the mean budget, if that pays for the request.
    """

    ranking: tuple[str, ...]
    mixture: Mapping[str, float]
    expected_cost: float
    expected_score: float | None = None
    pacer: BudgetPacer | None = None


class Chooser:
    """Chooses LLMs as the config says. Only those that the P2L model knows are routed to.

    Raises:
        BudgetError: the config's budget is below its cheapest LLM.
        CostError: the cost of an LLM is not known.
    """

    def __init__(self, config: GatewayConfig, p2l: P2L) -> None:
        self.costs = costs(config, p2l)
        self._budget = config.budget
        names = list(known_llms(config, p2l))
        known = {name: cost for name, cost in self.costs.items() if name in names}
        options: RouterOptions = {"models": names, "opponents": config.opponents, "objective": config.objective}
        strict: RouterOptions = {**options, "policy": Policy.STRICT}
        options["policy"] = config.policy
        self._router, self._best = p2l.router(known, **options), p2l.router(known, **strict)
        if config.budget is not None:
            check_budget(float(self._router.prices.min()), config.budget)
        self.pacer = None if config.mean_budget is None else self._router.pacer(config.mean_budget)

    def routed(
        self, board: Leaderboard, asked: str, budget: float | None, expected: Mapping[str, float] | None = None
    ) -> Choice:
        """The choice for a conversation with this leaderboard, where a response is expected to cost so much, USD by LLM
        (by default, what any response costs). A `budget` of the client replaces the config's, and such
        a request is not paid from the mean budget. The config's budgets hold for "p2l-best" too; otherwise that name
        would be a way around them.

        Raises:
            BudgetError: the budget is below the cheapest LLM, whose cost the message names.
        """
        costs = expected or self.costs
        paced = budget is None and self.pacer is not None
        router = self._best if asked == BEST and not paced else self._router
        if any(costs[name] != self.costs[name] for name in router.names):
            router = router.at_costs(costs)
        if paced and self.pacer is not None:
            return self._choice(router.route_paced(board, self.pacer), costs, self.pacer)
        return self._choice(router.route(board, self._budget if budget is None else budget), costs)

    def by_name(self, name: str, budget: float | None, expected: Mapping[str, float] | None = None) -> Choice:
        """The choice if the client named the LLM.

        Raises:
            BudgetError: the LLM costs more than the client's budget.
        """
        cost = (self.costs if expected is None else expected)[name]
        if budget is not None and cost > budget:
            raise BudgetError(f"{name} costs {usd(cost)} per response, the budget is {usd(budget)}", cost)
        return Choice((name,), {name: 1.0}, cost)

    def _choice(self, route: Route, costs: Mapping[str, float], pacer: BudgetPacer | None = None) -> Choice:
        cost = sum(probability * costs[name] for name, probability in route.mixture.items())
        return Choice(tuple(route.ranking), route.mixture, cost, route.expected_score, pacer)
