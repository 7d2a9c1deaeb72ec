"""How much an LLM reads of a request, in bytes and tokens, without any LLM's tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BYTES_PER_TOKEN = 4  # of text in UTF-8, roughly; never below 1
_BILLED = ("tools", "functions", "response_format", "prediction")  # the fields that an LLM surely reads, with messages
_UNREAD = ("model", "stream_options", "logit_bias")
_TEXT = ("text", "refusal", "input_text", "output_text")  # kinds of parts whose bytes are the text
IMAGES = ("image_url", "input_image", "image")  # kinds of parts that are one
_AUDIO_BYTES = 64  # of base64 per token of audio, at least
_UNKNOWN = 100_000  # tokens of a part whose size the request does not show: a video, a file elsewhere
_TOOLS = 1000  # tokens that vendors add before tools, at most


@dataclass(frozen=True)
class Size:
    """How much an LLM reads of a request.

    Attributes:
        text: bytes of text, in UTF-8: of the messages, of calls of tools, and of the tools and schemas in JSON.
        most: bytes of JSON of all texts, lists and objects of the request, without images and audio: no token has fewer
            than one, and upstreams read fields that nobody here knows.
        images: number of images.
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
        most = sum(_bytes(text) for name, text in texts.items() if text[:1] in '"[{' and name not in _UNREAD)
        text = sum(_bytes(texts[name]) for name in _BILLED if name in texts)
        images, other = 0, _TOOLS if "tools" in texts or "functions" in texts else 0
        for message in messages:
            content = message.get("content")
            text += _bytes(content) if isinstance(content, str) else 0
            text += _bytes_of_calls(message.get("tool_calls"))
            for part in content if isinstance(content, list) else ():
                if not isinstance(part, dict):
                    continue
                kind, words = part.get("type"), part.get("text")
                if isinstance(words, str):
                    text += _bytes(words)
                if kind in IMAGES:
                    images, most = images + 1, most - _bytes_of_image(part)
                elif kind == "input_audio" and isinstance(data := _held(part, "input_audio", "data"), str):
                    other, most = other + len(data) // _AUDIO_BYTES, most - len(data)
                elif kind == "file" and isinstance(_held(part, "file", "file_data"), str):
                    pass  # every byte of it may be text
                elif kind not in _TEXT:
                    other += _UNKNOWN
        return cls(text, max(most, text), images, other)


def _held(part: Mapping[str, Any], kind: str, name: str) -> Any:
    held = part.get(kind)
    return held.get(name) if isinstance(held, dict) else held


def _bytes_of_image(part: Mapping[str, Any]) -> int:
    """Bytes of an image that is sent along; of anything else that stands there, every byte may be text."""
    url = _held(part, "image_url", "url")
    return len(url) if isinstance(url, str) and url.startswith("data:image/") else 0


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
