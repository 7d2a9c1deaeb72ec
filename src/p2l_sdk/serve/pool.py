"""The connections to all upstreams: one httpx client over several small pools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx

_POOLS = 16


def create_client(trust_env: bool = False) -> httpx.AsyncClient:
    """A client for every upstream: no redirects, and no proxies of the environment unless asked.

    Args:
        trust_env: whether proxies of the environment (HTTPS_PROXY, ...) are used; then there is one pool.
    """
    # vLLM and other servers on uvicorn close a connection that was idle for 5 s: ours must be gone by then
    limits = httpx.Limits(max_connections=2000, max_keepalive_connections=500, keepalive_expiry=4.0)
    if trust_env:
        return httpx.AsyncClient(limits=limits, trust_env=True, follow_redirects=False)
    return httpx.AsyncClient(transport=SpreadTransport(limits), trust_env=False, follow_redirects=False)


class SpreadTransport(httpx.AsyncBaseTransport):
    """Several pools of connections; a request goes through the one with the fewest under way, the first of equals.

    httpcore looks at all connections of a pool, for each of them, whenever a request begins or ends: 3 ms of
    computing per request with 200 at a time. Where few are under way, all take the warm connections of the first pool.
    """

    def __init__(self, limits: httpx.Limits, pools: int = _POOLS) -> None:
        tls = httpx.create_ssl_context(trust_env=False)  # one for all: it takes a while, and some memory
        self._pools = [httpx.AsyncHTTPTransport(verify=tls, limits=limits, trust_env=False) for _ in range(pools)]
        self._under_way = [0] * pools

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it."""
        i = self._under_way.index(min(self._under_way))
        self._under_way[i] += 1
        try:
            response = await self._pools[i].handle_async_request(request)
        except BaseException:
            self._under_way[i] -= 1
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Stream(response.stream, self._under_way, i)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(pool.aclose() for pool in self._pools))


class _Stream(httpx.AsyncByteStream):
    """The body of a response; closed, it no longer counts."""

    def __init__(self, stream: httpx.AsyncByteStream, under_way: list[int], i: int) -> None:
        self._stream, self._under_way, self._i = stream, under_way, i
        self._open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            self._under_way[self._i] -= 1
        await self._stream.aclose()
