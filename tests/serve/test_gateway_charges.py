"""What a key's budget pays, and what it does not: charges beside tokens, what is held, what a stopped answer costs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from billing_fixtures import ask, many
from gateway_llms import CHEAP, DEAR, TEAM, config, team
from gateway_server import eventually, serving

from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.prices import Prices
from p2l_sdk.serve.gateway.quote import Quote
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.ledger.ledger import Ledger
from p2l_sdk.serve.ledger.opening import open_store

pytest_plugins = ["billing_fixtures", "gateway_fixtures"]
TOOL = {"type": "function", "function": {"name": "f"}}
SOUND = [{"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": "wav"}}, {"type": "text", "text": "?"}]
BESIDE: dict[str, dict[str, Any]] = {  # what vendors charge beside tokens, as far as anybody here knows
    "a search": {"tools": [{"type": "web_search"}]},
    "a search of another name": {"tools": [{"type": "web_search_preview_2025_03_11"}]},
    "files": {"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]},
    "a machine": {"tools": [TOOL, {"type": "code_interpreter", "container": {"type": "auto"}}]},
    "a computer": {"tools": [{"type": "computer_use_preview"}]},
    "a picture": {"tools": [{"type": "image_generation"}]},
    "a server of tools": {"tools": [{"type": "mcp", "server_url": "https://x.example"}]},
    "Google's search": {"tools": [{"google_search": {}}]},
    "Moonshot's search": {"tools": [{"type": "builtin_function", "function": {"name": "$web_search"}}]},
    "a search in a function's clothes": {"tools": [{"google_search": {}, **TOOL}]},
    "a search by another case": {"tools": [{**TOOL, "Type": "web_search"}]},
    "a template that writes": {"chat_template": "{% for i in range(99999) %}x{% endfor %}"},
    "a template among its arguments": {"chat_template_kwargs": {"chat_template": "x"}},
    "a template's token at each message": {"chat_template_kwargs": {"eos_token": "x" * 300}},
    "a word for the tokenizer": {"chat_template_kwargs": {"padding": "max_length"}},
    "a text for a template": {"chat_template_kwargs": {"thinking_mode": "think about it"}},
    "a tool that is none": {"tools": ["web_search"]},
    "tools that are no list": {"tools": {"type": "web_search"}},
    "Alibaba's search": {"enable_search": True},
    "xAI's search": {"search_parameters": {"mode": "on"}},
    "Azure's data": {"data_sources": [{"type": "azure_search"}]},
    "a guess at the answer": {"prediction": {"type": "content", "content": "x" * 9000}},
    "a copy at the vendor": {"store": True},
    "pictures": {"modalities": ["text", "image"]},
    "Google's search by a function's name": {"tools": [{"type": "function", "function": {"name": "googleSearch"}}]},
    "Moonshot's by a function's name": {"tools": [{"type": "function", "function": {"name": "$web_search"}}]},
    "LiteLLM's by an old function's name": {"functions": [{"name": "litellm_web_search"}]},
    "what nobody knows": {"extra_body": {"google": {}}},
}


def test_what_may_be_charged_beside_tokens_is_refused_for_a_key_with_a_budget(gateway, llms):
    bodies = {name: ask(max_tokens=5, **fields) for name, fields in BESIDE.items()}
    fields = {name: next(iter(fields)) for name, fields in BESIDE.items()}
    server, key = gateway()
    for name, body in bodies.items():
        reply = httpx.post(f"{server.url}/chat/completions", json=body, headers=TEAM)
        error = reply.json()["error"]
        assert (reply.status_code, error["param"]) == (400, fields[name]), name
        assert "may be charged beside tokens, and this key has a budget; leave it out" in error["message"], name
    assert (key.spent, llms.bodies) == (0.0, [])
    for settings in (
        {"allow": [*fields.values(), "googleSearch", "$web_search", "litellm_web_search"]},
        {"budget": None},
    ):
        other, _ = gateway(**settings)
        for name, body in bodies.items():
            assert httpx.post(f"{other.url}/chat/completions", json=body, headers=TEAM).status_code == 200, name


@pytest.mark.parametrize("name", ["Type", "CONTENT", "Image_URL", "Role"])
def test_names_in_messages_that_some_vendors_read_in_another_way_are_refused(name, gateway, llms):
    server, _ = gateway()
    part = {"type": "text", "text": "x", name: "image_url"}
    for message in ({"role": "user", "content": [part]}, {"role": "user", "content": "x", name: "y"}):
        reply = httpx.post(f"{server.url}/chat/completions", json=ask(messages=[message]), headers=TEAM)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "messages[0]")
    assert not llms.bodies


def test_what_is_free_passes(gateway, llms):
    server, _ = gateway(budget=10.0)
    free = {
        "tools": [TOOL, {"type": "custom", "custom": {"name": "c"}}, {"function": {"name": "g"}}], "seed": 1,
        "tool_choice": "auto", "store": False, "prediction": None, "enable_search": False, "modalities": ["text"],
        "temperature": 0, "reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}, "top_k": 3,
        "metadata": {"a": "b"}, "response_format": {"type": "text"}, "stop": ["x"], "stream_options": None,
        "reasoning_format": "parsed", "cache_prompt": True, "safety_settings": [{"category": "x"}],
    }  # fmt: skip
    assert httpx.post(f"{server.url}/chat/completions", json=ask(max_tokens=5, **free), headers=TEAM).status_code == 200
    assert {name: llms.bodies[-1][name] for name in free} == free


def test_audio_needs_a_price_where_a_budget_pays(gateway):
    messages = [{"role": "user", "content": SOUND}]
    server, _ = gateway(**{CHEAP: {"prices": {"audio_input": 10.0}}})
    with httpx.Client(base_url=server.url, headers=TEAM) as client:
        reply = client.post("/chat/completions", json=ask(messages=messages, max_tokens=5))
        assert (reply.status_code, reply.headers["x-p2l-model"]) == (200, CHEAP)
        spoken = client.post("/chat/completions", json=ask(audio={"voice": "x"}, modalities=["text", "audio"]))
        assert (spoken.status_code, spoken.json()["error"]["code"]) == (400, "unsupported_request")
        assert "(its `prices` lack audio_output)" in spoken.json()["error"]["message"]
        dear = client.post("/chat/completions", json=ask(model=DEAR, messages=messages, max_tokens=5))
        assert "(its `prices` lack audio_input)" in dear.json()["error"]["message"]
    free, _ = gateway(budget=None)
    ok = httpx.post(f"{free.url}/chat/completions", json=ask(model=DEAR, messages=messages, max_tokens=5), headers=TEAM)
    assert ok.status_code == 200


def quote(prices: Prices, **fields: Any) -> Quote:
    request = ChatRequest.parse(json.dumps({"model": "x", "messages": [], "max_tokens": 100, **fields}).encode())
    return Quote.of(request, LLMConfig(name="x", base_url="http://x", prices=prices), 0.0)


def test_audio_is_quoted_at_its_own_price():
    messages = [{"role": "user", "content": SOUND}]
    flat, own = Prices(input=1, output=2), Prices(input=1, output=2, audio_input=41, audio_output=12)
    heard = quote(own, messages=messages).most - quote(flat, messages=messages).most
    assert heard == pytest.approx(40 * 1100 / 1e6)
    said = quote(own, messages=messages, modalities=["audio"]).most - quote(own, messages=messages).most
    assert said == pytest.approx(10 * 100 / 1e6, abs=5e-5)


@pytest.mark.parametrize("part", [{"type": "video_url"}, {"type": "file", "file": {"file_id": "f"}}, {"type": "new"}])
def test_a_part_of_unknown_size_is_expected_to_be_as_usual_and_may_be_large(part):
    prices = Prices(input=1, output=0)
    found = quote(prices, messages=[{"role": "user", "content": [part]}])
    assert 1000 <= found.expected * 1e6 < 5000
    assert found.most * 1e6 > 100_000


def test_a_video_does_not_refuse_a_budget_of_its_own(gateway):
    server, _ = gateway(budget=100.0)
    video = [
        {"type": "video_url", "video_url": {"url": "https://x.example/v"}},
        {"type": "text", "text": "What is it?"},
    ]
    body = ask(messages=[{"role": "user", "content": video}], cost=0.003, max_tokens=50)
    assert httpx.post(f"{server.url}/chat/completions", json=body, headers=TEAM).status_code == 200


@pytest.mark.thorough
@pytest.mark.parametrize(("seconds", "trickle"), [(2.5, 0), (0.8, 4096)], ids=["not at all", "in trickles"])
def test_a_client_that_does_not_read_pays_for_what_was_written_meanwhile(seconds, trickle, gateway, llms):
    server, key = gateway(budget=1.0)
    llms.behaviour[CHEAP] = "fast"
    body = json.dumps(ask(model=CHEAP, stream=True, max_tokens=300_000)).encode()
    address = urlsplit(server.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((address.hostname, address.port))
        head = f"POST {address.path}/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        client.sendall(f"{head}Authorization: {TEAM['authorization']}\r\n\r\n".encode() + body)
        full, before, end = 0, -1.0, float("inf")
        while time.monotonic() < end:
            time.sleep(0.1)
            if full == 3 and end == float("inf"):  # all that lies between has been filled, and the LLM is kept waiting
                end = time.monotonic() + seconds
            full = min(3, full + 1) if llms.bills[CHEAP] == before > 0.01 else full
            before = llms.bills[CHEAP]
            if trickle and full == 3:
                client.recv(trickle)
    eventually(lambda: server.metrics.costs, 90)  # what the LLM had sent is read first
    assert llms.bills[CHEAP] > 0.01
    assert key.spent == pytest.approx(0.3, rel=0.01)  # all that was set aside


def test_requests_at_the_same_time_share_what_is_left(gateway, llms):
    """An answer of unknown length would take all of it: it gets half, but no less than is usual."""
    server, _ = gateway(budget=0.04)
    llms.behaviour[DEAR] = "slow"
    statuses = asyncio.run(many(f"{server.url}/chat/completions", [ask(model=DEAR)] * 3))
    assert statuses.count(200) == 3
    assert sorted(body["max_tokens"] for body in llms.bodies) == pytest.approx([200, 225, 460], abs=30)


def test_what_requests_in_progress_hold_is_not_spent(gateway, llms):
    server, _ = gateway(budget=0.02)
    llms.behaviour[DEAR] = "slow"
    body = ask(model=DEAR, max_tokens=450)

    async def two() -> list[httpx.Response]:
        async with httpx.AsyncClient(headers=TEAM) as client:
            first = asyncio.ensure_future(client.post(f"{server.url}/chat/completions", json=body))
            await asyncio.sleep(0.2)
            second = await client.post(f"{server.url}/chat/completions", json=body)
            return [await first, second]

    first, second = asyncio.run(two())
    assert (first.status_code, second.status_code) == (200, 429)
    assert second.json()["error"]["code"] == "budget_in_use"
    assert (second.headers["retry-after"], second.headers.get("x-should-retry")) == ("1", None)
    longer = {**body, "messages": [{"role": "user", "content": "x" * 1000}]}
    last = httpx.post(f"{server.url}/chat/completions", json=longer, headers=TEAM)
    assert (last.status_code, last.json()["error"]["code"]) == (429, "insufficient_quota")
    assert last.headers["x-should-retry"] == "false"
    metrics = server.engine.metrics.exposition().decode()
    for code in ("budget_in_use", "insufficient_quota"):
        assert f'p2l_key_refusals_total{{code="{code}",key="team"}} 1.0' in metrics


@pytest.mark.parametrize("ledger", ["memory", "file"])
@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}])
def test_the_next_request_finds_the_one_before_settled(fields, ledger, routing9, upstreams, tmp_path):
    """The budget holds one at a time; each is sent as soon as the end of the one before has been read."""
    upstreams.reset()
    upstreams.always[CHEAP] = "linger" if fields else "ok"  # the end of a stream is not that of its connection
    keys, _ = team(0.11)
    keys = keys.within(Ledger(open_store(ledger if ledger == "memory" else str(tmp_path / "ledger"))))
    settings = config(upstreams, llms={CHEAP: {"prices": {"input": 10, "output": 20}}})
    body = {**ask(model=CHEAP, max_tokens=5000), **fields}

    async def one_after_another(url: str) -> None:
        async with httpx.AsyncClient(headers=TEAM) as client, contextlib.AsyncExitStack() as still_open:
            for _ in range(12):
                reply = await still_open.enter_async_context(client.stream("POST", url, json=body))
                assert reply.status_code == 200, await reply.aread()
                async for line in reply.aiter_lines():
                    if "[DONE]" in line:
                        break

    with serving(routing9, settings, keys) as running:
        asyncio.run(one_after_another(f"{running.url}/chat/completions"))
        keys.ledger.close()
