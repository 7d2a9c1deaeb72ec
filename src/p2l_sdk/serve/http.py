"""What every request passes through: limits of its body, one error shape, counters."""

from __future__ import annotations

import asyncio
import logging
import re
import traceback
from collections.abc import Awaitable, Callable, Hashable, Sequence
from http.client import responses
from time import perf_counter
from typing import Any, TypeVar

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2l_sdk.errors import P2LError
from p2l_sdk.serve.bodies import LARGE_BODY, BodyRoom
from p2l_sdk.serve.decoding import Decoder
from p2l_sdk.serve.errors import (
    INVALID,
    SERVER,
    BodyTimeout,
    BodyTooLarge,
    Forbidden,
    InvalidBody,
    as_reply,
    error_body,
)
from p2l_sdk.serve.metrics import ServerMetrics
from p2l_sdk.serve.origins import is_foreign, origin_pattern

_log = logging.getLogger("p2l_sdk.serve")
READ_ON_THE_LOOP = 256 * 1024  # bytes of a body, which take about a millisecond
_MOST_VALUES = 1_000_000  # in text, one character in thirty to fifty is a comma or an opening bracket
Parsed = TypeVar("Parsed")


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON reply, encoded without validation by FastAPI."""
    content = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return Response(content, status, headers, media_type="application/json")


async def parsed(body: bytes, parse: Callable[[bytes], Parsed]) -> Parsed:
    """The parsed body. A large one is parsed on a thread, so as not to block the event loop.

    Raises:
        BodyTooLarge: it may hold so many values that they would need many times its size.
    """
    if len(body) <= READ_ON_THE_LOOP:
        return parse(body)
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise BodyTooLarge(f"the body holds more than {_MOST_VALUES:,} commas and brackets; send less in one request")
    return await asyncio.to_thread(parse, body)


def error_response(error: Exception, path: str = "") -> Response:
    """Any error of a request in OpenAI's shape: a P2LError, an HTTPException (404, 405, or raised by a guard) or an
    error of FastAPI's own validation. `path` is that of the request, for the text of a 404."""
    if isinstance(error, RequestValidationError):
        fault = error.errors()[0]
        place = ".".join(str(step) for step in fault["loc"][:2])
        error = InvalidBody(f"{place}: {fault['msg']}", param=place)
    if isinstance(error, P2LError):
        status, body, headers = as_reply(error)
        return json_response(body, status, headers)
    assert isinstance(error, HTTPException)
    if isinstance(error.detail, dict) and "error" in error.detail:
        body = error.detail
    else:
        phrase = responses.get(error.status_code, "error")
        remedy = _remedy(error.status_code, path) if error.detail == phrase else None
        body = error_body(remedy or str(error.detail), INVALID, code=phrase.lower().replace(" ", "_"))
    return json_response(body, error.status_code, dict(error.headers or {}))


_REMEDIES = {
    404: "there is no such endpoint; /openapi.json lists them",
    405: "this endpoint does not take that method; the header Allow names those it takes",
}
_ROUTERS = re.compile(r"/v1/(chat/completions|models(/.*)?)", re.DOTALL)


def _remedy(status: int, path: str) -> str | None:
    if status == 404 and _ROUTERS.fullmatch(path):
        return "this server is no router, so it has no such endpoint; start it with p2l serve --config"
    return _REMEDIES.get(status)


def add_error_handlers(app: FastAPI) -> None:
    """Return every error that FastAPI handles in OpenAI's shape."""

    async def answer(request: Request, error: Exception) -> Response:
        return error_response(error, request.scope["path"])

    for kind in (P2LError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, answer)


Guard = Callable[[Request], Awaitable[None]]


class BareRoute(APIRoute):
    """An endpoint `async (request) -> response`: FastAPI documents it, but is not needed to call it."""

    def application(self, guards: Sequence[Guard]) -> ASGIApp:
        """The endpoint with its guards as an ASGI application. FastAPI's own request handling takes longer than the
        default model takes to read a prompt."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            scope["route"] = self
            request = Request(scope, receive, send)
            for guard in guards:
                await guard(request)
            response = await self.endpoint(request)
            await response(scope, receive, send)

        return answer


class Gate:
    """The ASGI layer around the app. It refuses requests from pages of other sites, bodies over the limit (while they
    arrive, and are decoded) and bodies that do not arrive in time, answers uncaught exceptions with a plain 500 (their
    type and place are logged, not their text), and counts requests.

    Args:
        app: the application inside.
        max_body_bytes: limit per request.
        body_seconds: time within which the body of a request must have arrived.
        room: for large bodies.
        metrics: counts the requests.
        local_only: whether the `Host` of a request must be this machine (localhost, 127.x.x.x, [::1]). A server without
            keys needs this: a site can point a domain of its own here, and its pages then have the same origin as ours.
        origins: other sites and applications whose pages may call the server, see `origin_pattern`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        body_seconds: float,
        room: BodyRoom,
        metrics: ServerMetrics,
        local_only: bool = False,
        origins: Sequence[str] = (),
    ) -> None:
        self._app, self._limit, self._metrics, self._local_only = app, max_body_bytes, metrics, local_only
        self._seconds, self._room = body_seconds, room
        self._origins = origin_pattern(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through within the limits (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, received, whole, length = perf_counter(), 0, 0, False, 0
        decoder: Decoder | None = None
        due, decoded = started + self._seconds, 0
        held: tuple[Hashable, int] | None = None  # of the room for large bodies

        async def make_room(size: int) -> None:
            nonlocal held, due
            if held is None and size > LARGE_BODY:
                client = _client(scope)
                await self._room.take(client, size, due - perf_counter())
                held, due = (client, size), perf_counter() + self._seconds

        async def limited() -> Message:
            nonlocal received, whole, decoded
            if whole:  # all that can follow is the client's disconnect
                return await receive()
            await make_room(length if decoder is None else 0)
            try:
                async with asyncio.timeout(due - perf_counter()):
                    message = await receive()
            except TimeoutError:
                headers = {"Connection": "close"}  # the rest of the body may still arrive
                text = f"the body did not come within {self._seconds:g} s; send it again"
                raise BodyTimeout(text, headers=headers) from None
            whole = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self._limit:
                raise self._too_large()
            if decoder is not None:
                message = {**message, "body": await decoder.feed(message.get("body", b""), whole)}
            decoded += len(message.get("body", b""))
            if decoded > LARGE_BODY:
                await make_room(self._limit)  # nobody has said how large it will be
            return message

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            try:
                await send(message)
            except RuntimeError as error:
                if "closed" in str(error):  # what uvloop says of a connection that was reset
                    raise ClientDisconnect from None
                raise

        try:
            headers = dict(scope["headers"])
            length = self._check(headers)
            if b"content-encoding" in headers:
                decoder = self._decoder(scope)
            await self._app(scope, limited, seen)
        except ClientDisconnect:
            status = 499  # there is nobody left to answer
        except (P2LError, HTTPException) as error:
            if status == 0:
                await error_response(error)(scope, receive, seen)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            _log.error("a request failed: %s at %s:%s", type(error).__name__, frame.filename, frame.lineno)
            if status:  # the reply has begun, so it can only be broken off
                raise ConnectionError("broken off") from None
            body = error_body("the server has made a mistake; its log says where", SERVER, code="internal_error")
            await json_response(body, 500)(scope, receive, seen)
        finally:
            if held is not None:
                self._room.give(*held)
            route = scope.get("route")
            self._metrics.request(getattr(route, "path", "other"), status)
            self._metrics.stage("http", perf_counter() - started)

    def _check(self, headers: dict[bytes, bytes]) -> int:
        """Refuse a request by its headers. Returns the length of its body, in bytes, 0 if they do not say."""
        host, origin = headers.get(b"host", b""), headers.get(b"origin")  # browsers send both
        if origin is not None and self._is_foreign(origin.decode("latin-1"), host.decode("latin-1")):
            raise Forbidden(
                "a page of another address asks; let the server allow its origin (p2l serve --origin), or the proxy "
                "before it pass the header Host as it came"
            )
        if self._local_only and host and not _THIS_MACHINE.fullmatch(host):
            raise Forbidden(
                "this server has no API keys, so it answers to localhost and 127.0.0.1 only; give it keys to call it "
                "by another name"
            )
        text = headers.get(b"content-length", b"")
        if text.isdigit() and (len(text) > 19 or int(text) > self._limit):
            raise self._too_large()
        return int(text) if text.isdigit() else 0

    def _is_foreign(self, origin: str, host: str) -> bool:
        return is_foreign(origin, host) and (self._origins is None or not self._origins.fullmatch(origin))

    def _decoder(self, scope: Scope) -> Decoder | None:
        """The decoder of a body; to the application it looks as if it had never been encoded."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        decoder = Decoder.of([value for name, value in headers if name == b"content-encoding"], self._limit)
        told = (b"content-encoding",) if decoder is None else (b"content-encoding", b"content-length")
        scope["headers"] = [(name, value) for name, value in headers if name not in told]
        return decoder

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than {self._limit} bytes; send less in one request")


def _client(scope: Scope) -> Hashable:
    """Who sends a request: its key if it has been asked for, else its address."""
    key = scope.get("state", {}).get("key")
    return getattr(key, "digest", None) or (scope.get("client") or ("",))[0]


_THIS_MACHINE = re.compile(rb"(localhost|127(\.\d{1,3}){1,3}|\[::1\])(:\d+)?", re.IGNORECASE)
