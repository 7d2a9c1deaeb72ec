"""Clients in Python against the router: `python client_smoke.py NAME BASE_URL` prints what one of them got, in JSON.

Each asks plainly, streams, has a tool called (streamed too) and sends its result, and fails in three ways. It is a
script, as the clients are not installed where the tests run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

ASK = "What is 17 * 23?"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": PARAMETERS}}
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": ASK}]


def weather(city: str) -> str:
    """The weather."""
    return f"sunny in {city}"


def failed(call: Callable[[], Any]) -> dict[str, Any]:
    """What a client raises."""
    try:
        call()
    except Exception as error:
        return {"kinds": [kind.__name__ for kind in type(error).__mro__], "text": str(error)}
    return {"kinds": [], "text": "nothing was raised"}


def openai(url: str) -> dict[str, Any]:
    """OpenAI's own client."""
    import openai

    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)

    def ask(model: str = "p2l", messages: list[Any] = MESSAGES, **options: Any) -> Any:
        return client.chat.completions.create(model=model, messages=messages, **options)

    def stream(**options: Any) -> Iterator[Any]:
        return (choice.delta for event in ask(stream=True, **options) for choice in event.choices)

    calling = ask(tools=[TOOL]).choices[0].message
    [call] = calling.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": weather("Paris")}
    [again] = ask(messages=[*MESSAGES, calling, result], tools=[TOOL]).choices[0].message.tool_calls
    return {
        "plain": ask().choices[0].message.content,
        "stream": "".join(delta.content or "" for delta in stream()),
        "tool": [call.function.name, json.loads(call.function.arguments)],
        "again": again.function.name,
        "streamed_tool": [call.function.name for delta in stream(tools=[TOOL]) for call in delta.tool_calls or ()],
        "unknown": failed(lambda: ask("nobody")),
        "refused": failed(lambda: ask(extra_body={"cost": 1e-9})),
        "broken": failed(lambda: list(stream(model="broken"))),
    }


def langchain(url: str) -> dict[str, Any]:
    """langchain-openai."""
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_openai import ChatOpenAI

    def chat(model: str = "p2l", **options: Any) -> Any:
        return ChatOpenAI(model=model, base_url=url, api_key="none", max_retries=0, **options)

    tools = chat().bind_tools([weather])
    calling = tools.invoke(ASK)
    [call] = calling.tool_calls
    result = ToolMessage(weather(**call["args"]), tool_call_id=call["id"])
    again = tools.invoke([HumanMessage(ASK), calling, result])  # before other conversations that begin alike
    streamed = None
    for chunk in tools.stream(ASK):
        streamed = chunk if streamed is None else streamed + chunk
    return {
        "plain": chat().invoke(ASK).content,
        "stream": "".join(chunk.content for chunk in chat().stream(ASK)),
        "tool": [call["name"], call["args"]],
        "again": again.tool_calls[0]["name"],
        "streamed_tool": [call["name"] for call in streamed.tool_calls],
        "unknown": failed(lambda: chat("nobody").invoke(ASK)),
        "refused": failed(lambda: chat(extra_body={"cost": 1e-9}).invoke(ASK)),
        "broken": failed(lambda: list(chat("broken").stream(ASK))),
    }


def litellm(url: str) -> dict[str, Any]:
    """litellm."""
    import litellm

    def ask(model: str = "p2l", messages: list[Any] = MESSAGES, **options: Any) -> Any:
        given = {"api_base": url, "api_key": "none", "num_retries": 0, "max_retries": 0, **options}
        return litellm.completion(f"openai/{model}", messages, **given)

    def stream(**options: Any) -> Iterator[Any]:
        return (choice.delta for event in ask(stream=True, **options) for choice in event.choices)

    calling = ask(tools=[TOOL]).choices[0].message
    [call] = calling.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": weather("Paris")}
    [again] = ask(messages=[*MESSAGES, calling, result], tools=[TOOL]).choices[0].message.tool_calls
    calls = [call for delta in stream(tools=[TOOL]) for call in delta.tool_calls or ()]
    return {
        "plain": ask().choices[0].message.content,
        "stream": "".join(delta.content or "" for delta in stream()),
        "tool": [call.function.name, json.loads(call.function.arguments)],
        "again": again.function.name,
        "streamed_tool": [call.function.name for call in calls if call.function.name],
        "unknown": failed(lambda: ask("nobody")),
        "refused": failed(lambda: ask(extra_body={"cost": 1e-9})),
        "broken": failed(lambda: list(stream(model="broken"))),
    }


def llamaindex(url: str) -> dict[str, Any]:
    """llama-index, its OpenAI-like LLM."""
    from llama_index.core.llms import ChatMessage
    from llama_index.core.tools import FunctionTool
    from llama_index.llms.openai_like import OpenAILike

    def llm(model: str = "p2l", **body: Any) -> Any:
        given = {"api_base": url, "api_key": "none", "is_chat_model": True, "is_function_calling_model": True}
        return OpenAILike(model=model, max_retries=0, additional_kwargs=body, **given)

    tool, asked = FunctionTool.from_defaults(weather), ChatMessage(role="user", content=ASK)
    calling = llm().chat_with_tools([tool], chat_history=[asked])
    [call] = llm().get_tool_calls_from_response(calling)
    result = ChatMessage(role="tool", content=weather("Paris"), additional_kwargs={"tool_call_id": call.tool_id})
    again = llm().chat_with_tools([tool], chat_history=[asked, calling.message, result])
    *_, streamed = llm().stream_chat_with_tools([tool], chat_history=[asked])
    return {
        "plain": llm().chat([asked]).message.content,
        "stream": "".join(part.delta or "" for part in llm().stream_chat([asked])),
        "tool": [call.tool_name, call.tool_kwargs],
        "again": llm().get_tool_calls_from_response(again)[0].tool_name,
        "streamed_tool": [call.tool_name for call in llm().get_tool_calls_from_response(streamed)],
        "unknown": failed(lambda: llm("nobody").chat([asked])),
        "refused": failed(lambda: llm(extra_body={"cost": 1e-9}).chat([asked])),
        "broken": failed(lambda: list(llm("broken").stream_chat([asked]))),
    }


CLIENTS: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {  # name -> its module, what it does
    "openai": ("openai", openai),
    "langchain": ("langchain_openai", langchain),
    "litellm": ("litellm", litellm),
    "llamaindex": ("llama_index.llms.openai_like", llamaindex),
}

if __name__ == "__main__":
    print(json.dumps(CLIENTS[sys.argv[1]][1](sys.argv[2])))
