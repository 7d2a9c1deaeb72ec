"""`Breaker`: leaves an upstream alone for a while after consecutive failures, then tries it with a single request.

A client may cause failures itself, with requests that take too long or make a server stumble. So each client has a
count of its own, which closes the upstream for it alone; for all it is closed only by failures of several clients.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from dataclasses import dataclass

_MOST_CLIENTS = 1024  # that are remembered


@dataclass
class _State:
    failures: int = 0
    closed_at: float = 0.0  # when the next request may be sent, on the monotonic clock


class Breaker:
    """The circuit breaker of one upstream.

    Args:
        failures: consecutive failures after which it opens for a client whose all are. It opens for all clients if half
            as many (rounded down, at least one) are of others than the one with the most. Once it was open for all, and
            until a request is answered, a failure each of two clients suffices.
        seconds: how long it stays open.
    """

    def __init__(self, failures: int, seconds: float) -> None:
        self._most, self._seconds = failures, seconds
        self._clients: OrderedDict[bytes, _State] = OrderedDict()
        self._counted: Counter[bytes] = Counter()  # failures by client, since it was last open for all
        self._was_open = False
        self._closed_at = 0.0  # as of a client, for all

    def of(self, client: bytes) -> ClientBreaker:
        """The breaker as this client meets it."""
        return ClientBreaker(self, client)

    def wait(self, client: bytes = b"") -> float:
        """Seconds until a request of this client may be sent; 0 for now."""
        state = self._clients.get(client)
        closed_at = self._closed_at if state is None else max(state.closed_at, self._closed_at)
        return max(0.0, closed_at - time.monotonic())

    def enter(self, client: bytes = b"") -> float:
        """Register a request that is being sent. After too many failures it is sent alone: others of the client wait
        for its outcome.

        Returns:
            The token to pass to `release`.
        """
        state = self._clients.get(client)
        if state is None or state.failures < self._most:
            return 0.0
        state.closed_at = time.monotonic() + self._seconds
        return state.closed_at

    def release(self, entered: float, client: bytes = b"") -> None:
        """Stop holding back other requests for this one: its outcome is not coming soon, or never. The failure count
        stays."""
        state = self._clients.get(client)
        if state is not None and state.closed_at == entered:  # otherwise another outcome has been reported since
            state.closed_at = 0.0

    def succeeded(self) -> None:
        """A request was answered, whoever sent it."""
        if self._clients:
            self._clients.clear()
            self._counted.clear()
        self._was_open, self._closed_at = False, 0.0

    def failed(self, retry_after: float | None = None, client: bytes = b"") -> None:
        """A request failed. A `retry_after` of the upstream, in seconds, is respected up to the breaker's `seconds`: by
        the client that got it, and by all if two have got one."""
        now, state = time.monotonic(), self._clients.setdefault(client, _State())
        self._clients.move_to_end(client)
        state.failures += 1
        self._counted[client] += 1
        asked = 0.0 if retry_after is None else min(retry_after, self._seconds)
        if asked and any(other is not state and other.closed_at > now for other in self._clients.values()):
            self._closed_at = max(self._closed_at, now + asked)
        rest = max(asked, self._seconds if state.failures >= self._most else 0.0)
        state.closed_at = max(state.closed_at, now + rest)
        others = self._counted.total() - max(self._counted.values())
        most, least = (2, 1) if self._was_open else (self._most, max(1, self._most // 2))
        if self._counted.total() >= most and others >= least:
            self._open(now + self._seconds)
        if len(self._clients) > _MOST_CLIENTS:
            self._counted.pop(self._clients.popitem(last=False)[0], None)

    def _open(self, until: float) -> None:
        """Open it for all. Each client may then try with a single request."""
        self._was_open, self._closed_at = True, max(self._closed_at, until)
        self._counted.clear()
        for state in self._clients.values():
            state.failures = max(state.failures, self._most)


@dataclass(frozen=True)
class ClientBreaker:
    """A breaker as one client meets it; see `Breaker` for its methods."""

    breaker: Breaker
    client: bytes

    def wait(self) -> float:
        """Seconds until a request may be sent; 0 for now."""
        return self.breaker.wait(self.client)

    def enter(self) -> float:
        """Register a request that is being sent; the token to pass to `release`."""
        return self.breaker.enter(self.client)

    def release(self, entered: float) -> None:
        """Stop holding back other requests for this one."""
        self.breaker.release(entered, self.client)

    def succeeded(self) -> None:
        """A request was answered."""
        self.breaker.succeeded()

    def failed(self, retry_after: float | None = None) -> None:
        """A request failed."""
        self.breaker.failed(retry_after, self.client)
