"""What the messages of a request may hold where a key's budget pays, and how much an LLM reads of it at most."""

from __future__ import annotations

import json
import random
import unicodedata
from functools import partial
from typing import Any

import httpx
import pytest
from billing_fixtures import ask
from effort import effort
from gateway_llms import CHEAP, TEAM

from p2l_sdk.serve.gateway.longest import indentation, longest
from p2l_sdk.serve.gateway.request import BadRequest, ChatRequest
from p2l_sdk.serve.gateway.sse import Events

pytest_plugins = ["billing_fixtures", "gateway_fixtures"]
PICTURE = {"type": "image_url", "image_url": {"url": "https://x.example/i"}}
FILE = {"file_data": "data:text/plain,x", "file_id": "f"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, **more}]}


def sound(**data: Any) -> dict[str, Any]:
    return user([{"type": "input_audio", "input_audio": data}])


STRANGE: dict[str, tuple[dict[str, Any], str]] = {  # what is refused, and the name that the error says
    "names in another case": (user("x", Images=["u"]), "Images"),
    "a name in a letter that is an s to some": (user("x", **{"image\u017f": ["u"]}), "image\u017f"),
    "images beside the content": (user("x", image_urls=["u"]), "image_urls"),
    "parts of Google's": (user("x", parts=[{"file_data": {"file_uri": "u"}}]), "parts"),
    "a file beside the content": (user("x", file_id="f"), "file_id"),
    "a list in a list": (user([[PICTURE]]), "content"),
    "a part that is no list": (user(PICTURE), "content"),
    "a part in a part": (user([{"type": "text", "text": "x", "content": [PICTURE]}]), "content"),
    "a file in a part of text": (user([{"type": "text", "text": "x", "file_id": "f"}]), "file_id"),
    "a type that nobody knows": (user([{"type": "tool_result", "content": [PICTURE]}]), "tool_result"),
    "a type in another case": (user([{**PICTURE, "type": "Image_URL"}]), "Image_URL"),
    "two images in one part": (user([{**PICTURE, "image": "u"}]), "image"),
    "several files": (user([{"type": "file", "file": FILE, "files": ["f"]}]), "files"),
    "a sound elsewhere": (sound(url="u"), "url"),
    "a sound of which there is a copy": (sound(data="A" * 2000, file_id="f"), "file_id"),
    "an earlier answer in a list": ({"messages": [{"role": "assistant", "audio": [{"id": "a"}]}]}, "audio"),
    "an image that a tool gave": (user("x", tool_calls=[{**CALL, "output": [PICTURE]}]), "output"),
    "a mark of another case": (user([{"type": "text", "text": "x", "Cache_Control": {}}]), "Cache_Control"),
    "a mark in a tool": (
        {"tools": [{"type": "function", "function": {"name": "f", "Cache_Control": {}}}]},
        "Cache_Con",
    ),
    "a document that is an image": ({"documents": [{"type": "image", "url": "u"}]}, "type"),
    "an image among the metadata": ({"metadata": {"images": ["u"]}}, "images"),
    "a number for a template": ({"chat_template_kwargs": {"repeat": 9999}}, "chat_template_kwargs"),
    "an answer in a picture": ({"response_format": {"type": "image"}}, "response_format"),
}
USUAL: dict[str, dict[str, Any]] = {  # what clients of OpenAI's API send
    "texts": user([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}, {"type": "text"}]),
    "an image": user([{**PICTURE, "image_url": {"url": "https://x.example/i", "detail": "low"}}]),
    "a loop of tools": {
        "messages": [
            {"role": "developer", "content": "x", "name": "y"},
            {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None, "annotations": []},
            {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "1"}]},
            {"role": "assistant", "content": "x", "reasoning_content": "y", "function_call": None},
            {"role": "function", "name": "f", "content": "1"},
            {"role": "assistant", "tool_calls": [{"id": "d", "type": "custom", "custom": {"name": "g", "input": "x"}}]},
        ]
    },
    "what an LLM thought": user(
        "x",
        reasoning_details=[{"type": "reasoning.encrypted", "data": "A" * 99, "index": 0}],
        thinking_blocks=[{"type": "thinking", "thinking": "x", "signature": "y"}],
    ),
    "a citation": user(
        "x", annotations=[{"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 1}}]
    ),
    "a text in a file": user([{"type": "file", "file": {"file_data": "data:text/plain;base64,eHh4", "filename": "a"}}]),
    "documents": {"documents": ["x", {"title": "t", "text": "x"}], "metadata": {"a": "b"}},
    "a schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"Type": {}}}}},
    "a tool with any names": {
        "tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"Images": ["u"]}}}]
    },
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_not_in_the_table_is_refused_where_a_budget_pays(name, gateway, llms):
    fields, said = STRANGE[name]
    server, key = gateway()
    reply = httpx.post(f"{server.url}/chat/completions", json=ask(max_tokens=5, **fields), headers=TEAM)
    assert reply.status_code == 400
    assert said in reply.json()["error"]["message"]
    assert (key.spent, llms.bodies) == (0.0, [])


def test_what_clients_send_passes(gateway, llms):
    server, _ = gateway(budget=100.0)
    for fields in USUAL.values():
        reply = httpx.post(f"{server.url}/chat/completions", json=ask(model=CHEAP, **fields), headers=TEAM)
        assert reply.status_code == 200, reply.text
        assert {name: llms.bodies[-1][name] for name in fields} == fields


def test_what_the_config_allows_passes_and_counts_as_large(gateway):
    server, key = gateway(budget=1.0, allow=["tool_result", "image_urls"])
    for fields in (STRANGE["a type that nobody knows"][0], STRANGE["images beside the content"][0]):
        body = ask(model=CHEAP, max_tokens=5, **fields)
        assert httpx.post(f"{server.url}/chat/completions", json=body, headers=TEAM).status_code == 200
        assert ChatRequest.parse(json.dumps(body).encode()).size.other >= 100_000
    assert key.spent < 0.1


def test_a_name_that_an_object_has_twice_is_refused_at_any_depth():
    for text in (
        '{"role": "user", "content": [], "content": "x"}',
        '{"role": "user", "content": [{"type": "image_url", "type": "text", "text": "x"}]}',
        '{"role": "user", "content": [{"type": "text", "text": "x", "a": [{"b": {"c": 1, "\\u0063": 2}}]}]}',
    ):
        with pytest.raises(BadRequest, match=r"has the field '(content|type|c)' twice; leave one of them out"):
            ChatRequest.parse(f'{{"model": "p2l", "messages": [{text}]}}'.encode())


@pytest.mark.parametrize(
    ("data", "tokens"),
    [("A" * 6400, 200), ("data:;base64," + "A" * 6400, 200), ("A" * 999, 100_000), ("", 100_000),
     ("https://x.example/" + "a" * 2000, 100_000), ("data:," + "https://x.example/" + "a" * 900, 100_000 + 9 * 924)],
)  # fmt: skip
def test_a_sound_is_as_large_as_its_data_only_if_that_can_be_one(data, tokens):
    size = ChatRequest.parse(json.dumps(ask(**sound(data=data, format="wav"))).encode()).size
    assert (size.other, size.audio, size.sounds) == (tokens, min(tokens, 100_000), 1)


def test_no_normal_form_of_a_text_is_longer_than_what_is_set_aside():
    rng = random.Random(0)
    marks = [chr(code) for code in range(0x300, 0x3200) if unicodedata.combining(chr(code))]
    pools = ["\ufdfa\U0001d160\ufb2c\u0344\u2adc", "\u00e9\u1ead\u01ed\u1ea5\u1f82", marks, "한글中文ａ①", "abc \n"]
    for _ in range(2000):
        text = "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randrange(1, 12)))
        most = max(len(unicodedata.normalize(form, text).encode()) for form in ("NFC", "NFKC"))
        assert most <= longest(text)
        assert most <= longest(json.dumps(text))
    for text in ("plain", "한글中文", "naïve café"):
        assert longest(text) == len(text.encode())
    for code in range(0x80, 0x30000):
        if unicodedata.decomposition(text := chr(code)):
            assert len(unicodedata.normalize("NFKC", text).encode()) <= longest(text)


@pytest.mark.parametrize(("depth", "n"), [(1, 300), (30, 300), (200, 50)])
def test_tools_on_many_lines_are_no_more_than_what_is_set_aside(depth, n):
    value = json.loads("[" * depth + "1" + ",1" * n + "]" * depth)
    text = json.dumps(tool := {"name": "f", "parameters": {"enum": value}}, separators=(",", ":"))
    lines = json.dumps(tool, indent=4).splitlines()
    tokens = sum(len(line.lstrip()) + 1 + (len(line) - len(line.lstrip())) / 16 for line in lines)
    assert tokens <= len(text) + indentation(text, tool)


def test_a_large_body_is_measured_in_the_time_that_reading_it_takes():
    def measured(body: bytes) -> int:
        return ChatRequest.parse(body).size.most

    for text in (r"\u0041" * 700_000, "é" * 2_000_000, "x" * 4_000_000):
        body = f'{{"model": "p2l", "messages": [{{"role": "user", "content": "{text}"}}]}}'.encode()
        assert measured(body) >= len(body) - 100
        assert effort(partial(measured, body), partial(json.loads, body)) < 25


def test_a_spent_key_learns_so_before_its_large_body_is_read(gateway, monkeypatch):
    server, key = gateway(budget=0.0)
    monkeypatch.setattr(ChatRequest, "parse", None)
    body = ask(max_tokens=5, **user("x" * 300_000))
    reply = httpx.post(f"{server.url}/chat/completions", json=body, headers=TEAM)
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "insufficient_quota")
    assert key.spent == 0.0


def fed(*events: dict[str, Any], choices: int = 1) -> Events:
    found = Events(choices)
    for event in events:
        found.feed(f"data: {json.dumps(event)}\n\n".encode())
    return found


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "four"}, {"content": [{"type": "text", "text": "four"}]}, {"thinking": "four"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "four"}]}, {"anything": {"else": ["fo", "ur"]}},
        {"tool_calls": [{"index": 0, "id": "c", "type": "custom", "custom": {"input": "four"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "four"}}]},
    ],
    ids=str,
)  # fmt: skip
def test_all_texts_of_a_choice_count_whatever_their_names(delta):
    found = fed(
        {"choices": [{"index": 0, "delta": {"role": "assistant", **delta}, "logprobs": {"content": ["x" * 99]}}]}
    )
    assert (found.text_bytes, found.pieces) == (4, 1)
    assert fed({"choices": [{"index": 0, "delta": {"content": ""}}]}).pieces == 0


def test_a_count_is_final_if_it_comes_last():
    text, end = {"index": 0, "delta": {"content": "x"}}, {"index": 0, "delta": {}, "finish_reason": "stop"}
    blank, filtered = {"index": 0, "delta": {"content": ""}}, {"index": 0, "content_filter_offsets": {"end": 9}}
    usage = {"usage": {"prompt_tokens": 9, "completion_tokens": 1}}
    nothing = {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}}}
    for events, final in (
        ([{"choices": [text], **usage}, {"choices": [end]}], False),
        ([{"choices": [], **usage}, {"choices": [text]}, {"choices": [end]}], False),
        ([{"choices": [text]}, {"choices": [end], **usage}], True),
        ([{"choices": [text]}, {"choices": [], **usage}, {"choices": [end]}], False),
        ([{"choices": [text]}, {"choices": [], **usage}, {"choices": [blank]}, "[DONE]"], False),
        ([{"choices": [text]}, {"choices": [], **usage}, {"choices": [blank], **nothing}, "[DONE]"], False),
        ([{"choices": [text]}, {"choices": [], **usage}, {"choices": [blank], **usage}, "[DONE]"], True),
        ([{"choices": [text]}, {"choices": [], **usage}, "[DONE]"], True),
        ([{"choices": [text]}, {"choices": [end]}, {"choices": [], **usage}, {"choices": [blank]}], False),
        ([{"choices": [text]}, {"choices": [end]}, {"choices": [], **usage}, {"choices": [filtered]}], True),
        ([{"choices": [text]}, {"choices": [end]}, {"choices": [], **usage}, {"choices": [], **nothing}], True),
        ([{"choices": [text]}, {"choices": [end]}, {"choices": [], **usage}], True),
        ([{"choices": [text], **usage}, {"choices": [text], **usage}, {"choices": [end], **usage}], True),
    ):
        assert fed(*events).final is final


def test_counts_of_single_choices_add_up_unless_there_is_one_of_all():
    def part(i: int, tokens: int) -> dict[str, Any]:
        usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens, **cached}
        return {"choices": [{"index": i, "delta": {}, "finish_reason": "stop"}], "usage": usage}

    cached = {"prompt_tokens_details": {"cached_tokens": 4}}
    summed = fed(part(0, 3), part(0, 5), part(1, 7), choices=2).count
    both = {"prompt_tokens_details": {"cached_tokens": 8}}
    assert summed == {"prompt_tokens": 18, "completion_tokens": 12, "total_tokens": 30, **both}
    of_all = {"prompt_tokens": 9, "completion_tokens": 11, "total_tokens": 20, **cached}
    assert fed(part(0, 3), part(1, 7), {"choices": [], "usage": of_all}, choices=2).count == of_all
    assert fed(part(0, 3)).count == part(0, 3)["usage"]
