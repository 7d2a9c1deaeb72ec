"""How much an LLM reads of a request, in bytes and tokens, without any LLM's tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BYTES_PER_TOKEN = 4  # of text in UTF-8, roughly; never below 1
_BILLED = ("messages", "tools", "functions", "response_format", "prediction")  # the fields that an LLM reads
_DATA = {"image_url": "url", "input_audio": "data", "file": "file_data"}  # kind of part -> where its bytes are
_LOW_DETAIL = 100  # tokens of an image that is asked to be read in low detail
_AUDIO_BYTES = 64  # of base64 per token of audio, at least
_TOOLS = 1000  # tokens that vendors add before tools, at most


@dataclass(frozen=True)
class Size:
    """How much an LLM reads of a request.

    Attributes:
        text: bytes of text, in UTF-8: of the messages, of calls of tools, and of the tools and schemas in JSON.
        most: bytes of the JSON of all that, of which no token can have fewer than one; without images and audio.
        images: of full detail.
        other: tokens of everything else that is no text, at most.
    """

    text: int
    most: int
    images: int
    other: int

    @classmethod
    def of(cls, texts: Mapping[str, str], messages: Sequence[Mapping[str, Any]]) -> Size:
        """The size of a request.

        Args:
            texts: JSON text of its fields, by name.
            messages: the conversation.
        """
        most = sum(_bytes(texts[name]) for name in _BILLED if name in texts)
        text = sum(_bytes(texts[name]) for name in _BILLED if name in texts and name != "messages")
        images, other = 0, _TOOLS if "tools" in texts or "functions" in texts else 0
        for message in messages:
            content = message.get("content")
            text += _bytes(content) if isinstance(content, str) else 0
            text += _bytes_of_calls(message.get("tool_calls"))
            for part in content if isinstance(content, list) else ():
                if isinstance(part, dict) and isinstance(part.get("text"), str):
                    text += _bytes(part["text"])
                kind = part.get("type") if isinstance(part, dict) else None
                where = _DATA.get(kind) if isinstance(kind, str) else None
                held = part.get(kind) if where is not None else None
                data = held.get(where) if isinstance(held, dict) else held
                if not isinstance(data, str):
                    continue
                if kind == "image_url":
                    low = isinstance(held, dict) and held.get("detail") == "low"
                    images, other = images + (not low), other + _LOW_DETAIL * low
                elif kind == "input_audio":
                    other += len(data) // _AUDIO_BYTES
                else:
                    continue  # of a file, every byte may be text
                most -= len(data)
        return cls(text, max(most, text), images, other)


def _bytes_of_calls(calls: Any) -> int:
    """Bytes of the calls of tools in a message: names and arguments."""
    size = 0
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        texts = function.values() if isinstance(function, dict) else ()
        size += sum(_bytes(text) for text in texts if isinstance(text, str))
    return size


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def count_of(value: Any) -> int | None:
    """A number of tokens; None if it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
