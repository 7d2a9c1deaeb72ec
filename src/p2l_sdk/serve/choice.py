"""Which LLM a request goes to, and which ones after it if that one fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2l_sdk.errors import BudgetError
from p2l_sdk.pacing import BudgetPacer
from p2l_sdk.results import Leaderboard, Route, usd
from p2l_sdk.routing import Policy, check_budget
from p2l_sdk.serve.config import BEST, RouterConfig, costs

if TYPE_CHECKING:
    from p2l_sdk.facade import P2L


@dataclass(frozen=True)
class Choice:
    """Attributes:
    ranking: the LLM to call, then those to call if it fails, all within the budget.
    mixture: name -> probability, from which the first was drawn.
    expected_cost: USD per response, of the mixture.
    expected_score: of the mixture, in (0, 1); None where the client named the LLM, so that nothing was scored.
    pacer: the mean budget that pays for it, if one does.
    """

    ranking: tuple[str, ...]
    mixture: Mapping[str, float]
    expected_cost: float
    expected_score: float | None = None
    pacer: BudgetPacer | None = None


class Chooser:
    """Chooses as the config says. Only LLMs that the P2L model knows are routed to.

    Raises:
        BudgetError: the config's budget lies under its cheapest LLM.
        CostError: the cost of an LLM is not known.
    """

    def __init__(self, config: RouterConfig, p2l: P2L) -> None:
        self.costs = costs(config, p2l)
        self._budget = config.budget
        names = [name for name in config.models if name in p2l.models]
        known = {name: cost for name, cost in self.costs.items() if name in names}
        options = {"models": names, "opponents": config.opponents, "objective": config.objective}
        self._router = p2l.router(known, policy=config.policy, **options)
        self._best = p2l.router(known, policy=Policy.STRICT, **options)
        if config.budget is not None:
            check_budget(float(self._router.prices.min()), config.budget)
        self.pacer = None if config.mean_budget is None else self._router.pacer(config.mean_budget)

    def routed(self, board: Leaderboard, asked: str, budget: float | None) -> Choice:
        """For a conversation with this leaderboard. A budget is the client's own: it replaces the config's, and the
        mean budget does not pay for it. Both hold for "p2l-best" too, or that name would be the way around them.

        Raises:
            BudgetError: the budget is under the cheapest LLM; it names that cost.
        """
        if budget is None and self.pacer is not None:
            return self._choice(self._router.route_paced(board, self.pacer), self.pacer)
        router = self._best if asked == BEST else self._router
        return self._choice(router.route(board, self._budget if budget is None else budget))

    def straight(self, name: str, budget: float | None) -> Choice:
        """For a client that named the LLM.

        Raises:
            BudgetError: it costs more than the client's own budget.
        """
        cost = self.costs[name]
        if budget is not None and cost > budget:
            raise BudgetError(f"{name} costs {usd(cost)} per response, the budget is {usd(budget)}", cost)
        return Choice((name,), {name: 1.0}, cost)

    def _choice(self, route: Route, pacer: BudgetPacer | None = None) -> Choice:
        cost = sum(probability * self.costs[name] for name, probability in route.mixture.items())
        return Choice(tuple(route.ranking), route.mixture, cost, route.expected_score, pacer)
