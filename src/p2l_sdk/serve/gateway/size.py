"""How much an LLM reads of a request, in bytes and tokens, without any LLM's tokenizer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2l_sdk.serve.gateway.choices import LARGEST, Work, chosen_out
from p2l_sdk.serve.gateway.contents import Contents
from p2l_sdk.serve.gateway.longest import indentation, joined, longest, name_tokens, rewritten
from p2l_sdk.serve.gateway.references import written_out
from p2l_sdk.serve.gateway.repeats import names_again, prefaces, tools_again

BYTES_PER_TOKEN = 4  # of text in UTF-8, roughly; never below 1
_BILLED = ("tools", "functions", "response_format", "prediction")  # the fields that an LLM surely reads, with messages
_UNREAD = ("model", "stream_options", "logit_bias")
_KEPT = ("cache_control", "prompt_cache_options", "prompt_cache_retention")  # fields that say what a cache keeps
_MARK = re.compile(rb'(?<!\\)"cache\w*"\s*:(?!\s*(?:null|false))')  # in lower case: cache_control, cachePoint, ...
_HIDDEN = re.compile(rb"\\u00(?:4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9a])")  # a letter that is escaped, as no client does
_TOOLS, _USUAL_TOOLS = 1000, 350  # tokens that vendors add before tools
_AS_TOOLS = ("tools", "functions", "response_format")  # proxies make a tool of a schema for vendors that know none
_PER_DOCUMENT = 16  # tokens that templates write around a document
_CALLS = {"tool_calls", "function_call"}  # in a message; proxies add a tool for vendors that want one beside calls
_PROMPTS, _PROMPT = ("prompt_mode", "safe_prompt"), 1000  # by which Mistral adds a system message; its tokens


@dataclass(frozen=True)
class Size:
    """How much an LLM reads of a request.

    Attributes:
        text: bytes of text, in UTF-8: of the messages, of calls of tools, and of the tools and schemas in JSON.
        most: bytes of JSON of all texts, lists and objects of the request, in the longest form that a tokenizer gives
            them, without images and audio: no token has fewer than one, and upstreams read fields that nobody here
            knows.
        images: number of images.
        other: tokens of everything else that is no text, at most; those of audio, and of the lines on which templates
            write tools, are part of them.
        usual: tokens of everything else, usually.
        audio: tokens of audio, at most.
        sounds: number of parts that are audio.
        kept: whether parts are marked to be kept in the upstream's cache, for which vendors take up to twice the price.
        strange: what messages hold that nobody here knows: the place of the message, and the name.
        endless: the fields that become larger than can be counted where their references and choices are written out.
        again: tokens that templates which come with the weights of LLMs may write again, at most.
    """

    text: int
    most: int
    images: int
    other: int
    usual: int = 0
    audio: int = 0
    sounds: int = 0
    kept: bool = False
    strange: Sequence[tuple[int, str]] = ()
    endless: Sequence[str] = ()
    again: int = 0

    @property
    def plain(self) -> bool:
        """Whether the messages hold nothing but text."""
        return not (self.images or self.sounds or self.usual > _USUAL_TOOLS)

    @classmethod
    def of(cls, texts: Mapping[str, str], values: Mapping[str, Any]) -> Size:
        """The size of a request.

        Args:
            texts: JSON text of its fields, by name.
            values: what they mean; `messages` are a list of objects.
        """
        held = Contents(values["messages"])
        read = {name: text for name, text in texts.items() if text[:1] in '"[{' and name not in _UNREAD}
        bytes_ = {name: longest(text) for name, text in read.items()}
        text = held.text + sum(bytes_.get(name, 0) for name in _BILLED)
        most = max(sum(bytes_.values()) - held.inline, text)
        tools = [name for name in ("tools", "functions") if name in read]
        calls = any(isinstance(each, dict) and not _CALLS.isdisjoint(each) for each in values["messages"])
        other = held.other + (_TOOLS if calls or any(name in read for name in _AS_TOOLS) else 0)
        documents = values.get("documents")
        other += _PER_DOCUMENT * len(documents) if isinstance(documents, list) else 0
        other += _PROMPT if any(values.get(name) for name in _PROMPTS) else 0
        work = Work(sum(map(len, read.values())))
        grown = {
            name: _Growth.of(field, values[name], name in _AS_TOOLS, work)
            for name, field in read.items()
            if name != "messages" and field[0] != '"'
        }
        other += sum(growth.tokens for growth in grown.values())
        other += names_again(values["messages"])
        again = prefaces(values["messages"])
        if tools:
            once = sum(bytes_[name] + grown[name].tokens for name in tools)
            other += once  # some write them in words, with names or descriptions twice (MiniCPM3's, Hermes', gpt-oss)
            again += tools_again(values["messages"]) * once
        usual = held.usual + (_USUAL_TOOLS if tools else 0)
        kept = any(values.get(name) for name in _KEPT) or any(
            _may_mark(text) for text in read.values() if text[0] != '"'
        )
        endless = [name for name, growth in grown.items() if growth.endless]
        return cls(text, most, held.images, other, usual, held.audio, held.sounds, kept, held.strange, endless, again)


@dataclass(frozen=True)
class _Growth:
    """The most tokens that a field grows by where a template writes it anew, and whether nobody can say how many."""

    tokens: int
    endless: bool

    @classmethod
    def of(cls, text: str, value: Any, as_tool: bool, work: Work) -> _Growth:
        referred, chosen = written_out(text, value, work), chosen_out(text, value, work)
        tokens = referred + chosen + (name_tokens(value) + joined(value) if as_tool else 0)
        try:
            return cls(tokens + indentation(text, value) + rewritten(text, value), max(referred, chosen) >= LARGEST)
        except RecursionError:
            return cls(tokens, True)


def _may_mark(text: str) -> bool:
    """Whether something in JSON is marked to be kept in a cache, wherever the mark stands."""
    plain = text.encode("utf-8", "surrogatepass").lower()
    return (b'"cache' in plain and _MARK.search(plain) is not None) or (
        b"\\u00" in plain and _HIDDEN.search(plain) is not None
    )


def count_of(value: Any) -> int | None:
    """A number of tokens; None if it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
