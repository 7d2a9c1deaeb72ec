"""What the messages of a request may hold, and what an LLM reads of it: one table for what is known and what it costs.

What is not in the table counts as large as anything can be, and is refused where a key's budget pays (`charges`). So
nothing is passed on there that is not counted.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from enum import Enum, auto
from typing import Any

from p2l_sdk.serve.gateway.longest import entries, escaped, indentation, longest, name_tokens, rewritten
from p2l_sdk.serve.gateway.media import (
    Medium,
    files_in,
    is_known,
    is_packed_image,
    may_be_heard,
    may_be_other,
    tokens_if_text,
    tokens_of_text,
)
from p2l_sdk.serve.gateway.repeats import ROLES, SAID

UNKNOWN, USUAL_UNKNOWN = 100_000, 3000  # tokens of a part whose size the request does not show: a video, a file
_AUDIO_BYTES, _USUAL_AUDIO_BYTES = 64, 1000  # of base64 per token of audio: at least, usually
_LEAST_AUDIO = 100  # tokens that a vendor bills for the shortest sound
_SHORTEST_AUDIO = 1000  # characters in base64; shorter data is the name of a sound elsewhere
_ENCRYPTED = 3  # tokens, at most, for a character of what is encrypted
_READABLE = ("text", "thinking")  # what is not, in thoughts that are sent back
_PER_ARGUMENT = 16  # tokens that a template writes around each argument of a call, at most
_PER_ENTRY = 8  # around each entry of the lists and objects in it, as some write them as XML (MiniMax's)


class Cost(Enum):
    """What a part of a message costs."""

    TEXT = auto()
    IMAGE = auto()
    AUDIO = auto()
    FILE = auto()
    VIDEO = auto()


ANY, PLAIN, NAMES = object(), object(), object()  # any JSON; text, a number or a truth; an object of such by any name
_URL = (str, {"url": str, "detail": str, "format": str})
_HOUR = frozenset(("5m", "30m", "1h"))  # for longer, some bill a cache by the hour
_KEPT = {"type": str, "ttl": _HOUR}
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
_THOUGHT_OF = ("extra_content", "provider_specific_fields", "reasoning_details", "thinking_blocks")
_CALL = {"name": str, "arguments": ANY, "provider_specific_fields": _OWN}
_MESSAGE: dict[str, Any] = {  # beside `content`; what is no sound costs its bytes
    "name": str, "tool_call_id": str, "refusal": str, "reasoning_content": str, "reasoning": str, "prefix": PLAIN,
    "partial": PLAIN, "cache_control": _KEPT, "function_call": _CALL,
    "audio": {"id": str, "data": str, "expires_at": PLAIN, "transcript": str},
    "tool_calls": [{
        "id": str, "type": str, "index": PLAIN, "function": _CALL, "custom": {"name": str, "input": str},
        "extra_content": _SIGNED, "provider_specific_fields": _OWN,
    }],
    "annotations": [{"type": str, "url_citation": NAMES}], "is_error": PLAIN,
    "extra_content": _SIGNED, "provider_specific_fields": _OWN,
    "reasoning_details": _THOUGHTS, "thinking_blocks": _THOUGHTS,  # OpenRouter's, litellm's
}  # fmt: skip
_FUNCTION = {"name": str, "description": str, "parameters": dict, "strict": PLAIN, "cache_control": _KEPT}
TOOL: dict[str, Any] = {
    "type": str, "function": _FUNCTION, "custom": {"name": str, "description": str, "format": dict},
    "input_schema": dict, **_FUNCTION,
}  # fmt: skip
_NAME = {"name": str}
_CHOSEN = {"type": str, "name": str, "function": _NAME, "custom": _NAME, "disable_parallel_tool_use": PLAIN}
_SCHEMA = (str, dict)
FIELDS: dict[str, Any] = {  # of a request, those that are lists or objects
    "messages": ANY, "chat_template_kwargs": NAMES,
    "functions": [_FUNCTION],
    "function_call": (str, _NAME),
    "tool_choice": (str, {**_CHOSEN, "allowed_tools": {"mode": str, "tools": [_CHOSEN]}}),
    "stop": (str, [str]), "bad_words": [str], "stop_token_ids": [PLAIN], "logit_bias": (NAMES, [PLAIN]),
    "audio": {"voice": (str, {"id": str}), "format": str},
    "safety_settings": [NAMES],
    "response_format": {
        "type": str, "json_schema": {"name": str, "description": str, "strict": PLAIN, "schema": dict}, "schema": dict,
        "value": _SCHEMA, "pattern": str, "grammar": str, "structures": [{"begin": str, "schema": dict, "end": str}],
        "triggers": [str], "format": dict,
    },
    "guided_json": _SCHEMA, "guided_choice": [str], "format": _SCHEMA,
    "structured_outputs": {
        "json": _SCHEMA, "regex": str, "choice": [str], "grammar": str, "json_object": PLAIN, "structural_tag": str,
        "disable_fallback": PLAIN, "disable_any_whitespace": PLAIN, "disable_additional_properties": PLAIN,
        "whitespace_pattern": str,
    },
    "metadata": NAMES,
    "stream_options": NAMES,
    "usage": (PLAIN, NAMES),
    "thinking": (PLAIN, NAMES),
    "reasoning": {"effort": str, "max_tokens": PLAIN, "enabled": PLAIN, "exclude": PLAIN, "summary": str},
    "prompt_cache_options": {"mode": str, "ttl": _HOUR},
    "documents": [(str, {"id": PLAIN, "title": str, "text": str, "content": str, "snippet": str, "url": str})],
}  # fmt: skip


def strangers(value: Any, shape: Any) -> Iterator[str]:
    """The names in a value that are not in its shape; "" for a value of another kind than it should have. What says
    nothing (null, false, an empty list) passes.

    Args:
        value: JSON.
        shape: a type (dict: any object); a list of one shape; an object by name; words, of which it must be one;
            several shapes, of which one must fit; or `ANY`, `PLAIN`, `NAMES`.
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
    elif shape is dict and isinstance(value, dict):
        return
    elif isinstance(shape, frozenset):
        yield from () if isinstance(value, str) and value in shape else ("",)
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
        strange: what is not in the table: the place of its message, and its name.
    """

    def __init__(self, messages: Collection[Mapping[str, Any]]) -> None:
        self.text = self.inline = self.images = self.other = self.usual = self.audio = self.sounds = 0
        self.strange: list[tuple[int, str]] = []
        for self._place, message in enumerate(messages):
            for name, value in message.items():
                if not _says_nothing(value):
                    self._read(name, value)
            if message.get("role") not in SAID:  # results of tools, which templates write as strings in JSON
                for text in _strings(message.get("content")):
                    self._result(text)

    def _read(self, name: str, value: Any) -> None:
        if name == "content":
            self._content(value)
        elif name == "role":
            if value not in ROLES:
                self._note(value)
                self.other += UNKNOWN
        elif name not in _MESSAGE or (name == "audio" and not isinstance(value, dict)):
            self._note(name)
            if value:
                self._add(1 + _entries(value), sounds=int(name in SOUNDS))
        else:
            others = list(strangers(value, _MESSAGE[name]))
            self.strange += [(self._place, other or name) for other in others]
            self._add(len(others) * max(1, _entries(value)) if others else 0)
            if name == "audio":  # an earlier answer, which the vendor has kept
                self._add(1, sounds=1)
            elif name in _THOUGHT_OF:
                self.other += _ENCRYPTED * _encrypted(value)
            elif name in ("tool_calls", "function_call"):
                for call in value if isinstance(value, list) else [{"function": value}]:
                    self._call(call)
            elif isinstance(value, str):
                self.text += longest(value)

    def _call(self, call: Any) -> None:
        """A call of a tool: its name and arguments, which templates read and write anew, and thoughts beside them."""
        places = [call, *(call.get(kind) for kind in ("function", "custom"))] if isinstance(call, dict) else []
        for place in places:
            for name, value in place.items() if isinstance(place, dict) else ():
                if name == "arguments":
                    self._arguments(value)
                elif name in _THOUGHT_OF:
                    self.other += _ENCRYPTED * _encrypted(value)
                if isinstance(value, str) and place is not call:
                    self.text += longest(value)

    def _arguments(self, value: Any) -> None:
        try:
            if isinstance(value, str):
                text, value = value, json.loads(value)
            else:
                text = json.dumps(value)
                self.other += len(text)
            self.other += rewritten(text, value) + indentation(text, value)
            self.other += _PER_ENTRY * entries(value) + name_tokens(value)
        except ValueError:  # templates take it as it is
            return
        except RecursionError:
            self._note("arguments")
            self._add(1)
        self.other += _PER_ARGUMENT * (len(value) if isinstance(value, dict) else 1)

    def _result(self, text: str) -> None:
        """What a tool said: text, or JSON that some templates read and write anew."""
        try:
            value = json.loads(text) if text.lstrip()[:1] in ("{", "[") else None
            grown = 0 if value is None else rewritten(text, value) + indentation(text, value)
        except ValueError:
            grown = 0
        except RecursionError:
            self._note("content")
            grown = 1 + len(text)
        self.other += max(grown, escaped(text))

    def _content(self, content: Any) -> None:
        if isinstance(content, str):
            self._words(content)
            return
        if not isinstance(content, list):
            self._note("content")
            content = [content]
        for part in content:
            if isinstance(part, str):
                self._words(part)
            elif isinstance(part, dict):
                self._part(part)
            elif part:
                self._note("content")
                self._add(1 + _entries(part))

    def _words(self, text: str) -> None:
        self.text += longest(text)
        if (files := files_in(text)) > 0:
            self._add(files, heard=True)

    def _part(self, part: Mapping[str, Any]) -> None:
        kind, words = part.get("type"), part.get("text")
        if kind == "text" and len(part) == 2 and isinstance(words, str):  # the usual
            self._words(words)
            return
        cost, shape = _PARTS.get(kind, (None, {})) if isinstance(kind, str) else (None, {})
        if cost is None:
            self._note(kind if isinstance(kind, str) else "type")
        known = cost is not None
        for other in strangers(part.get("cache_control"), _KEPT):
            self._note(other or "cache_control")
        for name, value in part.items():
            if isinstance(value, str) and name in ("text", "thinking", "refusal"):
                self._words(value)
            if name not in ("type", "cache_control") and cost is not None and not _says_nothing(value):
                for other in [name] if name not in shape else strangers(value, shape[name]):
                    self._note(other or name)
                    known = known and isinstance(value, int | float)
        if kind == "thinking":
            self.other += _ENCRYPTED * _encrypted(part)
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
        elif cost is Cost.VIDEO and known:
            for film in _strings(part):
                self.other += tokens_if_text(film)
            self._add(number, heard=True)
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
            self._add(number, heard=may_be_heard(url, form))
            self.other += tokens_if_text(url, form)
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
            self.other += tokens_if_text(data, form) if isinstance(data, str) else 0
            return
        tokens = len(sent) // _AUDIO_BYTES + _LEAST_AUDIO
        self.inline += len(data)
        self.other, self.audio, self.sounds = self.other + tokens, self.audio + tokens, self.sounds + 1
        self.usual += len(sent) // _USUAL_AUDIO_BYTES

    def _file(self, file: Any) -> None:
        """A file: a text, which is looked at, or something of unknown size."""
        held: dict[str, Any] = file if isinstance(file, dict) else {}
        data, form = held.get("file_data"), held.get("format")
        if held.get("file_id") or not data:
            self._add(1, heard=True)
        if not isinstance(data, str) or not data:
            return
        tokens = tokens_of_text(data)
        if tokens is not None and not may_be_other(Medium.TEXT, data, form, held.get("filename")):
            self.other += tokens
            return
        self._add(1, heard=may_be_heard(data, form, held.get("filename")))
        self.other += tokens_if_text(data, form)
        if not is_known(data):
            self._note(data.partition(",")[0] if data.startswith("data:") else "file_data")

    def _add(self, number: int, sounds: int = 0, heard: bool = False) -> None:
        """So many things of unknown size, that many of them sounds, or perhaps all of them with sound: the soundtrack
        of a film, a file elsewhere."""
        self.other, self.usual = self.other + UNKNOWN * number, self.usual + USUAL_UNKNOWN * number
        self.audio, self.sounds = self.audio + UNKNOWN * (number if heard else sounds), self.sounds + sounds

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
    """Characters of what may be encrypted in thoughts that are sent back: signatures and data."""
    return sum(len(text) for text in _strings(thoughts, _READABLE))


def _strings(value: Any, without: Collection[str] = ()) -> Iterator[str]:
    """All strings in JSON, but for those of these names."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            left += [inner for name, inner in one.items() if name not in without or not isinstance(inner, str)]
        elif isinstance(one, list):
            left += one
