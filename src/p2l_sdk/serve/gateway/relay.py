"""Sending an answer to the client, who may disconnect before it is complete."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from p2l_sdk.errors import P2LError
from p2l_sdk.serve.errors import SERVER, as_reply
from p2l_sdk.serve.gateway.call import UpstreamError
from p2l_sdk.serve.gateway.sse import error_event, event_of
from p2l_sdk.serve.gateway.upstream import Answer

_UNWATCHED_SECONDS = 0.01  # of work, before anybody looks whether its client is still there
_READING_SECONDS = 10.0  # grace after the deadline for a client that does not read what it is sent
Result = TypeVar("Result")


class Disconnected(Exception):  # noqa: N818  named for what happened
    """The client disconnected."""


async def while_connected(
    receive: Receive, work: Coroutine[Any, Any, Result], patience: Callable[[], float] = lambda: 0.0
) -> Result:
    """The result of the work, which is cancelled if the client disconnects. The request's body must have been read.

    Args:
        receive: of ASGI.
        work: to do.
        patience: is asked when the client disconnects: for how many seconds the work goes on all the same.

    Raises:
        Disconnected: the client disconnected before the work was done.
    """
    own, left, watching = asyncio.current_task(), False, None
    assert own is not None
    before = own.cancelling()

    async def watch() -> None:
        nonlocal left
        with contextlib.suppress(Exception):  # a connection of which nothing can be heard is none
            await _disconnect(receive)
        await asyncio.sleep(patience())
        left = True
        own.cancel()

    def begin_to_watch() -> None:
        nonlocal watching
        watching = asyncio.ensure_future(watch())

    # the work needs no task of its own: each change of tasks is another turn of the event loop; nor does the watch
    # before the work has come to where it waits
    waits = asyncio.get_running_loop().call_later(_UNWATCHED_SECONDS, begin_to_watch)
    try:
        return await work
    except asyncio.CancelledError:
        if left and own.cancelling() == before + 1:  # nobody else wants the task to end
            raise Disconnected from None
        raise
    finally:
        waits.cancel()
        if watching is not None:
            watching.cancel()
        if left:
            own.uncancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


Begun = tuple[Answer, dict[str, str]]  # an answer that has begun, and the headers of the reply


async def within(seconds: float | None, task: asyncio.Task[Begun]) -> Begun | None:
    """The result of the task if it is there within the seconds (None: however long it takes), else None. If the caller
    is cancelled, the task is too."""
    try:
        done, _ = await asyncio.wait((task,), timeout=seconds)
    except asyncio.CancelledError:
        await dropped(task)
        raise
    return task.result() if done else None


async def dropped(task: asyncio.Task[Begun]) -> None:
    """Cancel a task that begins an answer; if it has begun meanwhile, end it."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled() and task.exception() is None:
        await task.result()[0].close()


class StreamedAnswer(Response):
    """Relays a stream event by event; if the upstream breaks off or the deadline passes, ends it with an error event.

    It may start before there is an answer. Comments then keep the client's connection alive; the headers that name the
    LLM come as comments, before the first event, and an error that would have had a status comes as an event.

    Args:
        answer: the answer, whose first events have arrived, with its headers; or the task that begins it.
        headers: of a reply that starts before the answer has begun.
        ends: the deadline, on the monotonic clock.
        done: called once at the end, before the client can have read the last of it, with how it ended: "done",
            "disconnected", "deadline", the kind of the upstream's failure, or the status of an error that came instead
            of an answer.
        ping: after so many seconds of silence, a comment is sent; None for never.
        patience: for how many seconds the answer is read on, for its count, when the client has disconnected.
    """

    def __init__(
        self,
        answer: Begun | asyncio.Task[Begun],
        headers: dict[str, str],
        *,
        ends: float,
        done: Callable[[str], None],
        ping: float | None = None,
        patience: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._waits = answer if isinstance(answer, asyncio.Task) else None
        self._begun = None if isinstance(answer, asyncio.Task) else answer
        if self._begun is not None:
            headers = self._begun[1]
        super().__init__(headers={"content-type": "text/event-stream", **headers, "cache-control": "no-cache"})
        del self.headers["content-length"]
        self._ends, self._ping, self._patience = ends, ping, patience
        self._done: Callable[[str], None] | None = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the answer on (ASGI)."""
        end = "disconnected"
        try:
            async with asyncio.timeout(max(0.0, self._ends - time.monotonic()) + _READING_SECONDS):
                end = await while_connected(receive, self._send(send), self._patience)
        except Disconnected:
            pass
        except (TimeoutError, OSError):
            pass  # nothing more can be sent to the client
        finally:
            with contextlib.suppress(Exception):
                if self._begun is not None:
                    await self._begun[0].close()
                elif self._waits is not None:
                    await dropped(self._waits)
            self._finish(end)

    def _finish(self, end: str) -> None:
        """Tell how it ended: a client sends its next request as soon as it has read the end of this one, which must be
        settled by then."""
        done, self._done = self._done, None
        if done is not None:
            done(end)

    async def _send(self, send: Send) -> str:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with _Body(send, self._ping) as body:
            if self._waits is not None:
                try:
                    self._begun = await self._waits
                except P2LError as error:
                    status, reply, _ = as_reply(error)
                    self._finish(str(status))
                    await body.send(event_of(reply))
                    return str(status)
                except Exception:
                    self._finish("error")
                    await body.send(
                        error_event("the server has made a mistake; its log says where", SERVER, "internal_error")
                    )
                    raise
                lines = [f": {name}: {value}\n" for name, value in self._begun[1].items() if name.startswith("x-p2l-")]
                await body.send("".join(lines).encode() + b"\n")
            assert self._begun is not None
            return await self._relay(self._begun[0], body)

    async def _relay(self, answer: Answer, body: _Body) -> str:
        parts = aiter(answer.stream.rest()) if answer.stream is not None else None
        name = answer.llm.name
        if answer.stream is None or answer.stream.events.done:
            self._finish("done")
        try:
            await body.send(bytes(answer.content))
            while parts is not None:
                async with asyncio.timeout(max(0.0, self._ends - time.monotonic())):
                    part = await anext(parts, None)
                if part is None:
                    break
                if answer.stream is not None and answer.stream.events.done:
                    self._finish("done")
                await body.send(part)
        except TimeoutError:
            self._finish("deadline")
            await body.send(error_event(f"{name} did not end its answer in time", SERVER, "deadline"))
            return "deadline"
        except UpstreamError as error:
            self._finish(error.kind)
            await body.send(error_event(f"{name} {error}", SERVER, "upstream_error"))
            return error.kind
        self._finish("done")
        return "done"


class _Body:
    """Sends the body of a stream in whole events and, after each `ping` seconds of silence, a comment; at the end, the
    end of the body."""

    def __init__(self, send: Send, ping: float | None) -> None:
        self._send, self._ping = send, ping
        self._last = time.monotonic()
        self._pinging: asyncio.Task[None] | None = None

    async def __aenter__(self) -> _Body:
        if self._ping is not None:
            self._pinging = asyncio.ensure_future(self._keep_alive(self._ping))
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if self._pinging is not None:
            self._pinging.cancel()
            await asyncio.gather(self._pinging, return_exceptions=True)
        if kind is None:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def send(self, part: bytes) -> None:
        self._last = time.monotonic()
        await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def _keep_alive(self, seconds: float) -> None:
        while True:
            wait = self._last + seconds - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            else:
                await self.send(b": waiting\n\n")
