"""The parts of the gateway in isolation: requests, events, breakers, connections."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from effort import effort

from p2l_sdk.serve.gateway.breaker import Breaker
from p2l_sdk.serve.gateway.call import UpstreamError
from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.request import BadRequest, ChatRequest
from p2l_sdk.serve.gateway.sse import Events, error_event, payloads

IMAGE = "data:image/png;base64,AAAA"


@pytest.mark.long
def test_a_body_of_many_megabytes_is_read_or_refused_quickly():
    rest = b'"model": "p2l", "messages": [{"role": "user", "content": "hi"}]}'
    spaces, repeated = (b"{" + filling + rest for filling in (b" " * 2**25, b'"a":1,' * 2**22))
    assert ChatRequest.parse(spaces).model == "p2l"

    def refuse(body: bytes = repeated) -> None:
        with pytest.raises(BadRequest, match="not a JSON object in UTF-8 of at most 500 fields"):
            ChatRequest.parse(body)

    refuse(b"{" + b"".join(b'"x%d":1,' % i for i in range(500)) + rest)
    for call in (lambda: ChatRequest.parse(spaces), refuse):
        assert effort(call, lambda: json.loads(repeated)) < 2
    assert len(ChatRequest.parse(b"{" + b"".join(b'"x%d":1,' % i for i in range(498)) + rest).fields) == 500


def test_what_a_request_asks_for():
    def parse(**fields):
        return ChatRequest.parse(json.dumps({"model": "p2l", "messages": [{"role": "user"}], **fields}).encode())

    assert [parse(cost=cost).budget for cost in (None, 0, "1e-3", 10**308)] == [None, 0, 0.001, 1e308]
    for cost in (10**309, -1, "x", "nan", 1e999, [1], {}, True):
        with pytest.raises(BadRequest, match=r"finite number|not a JSON object"):
            parse(cost=cost)
    assert [parse().n, parse(n=None).n, parse(n=1024).n] == [1, 1, 1024]
    for n in (0, -1, 1025, 10**400, 2.0, "20", True):
        with pytest.raises(BadRequest, match="n must be an integer from 1 to 1024"):
            parse(n=n)
    parts = [
        {"type": "text", "text": "ab"},
        {"type": "image_url", "image_url": {"url": IMAGE}},
        "?",
        {"type": "text", "text": 1},
    ]
    messages = [{"role": "system", "content": "é"}, {"role": "user", "content": parts}, {"role": "assistant"}]
    size = parse(messages=messages, tools=[{"type": "function"}]).size
    tools = len(json.dumps([{"type": "function"}]))
    assert (size.text, size.most) == (5 + tools, len(json.dumps(messages)) + tools - len(IMAGE))
    grown = 4 * 2 + 1 + 4  # a line for each bracket, and "type" again
    assert (size.images, size.other) == (1, 1000 + grown + (tools + grown))  # and all once more


def test_a_body_is_rewritten_without_being_parsed_and_written_again():
    llm = LLMConfig(name="x", base_url="http://127.0.0.1:9/v1", upstream_model="up/x", system='be "brief"')
    rng = random.Random(0)

    def value(depth: int = 0):
        kind = rng.randrange(7 if depth < 3 else 5)
        if kind >= 5:
            items = [value(depth + 1) for _ in range(rng.randrange(4))]
            return items if kind == 5 else {f'k{i}"': item for i, item in enumerate(items)}
        return [rng.random(), rng.randrange(-9, 9), 'a"}{,:[\n\u00e9😀\\'[: rng.randrange(10)], None, True][kind]

    for _ in range(300):
        extra = {f"x{i}{rng.choice(chr(34) + 'é')}": value() for i in range(rng.randrange(5))}
        body = {"model": "p2l", "messages": [{"role": "user", "content": "hi"}], **extra}
        text = json.dumps(body, indent=rng.choice([None, 1]), ensure_ascii=rng.random() < 0.5)
        sent = json.loads(ChatRequest.parse(text.encode()).body(llm))
        system = {"role": "system", "content": 'be "brief"'}
        assert sent == {**body, "model": "up/x", "messages": [system, *body["messages"]]}


def test_events_are_cut_at_their_ends_wherever_the_parts_are():
    stream = b': hello\n\ndata: {"a": 1}\n\nevent: x\r\ndata: {"usage": {"prompt_tokens": 3}}\r\n\r\ndata: [DONE]\n\n'
    for size in (1, 2, 3, 7, 1000):
        events = Events()
        parts = [events.feed(stream[i : i + size]) for i in range(0, len(stream), size)]
        assert b"".join(parts) == stream
        assert events.rest() == b""
        assert all(part.endswith((b"\n\n", b"\r\n\r\n")) for part in parts if part)
        assert (events.done, events.finished, events.usage) == (True, True, {"prompt_tokens": 3})
    assert list(payloads(stream)) == [{"a": 1}, {"usage": {"prompt_tokens": 3}}, "[DONE]"]
    assert list(payloads(b"data: {oops\n\n")) == [None]
    [event] = payloads(error_event("gone", "server_error", "x"))
    assert event == {"error": {"message": "gone", "type": "server_error", "param": None, "code": "x"}}
    finished = Events()
    finished.feed(b'data: {"choices": [{"finish_reason": null}]}\n\n')
    assert not finished.finished
    finished.feed(b'data: {"choices": [{"finish_reason": "stop"}]}\n\n')
    assert finished.finished
    assert not finished.done


def event(text: str, reason: str | None, index: int = 0) -> bytes:
    """An event of a streamed answer."""
    choice = {"index": index, "delta": {"content": text}, "finish_reason": reason}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


def test_only_the_end_of_the_answer_is_its_end():
    events = Events()
    for text in ("[DONE]", "data: [DONE]", "\n\ndata: [DONE]\n\n", '"finish_reason": "stop"'):
        events.feed(event(text, None) + event(text, ""))  # some servers send an empty finish reason in every event
        assert not events.done
        assert not events.finished
    events.feed(event("", "stop"))
    assert (events.done, events.finished) == (False, True)
    two = Events(choices=2)
    two.feed(event("", "stop", 0) + event("", "stop", 0))
    assert not two.finished
    two.feed(event("", "length", 1))
    assert two.finished
    two.feed(b"data:[DONE]\n\n")
    assert two.done


def test_a_large_event_in_small_parts_takes_no_longer():
    def feed(parts: int) -> None:
        events = Events()
        for _ in range(parts):
            assert events.feed(b"x" * 2048) == b""
        assert len(events.feed(b"\n\n")) == parts * 2048 + 2

    assert effort(lambda: feed(4096), lambda: feed(256)) < 64  # 16 times as many parts; 256 if each read all before it


def test_a_breaker_opens_lets_one_try_and_closes(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("p2l_sdk.serve.gateway.breaker.time.monotonic", lambda: now[0])
    breaker = Breaker(failures=2, seconds=10)
    breaker.failed()
    assert breaker.wait() == 0
    breaker.failed()
    assert breaker.wait() == 10
    now[0] += 10
    assert breaker.wait() == 0
    breaker.enter()
    assert breaker.wait() == 10  # others wait for the outcome of the trial
    breaker.succeeded()
    assert breaker.wait() == 0
    breaker.failed(retry_after=3600)
    assert breaker.wait() == 10  # no upstream is paused for an hour
    now[0] += 10
    breaker.failed(retry_after=2)
    assert breaker.wait() == 10


def test_a_request_that_tells_nothing_keeps_nobody_waiting(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("p2l_sdk.serve.gateway.breaker.time.monotonic", lambda: now[0])
    breaker = Breaker(failures=1, seconds=10)
    before = breaker.enter()
    breaker.failed()
    breaker.release(before)  # not a trial: it was in flight when the others failed
    assert breaker.wait() == 10
    now[0] += 10
    trial = breaker.enter()
    breaker.release(trial)
    assert breaker.wait() == 0
    now[0] += 1
    breaker.failed()
    breaker.release(trial)  # a failure in the meantime outweighs the trial
    assert breaker.wait() == 10


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("1.5", 1.5), ("-3", 0), (timedelta(seconds=90), 89), (timedelta(-1), 0), ("", None), ("inf", None),
     ("soon", None), ("Mon, 99 Foo 9999999999 00:00:00 GMT", None)],
)  # fmt: skip
def test_how_long_an_upstream_wants_to_rest(value, seconds):
    if isinstance(value, timedelta):
        value = format_datetime(datetime.now(UTC) + value, usegmt=True)
    error = UpstreamError.of(429, {"retry-after": value})
    assert error.retry_after == (None if seconds is None else pytest.approx(seconds, abs=2 if seconds > 60 else 0))
