"""`Router`: the settings of routing (candidates, opponents, costs, policy), validated once for many prompts."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from p2l_sdk.errors import BudgetError, CostError, P2LError, member
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.leaderboards.weights import scaled, weights_of
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.leaderboard_p2l import win_rates
from p2l_sdk.modeling.limits_p2l import shown
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.names import find_models, matched
from p2l_sdk.options import named_options, whole_number
from p2l_sdk.routing import mixture as routing
from p2l_sdk.routing.allocation import JointFrontier
from p2l_sdk.routing.costs import costs_as_named
from p2l_sdk.routing.mixture import Objective, Policy, as_budget
from p2l_sdk.routing.named import columns_of, is_named
from p2l_sdk.routing.route import Route

if TYPE_CHECKING:
    from p2l_sdk.routing.frontier import Frontier
    from p2l_sdk.routing.pacing import BudgetPacer

_MOST_NAMED = 10  # LLMs in a message
_BLOCK_PAIRS = 1 << 20  # (prompt, candidate, opponent) triples that are scored together


class RouterOptions(TypedDict, total=False):
    """The keyword options of a `Router`, which describes them."""

    models: Sequence[str] | None
    opponents: Mapping[str, float] | None
    policy: Policy | str
    objective: Objective | str


class RouteOptions(RouterOptions, total=False):
    """The options of `P2L.route`: those of a `Router`, and costs that override the model's, USD per response."""

    costs: Mapping[str, float] | None


DEFAULTS = {"policy": str(Policy.OPTIMAL), "objective": str(Objective.WIN_RATE)}


class Router:
    """Routes by the leaderboards of one P2L model (paper, Theorem 1 and Algorithm 1).

    LLMs are named as people write them (see `p2l_sdk.names`), and a `Route` calls them what `models` calls them.

    Args:
        llms: names of the model's LLMs, in the order of its coefficients.
        feedback: its feedback model, or its name.
        costs: USD per response by LLM name.
        models: the LLMs that may be chosen. Two names of one LLM are two places to call it. If not given, all may be,
            and within a budget all whose cost is known: `Route.left_out` names the others.
        opponents: LLM name -> weight; uniform over all LLMs if not given.
        policy: "optimal" (the best mixture whose mean cost stays within the budget), "strict" (the best single LLM that
            costs no more than the budget) or "best" (the best LLM, whatever the budget).
        objective: "win_rate" (against the opponents) or, for grk, "usable" (the probability that the answer is usable).

    Attributes:
        names: the LLMs that may be chosen, as `models` names them.
        matched: name as given -> the model's own name, where they differ.

    Raises:
        UnknownModelError: a name is not one of the LLMs, or may be several.
        CostError: a cost is not a finite number >= 0.
        P2LError: the list of models is empty, the opponents' weights are invalid, or the policy or objective is unknown
            or does not fit the feedback model.
    """

    @named_options()
    def __init__(
        self,
        llms: tuple[str, ...],
        feedback: Feedback | str,
        costs: Mapping[str, float],
        *,
        models: Sequence[str] | None = None,
        opponents: Mapping[str, float] | None = None,
        policy: Policy | str = Policy.OPTIMAL,
        objective: Objective | str = Objective.WIN_RATE,
    ) -> None:
        feedback = Feedback.parse(feedback)
        self.policy: Policy = member(Policy, "policy", policy)
        self.objective: Objective = member(Objective, "objective", objective)
        if self.objective is Objective.USABLE and not feedback.grounded:
            raise P2LError(
                f"the objective 'usable' needs a grounded model (grk); this one is {feedback}: use 'win_rate'"
            )
        if models is not None and (isinstance(models, str) or not isinstance(models, Iterable)):
            raise P2LError(f"models must be a list of names, not {shown(models)}")
        self.llms, self.feedback = llms, feedback
        found = find_models(models or (), llms, "the list of LLMs that may be chosen")
        self.names = llms if models is None else tuple(found)
        if not self.names:
            raise P2LError("the list of LLMs that may be chosen is empty")
        self._candidates = slice(None) if models is None else _places(found, llms)
        self._opponents, self._weights, opposed = _opponents(llms, opponents)
        self.matched: dict[str, str] = matched(found | opposed)
        self._costs = costs_as_named(costs, llms, matched(found))
        self._missing = [name for name in self.names if name not in self._costs]
        self._prices = None if self._missing else np.array([self._costs[name] for name in self.names])
        self._within_budget, self.left_out = self, tuple[str, ...]()
        if models is None and 0 < len(self._missing) < len(llms):
            priced = [name for name in llms if name in self._costs]
            given: RouterOptions = {"opponents": opponents, "policy": policy, "objective": objective}
            self._within_budget = Router(llms, feedback, costs, models=priced, **given)
            self._within_budget.left_out = tuple(self._missing)

    def __repr__(self) -> str:
        left_out = f", {len(self.left_out)} without a cost" if self.left_out else ""
        return f"Router({len(self.names)} of {len(self.llms)} LLMs{left_out}, {self.policy}, {self.objective})"

    @property
    def prices(self) -> np.ndarray:
        """`(n_candidates,)` USD per response, in the order of `names`.

        Raises:
            CostError: one of these costs is unknown.
        """
        if self._prices is None:
            shown = ", ".join(self._missing[:_MOST_NAMED])
            more = f" and {len(self._missing) - _MOST_NAMED} more" if len(self._missing) > _MOST_NAMED else ""
            raise CostError(
                f"no cost is known for {shown}{more}; pass costs={{name: USD}} or leave it out of models= "
                "(on the command line --costs FILE; p2l costs shows what is known)"
            )
        return self._prices

    @property
    def known_prices(self) -> np.ndarray:
        """Like `prices`, NaN where the cost is unknown."""
        return np.array([self._costs.get(name, math.nan) for name in self.names])

    @property
    def within_budget(self) -> Router:
        """The router that chooses where there is a budget: this one, or the same for the LLMs of known cost if nobody
        said which may be chosen."""
        return self._within_budget

    def require_budgets(self, budgets: Sequence[float]) -> None:
        """Raise the BudgetError or CostError that routing under one of these budgets would raise, before any prompt is
        read."""
        cheapest = float(self._within_budget.prices.min())
        for budget in budgets:
            routing.check_budget(cheapest, budget)

    def at_costs(self, costs: Mapping[str, float]) -> Router:
        """The same router for one prompt that costs something else than others do, by its length for instance.

        Args:
            costs: USD per response, for each LLM that may be chosen, by its name in `names`; trusted, not checked.
        """
        other = object.__new__(Router)  # copy.copy takes as long as the choice itself
        vars(other).update(vars(self))
        other._costs, other._missing = {**self._costs, **costs}, []
        other._prices = np.array([costs[name] for name in self.names])
        other._within_budget, other.left_out = other, ()
        return other

    def scores(self, coefs: np.ndarray) -> np.ndarray:
        """The candidates' scores, `(..., n_candidates)` in (0, 1), from coefs `(..., n_models)` in logits."""
        coefs = self._of_llms(coefs)
        size = max(1, _BLOCK_PAIRS // (len(self.names) * len(self._weights)))
        if coefs.ndim == 1 or len(coefs) <= size:
            return self._scores(coefs.astype(np.float64))
        # for all prompts at once, the win rates of all pairs would be by far the largest array
        return np.concatenate([self.scores(coefs[start : start + size]) for start in range(0, len(coefs), size)])

    def _of_llms(self, coefs: Any) -> np.ndarray:
        """Coefficients as an array, in the order of `llms`: a frame's columns go by name."""
        if isinstance(coefs, Coefficients):
            coefs = coefs.coefs
        values = columns_of(coefs, self.llms, "the coefficients") if is_named(coefs) else np.asarray(coefs)
        if values.ndim == 0 or values.shape[-1] != len(self.llms):
            raise P2LError(f"coefficients are one for each of the {len(self.llms)} LLMs; their shape is {values.shape}")
        return values

    def _outcomes(self, outcomes: Any, shape: tuple[int, ...], prompts: Sequence[Prompt] | None) -> np.ndarray:
        """True scores of the candidates, `(n_prompts, n_candidates)`."""
        if is_named(outcomes):
            own = tuple(np.array(self.llms, dtype=object)[self._candidates])
            values = columns_of(outcomes, own, "the outcomes", prompts)
            if len(values) != shape[0]:
                raise P2LError(f"the outcomes have {len(values):,} rows; there are {shape[0]:,} prompts")
            return values
        try:
            truth = np.asarray(outcomes, dtype=np.float64)
        except (TypeError, ValueError):
            raise P2LError("outcomes must be an array of numbers, a table with a column per LLM, or Scores") from None
        if truth.shape != shape or not np.isfinite(truth).all():
            raise P2LError(
                f"outcomes must be finite numbers of the shape {shape}, a column for each LLM of the model; "
                f"theirs is {truth.shape}"
            )
        return truth[:, self._candidates]

    def _require_own(self, board: Leaderboard) -> None:
        """Raise P2LError for a leaderboard of other LLMs, or of the same in another order."""
        if board.models != self.llms:
            raise P2LError(
                f"this leaderboard is of other LLMs than the router's, or in another order: {', '.join(board.models)}; "
                f"the router's: {', '.join(self.llms)}"
            )

    def _scores(self, theta: np.ndarray) -> np.ndarray:
        if self.objective is Objective.USABLE:
            return 0.5 + 0.5 * np.tanh(0.5 * theta[..., self._candidates])
        return win_rates(theta[..., self._candidates], theta[..., self._opponents], self._weights)

    def route(self, board: Leaderboard, cost: float | None = None, seed: int | None = None) -> Route:
        """The LLM to call for the prompt of this leaderboard; see `P2L.route`."""
        budget = as_budget(cost)
        if budget is not None and self._within_budget is not self and self.policy is not Policy.BEST:
            return self._within_budget.route(board, budget, seed)
        self._require_own(board)
        scores = self.scores(board.coefs)
        if budget is None or self.policy is Policy.BEST:
            support = {int(scores.argmax()): 1.0}
        elif self.policy is Policy.STRICT:
            support = {routing.strict_choice(scores, self.prices, budget): 1.0}
        else:
            support = routing.optimal_support(scores, self.prices, budget)
        return self._route(board, scores, support, budget, draw(support, seed))

    def route_many(self, scored: Coefficients, cost: float | None = None, seed: int | None = None) -> list[Route]:
        """The LLM to call for each of many prompts, under one mean budget; see `P2L.route_many`."""
        budget, boards = as_budget(cost), scored.leaderboards(self.llms, self.feedback)
        if budget is None or self.policy is not Policy.OPTIMAL or not boards:
            return [self.route(board, budget) for board in boards]
        if self._within_budget is not self:
            return self._within_budget.route_many(scored, budget, seed)
        scores = self.scores(scored.coefs)
        allocation = JointFrontier(scores, self.prices).at(budget)
        supports = [allocation.mixture(i) for i in range(len(boards))]
        return [
            self._route(board, row, support, budget, draw(support, seed))
            for board, row, support in zip(boards, scores, supports, strict=True)
        ]

    def pacer(self, cost: float, *, sample: np.ndarray | None = None) -> BudgetPacer:
        """A pacer for this budget; see `P2L.pacer`.

        Args:
            cost: mean USD per response.
            sample: `(n_prompts, n_models)` coefficients of prompts like those to come, for the initial price.
        """
        from p2l_sdk.routing.pacing import BudgetPacer

        budget = as_budget(cost)
        if budget is None:
            raise BudgetError("a pacer needs a budget; give the mean cost, USD per response")
        if self._within_budget is not self:
            return self._within_budget.pacer(cost, sample=sample)
        start = 0.0 if sample is None else JointFrontier(self.scores(sample), self.prices).at(budget).multiplier
        return BudgetPacer(self.prices, budget, start=start)

    def route_paced(self, board: Leaderboard, pacer: BudgetPacer) -> Route:
        """The LLM that the pacer chooses; afterwards, call `pacer.record(cost)` with the actual cost. The pacer may be
        that of a router with more LLMs: this prompt's are chosen among these, and all are paid from one budget."""
        if self._within_budget is not self:
            return self._within_budget.route_paced(board, pacer)
        self._require_own(board)
        scores = self.scores(board.coefs)
        chosen = pacer.choose(scores, self._prices)
        return self._route(board, scores, {chosen: 1.0}, pacer.budget, chosen)

    def frontier(
        self,
        coefs: np.ndarray,
        budgets: Sequence[float] | None = None,
        outcomes: Any = None,
        *,
        prompts: Sequence[Prompt] | None = None,
        seed: int = 0,
    ) -> Frontier:
        """What each budget buys; see `P2L.frontier`.

        Args:
            coefs: `(n_prompts, n_models)` in logits.
            budgets: USD per response.
            outcomes: true scores. An array `(n_prompts, n_models)` has a column for every LLM of the model in its
                order, even if only some may be chosen; a frame, `Scores` or a file has columns by name, a row for each
                prompt.
            prompts: the prompts; a column `prompt` of the outcomes must hold the same.
            seed: of the limits, a bootstrap over prompts.

        Raises:
            P2LError: an outcome is missing or not finite, or a row is of another prompt.
        """
        from p2l_sdk.routing.sweep import frontier_of

        if self._within_budget is not self:
            return self._within_budget.frontier(coefs, budgets, outcomes, prompts=prompts, seed=seed)
        coefs = self._of_llms(coefs)
        truth = None if outcomes is None else self._outcomes(outcomes, coefs.shape, prompts)
        return frontier_of(self.scores(coefs), self.prices, budgets, truth, self.names, self.objective, seed)

    def _route(
        self, board: Leaderboard, scores: np.ndarray, support: dict[int, float], budget: float | None, chosen: int
    ) -> Route:
        names, known = self.names, self._costs
        score = sum(probability * float(scores[i]) for i, probability in support.items())
        if len(support) == 1:
            rating = float(board.coefs[self._candidates][chosen])
        elif self.objective is Objective.USABLE:
            rating = float(np.log(score) - np.log1p(-score))
        else:
            rating = routing.router_coefficient(score, board.coefs[self._opponents], self._weights)
        called = {names[i] for i in support}
        others = [names[i] for i in (-scores).argsort(kind="stable").tolist() if i != chosen]
        return Route(
            model=names[chosen],
            mixture={names[i]: probability for i, probability in support.items()},
            expected_cost=sum(p * known[names[i]] for i, p in support.items()) if called <= known.keys() else None,
            expected_score=score,
            rating=rating,
            ranking=[
                names[chosen],
                *(name for name in others if budget is None or known.get(name, math.inf) <= budget),
            ],
            budget=budget,
            leaderboard=board,
            objective=self.objective,
            matched=self.matched,
            left_out=self.left_out,
            dearest=None if self._prices is None else float(self._prices.max()),
        )


def _opponents(llms: tuple[str, ...], opponents: Mapping[str, float] | None) -> tuple[Any, np.ndarray, dict[str, str]]:
    """Their places and weights, and what their names mean."""
    if opponents is not None and not isinstance(opponents, Mapping):
        raise P2LError("opponents must be a mapping: {name: weight}")
    if opponents is None:
        return slice(None), np.full(len(llms), 1.0 / len(llms)), {}
    found = find_models(opponents, llms, "the table of opponents")
    rule = "the weights of the opponents must be finite numbers >= 0, at least one of them above 0"
    weights = scaled(weights_of(opponents.values(), rule))
    if not weights.any():
        raise P2LError(rule)
    return _places(found, llms), weights / weights.sum(), found


def _places(found: Mapping[str, str], llms: tuple[str, ...]) -> np.ndarray:
    """Where the LLMs that names mean stand in the model."""
    place = {name: i for i, name in enumerate(llms)}
    return np.array([place[own] for own in found.values()])


def draw(support: dict[int, float], seed: int | None) -> int:
    """Draw one of the LLMs of a mixture, {place: probability}."""
    if seed is not None:
        seed = whole_number("seed", seed, least=None)
    if len(support) == 1:
        return next(iter(support))
    return random.Random(seed).choices(list(support), list(support.values()))[0]
