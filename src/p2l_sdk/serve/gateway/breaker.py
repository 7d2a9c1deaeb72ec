"""`Breaker`: leaves an upstream alone for a while after consecutive failures, then tries it with a single request."""

from __future__ import annotations

import time


class Breaker:
    """The circuit breaker of one upstream.

    Args:
        failures: consecutive failures after which it opens.
        seconds: how long it stays open.
    """

    def __init__(self, failures: int, seconds: float) -> None:
        self._most, self._seconds = failures, seconds
        self._failures = 0
        self._closed_at = 0.0  # when the next request may be sent, on the monotonic clock

    def wait(self) -> float:
        """Seconds until a request may be sent; 0 for now."""
        return max(0.0, self._closed_at - time.monotonic())

    def enter(self) -> float:
        """Register a request that is being sent. After too many failures it is sent alone: others wait for its outcome.

        Returns:
            The token to pass to `release`.
        """
        if self._failures < self._most:
            return 0.0
        self._closed_at = time.monotonic() + self._seconds
        return self._closed_at

    def release(self, entered: float) -> None:
        """Stop holding back other requests for this one: its outcome is not coming soon, or never. The failure count
        stays."""
        if self._closed_at == entered:  # otherwise another outcome has been reported since
            self._closed_at = 0.0

    def succeeded(self) -> None:
        """A request was answered."""
        self._failures, self._closed_at = 0, 0.0

    def failed(self, retry_after: float | None = None) -> None:
        """A request failed. A `retry_after` of the upstream, in seconds, is respected up to the breaker's `seconds`."""
        self._failures += 1
        rest = self._seconds if self._failures >= self._most else 0.0
        if retry_after is not None:
            rest = max(rest, min(retry_after, self._seconds))
        self._closed_at = max(self._closed_at, time.monotonic() + rest)
