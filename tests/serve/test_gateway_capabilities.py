"""No request is sent to an LLM that cannot do it, as far as that is known; and what is known."""

from __future__ import annotations

import json

import httpx
import pytest
from gateway_llms import CHEAP, COSTS, DEAR, HELLO, MIDDLE, PROMPT, config, ranking
from gateway_server import serving
from upstreams import Reply

from p2l_sdk.errors import BudgetError
from p2l_sdk.serve.gateway.capabilities import Needs
from p2l_sdk.serve.gateway.choice import Chooser
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.known import completed
from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.request import ChatRequest

pytest_plugins = ["gateway_fixtures"]

IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'A' * 100_000}"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}


def said(*parts):
    return [{"role": "user", "content": [{"type": "text", "text": PROMPT}, *parts]}]


# what an LLM cannot do, a request that needs it, and how the refusal says so
CASES = {
    "tools": ({"tools": False}, {"tools": [TOOL]}, "takes no tools"),
    "functions": ({"tools": False}, {"functions": [{"name": "f"}]}, "takes no tools"),
    "calls of tools": (
        {"tools": False},
        {"messages": [*HELLO, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                      {"role": "tool", "tool_call_id": "c", "content": "1"}]},
        "takes no tools",
    ),
    "images": ({"vision": False}, {"messages": said(IMAGE)}, "takes no images"),
    "an image of a tool": (
        {"vision": False}, {"messages": [*HELLO, {"role": "tool", "content": [IMAGE]}]}, "takes no images"
    ),
    "sound": ({"audio": False}, {"messages": said(SOUND)}, "takes no audio"),
    "an answer as sound": (
        {"audio": False}, {"modalities": ["text", "audio"], "audio": {"voice": "alloy"}}, "takes no audio"
    ),
    "schema": ({"json_schema": False}, {"response_format": SCHEMA}, "takes no JSON schemas"),
    "context": ({"context": 1000}, {"messages": [{"role": "user", "content": "word " * 1000}]},
                "takes no more than 1000 tokens (about 1250 of prompt are asked)"),
    "context and answer": ({"context": 1000}, {"max_tokens": 1000},
                           "takes no more than 1000 tokens (about 11 of prompt and 1000 of answer are asked)"),
    "the newer name": ({"context": 1000}, {"max_completion_tokens": 4000}, "and 4000 of answer"),
    "the answer of the config": ({"context": 1000, "max_tokens": 995}, {}, "and 995 of answer"),
    "long tools": ({"context": 1000}, {"tools": [TOOL] * 100}, "no more than 1000 tokens"),
    "two things": ({"vision": False, "tools": False}, {"messages": said(IMAGE), "tools": [TOOL]},
                   "takes no tools and no images"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_llm_that_cannot_do_it_is_not_called(routing9, upstreams, case):
    lacks, asked, message = CASES[case]
    upstreams.reset()
    first, second, third = ranking(routing9)
    with serving(routing9, config(upstreams, llms={first: lacks, second: lacks})) as running:

        def ask(**more):
            body = {"model": "p2l", "messages": HELLO, **asked, **more}
            return httpx.post(f"{running.url}/chat/completions", json=body)

        for stream in (False, True):
            reply = ask(stream=stream)
            assert (reply.status_code, reply.headers["x-p2l-model"]) == (200, third)
            assert reply.headers["x-p2l-probability"] == "1"  # it was chosen, and replaced nobody
        upstreams.always[third] = "500"
        assert ask().status_code == 502
        assert {seen.llm for seen in upstreams.seen} == {third}
        named = ask(model=first)
        code = "context_length_exceeded" if "context" in lacks else "unsupported_request"
        assert (named.status_code, named.json()["error"]["code"]) == (400, code)
        assert message in named.json()["error"]["message"]
        assert not running.metrics.errors.keys() & {(first, kind) for kind in ("status_400", "content")}
        assert httpx.post(f"{running.url}/chat/completions", json={"model": first, "messages": HELLO}).status_code == (
            400 if case == "the answer of the config" else 200
        )


def test_if_no_llm_can_do_it_the_error_says_what_each_lacks(routing9, upstreams):
    upstreams.reset()
    llms = {CHEAP: {"vision": False}, MIDDLE: {"context": 50}, DEAR: {"vision": False, "tools": False}}
    with serving(routing9, config(upstreams, llms=llms)) as running:
        asked = {"model": "p2l", "messages": said(IMAGE), "tools": [TOOL]}
        reply = httpx.post(f"{running.url}/chat/completions", json=asked)
        assert reply.status_code == 400
        assert reply.json()["error"]["message"] == (
            f"no LLM here can answer this request: {CHEAP} takes no images; {MIDDLE} takes no more than 50 tokens "
            f"(about 115 of prompt are asked); {DEAR} takes no tools and no images; send less, or leave out what they "
            "cannot do"
        )
        assert reply.json()["error"]["code"] == "unsupported_request"
        assert not upstreams.seen


def needs(**fields):
    return Needs.of(ChatRequest.parse(json.dumps({"model": "p2l", "messages": HELLO, **fields}).encode()))


def test_what_a_request_needs():
    assert needs() == Needs(prompt=len(PROMPT) // 4, answer=None, abilities=frozenset())
    nothing = [{"tools": []}, {"tools": None}, {"response_format": {"type": "json_object"}}, {"audio": None}]
    nothing += [
        {"response_format": "json_schema"},
        {"modalities": 3},
        {"modalities": ["text"]},
        {"tool_choice": "none"},
    ]
    for fields in nothing:
        assert (needs(**fields).answer, needs(**fields).abilities) == (None, frozenset())
    assert needs(max_tokens=10**4000).answer == 10**9
    assert needs(messages=said(IMAGE, IMAGE)).prompt == (len(PROMPT) + 4 * 170) // 4  # whatever their bytes
    assert needs(messages=[{"role": "user", "content": "日本語" * 100}]).prompt == 225  # however JSON escapes it
    odd = [{"role": "user", "content": [None, "?", {"type": []}, {"type": {}}]}, {"role": "assistant", "tool_calls": 3}]
    odd += [{"role": "assistant", "tool_calls": [None, {}, {"function": None}, {"function": {"arguments": 1}}]}]
    assert needs(messages=odd).prompt == 0
    unknown = LLMConfig(name="x", base_url="http://x")
    assert needs(messages=said(IMAGE, SOUND), tools=[TOOL], max_tokens=10**9).lacking(unknown) == []


def test_money_is_paced_among_the_llms_that_can(routing9):
    """One mean budget for all requests, whichever LLMs may answer them."""
    models = {name: {"base_url": "http://127.0.0.1:9/v1", "cost": cost} for name, cost in COSTS.items()}
    chooser = Chooser(GatewayConfig.from_dict({"models": models, "mean_budget": 0.0004}), routing9)
    board = routing9.leaderboard(PROMPT)
    chosen = []
    for i in range(2000):
        choice = chooser.routed(board, "p2l", None, without={CHEAP} if i % 2 else set())
        assert not (i % 2 and CHEAP in choice.ranking)
        chosen.append(COSTS[choice.ranking[0]])
        choice.pacer.record(chosen[-1])
    assert sum(chosen) / len(chosen) == pytest.approx(0.0004, rel=0.02)
    with pytest.raises(BudgetError, match=r"the cheapest feasible budget is \$0.0009"):
        chooser.routed(board, "p2l", 0.0003, without={CHEAP, MIDDLE})


OTHER = "our-own-llm"  # which the P2L model does not know


def fallback(upstreams, cost=0.0005, **settings):
    extra = {"base_url": upstreams.url(OTHER), "cost": cost}
    llms = {OTHER: extra, **settings.pop("llms", {})}
    return config(upstreams, llms=llms, fallback=[OTHER], **settings)


def test_fallbacks_come_after_all_others(routing9, upstreams):
    upstreams.reset()
    first = ranking(routing9)[0]
    with serving(routing9, fallback(upstreams, attempts=5)) as running, httpx.Client() as client:

        def ask(**more):
            return client.post(f"{running.url}/chat/completions", json={"model": "p2l", "messages": HELLO, **more})

        assert ask().headers["x-p2l-model"] == first
        upstreams.seen.clear()
        upstreams.always.update({**dict.fromkeys(COSTS, "500"), first: "400"})
        reply = ask()
        assert (reply.headers["x-p2l-model"], reply.headers["x-p2l-probability"]) == (OTHER, "0")
        assert [seen.llm for seen in upstreams.seen] == [*ranking(routing9), OTHER]
        assert ask(cost=0.0004).status_code == 502  # a budget holds for it as well
        assert ask(cost=0.0006).headers["x-p2l-model"] == OTHER
        assert ask(model=first).status_code == 400  # it replaces no LLM that a client names


def test_a_fallback_answers_what_the_others_cannot(routing9, upstreams):
    upstreams.reset()
    for settings in ({}, {"mean_budget": 0.0004}):
        blind = {name: {"vision": False} for name in COSTS}
        with serving(routing9, fallback(upstreams, llms=blind, **settings)) as running, httpx.Client() as client:
            asked = {"model": "p2l", "messages": said(IMAGE)}
            reply = client.post(f"{running.url}/chat/completions", json=asked)
            assert (reply.status_code, reply.headers["x-p2l-model"]) == (200, OTHER)
            reply = client.post(f"{running.url}/chat/completions", json={**asked, "cost": 0.0001})
            assert (reply.status_code, reply.json()["error"]["code"]) == (400, "budget_error")


def test_what_is_known_of_llms_at_their_makers():
    def known(host, model, **settings):
        return completed(LLMConfig(name=model, base_url=f"https://{host}/v1", **settings))

    openai, anthropic = "api.openai.com", "api.anthropic.com"
    for model in ("o1", "o3-mini", "o4-mini", "gpt-5", "gpt-5-nano"):
        assert known(openai, model).max_tokens_field == "max_completion_tokens"
    assert known(openai, "gpt-4o-mini").max_tokens_field is None
    assert [known(openai, name).vision for name in ("gpt-3.5-turbo", "gpt-4", "gpt-4-turbo", "gpt-4o")] == [
        False, False, None, None
    ]  # fmt: skip
    assert [known(openai, name).audio for name in ("gpt-4o", "gpt-4o-audio-preview")] == [False, None]
    assert known(openai, "gpt-3.5-turbo", vision=True, context=99).vision is True  # the config decides
    assert known(openai, "gpt-3.5-turbo", context=99).context == 99
    assert known(openai, "gpt-4o-mini").context == 128_000  # of genai-prices
    assert known(anthropic, "claude-3-5-haiku-20241022").context == 200_000
    assert known(openai, "no-such-llm").context is None
    for elsewhere in ("127.0.0.1:8000", "vllm", "llm.example.com", "localhost", "[::1]:80"):
        found = known(elsewhere, "gpt-3.5-turbo")
        assert found == LLMConfig(name="gpt-3.5-turbo", base_url=f"https://{elsewhere}/v1")


def test_the_makers_facts_are_used(routing9, upstreams, monkeypatch):
    """Behind the maker's own address, as far as a test can go: it is not called."""
    upstreams.reset()
    llm = {"base_url": "https://api.openai.com/v1", "upstream_model": "gpt-3.5-turbo", "cost": 0.0001}
    with serving(routing9, GatewayConfig.from_dict({"models": {CHEAP: llm}})) as running:
        for asked in ({"messages": said(IMAGE)}, {"max_tokens": 20_000}):
            reply = httpx.post(f"{running.url}/chat/completions", json={"model": "p2l", "messages": HELLO, **asked})
            assert reply.status_code == 400
            assert f"{CHEAP} takes no" in reply.json()["error"]["message"]


def test_an_llm_that_turns_out_not_to_do_it_is_replaced(client, upstreams, routing9):
    """Nothing is known of it: it is tried, refuses, and the next one answers."""
    first, second, _ = ranking(routing9)
    upstreams.replies["blind"] = Reply({"error": "does not support images"}, 400)
    upstreams.always[first] = "blind"
    reply = client.chat.completions.with_raw_response.create(model="p2l", messages=said(IMAGE))
    assert reply.headers["x-p2l-model"] == second
