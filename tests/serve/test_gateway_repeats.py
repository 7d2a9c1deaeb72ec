"""What templates of chats write more than once, as those of real LLMs do, is set aside as often.

Each template here does what one of a vendor's does, in few words; a byte is a token, as it may be.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from p2l_sdk.serve.gateway.llm import AddressConfig, LLMConfig
from p2l_sdk.serve.gateway.prices import Prices
from p2l_sdk.serve.gateway.quote import tokens_read
from p2l_sdk.serve.gateway.request import ChatRequest

LLM = LLMConfig(name="x", base_url="http://x", prices=Prices(input=10, output=20))
LONG = "\U000f0000" * 300
MARKS = "~^" * 4000
USER, SYSTEM = {"role": "user", "content": "a"}, {"role": "system", "content": "a"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "a"}]}  # the same to vLLM
Body = dict[str, Any]


def call(name: str, arguments: str = "{}") -> Body:
    held = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "type": "function", "function": held}]}


def result(**more: Any) -> Body:
    return {"role": "tool", "tool_call_id": "c", "content": "a", **more}


def tool(**schema: Any) -> Body:
    return {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": schema}}}


def calls_of(body: Body) -> list[Body]:
    return [one for message in body["messages"] for one in message.get("tool_calls", ())]


def results_of(body: Body) -> list[Body]:
    return [message for message in body["messages"] if message["role"] == "tool"]


def names_of_the_last_call(body: Body) -> str:  # gpt-oss
    last = calls_of(body)[-1]["function"]["name"]
    return "".join(f"functions.{last}{one['content']}" for one in results_of(body))


def names_twice(body: Body) -> str:
    last = calls_of(body)[-1]["function"]["name"]
    return "".join(f"tool {one.get('name', last)} name={one.get('name', last)}" for one in results_of(body))


def names_of_all_calls_with_the_id(body: Body) -> str:  # Solar
    ids = [one["tool_call_id"] for one in results_of(body)]
    return "".join(one["function"]["name"] for identity in ids for one in calls_of(body) if one["id"] == identity)


def names_at_both_ends(body: Body) -> str:
    names = [one["function"]["name"] for one in calls_of(body)]
    return "".join(f"<{name}></{name}>" for name in names)


def tools_at_the_last_user(body: Body) -> str:  # Mistral, which looks for the message by what it is
    users = [message for message in body["messages"] if message["role"] == "user"]
    texts = ["".join(part["text"] for part in one["content"]) if one is PARTS else one["content"] for one in users]
    return "".join(text + json.dumps(body["tools"]) * (text == texts[-1]) for text in texts)


def tools_at_each_system_message(body: Body) -> str:  # Apriel
    return ("x" * 280 + json.dumps(body["tools"])) * body["messages"].count(SYSTEM)


def schema_as_typescript(body: Body) -> str:  # gpt-oss; a text has letters where a list has entries
    properties = body["tools"][0]["function"]["parameters"]["properties"]
    return "".join('"' + '" | "'.join(one.get("enum", one.get("required", ()))) + '"' for one in properties.values())


def properties_of(body: Body) -> Body:
    return body["tools"][0]["function"]["parameters"]["properties"]


def tools_as_python(body: Body) -> str:  # MiniCPM3, whose `class`, `Optional[`, ... are a token or two
    found = "|f("
    for name, one in properties_of(body).items():
        default = json.dumps(one.get("default"), ensure_ascii=False)
        options = "".join(f"|enum|{i}={option}|" for i, option in enumerate(one.get("enum", ())))
        found += f"||{name}|{options}||{name}=||{name}|=||{default}|{one.get('description', '')}| {name}={default}"
    return found


def tools_as_text_and_as_json(body: Body) -> str:  # vLLM's for Hermes, Granite's
    texts = "".join(f"|{name}:|,|{name}(|):{one.get('description', '')}" for name, one in properties_of(body).items())
    return f"|f({texts}|{json.dumps(body['tools'], ensure_ascii=False)}"


def arguments_as_xml(body: Body) -> str:  # MiniMax, whose marks are of a token or two
    def written(value: Any) -> Iterator[str]:
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            name = name if isinstance(value, dict) else "item"
            yield f"|<{name}>"
            yield from written(inner) if isinstance(inner, dict | list) else [str(inner)]
            yield f"|</{name}>"

    return "".join("".join(written(json.loads(one["function"]["arguments"]))) for one in calls_of(body))


def on_lines(text: str) -> str:
    """JSON with a line for each entry; sixteen spaces are a token."""
    lines = json.dumps(json.loads(text), indent=4).splitlines()
    return "".join("\n" + "_" * -(-(len(line) - len(line.lstrip())) // 16) + line.lstrip() for line in lines)


def arguments_on_lines(body: Body) -> str:
    return "".join(on_lines(one["function"]["arguments"]) for one in calls_of(body))


def results_on_lines(body: Body) -> str:
    return "".join(on_lines(one["content"]) for one in results_of(body))


NESTED = "[" * 40 + "[],1," * 400 + "1" + "]" * 40
CASES: dict[str, tuple[Callable[[Body], str], Body]] = {
    "a long name and many results": (
        names_of_the_last_call,
        {"messages": [USER, call(LONG), *[result()] * 100]},
    ),
    "a name twice": (names_twice, {"messages": [USER, call(LONG), *[result()] * 100]}),
    "a name of the result's own": (names_twice, {"messages": [USER, call("f"), *[result(name=LONG)] * 5]}),
    "calls of one id": (
        names_of_all_calls_with_the_id,
        {"messages": [USER, *[call(LONG), result()] * 20]},
    ),
    "names at both ends": (names_at_both_ends, {"messages": [USER, *[call(LONG)] * 20]}),
    "users who repeat themselves": (
        tools_at_the_last_user,
        {"messages": [USER, PARTS] * 20, "tools": [tool(p={"description": LONG})]},
    ),
    "many system messages": (
        tools_at_each_system_message,
        {"messages": [*[SYSTEM] * 20, USER], "tools": [tool(p={"description": LONG})]},
    ),
    "a text for a list": (schema_as_typescript, {"messages": [USER], "tools": [tool(p={"enum": "~" * 3000})]}),
    "another one": (schema_as_typescript, {"messages": [USER], "tools": [tool(p={"required": "~" * 3000})]}),
    **{
        f"{what} that {how}": (template, {"messages": [USER], "tools": [tool(**schema)]})
        for template, how in ((tools_as_python, "stand in Python"), (tools_as_text_and_as_json, "stand in text too"))
        for what, schema in {
            "names": {MARKS: {"type": "string"}}, "defaults": {"p": {"default": MARKS}},
            "descriptions": {"p": {"description": MARKS}}, "small properties": {f"p{i}": {} for i in range(900)},
            "options": {"p": {"enum": [f"{i % 10}" for i in range(9000)]}},
        }.items()
    },
    "arguments in XML": (
        arguments_as_xml,
        {"messages": [USER, call("f", json.dumps({"a": [[]] * 900, "b": [{LONG: 1}] * 9}, ensure_ascii=False))]},
    ),
    "arguments on many lines": (arguments_on_lines, {"messages": [USER, call("f", NESTED), result()]}),
    "results on many lines": (results_on_lines, {"messages": [USER, call("f"), result(content=NESTED)]}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_a_template_repeats_is_set_aside_as_often(name):
    template, fields = CASES[name]
    request = ChatRequest.parse(json.dumps({"model": "x", **fields}, ensure_ascii=False).encode())
    assert tokens_read(request, LLM)[1] >= len(template(fields).encode())


@pytest.mark.parametrize("name", ["users who repeat themselves", "many system messages"])
def test_at_a_maker_who_gives_no_template_away_tools_count_once(name):
    _, fields = CASES[name]
    request = ChatRequest.parse(json.dumps({"model": "x", **fields}).encode())
    openai = dataclasses.replace(LLM, base_url="https://api.openai.com/v1")
    assert tokens_read(request, LLM)[1] - tokens_read(request, openai)[1] == request.size.again > 10_000
    both = dataclasses.replace(openai, addresses=[AddressConfig(), AddressConfig(base_url="http://127.0.0.1:1/v1")])
    assert tokens_read(request, both) == tokens_read(request, LLM)


def test_a_usual_loop_of_tools_counts_its_names_and_little_more():
    def size(*messages: Body) -> int:
        body = {"model": "x", "messages": messages, "tools": [tool(p={"type": "string"})]}
        return ChatRequest.parse(json.dumps(body).encode()).size.other

    loop = [call("search"), result()] * 10
    assert size(SYSTEM, USER, *loop) - size(SYSTEM, USER) == 10 * (6 + 4 + 1 + 2 * 60)  # one id for all of them
    assert size(SYSTEM, USER) == size(USER)
