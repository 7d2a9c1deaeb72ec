"""`Connections`: how many a server holds, for how long, and whose. A client needs no key to open one, so nothing that
it does before its request is complete may cost the others much.

Connections that wait for a header are closed when their time is over. If there is no room for another one, the one that
has waited longest for its header gives way, then the one that has been idle longest; never one that is being answered.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from p2l_sdk.errors import P2LError
from p2l_sdk.serve.errors import ApiError, HeaderTimeout, TooManyConnections
from p2l_sdk.serve.metrics import ServerMetrics

_SWEEP_SECONDS = 1.0  # between two looks at all connections: how late a limit of time may strike
_NETWORK_BITS = 64  # of an IPv6 address: what one customer of a provider is given


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """What a client may do before a server knows who it is, validated on creation.

    Attributes:
        max_header_bytes: of a request line and its header; also of what is not body between two parts of a body.
        max_headers: fields in a header.
        header_seconds: from the opening of a connection, or the first byte of a further request, to the end of the
            header; also for the rest of a body after its request has been answered.
        idle_seconds: between two requests on a connection.
        stall_seconds: without the client taking any of the bytes that are ready for it.
        max_connections: in all.
        max_per_client: from one IPv4 address, or one IPv6 network of 64 bits.
        proxies: addresses or networks that `max_per_client` does not hold for: reverse proxies, behind which are many
            clients. Usually also this machine.

    Raises:
        P2LError: a limit is not positive, or a proxy is no address.
    """

    max_header_bytes: int = 64 * 1024
    max_headers: int = 100
    header_seconds: float = 10.0
    idle_seconds: float = 75.0  # longer than clients keep idle connections, so that none sends on a closed one
    stall_seconds: float = 60.0
    max_connections: int = 2000
    max_per_client: int = 256
    proxies: tuple[str, ...] = ("127.0.0.0/8", "::1")

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "proxies" and not value > 0:
                raise P2LError(f"{name} is {value}; it must be above 0")
        _networks(self.proxies)


class Connection(Protocol):
    """What `Connections` needs of a connection."""

    def refuse(self, error: ApiError) -> None:
        """Say why, if there is still somebody to tell, and close."""

    def close(self) -> None:
        """Close when what is ready for the client has been sent."""

    def drop(self) -> None:
        """Close at once; what has not been sent is lost."""

    def unsent(self) -> int:
        """Bytes that are ready for a client that has not taken them yet."""


class Connections:
    """All connections of a server.

    Args:
        limits: of them.
        metrics: counts those that are refused or closed.
    """

    def __init__(self, limits: ConnectionLimits, metrics: ServerMetrics) -> None:
        self.limits, self._metrics = limits, metrics
        self._proxies = _networks(limits.proxies)
        self._open: dict[Connection, str | None] = {}  # whose each is, None if that is not counted
        self._per_client: Counter[str] = Counter()
        self._waiting: dict[Connection, float] = {}  # when each must have sent its header; soonest first
        self._idle: dict[Connection, float] = {}  # when each is to be closed; soonest first
        self._stalled: dict[Connection, tuple[int, float]] = {}  # bytes unsent, and since when
        self._sweeping = False

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection, address: str | None) -> ApiError | None:
        """Take a new connection in.

        Args:
            connection: that has just been opened.
            address: of its other end; None for a socket of this machine.

        Returns:
            Why it is refused, None if it is not.
        """
        client = self._client(address)
        if client is not None and self._per_client[client] >= self.limits.max_per_client:
            self.refused("per_client")
            text = f"there are {self.limits.max_per_client} connections from this address already; close one first"
            return TooManyConnections(text, headers={"Retry-After": "1"})
        if len(self._open) >= self.limits.max_connections and not self._make_room():
            self.refused("in_all")
            full = TooManyConnections("the server has as many connections as it can; try again in 1 s")
            full.status, full.headers = 503, {"Retry-After": "1"}
            return full
        self._open[connection] = client
        if client is not None:
            self._per_client[client] += 1
        self.waits(connection)
        if not self._sweeping:
            self._sweeping = True
            self._sweep_later()
        return None

    def closed(self, connection: Connection) -> None:
        """A connection is no more."""
        client = self._open.pop(connection, None)
        if client is not None:
            self._per_client[client] -= 1
            if not self._per_client[client]:
                del self._per_client[client]
        for group in (self._waiting, self._idle, self._stalled):
            group.pop(connection, None)

    def waits(self, connection: Connection) -> None:
        """The server waits for a header, or for the end of a body that nobody needs."""
        self._idle.pop(connection, None)
        if connection in self._open and connection not in self._waiting:
            self._waiting[connection] = asyncio.get_running_loop().time() + self.limits.header_seconds

    def heard(self, connection: Connection) -> None:
        """A header has begun: it has to come to its end in time, however long the connection was silent before."""
        if connection in self._idle or self._waiting.pop(connection, None) is not None:
            self.waits(connection)

    def works(self, connection: Connection) -> None:
        """A header is complete: the request is being answered."""
        self._waiting.pop(connection, None)
        self._idle.pop(connection, None)

    def rests(self, connection: Connection) -> None:
        """A request has been answered, and no other one has begun."""
        self._waiting.pop(connection, None)
        if connection in self._open:
            self._idle[connection] = asyncio.get_running_loop().time() + self.limits.idle_seconds

    def refused(self, reason: str) -> None:
        """Count a connection that was refused or closed by a limit."""
        self._metrics.refused_connection(reason)

    def _client(self, address: str | None) -> str | None:
        """Under which name connections from an address are counted; None if they are not."""
        try:
            ip = ipaddress.ip_address((address or "").partition("%")[0])
        except ValueError:
            return None
        if isinstance(ip, ipaddress.IPv6Address):
            ip = ip.ipv4_mapped or ip
        if any(ip in network for network in self._proxies):
            return None
        return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, _NETWORK_BITS), strict=False))

    def _make_room(self) -> bool:
        for group in (self._waiting, self._idle):
            for longest in group:
                self.refused("gave_way")
                self.closed(longest)
                longest.drop()
                return True
        return False

    def _sweep_later(self) -> None:
        limits = self.limits
        often = min(_SWEEP_SECONDS, limits.header_seconds / 4, limits.idle_seconds / 4, limits.stall_seconds / 4)
        asyncio.get_running_loop().call_later(often, self._sweep)

    def _sweep(self) -> None:
        """Close what has been silent for too long: one timer for all, as one for each request would cost more."""
        now = asyncio.get_running_loop().time()
        for connection in _due(self._waiting, now):
            self.refused("header_timeout")
            seconds = self.limits.header_seconds
            connection.refuse(HeaderTimeout(f"the header did not come within {seconds:g} s; send it at once"))
        for connection in _due(self._idle, now):
            connection.close()
        for connection in list(self._open):
            self._look_at(connection, now)
        self._sweeping = bool(self._open)
        if self._sweeping:
            self._sweep_later()

    def _look_at(self, connection: Connection, now: float) -> None:
        """Drop a connection whose client takes nothing: what is ready for it would stay in memory."""
        unsent = connection.unsent()
        before, since = self._stalled.get(connection, (0, now))
        if not unsent:
            self._stalled.pop(connection, None)
        elif not before or unsent < before:
            self._stalled[connection] = (unsent, now)
        elif now - since >= self.limits.stall_seconds:
            self.refused("stalled")
            connection.drop()


def _due(group: dict[Connection, float], now: float) -> list[Connection]:
    """Take the connections out of a group whose time is over. All were given the same time, so they stand first."""
    due = []
    while group and (first := next(iter(group))) and group[first] <= now:
        del group[first]
        due.append(first)
    return due


def _networks(proxies: tuple[str, ...]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for text in proxies:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise P2LError(f"{text!r} is no address of a proxy; write it as '10.0.0.7', or '10.0.0.0/24'") from None
    return found
