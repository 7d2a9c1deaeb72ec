"""What the gateway does if an upstream fails, and if the client leaves."""

from __future__ import annotations

import time

import httpx
import openai
import pytest
from gateway_llms import CHEAP, COSTS, DEAR, HELLO, MIDDLE, SECRET, config, ranking, text
from gateway_server import eventually, serving
from upstreams import REFUSALS, closed_port

pytest_plugins = ["gateway_fixtures"]


FAULTS = ["slow", "429", "500", "503", "401", "404", "reset", "garbage", "html", "redirect"]
ODD_STREAMS = ["error-event", "odd-event", "done-only"]


@pytest.mark.parametrize(
    ("fault", "stream"),
    [*((fault, stream) for fault in FAULTS for stream in (False, True)), *((fault, True) for fault in ODD_STREAMS)],
)
def test_failover_before_the_first_byte(client, server, upstreams, routing9, fault, stream):
    first, second, _ = ranking(routing9)
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
def test_half_a_reply_is_no_answer(client, upstreams, routing9, fault):
    first, second, _ = ranking(routing9)
    upstreams.script[first] = [fault]
    reply = client.chat.completions.with_raw_response.create(model="p2l", messages=HELLO)
    assert reply.headers["x-p2l-model"] == second


@pytest.mark.parametrize(
    ("fault", "message"),
    [("drop", "broke off its answer"), ("cut", "broke off its answer"), ("stall", "stopped in the middle")],
)
def test_after_the_first_byte_an_error_event_ends_the_stream(client, server, upstreams, routing9, fault, message):
    first = ranking(routing9)[0]
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


@pytest.mark.parametrize(
    ("fault", "kind", "timeout"), [("drop", "broken", 30), ("cut", "broken", 30), ("stall", "timeout", 0.5)]
)
def test_an_upstream_that_never_ends_a_stream_is_left_alone(routing9, upstreams, fault, kind, timeout):
    upstreams.reset()
    upstreams.always[CHEAP] = fault
    body = {"model": CHEAP, "messages": HELLO, "stream": True}
    settings = config(upstreams, llms={CHEAP: {"timeout": timeout}}, breaker_failures=2)
    with serving(routing9, settings) as running, httpx.Client(base_url=running.url) as client:
        for _ in range(2):
            assert "upstream_error" in client.post("/chat/completions", json=body).text
        assert client.post("/chat/completions", json=body).status_code == 503
        assert running.metrics.errors == {(CHEAP, kind): 2}


def test_an_endless_stream_ends_at_the_deadline(client, upstreams, routing9):
    upstreams.script[ranking(routing9)[0]] = ["endless"]
    start = time.monotonic()
    stream = client.chat.completions.create(model="p2l", messages=HELLO, stream=True)
    assert len([next(stream) for _ in range(10)]) == 10
    with pytest.raises(openai.APIError, match="did not end its answer in time"):
        list(stream)
    assert time.monotonic() - start > 1.8
    eventually(lambda: upstreams.hung_up)


def test_attempts_are_bounded_and_the_budget_holds(client, upstreams, routing9):
    upstreams.always.update(dict.fromkeys(COSTS, "500"))
    with pytest.raises(openai.InternalServerError) as error:
        client.chat.completions.create(model="p2l", messages=HELLO)
    assert error.value.status_code == 502
    assert [seen.llm for seen in upstreams.seen] == ranking(routing9)
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


def test_a_client_cannot_shut_an_upstream_for_the_others(routing9, upstreams):
    upstreams.reset()
    with serving(routing9, config(upstreams, breaker_failures=1)) as running:

        def ask(how="ok"):
            upstreams.script[DEAR] = [how]
            return httpx.post(f"{running.url}/chat/completions", json={"model": DEAR, "messages": HELLO})

        for how in REFUSALS:
            reply = ask(how)
            error = reply.json()["error"]
            assert (reply.status_code, error["type"], error["code"]) == (
                400, "invalid_request_error", "refused_by_upstream"
            )  # fmt: skip
            if how == "400-html":  # no reason, but a page that is nobody's business
                assert f"{DEAR} refused the request with status 400; send a shorter or simpler one" in error["message"]
            else:
                assert error["message"] == "secret-upstream-text"
            assert "html" not in reply.text
        assert ask("403").status_code == 502  # perhaps moderation
        assert ask().status_code == 200
        assert running.metrics.errors == {(DEAR, "status_400"): len(REFUSALS), (DEAR, "status_403"): 1}


def test_an_error_that_holds_our_key_does_not_come_back(client, upstreams):
    upstreams.script[DEAR] = ["leak"]
    with pytest.raises(openai.InternalServerError, match="answered with status 400") as error:
        client.chat.completions.create(model=DEAR, messages=HELLO)
    assert SECRET not in error.value.response.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_ends_the_call(server, upstreams, routing9, stream):
    first = ranking(routing9)[0]
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


def test_cancel_as_the_openai_client_does(client, upstreams, routing9):
    first = ranking(routing9)[0]
    upstreams.script[first] = ["endless"]
    stream = client.chat.completions.create(model="p2l", messages=HELLO, stream=True)
    next(stream)
    stream.close()
    eventually(lambda: upstreams.hung_up == [first], 2.0)


def test_an_upstream_that_is_down_is_left_alone(routing9, upstreams):
    upstreams.reset()
    down = f"http://127.0.0.1:{closed_port()}/v1"
    settings = config(
        upstreams, llms={CHEAP: {"base_url": down}}, breaker_failures=2, breaker_seconds=0.5, attempts=2, budget=0.0001
    )
    ask = {"model": "p2l", "messages": HELLO}
    with serving(routing9, settings) as running, httpx.Client(base_url=running.url) as client:
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


def test_an_upstream_is_not_blamed_for_the_time_that_others_took(routing9, upstreams):
    upstreams.reset()
    first, second, _ = ranking(routing9)
    upstreams.script.update({first: ["slow"], second: ["slow"]})
    settings = config(upstreams, llms={first: {"timeout": 0.4}}, attempts=2, deadline=0.8, breaker_failures=1)
    with serving(routing9, settings) as running:

        def status(model):
            ask = {"model": model, "messages": HELLO}
            return httpx.post(f"{running.url}/chat/completions", json=ask).status_code

        assert status("p2l") == 504
        assert running.metrics.errors == {(first, "timeout"): 1, (second, "timeout"): 1}
        assert (status(first), status(second)) == (503, 200)


def test_a_trial_that_the_client_breaks_off_keeps_nobody_out(routing9, upstreams):
    upstreams.reset()
    upstreams.script[CHEAP] = ["500", "slow"]
    settings = config(upstreams, attempts=1, breaker_failures=1, breaker_seconds=0.6)
    with serving(routing9, settings) as running, httpx.Client(base_url=running.url) as client:

        def status(**options):
            return client.post("/chat/completions", json={"model": CHEAP, "messages": HELLO}, **options).status_code

        assert (status(), status()) == (502, 503)
        time.sleep(0.6)
        with pytest.raises(httpx.ReadTimeout):
            status(timeout=0.1)
        eventually(lambda: upstreams.hung_up == [CHEAP])
        eventually(lambda: status() == 200, 0.3)
