"""The connections to all upstreams: one aiohttp session, without redirects, cookies and, by default, proxies of the
environment."""

from __future__ import annotations

import functools
import io
import os
import select
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import certifi
from aiohttp.client_proto import ResponseHandler
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

    async def post(
        self, url: URL, body: bytes, headers: Mapping[str, str], *, connect: float, silence: float
    ) -> aiohttp.ClientResponse:
        """Send a request and wait for the header of its reply, which is to be released.

        Args:
            url: where to.
            body: of the request.
            headers: of the request.
            connect: seconds until a connection must be there.
            silence: seconds that may pass between two parts of the reply.

        Raises:
            aiohttp.ClientError: it failed.
        """
        if self._session is None:
            self._session = self._opened()
        return await self._session.post(
            url,
            data=body if len(body) <= _AT_ONCE else io.BytesIO(body),
            headers=headers,
            allow_redirects=False,
            proxy=self._proxy(url) if self._trust_env else None,
            timeout=_timeout(connect, silence),
        )

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

    @staticmethod
    def _proxy(url: URL) -> str | None:
        """The proxy that the environment names. aiohttp's own `trust_env` would also send passwords of ~/.netrc."""
        if url.host is None or proxy_bypass(f"{url.host}:{url.port}"):
            return None
        proxies = getproxies()
        proxy = proxies.get(url.scheme) or proxies.get("all")
        return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


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
