"""The gateway as seen by OpenAI's own client, in front of upstream servers that work."""

from __future__ import annotations

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
from gateway_llms import CHEAP, COSTS, DEAR, HELLO, PROMPT, SECRET, TEAM, config, ranking, team, text
from gateway_server import eventually, serving

from p2l_sdk.serve.gateway.request import ChatRequest

pytest_plugins = ["gateway_fixtures"]


def test_plain(client, server, upstreams, routing9):
    reply = client.chat.completions.with_raw_response.create(model="p2l", messages=HELLO)
    answer = reply.parse()
    best = ranking(routing9)[0]
    assert answer.model == f"up/{best}"
    assert answer.choices[0].message.content.startswith(f"{best} answers")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 15
    route = routing9.route(PROMPT, models=list(COSTS))
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


def test_a_stream_comes_as_it_is_event_by_event(client, server, upstreams, routing9):
    stream = client.chat.completions.create(
        model="p2l", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    best = ranking(routing9)[0]
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


def test_user_turns_are_scored_and_nothing_else(client, server, routing9):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    turns = [
        {"role": "system", "content": "You are a poet."},
        {"role": "user", "content": [{"type": "text", "text": "Write code"}, image]},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "function", "name": "f", "content": "17"},
        {"role": "user", "content": "and run it"},
    ]
    score = routing9.route([turns[1], turns[4]], models=list(COSTS)).expected_score
    unusual = [turns[0], {"role": "critic", "content": 7}, *turns[1:3], {"role": "assistant"}, *turns[3:]]
    for messages in (turns[:2] + turns[4:], turns, unusual):
        reply = httpx.post(f"{server.url}/chat/completions", json={"model": "p2l", "messages": messages})
        assert reply.status_code == 200, reply.text
        assert float(reply.headers["x-p2l-expected-score"]) == pytest.approx(score, abs=1e-5)
    with pytest.raises(openai.BadRequestError, match="the content of message 5 is neither"):
        client.chat.completions.create(model="p2l", messages=[*turns, {"role": "user", "content": None}])
    with pytest.raises(openai.BadRequestError, match=r"the prompt is empty; .* or name an LLM instead of 'p2l'"):
        client.chat.completions.create(model="p2l", messages=[{"role": "user", "content": [image]}])
    with pytest.raises(openai.BadRequestError, match="no user turn"):
        client.chat.completions.create(model="p2l", messages=turns[:1])
    assert client.chat.completions.create(model=CHEAP, messages=turns[:1]).model == f"up/{CHEAP}"


def test_budgets(client, routing9):
    def choice(**options):
        reply = client.chat.completions.with_raw_response.create(messages=HELLO, **options)
        return reply.headers["x-p2l-model"], float(reply.headers["x-p2l-expected-cost"])

    assert choice(model="p2l", extra_body={"cost": 0.0001}) == (CHEAP, 0.0001)
    assert choice(model="p2l", extra_headers={"x-p2l-cost": "0.0001"}) == (CHEAP, 0.0001)
    assert choice(model="p2l", extra_body={"cost": 0.0001}, extra_headers={"x-p2l-cost": "1"}) == (CHEAP, 0.0001)
    best = ranking(routing9)[0]
    assert choice(model="p2l", extra_body={"cost": 1}) == (best, COSTS[best])
    assert choice(model="p2l-best") == (best, COSTS[best])
    assert choice(model="p2l-best", extra_body={"cost": 0.0003})[1] <= 0.0003
    seen = {choice(model="p2l", extra_body={"cost": 0.0005}) for _ in range(25)}
    mixture = routing9.route(PROMPT, 0.0005, models=list(COSTS)).mixture
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


def test_what_an_upstream_sets_for_one_caller_does_not_come_with_the_next(client, upstreams):
    for _ in range(2):
        client.chat.completions.create(model=DEAR, messages=HELLO)
    assert "cookie" not in upstreams.seen[-1].headers


def test_the_log_has_a_line_for_each_request_and_no_text(client, upstreams, routing9, caplog):
    first, second, _ = ranking(routing9)
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


def test_the_client_of_the_docs(server, upstreams, routing9, capsys):
    upstreams.reset()
    page = (ROOT / "docs" / "router.md").read_text()
    [block] = re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    exec(block.replace("http://127.0.0.1:8000/v1", server.url), {})
    name, answer = capsys.readouterr().out.split(" ", 1)
    assert name in routing9.route(PROMPT, 0.0005, models=list(COSTS)).mixture
    assert answer.startswith(f"{name} answers")


def test_a_score_that_does_not_come_in_time(routing9, upstreams, monkeypatch):
    upstreams.reset()
    with serving(routing9, config(upstreams, deadline=0.2)) as running:
        monkeypatch.setattr(running.engine, "_wake", lambda: None)
        reply = httpx.post(f"{running.url}/chat/completions", json={"model": "p2l", "messages": HELLO})
        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "timeout")
        assert not upstreams.seen


def test_the_log_tells_the_key_and_how_often_the_upstreams_were_called(routing9, upstreams, caplog):
    upstreams.reset()
    upstreams.always.update(dict.fromkeys(COSTS, "500"))
    with caplog.at_level(logging.INFO), serving(routing9, config(upstreams), team(0.1)[0]) as running:
        reply = httpx.post(f"{running.url}/chat/completions", json={"model": "p2l", "messages": HELLO}, headers=TEAM)
        assert reply.status_code == 502
    [line] = [record.message for record in caplog.records if record.message.startswith("chat asked")]
    found = re.fullmatch(
        r"chat asked=p2l llm=- end=502 ms=[\d.]+ cost=- stream=False attempts=3 failed=(\S+) key=team", line
    )
    assert found is not None, line
    assert found[1].split(",") == [f"{name}:status_500" for name in ranking(routing9)]
    assert TEAM["authorization"].split()[1] not in caplog.text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/leaderboard"])
def test_a_body_that_does_not_come_is_not_waited_for(path, routing9, upstreams):
    with serving(routing9, config(upstreams), body_seconds=0.2) as running:
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


def test_a_guard_of_somebody_else_may_keep_its_own_key(routing9, upstreams):
    upstreams.reset()

    async def guard(request: Request) -> None:
        request.state.key = "theirs"

    with serving(routing9, config(upstreams), guard) as running:
        reply = httpx.post(f"{running.url}/chat/completions", json={"model": CHEAP, "messages": HELLO})
        assert reply.status_code == 200, reply.text
