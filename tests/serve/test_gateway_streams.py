"""Errors behind a status 200, what comes before the first content, and connections kept alive meanwhile."""

from __future__ import annotations

import json

import httpx
import pytest
from gateway_llms import CHEAP, COSTS, DEAR, HELLO, config, ranking
from gateway_server import eventually, serving
from upstreams import Reply, delta, events

from p2l_sdk.serve.gateway.call import retry_after
from p2l_sdk.serve.gateway.sse import Events

pytest_plugins = ["gateway_fixtures"]

ROLE, DONE = delta({"role": "assistant", "content": ""}), "data: [DONE]"
FILTER = {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
SAID = delta({"content": "said"})
ERROR = {"error": {"message": "secret-upstream-text", "code": 502}}
ERRORS = {  # inside a stream
    "error": ERROR,
    "event: error": f"event: error\ndata: {json.dumps(ERROR)}",
    "event:error without JSON": "event:error\r\ndata: overloaded",
    "event: error without data": "event: error\ndata:",
    "flat": {"object": "error", "message": "secret-upstream-text", "code": 500},
    "anthropic": {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    "error as text": {"error": "secret-upstream-text"},
    "detail": {"detail": "secret-upstream-text"},
    "message": {"message": "secret-upstream-text", "type": "InternalServerError"},
    "beside choices": {**SAID, **ERROR},
    "finish reason": delta({"content": ""}, "error"),
    "in a choice": delta({}, None, error={"code": 502, "message": "secret-upstream-text"}),
    "no JSON": 'data: {"choices": [{"del',
    "no object": "data: null",
    "text": "data: Internal Server Error",
}
BEFORE = {  # what may come before the first content
    "nothing": (),
    "role": (ROLE,),
    "filter": (FILTER, ROLE),
    "comments": (": PROCESSING", ": PROCESSING", ROLE),
    "nulls": (delta({"role": "assistant", "content": None, "tool_calls": None, "reasoning_content": ""}),),
    "ping": ('event: ping\ndata: {"type": "ping"}',),
    "usage": ({"choices": [], "usage": None},),
}


def body(**more):
    return {"model": "p2l", "messages": HELLO, "stream": True, **more}


def sent(reply: httpx.Response) -> list[str]:
    """The events of a stream, without comments."""
    return [event for event in reply.text.split("\n\n") if event and not event.startswith(":")]


@pytest.fixture
def ask(server, upstreams):
    upstreams.reset()
    server.metrics.errors.clear()
    with httpx.Client(timeout=10) as client:
        yield lambda **more: client.post(f"{server.url}/chat/completions", json=body(**more))


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("error", ERRORS)
def test_an_error_before_the_first_content_is_unseen(ask, server, upstreams, routing9, error, before):
    first, second, _ = ranking(routing9)
    upstreams.replies["bad"] = events(*BEFORE[before], ERRORS[error], DONE)
    upstreams.script[first] = ["bad"]
    reply = ask()
    assert (reply.status_code, reply.headers["x-p2l-model"]) == (200, second)
    assert f"{second} " in "".join(
        json.loads(e[6:])["choices"][0]["delta"].get("content", "") for e in sent(reply)[:-1]
    )
    assert server.metrics.errors == {(first, "content"): 1}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("end", [(), (DONE,), (delta({}, "stop"), DONE)])
def test_an_error_after_content_ends_the_stream_with_one_error(ask, server, upstreams, error, end):
    upstreams.replies["bad"] = events(ROLE, SAID, ERRORS[error], *end, pause=0.03)
    upstreams.script[DEAR] = ["bad"]
    reply = ask(model=DEAR)
    *answer, last = sent(reply)
    assert [json.loads(event[6:]) for event in answer] == [ROLE, SAID]
    assert json.loads(last[6:])["error"]["code"] == "upstream_error"
    assert f"{DEAR} reported an error in the middle of its answer" in last
    assert "secret" not in reply.text
    assert server.metrics.errors == {(DEAR, "error"): 1}


def test_moderation_in_the_middle_of_an_answer_does_not_shut_the_upstream(routing9, upstreams):
    upstreams.reset()
    upstreams.replies["moderated"] = events(ROLE, SAID, {"error": {"code": 403, "message": "moderated"}}, pause=0.03)
    upstreams.script[DEAR] = ["moderated"] * 3
    with serving(routing9, config(upstreams, breaker_failures=1)) as running, httpx.Client() as client:
        texts = [client.post(f"{running.url}/chat/completions", json=body(model=DEAR)).text for _ in range(4)]
        assert [text.count("upstream_error") for text in texts] == [1, 1, 1, 0]
        assert running.metrics.errors == {(DEAR, "error"): 3}


@pytest.mark.parametrize(
    "parts",
    [(SAID, ERROR, DONE), (ROLE, SAID, ERROR, DONE), (SAID, delta({}, "error"))],
)
def test_an_error_in_one_part_with_the_first_content_is_unseen_too(ask, upstreams, routing9, parts):
    first, second, _ = ranking(routing9)
    whole = events(*parts)
    upstreams.replies["bad"] = Reply(b"".join(whole.parts), kind=whole.kind)
    upstreams.script[first] = ["bad"]
    assert ask().headers["x-p2l-model"] == second


WHOLE = {
    "no choices": {"choices": []},
    "null": {"choices": None},
    "error": ERROR,
    "error beside choices": {"choices": [{"message": {"content": "said"}}], **ERROR},
    "flat": {"object": "error", "message": "secret-upstream-text"},
    "detail": {"detail": "secret-upstream-text"},
    "finish reason": {"choices": [{"message": {"content": ""}, "finish_reason": "error"}]},
    "in a choice": {"choices": [{"message": {"content": ""}, "error": {"message": "secret-upstream-text"}}]},
    "one of two": {"choices": [{"message": {"content": "a"}}, {"message": {}, "finish_reason": "error"}]},
    "no message": {"choices": [{"index": 0, "message": None, "finish_reason": "stop"}]},
    "no object": {"choices": ["said"]},
    "list": b"[]",
    "empty": b"",
    "text": b"upstream request timeout",
}


@pytest.mark.parametrize("what", WHOLE)
def test_a_reply_without_an_answer_is_a_failure(ask, server, upstreams, routing9, what):
    first, second, _ = ranking(routing9)
    upstreams.replies["bad"] = Reply(WHOLE[what])
    upstreams.script[first] = ["bad"]
    assert ask(stream=False).headers["x-p2l-model"] == second
    assert server.metrics.errors == {(first, "content"): 1}
    upstreams.always.update(dict.fromkeys(COSTS, "bad"))
    reply = ask(stream=False)
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_error")
    assert reply.headers["x-should-retry"] == "false"
    assert "secret" not in reply.text


TOOL = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}
ANSWERS = {
    "content": (FILTER, ROLE, SAID, delta({}, "stop"), DONE),
    "tool call": (ROLE, delta(TOOL), delta({}, "tool_calls"), DONE),
    "reasoning": (delta({"role": "assistant", "reasoning": "hm"}), SAID, delta({}, "stop")),
    "refusal": (ROLE, delta({"refusal": "no"}), delta({}, "stop"), DONE),
    "nothing": (ROLE, delta({}, "stop"), DONE),
    "filtered": (FILTER, delta({}, "content_filter"), DONE),
    "parts": (ROLE, delta({"content": [{"type": "thinking", "thinking": []}]}), delta({}, "stop"), DONE),
    "infinite": ('data: {"choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": -Infinity}]}', DONE),
    "half a pair": ('data: {"choices": [{"index": 0, "delta": {"content": "\\ud83d"}}]}', SAID, DONE),
    "about errors": (delta({"content": '"error": {"code": 500}, "finish_reason": "error"\n\nevent: error'}), DONE),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_every_beginning_of_an_answer_is_one_and_comes_whole(ask, server, upstreams, what):
    upstreams.replies["odd"] = reply = events(*ANSWERS[what], pause=0.002)
    upstreams.script[DEAR] = ["odd"]
    assert ask(model=DEAR).content == b"".join(reply.parts)
    assert not server.metrics.errors


@pytest.mark.parametrize(
    "parts", [(ROLE,), (ROLE, DONE), (FILTER, DONE), (": hm",), (), ({"choices": [], "usage": {}}, DONE)]
)
def test_a_stream_that_never_begins_is_a_failure(ask, upstreams, routing9, parts):
    first, second, _ = ranking(routing9)
    upstreams.replies["empty"] = events(*parts)
    upstreams.script[first] = ["empty"]
    assert ask().headers["x-p2l-model"] == second


def test_the_last_empty_line_may_be_forgotten(ask, upstreams):
    whole = b"".join(events(ROLE, SAID, delta({}, "stop")).parts)
    for content in (whole.rstrip(b"\n"), whole.rstrip(b"\n") + b"\n", whole + b"data: [DONE]"):
        upstreams.replies["odd"] = Reply(content, kind="text/event-stream")
        upstreams.script[DEAR] = ["odd"]
        reply = ask(model=DEAR)
        assert reply.content.rstrip() == content.rstrip()
        assert "error" not in reply.text


def test_where_an_error_stands_in_the_bytes_does_not_matter():
    stream = b"".join(events(ROLE, SAID, ERROR, DONE).parts)
    for size in (1, 3, 10, 1000):
        found = Events()
        kept = b"".join(found.feed(stream[i : i + size]) for i in range(0, len(stream), size) if not found.failed)
        assert kept == b"".join(events(ROLE, SAID).parts)
        assert (found.failed, found.error, found.finished) == (True, ERROR, False)


@pytest.mark.parametrize(
    ("seconds", "ms", "expected"),
    [("", "1500", 1.5), ("7", "250", 0.25), ("7", "", 7), ("7", "soon", 7), ("", "nan", None), ("", "-1", 0)],
)
def test_milliseconds_to_wait_are_more_exact(seconds, ms, expected):
    assert retry_after(seconds, ms) == expected


def test_an_upstream_is_left_alone_for_the_milliseconds_it_asks_for(routing9, upstreams):
    upstreams.reset()
    upstreams.replies["busy"] = Reply(ERROR, 429, headers={"retry-after-ms": "300", "retry-after": "1"})
    upstreams.script[CHEAP] = ["busy"]
    with serving(routing9, config(upstreams, attempts=1)) as running, httpx.Client() as client:

        def ask():
            return client.post(f"{running.url}/chat/completions", json=body(model=CHEAP))

        limited = ask()
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "1")
        assert 0 < int(limited.headers["retry-after-ms"]) <= 300
        assert ask().status_code == 503
        eventually(lambda: ask().status_code == 200, 0.6)
