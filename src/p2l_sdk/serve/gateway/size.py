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
        text: bytes of JSON text, without images, audio and files.
        images: of full detail.
        other: tokens of everything else that is no text, at most.
    """

    text: int
    images: int
    other: int

    @classmethod
    def of(cls, texts: Mapping[str, str], messages: Sequence[Mapping[str, Any]]) -> Size:
        """The size of a request.

        Args:
            texts: JSON text of its fields, by name.
            messages: the conversation.
        """
        text = sum(_bytes(texts[name]) for name in _BILLED if name in texts)
        images, other = 0, _TOOLS if "tools" in texts or "functions" in texts else 0
        for message in messages:
            content = message.get("content")
            for part in content if isinstance(content, list) else ():
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
                text -= len(data)
        return cls(max(0, text), images, other)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def count_of(value: Any) -> int | None:
    """A number of tokens; None if it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
