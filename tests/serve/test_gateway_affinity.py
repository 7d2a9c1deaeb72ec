"""Affinity: a conversation, and a loop of tools, stays with its LLM."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import httpx
import pytest
from gateway_llms import CHEAP, COSTS, DEAR, HELLO, MODELS, PROMPT, TEAM, config, ranking, team
from gateway_server import Running, serving

from p2l_sdk.serve.auth import Key, Keys
from p2l_sdk.serve.gateway.config import GatewayConfig

pytest_plugins = ["gateway_fixtures"]

BUDGET = 0.0005  # a mixture of two LLMs, each with a good part of it
ROOTS = "Prove that the square root of {} is irrational"
HTTP = httpx.Client(timeout=20)
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


class Talk:
    """A conversation with the gateway.

    Attributes:
        messages: so far.
        llms: that answered, one for each turn.
        states: of the session, likewise.
    """

    def __init__(self, server: Running, **fields: Any) -> None:
        self.url, self.headers = f"{server.url}/chat/completions", fields.pop("headers", {})
        self.fields = {"model": "p2l", **fields}
        self.messages: list[dict[str, Any]] = []
        self.llms: list[str] = []
        self.states: list[str] = []

    def ask(self, *messages: Any, **fields: Any) -> str:
        """Ask with these messages more (a text is a user turn), and note the answer; returns the LLM."""
        self.messages += [{"role": "user", "content": m} if isinstance(m, str) else m for m in messages]
        body = {**self.fields, "messages": self.messages, **fields}
        reply = HTTP.post(self.url, json=body, headers=self.headers)
        assert reply.status_code == 200, reply.text
        if body.get("stream"):
            events = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line.startswith("data: {")]
            said = [choice["delta"].get("content") or "" for event in events for choice in json.loads(event)["choices"]]
            self.messages.append({"role": "assistant", "content": "".join(said)})
        else:
            self.messages.append(reply.json()["choices"][0]["message"])
        self.llms.append(reply.headers["x-p2l-model"])
        self.states.append(reply.headers.get("x-p2l-session", ""))
        return self.llms[-1]

    def step(self, **fields: Any) -> str:
        """Ask with the results of the tools that were called."""
        calls = self.messages[-1]["tool_calls"]
        return self.ask(
            *({"role": "tool", "tool_call_id": c["id"], "content": f"{len(self.llms)}"} for c in calls), **fields
        )


@pytest.fixture(scope="module")
def mixing(routing9, upstreams):
    upstreams.reset()
    with serving(routing9, config(upstreams, budget=BUDGET)) as running:
        yield running


def mixture(routing9, prompt=PROMPT):
    return routing9.route(prompt, BUDGET, models=list(COSTS)).mixture


def test_a_loop_of_twelve_steps_stays_with_its_llm(mixing):
    seen = set()
    for i in range(8):
        talk = Talk(mixing, tools=TOOLS, stream=False)
        talk.ask({"role": "system", "content": "You are an agent."}, ROOTS.format(i + 2))
        for _ in range(11):
            talk.step()
        assert len(set(talk.llms)) == 1
        assert talk.states == ["new", *["kept"] * 11]
        seen |= set(talk.llms)
    assert len(seen) == 2  # loops are drawn, each as a whole


TURNS = ["now for a child", "in one sentence", "and the square root of three?", "who found it first?", "thank you"]


def test_ten_chats_of_six_turns_each_stay_with_their_llms(mixing):
    """All at a time, streamed or not, one of them for a client that answers nobody."""
    talks = [Talk(mixing, stream=i % 2 == 0) for i in range(10)]
    for i, talk in enumerate(talks):
        talk.ask(ROOTS.format(i + 2))
    for turn in TURNS:
        for talk in talks:
            talk.ask(turn)
    assert [len(set(talk.llms)) for talk in talks] == [1] * 10
    assert all(talk.states == ["new", *["kept"] * 5] for talk in talks)
    assert len({talk.llms[0] for talk in talks}) == 2


def test_without_affinity_each_turn_is_drawn(routing9, upstreams):
    with serving(routing9, config(upstreams, budget=BUDGET, affinity=False)) as running:
        talk = Talk(running)
        for turn in [ROOTS.format(2), *TURNS * 3]:
            talk.ask(turn)
    assert len(set(talk.llms)) > 1
    assert set(talk.states) == {""}


@pytest.mark.parametrize(
    "naming",
    [
        lambda name: {"headers": {"x-session-id": name}},
        lambda name: {"prompt_cache_key": name},
        lambda name: {"user": name},
        lambda name: {"headers": {"x-session-id": name}, "prompt_cache_key": "all", "user": "all"},
    ],
)
def test_the_name_of_a_session(mixing, naming):
    """Whatever its texts, which a client may shorten."""
    drawn = []
    for i in range(12):
        llms = set()
        for text in (f"Prove that the square root of {i} is odd", PROMPT, "Prove that the root is even"):
            talk = Talk(mixing, **naming(f"session {i}"))
            llms.add(talk.ask(text))
        shortened = Talk(mixing, **naming(f"session {i}"))
        llms.add(shortened.ask({"role": "assistant", "content": "We spoke of numbers."}, PROMPT))
        assert len(llms) == 1
        drawn += llms
    assert len(set(drawn)) == 2


def test_what_is_no_name_of_a_session(mixing):
    for i, user in enumerate([None, 7, "", ["x"], {"a": 1}]):
        talk = Talk(mixing, user=user, headers={"x-session-id": ""})
        for turn in (ROOTS.format(i + 30), *TURNS):
            talk.ask(turn)
        assert (len(set(talk.llms)), talk.states[0]) == (1, "new")


def test_conversations_that_begin_alike_are_drawn_each(mixing, routing9):
    talks = [Talk(mixing) for _ in range(30)]
    for talk in talks:
        talk.ask(PROMPT)
        for turn in TURNS[:2]:
            talk.ask(turn)
    assert {len(set(talk.llms)) for talk in talks} == {1}
    assert {talk.llms[0] for talk in talks} == set(mixture(routing9))


def test_servers_draw_alike_without_knowing_of_each_other(mixing, routing9, upstreams):
    """Each turn comes to the other one. Both draw the same lot; a few lie where the mixture moves between two turns."""
    changed = 0
    with serving(routing9, config(upstreams, budget=BUDGET)) as other:
        for i in range(12):
            there, name = Talk(other), {"x-session-id": f"shared {i}"}
            assert Talk(mixing, headers=name).ask(TURNS[2]) == Talk(other, headers=name).ask(TURNS[2])
            talk = Talk(mixing)
            for turn in (ROOTS.format(i + 200), *TURNS[:3]):
                talk.url, there.url = there.url, talk.url
                talk.ask(turn)
            changed += len(set(talk.llms)) > 1
    assert changed <= 2


def test_keys_have_sessions_of_their_own(routing9, upstreams):
    (_, one), secret = team(1.0), "sk-other-0123456789"
    other = Key("other", hashlib.sha256(secret.encode()).digest(), 1.0)
    with serving(routing9, config(upstreams, budget=BUDGET), Keys([one, other])) as running:
        pairs = []
        for i in range(16):
            name = {"x-session-id": f"s{i}"}
            heads = [{**TEAM, **name}, {"authorization": f"Bearer {secret}", **name}]
            talks = [Talk(running, headers=head) for head in heads]
            pairs.append(tuple(talk.ask(PROMPT) for talk in talks))
            assert [talk.states for talk in talks] == [["new"], ["new"]]
    assert len(set(pairs)) > 2  # drawn one without the other


@pytest.mark.parametrize("fault", ["500", "400", "drop", "reset"])
def test_a_session_moves_if_its_llm_fails_and_stays_there(routing9, upstreams, fault):
    upstreams.reset()
    with serving(routing9, config(upstreams)) as running:
        first, second, _ = ranking(routing9)
        talk = Talk(running, tools=TOOLS, headers={"x-session-id": "a"})
        assert [talk.ask(PROMPT), talk.step()] == [first] * 2
        upstreams.script[first] = [fault]
        assert [talk.step() for _ in range(4)] == [second] * 4
        assert talk.states == ["new", "kept", "switched", "kept", "kept", "kept"]
        upstreams.always[second] = fault
        assert talk.step() == first
    upstreams.reset()


def test_a_session_moves_if_its_llm_cannot_go_on(routing9, upstreams):
    upstreams.reset()
    first, second, _ = ranking(routing9)
    with serving(routing9, config(upstreams, llms={first: {"vision": False, "context": 2000}})) as running:
        talk = Talk(running, tools=TOOLS)
        assert [talk.ask(PROMPT), talk.step()] == [first] * 2
        assert [talk.ask({"role": "user", "content": [IMAGE, {"type": "text", "text": "and this?"}]}), talk.step()] == [
            second
        ] * 2
        talk = Talk(running)
        assert talk.ask(PROMPT) == first
        assert talk.ask(PROMPT * 200) == talk.ask("so?") != first
        assert talk.states == ["new", "switched", "kept"]


def test_budgets_of_requests(routing9, upstreams):
    upstreams.reset()
    best = ranking(routing9)[0]
    with serving(routing9, config(upstreams)) as running:
        talk = Talk(running)
        assert talk.ask(PROMPT, cost=0.0001) == CHEAP
        assert talk.ask("and now?", cost=0.0001001) == CHEAP  # no more than the mixture's draw
        assert talk.ask("and better?", cost=1) == best  # the gain is large
        assert talk.ask("and now?", cost=0.0001) == CHEAP  # a limit is a limit
        assert talk.states == ["new", "kept", "switched", "switched"]
        talk = Talk(running, tools=TOOLS)
        assert talk.ask(PROMPT, cost=0.0001) == CHEAP
        assert talk.step(cost=1) == CHEAP  # no gain is worth it in a loop
        assert talk.ask("and now", cost=1) == CHEAP  # which an answer of tools precedes
        talk = Talk(running)
        assert [talk.ask(PROMPT), talk.ask("and now?", cost=0.0001)] == [best, CHEAP]


def test_names_of_llms_and_best_are_no_part_of_a_session(routing9, upstreams):
    upstreams.reset()
    with serving(routing9, config(upstreams, budget=0.0001)) as running:
        talk = Talk(running, headers={"x-session-id": "a"})
        assert [talk.ask(PROMPT), talk.ask("and?", model=DEAR), talk.ask("so?")] == [CHEAP, DEAR, CHEAP]
        assert talk.ask("and now?", model="p2l-best") == CHEAP
        assert talk.states == ["new", "", "kept", "new"]


def test_odd_messages(mixing):
    deep: Any = "x"
    for _ in range(900):
        deep = [deep]
    for odd in (deep, {"a": 1}, 7, None, [1, None, {"type": "text", "text": "\ud800"}]):
        messages = [{"role": "system", "content": odd}, *HELLO, {"role": "assistant", "content": odd, "tool_calls": 7}]
        body = json.dumps({"model": "p2l", "messages": [*messages, *HELLO], "user": "\ud800"})
        for _ in range(2):
            assert HTTP.post(f"{mixing.url}/chat/completions", content=body).status_code != 500


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"affinity": "yes"}, "affinity is 'yes'; it must be true or false"),
        ({"affinity_minutes": -1}, "affinity_minutes"),
        ({"affinity_gain": "x"}, "affinity_gain"),
    ],
)
def test_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        GatewayConfig.from_dict({**MODELS, **settings})
