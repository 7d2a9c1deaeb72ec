"""`ChatRequest`: a chat request that is passed on to an upstream as it came, except for the model's name, `cost`, a
limit of the answer's length where money needs one, and absent fields that have a value in the config.

The text of every other field is copied, never parsed and written again: 1.0 stays 1.0, and unknown fields and the order
are kept. If a field of the request occurs twice, the last one counts, as usual in JSON; twice in an object within
is refused, as an upstream may take the first.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from p2l_sdk.modeling.number_p2l import to_number
from p2l_sdk.serve.errors import ApiError
from p2l_sdk.serve.gateway.config import PRICED
from p2l_sdk.serve.gateway.llm import BEST, MAX_TOKENS, ROUTED, LLMConfig
from p2l_sdk.serve.gateway.size import Size, count_of

COST_HEADER, SESSION_HEADER = "x-p2l-cost", "x-session-id"
_SESSION_FIELDS = ("prompt_cache_key", "user")  # that name a session too
_THOUGHTS = ("thinking", "reasoning")
_SPACE = re.compile(r"[ \t\n\r]*")
_READ = frozenset((  # fields whose meaning matters here: another spelling of them must not reach an upstream
    "model", "messages", "n", "stream", "stream_options", "cost", "tools", "functions", "response_format", *MAX_TOKENS,
    *PRICED,
))  # fmt: skip
_SAME = {"service_tier": ("auto", "default", "standard_only")}  # what holds without the field too, or is not dearer
_MOST_TOKENS = 10**9  # of an answer; a number may have more digits than a float holds
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
        limit: tokens that an answer may have, if the gateway limits it.
        session: what the client calls its session; None without a name.
        owner: who the client is, its key or its address; b"" if that does not matter.
    """

    fields: Mapping[str, Field]
    model: str
    messages: list[dict[str, Any]]
    stream: bool
    budget: float | None
    n: int = 1
    limit: int | None = None
    session: str | None = None
    owner: bytes = b""

    @classmethod
    def parse(
        cls,
        body: bytes,
        cost_header: str | None = None,
        max_messages: int = 2048,
        allow: Collection[str] = (),
        session: str | None = None,
        owner: bytes = b"",
    ) -> ChatRequest:
        """Parse a body, and the budget and the session in it or in the headers. Fields in `PRICED` must be in `allow`.

        Raises:
            BadRequest: the body is not a JSON object, `model` or `messages` is missing or invalid, there are too many
                messages, `stream`, `n`, a limit of tokens or the budget is invalid, or a field changes the LLM or its
                price.
        """
        fields = _fields(body)
        _check_names(fields, allow)
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
        for name in MAX_TOKENS:
            if name in fields and fields[name].value is not None and not count_of(fields[name].value):
                raise BadRequest(f"{name} must be an integer above 0", param=name)
        options = fields.get("stream_options")
        if options is not None and not isinstance(options.value, dict | None):
            raise BadRequest("stream_options must be an object", param="stream_options")
        cost = fields.pop("cost", None)
        budget = _budget(cost_header if cost is None or cost.value is None else cost.value)
        names = [session, *(fields[name].value for name in _SESSION_FIELDS if name in fields)]
        named = next((name for name in names if isinstance(name, str) and name), None)
        return cls(fields, model.value, messages.value, bool(stream and stream.value), budget, n, None, named, owner)

    @property
    def routed(self) -> bool:
        """Whether the LLM is chosen here; otherwise the client has named one."""
        return self.model in (ROUTED, BEST)

    @property
    def prompt(self) -> list[dict[str, Any]]:
        """What the P2L model reads: the user turns, in their places. What else stands there, whatever its role, is for
        the LLM alone."""
        return [message if message["role"] == "user" else {"role": "system"} for message in self.messages]

    @functools.cached_property
    def size(self) -> Size:
        """How much an LLM reads."""
        texts = {name: field.text for name, field in self.fields.items()}
        return Size.of(texts, {name: field.value for name, field in self.fields.items()})

    @functools.cached_property
    def max_tokens(self) -> int | None:
        """Tokens that each answer may have, as the client says; the larger number if there are two."""
        given = [count_of(self.fields[name].value) for name in MAX_TOKENS if name in self.fields]
        return max((min(number, _MOST_TOKENS) for number in given if number), default=None)

    @functools.cached_property
    def thinking(self) -> int:
        """Tokens of reasoning that each answer may have, if the client says a number: some vendors (Alibaba) give them
        beside the limit of the answer."""
        held = [self.fields[name].value for name in _THOUGHTS if name in self.fields]
        numbers = [
            count_of(inner) or to_number(inner) for value in held if isinstance(value, dict) for inner in value.values()
        ]
        return math.ceil(min(max((number for number in numbers if number > 0), default=0), _MOST_TOKENS))

    @functools.cached_property
    def speaks(self) -> bool:
        """Whether the answer is to have audio."""
        kinds = self.fields["modalities"].value if "modalities" in self.fields else None
        sound = "audio" in self.fields and self.fields["audio"].value is not None
        return sound or (isinstance(kinds, list) and "audio" in kinds)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with the upstream's token count."""
        options = self.fields.get("stream_options")
        return options is not None and (options.value or {}).get("include_usage") is True

    def limited(self, tokens: int | None) -> ChatRequest:
        """The same request with an answer of at most so many tokens; as it is for None."""
        return self if tokens is None or tokens == self.limit else replace(self, limit=tokens)

    def body(self, llm: LLMConfig) -> bytes:
        """The body to send to this LLM's upstream."""
        texts = {name: field.text for name, field in self.fields.items()}
        texts["model"] = json.dumps(llm.model)
        if self.limit or llm.max_tokens or llm.max_tokens_field:
            for name in [name for name in MAX_TOKENS if name in self.fields and self.fields[name].value is None]:
                del texts[name]  # no limit, which must not stand in the place of one
        for name in ("temperature", "top_p"):
            if name not in texts and getattr(llm, name) is not None:
                texts[name] = json.dumps(getattr(llm, name))
        given = [name for name in MAX_TOKENS if name in self.fields and self.fields[name].value is not None]
        if self.limit is not None:
            for name in given:
                texts[name] = json.dumps(min(self.fields[name].value, self.limit))
        most = self.limit or llm.max_tokens
        if most is not None and not given:
            texts["max_tokens"] = json.dumps(most)
        if (wanted := llm.max_tokens_field if self.limit is None else llm.surest_limit) is not None:
            for text in [texts.pop(name) for name in MAX_TOKENS if name != wanted and name in texts]:
                texts.setdefault(wanted, text)
        if self.stream and llm.stream_usage and llm.prices is not None and not self.wants_usage:
            options = self.fields.get("stream_options")
            texts["stream_options"] = json.dumps({**((options and options.value) or {}), "include_usage": True})
        if llm.system is not None and not any(m["role"] in ("system", "developer") for m in self.messages):
            system = json.dumps({"role": "system", "content": llm.system})
            texts["messages"] = f"[{system}, {texts['messages'][1:]}"
        return ("{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in texts.items()) + "}").encode()


def _check_names(fields: Mapping[str, Field], allow: Collection[str]) -> None:
    """Refuse fields that change the LLM or its price, and other spellings of fields that matter: some upstreams read
    names without regard to case."""
    for name, field in fields.items():
        plain = name.casefold()
        if name != plain and plain in _READ:
            raise BadRequest(f"there is no field {name[:40]!r}; write {plain!r}", param=plain)
        held = field.value.items() if isinstance(field.value, dict) else ()
        for priced, value in [(name, field.value), *((f"{name}.{inner}", value) for inner, value in held)]:
            free = value in (None, [], *_SAME.get(priced, ()))
            if priced in PRICED and priced not in allow and not free:
                raise BadRequest(
                    f"{priced} may change which LLM answers or what it costs, and this server does not allow it (its "
                    "config does with `allow`); leave it out", param=name,
                )  # fmt: skip


def _budget(value: Any) -> float | None:
    if value is None:
        return None
    budget = to_number(value)
    if not budget >= 0:
        raise BadRequest("the cost must be a finite number >= 0, USD per response", param="cost")
    return budget


class Twice(Exception):  # noqa: N818  named for what happened
    """An object has a field twice."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):  # which of them counts is different from upstream to upstream
        left = set(found)
        for name, _ in pairs:
            if name not in left:
                raise Twice(name)
            left.remove(name)
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_object)


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
    except Twice as error:
        text = f"an object in the body has the field {error.name[:40]!r} twice; leave one of them out"
        raise BadRequest(text) from None
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
