"""HTTP/1.1 as it reaches the server: uvicorn's fast protocol on httptools, within `ConnectionLimits`.

uvicorn reads headers of any length, for as long as they take, and its parser copies a field again with each part of it
that arrives. Of a request that asks for another protocol (Upgrade: h2c, as Java's clients do) it loses the body and may
run it as the next request; here the wish is ignored, as RFC 9110 allows. llhttp, under httptools, already refuses what
two readers could end at different places: a length twice, or with chunks, bare line feeds, folded lines.
"""

from __future__ import annotations

import asyncio
import functools
from http.client import responses
from typing import Any

import httptools
import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from p2l_sdk.serve.connections import Connections
from p2l_sdk.serve.errors import ApiError, HeaderTooLarge, Malformed

_VERSIONS = ("1.1", "1.0")
_FREE_PARTS, _SMALLEST_PART = 10_000, 64  # bytes on average: each part, or chunk, costs as much as a small request
_PIPELINED = 16  # requests that one connection may have waiting for their turn
_JOINED = 64 * 1024  # bytes of a body, which are copied sooner than they are sent by themselves


class _Sender:
    """A transport that sends the header of a reply together with what follows in the same turn of the event loop:
    uvicorn writes them one after the other, and each send costs as much as the rest of its work.

    Args:
        transport: of a connection.
        loop: that it is served by.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._header = b""  # that waits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send what is no header, and the header before it."""
        if not self._header and data[:5] == b"HTTP/":
            self._header = data
            self._loop.call_soon(self._flush)
            return
        if self._header and len(data) <= _JOINED:
            data, self._header = self._header + data, b""
        self._flush()
        self._transport.write(data)

    def close(self) -> None:
        """Close when all has been sent."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        header, self._header = self._header, b""
        if header and not self._transport.is_closing():
            self._transport.write(header)


class LimitedProtocol(HttpToolsProtocol):
    """One connection.

    Args:
        connections: that it belongs to, with their limits.
        config, server_state, app_state, _loop: from uvicorn.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._connections, self._limits = connections, connections.limits
        self._deaf = False  # whatever else comes is not read
        self._pending = 0  # bytes read since the last complete header or part of a body
        self._in_header, self._whole = False, True  # of the request that is being read, the latest
        self._parts = self._body_bytes = 0  # of the body that is being read
        self._fault: ApiError | None = None  # found in a callback of the parser

    # --- what `Connections` needs ---

    def refuse(self, error: ApiError) -> None:
        """Say why, if nothing else is being said, and close."""
        if self._deaf:
            return
        self._deaf = True
        cycle = self.cycle
        answering = cycle is not None and not cycle.response_complete
        if self.pipeline or (answering and cycle.response_started and cycle.more_body):
            self.drop()
        elif answering and not cycle.more_body:
            cycle.keep_alive = False  # the fault is in what follows; the answer is completed first
        else:
            if answering:  # the fault is in its own body: nobody is there any more, as the endpoint sees it
                cycle.disconnected = True
                cycle.message_event.set()
            if answering or self._in_header:  # else there is no request that it could answer
                self.transport.write(_reply(error))
            self.transport.close()

    def close(self) -> None:
        """Close when all has been sent."""
        self._deaf = True
        self.transport.close()

    def drop(self) -> None:
        """Close at once."""
        self._deaf = True
        self.transport.abort()

    def unsent(self) -> int:
        """Bytes that the client has not taken yet."""
        return self.transport.get_write_buffer_size()

    # --- the connection ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(_Sender(transport, self.loop))  # type: ignore[arg-type]
        refusal = self._connections.admit(self, None if self.client is None else self.client[0])
        if refusal is not None:
            self._deaf = True
            transport.write(_reply(refusal))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._connections.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what has come, never more at a time than a header may be long."""
        self._unset_keepalive_if_required()
        if len(data) + self._pending <= self._limits.max_header_bytes:
            self._feed(data)
            return
        rest = memoryview(data)
        while rest and not self._deaf:
            size = self._limits.max_header_bytes + 1 - self._pending
            self._feed(rest[:size])
            rest = rest[size:]

    def _feed(self, part: bytes | memoryview) -> None:
        if self._deaf or self.parser is None:
            return
        self._pending += len(part)
        try:
            self.parser.feed_data(part)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(part[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            if not self._deaf:
                fault, self._fault = self._fault or Malformed("this is no HTTP/1.1 that can be trusted"), None
                self._connections.refused(fault.code)
                self.refuse(fault)
            return
        if self._pending > self._limits.max_header_bytes:
            self._connections.refused(HeaderTooLarge.code)
            self.refuse(self._too_large())

    def _ignore_upgrade(self, rest: bytes | memoryview) -> None:
        """Read the request again without its wish for another protocol, and then what follows its header."""
        method, headers = self.parser.get_method(), self.headers
        if method == b"CONNECT":
            self.refuse(Malformed("this server is no proxy; send it requests of its own"))
            return
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in headers:
            if name == b"connection":
                wishes = (wish.strip() for wish in value.split(b","))
                value = b", ".join(wish for wish in wishes if wish.lower() in (b"close", b"keep-alive"))
            if name not in (b"upgrade", b"http2-settings"):
                lines.append(b"%b: %b" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self._pending = 0
        self._feed(b"\r\n".join([*lines, b"", b""]))
        self._feed(rest)

    # --- callbacks of the parser; an exception ends it ---

    def on_message_begin(self) -> None:
        """A request begins (not before the first byte of its line: clients may send an empty one after a body)."""
        super().on_message_begin()
        self._in_header = True
        self._connections.heard(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the header. Those behind a body (trailers) are left out: they would change the header after
        everyone has looked at it."""
        if not self._in_header:
            return
        if len(self.headers) >= self._limits.max_headers:
            self._fail(self._too_large())
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The header is complete."""
        self._check()
        if self.parser.should_upgrade():
            return  # it is read again
        if len(self.pipeline) >= _PIPELINED:
            self._deaf, self.pipeline[0][0].keep_alive = True, False  # the last of them, which is answered yet
            raise ValueError("too many")
        super().on_headers_complete()
        self._pending, self._in_header, self._whole = 0, False, False
        self._parts = self._body_bytes = 0
        self._connections.works(self)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._pending = 0
        self._parts += 1
        self._body_bytes += len(body)
        if self._parts > _FREE_PARTS + self._body_bytes / _SMALLEST_PART:
            self._fail(Malformed("the body comes in tiny parts; send it in larger ones"))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self.parser.should_upgrade():
            return
        self._pending, self._whole = 0, True
        super().on_message_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._connections.rests(self)

    def on_response_complete(self) -> None:
        """A request has been answered, perhaps before all of it has come."""
        alone = not self.pipeline
        super().on_response_complete()
        if alone and not self.transport.is_closing():
            if self._whole and not self._in_header:
                self._connections.rests(self)
            else:
                self._connections.waits(self)

    def _check(self) -> None:
        """Refuse what a proxy before the server may have read differently."""
        hosts, version = 0, self.parser.get_http_version()
        if version not in _VERSIONS:
            self._fail(Malformed("this server speaks HTTP/1.1"))
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding" and (value.lower() != b"chunked" or version == "1.0"):
                self._fail(Malformed("the only transfer encoding here is chunked, of HTTP/1.1"))
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            self._fail(Malformed("a request has one header Host"))

    def _fail(self, fault: ApiError) -> None:
        self._fault = fault
        raise ValueError(str(fault))

    def _too_large(self) -> HeaderTooLarge:
        limits = self._limits
        return HeaderTooLarge(
            f"a header has at most {limits.max_headers} fields and {limits.max_header_bytes} bytes; send less"
        )


def limited_protocol(connections: Connections) -> Any:
    """`LimitedProtocol` for `uvicorn.Config(http=...)`, whose connections belong to these."""
    return functools.partial(LimitedProtocol, connections=connections)


def _reply(error: ApiError) -> bytes:
    """A whole reply, for a request that never reaches the application."""
    body = orjson.dumps(error.body())
    fields = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    lines = [f"HTTP/1.1 {error.status} {responses.get(error.status, '')}"]
    lines += [f"{name}: {value}" for name, value in {**fields, **error.headers}.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
