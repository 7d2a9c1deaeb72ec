"""What a template writes more often than it stands in a request: names of calls at their results, and tools.

Some write the name of a call at each result (gpt-oss, Gemma), and twice, or that of each call with the result's id.
Some write all tools at each message that equals the last of the user (Mistral's), or at each system message (Apriel's).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from p2l_sdk.serve.gateway.longest import longest

SAID = ("system", "developer", "user", "assistant")
ROLES = (*SAID, "tool", "function")
"""Of messages. Any other may be a template's own name for the result of a tool (Llama's `ipython`), or an order to the
vendor (Moonshot's `cache`)."""
_SYSTEM = ("system", "developer")
_TWICE = 2
_PREFACE = 512  # tokens that a template writes before each system message, at most


def names_again(messages: Sequence[Mapping[str, Any]]) -> int:
    """The most tokens that templates add by repeating names: once each at its own place, twice that of a call at each
    of its results."""
    found = most = 0
    by_id = Counter[str]()
    for message in messages:
        for name, identity in _calls(message):
            tokens = longest(name)
            found, most = found + tokens, max(most, tokens)
            by_id[identity] += tokens
    for message in messages:
        if message.get("role") not in SAID:
            identity = str(message.get("tool_call_id"))
            own = (message.get(name) for name in ("name", "tool_call_id"))
            found += sum(longest(text) for text in own if isinstance(text, str))
            found += _TWICE * max(most, by_id[identity])
    return found


def tools_again(messages: Sequence[Mapping[str, Any]]) -> int:
    """How many times more than once templates may write the tools of a request for what its messages say."""
    users = [_text(message) for message in messages if message.get("role") == "user"]
    return max(0, users.count(users[-1]) - 1 if users else 0) + _systems(messages)


def prefaces(messages: Sequence[Mapping[str, Any]]) -> int:
    """The most tokens that templates write before system messages, but for the first."""
    return _PREFACE * _systems(messages)


def _systems(messages: Sequence[Mapping[str, Any]]) -> int:
    return max(0, sum(message.get("role") in _SYSTEM for message in messages) - 1)


def _calls(message: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The name and the id of each call in a message."""
    calls, alone = message.get("tool_calls"), message.get("function_call")
    for call in [*(calls if isinstance(calls, list) else ()), {"function": alone}]:
        for kind in ("function", "custom") if isinstance(call, dict) else ():
            held = call.get(kind)
            if isinstance(held, dict) and isinstance(held.get("name"), str):
                yield held["name"], str(call.get("id"))


def _text(message: Mapping[str, Any]) -> str:
    """What a message says, in whatever parts, without white space: servers put parts together before they compare."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return "".join("".join(text.split()) for text in texts if isinstance(text, str))
