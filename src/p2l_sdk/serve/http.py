"""What every request passes: the limits of its body, one error shape, the count of what was answered."""

from __future__ import annotations

import asyncio
import logging
import re
import traceback
from collections.abc import Awaitable, Callable, Sequence
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
from p2l_sdk.serve.errors import (
    INVALID,
    SERVER,
    ApiError,
    BodyTimeout,
    BodyTooLarge,
    Forbidden,
    InvalidBody,
    as_reply,
    error_body,
)
from p2l_sdk.serve.metrics import ServerMetrics

_log = logging.getLogger("p2l_sdk.serve")
_READ_ON_THE_LOOP = 256 * 1024  # bytes of a body, for a millisecond or so
Parsed = TypeVar("Parsed")


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON reply, as it is: no second validation."""
    content = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return Response(content, status, headers, media_type="application/json")


async def parsed(body: bytes, parse: Callable[[bytes], Parsed]) -> Parsed:
    """What a body says. A large one is read on a thread, so that the event loop can go on."""
    return parse(body) if len(body) <= _READ_ON_THE_LOOP else await asyncio.to_thread(parse, body)


def error_response(error: Exception, path: str = "") -> Response:
    """Any error of a request in OpenAI's shape: ours, that of a path or method that is not there (404, 405) or of a
    guard, and that of FastAPI's own validation. The path tells what was looked for."""
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
    """Every error that FastAPI meets in OpenAI's shape."""

    async def answer(request: Request, error: Exception) -> Response:
        return error_response(error, request.scope["path"])

    for kind in (P2LError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, answer)


Guard = Callable[[Request], Awaitable[None]]


class BareRoute(APIRoute):
    """An endpoint `async (request) -> response`: FastAPI describes it, and need not be there when it is asked."""

    def straight(self, guards: Sequence[Guard]) -> ASGIApp:
        """It as an application: the guards, the endpoint, the reply. FastAPI's own way to it takes longer than the
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
    """The ASGI layer around the app. It stops what pages of other sites send, bodies over the limit while they come in,
    and those that do not come, answers what nobody caught with a plain 500 (the log gets its kind and place, not its
    text), and counts.

    Args:
        app: what is inside.
        max_body_bytes: of one request.
        body_seconds: within which the body of a request must be here.
        metrics: where it counts.
        local_only: whether requests must name this machine (localhost, 127.x.x.x, [::1]) as their `Host`. A server
            without keys needs it: a site may let its own name point here, and its pages are then of one origin with us.
        origins: pages of other addresses that may ask.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        body_seconds: float,
        metrics: ServerMetrics,
        local_only: bool = False,
        origins: Sequence[str] = (),
    ) -> None:
        self._app, self._limit, self._metrics, self._local_only = app, max_body_bytes, metrics, local_only
        self._seconds = body_seconds
        self._origins = {origin.lower().encode() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, received, whole = perf_counter(), 0, 0, False

        async def limited() -> Message:
            nonlocal received, whole
            if whole:  # what comes now says that the client is gone
                return await receive()
            try:
                async with asyncio.timeout(started + self._seconds - perf_counter()):
                    message = await receive()
            except TimeoutError:
                headers = {"Connection": "close"}  # what is missing of the body may still come
                text = f"the body did not come within {self._seconds:g} s; send it again"
                raise BodyTimeout(text, headers=headers) from None
            whole = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self._limit:
                raise self._too_large()
            return message

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if (refusal := self._refusal(scope)) is not None:
                await error_response(refusal)(scope, receive, seen)
            else:
                await self._app(scope, limited, seen)
        except ClientDisconnect:
            status = 499  # nobody is there to be answered
        except (P2LError, HTTPException) as error:
            if status == 0:
                await error_response(error)(scope, receive, seen)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            _log.error("a request failed: %s at %s:%s", type(error).__name__, frame.filename, frame.lineno)
            if status:  # it is on its way: all that is left is to break it off
                raise ConnectionError("broken off") from None
            body = error_body("the server has made a mistake; its log says where", SERVER, code="internal_error")
            await json_response(body, 500)(scope, receive, seen)
        finally:
            route = scope.get("route")
            self._metrics.request(getattr(route, "path", "other"), status)
            self._metrics.stage("http", perf_counter() - started)

    def _refusal(self, scope: Scope) -> ApiError | None:
        """Why the request may not pass, by its headers."""
        headers = dict(scope["headers"])
        host, origin = headers.get(b"host", b"").lower(), headers.get(b"origin")  # browsers send both
        if origin is not None and origin.lower() not in self._origins and _foreign(origin.lower(), host):
            return Forbidden(
                "a page of another address asks; let the server allow its origin (p2l serve --origin), or the proxy "
                "before it pass the header Host as it came"
            )
        if self._local_only and host and not _THIS_MACHINE.fullmatch(host):
            return Forbidden(
                "this server has no API keys, so it answers to localhost and 127.0.0.1 only; give it keys to call it "
                "by another name"
            )
        length = headers.get(b"content-length", b"")
        if length.isdigit() and (len(length) > 19 or int(length) > self._limit):
            return self._too_large()
        return None

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than {self._limit} bytes; send less in one request")


_THIS_MACHINE = re.compile(rb"(localhost|127(\.\d{1,3}){1,3}|\[::1\])(:\d+)?")


def _foreign(origin: bytes, host: bytes) -> bool:
    """Whether it is another one's page. Browsers leave the usual port out, a proxy may write it; "null" is no place."""
    scheme, _, place = origin.partition(b"://")
    usual = {b"http": b":80", b"https": b":443"}.get(scheme, b"")
    return not place or place != host.removesuffix(usual)
