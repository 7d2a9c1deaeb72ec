"""The router as seen by OpenAI's own client, in front of upstream servers that work or fail."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import socket
import threading
import time

import httpx
import openai
import pytest
from conftest import ROOT
from fastapi import Request
from router_server import eventually, serving
from upstreams import REFUSALS, Upstreams, closed_port

from p2l_sdk.serve.auth import Key, Keys
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.request import ChatRequest

CHEAP, MIDDLE, DEAR = "gemma-2-9b-it", "qwen2.5-7b-instruct", "llama-3.3-nemotron-super-49b-v1"
COSTS = {CHEAP: 0.0001, MIDDLE: 0.0002, DEAR: 0.0009}
PROMPT = "Prove that the square root of two is irrational"
HELLO = [{"role": "user", "content": PROMPT}]
SECRET = "sk-upstream-secret-0123456789"


def config(upstreams, **settings) -> GatewayConfig:
    llms = {
        name: {"base_url": upstreams.url(name), "upstream_model": f"up/{name}", "api_key_env": "P2L_TEST_KEY"}
        for name in COSTS
    }
    for name, extra in settings.pop("llms", {}).items():
        llms[name] = {**llms.get(name, {}), **extra}
    fast = {"backoff": 0.01, "breaker_failures": 1000}
    return GatewayConfig.from_dict({"models": llms, **fast, **settings})


@pytest.fixture(scope="module", autouse=True)
def _environment():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("P2L_TEST_KEY", SECRET)
        yield


@pytest.fixture(scope="module")
def upstreams():
    with Upstreams() as running:
        yield running


@pytest.fixture(scope="module")
def server(default, upstreams, _environment):
    llms = {name: {"timeout": 1.0} for name in COSTS}
    llms["by-name-only"] = {
        "base_url": upstreams.url("by-name-only"), "cost": 0.001, "system": "Be brief.",
        "temperature": 0.7, "top_p": 0.9, "max_tokens": 64, "headers": {"X-Title": "tests", "User-Agent": "team"},
    }  # fmt: skip
    with serving(default, config(upstreams, llms=llms, deadline=2.0)) as running:
        yield running


@pytest.fixture
def client(server, upstreams):
    upstreams.reset()
    server.metrics.errors.clear()
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=20) as client:
        yield client


def ranking(default) -> list[str]:
    return default.router(models=list(COSTS)).route(default.leaderboard(PROMPT)).ranking


def text(stream) -> str:
    return "".join(c.delta.content or "" for event in stream for c in event.choices).strip()


def test_plain(client, server, upstreams, default):
    reply = client.chat.completions.with_raw_response.create(model="p2l", messages=HELLO)
    answer = reply.parse()
    best = ranking(default)[0]
    assert answer.model == f"up/{best}"
    assert answer.choices[0].message.content.startswith(f"{best} answers")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 15
    route = default.route(PROMPT, models=list(COSTS))
    assert reply.headers["x-p2l-model"] == best
    assert reply.headers["x-p2l-probability"] == "1"
    assert float(reply.headers["x-p2l-expected-cost"]) == COSTS[best]
    assert float(reply.headers["x-p2l-expected-score"]) == pytest.approx(route.expected_score, abs=1e-5)
    assert upstreams.seen[-1].headers["authorization"] == f"Bearer {SECRET}"
    assert "none" not in json.dumps(upstreams.seen[-1].headers)  # the client's own key is not passed on
    assert b'p2l_stage_seconds_count{stage="upstream"}' in server.metrics.exposition()


def test_models(client):
    names = [model.id for model in client.models.list()]
    assert names == ["p2l", "p2l-best", *COSTS, "by-name-only"]
    assert client.models.retrieve(DEAR).id == DEAR
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-9' here; known: p2l, p2l-best, gemma"):
        client.models.retrieve("gpt-9")


def test_a_stream_comes_as_it_is_event_by_event(client, server, upstreams, default):
    stream = client.chat.completions.create(
        model="p2l", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    best = ranking(default)[0]
    assert stream.response.headers["x-p2l-model"] == best
    events = list(stream)
    assert text(iter(events)) == f"{best} answers at temperature None and sees 0 images"
    assert events[-1].usage.total_tokens == 15
    assert {event.model for event in events} == {f"up/{best}"}
    body = {"model": "p2l", "messages": HELLO, "stream": True}
    through = httpx.post(f"{server.url}/chat/completions", json=body)
    direct = httpx.post(f"{upstreams.url(best)}/chat/completions", json={**body, "model": f"up/{best}"})
    ids = re.compile(rb"chatcmpl-\d+")
    assert ids.sub(b"", through.content) == ids.sub(b"", direct.content)
    assert through.headers["content-type"] == direct.headers["content-type"]


def test_events_do_not_wait_for_each_other(client, upstreams):
    upstreams.script[DEAR] = ["stall"]
    start = time.monotonic()
    with client.chat.completions.create(model=DEAR, messages=HELLO, stream=True) as stream:
        next(iter(stream))
        assert time.monotonic() - start < 0.9  # the rest would arrive after the timeout


def test_what_the_client_sends_reaches_the_upstream_untouched(client, server, upstreams):
    raw = (
        b'{ "model":"p2l","messages":[{"role":"user","content":"caf\\u00e9 \xc3\xa9 \\ud83d\\ude00"}],'
        b'"temperature":0,"top_p":1.0,"seed":12345678901234567890,"logit_bias":{"50256":-1e2},'
        b'"x_unknown":{"b":[1.50,null],"a":1E-7},"cost":0.0001,"stop":["\\n\\n"],"max_tokens":null}'
    )
    reply = httpx.post(f"{server.url}/chat/completions", content=raw, headers={"content-type": "application/json"})
    assert reply.status_code == 200, reply.text
    sent = upstreams.seen[-1].raw
    assert upstreams.seen[-1].llm == CHEAP
    assert json.loads(sent) == {k: v for k, v in json.loads(raw).items() if k != "cost"} | {"model": f"up/{CHEAP}"}
    for piece in (
        b'[{"role":"user","content":"caf\\u00e9 \xc3\xa9 \\ud83d\\ude00"}]', b'"temperature": 0,', b'"top_p": 1.0',
        b"12345678901234567890", b'{"50256":-1e2}', b'{"b":[1.50,null],"a":1E-7}', b'"max_tokens": null',
    ):  # fmt: skip
        assert piece in sent
    assert b"cost" not in sent


def test_the_config_fills_what_is_absent_and_nothing_else(client, upstreams):
    client.chat.completions.create(model="by-name-only", messages=HELLO)
    seen = upstreams.seen[-1]
    assert seen.body == {
        "messages": [{"role": "system", "content": "Be brief."}, *HELLO],
        "model": "by-name-only", "temperature": 0.7, "top_p": 0.9, "max_tokens": 64,
    }  # fmt: skip
    assert (seen.headers["x-title"], seen.headers["user-agent"]) == ("tests", "team")  # the user agent is sent once
    assert "authorization" not in seen.headers
    own = [{"role": "developer", "content": "Be long."}, *HELLO]
    client.chat.completions.create(model="by-name-only", messages=own, temperature=0, top_p=1, max_completion_tokens=9)
    assert upstreams.seen[-1].body == {
        "messages": own, "model": "by-name-only", "temperature": 0, "top_p": 1, "max_completion_tokens": 9
    }  # fmt: skip


def test_tools_schema_several_choices_images_and_temperature_zero(client, upstreams):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    answer = client.chat.completions.create(model="p2l", messages=HELLO, tools=[tool], tool_choice="auto")
    [call] = answer.choices[0].message.tool_calls
    assert (call.function.name, answer.choices[0].finish_reason) == ("weather", "tool_calls")
    # the conversation continues: an assistant turn without content, and a tool's result
    turns = [*HELLO, answer.choices[0].message.model_dump(exclude_none=True, include={"role", "tool_calls"})]
    turns.append({"role": "tool", "tool_call_id": call.id, "content": "21 degrees"})
    turns[-2]["content"] = ""
    assert client.chat.completions.create(model="p2l", messages=turns).choices[0].finish_reason == "stop"
    stream = client.chat.completions.create(model="p2l", messages=HELLO, tools=[tool], stream=True)
    calls = [c.delta.tool_calls[0] for event in stream for c in event.choices if c.delta.tool_calls]
    assert json.loads(calls[0].function.arguments) == {"city": "Paris"}

    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    answer = client.chat.completions.create(model="p2l", messages=HELLO, response_format=schema)
    assert json.loads(answer.choices[0].message.content) == {"answer": 42}
    assert upstreams.seen[-1].body["response_format"] == schema

    answer = client.chat.completions.create(model="p2l", messages=HELLO, n=2, temperature=0)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert "temperature 0 " in answer.choices[1].message.content

    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    parts = [{"type": "text", "text": PROMPT}, image]
    answer = client.chat.completions.create(model="p2l", messages=[{"role": "user", "content": parts}])
    assert "sees 1 images" in answer.choices[0].message.content


def test_user_turns_are_scored_and_nothing_else(client, server, default):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    turns = [
        {"role": "system", "content": "You are a poet."},
        {"role": "user", "content": [{"type": "text", "text": "Write code"}, image]},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "function", "name": "f", "content": "17"},
        {"role": "user", "content": "and run it"},
    ]
    reply = client.chat.completions.with_raw_response.create(model="p2l", messages=turns[:2] + turns[4:])
    score = default.route([turns[1], turns[4]], models=list(COSTS)).expected_score
    assert float(reply.headers["x-p2l-expected-score"]) == pytest.approx(score, abs=1e-5)
    with pytest.raises(openai.BadRequestError, match=r"the prompt is empty; .* or name an LLM instead of 'p2l'"):
        client.chat.completions.create(model="p2l", messages=[{"role": "user", "content": [image]}])
    with pytest.raises(openai.BadRequestError, match="no user turn"):
        client.chat.completions.create(model="p2l", messages=turns[:1])
    assert client.chat.completions.create(model=CHEAP, messages=turns[:1]).model == f"up/{CHEAP}"


def test_budgets(client, default):
    def choice(**options):
        reply = client.chat.completions.with_raw_response.create(messages=HELLO, **options)
        return reply.headers["x-p2l-model"], float(reply.headers["x-p2l-expected-cost"])

    assert choice(model="p2l", extra_body={"cost": 0.0001}) == (CHEAP, 0.0001)
    assert choice(model="p2l", extra_headers={"x-p2l-cost": "0.0001"}) == (CHEAP, 0.0001)
    assert choice(model="p2l", extra_body={"cost": 0.0001}, extra_headers={"x-p2l-cost": "1"}) == (CHEAP, 0.0001)
    best = ranking(default)[0]
    assert choice(model="p2l", extra_body={"cost": 1}) == (best, COSTS[best])
    assert choice(model="p2l-best") == (best, COSTS[best])
    assert choice(model="p2l-best", extra_body={"cost": 0.0003})[1] <= 0.0003
    seen = {choice(model="p2l", extra_body={"cost": 0.0005}) for _ in range(25)}
    mixture = default.route(PROMPT, 0.0005, models=list(COSTS)).mixture
    assert {name for name, _ in seen} == set(mixture)
    assert {cost for _, cost in seen} == {0.0005}
    with pytest.raises(openai.BadRequestError) as error:
        choice(model="p2l", extra_body={"cost": 0.00001})
    assert "the cheapest feasible budget is $0.0001" in str(error.value)
    assert error.value.body["param"] == "cost"
    with pytest.raises(openai.BadRequestError, match=r"costs \$0.0009 per response, the budget is \$0.0005"):
        choice(model=DEAR, extra_body={"cost": 0.0005})
    for bad in ("much", -1, True, [1]):
        with pytest.raises(openai.BadRequestError, match="the cost must be a finite number"):
            choice(model="p2l", extra_body={"cost": bad})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not a JSON object"),
        (b"[]", "the body is not a JSON object"),
        (b'{"model": "p2l"', "the body is not a JSON object"),
        (b'{"model": "p2l", "x": NaN}', "the body is not a JSON object"),
        (b'{"x": ' + b"[" * 100_000, "the body is not a JSON object"),
        (b'\xff{"model": 1}', "the body is not a JSON object in UTF-8"),
        (b'{"messages": []}', "the request must name a model"),
        (b'{"model": 3, "messages": []}', "the request must name a model"),
        (b'{"model": "p2l", "messages": []}', "the request must hold messages"),
        (b'{"model": "p2l", "messages": ["hi"]}', "message 0 must be an object with a role"),
        (b'{"model": "p2l", "messages": [{"role": "user", "content": 7}]}', "the content of message 0"),
        (b'{"model": "p2l", "messages": [{"role": "user", "content": "\\ud800"}]}', "lone surrogate"),
        (b'{"model": "p2l", "messages": [{"role": "user"}], "stream": "yes"}', "stream must be true or false"),
        (b'{"model": "p2l", "messages": [' + b'{"role": "user"},' * 2048 + b'{"role": "user"}]}', "at most 2048"),
    ],
)
def test_requests_that_no_upstream_sees(server, upstreams, body, message):
    upstreams.reset()
    reply = httpx.post(f"{server.url}/chat/completions", content=body)
    assert reply.status_code == 400
    assert message in reply.json()["error"]["message"]
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert not upstreams.seen


def test_an_unknown_model(client):
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-9' here; known: p2l, p2l-best"):
        client.chat.completions.create(model="gpt-9", messages=HELLO)


FAULTS = ["slow", "429", "500", "503", "401", "404", "reset", "garbage", "html", "redirect"]
ODD_STREAMS = ["error-event", "odd-event", "done-only"]


@pytest.mark.parametrize(
    ("fault", "stream"),
    [*((fault, stream) for fault in FAULTS for stream in (False, True)), *((fault, True) for fault in ODD_STREAMS)],
)
def test_failover_before_the_first_byte(client, server, upstreams, default, fault, stream):
    first, second, _ = ranking(default)
    upstreams.script[first] = [fault]
    reply = client.chat.completions.with_raw_response.create(model="p2l", messages=HELLO, stream=stream)
    assert reply.headers["x-p2l-model"] == second
    assert reply.headers["x-p2l-probability"] == "0"
    parsed = reply.parse()
    assert (text(parsed) if stream else parsed.choices[0].message.content).startswith(f"{second} answers")
    kind = {"slow": "timeout", "reset": "connection", "redirect": "status_307"}.get(fault, f"status_{fault}")
    kind = "content" if fault in ("garbage", "html", *ODD_STREAMS) else kind
    assert dict(server.metrics.errors) == {(first, kind): 1}
    assert [seen.llm for seen in upstreams.seen] == [first, second]  # no other host was called


@pytest.mark.parametrize("fault", ["drop", "stall"])
def test_half_a_reply_is_no_answer(client, upstreams, default, fault):
    first, second, _ = ranking(default)
    upstreams.script[first] = [fault]
    reply = client.chat.completions.with_raw_response.create(model="p2l", messages=HELLO)
    assert reply.headers["x-p2l-model"] == second


@pytest.mark.parametrize(
    ("fault", "message"),
    [("drop", "broke off its answer"), ("cut", "broke off its answer"), ("stall", "stopped in the middle")],
)
def test_after_the_first_byte_an_error_event_ends_the_stream(client, server, upstreams, default, fault, message):
    first = ranking(default)[0]
    upstreams.script[first] = [fault]
    stream = client.chat.completions.create(model="p2l", messages=HELLO, stream=True)
    assert next(stream).choices
    with pytest.raises(openai.APIError, match=f"{first} {message}") as error:
        list(stream)
    assert error.value.body["code"] == "upstream_error"
    assert [seen.llm for seen in upstreams.seen] == [first]


def test_a_stream_ends_with_done_whatever_comes_after(client, server, upstreams):
    upstreams.script[DEAR] = ["linger", "azure"]
    body, start = {"model": DEAR, "messages": HELLO, "stream": True}, time.monotonic()
    reply = httpx.post(f"{server.url}/chat/completions", json=body)
    assert reply.text.endswith("\n\ndata: [DONE]\n\n")
    assert time.monotonic() - start < 0.9  # earlier than the timeout
    eventually(lambda: upstreams.hung_up == [DEAR])
    before = upstreams.accepted
    for _ in range(6):  # the first begins like Azure's, with an event without choices
        assert httpx.post(f"{server.url}/chat/completions", json=body).text.endswith("\n\ndata: [DONE]\n\n")
    assert upstreams.accepted <= before + 3  # connections are reused


@pytest.mark.parametrize(("fault", "kind"), [("drop", "broken"), ("cut", "broken"), ("stall", "timeout")])
def test_an_upstream_that_never_ends_a_stream_is_left_alone(default, upstreams, fault, kind):
    upstreams.reset()
    upstreams.always[CHEAP] = fault
    body = {"model": CHEAP, "messages": HELLO, "stream": True}
    settings = config(upstreams, llms={CHEAP: {"timeout": 0.5}}, breaker_failures=2)
    with serving(default, settings) as running, httpx.Client(base_url=running.url) as client:
        for _ in range(2):
            assert "upstream_error" in client.post("/chat/completions", json=body).text
        assert client.post("/chat/completions", json=body).status_code == 503
        assert running.metrics.errors == {(CHEAP, kind): 2}


def test_an_endless_stream_ends_at_the_deadline(client, upstreams, default):
    upstreams.script[ranking(default)[0]] = ["endless"]
    start = time.monotonic()
    stream = client.chat.completions.create(model="p2l", messages=HELLO, stream=True)
    assert len([next(stream) for _ in range(10)]) == 10
    with pytest.raises(openai.APIError, match="did not end its answer in time"):
        list(stream)
    assert 1.8 < time.monotonic() - start < 4.0
    eventually(lambda: upstreams.hung_up)


def test_attempts_are_bounded_and_the_budget_holds(client, upstreams, default):
    upstreams.always.update(dict.fromkeys(COSTS, "500"))
    with pytest.raises(openai.InternalServerError) as error:
        client.chat.completions.create(model="p2l", messages=HELLO)
    assert error.value.status_code == 502
    assert [seen.llm for seen in upstreams.seen] == ranking(default)
    assert "answered with status 500" in str(error.value)
    assert "secret" not in str(error.value)
    upstreams.seen.clear()
    once = rf"no LLM answered: {CHEAP} answered with status 500 \(3 times\)$"
    with pytest.raises(openai.InternalServerError, match=once):
        client.chat.completions.create(model="p2l", messages=HELLO, extra_body={"cost": 0.0001})
    assert [seen.llm for seen in upstreams.seen] == [CHEAP] * 3  # nothing more expensive is called
    upstreams.always.update(dict.fromkeys(COSTS, "429:7"))
    with pytest.raises(openai.RateLimitError) as limited:
        client.chat.completions.create(model=CHEAP, messages=HELLO)
    assert limited.value.response.headers["retry-after"] == "7"


def test_a_named_llm_is_tried_again_but_never_replaced(client, upstreams):
    upstreams.script[MIDDLE] = ["500", "reset"]
    assert client.chat.completions.create(model=MIDDLE, messages=HELLO).model == f"up/{MIDDLE}"
    assert [seen.llm for seen in upstreams.seen] == [MIDDLE] * 3
    upstreams.script[MIDDLE] = ["401"]
    with pytest.raises(openai.InternalServerError, match="status 401"):
        client.chat.completions.create(model=MIDDLE, messages=HELLO)
    assert len(upstreams.seen) == 4  # no retry: the same key would be refused again


def test_an_error_of_the_client_comes_back_as_it_is(client, upstreams):
    upstreams.script[DEAR] = ["400"]
    with pytest.raises(openai.BadRequestError, match="says 400"):
        client.chat.completions.create(model=DEAR, messages=HELLO)
    assert len(upstreams.seen) == 1


def test_a_client_cannot_shut_an_upstream_for_the_others(default, upstreams):
    upstreams.reset()
    with serving(default, config(upstreams, breaker_failures=1)) as running:

        def ask(how="ok"):
            upstreams.script[DEAR] = [how]
            return httpx.post(f"{running.url}/chat/completions", json={"model": DEAR, "messages": HELLO})

        for how in REFUSALS:
            reply = ask(how)
            error = reply.json()["error"]
            assert (reply.status_code, error["type"], error["code"]) == (
                400, "invalid_request_error", "refused_by_upstream"
            )  # fmt: skip
            assert f"{DEAR} refused the request with status 400; send a shorter or simpler one" in error["message"]
            assert "secret" not in reply.text
        assert ask("403").status_code == 502  # perhaps moderation
        assert ask().status_code == 200
        assert running.metrics.errors == {(DEAR, "status_403"): 1}


def test_what_an_upstream_sets_for_one_caller_does_not_come_with_the_next(client, upstreams):
    for _ in range(2):
        client.chat.completions.create(model=DEAR, messages=HELLO)
    assert "cookie" not in upstreams.seen[-1].headers


def test_an_error_that_holds_our_key_does_not_come_back(client, upstreams):
    upstreams.script[DEAR] = ["leak"]
    with pytest.raises(openai.InternalServerError, match="answered with status 400") as error:
        client.chat.completions.create(model=DEAR, messages=HELLO)
    assert SECRET not in error.value.response.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_ends_the_call(server, upstreams, default, stream):
    first = ranking(default)[0]
    upstreams.reset()
    upstreams.script[first] = ["endless" if stream else "stall"]
    body = {"model": "p2l", "messages": HELLO, "stream": stream}
    with httpx.Client(timeout=0.2) as client:
        if stream:
            with client.stream("POST", f"{server.url}/chat/completions", json=body) as reply:
                next(reply.iter_bytes())
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post(f"{server.url}/chat/completions", json=body)
    eventually(lambda: upstreams.hung_up == [first], 2.0)
    assert len(upstreams.seen) == 1  # no other LLM is called either


def test_cancel_as_the_openai_client_does(client, upstreams, default):
    first = ranking(default)[0]
    upstreams.script[first] = ["endless"]
    stream = client.chat.completions.create(model="p2l", messages=HELLO, stream=True)
    next(stream)
    stream.close()
    eventually(lambda: upstreams.hung_up == [first], 2.0)


def test_the_log_has_a_line_for_each_request_and_no_text(client, upstreams, default, caplog):
    first, second, _ = ranking(default)
    upstreams.script[first] = ["500"]
    with caplog.at_level(logging.DEBUG):
        client.chat.completions.create(model="p2l", messages=HELLO)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model=f"{PROMPT}\n", messages=HELLO)
        eventually(lambda: sum("chat asked" in record.message for record in caplog.records) == 2)
    lines = [record.message for record in caplog.records if record.name.startswith("p2l_sdk")]
    cost = f"{COSTS[second]:.8f}"
    assert re.fullmatch(
        rf"chat asked=p2l llm={second} end=done ms=[\d.]+ cost={cost} stream=False attempts=2 "
        rf"failed={first}:status_500 key=-",
        lines[0],
    )
    assert re.fullmatch(
        r"chat asked=name llm=- end=404 ms=[\d.]+ cost=- stream=False attempts=0 failed=- key=-", lines[1]
    )
    everything = " ".join(f"{record.message} {record.args}" for record in caplog.records if "openai" not in record.name)
    for secret in ("square root", SECRET, "secret-upstream-text"):
        assert secret not in everything


def test_an_upstream_that_is_down_is_left_alone(default, upstreams):
    upstreams.reset()
    down = f"http://127.0.0.1:{closed_port()}/v1"
    settings = config(
        upstreams, llms={CHEAP: {"base_url": down}}, breaker_failures=2, breaker_seconds=0.5, attempts=2, budget=0.0001
    )
    ask = {"model": "p2l", "messages": HELLO}
    with serving(default, settings) as running, httpx.Client(base_url=running.url) as client:
        assert client.post("/chat/completions", json=ask).status_code == 502
        assert running.metrics.errors == {(CHEAP, "connection"): 2}
        reply = client.post("/chat/completions", json=ask)
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        alone = (
            f"no LLM answered: {CHEAP} is left alone for a while after failures"  # the only LLM that fits the budget
        )
        assert reply.json()["error"]["message"] == alone
        assert running.metrics.errors == {(CHEAP, "connection"): 2}
        assert client.post("/chat/completions", json={**ask, "cost": 0.0009}).headers["x-p2l-model"] != CHEAP
        time.sleep(0.6)
        assert client.post("/chat/completions", json=ask).status_code == 502
        assert running.metrics.errors == {(CHEAP, "connection"): 3}  # a single trial


def test_an_upstream_is_not_blamed_for_the_time_that_others_took(default, upstreams):
    upstreams.reset()
    first, second, _ = ranking(default)
    upstreams.script.update({first: ["slow"], second: ["slow"]})
    settings = config(upstreams, llms={first: {"timeout": 0.4}}, attempts=2, deadline=0.8, breaker_failures=1)
    with serving(default, settings) as running:

        def status(model):
            ask = {"model": model, "messages": HELLO}
            return httpx.post(f"{running.url}/chat/completions", json=ask).status_code

        assert status("p2l") == 504
        assert running.metrics.errors == {(first, "timeout"): 1, (second, "timeout"): 1}
        assert (status(first), status(second)) == (503, 200)


def test_a_trial_that_the_client_breaks_off_keeps_nobody_out(default, upstreams):
    upstreams.reset()
    upstreams.script[CHEAP] = ["500", "slow"]
    settings = config(upstreams, attempts=1, breaker_failures=1, breaker_seconds=0.6)
    with serving(default, settings) as running, httpx.Client(base_url=running.url) as client:

        def status(**options):
            return client.post("/chat/completions", json={"model": CHEAP, "messages": HELLO}, **options).status_code

        assert (status(), status()) == (502, 503)
        time.sleep(0.6)
        with pytest.raises(httpx.ReadTimeout):
            status(timeout=0.1)
        eventually(lambda: upstreams.hung_up == [CHEAP])
        eventually(lambda: status() == 200, 0.3)


def test_keys_and_their_budgets(default, upstreams, monkeypatch, tmp_path):
    upstreams.reset()
    (tmp_path / "keys").write_text("# ours\nsk-team-a-0123456789 team-a\nsk-team-b-0123456789 team-b 0.00025\n")
    monkeypatch.setenv("P2L_API_KEYS", "sk-environment-0123456789")
    keys = Keys.load(tmp_path / "keys")
    with serving(default, config(upstreams, budget=0.0001), keys) as running:

        def ask(key):
            with openai.OpenAI(base_url=running.url, api_key=key, max_retries=0) as client:
                return client.chat.completions.create(model="p2l", messages=HELLO)

        for key in ("sk-team-a-0123456789", "sk-environment-0123456789"):
            assert ask(key).model == f"up/{CHEAP}"
        for wrong in ("sk-team-a-012345678", "sk-team-a-0123456789x", "x"):
            with pytest.raises(openai.AuthenticationError, match="this server needs an API key"):
                ask(wrong)
        assert httpx.get(f"{running.url}/models").status_code == 401
        seen = len(upstreams.seen)
        upstreams.script[CHEAP] = ["500", "ok"]  # failed calls cost nothing
        for _ in range(2):
            ask("sk-team-b-0123456789")
        with pytest.raises(openai.RateLimitError, match=r"'team-b' has \$0.00005 left of its budget of \$0.00025"):
            ask("sk-team-b-0123456789")
        assert len(upstreams.seen) == seen + 3
        assert "sk-team" not in repr(keys.find("sk-team-b-0123456789"))


def test_prices_by_the_token(default, upstreams):
    upstreams.reset()
    prices = {"input": 10, "output": 20, "input_tokens": 100, "output_tokens": 50}
    with serving(default, config(upstreams, llms={CHEAP: {"prices": prices}})) as running:
        ask = {"model": CHEAP, "messages": HELLO}
        reply = httpx.post(f"{running.url}/chat/completions", json=ask)
        assert float(reply.headers["x-p2l-expected-cost"]) == 0.002
        usage = {"stream": True, "stream_options": {"include_usage": True}}
        httpx.post(f"{running.url}/chat/completions", json={**ask, **usage})
        httpx.post(f"{running.url}/chat/completions", json={**ask, "stream": True})
        eventually(lambda: len(running.metrics.costs) == 3)
        assert running.metrics.costs == pytest.approx([0.0002, 0.0002, 0.002])  # two counted costs, then the estimate


def test_the_client_of_the_docs(server, upstreams, default, capsys):
    upstreams.reset()
    page = (ROOT / "docs" / "router.md").read_text()
    [block] = re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    exec(block.replace("http://127.0.0.1:8000/v1", server.url), {})
    name, answer = capsys.readouterr().out.split(" ", 1)
    assert name in default.route(PROMPT, 0.0005, models=list(COSTS)).mixture
    assert answer.startswith(f"{name} answers")


def test_a_score_that_does_not_come_in_time(default, upstreams, monkeypatch):
    upstreams.reset()
    with serving(default, config(upstreams, deadline=0.2)) as running:
        monkeypatch.setattr(running.engine, "leaderboards", lambda prompts: asyncio.sleep(30))
        reply = httpx.post(f"{running.url}/chat/completions", json={"model": "p2l", "messages": HELLO})
        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "timeout")
        assert not upstreams.seen


def test_the_log_tells_the_key_and_how_often_the_upstreams_were_called(default, upstreams, caplog):
    upstreams.reset()
    upstreams.always.update(dict.fromkeys(COSTS, "500"))
    with caplog.at_level(logging.INFO), serving(default, config(upstreams), team(0.1)[0]) as running:
        reply = httpx.post(f"{running.url}/chat/completions", json={"model": "p2l", "messages": HELLO}, headers=TEAM)
        assert reply.status_code == 502
    [line] = [record.message for record in caplog.records if record.message.startswith("chat asked")]
    found = re.fullmatch(
        r"chat asked=p2l llm=- end=502 ms=[\d.]+ cost=- stream=False attempts=3 failed=(\S+) key=team", line
    )
    assert found is not None, line
    assert found[1].split(",") == [f"{name}:status_500" for name in ranking(default)]
    assert TEAM["authorization"].split()[1] not in caplog.text


TEAM = {"authorization": "Bearer sk-team-0123456789"}


def team(budget: float) -> tuple[Keys, Key]:
    """The API key in these headers."""
    key = Key("team", hashlib.sha256(b"sk-team-0123456789").digest(), budget)
    return Keys([key]), key


def test_each_of_several_answers_costs(default, upstreams):
    upstreams.reset()
    keys, key = team(0.0005)
    ask = {"model": CHEAP, "messages": HELLO}
    with serving(default, config(upstreams), keys) as running, httpx.Client(headers=TEAM) as client:
        assert client.post(f"{running.url}/chat/completions", json={**ask, "n": 3}).status_code == 200
        assert key.spent == pytest.approx(0.0003)
        assert running.metrics.costs == pytest.approx([0.0003])
        reply = client.post(f"{running.url}/chat/completions", json={**ask, "n": 3})
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "insufficient_quota")
        for n in ("3", 3.0, 0):  # an upstream may parse it as a number
            reply = client.post(f"{running.url}/chat/completions", json={**ask, "n": n})
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, "n")
        assert key.spent == pytest.approx(0.0003)
        assert len(upstreams.seen) == 1


def test_a_call_that_a_client_left_is_paid(default, upstreams):
    upstreams.reset()
    upstreams.script[CHEAP] = ["stall"]
    keys, key = team(1.0)
    with serving(default, config(upstreams), keys) as running:
        with httpx.Client(timeout=0.2, headers=TEAM) as client, pytest.raises(httpx.ReadTimeout):
            client.post(f"{running.url}/chat/completions", json={"model": CHEAP, "messages": HELLO, "n": 2})
        eventually(lambda: upstreams.hung_up == [CHEAP])
        eventually(lambda: running.metrics.slowest > 0)  # the request has ended
        assert key.spent == pytest.approx(0.0002)
        upstreams.always[CHEAP] = "500"  # a failed call is not charged
        httpx.post(f"{running.url}/chat/completions", json={"model": CHEAP, "messages": HELLO}, headers=TEAM)
        assert key.spent == pytest.approx(0.0002)


def test_a_stream_without_a_count_costs_by_its_text(default, upstreams):
    upstreams.reset()
    prices = {"input": 10, "output": 20, "input_tokens": 1, "output_tokens": 1}
    ask = {"model": CHEAP, "messages": HELLO, "stream": True}
    read = len(PROMPT) / 4 * 10e-6
    keys, key = team(1.0)
    with serving(default, config(upstreams, llms={CHEAP: {"prices": prices}}), keys) as running:
        url = f"{running.url}/chat/completions"
        with openai.OpenAI(base_url=running.url, api_key="sk-team-0123456789", max_retries=0) as client:
            events = list(client.chat.completions.create(**ask))
        written = len("".join(choice.delta.content or "" for event in events for choice in event.choices))
        assert written > 40
        eventually(lambda: running.metrics.costs == pytest.approx([read + written / 4 * 20e-6]))
        upstreams.script[CHEAP] = ["endless"]
        with httpx.Client(headers=TEAM) as client, client.stream("POST", url, json=ask) as reply:
            parts = reply.iter_text()
            got = "".join(next(parts) for _ in range(20))  # then the client leaves
        said = sum(len(text) for text in re.findall(r'"content": "([^"]*)"', got))
        eventually(lambda: len(running.metrics.costs) == 2)
        assert said > 100
        assert running.metrics.costs[1] >= read + said / 4 * 20e-6 - 1e-9
        assert key.spent == pytest.approx(sum(running.metrics.costs))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/leaderboard"])
def test_a_body_that_does_not_come_is_not_waited_for(path, default, upstreams):
    with serving(default, config(upstreams), body_seconds=0.2) as running:
        address = httpx.URL(running.url)
        with socket.create_connection((address.host, address.port), timeout=20) as stream:
            stream.sendall(f"POST {path}".encode() + b" HTTP/1.1\r\nHost: p2l\r\nContent-Length: 100\r\n\r\n{")
            answer = stream.makefile("rb").read().decode()  # reads until the connection is closed
    assert answer.startswith("HTTP/1.1 408")
    error = json.loads(answer.partition("\r\n\r\n")[2])["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "request_timeout")
    assert "the body did not come within 0.2 s" in error["message"]


def test_a_large_body_is_read_on_a_thread(server, upstreams, monkeypatch):
    upstreams.reset()
    read, parse = [], ChatRequest.parse

    def noted(body, **options):
        read.append((len(body), threading.current_thread()))
        return parse(body, **options)

    monkeypatch.setattr(ChatRequest, "parse", noted)
    for padding in (0, 300_000):
        body = {"model": "by-name-only", "messages": HELLO, "user": "x" * padding}
        assert httpx.post(f"{server.url}/chat/completions", json=body).status_code == 200
    (_, loop), (_, other) = read
    assert loop is not other
    assert upstreams.seen[-1].body["user"] == "x" * 300_000


def test_a_guard_of_somebody_else_may_keep_its_own_key(default, upstreams):
    upstreams.reset()

    async def guard(request: Request) -> None:
        request.state.key = "theirs"

    with serving(default, config(upstreams), guard) as running:
        reply = httpx.post(f"{running.url}/chat/completions", json={"model": CHEAP, "messages": HELLO})
        assert reply.status_code == 200, reply.text
