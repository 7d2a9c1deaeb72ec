"""`Stream`: a streamed answer of an upstream, from its beginning to its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp

from p2l_sdk.serve.gateway.call import Call, UpstreamError
from p2l_sdk.serve.gateway.pool import Response
from p2l_sdk.serve.gateway.refusal import refusal_within
from p2l_sdk.serve.gateway.reply import parts_of
from p2l_sdk.serve.gateway.sse import LARGEST_EVENT, Events, EventTooLarge

_ENDING_SECONDS = 0.1


@dataclass
class Stream:
    """A stream that has begun.

    Attributes:
        response: the upstream's reply.
        parts: its parts that are still to come.
        events: what is known of the stream so far.
        call: the call that it belongs to.
        ended: whether it has been read to its proper end.
    """

    response: Response
    parts: AsyncIterator[bytes]
    events: Events
    call: Call
    ended: bool = False

    @classmethod
    async def begin(
        cls, response: Response, events: Events, call: Call, alive: Callable[[], None]
    ) -> tuple[bytes, Stream]:
        """Read a stream until its answer begins: until the first content, tool call or finish reason, as what comes
        before (roles, reports of filters, comments) may still be followed by an error.

        Args:
            response: the upstream's reply.
            events: to feed.
            call: the call that it belongs to.
            alive: called with every part that comes.

        Returns:
            The first events, and the stream of those to come.

        Raises:
            UpstreamError: it is no stream of an answer, so that another LLM can be called.
        """
        parts, begun = parts_of(response), bytearray()
        async for part in parts:
            alive()
            begun += events.feed(part)
            if events.failed:
                raise UpstreamError("content", "began its stream with something else than an answer")
            if events.begun:
                return bytes(begun), cls(response, parts, events, call)
            if events.done or len(begun) > LARGEST_EVENT:
                break
        begun += events.rest()
        if events.begun and not events.failed:
            return bytes(begun), cls(response, parts, events, call)
        raise UpstreamError("content", "sent an empty stream")

    async def rest(self) -> AsyncIterator[bytes]:
        """The events after the first ones, each as soon as it is complete; UpstreamError if the stream breaks off."""
        try:
            while not self.events.done and (part := await anext(self.parts, None)) is not None:
                if whole := self.events.feed(part):
                    yield whole
                if self.events.failed:
                    blamed = refusal_within(self.events.error, "") is None  # else it is about what the client wrote
                    raise self._failed("error", "reported an error in the middle of its answer", blamed)
        except aiohttp.SocketTimeoutError:
            raise self._failed("timeout", "stopped in the middle of its answer") from None
        except (aiohttp.ClientError, EventTooLarge) as error:
            blamed = not isinstance(error, EventTooLarge)  # which a client can ask for
            raise self._failed("broken", "broke off its answer", blamed) from None
        except UpstreamError as error:  # it cannot be decoded
            self.call.ended(error)
            raise
        rest = b"" if self.events.done else self.events.rest()
        if self.events.failed or not self.events.finished:
            raise self._failed("broken", "broke off its answer")
        self.ended = True
        if rest:
            yield rest

    def _failed(self, kind: str, message: str, blamed: bool = True) -> UpstreamError:
        error = UpstreamError(kind, message, blamed=blamed)
        self.call.ended(error)
        return error

    async def close(self) -> None:
        """End the call. If the stream is done, the end of the reply is read, so that the connection can be reused."""
        if self.events.finished and not self.events.failed:
            self.call.ended()
        if self.events.done:
            with contextlib.suppress(TimeoutError, aiohttp.ClientError, UpstreamError):
                async with asyncio.timeout(_ENDING_SECONDS):
                    async for _ in self.parts:
                        pass
        self.response.release()
