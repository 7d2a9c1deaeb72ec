"""`ChatRequest`: a chat request that is passed on to an upstream as it came, except for the model's name, `cost`, and
absent fields that have a value in the config.

The text of every other field is copied, never parsed and written again: 1.0 stays 1.0, and unknown fields and the order
are kept. If a field occurs twice, the last one counts, as usual in JSON.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from p2l_sdk.serve.errors import ApiError
from p2l_sdk.serve.gateway.config import BEST, MAX_TOKENS, ROUTED, LLMConfig

COST_HEADER = "x-p2l-cost"
_SPACE = re.compile(r"[ \t\n\r]*")
_MAX_FIELDS = 500  # OpenAI's API has about forty
_MAX_CHOICES = 1024


class BadRequest(ApiError):  # noqa: N818  named for what happened, like all errors of the server
    """A request that is not sent to any upstream because it is invalid."""

    code = "invalid_request"


@dataclass(frozen=True)
class Field:
    """A field of the request: its JSON text in the body, and its parsed value."""

    text: str
    value: Any


@dataclass(frozen=True)
class ChatRequest:
    """A parsed chat request.

    Attributes:
        fields: of the body, by name and in order, without `cost`.
        model: the name that the client gave.
        messages: the conversation.
        stream: whether the answer is to be streamed.
        budget: USD per response, None if the request does not set it.
        n: number of answers requested; each one is paid for.
    """

    fields: Mapping[str, Field]
    model: str
    messages: list[dict[str, Any]]
    stream: bool
    budget: float | None
    n: int = 1

    @classmethod
    def parse(cls, body: bytes, cost_header: str | None = None, max_messages: int = 2048) -> ChatRequest:
        """Parse a body, and the budget in it or in the header.

        Raises:
            BadRequest: the body is not a JSON object, `model` or `messages` is missing or invalid, there are too many
                messages, or `stream`, `n` or the budget is invalid.
        """
        fields = _fields(body)
        model = fields.get("model")
        if model is None or not isinstance(model.value, str):
            raise BadRequest("the request must name a model, a string", param="model")
        messages = fields.get("messages")
        if messages is None or not isinstance(messages.value, list) or not messages.value:
            raise BadRequest("the request must hold messages, a list that is not empty", param="messages")
        if len(messages.value) > max_messages:
            text = f"the conversation has {len(messages.value)} messages; at most {max_messages} are taken"
            raise BadRequest(text, param="messages")
        for i, message in enumerate(messages.value):
            if not isinstance(message, dict) or not isinstance(message.get("role"), str):
                raise BadRequest(f"message {i} must be an object with a role", param=f"messages[{i}]")
        stream = fields.get("stream")
        if stream is not None and not isinstance(stream.value, bool | None):
            raise BadRequest("stream must be true or false", param="stream")
        choices = fields.get("n")
        n = 1 if choices is None or choices.value is None else choices.value
        if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= _MAX_CHOICES:
            raise BadRequest(f"n must be an integer from 1 to {_MAX_CHOICES}", param="n")
        cost = fields.pop("cost", None)
        budget = _budget(cost_header if cost is None or cost.value is None else cost.value)
        return cls(fields, model.value, messages.value, bool(stream and stream.value), budget, n)

    @property
    def routed(self) -> bool:
        """Whether the LLM is chosen here; otherwise the client has named one."""
        return self.model in (ROUTED, BEST)

    @property
    def user_turns(self) -> list[dict[str, Any]]:
        """The messages that the P2L model reads."""
        return [message for message in self.messages if message["role"] == "user"]

    @property
    def text_bytes(self) -> int:
        """Bytes of text in the messages, in UTF-8; images and other parts do not count."""
        contents = [message.get("content") for message in self.messages]
        texts = [content for content in contents if isinstance(content, str)]
        for part in (part for content in contents if isinstance(content, list) for part in content):
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                texts.append(part["text"])
        return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)

    def body(self, llm: LLMConfig) -> bytes:
        """The body to send to this LLM's upstream."""
        texts = {name: field.text for name, field in self.fields.items()}
        texts["model"] = json.dumps(llm.model)
        for name in ("temperature", "top_p"):
            if name not in texts and getattr(llm, name) is not None:
                texts[name] = json.dumps(getattr(llm, name))
        if llm.max_tokens is not None and not any(name in texts for name in MAX_TOKENS):
            texts["max_tokens"] = json.dumps(llm.max_tokens)
        if (wanted := llm.max_tokens_field) is not None:
            for given in [texts.pop(name) for name in MAX_TOKENS if name != wanted and name in texts]:
                texts.setdefault(wanted, given)
        if llm.system is not None and not any(m["role"] in ("system", "developer") for m in self.messages):
            system = json.dumps({"role": "system", "content": llm.system})
            texts["messages"] = f"[{system}, {texts['messages'][1:]}"
        return ("{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in texts.items()) + "}").encode()


def _budget(value: Any) -> float | None:
    if value is None:
        return None
    try:
        budget = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):  # an integer may have more digits than a float holds
        budget = math.nan
    if not 0 <= budget < math.inf:
        raise BadRequest("the cost must be a finite number >= 0, USD per response", param="cost")
    return budget


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _fields(body: bytes) -> dict[str, Field]:
    """The fields of a JSON object, each with its original text."""
    try:
        text = body.decode("utf-8")
        fields: dict[str, Field] = {}
        at, n = _expect(text, _skip(text, 0), "{"), 0
        while text[at : at + 1] != "}":
            if n == _MAX_FIELDS:
                raise ValueError("too many fields")
            if n > 0:
                at = _skip(text, _expect(text, at, ","))
            n += 1
            name, at = _DECODER.raw_decode(text, at)
            if not isinstance(name, str):
                raise ValueError("a field's name is no string")
            start = _skip(text, _expect(text, _skip(text, at), ":"))
            value, end = _DECODER.raw_decode(text, start)
            fields.pop(name, None)
            fields[name] = Field(text[start:end], value)
            at = _skip(text, end)
        if _skip(text, at + 1) != len(text):
            raise ValueError("something follows the object")
        return fields
    except (ValueError, RecursionError):  # its text may contain a piece of the body
        text = f"the body is not a JSON object in UTF-8 of at most {_MAX_FIELDS} fields"
        raise BadRequest(text) from None


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return at if space is None else space.end()


def _expect(text: str, at: int, character: str) -> int:
    if text[at : at + 1] != character:
        raise ValueError(f"{character} is missing")
    return _skip(text, at + 1)
