"""Where a key's budget pays, every field has a known shape, and what vendors write anew counts as what it becomes."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from billing_fixtures import ask
from gateway_llms import CHEAP, TEAM

from p2l_sdk.serve.gateway.charges import check_charges
from p2l_sdk.serve.gateway.references import written_out
from p2l_sdk.serve.gateway.request import BadRequest, ChatRequest
from p2l_sdk.serve.gateway.size import Size

pytest_plugins = ["billing_fixtures", "gateway_fixtures"]
SCHEMA = {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"type": "string"}}}


def parsed(**fields: Any) -> ChatRequest:
    return ChatRequest.parse(json.dumps(ask(**fields), ensure_ascii=False).encode())


def called(arguments: str) -> Size:
    """The size of a conversation with one call of a tool."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    result = {"role": "tool", "tool_call_id": "a", "content": "x"}
    return parsed(messages=[{"role": "assistant", "content": "", "tool_calls": [call]}, result]).size


ODD: dict[str, tuple[dict[str, Any], str]] = {  # fields, and the name that the error says
    "texts to stop at by name": ({"stop": {"a": ["x"]}}, "stop"),
    "a user of images": ({"user": {"images": ["u"]}}, "user"),
    "a search that is chosen": ({"tool_choice": {"type": "mcp", "server_label": "x"}}, "server_label"),
    "a function with more than a name": ({"function_call": {"name": "f", "files": ["u"]}}, "files"),
    "a voice elsewhere": ({"audio": {"voice": "x", "format": "wav", "url": "u"}}, "url"),
    "a search in a format": ({"response_format": {"type": "json_object", "plugins": ["web"]}}, "plugins"),
    "a format that is a word": ({"response_format": "json_object"}, "response_format"),
    "a schema that is a text": ({"response_format": {"type": "json_object", "schema": "{}"}}, "schema"),
    "a number that is a list": ({"seed": ["x"]}, "seed"),
    "a number that is an object": ({"temperature": {"a": 1}}, "temperature"),
    "a structure of another kind": ({"structured_outputs": {"json": {}, "image": 1}}, "image"),
    "choices that are lists": ({"guided_choice": [["x"]]}, "guided_choice"),
    "lists in the settings of safety": ({"safety_settings": [{"category": ["x"]}]}, "category"),
    "a session of names": ({"session_id": {"x": 1}}, "session_id"),
    "an effort of names": ({"reasoning_effort": {"tools": ["x"]}}, "reasoning_effort"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_a_field_of_another_shape_than_usual_is_refused_by_its_name(name):
    fields, said = ODD[name]
    request = parsed(**fields)
    with pytest.raises(BadRequest, match="may be charged beside tokens, and this key has a budget") as refused:
        check_charges(request, ())
    assert said in str(refused.value)
    assert refused.value.param == next(iter(fields))
    check_charges(request, (next(iter(fields)),))


@pytest.mark.parametrize("role", ["cache", "ipython", "TOOL", "Function", "tool ", "critic", ""])
def test_a_role_that_is_not_usual_is_refused_and_allowed_as_the_result_of_a_tool(role):
    """Moonshot keeps what `cache` names for as long as it says, by the minute; Llama's templates write results of tools
    for `ipython`, and Cohere's for any case of `tool`, with escapes."""
    message = {"role": role, "content": "<" * 1000}
    request = parsed(messages=[{"role": "user", "content": "a"}, message])
    with pytest.raises(BadRequest, match="may be charged beside tokens, and this key has a budget") as refused:
        check_charges(request, ())
    assert f"{role!r} in message 1" in str(refused.value)
    check_charges(request, (role,))
    result = parsed(messages=[{"role": "user", "content": "a"}, {**message, "role": "tool"}]).size
    assert request.size.other == result.other + 100_000


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool", "function"])
def test_usual_roles_pass(role):
    check_charges(parsed(messages=[{"role": role, "content": "x"}]), ())


def kept(**more: Any) -> dict[str, Any]:
    return {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", **more}}


@pytest.mark.parametrize("ttl", ["2592000s", "3600s", "1H", "", 3600, ["1h"], {"seconds": 3600}], ids=str)
def test_nothing_is_kept_for_longer_than_an_hour(ttl):
    """litellm makes a cache of what is marked for Google's LLMs, which is paid by the hour."""
    message, mark = {"role": "user", "content": "x"}, {"type": "ephemeral", "ttl": ttl}
    function = {"name": "f", "cache_control": mark}
    for fields in (
        {"messages": [{**message, "content": [kept(ttl=ttl)]}]}, {"messages": [{**message, "cache_control": mark}]},
        {"tools": [{"type": "function", "function": function}]}, {"functions": [function]},
        {"tools": [{"type": "function", "function": {"name": "f"}, "cache_control": mark}]},
        {"prompt_cache_options": {"ttl": ttl}},
    ):  # fmt: skip
        with pytest.raises(BadRequest, match="'ttl'"):
            check_charges(parsed(**fields), ())
        check_charges(parsed(**fields), ("ttl",))
    for name in ("scope", "seconds"):
        with pytest.raises(BadRequest, match=f"'{name}'"):
            check_charges(parsed(messages=[{**message, "content": [kept(**{name: "x"})]}]), ())
    for usual in ({}, {"ttl": "5m"}, {"ttl": "1h"}, {"ttl": None}):
        check_charges(parsed(messages=[{**message, "content": [kept(**usual)]}]), ())


USUAL: list[dict[str, Any]] = [
    {"tool_choice": {"type": "function", "function": {"name": "f"}}},
    {"tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True}},
    {"tool_choice": {"type": "allowed_tools", "allowed_tools": {
        "mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}}},
    {"function_call": {"name": "f"}}, {"stop": ["x", "y"]}, {"stop": None}, {"logit_bias": {"50256": -100}},
    {"response_format": {"type": "json_schema", "json_schema": {
        "name": "x", "description": "x", "strict": True, "schema": SCHEMA}}},
    {"response_format": {"type": "json_object", "schema": SCHEMA}},
    {"response_format": {"type": "json", "value": SCHEMA}},
    {"response_format": {"type": "regex", "pattern": "a+"}}, {"response_format": {"type": "grammar", "grammar": "x"}},
    {"response_format": {"type": "structural_tag", "triggers": ["<f"], "structures": [
        {"begin": "<f>", "schema": SCHEMA, "end": "</f>"}]}},
    {"structured_outputs": {"json": SCHEMA}}, {"structured_outputs": {"choice": ["a", "b"]}}, {"guided_choice": ["a"]},
    {"guided_json": json.dumps(SCHEMA)}, {"format": "json"}, {"format": SCHEMA},
    {"stop_token_ids": [1], "bad_words": ["x"]},
    {"chat_template_kwargs": {"enable_thinking": False}}, {"safety_settings": [{"category": "x", "threshold": "y"}]},
    {"keep_alive": "5m", "think": False, "priority": 0, "logprobs": True, "reasoning_effort": "xhigh"},
]  # fmt: skip


def test_the_shapes_that_clients_send_pass(gateway, llms):
    server, _ = gateway(budget=10.0)
    with httpx.Client(base_url=server.url, headers=TEAM, timeout=30) as client:
        for fields in USUAL:
            reply = client.post("/chat/completions", json=ask(model=CHEAP, max_tokens=5, **fields))
            assert reply.status_code == 200, reply.text
            assert {name: llms.bodies[-1][name] for name in fields} == fields


@pytest.mark.parametrize(
    ("arguments", "becomes"),
    [
        ('{"a":[' + ",".join("1" * 3000) + "]}", '{"a": [' + ", ".join(["1.0"] * 3000) + "]}"),
        ('{"a":"' + "/" * 3000 + '"}', '{"a":"' + "\\/" * 3000 + '"}'),
        ('{"a":"' + "<" * 3000 + '"}', '{"a":"' + "\\u003c" * 3000 + '"}'),
        ('{"a":[' + ",".join(["9e15"] * 3000) + "]}", '{"a": [' + ", ".join(["9000000000000000.0"] * 3000) + "]}"),
        ('{"a":[' + ",".join(["1e-4"] * 3000) + "]}", '{"a": [' + ", ".join(["0.0001"] * 3000) + "]}"),
    ],
    ids=["1 as 1.0", "a slash", "a bracket of HTML", "9e15", "1e-4"],
)
def test_arguments_count_as_large_as_vendors_write_them(arguments, becomes):
    size = called(arguments)
    assert len(becomes) <= size.most + size.other <= 3 * len(becomes)


def test_a_result_of_a_tool_counts_as_a_string_in_json_that_html_may_hold():
    page = '<p class="x">&</p>' * 100
    found = parsed(messages=[{"role": "tool", "tool_call_id": "a", "content": page}]).size
    escaped = json.dumps(page).translate({ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&'"})
    assert len(escaped) <= found.most + found.other
    assert parsed(messages=[{"role": "user", "content": page}]).size.other == 0


def test_references_count_as_what_is_written_in_their_place():
    for schema, tokens in (
        ({"$defs": {"a": {"description": "<" * 500}}, "p": {"$ref": "#/$defs/a"}}, 3000),
        ({"$defs": {"a": {"description": "é" * 500}}, "p": {"$ref": "#/$defs/a"}}, 3000),
        ({"$defs": {"a~1b": {"description": "d" * 500}, "a/b": {}}, "p": {"$ref": "#/$defs/a~1b"}}, 500),
        ({"components": {"schemas": {"a": {"description": "d" * 500}}}, "p": {"$ref": "#/$defs/a"}}, 500),
        ({"defs": {"a": {"description": "d" * 500}}, "p": {"ref": "#/defs/a"}}, 500),
    ):
        assert tokens < written_out(json.dumps(schema), schema) < 2 * tokens
