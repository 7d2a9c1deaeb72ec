"""What the messages of a request may hold, and what an LLM reads of it: one table for what is known and what it costs.

What is not in the table counts as large as anything can be, and is refused where a key's budget pays (`charges`). So
nothing is passed on there that is not counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import Enum, auto
from typing import Any

from p2l_sdk.serve.gateway.longest import longest
from p2l_sdk.serve.gateway.media import Medium, is_packed_image, may_be_other

UNKNOWN, USUAL_UNKNOWN = 100_000, 3000  # tokens of a part whose size the request does not show: a video, a file
_AUDIO_BYTES, _USUAL_AUDIO_BYTES = 64, 1000  # of base64 per token of audio: at least, usually
_LEAST_AUDIO = 100  # tokens that a vendor bills for the shortest sound
_SHORTEST_AUDIO = 1000  # characters in base64; shorter data is the name of a sound elsewhere
_LONGEST_FORM = 3  # tokens, at most, for a character of a text in a data URL (see `longest`), or of what is encrypted


class Cost(Enum):
    """What a part of a message costs."""

    TEXT = auto()
    IMAGE = auto()
    AUDIO = auto()
    FILE = auto()
    VIDEO = auto()


ANY, PLAIN, NAMES = object(), object(), object()  # any JSON; text, a number or a truth; an object of such by any name
_URL = (str, {"url": str, "detail": str, "format": str})
_KEPT = {"type": str, "ttl": str}
_WORDS = {"text": str, "annotations": [NAMES]}
_PARTS: dict[str, tuple[Cost, dict[str, Any]]] = {  # by type; `type` and `cache_control` may be in each
    "text": (Cost.TEXT, _WORDS),
    "input_text": (Cost.TEXT, _WORDS),
    "output_text": (Cost.TEXT, _WORDS),
    "refusal": (Cost.TEXT, {"refusal": str, "text": str}),
    "thinking": (Cost.TEXT, {"thinking": (str, [{"type": str, "text": str}]), "signature": str, "closed": PLAIN}),
    "image_url": (Cost.IMAGE, {"image_url": _URL, "detail": str}),
    "input_image": (Cost.IMAGE, {"image_url": _URL, "detail": str}),
    "image": (Cost.IMAGE, {"image": _URL}),
    "input_audio": (Cost.AUDIO, {"input_audio": (str, {"data": str, "format": str})}),
    "audio_url": (Cost.AUDIO, {"audio_url": _URL}),
    "audio": (Cost.AUDIO, {"audio": _URL}),
    "file": (Cost.FILE, {"file": {"file_data": str, "file_id": str, "filename": str, "format": str}}),
    "video_url": (Cost.VIDEO, {"video_url": _URL}),
    "video": (Cost.VIDEO, {"video": (str, [str])}),
}
IMAGES = tuple(kind for kind, (cost, _) in _PARTS.items() if cost is Cost.IMAGE)
SOUNDS = tuple(kind for kind, (cost, _) in _PARTS.items() if cost is Cost.AUDIO)
_THOUGHTS = [{  # of an earlier answer, some of them encrypted
    "type": str, "text": str, "thinking": str, "summary": str, "data": str, "signature": str, "id": str, "format": str,
    "index": PLAIN,
}]  # fmt: skip
_SIGNED = {"google": {"thought_signature": str, "thought": PLAIN}}  # what Google's LLMs want to have back
_OWN = {  # litellm's names for what other vendors say in an answer
    "thinking_blocks": _THOUGHTS, "reasoning_content": str, "refusal": str, "thought_signature": str,
    "thought_signatures": [str], "citations": ([str], [NAMES], [[NAMES]]),
}  # fmt: skip
_CALL = {"name": str, "arguments": ANY, "provider_specific_fields": _OWN}
_MESSAGE: dict[str, Any] = {  # beside `content`; what is no sound costs its bytes
    "role": str, "name": str, "tool_call_id": str, "refusal": str, "reasoning_content": str, "reasoning": str,
    "prefix": PLAIN, "partial": PLAIN, "cache_control": _KEPT, "function_call": _CALL,
    "audio": {"id": str, "data": str, "expires_at": PLAIN, "transcript": str},
    "tool_calls": [{
        "id": str, "type": str, "index": PLAIN, "function": _CALL, "custom": {"name": str, "input": str},
        "extra_content": _SIGNED, "provider_specific_fields": _OWN,
    }],
    "annotations": [{"type": str, "url_citation": NAMES}], "is_error": PLAIN,
    "extra_content": _SIGNED, "provider_specific_fields": _OWN,
    "reasoning_details": _THOUGHTS, "thinking_blocks": _THOUGHTS,  # OpenRouter's, litellm's
}  # fmt: skip
_FUNCTION = {"name": str, "description": str, "parameters": ANY, "strict": PLAIN, "cache_control": _KEPT}
TOOL: dict[str, Any] = {
    "type": str, "function": _FUNCTION, "custom": {"name": str, "description": str, "format": ANY},
    "input_schema": ANY, **_FUNCTION,
}  # fmt: skip
FIELDS: dict[str, Any] = {  # of a request, those of which something is known
    "functions": [_FUNCTION],
    "metadata": NAMES,
    "stream_options": NAMES,
    "usage": (PLAIN, NAMES),
    "thinking": (PLAIN, NAMES),
    "reasoning": {"effort": str, "max_tokens": PLAIN, "enabled": PLAIN, "exclude": PLAIN, "summary": str},
    "prompt_cache_options": {"mode": str, "ttl": str},
    "documents": [(str, {"id": PLAIN, "title": str, "text": str, "content": str, "snippet": str, "url": str})],
}


def strangers(value: Any, shape: Any) -> Iterator[str]:
    """The names in a value that are not in its shape; "" for a value of another kind than it should have. What says
    nothing (null, false, an empty list) passes.

    Args:
        value: JSON.
        shape: a type; a list of one shape; an object by name; several, of which one must fit; or `ANY`, `PLAIN`,
            `NAMES`.
    """
    if shape is ANY or _says_nothing(value):
        return
    if isinstance(shape, tuple):
        found = [list(strangers(value, one)) for one in shape]
        yield from () if [] in found else max(found)
    elif isinstance(shape, dict) and isinstance(value, dict):
        for name, inner in value.items():
            if name in shape:
                yield from (other or name for other in strangers(inner, shape[name]))
            elif not _says_nothing(inner):
                yield name
    elif isinstance(shape, list) and isinstance(value, list):
        for inner in value:
            yield from strangers(inner, shape[0])
    elif shape is NAMES and isinstance(value, dict):
        yield from (name for name, inner in value.items() if isinstance(inner, list | dict) and inner)
    elif not (isinstance(value, str | int | float) if shape is PLAIN else shape is str and isinstance(value, str)):
        yield ""


class Contents:
    """What some messages hold.

    Args:
        messages: the conversation.

    Attributes:
        text: bytes of text.
        inline: bytes of JSON that are no text: of images and audio.
        images: number of images.
        other: tokens of everything else that is no text, at most; those of audio are part of them.
        usual: tokens of everything else, usually.
        audio: tokens of audio, at most.
        sounds: number of sounds.
        kept: whether parts are marked to be kept in the upstream's cache.
        strange: what is not in the table: the place of its message, and its name.
    """

    def __init__(self, messages: Collection[Mapping[str, Any]]) -> None:
        self.text = self.inline = self.images = self.other = self.usual = self.audio = self.sounds = 0
        self.kept = False
        self.strange: list[tuple[int, str]] = []
        for self._place, message in enumerate(messages):
            for name, value in message.items():
                if not _says_nothing(value):
                    self._read(name, value)

    def _read(self, name: str, value: Any) -> None:
        if name == "content":
            self._content(value)
        elif name == "role" and isinstance(value, str):
            pass
        elif name not in _MESSAGE or (name == "audio" and not isinstance(value, dict)):
            self._note(name)
            if value:
                self._add(1 + _entries(value), sounds=int(name in SOUNDS))
        else:
            for other in strangers(value, _MESSAGE[name]):
                self._note(other or name)
                self._add(max(1, _entries(value)))
            if name == "audio":  # an earlier answer, which the vendor has kept
                self._add(1, sounds=1)
            elif name in ("reasoning_details", "thinking_blocks"):
                self.other += _LONGEST_FORM * _encrypted(value)
            elif name == "provider_specific_fields" and isinstance(value, dict):
                self.other += _LONGEST_FORM * _encrypted(value.get("thinking_blocks"))
            elif name == "tool_calls":
                self.text += _bytes_of_calls(value)
            elif name != "cache_control" and isinstance(value, str):
                self.text += longest(value)
            self.kept = self.kept or name == "cache_control"

    def _content(self, content: Any) -> None:
        if isinstance(content, str):
            self.text += longest(content)
            return
        if not isinstance(content, list):
            self._note("content")
            content = [content]
        for part in content:
            if isinstance(part, str):
                self.text += longest(part)
            elif isinstance(part, dict):
                self._part(part)
            elif part:
                self._note("content")
                self._add(1 + _entries(part))

    def _part(self, part: Mapping[str, Any]) -> None:
        kind, words = part.get("type"), part.get("text")
        if kind == "text" and len(part) == 2 and isinstance(words, str):  # the usual
            self.text += longest(words)
            return
        cost, shape = _PARTS.get(kind, (None, {})) if isinstance(kind, str) else (None, {})
        if cost is None:
            self._note(kind if isinstance(kind, str) else "type")
        known = cost is not None
        for name, value in part.items():
            if isinstance(value, str) and name in ("text", "thinking", "refusal"):
                self.text += longest(value)
            if name == "cache_control" and value:
                self.kept = True
            elif name != "type" and cost is not None and not _says_nothing(value):
                for other in [name] if name not in shape else strangers(value, shape[name]):
                    self._note(other or name)
                    known = known and isinstance(value, int | float)
        if cost is Cost.TEXT and known:
            return
        number = max(1, _entries(part))
        if cost is Cost.IMAGE:
            self.images += number
            self._image(part, number, known)
        elif cost is Cost.AUDIO:
            self._sound(part.get("input_audio") if known else None, number)
        elif cost is Cost.FILE and known:
            self._file(part.get("file"))
        else:
            self._add(number)

    def _image(self, part: Mapping[str, Any], number: int, known: bool) -> None:
        """Images, which are priced by their number; what may be something else counts as large as that can be."""
        held = part.get("image_url") or part.get("image")  # a null must not hide what stands beside it
        url = held.get("url") if isinstance(held, dict) else held
        form = held.get("format") if isinstance(held, dict) else None
        if not known:
            self.other += UNKNOWN * number
        elif isinstance(url, str) and may_be_other(Medium.IMAGE, url, form):
            self._add(number)
        elif isinstance(url, str) and is_packed_image(url):
            self.inline += len(url)

    def _sound(self, held: Any, number: int) -> None:
        """A sound that is sent along, or one of unknown size elsewhere."""
        data: Any = held.get("data") if isinstance(held, dict) else held
        form = held.get("format") if isinstance(held, dict) else None
        whole = data if isinstance(data, str) and data.startswith("data:") else f"data:;base64,{data}"
        sent = whole.partition(",")[2]
        at_hand = isinstance(data, str) and len(sent) >= _SHORTEST_AUDIO and ":" not in sent and "." not in sent
        if not at_hand or may_be_other(Medium.AUDIO, whole, form):
            self._add(number, sounds=number)
            return
        tokens = len(sent) // _AUDIO_BYTES + _LEAST_AUDIO
        self.inline += len(data)
        self.other, self.audio, self.sounds = self.other + tokens, self.audio + tokens, self.sounds + 1
        self.usual += len(sent) // _USUAL_AUDIO_BYTES

    def _file(self, file: Any) -> None:
        """A file. Every byte of a text may be a token; a PDF, packed as it is, may hold more tokens than bytes."""
        held: dict[str, Any] = file if isinstance(file, dict) else {}
        data: Any = held.get("file_data")
        identity = held.get("file_id")
        is_text = isinstance(data, str) and data.startswith("data:text/")
        if is_text:
            self.other += (_LONGEST_FORM - 1) * len(data)
        if (data or not identity) and not (
            is_text and not may_be_other(Medium.TEXT, data, held.get("format"), held.get("filename"))
        ):
            self._add(1)
        if identity:
            self._add(1)

    def _add(self, number: int, sounds: int = 0) -> None:
        """So many things of unknown size, that many of them sounds."""
        self.other, self.usual = self.other + UNKNOWN * number, self.usual + USUAL_UNKNOWN * number
        self.audio, self.sounds = self.audio + UNKNOWN * sounds, self.sounds + sounds

    def _note(self, name: str) -> None:
        self.strange.append((self._place, name))


def _says_nothing(value: Any) -> bool:
    return value is None or value is False or value == []


def _entries(value: Any) -> int:
    """How many things the lists in a value hold: frames of a video, images of a result of a tool."""
    found, left = 0, [value]
    while left:
        value = left.pop()
        if isinstance(value, list):
            found += len(value)
        left += value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return found


def _encrypted(thoughts: Any) -> int:
    """Characters of what is encrypted in thoughts that are sent back."""
    held = [one.get("data") for one in thoughts if isinstance(one, dict)] if isinstance(thoughts, list) else ()
    return sum(len(data) for data in held if isinstance(data, str))


def _bytes_of_calls(calls: Any) -> int:
    """Bytes of the calls of tools in a message: names and arguments."""
    size = 0
    for call in calls if isinstance(calls, list) else ():
        for kind in ("function", "custom"):
            held = call.get(kind) if isinstance(call, dict) else None
            texts = held.values() if isinstance(held, dict) else ()
            size += sum(longest(text) for text in texts if isinstance(text, str))
    return size
