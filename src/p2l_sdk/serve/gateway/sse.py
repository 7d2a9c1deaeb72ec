"""Server-sent events as bytes: finds where they end and what they say about the answer, without changing them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from p2l_sdk.serve.errors import error_body

LARGEST_EVENT = 16 * 2**20  # bytes; an image comes in a single event
_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"[^"]')  # not empty: some servers put an empty one into every event
_LINE = re.compile(rb"\r\n|\n|\r")
_TEXT = re.compile(rb'"(?:content|reasoning|reasoning_content|refusal|arguments)"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"')


class EventTooLarge(Exception):  # noqa: N818  named for what happened
    """An event exceeds the largest size without ending."""


class Events:
    """Cuts a stream of bytes at the ends of its events.

    Args:
        choices: number of answers in the stream, `n` of the request.
        usage: whether the client asked for the token count, and its event is passed on.

    Attributes:
        done: whether the stream has ended with [DONE].
        finished: whether the answer is complete: [DONE], or a finish reason for each of the choices.
        usage: the upstream's token count, if it sent one.
        text_bytes: bytes of text in the answer so far.
        pieces: number of texts that it came in; each is at least a token.
    """

    def __init__(self, choices: int = 1, usage: bool = True) -> None:
        self._pass_usage = usage
        self._tail = bytearray()
        self._choices, self._finished = choices, set[int]()  # indices of the finished choices
        self.done = self.finished = False
        self.usage: dict[str, Any] | None = None
        self.text_bytes = self.pieces = 0

    def feed(self, part: bytes) -> bytes:
        """Add a part of the stream and return the events that it completes, unchanged.

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
        if b"[DONE]" in whole or b'"usage"' in whole or _FINISHED.search(whole):
            for event in payloads(whole):
                self._look_at(event)
        texts = [len(match[1]) for match in _TEXT.finditer(whole) if match[1]]
        self.text_bytes, self.pieces = self.text_bytes + sum(texts), self.pieces + len(texts)
        return whole if self._pass_usage or b'"usage"' not in whole else _without_usage(whole)

    def _look_at(self, event: Any) -> None:
        if event == "[DONE]":
            self.done = self.finished = True
        elif isinstance(event, dict):
            if isinstance(event.get("usage"), dict):
                self.usage = event["usage"]
            choices = event.get("choices")
            for choice in choices if isinstance(choices, list) else ():
                if isinstance(choice, dict) and choice.get("finish_reason"):
                    index = choice.get("index")
                    self._finished.add(index if isinstance(index, int) else 0)
            self.finished = self.finished or len(self._finished) >= self._choices

    def rest(self) -> bytes:
        """The bytes after the last complete event, once the stream is over."""
        return bytes(self._tail)


def _without_usage(whole: bytes) -> bytes:
    """The events without those that hold nothing but a token count."""
    kept, start = [], 0
    for end in _END.finditer(whole):
        event = whole[start : end.end()]
        start = end.end()
        payload = next(payloads(event), None)
        only = isinstance(payload, dict) and isinstance(payload.get("usage"), dict) and payload.get("choices") == []
        if not only:
            kept.append(event)
    return b"".join(kept)


def payloads(whole: bytes) -> Iterator[Any]:
    """The payload of each event: parsed JSON, "[DONE]", or None for invalid JSON. Events without data are skipped."""
    for event in _END.split(whole):
        data = [line[5:].removeprefix(b" ") for line in _LINE.split(event) if line.startswith(b"data:")]
        if data:
            text = b"\n".join(data)
            try:
                yield "[DONE]" if text.strip() == b"[DONE]" else json.loads(text)
            except (ValueError, RecursionError):
                yield None


def text_bytes(answer: bytes) -> int:
    """Bytes of text that an LLM has written in an answer or in events, including reasoning and tool calls. They are
    counted as they stand there, in UTF-8 and with JSON's escapes, without parsing."""
    return sum(len(match[1]) for match in _TEXT.finditer(answer))


def error_event(message: str, type: str, code: str) -> bytes:
    """The last event of a stream that broke off, in the form that OpenAI's clients understand."""
    return b"data: " + json.dumps(error_body(message, type, code=code)).encode() + b"\n\n"
