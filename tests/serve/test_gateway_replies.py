"""Large replies of upstreams: what is made of them, and that they reach the client as they came."""

from __future__ import annotations

import base64
import gzip
import json
import random
import zlib
from typing import Any

import httpx
import pytest
from gateway_llms import CHEAP, HELLO, SECRET
from raw_http import post, say
from upstreams import Reply, Upstreams

from p2l_sdk.serve.gateway import outline as module
from p2l_sdk.serve.gateway import reply as replies
from p2l_sdk.serve.gateway.outline import outline
from p2l_sdk.serve.gateway.sse import text_bytes

pytest_plugins = ["gateway_fixtures"]


def value(chance: random.Random, depth: int = 1) -> Any:
    """Some JSON, with all that makes strings hard to read."""
    kind = chance.randrange(7 if depth < 8 else 4)
    if kind == 0:
        return "".join(chance.choice('ab"\\[]{}é\n,:') for _ in range(chance.randrange(12)))
    if kind < 4:
        return (chance.random(), None, chance.randrange(10))[kind - 1]
    if kind < 6:
        return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {chance.choice('ab"\\') * n: value(chance, depth + 1) for n in range(chance.randrange(4))}


def short(some: Any, ascii_only: bool, depth: int = 1) -> Any:
    """What an outline should say, by parsing everything."""
    if isinstance(some, str):
        return "..." if len(json.dumps(some, ensure_ascii=ascii_only).encode()) - 1 > module._LONG else some
    if isinstance(some, list):
        return [] if depth > 4 else [short(one, ascii_only, depth + 1) for one in some]
    if isinstance(some, dict):
        return {} if depth > 4 else {name: short(one, ascii_only, depth + 1) for name, one in some.items()}
    return some


def test_an_outline_is_the_top_of_what_it_is_of(monkeypatch):
    monkeypatch.setattr(module, "_STEP", 7)  # so that everything is cut everywhere
    monkeypatch.setattr(module, "_LONG", 5)
    chance = random.Random(1)
    for i in range(3000):
        whole = {"k": value(chance)} if i % 2 else [value(chance)]
        text = json.dumps(whole, ensure_ascii=i % 3 == 0).encode()
        found = outline(text)
        assert found is not None
        assert json.loads(found.content) == short(whole, i % 3 == 0), text
        broken = outline(text[: chance.randrange(1, len(text))])
        if broken is not None:
            with pytest.raises(ValueError, match=r"Expecting|Extra|delimiter"):
                json.loads(broken.content)


@pytest.mark.parametrize(
    "text",
    [b"", b" ", b"x", b"1", b"[", b"]", b"[]]", b'"', b'"\\"', b'{"a": "', b'{"a": [}', b"[" * 100_000, b"[{}]x" * 9],
)
def test_what_has_no_outline(text):
    found = outline(text)
    assert found is None or not _is_json(found.content) or found.content == text


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_an_endless_list_of_answers_has_no_outline():
    assert outline(b'{"choices": [' + b"{}," * 300_000 + b"{}]}") is None
    many = {"choices": [{"index": i, "message": {"role": "assistant", "content": "a"}} for i in range(1024)]}
    assert json.loads(outline(json.dumps(many).encode()).content) == many


def reply(content: str, n: int) -> bytes:
    """A completion of about n bytes."""
    message = {"role": "assistant", "content": content, "tool_calls": [{"function": {"arguments": "x" * (n // 2)}}]}
    body = {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {"a": [1]}}
    return json.dumps({**body, "pad": "y" * (n // 2)}).encode()


def answers(upstreams: Upstreams, llm: str, content: bytes, kind: str = "application/json", **headers: str) -> None:
    """Let an LLM answer with this, word for word."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    upstreams.replies["whole"] = Reply(content, kind=kind, headers=named)
    upstreams.always[llm] = "whole"


def on_the_wire(value: str) -> str:
    """A header's value whose bytes are UTF-8."""
    return value.encode().decode("latin-1")


@pytest.mark.parametrize("n", [1000, 300_000, 5_000_000])
def test_a_reply_of_any_size_arrives_as_it_came(upstreams, server, n):
    content = reply('say "a" \\ é', n)
    upstreams.reset()
    answers(upstreams, "by-name-only", content)
    port = int(server.url.split(":")[2].split("/")[0])
    said = say(port, post("/v1/chat/completions", {"model": "by-name-only", "messages": HELLO}, b"Connection: close"))
    assert said.statuses == [200]
    assert said.replies[0][1] == content


@pytest.mark.parametrize(
    "content",
    [
        reply("a", 300_000)[:-1],  # cut off
        reply("a", 300_000)[:-40] + b'"',
        b"[" + reply("a", 300_000) + b"]",
        b'{"choices": "' + b"a" * 300_000 + b'"}',
        b'{"error": {"message": "' + b"a" * 300_000 + b'"}}',
        b"<html>" + b"a" * 300_000,
        reply("a", 300_000) + b"{}",
        b'{"choices": [' + b"{}," * 400_000 + b"{}]}",
        lambda: reply("a", 70_000_000),  # beyond the limit; made in the test, not by each who collects it
    ],
    ids=range(9),
)
def test_a_large_reply_that_is_none_is_a_failure(upstreams, server, client, content):
    content = content() if callable(content) else content
    answers(upstreams, "by-name-only", content)
    port = int(server.url.split(":")[2].split("/")[0])
    said = say(port, post("/v1/chat/completions", {"model": "by-name-only", "messages": HELLO}, b"Connection: close"))
    assert said.statuses == [502]
    assert server.metrics.errors["by-name-only", "content"] > 0


def test_text_in_large_replies_is_counted():
    found = replies._look_at(bytearray(reply("four", 1_000_000)))
    assert found.value["choices"][0]["message"]["content"] == "four"
    assert text_bytes(found.value["choices"]) == 4
    assert found.cut == 500_000  # the pad; what the tool is called with is deeper than is looked at


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x_request_id": "req-7"}, {"x-request-id": "req-7", "content-type": "application/json"}),
        ({"x_request_id": "é中"}, {"x-request-id": None}),
        ({"x_request_id": "café"}, {"x-request-id": None}),
        ({"x_request_id": "a\tb"}, {"x-request-id": None}),
        ({"x_request_id": "x" * 50_000}, {"x-request-id": None}),  # proxies take a few kilobytes
        ({"x_request_id": f"for {SECRET}"}, {"x-request-id": None}),
        ({"x_request_id": base64.b64encode(SECRET.encode()).decode()}, {"x-request-id": None}),
        ({"kind": "application/json; charset=UTF-8"}, {"content-type": "application/json; charset=UTF-8"}),
        ({"kind": 'application/json; title="中"'}, {"content-type": "application/json"}),
        ({"kind": "application/json; a=" + "x" * 5000}, {"content-type": "application/json"}),
        ({"x_model": "中ÿ", "server": "é"}, {"x-model": None}),
    ],
    ids=range(11),
)
def test_no_header_of_an_upstream_costs_the_answer(upstreams, server, client, headers, expected):
    answers(upstreams, CHEAP, reply("a", 100), **{name: on_the_wire(value) for name, value in headers.items()})
    got = httpx.post(f"{server.url}/chat/completions", json={"model": CHEAP, "messages": HELLO})
    assert got.status_code == 200
    assert got.json()["choices"][0]["message"]["content"] == "a"
    assert {name: got.headers.get(name) for name in expected} == expected


@pytest.mark.parametrize("n", [100, 1_000_000])
def test_an_answer_that_repeats_our_key_is_none(upstreams, server, client, n):
    answers(upstreams, CHEAP, reply(f"I was called with {SECRET}", n))
    got = httpx.post(f"{server.url}/chat/completions", json={"model": CHEAP, "messages": HELLO})
    assert (got.status_code, SECRET in got.text) == (502, False)
    assert "repeated a key of this server in its answer" in got.json()["error"]["message"]


@pytest.mark.parametrize(
    ("encoding", "pack", "status"),
    [
        ("gzip", gzip.compress, 200),
        ("deflate", zlib.compress, 200),
        ("identity", bytes, 200),
        ("gzip", lambda content: gzip.compress(content)[:-9], 502),
        ("gzip", bytes, 502),
        ("br", bytes, 502),
        ("gzip", lambda content: gzip.compress(content + b" " * replies.LARGEST_REPLY), 502),
    ],
    ids=["gzip", "deflate", "identity", "cut", "plain", "br", "bomb"],
)
def test_a_reply_that_is_encoded_although_nobody_asked(upstreams, server, client, encoding, pack, status):
    content = reply("a", 300_000)
    answers(upstreams, CHEAP, pack(content), content_encoding=encoding)
    got = httpx.post(f"{server.url}/chat/completions", json={"model": CHEAP, "messages": HELLO}, timeout=20)
    assert got.status_code == status
    assert (got.content == content) == (status == 200)
