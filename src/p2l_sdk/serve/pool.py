"""The connections to all upstreams: one httpx client over several small pools."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

_POOLS = 16


def create_client(trust_env: bool = False) -> httpx.AsyncClient:
    """A client for every upstream: no redirects, no cookies, and no proxies of the environment unless asked.

    Args:
        trust_env: whether proxies of the environment (HTTPS_PROXY, ...) are used; then there is one pool.
    """
    # vLLM and other servers on uvicorn close a connection that was idle for 5 s: ours must be gone by then
    limits = httpx.Limits(max_connections=2000, max_keepalive_connections=500, keepalive_expiry=4.0)
    # all callers share the client: what an upstream sets for one of them must not come with the next one's request
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    settings: dict[str, Any] = {"follow_redirects": False, "cookies": no_cookies, "trust_env": trust_env}
    if trust_env:
        return httpx.AsyncClient(limits=limits, **settings)
    return httpx.AsyncClient(transport=SpreadTransport(limits), **settings)


class SpreadTransport(httpx.AsyncBaseTransport):
    """Several pools of connections; a request goes through the one with the fewest under way, the first of equals.

    httpcore looks at all connections of a pool, for each of them, whenever a request begins or ends: 3 ms of
    computing per request with 200 at a time. Where few are under way, all take the warm connections of the first pool.
    It looks at no other time, so the pools that only a burst uses are emptied here, once they are quiet for as long as
    an idle connection may live.
    """

    def __init__(self, limits: httpx.Limits, pools: int = _POOLS) -> None:
        tls = httpx.create_ssl_context(trust_env=False)  # one for all: it takes a while, and some memory
        self._pools = [httpx.AsyncHTTPTransport(verify=tls, limits=limits, trust_env=False) for _ in range(pools)]
        self._under_way = [0] * pools
        self._seconds = limits.keepalive_expiry
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._emptying: dict[int, asyncio.Task[None]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it."""
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
        if self._under_way[i] == 0:  # none has come since
            await self._pools[i].aclose()


class _Stream(httpx.AsyncByteStream):
    """The body of a response; closed, it no longer counts."""

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
