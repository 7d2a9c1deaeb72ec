"""Affinity: a conversation stays with the LLM that has answered it so far, whose style it has and whose prompt cache
holds it.

A conversation goes on if it begins like an earlier request: the longest beginning that is remembered counts, as in a
prompt cache. A name of the session finds also what was shortened since. Only hashes are remembered, never a text. What
is drawn for a session is drawn by its hash, so that several processes draw alike without knowing of each other.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.size import BYTES_PER_TOKEN

_MOST = 65_536  # requests and sessions that are remembered, 15 MB
_BYTES = 16  # of a hash


@dataclass(frozen=True)
class Session:
    """The conversation of a request, as far as it is known.

    Attributes:
        seed: of every draw for it.
        began: when, in seconds.
        keys: the hashes by which it will be found.
        kept: the LLM that has answered so far; None for a new session.
        loop: whether the request answers calls of tools.
        read: tokens of the request that this LLM has read before.
    """

    seed: int
    began: float = 0.0
    keys: tuple[bytes, ...] = ()
    kept: str | None = None
    loop: bool = False
    read: float = 0.0

    def saved(self, llm: LLMConfig) -> float:
        """What the cache of this LLM saves of the request's price, USD; 0 if no price of cached tokens is known."""
        prices = llm.prices
        if prices is None or prices.cached_input is None:
            return 0.0
        return max(0.0, prices.of(self.read, 0) - prices.of(self.read, 0, cached=self.read))

    @property
    def lot(self) -> float:
        """What is drawn for it from (0, 1]; the dearer LLM of a mixture has those up to its probability."""
        return 1.0 - random.Random(self.seed).random()

    def state(self, name: str) -> str:
        """How it goes on with this LLM: "new", "kept" or "switched"."""
        return "new" if self.kept is None else "kept" if name == self.kept else "switched"


@dataclass(frozen=True, slots=True)
class _Known:
    llm: str
    seed: int
    began: float
    used: float


class Sessions:
    """The sessions of a server; those least recently used are forgotten.

    Args:
        minutes: after so long without a request a session is forgotten. So is one that began longer ago, by
            conversations that begin: a name that everybody uses must not bind everybody to one LLM for ever.
        most: number of requests and sessions that are remembered.
    """

    def __init__(self, minutes: float, most: int = _MOST) -> None:
        self._seconds, self._most = 60.0 * minutes, most
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, request: ChatRequest, owner: bytes = b"") -> Session:
        """The session of a request.

        Args:
            request: the request.
            owner: whose it is; sessions of different owners have nothing in common.
        """
        now, messages = time.monotonic(), request.messages
        name = _hashed(b"", owner, request.model.encode(), _bytes(request.session or ""))
        starts = list(_starts(name, messages))
        loop, before, read = answers_tools(messages), None, 0.0
        whole = starts[-1][0]
        for digest, size in reversed(starts):
            if digest != whole and (before := self._find(digest, now)) is not None:
                read = size / BYTES_PER_TOKEN
                break
        # the same first user turn may be that of many conversations, a session's name not
        own = name if request.session is not None else _hashed(b"opening", starts[_opening(messages)][0])
        seen = self._find(own, now)
        if before is None and seen is not None and request.session is not None:
            begins = all(message["role"] != "assistant" for message in messages)
            before = None if begins and now - seen.began > self._seconds else seen
        keys = (whole, own)
        if before is not None:
            return Session(before.seed, before.began, keys, before.llm, loop, read)
        # by the hash only once: else all conversations that begin alike would go to one LLM of a mixture
        seed = int.from_bytes(own[:8]) if seen is None else random.getrandbits(64)
        return Session(seed, now, keys, loop=loop)

    def remember(self, session: Session, llm: str) -> None:
        """This LLM answers the session."""
        known = _Known(llm, session.seed, session.began, time.monotonic())
        for key in session.keys:
            self._known[key] = known
            self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def _find(self, key: bytes, now: float) -> _Known | None:
        known = self._known.get(key)
        return known if known is not None and now - known.used <= self._seconds else None


def answers_tools(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a conversation is in the middle of a loop of tools: its last answer called some, or its last message
    comes from one."""
    if messages[-1]["role"] in ("tool", "function"):
        return True
    last = next((message for message in reversed(messages) if message["role"] == "assistant"), None)
    return last is not None and bool(last.get("tool_calls") or last.get("function_call"))


def _opening(messages: Sequence[Mapping[str, Any]]) -> int:
    """The place of the first user turn; of the last message if there is none."""
    return next((i for i, message in enumerate(messages) if message["role"] == "user"), len(messages) - 1)


def _starts(name: bytes, messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[bytes, int]]:
    """Of each beginning of the conversation a hash, and its size in bytes. System messages have no part in the hash, as
    clients write the time of day there."""
    state, size = hashlib.blake2b(name, digest_size=_BYTES), 0
    for message in messages:
        text, calls = _bytes(_text(message.get("content"))), message.get("tool_calls")
        size += len(text)
        if message["role"] not in ("system", "developer"):
            # lengths keep what belongs to one message from being read as part of the next
            state.update(b"%d %d %d " % (len(text), len(message["role"]), len(calls) if isinstance(calls, list) else 0))
            state.update(_bytes(message["role"]))
            state.update(text)
        yield state.digest(), size


def _text(content: Any) -> str:
    """What a message says, whether as a text or in parts: clients change this from turn to turn, to mark what is to be
    cached."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    try:
        return "".join(map(_part, parts))
    except RecursionError:  # nested too deeply for any LLM; its place in the conversation tells it from others
        return ""


def _part(part: Any) -> str:
    if not isinstance(part, dict):
        return json.dumps(part)
    text = part.get("text")
    return text if isinstance(text, str) else json.dumps({**part, "cache_control": None})


def _hashed(kind: bytes, *parts: bytes) -> bytes:
    state = hashlib.blake2b(kind, digest_size=_BYTES)
    for part in parts:
        state.update(b"%d " % len(part) + part)
    return state.digest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
