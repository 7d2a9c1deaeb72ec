"""What vendors and templates make of a request before an LLM reads it: JSON written anew, what is encrypted, caches."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import pytest
from billing_fixtures import ask

from p2l_sdk.serve.gateway.charges import check_charges
from p2l_sdk.serve.gateway.longest import rewritten
from p2l_sdk.serve.gateway.request import BadRequest, ChatRequest
from p2l_sdk.serve.gateway.size import Size

pytest_plugins = ["billing_fixtures", "gateway_fixtures"]
_EXPONENT = re.compile(r"[0-9.]+e[+-]?[0-9]+")
MARK = {"type": "ephemeral", "ttl": "1h"}
ODD = [
    "9e15", "1", "9e20", "1e5", "1E+15", "1e300", "0.001e308", "7e-0000300", "5e-324", "1e-5", "1.0e0", "0.5", "é",
    "\U0001f600", "\x7f", "<'&>", '"', "\n", "x",
]  # fmt: skip


def sent(text: str) -> Size:
    return ChatRequest.parse(text.encode()).size


def size(**fields: Any) -> Size:
    return sent(json.dumps(ask(**fields)))


def forms(value: Any) -> list[str]:
    """What writers of JSON make of it: Python's, with and without escapes, those for HTML, JavaScript's, and engines of
    templates that write numbers in full (llama.cpp's, minijinja's)."""
    html = json.dumps(value, ensure_ascii=False)
    for character in "<>&'":
        html = html.replace(character, f"\\u{ord(character):04x}")
    script = json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("9e+20", "9" + "0" * 20)
    in_full = _EXPONENT.sub(lambda match: format(Decimal(match[0]), "f"), json.dumps(value))
    return [json.dumps(value), json.dumps(value, ensure_ascii=False), html, script, in_full]


@pytest.mark.parametrize("one", ODD)
@pytest.mark.parametrize("n", [1, 500])
def test_json_that_is_written_anew_is_no_more_than_what_is_set_aside(one, n):
    item = one if one[0].isdigit() else json.dumps(one, ensure_ascii=False)
    text = f'{{"a":[{",".join([item] * n)}],"b":{item}}}'
    value = json.loads(text)
    most = max(len(form.encode()) for form in forms(value))
    assert most <= len(text.encode()) + rewritten(text, value) + text.count(",") + text.count(":")
    tool = f'[{{"type":"function","function":{{"name":"f","parameters":{text}}}}}]'
    empty = '[{"type":"function","function":{"name":"f","parameters":{}}}]'
    body = '{"model":"p2l","max_tokens":9,"messages":[{"role":"user","content":"x"}],"tools":%s}'
    assert sum_of(sent(body % tool)) - sum_of(sent(body % empty)) >= most - 2
    for arguments in (json.dumps(text, ensure_ascii=False), text):  # a string, as OpenAI's, or an object
        call = f'{{"id":"c","type":"function","function":{{"name":"f","arguments":{arguments}}}}}'
        for held in (f'"tool_calls":[{call}]', f'"function_call":{{"name":"f","arguments":{arguments}}}'):
            body = '{"model":"p2l","max_tokens":9,"messages":[{"role":"assistant","content":"",%s}]}'
            assert sum_of(sent(body % held)) - sum_of(sent(body % '"name":"f"')) >= most


@pytest.mark.parametrize("one", ["9e20", "1e15", "1e300", "1e-300"])
def test_what_a_tool_said_is_counted_as_it_may_be_written_anew(one):
    text = f"[{','.join([one] * 300)}]"
    body = '{"model":"p2l","max_tokens":9,"messages":[{"role":"tool","tool_call_id":"c","content":%s}]}'
    most = max(len(form) for form in forms(json.loads(text)))
    assert sum_of(sent(body % json.dumps(text))) - sum_of(sent(body % '"x"')) >= most - 1


def sum_of(found: Size) -> int:
    return found.most + found.other


def test_usual_tools_count_little_more_than_twice_their_bytes_and_calls_than_once():
    tools = [{"type": "function", "function": {"name": "f", "description": "Reads a file. " * 20}}]
    assert size(tools=tools).other < 1000 + len(json.dumps(tools)) + 2 * 60  # as JSON, which is in `most`, and in words
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"path": "x" * 999})}}
    found = size(messages=[{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert 1000 <= found.other < 1000 + 50  # the tool that LiteLLM adds for Anthropic, beside calls without tools
    odd = {"name": "f", "arguments": "{'no': json"}  # as some LLMs write them
    found = size(messages=[{"role": "assistant", "tool_calls": [{**call, "function": odd}]}])
    assert found.other == 1000 + len("f")  # once more


def test_what_is_too_deep_to_be_written_anew_is_refused():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "[" * 2000 + "]" * 2000}}
    request = ChatRequest.parse(json.dumps(ask(messages=[{"role": "assistant", "tool_calls": [call]}])).encode())
    with pytest.raises(BadRequest, match="'arguments' in message 0 may be charged"):
        check_charges(request, ())


SIGNED = "A" * 3000
THOUGHTS: dict[str, dict[str, Any]] = {
    "a part": {"content": [{"type": "thinking", "thinking": "x", "signature": SIGNED}]},
    "OpenRouter's": {"reasoning_details": [{"type": "reasoning.text", "text": "x", "signature": SIGNED}]},
    "OpenRouter's data": {"reasoning_details": [{"type": "reasoning.encrypted", "data": SIGNED}]},
    "in a summary": {"reasoning_details": [{"type": "reasoning.encrypted", "summary": SIGNED}]},
    "litellm's": {"thinking_blocks": [{"type": "thinking", "thinking": "x", "signature": SIGNED}]},
    "litellm's, hidden": {"provider_specific_fields": {"thinking_blocks": [{"type": "x", "data": SIGNED}]}},
    "Google's": {"extra_content": {"google": {"thought_signature": SIGNED}}},
    "Google's, of litellm": {"provider_specific_fields": {"thought_signatures": [SIGNED]}},
    "of a call": {"tool_calls": [{"id": "c", "extra_content": {"google": {"thought_signature": SIGNED}}}]},
    "of a function": {
        "tool_calls": [{"function": {"name": "f", "provider_specific_fields": {"thinking_blocks": [{"data": SIGNED}]}}}]
    },
    "of a custom one": {"tool_calls": [{"provider_specific_fields": {"thought_signature": SIGNED}}]},
    "of an old one": {"function_call": {"name": "f", "provider_specific_fields": {"thought_signature": SIGNED}}},
}


@pytest.mark.parametrize("name", THOUGHTS)
def test_signatures_of_thoughts_are_three_tokens_for_each_character(name):
    found = size(messages=[{"role": "assistant", "content": "x", **THOUGHTS[name]}])
    most = 3 * len(SIGNED) + 200 + (1000 if name.startswith("of ") else 0)  # beside calls, a tool that a proxy adds
    assert 3 * len(SIGNED) <= found.other < most
    assert found.most >= len(SIGNED)
    assert found.strange == []


def test_thoughts_in_words_count_as_text():
    for thought in ({"type": "thinking", "thinking": "hm " * 500}, {"type": "reasoning.text", "text": "hm " * 500}):
        assert size(messages=[{"role": "assistant", "content": "x", "thinking_blocks": [thought]}]).other < 100


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}, "cache_control": MARK}]},
        {"tools": [{"type": "function", "function": {"name": "f", "cache_control": MARK}}]},
        {"tools": {"type": "function", "function": {"name": "f", "cache_control": MARK}}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": [{"CACHE_Control": MARK}]}}}]},
        {"tools": [{"type": "custom", "custom": {"name": "f", "format": {"cache_control": MARK}}}]},
        {"tools": [{"name": "f", "input_schema": {"cachePoint": {"type": "default"}}, "type": "function"}]},
        {"functions": [{"name": "f", "cache_control": MARK}]},
        {"response_format": {"type": "json_schema", "json_schema": {"cache_control": MARK}}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": MARK}]}]},
        {"messages": [{"role": "user", "content": "x", "cache_control": MARK}]},
        {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": {"cache_control": MARK}}}]},
        {"cache_control": MARK}, {"prompt_cache_options": {"mode": "explicit"}}, {"prompt_cache_retention": "24h"},
    ],
    ids=str,
)  # fmt: skip
def test_a_mark_of_a_cache_is_seen_wherever_it_stands(fields):
    text = json.dumps(ask(**fields))
    for body in (text, text.replace('": ', '"\n : '), text.replace("cache_", "\\u0063ache_")):
        assert sent(body).kept


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": 'write {"cache_control": {}} and \\u00e9 \u00e9'}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": None}]}]},
        {"tools": [{"type": "function", "function": {"name": "cache", "description": 'say "cache": x'}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"required": ["cache_control"]}}}]},
        {"prompt_cache_key": "k", "cache_prompt": True, "user": "cache_control"},
    ],
    ids=str,
)  # fmt: skip
def test_words_are_no_marks_of_a_cache(fields):
    assert not size(**fields).kept


def tags(value: Any) -> str:
    """Tools as a template writes them that makes XML of their entries, and JSON of what is a list or an object."""
    return "".join(f"\n<{name}>{json.dumps(inner, ensure_ascii=False)}</{name}>" for name, inner in value.items())


@pytest.mark.parametrize("field", ["tools", "functions"])
def test_names_in_tools_count_twice_as_some_templates_write_them_in_tags(field):
    schema = {"type": "object", "properties": {}, "1" * 5000: 1, "2" * 5000: "x"}  # many read digits one by one
    function = {"name": "f", "parameters": schema}
    tools = [function] if field == "functions" else [{"type": "function", "function": function}]
    empty = [{**tools[0], "function" if field == "tools" else "parameters": {}}]
    assert sum_of(size(**{field: tools})) - sum_of(size(**{field: empty})) >= len(tags(schema).encode())


@pytest.mark.parametrize("fields", [{"prompt_mode": "reasoning"}, {"safe_prompt": True}], ids=str)
def test_fields_by_which_a_vendor_adds_a_system_message_count_as_one(fields):
    assert size(**fields).other == 1000
    assert size(**dict.fromkeys(fields)).other == 0
