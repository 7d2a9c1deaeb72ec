"""How much an LLM reads of a request, in bytes and tokens, without any LLM's tokenizer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BYTES_PER_TOKEN = 4  # of text in UTF-8, roughly; never below 1
_BILLED = ("tools", "functions", "response_format", "prediction")  # the fields that an LLM surely reads, with messages
_UNREAD = ("model", "stream_options", "logit_bias")
_TEXT = ("text", "refusal", "input_text", "output_text")  # kinds of parts whose bytes are the text
SOUNDS = ("input_audio", "audio", "audio_url")  # kinds of parts that are audio, or refer to some
IMAGES = ("image_url", "input_image", "image")  # kinds of parts that are one
_MEDIA = frozenset((  # names in a message or a part under which some vendors take what is no text
    *IMAGES, *SOUNDS, "images", "image_file", "image_embeds", "audio_embeds", "video", "video_url", "videos", "file",
    "files", "file_ids", "input_file", "document", "source", "media", "attachments", "inline_data", "file_data",
))  # fmt: skip
_ESCAPED_LETTER = re.compile(r"\\u00([4-7][0-9A-Fa-f])")  # which no encoder writes, but a name may hide behind
_AUDIO_BYTES, _USUAL_AUDIO_BYTES = 64, 1000  # of base64 per token of audio: at least, usually
_UNKNOWN, _USUAL_UNKNOWN = 100_000, 3000  # tokens of a part whose size the request does not show: a video, a file
_TOOLS, _USUAL_TOOLS = 1000, 350  # tokens that vendors add before tools


@dataclass(frozen=True)
class Size:
    """How much an LLM reads of a request.

    Attributes:
        text: bytes of text, in UTF-8: of the messages, of calls of tools, and of the tools and schemas in JSON.
        most: bytes of JSON of all texts, lists and objects of the request, without images and audio: no token has fewer
            than one, and upstreams read fields that nobody here knows.
        images: number of images.
        other: tokens of everything else that is no text, at most; those of audio are part of them.
        usual: tokens of everything else, usually.
        audio: tokens of audio, at most.
        kept: whether parts are marked to be kept in the upstream's cache, for which vendors take up to twice the price.
    """

    text: int
    most: int
    images: int
    other: int
    usual: int = 0
    audio: int = 0
    kept: bool = False

    @classmethod
    def of(cls, texts: Mapping[str, str], messages: Sequence[Mapping[str, Any]]) -> Size:
        """The size of a request.

        Args:
            texts: JSON text of its fields, by name.
            messages: the conversation.
        """
        most = sum(_bytes(text) for name, text in texts.items() if text[:1] in '"[{' and name not in _UNREAD)
        text = sum(_bytes(texts[name]) for name in _BILLED if name in texts)
        tools = "tools" in texts or "functions" in texts
        images, audio = 0, 0
        other, usual = (_TOOLS, _USUAL_TOOLS) if tools else (0, 0)
        for message in messages:
            content = message.get("content")
            text += _bytes(content) if isinstance(content, str) else 0
            text += _bytes_of_calls(message.get("tool_calls"))
            held = [value for name, value in message.items() if name in _MEDIA and name != "audio" and value]
            other, usual = other + _UNKNOWN * _entries(held), usual + _USUAL_UNKNOWN * _entries(held)
            if isinstance(message.get("audio"), dict):  # an earlier answer, which the vendor has kept
                other, usual, audio = other + _UNKNOWN, usual + _USUAL_UNKNOWN, audio + _UNKNOWN
            for part in content if isinstance(content, list) else [content]:
                if not isinstance(part, dict):
                    continue
                kind, words = part.get("type"), part.get("text")
                if isinstance(words, str):
                    text += _bytes(words)
                if kind in IMAGES:
                    images, most = images + max(1, _entries(part)), most - _bytes_of_image(part)
                elif kind == "input_audio" and isinstance(data := _held(part, "input_audio", "data"), str):
                    tokens, most = len(data) // _AUDIO_BYTES, most - len(data)
                    other, usual, audio = other + tokens, usual + len(data) // _USUAL_AUDIO_BYTES, audio + tokens
                elif kind == "file" and _is_text(_held(part, "file", "file_data")):
                    pass  # every byte of it may be text
                elif kind not in _TEXT or not _MEDIA.isdisjoint(part):
                    number = max(1, _entries(part))
                    other, usual = other + _UNKNOWN * number, usual + _USUAL_UNKNOWN * number
                    audio += _UNKNOWN * number if kind in SOUNDS else 0
        return cls(text, max(most, text), images, other, usual, audio, _is_kept(texts))


def _is_kept(texts: Mapping[str, str]) -> bool:
    """Whether anything is marked to be kept in a cache, however the mark is spelled in JSON."""
    if "cache_control" in texts:
        return True
    plain = (_ESCAPED_LETTER.sub(lambda e: chr(int(e[1], 16)), text) for text in texts.values() if text[:1] in "[{")
    return any("cache_control" in text for text in plain)


def _entries(value: Any) -> int:
    """How many things the lists in a value hold: frames of a video, images of a result of a tool."""
    found, left = 0, [value]
    while left:
        value = left.pop()
        if isinstance(value, list):
            found += len(value)
        left += value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return found


def _is_text(data: Any) -> bool:
    """Whether a file that is sent along is a text; a PDF, packed as it is, may hold more tokens than bytes."""
    return isinstance(data, str) and data.startswith("data:text/")


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
