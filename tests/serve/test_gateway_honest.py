"""What today's clients send, and what costs no more than its tokens: all of it passes where a key's budget pays."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from billing_fixtures import ask
from gateway_llms import CHEAP, TEAM

from p2l_sdk.serve.gateway.charges import check_charges
from p2l_sdk.serve.gateway.request import BadRequest, ChatRequest

pytest_plugins = ["billing_fixtures", "gateway_fixtures"]
CITY = {"properties": {"city": {"title": "City", "type": "string"}}, "required": ["city"], "type": "object"}
TOOL = {"type": "function", "function": {"name": "City", "description": "", "parameters": CITY}}
STRICT = {"type": "function", "function": {"name": "City", "strict": True, "parameters": CITY}}
FUNCTION = {"name": "City", "arguments": '{"city": "Bern"}'}
CALL = {"id": "c1", "type": "function", "function": FUNCTION}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "1"}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "City", "strict": True, "schema": CITY}}
SHARED = {
    "$defs": {"Place": {**CITY, "additionalProperties": False}, "Tree": {"items": {"$ref": "#/$defs/Tree"}}},
    "properties": {name: {"$ref": "#/$defs/Place"} for name in "abc"} | {"tree": {"$ref": "#/$defs/Tree"}},
}
PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(90)).decode()
WAV = base64.b64encode(b"RIFF\x00\x00\x00\x00WAVEfmt " + bytes(3000)).decode()
TEXT = "data:text/plain;base64,SGVsbG8="
HI = {"role": "user", "content": "hi"}


def said(**message: Any) -> dict[str, Any]:
    """A conversation with an answer that is sent back."""
    return {"messages": [HI, {"role": "assistant", "content": "x", **message}, HI]}


def called(*results: dict[str, Any], **call: Any) -> dict[str, Any]:
    """A loop of tools."""
    message = {"role": "assistant", "content": None, "tool_calls": [{**CALL, **call}]}
    return {"messages": [HI, message, *(results or (RESULT,))], "tools": [TOOL]}


def parts(*content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, *content]}]}


def picture(url: str, **more: Any) -> dict[str, Any]:
    return parts({"type": "image_url", "image_url": {"url": url, **more}})


HONEST: dict[str, dict[str, Any]] = {
    "openai: parse": {"response_format": SCHEMA, "stream": False},
    "openai: loop": {**called(), "tools": [STRICT], "tool_choice": "auto", "parallel_tool_calls": True},
    "openai: an answer as it dumps it": said(
        refusal=None, annotations=[], audio=None, function_call=None, tool_calls=None
    ),
    "openai: developer": {"messages": [{"role": "developer", "content": "x", "name": "n"}, HI], "verbosity": "low"},
    "openai: cache": {"prompt_cache_key": "k", "prompt_cache_retention": "24h", "safety_identifier": "u"},
    "openai: options of the cache": {"prompt_cache_options": {"mode": "explicit", "ttl": "30m"}},
    "openai: the usual tier": {"service_tier": "auto"},
    "openai: the standard tier": {"service_tier": "default"},
    "openai: log-probabilities": {"logprobs": True, "top_logprobs": 2, "seed": 1, "n": 2, "user": "u"},
    "openai: functions": {
        "messages": [HI, {"role": "assistant", "content": None, "function_call": FUNCTION},
                     {"role": "function", "name": "City", "content": "1"}],
        "functions": [{"name": "City", "parameters": CITY}], "function_call": "auto",
    },
    "openai: citations": said(annotations=[{"type": "url_citation", "url_citation": {"url": "u", "start_index": 0}}]),
    "openai: no search, no copy": {"web_search_options": None, "store": False, "metadata": {"a": "b"}},
    "openai: a file of text": parts({"type": "file", "file": {"file_data": TEXT, "filename": "a.py"}}),
    "openai: custom tool": {"tools": [{"type": "custom", "custom": {"name": "c", "format": {"type": "text"}}}]},
    "langchain: stream": {"stream_options": {"include_usage": True}, "temperature": 0.0},
    "langchain: a function": {
        "parallel_tool_calls": False, "tool_choice": {"type": "function", "function": {"name": "City"}}, "tools": [TOOL]
    },
    "langchain: loop": called(),
    "langchain: pictures": {**picture(PNG), "reasoning_effort": "low", "stop": ["x"], "n": 1},
    "langchain: file": parts({"type": "file", "file": {"file_data": TEXT, "filename": "a.txt"}}),
    "litellm: loop": called({**RESULT, "name": "City"}),
    "litellm: an answer": said(reasoning_content="hm", annotations=[]),
    "litellm: its own fields": said(
        provider_specific_fields={"citations": None, "thinking_blocks": [{"type": "thinking", "thinking": "x"}]}
    ),
    "litellm: signatures": called(provider_specific_fields={"thought_signature": "abc"}),
    "litellm: thoughts": {
        **said(thinking_blocks=[{"type": "thinking", "thinking": "x", "signature": "y"}]),
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "reasoning_effort": "low",
    },
    "llama-index": {"temperature": 0.1, "stream": False},
    "llama-index: tools": {"tools": [STRICT], "tool_choice": "required", "parallel_tool_calls": False},
    "Vercel: object": {"response_format": {"type": "json_object"}, "max_tokens": 9, "top_p": 1, "presence_penalty": 0},
    "Vercel: parts": parts({"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": PNG}}),
    "Cursor: tools": {"tools": [TOOL, STRICT], "tool_choice": "auto", "stream_options": {"include_usage": True}},
    "Cline: cache": {"messages": [
        {"role": "system", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}, HI
    ]},
    "Cline: OpenRouter": {"include_reasoning": True, "transforms": [], "reasoning": {"effort": "high"}},
    "Continue": {"stop": ["<|im_end|>", "```"], "temperature": 0.2, "max_tokens": 9},
    "Anthropic: an error of a tool": called({**RESULT, "is_error": True}),
    "Anthropic: tools that are kept": {"tools": [{**TOOL, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
    "Anthropic: the standard tier": {"service_tier": "standard_only"},
    "Google: a signature": said(extra_content={"google": {"thought_signature": "abc"}}),
    "Google: a signature of a call": called(extra_content={"google": {"thought_signature": "abc"}}),
    "Mistral: sound": parts({"type": "input_audio", "input_audio": WAV}),
    "Mistral: thoughts": said(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
    "Mistral: seed": {"random_seed": 1, "safe_prompt": True, "prompt_mode": "reasoning"},
    "DeepSeek: prefix": {"messages": [HI, {"role": "assistant", "content": "x", "prefix": True}]},
    "OpenRouter: thoughts": said(
        reasoning="hm", reasoning_details=[{"type": "reasoning.encrypted", "data": "abc", "id": "r", "index": 0}]
    ),
    "OpenRouter: budget of thought": {"reasoning": {"max_tokens": 100, "exclude": False}, "usage": {"include": True}},
    "litellm: citations": said(provider_specific_fields={"citations": [[{"cited_text": "x", "document_index": 0}]]}),
    "Anthropic: thoughts": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    "Qwen: no thoughts": {"enable_thinking": False},
    "vLLM: no thoughts": {"chat_template_kwargs": {"enable_thinking": False}, "top_k": 20, "min_p": 0},
    "SGLang: how to think": {"chat_template_kwargs": {"thinking": True, "reasoning_effort": "high"}},
    "vLLM: a schema": {"guided_json": CITY, "repetition_penalty": 1.1},
    "pydantic: shared definitions": {"tools": [{"type": "function", "function": {"name": "f", "parameters": SHARED}}]},
    "pydantic: a schema of them": {"response_format": {"type": "json_schema", "json_schema": {"schema": SHARED}}},
    "a streamed call put together": called(index=0),
    "a result in parts": called({**RESULT, "content": [{"type": "text", "text": "x"}]}),
    "a picture elsewhere": picture("https://x.example/a.jpg?size=2", detail="low"),
    "a picture without an ending": picture("https://x.example/photos/123"),
    "a picture of the country of .md": picture("https://x.md/i/a.webp"),
    "a picture's format": picture(PNG, format="image/png"),
    "a sound": parts({"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}}),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_it_is_free_of_charges_beside_tokens_and_not_large(name):
    body = ask(**{"max_tokens": 5, **HONEST[name]})
    request = ChatRequest.parse(json.dumps(body).encode())
    check_charges(request, ())
    assert request.size.other < 5000
    assert request.size.most < 4000


def test_it_passes_where_a_budget_pays(gateway, llms):
    assert len(HONEST) > 50
    server, key = gateway(budget=1.0, **{CHEAP: {"prices": {"audio_input": 1.0, "image_tokens": 1600}}})
    with httpx.Client(base_url=server.url, headers=TEAM, timeout=30) as client:
        for fields in HONEST.values():
            reply = client.post("/chat/completions", json=ask(**{"model": CHEAP, "max_tokens": 5, **fields}))
            assert reply.status_code == 200, reply.text
            assert {name: llms.bodies[-1][name] for name in fields if name != "stream_options"} == {
                name: value for name, value in fields.items() if name != "stream_options"
            }
    assert 0.0 < key.spent < 0.01


@pytest.mark.parametrize(
    "fields",
    [{"service_tier": tier} for tier in ("priority", "flex", "scale", True, 1)]
    + [{"transforms": ["middle-out"]}, {"models": ["x"]}, {"reasoning": {"mode": "pro"}}, {"enable_thinking": True},
       {"reasoning": "high"}, {"prompt_cache_options": {"mode": "explicit", "breakpoints": [1]}},
       {"thinking": {"type": "enabled", "tools": [{"type": "web_search"}]}}, {"stream_options": {"plugins": ["web"]}},
       {"usage": {"include": True, "tiers": ["priority"]}},
       said(provider_specific_fields={"citations": [{"file": {"file_id": "f"}}]})],
    ids=str,
)  # fmt: skip
def test_what_may_raise_the_price_does_not_pass(fields):
    with pytest.raises(BadRequest, match=r"may (change which LLM answers or what it costs|be charged beside tokens)"):
        check_charges(ChatRequest.parse(json.dumps(ask(**fields)).encode()), ())
