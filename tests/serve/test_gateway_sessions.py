"""Sessions as the gateway remembers them, what a change of the LLM must gain, and the budgets over sessions."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
from gateway_llms import CHEAP, COSTS, DEAR, LLM, MIDDLE, MODELS, PROMPT
from thorough import thorough

from p2l_sdk.serve.gateway.affinity import Session, Sessions, answers_tools
from p2l_sdk.serve.gateway.choice import Chooser
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.prices import Prices
from p2l_sdk.serve.gateway.quote import Quote
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.spend import Charge

CALLING = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
RESULT = {"role": "tool", "content": "3"}


def said(*texts: Any) -> list[dict[str, Any]]:
    """A conversation: user and assistant by turns, or whole messages."""
    roles = ("user", "assistant")
    return [t if isinstance(t, dict) else {"role": roles[i % 2], "content": t} for i, t in enumerate(texts)]


def asked(*texts: Any, session: str | None = None, **fields: Any) -> ChatRequest:
    body = {"model": "p2l", "messages": said(*texts), **fields}
    return ChatRequest.parse(json.dumps(body).encode(), session=session)


def test_a_conversation_is_known_by_its_longest_known_beginning():
    sessions = Sessions(30)
    first = sessions.of(asked("a"))
    assert (first.kept, first.state("x"), first.read) == (None, "new", 0)
    sessions.remember(first, "x")
    second = sessions.of(asked("a", "b", "c" * 100))
    assert (second.kept, second.state("x"), second.state("y"), second.seed) == ("x", "kept", "switched", first.seed)
    sessions.remember(second, "y")
    sessions.remember(sessions.of(asked("a", "other", "turn")), "z")
    assert sessions.of(asked("a", "b", "c" * 100, "d", "e")).kept == "y"
    assert sessions.of(asked("a", "b", "c" * 100, "d", "e")).read == pytest.approx(102 / 4)
    assert sessions.of(asked("a", "other", "turn", "d", "e")).kept == "z"
    for stranger in (asked("A"), asked("ab"), asked("A", "b", "c"), asked("a", "b", "c", model="p2l-best")):
        assert sessions.of(stranger).kept is None
    assert sessions.of(asked("a", "b", "c"), b"another key").kept is None


def test_marks_of_what_is_to_be_cached_are_no_part_of_a_conversation():
    sessions, part = Sessions(30), {"type": "text", "text": "a"}
    marked = {"role": "user", "content": [{**part, "cache_control": {"type": "ephemeral"}}]}
    sessions.remember(sessions.of(asked(marked)), "x")
    for later in ([part], [{**part, "cache_control": None}], "a"):
        assert sessions.of(asked({"role": "user", "content": later}, "b", "c")).kept == "x"


def test_a_system_message_may_tell_the_time():
    sessions = Sessions(30)

    def at(time: str, *texts: str) -> Session:
        system = {"role": "system", "content": f"You are kind. It is {time}."}
        return sessions.of(asked(*texts, messages=[system, *said(*texts)]))

    sessions.remember(at("12:00", "a"), "x")
    assert at("12:01", "a", "b", "c").kept == "x"
    assert at("12:02", "a").kept is None  # another conversation begins
    reminder = [*said("new"), {"role": "system", "content": "Be brief."}]
    for _ in range(2):
        session = sessions.of(asked(messages=reminder))
        assert session.kept is None
        sessions.remember(session, "x")


def test_examples_at_the_beginning_are_no_conversation():
    """A template: each request is drawn by itself."""
    sessions, seeds = Sessions(30), set()
    for i in range(20):
        session = sessions.of(asked("2 + 2", "4", f"2 + {i}"))
        assert session.kept is None
        seeds.add(session.seed)
        sessions.remember(session, "x")
    assert len(seeds) == 20


def test_calls_beside_a_loop_do_not_move_it():
    """Some clients have a title written, within the same session."""
    sessions = Sessions(30)
    sessions.remember(sessions.of(asked("a", session="s")), "x")
    title = sessions.of(asked("Write a title", session="s"))
    assert title.kept == "x"
    sessions.remember(title, "y")
    loop = sessions.of(asked("a", CALLING, RESULT, session="s"))
    assert (loop.kept, loop.loop) == ("x", True)


def test_memory_is_bounded_and_holds_no_text():
    sessions = Sessions(30, most=100)
    for i in range(1000):
        sessions.remember(sessions.of(asked(f"secret {i}", "b", "c", session=f"secret {i % 7}")), "x")
    assert len(sessions) == 100
    assert sessions.of(asked("secret 999", "b", "c", "d", "e")).kept is None  # not by that name
    assert sessions.of(asked("secret 999", "b", "c", "d", "e", session="secret 5")).kept == "x"
    assert "secret" not in repr(vars(sessions))


def test_sessions_end(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    sessions = Sessions(30)
    sessions.remember(sessions.of(asked("a", session="s")), "x")
    for _ in range(4):  # a name that is always in use
        clock[0] += 60 * 20
        talk = sessions.of(asked("a", "b", "c", session="s"))
        assert talk.kept == "x"
        sessions.remember(talk, "x")
    assert sessions.of(asked("new", session="s")).kept is None  # what begins is drawn anew
    clock[0] += 60 * 31
    assert sessions.of(asked("a", "b", "c", session="s")).kept is None


@pytest.mark.parametrize(
    ("messages", "loop"),
    [
        (said("a"), False),
        (said("a", "b", "c"), False),
        (said("a", CALLING, RESULT), True),
        (said("a", CALLING, RESULT, RESULT), True),
        (said("a", CALLING, RESULT, {"role": "user", "content": "an image of it"}), True),
        (said("a", {"role": "assistant", "function_call": {"name": "f"}}, {"role": "function", "content": "3"}), True),
        (said("a", CALLING, RESULT, "b", "c"), False),
        (said("a", {"role": "assistant", "content": "b", "tool_calls": []}, {"role": "user", "content": "c"}), False),
    ],
)
def test_loops_of_tools(messages, loop):
    assert answers_tools(messages) is loop


def test_what_a_cache_saves():
    llm = LLMConfig(name="x", prices=Prices(input=2, output=8, cached_input=0.5), **LLM)
    assert Session(0, read=1e6).saved(llm) == 1.5
    assert Session(0, read=1e6).saved(LLMConfig(name="x", prices=Prices(input=2, output=8), **LLM)) == 0
    assert Session(0, read=1e6).saved(LLMConfig(name="x", cost=1, **LLM)) == 0


def choice(routing9, kept, settings, *, cost=None, loop=False, read=0.0, expected=None, llms=None):
    """The LLM chosen for a session with another one so far."""
    models = {name: {**LLM, **(llms or {}).get(name, {})} for name in COSTS}
    chooser = Chooser(GatewayConfig.from_dict({"models": models, **settings}), routing9)
    session = Session(1, kept=kept, loop=loop, read=read)
    return chooser.routed(routing9.leaderboard(PROMPT), "p2l", cost, expected=expected, session=session)


def test_a_change_must_pay_for_the_lost_cache(routing9):
    """Two LLMs of the same price, of which the other is better by 0.15."""
    prices = {"input": 1, "output": 1, "cached_input": 0.1}
    flat = {CHEAP: {"cost": 0.0}, DEAR: {"cost": 1e-3}, MIDDLE: {"prices": prices}}
    costs = {CHEAP: 0.0, MIDDLE: 1e-3, DEAR: 1e-3}

    def stays(read, **settings):
        given = {"budget": 5e-4, "affinity_gain": 0.0, **settings}
        found = choice(routing9, MIDDLE, given, read=read, expected=costs, llms=flat)
        return found.ranking[0] == MIDDLE

    scores = routing9.router(models=list(COSTS)).scores(routing9.leaderboard(PROMPT).coefs)
    by_name = dict(zip(COSTS, scores, strict=True))
    price = (by_name[DEAR] - by_name[CHEAP]) / 1e-3  # the slope of the hull
    # the two LLMs of the mixture are equal in value; with its cache, the one that is kept must make up for its gap
    gap = (by_name[CHEAP] - by_name[MIDDLE] + price * 1e-3) / price / 0.9e-6
    assert [stays(gap * 0.99), stays(gap * 1.01)] == [False, True]
    assert stays(gap * 0.8, affinity_gain=0.05)


def test_budgets_and_sessions(routing9):
    def first(kept, settings, **more):
        return choice(routing9, kept, settings, **more).ranking[0]

    assert first(DEAR, {"budget": 0.0001}) == CHEAP  # it is no longer paid
    assert first(DEAR, {"budget": 0.0001}, loop=True) == DEAR
    assert first(DEAR, {}, cost=0.0001, loop=True) == CHEAP  # a limit of the client is a limit
    assert first(DEAR, {}, cost=0.00021, loop=True) == DEAR  # it may be drawn
    assert first(DEAR, {"budget": 0.0001, "policy": "best"}) == DEAR
    assert first(CHEAP, {"budget": 0.01}) == DEAR  # a large gain
    assert first(CHEAP, {"budget": 0.01, "affinity_gain": 1}) == CHEAP
    assert first(CHEAP, {"budget": 0.01}, loop=True) == CHEAP
    assert first("unknown", {"budget": 0.01}, loop=True) == DEAR
    kept = choice(routing9, CHEAP, {"budget": 0.01, "affinity_gain": 1})
    assert kept.mixture == {CHEAP: 1.0}
    assert (kept.expected_cost, len(set(kept.ranking))) == (COSTS[CHEAP], 3)


def test_a_mean_budget_holds_over_a_loop_of_tools_that_never_ends(routing9):
    budget, board = 0.00025, routing9.leaderboard(PROMPT)
    chooser, sessions, paid = (
        Chooser(GatewayConfig.from_dict({**MODELS, "mean_budget": budget}), routing9),
        Sessions(30),
        [],
    )
    drawn = []
    for i in range(4000):
        found = chooser.routed(board, "p2l", None, session=sessions.of(asked("a", *([CALLING, RESULT] * min(i, 1)))))
        llm = found.ranking[0]
        sessions.remember(found.session, llm)
        Charge(asked("a"), {llm: Quote(COSTS[llm], COSTS[llm])}, llm, pacer=found.pacer).settle(COSTS[llm])
        paid.append(COSTS[llm])
        drawn += [llm] if llm not in drawn else []
    assert drawn[0] == DEAR  # the first requests may cost what they like
    assert sum(paid) / len(paid) <= budget * 1.01


@pytest.mark.long
@pytest.mark.parametrize("named", [True, *thorough(False)])
@pytest.mark.parametrize("setting", ["mean_budget", *thorough("budget")])
def test_budgets_hold_over_sessions(routing9, setting, named):
    """10,000 requests of sessions of 1 to 12 turns, some of them loops of tools, 40 at a time."""
    budget, rng = 0.0004, random.Random(1)
    chooser = Chooser(GatewayConfig.from_dict({**MODELS, setting: budget}), routing9)
    kinds = ["Prove that {} is odd", "Prove that {} is a root", "Write a proof of number {}", "Which organ is no. {}?"]
    boards = [
        [routing9.leaderboard(kind.format(i)) for i in range(12)] for kind in kinds[: 4 if "mean" in setting else 3]
    ]
    sessions, paid, changes = Sessions(30), [], [0, 0]

    def begun() -> dict[str, Any]:
        return {
            "boards": rng.choice(boards), "left": rng.randint(1, 12), "loop": rng.random() < 0.3, "llm": None,
            "texts": [f"prompt {rng.random()}"], "name": f"{rng.random()}" if named else None,
        }  # fmt: skip

    under_way = [begun() for _ in range(40)]
    while len(paid) < 10_000:
        i = rng.randrange(40)
        talk = under_way[i]
        session = sessions.of(asked(*talk["texts"], session=talk["name"]))
        board = talk["boards"][0 if talk["loop"] else talk["left"] % 12]
        found = chooser.routed(board, "p2l", None, session=session)
        llm = found.ranking[0]
        sessions.remember(session, llm)
        changes[talk["loop"]] += talk["llm"] not in (None, llm)
        charge = Charge(asked("a"), {llm: Quote(COSTS[llm], COSTS[llm])}, llm, pacer=found.pacer)
        paid.append(COSTS[llm] * rng.uniform(0.5, 1.5))
        charge.settle(paid[-1])
        talk["llm"], talk["left"] = llm, talk["left"] - 1
        talk["texts"] += (
            [CALLING, {**RESULT, "content": f"{rng.random()}"}] if talk["loop"] else ["answer", f"turn {rng.random()}"]
        )
        if not talk["left"]:
            under_way[i] = begun()
    mean = sum(paid) / len(paid)
    print(setting, named, mean, changes)
    assert mean == pytest.approx(budget, rel=0.01) if setting == "mean_budget" else mean < budget * 1.05
    assert changes[1] == 0
    assert changes[0] < 600  # of 5,900
