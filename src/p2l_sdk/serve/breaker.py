"""`Breaker`: an upstream that fails again and again is left alone for a while, then tried with one request."""

from __future__ import annotations

import time


class Breaker:
    """Of one upstream.

    Args:
        failures: in a row, after which it opens.
        seconds: for which it stays open.
    """

    def __init__(self, failures: int, seconds: float) -> None:
        self._most, self._seconds = failures, seconds
        self._failures = 0
        self._closed_at = 0.0  # when the next request may go, on the monotonic clock

    def wait(self) -> float:
        """Seconds until a request may go; 0 for now."""
        return max(0.0, self._closed_at - time.monotonic())

    def enter(self) -> float:
        """A request goes. Where many failed before, it goes alone: others wait until it is known how it went.

        Returns:
            What `release` takes.
        """
        if self._failures < self._most:
            return 0.0
        self._closed_at = time.monotonic() + self._seconds
        return self._closed_at

    def release(self, entered: float) -> None:
        """The others need not wait for that request any longer: it will not tell, or not soon. Failures still count."""
        if self._closed_at == entered:  # else others have told since
            self._closed_at = 0.0

    def succeeded(self) -> None:
        """It was answered."""
        self._failures, self._closed_at = 0, 0.0

    def failed(self, retry_after: float | None = None) -> None:
        """It was not; the upstream asks for so many seconds of rest."""
        self._failures += 1
        rest = self._seconds if self._failures >= self._most else 0.0
        if retry_after is not None:
            rest = max(rest, min(retry_after, self._seconds))
        self._closed_at = max(self._closed_at, time.monotonic() + rest)
