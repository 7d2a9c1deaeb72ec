"""Sending an answer to the client, who may disconnect before it is complete."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from p2l_sdk.serve.errors import SERVER
from p2l_sdk.serve.gateway.call import UpstreamError
from p2l_sdk.serve.gateway.sse import error_event
from p2l_sdk.serve.gateway.upstream import Answer

_READING_SECONDS = 10.0  # grace after the deadline for a client that does not read what it is sent
Result = TypeVar("Result")


class Disconnected(Exception):  # noqa: N818  named for what happened
    """The client disconnected."""


async def while_connected(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of the work, which is cancelled if the client disconnects. The request's body must have been read.

    Raises:
        Disconnected: the client disconnected before the work was done.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Disconnected
        return task.result()
    finally:
        for future in (task, gone):
            future.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class StreamedAnswer(Response):
    """Relays a stream event by event; if the upstream breaks off or the deadline passes, ends it with an error event.

    Args:
        answer: the answer, whose first events have arrived.
        headers: of the reply.
        ends: the deadline, on the monotonic clock.
        done: called once at the end with how it ended: "done", "disconnected", "deadline", or the kind of the
            upstream's failure.
    """

    def __init__(self, answer: Answer, headers: dict[str, str], ends: float, done: Callable[[str], None]) -> None:
        super().__init__(status_code=answer.status, headers={**headers, "cache-control": "no-cache"})
        del self.headers["content-length"]
        self._answer, self._ends, self._done = answer, ends, done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the answer on (ASGI)."""
        end = "disconnected"
        try:
            async with asyncio.timeout(max(0.0, self._ends - time.monotonic()) + _READING_SECONDS):
                end = await while_connected(receive, self._send(send))
        except Disconnected:
            pass
        except (TimeoutError, OSError):
            pass  # nothing more can be sent to the client
        finally:
            with contextlib.suppress(Exception):
                await self._answer.close()
            self._done(end)

    async def _send(self, send: Send) -> str:
        async def body(part: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": part, "more_body": more})

        end = "done"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await body(bytes(self._answer.content))
        parts = aiter(self._answer.stream.rest()) if self._answer.stream is not None else None
        name = self._answer.llm.name
        try:
            while parts is not None:
                async with asyncio.timeout(max(0.0, self._ends - time.monotonic())):
                    part = await anext(parts, None)
                if part is None:
                    break
                await body(part)
        except TimeoutError:
            end = "deadline"
            await body(error_event(f"{name} did not end its answer in time", SERVER, "deadline"))
        except UpstreamError as error:
            end = error.kind
            await body(error_event(f"{name} {error}", SERVER, "upstream_error"))
        await body(b"", more=False)
        return end
