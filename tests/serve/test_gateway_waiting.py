"""A client that waits for the first token: comments keep its connection alive, and upstream comments count as life."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import httpx
import openai
import pytest
from gateway_llms import CHEAP, COSTS, DEAR, HELLO, config, ranking, team, text
from gateway_server import eventually, serving
from upstreams import Reply, delta, events

pytest_plugins = ["gateway_fixtures"]

SAID, STOP, DONE = delta({"content": "said"}), delta({}, "stop"), "data: [DONE]"
ANSWER = (SAID, STOP, DONE)
HI = ": OPENROUTER PROCESSING"


@pytest.fixture(scope="module")
def pinging(routing9, upstreams):
    llms = {name: {"timeout": 0.6} for name in COSTS}
    keys, _ = team(100.0)
    with serving(routing9, config(upstreams, llms=llms, ping_seconds=0.1, deadline=30.0), keys) as running:
        yield running


@pytest.fixture
def ask(pinging, upstreams):
    upstreams.reset()
    pinging.metrics.errors.clear()
    with httpx.Client(headers={"authorization": "Bearer sk-team-0123456789"}, timeout=40) as client:

        def stream(model="p2l", running=pinging, **more):
            """Status, headers, and each line of the body with its time."""
            start, lines = time.monotonic(), []
            asked = {"model": model, "messages": HELLO, "stream": True, **more}
            with client.stream("POST", f"{running.url}/chat/completions", json=asked) as reply:
                lines += [(time.monotonic() - start, line) for line in reply.iter_lines() if line]
            return reply, lines

        yield stream


def test_comments_come_while_llms_fail_and_then_the_answer(ask, pinging, upstreams, routing9, caplog):
    first, second, _ = ranking(routing9)
    upstreams.script[first] = ["slow"]
    with caplog.at_level(logging.INFO, "p2l_sdk.serve.gateway.chat"):
        reply, lines = ask()
        eventually(lambda: caplog.records)
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert float(reply.headers["x-p2l-expected-cost"]) == COSTS[first]
    assert "x-p2l-model" not in reply.headers  # it was not known when the headers were sent
    comments = [(at, line) for at, line in lines if line.startswith(":")]
    times = [at for at, line in comments if line == ": waiting"]
    assert len(times) >= 2
    assert times[0] < 0.4
    said = dict(line[2:].split(": ") for _, line in comments if ": x-p2l" in line)
    assert (said["x-p2l-model"], said["x-p2l-probability"]) == (second, "0")
    assert lines[-1][1] == "data: [DONE]"
    assert f"llm={second} end=done" in caplog.messages[0]
    assert f"failed={first}:timeout" in caplog.messages[0]


@pytest.mark.long
def test_openais_client_does_not_see_the_comments(pinging, upstreams, routing9):
    upstreams.reset()
    first, second, _ = ranking(routing9)
    upstreams.script[first] = ["slow"]
    with openai.OpenAI(base_url=pinging.url, api_key="sk-team-0123456789", max_retries=0, timeout=10) as client:
        stream = client.chat.completions.create(model="p2l", messages=HELLO, stream=True)
        assert text(stream).startswith(f"{second} answers")
        upstreams.always.update(dict.fromkeys(COSTS, "slow"))
        with pytest.raises(openai.APIError, match=r"no LLM answered: .* did not answer in time") as raised:
            list(client.chat.completions.create(model="p2l", messages=HELLO, stream=True))
        assert raised.value.body["code"] == "upstream_error"


def test_a_late_error_is_one_event(ask, upstreams, routing9, caplog):
    first, *others = ranking(routing9)
    upstreams.replies["late"] = Reply({"error": {"message": "too long", "code": "x"}}, 400, pause=0.3)
    upstreams.always.update(dict.fromkeys(COSTS, "late"))
    patient = config(upstreams, llms={name: {"timeout": 20} for name in COSTS}, ping_seconds=0.1, deadline=60.0)
    with serving(routing9, patient) as running, caplog.at_level(logging.INFO, "p2l_sdk.serve.gateway.chat"):
        reply, lines = ask(running=running)
        eventually(lambda: caplog.records)
    assert reply.status_code == 200
    [data] = [json.loads(line[6:]) for _, line in lines if line.startswith("data: ")]
    assert (data["error"]["message"], data["error"]["code"]) == ("too long", "x")
    assert "end=400" in caplog.messages[0]
    assert all(f"{name}:status_400" in caplog.messages[0] for name in (first, *others))


def test_a_mistake_of_ours_is_an_event_too(pinging, monkeypatch, caplog):
    async def fail(*_):
        await asyncio.sleep(0.3)
        raise RuntimeError("secret")

    monkeypatch.setattr("p2l_sdk.serve.gateway.failover.Failover.answer", fail)
    caplog.set_level(logging.INFO, "p2l_sdk.serve.gateway.chat")
    with openai.OpenAI(base_url=pinging.url, api_key="sk-team-0123456789", max_retries=0, timeout=10) as client:
        stream = client.chat.completions.create(model="p2l", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="the server has made a mistake") as raised:
            list(stream)
    eventually(lambda: "end=error" in caplog.text)  # the line follows the answer
    assert raised.value.body["code"] == "internal_error"
    assert "secret" not in str(raised.value.body)


def test_an_error_that_comes_in_time_keeps_its_status(routing9, upstreams):
    upstreams.reset()
    upstreams.always.update(dict.fromkeys(COSTS, "500"))
    with serving(routing9, config(upstreams, ping_seconds=10)) as running:
        asked = {"model": "p2l", "messages": HELLO, "stream": True}
        assert httpx.post(f"{running.url}/chat/completions", json=asked).status_code == 502


def test_a_client_that_leaves_while_it_waits_ends_the_call(pinging, upstreams, caplog):
    upstreams.reset()
    headers, asked = {"authorization": "Bearer sk-team-0123456789"}, {"model": DEAR, "messages": HELLO, "stream": True}
    for script in ("slow", "endless"):
        upstreams.hung_up.clear()
        upstreams.script[DEAR] = [script]
        with caplog.at_level(logging.INFO, "p2l_sdk.serve.gateway.chat"):
            with httpx.stream("POST", f"{pinging.url}/chat/completions", json=asked, headers=headers) as reply:
                next(reply.iter_bytes())
            eventually(lambda: upstreams.hung_up == [DEAR])
            eventually(lambda: "end=disconnected" in caplog.text)
        caplog.clear()


def test_silence_in_the_middle_of_an_answer_is_filled_too(ask, upstreams):
    upstreams.replies["drip"] = events(*ANSWER, pause=0.3)
    upstreams.script[DEAR] = ["drip"]
    _, lines = ask(DEAR)
    kinds = "".join("." if line == ": waiting" else "x" if line.startswith("data") else "" for _, line in lines)
    assert kinds.strip(".").count("x") == 3
    assert ".x" in kinds.strip(".")


@pytest.mark.parametrize("stream", [False, True])
def test_signs_of_life_hold_an_upstream_longer_than_its_timeout(ask, pinging, upstreams, stream):
    whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "said"}, "finish_reason": "stop"}]}
    life = (f"{HI}\n\n".encode(),) * 4 if stream else (b"\n",) * 4
    answer = events(*ANSWER).parts if stream else (json.dumps(whole).encode(),)
    kind = "text/event-stream" if stream else "application/json"
    upstreams.replies["alive"] = Reply(life + answer, kind=kind, pause=0.2)
    upstreams.script[DEAR] = ["alive"]
    reply, lines = ask(DEAR, stream=stream)
    assert reply.status_code == 200
    assert "said" in "".join(line for _, line in lines)
    assert not pinging.metrics.errors


@pytest.mark.long
def test_signs_of_life_alone_leave_time_for_another_llm(ask, upstreams, routing9):
    """Half of the time of the request; without another LLM, all of it."""
    first, second, _ = ranking(routing9)
    upstreams.replies["alive"] = events(*[HI] * 100, pause=0.1)
    settings = config(upstreams, llms={name: {"timeout": 0.5} for name in COSTS}, ping_seconds=0.1, deadline=1.6)
    with serving(routing9, settings) as running:
        upstreams.script[first] = ["alive"]
        _, lines = ask(running=running)
        assert f": x-p2l-model: {second}" in [line for _, line in lines]
        assert lines[-1][0] > 0.7
        upstreams.script[CHEAP] = ["alive"]
        _, lines = ask(CHEAP, running=running)
        assert lines[-1][0] > 1.5
        assert json.loads(lines[-1][1][6:])["error"]["code"] == "upstream_error"


def test_without_ping_seconds_nothing_is_sent_before_the_answer(routing9, upstreams):
    upstreams.reset()
    first, second, _ = ranking(routing9)
    upstreams.script[first] = ["slow"]
    settings = config(upstreams, llms={first: {"timeout": 0.3}}, ping_seconds=None)
    with serving(routing9, settings) as running:
        asked = {"model": "p2l", "messages": HELLO, "stream": True}
        reply = httpx.post(f"{running.url}/chat/completions", json=asked)
        assert reply.headers["x-p2l-model"] == second
        assert ": waiting" not in reply.text
