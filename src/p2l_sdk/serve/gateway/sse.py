"""Server-sent events as bytes: finds where they end and what they say about the answer, without changing them."""

from __future__ import annotations

import functools
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from p2l_sdk.serve.errors import error_body

LARGEST_EVENT = 16 * 2**20  # bytes; an image comes in a single event
_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE = re.compile(rb"\r\n|\n|\r")
_ERROR_NAME = re.compile(rb"^event:[ \t]*error[ \t]*\r?$", re.MULTILINE)
_EMPTY = re.compile(rb'"choices"\s*:\s*\[\s*\]')  # of an event that holds a token count alone
_DONE = "[DONE]"
_NO_CONTENT = ("role", "name")  # of a delta
_NO_TEXT = frozenset((  # what an LLM has not written in a choice
    "role", "id", "type", "object", "logprobs", "finish_reason", "native_finish_reason", "stop_reason",
    "content_filter_results",
))  # fmt: skip


class EventTooLarge(Exception):  # noqa: N818  named for what happened
    """An event exceeds the largest size without ending."""


class Events:
    """Cuts a stream of bytes at the ends of its events.

    Args:
        choices: number of answers in the stream, `n` of the request.
        usage: whether the client asked for the token count, and its event is passed on.

    Attributes:
        begun: whether the answer has begun: some content, a tool call, or a finish reason.
        answered: whether any event, one of an error too, was a part of an answer, be it an empty one.
        done: whether the stream has ended with [DONE].
        finished: whether the answer is complete: [DONE], or a finish reason for each of the choices.
        failed: whether an event was an error, or unreadable. Nothing counts after it.
        error: the payload of that event.
        usage: the upstream's token count, if it sent one; of several the largest numbers.
        text_bytes: bytes of text in the answer so far.
        pieces: number of texts that it came in; each is at least a token.
    """

    def __init__(self, choices: int = 1, usage: bool = True) -> None:
        self._pass_usage = usage
        self._tail = bytearray()
        self._choices, self._finished = choices, set[int]()  # indices of the finished choices
        self._loose = False  # whether text came after a reason to end
        self.begun = self.answered = self.done = self.finished = self.failed = False
        self.error: Any = None
        self.usage: dict[str, Any] | None = None
        self._last = self._alone = False  # whether a count came when all was complete, and in an event without text
        self._shares: dict[int, dict[str, Any]] | None = {}  # counts by choice, until there is one of all
        self.text_bytes = self.pieces = 0

    def feed(self, part: bytes) -> bytes:
        """Add a part of the stream and return the events that it completes, unchanged, up to the first error; without a
        token count that nobody asked for.

        Raises:
            EventTooLarge: an event exceeds `LARGEST_EVENT` without ending.
        """
        start = max(0, len(self._tail) - 3)  # an end may be split over two parts
        self._tail += part
        ends = [match.end() for match in _END.finditer(self._tail, start)]
        if not ends:
            if len(self._tail) > LARGEST_EVENT:
                raise EventTooLarge
            return b""
        whole = bytes(self._tail[: ends[-1]])
        del self._tail[: ends[-1]]
        begin, dropped = 0, list[bytes]()
        for end in ends:
            event = whole if len(ends) == 1 else whole[begin:end]
            before = self.usage
            self.failed = not (self.done or self._look_at(event))
            if self.failed:
                whole = whole[:begin]
                break
            if self.usage is not before and not self._pass_usage and _EMPTY.search(event):
                dropped.append(event)
            begin = end
        for event in dropped:
            whole = whole.replace(event, b"")
        return whole

    def rest(self) -> bytes:
        """The bytes after the last complete event, once the stream is over: servers forget the last empty line."""
        tail = bytes(self._tail)
        return tail if tail and self.feed(b"\n\n") else b""

    def _look_at(self, event: bytes) -> bool:
        """Note what an event says; False if it is no part of an answer, but an error."""
        payload = _payload(event)
        self.answered = self.answered or (isinstance(payload, dict) and _goes_on(payload.get("choices")))
        if b"event:" in event and _ERROR_NAME.search(event):
            self.error = payload
            return False
        if payload is ... or payload == _DONE:
            self.done = self.done or payload == _DONE
            self.finished = self.finished or self.done
            return True
        if not isinstance(payload, dict) or is_error(payload):
            self.error = payload
            return False
        usage, choices, before = payload.get("usage"), payload.get("choices"), self.text_bytes
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._look_at_choice(choice)
        self.finished = self.finished or len(self._finished) >= self._choices
        if isinstance(usage, dict):
            self._count(usage, choices)
        if isinstance(usage, dict) and _tells(usage):
            self._alone = self.text_bytes == before > 0
            self._last = self.finished or self._alone  # one from the beginning is of the prompt
        elif _goes_on(choices):  # with or without text: what no text shows is billed too
            self._last = self._alone = False
        return True

    def _count(self, usage: dict[str, Any], choices: Any) -> None:
        self.usage = usage if self.usage is None else _merged(self.usage, usage, max)
        if not choices:
            if self.finished and usage.get("completion_tokens"):  # else one of the prompt, or an empty one
                self._shares = None
        elif self._shares is not None and isinstance(choices, list) and isinstance(choices[0], dict):
            index = choices[0].get("index")
            if isinstance(index, int) and _tells(usage):
                self._shares[index] = _merged(self._shares.get(index, {}), usage, max)

    @property
    def count(self) -> dict[str, Any] | None:
        """The upstream's token count of all choices; some count each of several for itself, as they read the prompt
        for each."""
        if self.usage is None or not self._shares or len(self._shares) == 1:
            return self.usage
        return functools.reduce(functools.partial(_merged, of=operator.add), self._shares.values())

    def _look_at_choice(self, choice: Mapping[str, Any]) -> None:
        text, index, end = text_bytes(choice), choice.get("index"), choice.get("finish_reason")
        index = index if isinstance(index, int) else 0
        self.text_bytes += text
        if text:
            self.pieces += 1
            self._loose = self._loose or index in self._finished  # some servers put a reason into every event
        if end:  # some put an empty one there
            self._finished.add(index)
            self.begun = True
        if not self.begun:
            delta = choice.get("delta") or choice.get("message")
            said = delta.items() if isinstance(delta, dict) else ()
            self.begun = any(value for name, value in said if name not in _NO_CONTENT)

    @property
    def final(self) -> bool:
        """Whether the count came when the answer was complete, or with no more of the answer behind it, and not only at
        its beginning or in the middle."""
        return self._last and (self.done or self._alone or not self._loose)


def _tells(usage: Mapping[str, Any]) -> bool:
    """Whether a count has a number at all: some upstreams put an empty one into every event."""
    return any(isinstance(value, int | float) and value > 0 for value in usage.values())


def _goes_on(choices: Any) -> bool:
    """Whether an event is a part of the answer, be it an empty one, and not only the report of a filter (Azure's may
    come after everything else)."""
    named = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    return any(choice.get(name) is not None for choice in named for name in ("delta", "message", "finish_reason"))


def _merged(
    usage: dict[str, Any], later: dict[str, Any], of: Callable[[Any, Any], Any], deep: bool = True
) -> dict[str, Any]:
    """Two counts of one stream as one. Each number is the larger, as some upstreams count the prompt in the first event
    and the answer in the last, or send an empty count at the end; or, of two choices, the sum."""
    both = dict(usage)
    for name, value in later.items():
        before = usage.get(name)
        if deep and isinstance(before, dict) and isinstance(value, dict):
            both[name] = _merged(before, value, of, deep=False)  # the details; nothing is deeper
        elif isinstance(before, int | float) and isinstance(value, int | float):
            both[name] = of(before, value)
        elif value is not None or before is None:
            both[name] = value
    return both


def is_error(payload: Mapping[str, Any]) -> bool:
    """Whether a completion, or an event of a stream, is an error: of the whole or of one of its choices, in the shape
    of OpenAI or flat, as vLLM's ({"object": "error", ...}) or FastAPI's ({"detail": ...})."""
    choices = payload.get("choices")
    if payload.get("error") or "error" in (payload.get("object"), payload.get("type")):
        return True
    if not isinstance(choices, list):
        return isinstance(payload.get("message"), str) or bool(payload.get("detail"))
    return any(isinstance(c, dict) and (c.get("finish_reason") == "error" or bool(c.get("error"))) for c in choices)


def payloads(whole: bytes) -> Iterator[Any]:
    """The payload of each event: parsed JSON, "[DONE]", or None for invalid JSON. Events without data are skipped."""
    found = (_payload(event) for event in _END.split(whole))
    return (payload for payload in found if payload is not ...)


def _payload(event: bytes) -> Any:
    """The payload of an event; ... if it has no data."""
    text = event[5:].strip()
    if not event.startswith(b"data:") or b"\n" in text or b"\r" in text:  # not the usual, a single line
        data = [line[5:].removeprefix(b" ") for line in _LINE.split(event) if line.startswith(b"data:")]
        text = b"\n".join(data).strip()
    if not text:
        return ...
    if text == b"[DONE]":
        return _DONE
    try:
        return orjson.loads(text)
    except ValueError:
        pass
    try:  # json takes NaN and halves of surrogate pairs, as clients do
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def text_bytes(choice: Any) -> int:
    """Bytes of text that an LLM has written in a choice, or a part of one: all texts in it, whatever their names, as
    vendors have their own for reasoning and for the input of tools."""
    size, left = 0, [choice]
    while left:
        one = left.pop()
        if isinstance(one, str):
            size += len(one) if one.isascii() else len(one.encode("utf-8", "surrogatepass"))
        elif isinstance(one, dict):
            left += [inner for name, inner in one.items() if name not in _NO_TEXT]
        elif isinstance(one, list):
            left += one
    return size


def error_event(message: str, type: str, code: str) -> bytes:
    """The last event of a stream that broke off, in the form that OpenAI's clients understand."""
    return event_of(error_body(message, type, code=code))


def event_of(value: Any) -> bytes:
    """A value as an event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"
