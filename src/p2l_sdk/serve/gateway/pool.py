"""The connections to all upstreams: one aiohttp session, without redirects, cookies and, by default, proxies of the
environment.

A usual request goes past the session's own request handling, straight to a connection of its pool: that handling takes
longer than all that the gateway does with a request.
"""

from __future__ import annotations

import asyncio
import functools
import io
import os
import select
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import certifi
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from yarl import URL

# vLLM and other servers on uvicorn close connections after 5 s of idling; ours must be closed before that
_IDLE_SECONDS = 4.0
_LONGEST_HEADER = 64 * 1024  # bytes of one field
_AT_ONCE = 2**20  # bytes of a body; a larger one is written in parts, so that others get their turns


class UpstreamClient:
    """Calls upstreams. It opens its session with the first call, and closes it as a context manager.

    How many calls there are at a time is bounded by the connections of the clients that wait for them.

    Args:
        trust_env: whether proxies (HTTPS_PROXY, ...) and authorities (SSL_CERT_FILE, ...) of the environment are used.
    """

    def __init__(self, trust_env: bool = False) -> None:
        self._trust_env = trust_env
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> UpstreamClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session, which is opened when it is first asked for."""
        if self._session is None:
            self._session = self._opened()
        return self._session

    def proxy(self, url: URL) -> str | None:
        """The proxy for an address, None without one. aiohttp's own `trust_env` would also send passwords of
        ~/.netrc."""
        if not self._trust_env or url.host is None or proxy_bypass(f"{url.host}:{url.port}"):
            return None
        proxies = getproxies()
        proxy = proxies.get(url.scheme) or proxies.get("all")
        return proxy if proxy is None or "://" in proxy else f"http://{proxy}"

    def _opened(self) -> aiohttp.ClientSession:
        own = self._trust_env and ("SSL_CERT_FILE" in os.environ or "SSL_CERT_DIR" in os.environ)
        tls = ssl.create_default_context(cafile=None if own else certifi.where())
        tls.set_alpn_protocols(["http/1.1"])
        return aiohttp.ClientSession(
            connector=_Connector(
                limit=0, keepalive_timeout=_IDLE_SECONDS, ssl=tls, resolver=aiohttp.ThreadedResolver()
            ),
            # all callers share the session: a cookie set for one of them must not be sent with another one's request
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # it would make 60 MB of 60 kB
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
        )


@dataclass(slots=True)
class Response:
    """The reply of an upstream whose header has come.

    Attributes:
        status: of the reply.
        headers: of the reply; their names in any case.
        content: the body, as it comes.
        release: gives the connection back, or closes it if there is more to come; at the end of the body this has been
            done.
    """

    status: int
    headers: Mapping[str, str]
    content: aiohttp.StreamReader
    release: Callable[[], object]


class Endpoint:
    """An address that requests are sent to, with the same headers each.

    Args:
        client: whose connections are used.
        url: the address.
        headers: of each request.
    """

    def __init__(self, client: UpstreamClient, url: URL, headers: Mapping[str, str]) -> None:
        self._client, self._url, self._headers = client, url, headers
        self._prepared: tuple[aiohttp.ClientRequest, bytes] | None = None

    async def post(self, body: bytes, *, connect: float, silence: float) -> Response:
        """Send a request and wait for the header of its reply, which is to be released.

        Args:
            body: of the request.
            connect: seconds until a connection must be there.
            silence: seconds that may pass between two parts of the reply.

        Raises:
            aiohttp.ClientError: it failed.
        """
        session, proxy = self._client.session, self._client.proxy(self._url)
        if proxy is not None or len(body) > _AT_ONCE:
            reply = await session.post(
                self._url,
                data=body if len(body) <= _AT_ONCE else io.BytesIO(body),
                headers=self._headers,
                allow_redirects=False,
                proxy=proxy,
                timeout=_timeout(connect, silence),
            )
            return Response(reply.status, reply.headers, reply.content, reply.release)
        if self._prepared is None:
            self._prepared = self._prepare(session)
        request, head = self._prepared
        try:
            assert session.connector is not None
            connection = await session.connector.connect(request, [], _timeout(connect, silence))
        except TimeoutError:
            raise aiohttp.ConnectionTimeoutError from None
        try:
            return await _sent(connection, b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body), silence)
        except HttpProcessingError:
            connection.close()
            raise aiohttp.ClientPayloadError("malformed") from None
        except BaseException:
            connection.close()
            raise

    def _prepare(self, session: aiohttp.ClientSession) -> tuple[aiohttp.ClientRequest, bytes]:
        """A request that says to aiohttp where a connection leads, and the header but for the length of the body."""
        loop = asyncio.get_running_loop()
        request = aiohttp.ClientRequest("POST", self._url, headers=self._headers, loop=loop, session=session)
        lines = [f"POST {self._url.raw_path_qs} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in request.headers.items() if name.lower() != "content-length"]
        return request, "".join(f"{line}\r\n" for line in lines).encode()


async def _sent(connection: Connection, request: bytes, silence: float) -> Response:
    """The reply to a request, whose header has come."""
    protocol = connection.protocol
    if protocol is None or protocol.transport is None or protocol.transport.is_closing():
        raise aiohttp.ClientConnectionResetError("closed")
    protocol.set_response_params(
        read_timeout=silence, read_until_eof=True, auto_decompress=False, max_line_size=_LONGEST_HEADER,
        max_field_size=_LONGEST_HEADER,
    )  # fmt: skip
    protocol.transport.write(request)
    protocol.start_timeout()
    while True:
        message, content = await protocol.read()
        if not 100 <= message.code < 200 or message.code == 101:  # what comes before a reply says nothing
            content.on_eof(connection.release)
            return Response(message.code, message.headers, content, connection.release)


@functools.cache
def _timeout(connect: float, silence: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect, sock_read=silence)


class _Connector(aiohttp.TCPConnector):
    """Uses no idle connection again on which anything has arrived: its end, of which the event loop has not told yet,
    or a reply that nobody asked for, which would be taken for that to the next request. This and `_Handler` mend what
    aiohttp leaves open inside it; tests/serve/test_gateway_connections.py says whether they still do."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        handler: type[ResponseHandler] = _Handler
        self._factory = functools.partial(handler, loop=self._loop)

    async def _get(self, *arguments: Any) -> Any:
        while True:
            connection: Any = await super()._get(*arguments)
            if connection is None or not (connection.protocol.should_close or _readable(connection.transport)):
                return connection
            connection.close()


class _Handler(ResponseHandler):
    """Tells whoever reads a body that it is malformed; aiohttp would let them wait."""

    def set_exception(self, exc: BaseException, *cause: Any, **named: Any) -> None:
        super().set_exception(exc, *cause, **named)
        if isinstance(exc, HttpProcessingError) and self._payload is not None:
            self._payload.set_exception(aiohttp.ClientPayloadError("malformed"))


def _readable(transport: Any) -> bool:
    descriptor = transport.get_extra_info("socket").fileno()
    if not hasattr(select, "poll"):  # on Windows
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
