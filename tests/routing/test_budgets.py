"""One budget for many prompts: allocation, pacing, frontier, policies and objectives."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from conftest import COSTS, MODELS, shared
from scipy.optimize import linprog

from p2l_sdk import P2L, P2LError
from p2l_sdk.errors import BudgetError, CostError, UnknownModelError
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.routing.allocation import JointFrontier
from p2l_sdk.routing.mixture import optimal_mixture, strict_choice
from p2l_sdk.routing.pacing import BudgetPacer
from p2l_sdk.routing.route import share_text
from p2l_sdk.routing.router import Router
from p2l_sdk.votes.votes import Scores

PROMPTS = ["write a poem", "sum list in python", "prove that two is irrational", "about code", "the square root of two"]


@pytest.fixture
def p2l(saved) -> P2L:
    return P2L.from_pretrained(saved("quantized", head_hidden_size=8))


def joint_instances(rng, count=40):
    for _ in range(count):
        n, m = int(rng.integers(1, 8)), int(rng.integers(1, 6))
        scores, costs = rng.uniform(0, 1, (n, m)), rng.uniform(0.1, 5, m)
        if rng.random() < 0.4:  # ties and equal costs
            scores, costs = scores.round(1), costs.round(0) + 1
        yield scores, costs, float(costs.min() + rng.uniform(0, 1.1) * np.ptp(costs))


# --- allocation --------------------------------------------------------------------------------------------------


def test_an_allocation_is_as_good_as_the_linear_programme_over_all_prompts(rng):
    for scores, costs, budget in joint_instances(rng):
        n, m = scores.shape
        allocation = JointFrontier(scores, costs).at(budget)
        assert allocation.mean(costs) <= budget + 1e-12
        each = np.kron(np.eye(n), np.ones((1, m)))
        lp = linprog(
            -scores.ravel(), A_ub=np.tile(costs, n)[None] / n, b_ub=[budget], A_eq=each, b_eq=np.ones(n), bounds=(0, 1)
        )
        assert allocation.mean(scores) * n == pytest.approx(-lp.fun, abs=1e-9)


def test_the_multiplier_explains_every_choice(rng):
    for scores, costs, budget in joint_instances(rng):
        allocation = JointFrontier(scores, costs).at(budget)
        worth = scores - allocation.multiplier * costs
        chosen = worth[np.arange(len(scores)), allocation.choice]
        np.testing.assert_allclose(chosen, worth.max(1), atol=1e-9)


def test_it_is_never_worse_than_the_budget_per_prompt(rng):
    for scores, costs, budget in joint_instances(rng):
        alone = np.mean([optimal_mixture(row, costs, budget) @ row for row in scores])
        assert JointFrontier(scores, costs).at(budget).mean(scores) >= alone - 1e-12


def test_more_money_never_hurts(rng):
    for scores, costs, _ in joint_instances(rng, 15):
        joint = JointFrontier(scores, costs)
        means = [joint.at(b).mean(scores) for b in np.linspace(costs.min(), costs.max(), 20)]
        assert (np.diff(means) >= -1e-12).all()
        assert means[-1] == pytest.approx(scores.max(1).mean())


def test_outcomes_are_of_all_llms_of_the_model(p2l):
    truth = np.random.default_rng(0).uniform(size=(5, 4))
    frontier = p2l.frontier(PROMPTS, outcomes=truth, models=[MODELS[2], MODELS[0]])
    np.testing.assert_allclose(frontier.model_scores, truth.mean(0)[[2, 0]])


def test_many_prompts_and_llms_are_scored_in_little_memory(rng):
    """500 prompts and 130 LLMs: the win rates of all pairs would take 68 MB."""
    names = tuple(f"m{i}" for i in range(130))
    router = Router(names, Feedback.GRK, {})
    coefs = rng.normal(size=(500, 130)).astype(np.float32)
    tracemalloc.start()
    scores = router.scores(coefs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6
    assert scores.shape == (500, 130)
    for i in (0, 250, 499):
        np.testing.assert_allclose(scores[i], router.scores(coefs[i]), rtol=1e-12)


def test_one_prompt_is_the_single_mixture(rng):
    for scores, costs, budget in joint_instances(rng):
        mixture = JointFrontier(scores[:1], costs).at(budget).mixture(0)
        expected = optimal_mixture(scores[0], costs, budget)
        assert sum(p * scores[0][i] for i, p in mixture.items()) == pytest.approx(expected @ scores[0], abs=1e-12)


def test_route_many_on_real_prompts_beats_the_budget_per_prompt(routing9):
    """The small embedded model on routing9's val, at every mean budget between the cheapest and the dearest LLM."""
    scores = Scores.read(shared("data/routing9/scores_val.parquet"), routing9.models)
    frontier = routing9.frontier(scores.prompts)
    assert (frontier.router_scores >= frontier.prompt_scores - 1e-12).all()
    assert (frontier.router_scores[1:-1] > frontier.prompt_scores[1:-1]).all()
    assert (frontier.router_costs <= frontier.budgets + 1e-15).all()
    measured = routing9.frontier(scores.prompts, outcomes=scores.scores)
    np.testing.assert_allclose(measured.model_scores, scores.scores.mean(0))
    assert measured.router_scores[-1] > measured.model_scores.max()


def test_route_many_is_the_allocation(p2l):
    routes = p2l.route_many(PROMPTS, cost=0.0005, seed=0)
    assert [route.leaderboard.best for route in routes] == [board.best for board in p2l.leaderboards(PROMPTS)]
    assert np.mean([route.expected_cost for route in routes]) <= 0.0005 + 1e-15
    alone = [p2l.route(prompt, cost=0.0005) for prompt in PROMPTS]
    assert sum(r.expected_score for r in routes) >= sum(r.expected_score for r in alone) - 1e-6
    assert sum(len(route.mixture) > 1 for route in routes) <= 1
    assert [r.model for r in p2l.route_many(PROMPTS)] == [p2l.route(prompt).model for prompt in PROMPTS]
    assert p2l.route_many([], cost=1.0) == []
    with pytest.raises(BudgetError, match="cheapest feasible"):
        p2l.route_many(PROMPTS, cost=0.00001)


# --- policies and objectives -------------------------------------------------------------------------------------


def test_the_strict_policy_takes_the_best_that_fits(rng, p2l):
    for scores, costs, budget in joint_instances(rng):
        chosen = strict_choice(scores[0], costs, budget)
        affordable = costs <= budget
        assert affordable[chosen]
        assert scores[0][chosen] == scores[0][affordable].max()
    route = p2l.route(PROMPTS[0], cost=0.0005, policy="strict")
    assert len(route.mixture) == 1
    assert COSTS[route.model] <= 0.0005
    with pytest.raises(BudgetError, match="cheapest feasible"):
        p2l.route(PROMPTS[0], cost=0.00001, policy="strict")


def test_the_best_policy_ignores_the_budget(p2l):
    for prompt in PROMPTS:
        assert p2l.route(prompt, cost=0.0001, policy="best").model == p2l.leaderboard(prompt).best


def test_a_budget_far_above_every_cost_says_so(p2l):
    dearest = max(COSTS.values())
    notes = [dict(p2l.route(PROMPTS[0], times * dearest).facts()).get("note", "") for times in (1, 5, 50)]
    assert ["it limits nothing" in note for note in notes] == [False, False, True]
    assert f"would be {50 * dearest / 1000:g})" in notes[2]
    assert "note" not in dict(p2l.route(PROMPTS[0]).facts())


@pytest.mark.parametrize(("share", "text"), [(1.0, "100%"), (0.999, ">99%"), (0.5, "50%"), (0.001, "<1%")])
def test_a_share_is_not_shown_as_all_or_nothing(share, text):
    assert share_text(share) == text


def test_the_usable_objective(p2l, saved):
    route = p2l.route(PROMPTS[0], cost=0.0005, objective="usable")
    usable = dict(zip(MODELS, route.leaderboard.usable, strict=True))
    assert route.expected_score == pytest.approx(sum(p * usable[m] for m, p in route.mixture.items()), abs=1e-6)
    assert 1 / (1 + np.exp(-route.rating)) == pytest.approx(route.expected_score, abs=1e-6)
    assert dict(route.facts())["score"] == f"{route.expected_score:.0%} chance of a usable answer"
    assert route.to_dict()["objective"] == "usable"
    plain = p2l.route(PROMPTS[0], cost=0.0005)
    assert "chance to be preferred to the answer of an opponent" in repr(plain)
    assert plain.to_dict()["objective"] == "win_rate"
    with pytest.raises(P2LError, match="needs a grounded model"):
        P2L.from_pretrained(saved("static", "bt")).route("write", objective="usable")
    with pytest.raises(P2LError, match="unknown objective 'luck'; known: win_rate, usable"):
        p2l.route("write", objective="luck")
    with pytest.raises(P2LError, match="unknown policy 'greedy'; known: optimal, strict, best"):
        p2l.route("write", policy="greedy")


# --- pacing ------------------------------------------------------------------------------------------------------


def stream(rng, n: int) -> np.ndarray:
    """Drifting scores: the expensive LLM becomes more and more worth its price."""
    scores = rng.uniform(0.2, 0.6, (n, 4))
    scores[:, 3] += np.linspace(0.0, 0.4, n)
    return scores


@pytest.mark.parametrize("budget", [0.00015, 0.0003, 0.0008])
def test_the_running_mean_is_the_budget(budget, rng):
    """Within 1 % after 10,000 prompts, where it binds all the time."""
    costs = np.array(list(COSTS.values()))
    pacer = BudgetPacer(costs, budget)
    for row in rng.uniform(0, 1, (10_000, 4)):
        pacer.record(costs[pacer.choose(row)])
    assert pacer.n == 10_000
    assert pacer.mean_cost == pytest.approx(budget, rel=0.01)


@pytest.mark.parametrize("budget", [0.00015, 0.0005, 0.002])
def test_no_stream_overspends(budget, rng):
    """Also where the budget binds in one half only."""
    costs = np.array(list(COSTS.values()))
    for scores in (stream(rng, 10_000), stream(rng, 10_000)[::-1]):
        pacer = BudgetPacer(costs, budget)
        for row in scores:
            pacer.record(costs[pacer.choose(row)])
        assert pacer.mean_cost <= budget * 1.01


def test_pacing_is_nearly_as_good_as_knowing_the_stream(rng):
    costs, scores = np.array(list(COSTS.values())), rng.uniform(0, 1, (5_000, 4))
    best = JointFrontier(scores, costs).at(0.0005)
    pacer = BudgetPacer(costs, 0.0005, start=JointFrontier(scores[:200], costs).at(0.0005).multiplier)
    total = 0.0
    for row in scores:
        chosen = pacer.choose(row)
        total += row[chosen]
        pacer.record(costs[chosen])
    assert pacer.mean_cost <= 0.0005 * 1.01
    assert total / len(scores) >= 0.97 * best.mean(scores)


def test_a_loose_budget_does_not_bind(rng):
    costs = np.array(list(COSTS.values()))
    pacer = BudgetPacer(costs, 0.01)
    for scores in stream(rng, 200):
        chosen = pacer.choose(scores)
        assert chosen == scores.argmax()
        pacer.record(costs[chosen])
    assert pacer.multiplier == 0.0


def test_p2l_paces(saved):
    dear_first = dict(zip(MODELS, reversed(COSTS.values()), strict=True))
    p2l = P2L.from_pretrained(saved("quantized", head_hidden_size=8), costs=dear_first)
    pacer = p2l.pacer(0.00015, sample=PROMPTS)
    assert pacer.multiplier > 0
    for prompt in PROMPTS * 200:
        route = p2l.route(prompt, pacer=pacer)
        assert route.mixture == {route.model: 1.0}
        pacer.record(route.expected_cost)
    assert pacer.mean_cost == pytest.approx(0.00015, rel=0.03)
    with pytest.raises(BudgetError, match="a cost or a pacer, not both"):
        p2l.route("write", cost=1.0, pacer=pacer)


# --- the figure, and errors --------------------------------------------------------------------------------------


def test_the_frontier_as_data_and_picture(p2l, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    frontier = p2l.frontier(PROMPTS, budgets=[0.0001, 0.0005, 0.003])
    plain = frontier.to_dict()
    assert plain["budgets"] == [0.0001, 0.0005, 0.003]
    assert [row["model"] for row in plain["models"]] == list(MODELS)
    ax = frontier.plot()
    assert {text.get_text() for text in ax.texts} == set(MODELS)
    ax.figure.savefig(tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").stat().st_size > 5000


def test_refusals(p2l, saved):
    scores, costs = np.array([[0.1, 0.9]]), np.array([1.0, 2.0])
    with pytest.raises(P2LError, match="one cost for each LLM"):
        JointFrontier(scores, costs[:1])
    with pytest.raises(P2LError, match="must be finite"):
        JointFrontier(scores * np.nan, costs)
    for budget in (float("nan"), 0.5):
        with pytest.raises(BudgetError):
            JointFrontier(scores, costs).at(budget)
        with pytest.raises(BudgetError):
            BudgetPacer(costs, budget)
    with pytest.raises(P2LError, match="the start at least 0"):
        BudgetPacer(costs, 1.5, start=-1)
    with pytest.raises(P2LError, match="the response cost nan"):
        BudgetPacer(costs, 1.5).record(float("nan"))
    for shape in ((2, 4), (5,), (5, 2), (5, 20)):  # also with only the LLMs that may be chosen
        with pytest.raises(P2LError, match=r"must be finite numbers of the shape \(5, 4\), a column for each LLM"):
            p2l.frontier(PROMPTS, outcomes=np.zeros(shape), models=MODELS[2:])
    with pytest.raises(P2LError, match="outcomes must be finite"):
        p2l.frontier(PROMPTS, outcomes=np.full((5, 4), np.nan))
    with pytest.raises(CostError, match="no cost is known"):
        P2L.from_pretrained(saved("static"), costs={}).frontier(PROMPTS)
    with pytest.raises(UnknownModelError, match="table of costs names 'gpt-9'"):
        p2l.route_many(PROMPTS, cost=1, costs={"gpt-9": 1.0})


def test_a_router_takes_leaderboards_of_its_own_llms_alone(p2l):
    board, prices = p2l.leaderboard(PROMPTS[0]), dict(p2l.costs)
    assert Router(p2l.models, "grk", prices).route(board).model == board.best
    for llms in (p2l.models[::-1], p2l.models[:2]):
        router = Router(llms, Feedback.GRK, {name: prices[name] for name in llms})
        for route in (router.route, lambda board, router=router: router.route_paced(board, router.pacer(0.001))):
            with pytest.raises(P2LError, match="of other LLMs than the router's, or in another order"):
                route(board)
    with pytest.raises(P2LError, match="unknown feedback model 'rkk'; known: bt"):
        Router(p2l.models, "rkk", prices)
