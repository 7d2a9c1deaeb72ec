"""What an answer costs that its upstream did not count, and one whose client has left."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest
from billing_fixtures import ask
from gateway_llms import CHEAP, DEAR, MIDDLE, TEAM, config, ranking, team
from gateway_server import eventually, serving
from upstreams import Reply, delta, events

from p2l_sdk.routing.pacing import BudgetPacer
from p2l_sdk.serve.gateway import chat, record
from p2l_sdk.serve.gateway.sse import Events

pytest_plugins = ["gateway_fixtures"]
PRICES = {"input": 0.0, "output": 1.0}  # so that a budget of 1 USD is one of a million tokens
MOST = 50_000
COUNT = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 700}}
SAID, END, DONE = delta({"content": "said"}), delta({}, "stop"), "data: [DONE]"
CALL = delta({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]})
BLANK = delta({"content": ""})
SEALED = delta({"reasoning_details": [{"type": "reasoning.encrypted", "data": "A" * 9}]})


@pytest.fixture
def gateway(routing9, upstreams):
    """A function that serves DEAR, whose next reply is given, to a key; settings are those of the LLM."""
    upstreams.reset()

    def served(reply: Reply | str, budget: float | None = 1.0, others: dict[str, Any] | None = None, **settings: Any):
        keys, served.key = team(budget)
        upstreams.replies["scripted"] = reply if isinstance(reply, Reply) else Reply()
        upstreams.script[DEAR] = ["scripted" if isinstance(reply, Reply) else reply]
        llms = {name: {"prices": PRICES} for name in (CHEAP, MIDDLE, DEAR)}
        llms[DEAR] |= settings
        return serving(routing9, config(upstreams, llms=llms, **(others or {})), keys)

    return served


def body(**fields: Any) -> dict[str, Any]:
    return ask(**{"model": DEAR, "stream": True, "max_tokens": MOST, **fields})


def left(url: str, until: str | None = None, seconds: float = 0.3, **fields: Any) -> None:
    """Send a request and leave: at a text, or after some seconds without any."""
    with (
        httpx.Client(headers=TEAM, timeout=5 if until else seconds) as client,
        client.stream("POST", f"{url}/chat/completions", json=body(**fields)) as reply,
    ):
        for line in reply.iter_lines():
            if until is not None and until in line:
                return


def whole(message: dict[str, Any], end: str = "stop") -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": end}
    return Reply({"choices": [choice]})


UNCOUNTED = {
    "a word": whole({"content": "said"}),
    "nothing shown of white space": whole({"content": ""}),
    "a call of a tool, compact": whole({"content": None, "tool_calls": CALL["choices"][0]["delta"]["tool_calls"]}),
    "a call of a tool that was not well formed": whole({"content": None}, "malformed_function_call"),
    "a stream": events(SAID, SAID, END, DONE),
    "calls of tools, none in a silence": events(CALL, CALL, CALL, delta({}, "tool_calls"), DONE, pause=0.1),
    "a silence": events(SAID, SAID, END, DONE, pause=0.4),
    "blocks that are encrypted": events(SEALED, SAID, END, DONE),
    "a filtered one": events(SAID, delta({}, "content_filter"), DONE),
    "tokens without text after the count": events(SAID, COUNT, BLANK, BLANK, END, DONE),
    "an end after the count": events(SAID, COUNT, END, DONE),
    "a count at the beginning only": events({**COUNT, **SAID, "usage": COUNT["usage"]}, SAID, END, DONE),
}


@pytest.mark.parametrize("name", UNCOUNTED)
def test_an_answer_without_a_count_costs_what_was_set_aside(name, gateway):
    """Whatever it shows: an LLM may have written what no text does."""
    with gateway(UNCOUNTED[name]) as running:
        stream = UNCOUNTED[name].kind == "text/event-stream"
        reply = httpx.post(f"{running.url}/chat/completions", json=body(stream=stream), headers=TEAM)
        assert reply.status_code == 200
        eventually(lambda: running.metrics.costs)
    assert gateway.key.spent * 1e6 == pytest.approx(MOST)


def test_the_log_says_once_of_an_llm_that_it_does_not_count(gateway, upstreams, caplog):
    with caplog.at_level(logging.WARNING), gateway(UNCOUNTED["a stream"]) as running:
        upstreams.script[DEAR] *= 3
        for _ in range(3):
            httpx.post(f"{running.url}/chat/completions", json=body(max_tokens=9), headers=TEAM)
    [line] = [line for line in caplog.messages if "without a count" in line]
    assert line.startswith(f"llm={DEAR} ended an answer")
    assert all(remedy in line for remedy in ("include_usage", "max_tokens", "flat: true"))


def test_no_word_of_it_where_nobody_has_a_budget(gateway, caplog):
    with caplog.at_level(logging.WARNING), gateway(UNCOUNTED["a stream"], budget=None) as running:
        httpx.post(f"{running.url}/chat/completions", json=body(), headers=TEAM)
    assert "without a count" not in caplog.text


@pytest.mark.parametrize("ping", [15, 0.05, None])
def test_an_answer_that_its_client_leaves_is_read_on_and_costs_what_is_counted(ping, gateway, upstreams, caplog):
    caplog.set_level(logging.INFO, "p2l_sdk.serve.gateway.chat")
    reply = events(SAID, *[SAID] * 8, END, COUNT, DONE, pause=0.1)
    with gateway(reply, others={"ping_seconds": ping}) as running:
        left(running.url, "said")
        assert gateway.key.spent * 1e6 == pytest.approx(MOST)  # set aside until then
        eventually(lambda: running.metrics.costs)
    assert gateway.key.spent * 1e6 == pytest.approx(700)
    assert [line.split("end=")[1].split()[0] for line in caplog.messages if "end=" in line] == ["disconnected"]


@pytest.mark.parametrize("stream", [True, False])
def test_so_is_one_that_is_left_before_it_begins(stream, gateway, upstreams):
    usage = {"usage": COUNT["usage"]}
    reply = events(SAID, END, COUNT, DONE, pause=0.6) if stream else Reply({**whole({"content": "x"}).content, **usage})
    reply = reply if stream else Reply(reply.content, pause=0.6)
    with gateway(reply, others={"ping_seconds": None}) as running:
        with pytest.raises(httpx.ReadTimeout):
            left(running.url, stream=stream)
        eventually(lambda: running.metrics.costs)
    assert gateway.key.spent * 1e6 == pytest.approx(700)
    assert upstreams.hung_up == []


@pytest.mark.parametrize("behaviour", ["endless", "slow"])
def test_it_is_read_for_a_while_only_and_costs_what_was_set_aside(behaviour, gateway, upstreams, monkeypatch):
    monkeypatch.setattr(record, "_COUNT_SECONDS", 0.5)
    with gateway(behaviour, others={"ping_seconds": 0.05}) as running:
        left(running.url, "data" if behaviour == "endless" else "waiting")
        eventually(lambda: upstreams.hung_up == [DEAR])
        eventually(lambda: gateway.key.spent * 1e6 == pytest.approx(MOST))
        assert not running.engine.metrics.errors


@pytest.mark.long
def test_only_some_are_read_on_at_a_time(gateway, upstreams, monkeypatch):
    monkeypatch.setattr(record, "_MOST_LEFT", 1)
    with gateway("endless") as running:
        upstreams.script[DEAR] *= 2
        left(running.url, "data")
        left(running.url, "data")
        eventually(lambda: upstreams.hung_up == [DEAR])
        assert len(running.metrics.costs) == 1  # the other one goes on


@pytest.mark.parametrize(
    ("budget", "settings"), [(None, {}), (1.0, {"prices": None, "cost": 0.1})], ids=["no budget", "no prices"]
)
def test_where_no_budget_depends_on_the_count_the_call_ends_with_its_client(budget, settings, gateway, upstreams):
    with gateway("endless", budget, **settings) as running:
        left(running.url, "data")
        eventually(lambda: upstreams.hung_up == [DEAR], seconds=3)


def test_no_other_llm_is_called_for_a_client_that_has_left(gateway, upstreams):
    with gateway("slow", timeout=0.8, others={"attempts": 3}) as running:
        with pytest.raises(httpx.ReadTimeout):
            left(running.url, model="p2l-best", stream=False)
        eventually(lambda: upstreams.hung_up)
    assert len(upstreams.seen) == 1
    assert gateway.key.spent * 1e6 == pytest.approx(MOST)


@pytest.mark.parametrize(
    ("reply", "until", "tokens"),
    [
        (events(SAID, SAID, END, COUNT, DONE, pause=0.2), "said", 700),
        ("endless", "data", 5000),
        ("slow", "waiting", 5000),
        (events(SAID, {"error": {"message": "no"}}, pause=0.2), None, 5000),
        (Reply({"error": {"message": "no"}}, status=504), None, 5000 + 700),
        (Reply({"error": {"message": "no", "param": "n"}}, status=400), None, 700),
        (Reply({"error": {"message": "no"}}, status=400), None, 5000 + 700),
        (Reply({"error": {"message": "x" * 300_000}}, status=500), None, 5000 + 700),  # it may say a cost, unread
    ],
    ids=[
        "left",
        "left for good",
        "left before it began",
        "broken",
        "timed out",
        "refused",
        "refused, nobody knows why",
        "unread",
    ],
)
def test_a_mean_budget_pays_what_is_booked(reply, until, tokens, gateway, upstreams, routing9, monkeypatch):
    """Whatever happens to a call: 500 tokens were expected, and 5,000 are possible."""
    monkeypatch.setattr(record, "_COUNT_SECONDS", 1.0)
    pacers, pacer = list[BudgetPacer](), chat.Chooser.__init__
    monkeypatch.setattr(chat.Chooser, "__init__", lambda self, *a: (pacer(self, *a), pacers.append(self.pacer))[0])
    with gateway(reply, others={"mean_budget": 0.01, "affinity": False, "ping_seconds": 0.05}) as running:
        first, *others = ranking(routing9)
        upstreams.script[first] = upstreams.script.pop(DEAR)
        upstreams.replies["counted"] = events(SAID, END, COUNT, DONE)
        upstreams.always = dict.fromkeys(others, "counted")
        left(running.url, until, seconds=5, model="p2l", max_tokens=5000)
        eventually(lambda: pacers[0].spent * 1e6 == pytest.approx(tokens))
        assert pacers[0].n == 1
        eventually(lambda: gateway.key.spent * 1e6 == pytest.approx(tokens))


def test_a_count_before_any_text_is_no_final_one():
    usage = {"usage": {"prompt_tokens": 9, "completion_tokens": 1}}
    found = Events()
    for event in (
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], **usage},
        delta({}, "length"),
    ):
        found.feed(f"data: {json.dumps(event)}\n\n".encode())
    assert (found.finished, found.final) == (True, False)


def test_a_count_beside_a_reason_to_end_may_be_one_from_the_middle():
    """Some servers put a reason into every event."""
    one = {**delta({"content": "x"}, "stop"), "usage": {"prompt_tokens": 9, "completion_tokens": 1}}
    both = f"data: {json.dumps(one)}\n\n".encode()
    for parts, final in ([both], True), ([both, both], False), ([both, both, b"data: [DONE]\n\n"], True):
        found = Events()
        for part in parts:
            found.feed(part)
        assert found.final is final
