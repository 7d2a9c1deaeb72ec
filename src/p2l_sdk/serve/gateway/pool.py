"""The connections to all upstreams: one httpx client over several small connection pools."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

_POOLS = 16


def create_client(trust_env: bool = False) -> httpx.AsyncClient:
    """A client for all upstreams, without redirects, cookies and, by default, proxies of the environment.

    Args:
        trust_env: whether proxies of the environment (HTTPS_PROXY, ...) are used; if so, there is a single pool.
    """
    # vLLM and other servers on uvicorn close connections after 5 s of idling; ours must be closed before that
    limits = httpx.Limits(max_connections=2000, max_keepalive_connections=500, keepalive_expiry=4.0)
    # all callers share the client: a cookie set for one of them must not be sent with another one's request
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    settings: dict[str, Any] = {"follow_redirects": False, "cookies": no_cookies, "trust_env": trust_env}
    if trust_env:
        return httpx.AsyncClient(limits=limits, **settings)
    return httpx.AsyncClient(transport=SpreadTransport(limits), **settings)


class SpreadTransport(httpx.AsyncBaseTransport):
    """Several connection pools; a request uses the one with the fewest requests in progress, the first if several tie.

    httpcore does quadratic work over the connections of a pool whenever a request begins or ends: 3 ms of CPU per
    request with 200 at a time. Under low load all requests use the warm connections of the first pool. httpcore closes
    idle connections only on such occasions, so a pool that only a burst used is emptied here, after being quiet for as
    long as an idle connection may live.
    """

    def __init__(self, limits: httpx.Limits, pools: int = _POOLS) -> None:
        tls = httpx.create_ssl_context(trust_env=False)  # shared: creating one takes time and memory
        self._pools = [httpx.AsyncHTTPTransport(verify=tls, limits=limits, trust_env=False) for _ in range(pools)]
        self._under_way = [0] * pools
        self._seconds = limits.keepalive_expiry
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._emptying: dict[int, asyncio.Task[None]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request through one of the pools."""
        i = self._under_way.index(min(self._under_way))
        self._begins(i)
        try:
            response = await self._pools[i].handle_async_request(request)
        except BaseException:
            self._ended(i)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Stream(response.stream, functools.partial(self._ended, i))
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        for timer in self._timers.values():
            timer.cancel()
        await asyncio.gather(*(pool.aclose() for pool in self._pools), *self._emptying.values())

    def _begins(self, i: int) -> None:
        self._under_way[i] += 1
        if (timer := self._timers.pop(i, None)) is not None:
            timer.cancel()

    def _ended(self, i: int) -> None:
        self._under_way[i] -= 1
        if self._under_way[i] == 0 and self._seconds is not None:
            self._timers[i] = asyncio.get_running_loop().call_later(self._seconds, self._quiet, i)

    def _quiet(self, i: int) -> None:
        self._emptying[i] = asyncio.ensure_future(self._empty(i))

    async def _empty(self, i: int) -> None:
        if self._under_way[i] == 0:  # no request has come since
            await self._pools[i].aclose()


class _Stream(httpx.AsyncByteStream):
    """The body of a response; closing it ends the request in the pool's count."""

    def __init__(self, stream: httpx.AsyncByteStream, ended: Callable[[], None]) -> None:
        self._stream, self._ended = stream, ended
        self._open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            self._ended()
        await self._stream.aclose()
