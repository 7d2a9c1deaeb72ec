"""Reads an upstream's whole reply and what it says, without keeping anyone waiting, and few large ones at a time."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from p2l_sdk.serve.decoding import Decoder
from p2l_sdk.serve.engine.threads import DaemonThreads
from p2l_sdk.serve.errors import ApiError, BodyTooLarge
from p2l_sdk.serve.gateway.call import UpstreamError
from p2l_sdk.serve.gateway.outline import outline
from p2l_sdk.serve.gateway.pool import Response

LARGEST_REPLY = 64 * 2**20  # bytes
_ON_THE_LOOP = 256 * 1024  # bytes, parsed in a millisecond or two
_LARGE = 4 * 2**20  # bytes; of larger replies few are read at a time
_AT_A_TIME, _PAUSE_SECONDS = 2, 0.02


@dataclass(frozen=True)
class Reply:
    """The body of a reply.

    Attributes:
        content: as it came; a large one is not copied into bytes, as that alone would take longer than a request.
        value: its JSON value, None if it is no JSON; of a large one, that of its `outline`.
        cut: bytes of the long strings in a large one, which its value lacks; None of another one.
    """

    content: bytes | memoryview
    value: Any
    cut: int | None = None

    def holds(self, text: bytes) -> bool:
        """Whether the body holds a text, as it is."""
        raw = self.content if isinstance(self.content, bytes) else self.content.obj
        return isinstance(raw, bytes | bytearray) and text in raw


async def read_reply(response: Response, most: int = LARGEST_REPLY, alive: Callable[[], None] = lambda: None) -> Reply:
    """Read the body of a reply.

    Args:
        response: whose body has not been read.
        most: bytes that the body may have.
        alive: called with every part that comes but the last.

    Raises:
        UpstreamError: the body is larger.
    """
    content, large = bytearray(), False
    try:
        async for part in parts_of(response, most):
            if not response.content.at_eof():  # else nothing is waited for
                alive()
            content += part
            if len(content) > most:
                raise UpstreamError("content", "sent too much", blamed=False)  # which a client can ask for
            if len(content) > _LARGE and not large:
                await _begin_work(alive)
                large = True
        if len(content) <= _ON_THE_LOOP:
            return Reply(whole := bytes(content), _parsed(whole))
        return await asyncio.get_running_loop().run_in_executor(_thread(), _look_at, content)
    finally:
        if large:
            _end_work()


def parts_of(response: Response, most: int = LARGEST_REPLY) -> AsyncIterator[bytes]:
    """The body as it arrives. An encoded one (we ask for no encoding, but some proxies know better) is decoded, and may
    then have `most` bytes.

    Raises:
        UpstreamError: it cannot be decoded, or has more.
    """
    parts = response.content.iter_any()
    return parts if "content-encoding" not in response.headers else _decoded(response, parts, most)


async def _decoded(response: Response, parts: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    try:
        decoder = Decoder.of([response.headers["content-encoding"].encode("latin-1", "replace")], most)
        async for part in parts:
            yield part if decoder is None else await decoder.feed(part, last=False)
        if decoder is not None:
            yield await decoder.feed(b"", last=True)
    except ApiError as error:
        text = "sent something that cannot be decoded, or is too much"
        raise UpstreamError("content", text, blamed=not isinstance(error, BodyTooLarge)) from None


def _look_at(content: bytearray) -> Reply:
    found = outline(content)
    if found is None:
        return Reply(memoryview(content), None, 0)
    return Reply(memoryview(content), _parsed(found.content), found.cut)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


@functools.cache
def _thread() -> DaemonThreads:
    """One thread for all large replies: with several, the event loop would wait for each of them in turn."""
    return DaemonThreads(1, "p2l-replies")


_in_work = 0  # large replies that are being read in this process, whose memory they share


async def _begin_work(alive: Callable[[], None]) -> None:
    """Wait until there is room for one more large reply; its upstream waits meanwhile."""
    global _in_work
    while _in_work >= _AT_A_TIME:
        alive()
        await asyncio.sleep(_PAUSE_SECONDS)
    _in_work += 1


def _end_work() -> None:
    global _in_work
    _in_work -= 1
