"""Routing among LLMs that are named as people write them."""

from __future__ import annotations

import pytest
from arena_names import NAMES

from p2l_sdk.errors import CostError, UnknownModelError

OWN = {
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "anthropic/claude-3.5-haiku": "claude-3-5-haiku-20241022",
    "llama3.1:8b": "llama-3.1-8b-instruct",
}
GIVEN = list(OWN)
COSTS = dict(zip(OWN.values(), (0.0004, 0.0024, 0.0001), strict=True))
PROMPT = "write a poem about code"


@pytest.fixture(scope="module")
def arena(saved):
    from p2l_sdk import P2L

    return P2L.from_pretrained(saved("static", "bt", models=NAMES, costs=COSTS))


def as_given(route) -> dict:
    """What a route among the model's own names would be among the given ones."""
    names = {own: given for given, own in OWN.items()}
    plain = route.to_dict()
    mixture = {names[name]: share for name, share in plain["mixture"].items()}
    ranking = [names[name] for name in plain["ranking"]]
    return {**plain, "model": names[plain["model"]], "mixture": mixture, "ranking": ranking, "matched": OWN}


@pytest.mark.parametrize("cost", [None, 0.0001, 0.0003, 0.001])
@pytest.mark.parametrize("policy", ["optimal", "strict", "best"])
def test_a_route_calls_llms_what_the_caller_calls_them(arena, cost, policy):
    route = arena.route(PROMPT, cost, models=GIVEN, policy=policy, seed=1)
    same = arena.route(PROMPT, cost, models=list(OWN.values()), policy=policy, seed=1)
    assert route.model in GIVEN
    assert route.to_dict() == as_given(same)
    assert same.matched == {}
    assert route.leaderboard.models == NAMES


def test_every_way_to_route_takes_such_names(arena):
    budget, prompts = 0.0005, [PROMPT, "sum a list in python", "prove that two is irrational"]
    for route in arena.route_many(prompts, budget, models=GIVEN, seed=0):
        assert set(route.ranking) <= set(GIVEN)
    assert arena.frontier(prompts, models=GIVEN).models == tuple(GIVEN)
    pacer = arena.pacer(budget, models=GIVEN)
    router = arena.router(models=GIVEN, opponents={"o1": 1.0, "o3-mini": 2.0})
    assert router.route_paced(arena.leaderboard(PROMPT), pacer).model in GIVEN
    assert router.matched == {**OWN, "o1": "o1-2024-12-17"}
    own = arena.router(models=GIVEN, opponents={"o1-2024-12-17": 1.0, "o3-mini": 2.0})
    assert (router.scores(arena.leaderboard(PROMPT).coefs) == own.scores(arena.leaderboard(PROMPT).coefs)).all()


def test_it_is_said_what_was_read(arena):
    route = arena.route(PROMPT, models=GIVEN)
    expected = ", ".join(f"{name} as {own}" for name, own in OWN.items())
    assert ("read", expected) in route.facts()
    assert expected in repr(route)
    assert "read" not in dict(arena.route(PROMPT, models=["o3-mini", "o1-mini"]).facts())
    pytest.importorskip("pandas")
    frame = arena.route(PROMPT, 0.0003, models=GIVEN).to_pandas()
    chances = dict(zip(frame["model"], frame["probability"], strict=True))
    assert {name for name, chance in chances.items() if chance} <= set(OWN.values())
    assert sum(chances.values()) == pytest.approx(1)


def test_costs_by_such_names(arena):
    from p2l_sdk import load_costs

    assert load_costs({"gpt-4o-mini": 0.1, "o3-mini": 1}, NAMES) == {"gpt-4o-mini-2024-07-18": 0.1, "o3-mini": 1.0}
    for costs in ({"gpt-4o-mini": 0.00001}, {"gpt-4o-mini-2024-07-18": 0.00001}, {"openai/gpt-4o-mini": 0.00001}):
        assert dict(zip(GIVEN, arena.router(costs, models=GIVEN).prices.tolist(), strict=True)) == {
            "gpt-4o-mini": 0.00001,
            "anthropic/claude-3.5-haiku": 0.0024,
            "llama3.1:8b": 0.0001,
        }
    with pytest.raises(
        CostError, match=r"'gpt-4o-mini' and 'openai/gpt-4o-mini' are the same LLM .*\(gpt-4o-mini-2024"
    ):
        load_costs({"gpt-4o-mini": 0.1, "o3-mini": 1, "openai/gpt-4o-mini": 0.1}, NAMES)
    with pytest.raises(CostError, match="the cost of 'gpt-4o-mini-2024-07-18' is -1"):
        arena.route(PROMPT, models=GIVEN, costs={"gpt-4o-mini": -1})
    with pytest.raises(UnknownModelError, match="the table of costs names 'gpt-4o', which may be gpt-4o-2024-05-13 or"):
        load_costs({"gpt-4o": 1}, NAMES)


def test_one_llm_at_two_places(arena):
    """As behind two addresses of a gateway, each at its price."""
    places = {"openai/gpt-4o-mini": 0.0004, "azure/gpt-4o-mini": 0.0003}
    route = arena.route(PROMPT, 0.0003, models=list(places), costs=places)
    assert (route.model, route.expected_cost) == ("azure/gpt-4o-mini", 0.0003)
    assert set(route.matched.values()) == {"gpt-4o-mini-2024-07-18"}
    both = arena.route(PROMPT, models=list(places), costs=places)
    assert set(both.ranking) == set(places)


def test_refusals(arena):
    with pytest.raises(
        UnknownModelError, match="the list of LLMs that may be chosen names 'gpt-4', which may be gpt-4-0"
    ):
        arena.route(PROMPT, models=["gpt-4"])
    with pytest.raises(
        UnknownModelError, match="the table of opponents names 'claude-3-5-sonnet', which may be claude-3"
    ):
        arena.route(PROMPT, opponents={"claude-3-5-sonnet": 1})
    with pytest.raises(UnknownModelError, match=r"names 'gpt-9', which this model does not know; .*docs/no-votes.md"):
        arena.route(PROMPT, models=["gpt-9"])
    with pytest.raises(CostError, match=r"no cost is known for amazon-nova-lite-v1.0, .* and \d+ more; pass costs="):
        arena.route(PROMPT, 0.001, models=NAMES)


def test_a_question_and_an_edit_take_such_names(arena):
    board = arena.leaderboard(PROMPT)
    asked = board.win_probability("gpt-4o-mini", "openai/o1")
    assert asked == board.win_probability("gpt-4o-mini-2024-07-18", "o1-2024-12-17")
    assert board.outcomes("gpt-4o-mini", "openai/o1")["a"] == pytest.approx(asked)
    removed = arena.remove_model("gpt-4o-mini")
    assert set(NAMES) - set(removed.models) == {"gpt-4o-mini-2024-07-18"}
    assert "gpt-4o-mini-2024-07-18" not in removed.costs
    renamed = arena.rename_model("gpt-4o-mini", "mini")
    assert set(renamed.models) - set(NAMES) == {"mini"}
    assert renamed.costs["mini"] == COSTS["gpt-4o-mini-2024-07-18"]
    with pytest.raises(UnknownModelError, match="remove_model names 'gpt-4o', which may be"):
        arena.remove_model("gpt-4o")


def test_the_picture_of_a_frontier_names_those_that_none_beats(arena):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    costs = {name: 0.0001 * 1.2**i for i, name in enumerate(NAMES)}
    frontier = arena.router(costs).frontier(arena.coefficients([PROMPT]).coefs)
    ax = frontier.plot()
    named = {text.get_text() for text in ax.texts}
    points = dict(zip(frontier.models, zip(frontier.model_costs, frontier.model_scores, strict=True), strict=True))
    beaten = {a for a, (c, s) in points.items() if any(x < c and y >= s for x, y in points.values())}
    assert named
    assert not named & beaten
    assert ax.get_xscale() == "log"
