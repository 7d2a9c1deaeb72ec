"""The choice of the LLM for a request, and of those to call if it fails."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from p2l_sdk.errors import BudgetError
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.routing.mixture import Policy, check_budget, price_of_money
from p2l_sdk.routing.pacing import BudgetPacer
from p2l_sdk.routing.route import usd
from p2l_sdk.routing.router import Router, RouterOptions
from p2l_sdk.serve.gateway.affinity import Session
from p2l_sdk.serve.gateway.config import GatewayConfig, costs, known_llms
from p2l_sdk.serve.gateway.llm import BEST

if TYPE_CHECKING:
    from p2l_sdk.p2l import P2L

_HIGHEST_SCORE = 1.0
_LAST = 100  # requests over which the price of money is averaged


@dataclass(frozen=True)
class Choice:
    """The LLMs chosen for a request.

    Attributes:
        ranking: the LLM to call, then those to call if it fails, all within the budget.
        mixture: name -> probability; the first LLM was drawn from it.
        expected_cost: of the mixture, USD per response.
        expected_score: of the mixture, in (0, 1); None if the client named the LLM, so that nothing was scored.
        pacer: of the mean budget, if that pays for the request.
        session: the conversation of the request, unless the client named the LLM.
    """

    ranking: tuple[str, ...]
    mixture: Mapping[str, float]
    expected_cost: float
    expected_score: float | None = None
    pacer: BudgetPacer | None = None
    session: Session | None = None


class Chooser:
    """Chooses LLMs as the config says. Only those that the P2L model knows are routed to; fallbacks come after them.

    Attributes:
        costs: USD per response by LLM.
        candidates: the LLMs that a request may be routed to, fallbacks included.
        pacer: of the mean budget, None without one.

    Raises:
        BudgetError: the config's budget is below its cheapest LLM.
        CostError: the cost of an LLM is not known.
    """

    def __init__(self, config: GatewayConfig, p2l: P2L) -> None:
        self.costs = costs(config, p2l)
        self._config, self._p2l = config, p2l
        self._names = tuple(known_llms(config, p2l))
        self.candidates = tuple(dict.fromkeys((*self._names, *config.fallback)))
        self._routers: dict[tuple[str, ...], tuple[Router, Router]] = {}  # by the LLMs that they choose among
        router, _ = self._among(self._names)
        if config.budget is not None:
            check_budget(float(router.prices.min()), config.budget)
        self.pacer = None if config.mean_budget is None else router.pacer(config.mean_budget)
        self._price, self._paced = 0.0, 0  # the pacer's price of money, a mean over the last requests

    def routed(
        self,
        board: Leaderboard,
        asked: str,
        budget: float | None,
        without: Collection[str] = frozenset(),
        expected: Mapping[str, float] | None = None,
        session: Session | None = None,
    ) -> Choice:
        """The choice for a conversation with this leaderboard, whose response is `expected` to cost so much, USD by LLM
        (by default, what any response costs). A `budget` of the client replaces the config's, and such
        a request is not paid from the mean budget. The config's budgets hold for "p2l-best" too; otherwise that name
        would be a way around them. LLMs in `without`, not all of the `candidates`, are not chosen. A `session` stays
        with its LLM unless another one is worth the change, see `_stays`.

        Raises:
            BudgetError: the budget is below the cheapest LLM, whose cost the message names.
        """
        costs, own = expected or self.costs, budget is not None
        pacer = self.pacer if budget is None else None
        budget = self._config.budget if budget is None else budget
        names = tuple(name for name in self._names if name not in without) if without else self._names
        reserve = [name for name in self._config.fallback if name not in without]
        reserve = [name for name in reserve if budget is None or costs[name] <= budget]
        most = math.inf if budget is None or self._config.policy is Policy.BEST else budget
        if reserve and not any(costs[name] <= most for name in names):
            return Choice(tuple(reserve), {reserve[0]: 1.0}, costs[reserve[0]], pacer=pacer, session=session)
        if not names:  # and no fallback fits the budget
            able = (name for name in self.candidates if name not in without)
            return replace(self.by_name(min(able, key=costs.__getitem__), budget, costs), session=session)
        router, best = self._among(names)
        router = _at(best if asked == BEST and pacer is None else router, costs, self.costs)
        if pacer is not None:
            self._paced += 1
            self._price += (pacer.multiplier - self._price) / min(self._paced, _LAST)
            route = router.route_paced(board, pacer)
        else:
            route = router.route(board, budget, None if session is None else session.seed)
        cost = sum(probability * costs[name] for name, probability in route.mixture.items())
        ranking = tuple(dict.fromkeys((*route.ranking, *reserve)))
        choice = Choice(ranking, route.mixture, cost, route.expected_score, pacer, session)
        if session is None or session.kept in (None, route.model):
            return choice
        scores = dict(zip(router.names, router.scores(board.coefs).tolist(), strict=True))
        if not self._stays(session, choice, router, scores, costs, budget, own):
            return choice
        first = session.kept
        others = [name for name in ranking if name != first]
        return Choice((first, *others), {first: 1.0}, costs[first], scores.get(first), pacer, session)

    def _stays(
        self,
        session: Session,
        choice: Choice,
        router: Router,
        scores: Mapping[str, float],
        costs: Mapping[str, float],
        budget: float | None,
        own: bool,
    ) -> bool:
        """Whether a session stays with its LLM although another one is the choice.

        A loop of tools does, unless its LLM is out of reach of the request's own budget, or costs more at the present
        price of money than the highest score is worth: a loop may go on for ever, and the mean budget holds for it too.
        A conversation with an LLM that costs more than the budget does if that was drawn, and its probability is still
        half of what it took. Any other changes for a gain in value (score minus cost at the price of money) above
        `affinity_gain`. The cost of its LLM is that with its cache.
        """
        kept, other = session.kept or "", choice.ranking[0]
        if kept not in costs:
            return False
        cost = costs[kept] - session.saved(self._config.models[kept])
        if choice.pacer is not None and choice.pacer.multiplier * (cost - costs[other]) > _HIGHEST_SCORE:
            return False
        if kept not in scores:  # cannot do it; or a fallback, of which no score is known
            return session.loop and kept in choice.ranking
        free = budget is None or choice.pacer is not None or router.policy is Policy.BEST
        paid, chance = free or budget is None or cost <= budget, choice.mixture.get(kept, 0.0)
        if session.loop:
            return paid or not own or chance > 0.0
        if not paid:
            return session.lot <= 2 * chance
        if choice.pacer is not None:
            price = self._price  # the present one swings with every response, to mix LLMs over requests
        elif budget is None or router.policy is not Policy.OPTIMAL:
            price = 0.0
        else:
            price = price_of_money(np.array([*scores.values()]), router.prices, budget)
        gain = scores[other] - scores[kept] - price * (costs[other] - cost)
        return gain <= self._config.affinity_gain

    def by_name(self, name: str, budget: float | None, expected: Mapping[str, float] | None = None) -> Choice:
        """The choice if the client named the LLM.

        Raises:
            BudgetError: the LLM costs more than the client's budget.
        """
        cost = (expected or self.costs)[name]
        if budget is not None and cost > budget:
            raise BudgetError(f"{name} costs {usd(cost)} per response, the budget is {usd(budget)}", cost)
        return Choice((name,), {name: 1.0}, cost)

    def _among(self, names: tuple[str, ...]) -> tuple[Router, Router]:
        """The router of the config's policy among these LLMs, and that of "p2l-best"."""
        if names not in self._routers:
            known = {name: cost for name, cost in self.costs.items() if name in names}
            options: RouterOptions = {
                "models": names, "opponents": self._config.opponents, "objective": self._config.objective
            }  # fmt: skip
            strict: RouterOptions = {**options, "policy": Policy.STRICT}
            options["policy"] = self._config.policy
            self._routers[names] = self._p2l.router(known, **options), self._p2l.router(known, **strict)
        return self._routers[names]


def _at(router: Router, costs: Mapping[str, float], usual: Mapping[str, float]) -> Router:
    """The router at the costs of one request."""
    same = all(costs[name] == usual[name] for name in router.names)
    return router if same else router.at_costs(costs)
