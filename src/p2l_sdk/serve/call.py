"""`Call`: one call of an upstream on its way, and `UpstreamError`: why it brought no answer."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from p2l_sdk.serve.breaker import Breaker
from p2l_sdk.serve.metrics import ServerMetrics

_RETRIED = (408, 409, 425, 429)
_MODERATED = 403  # what one client wrote may be the reason


class UpstreamError(Exception):
    """A call that brought no answer. Its text and kind never hold what the upstream sent.

    Attributes:
        kind: timeout, connection, status_429, status_500, ..., content, broken.
        retry_after: seconds of rest that the upstream asks for.
        final: whether the same upstream would answer the same once more: a wrong key, an unknown model.
        blamed: whether it says that the upstream is not well.
    """

    def __init__(
        self, kind: str, message: str, retry_after: float | None = None, final: bool = False, blamed: bool = True
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after
        self.final = final
        self.blamed = blamed

    @classmethod
    def of(cls, response: httpx.Response) -> UpstreamError:
        """Of a reply with a status that is none of an answer."""
        status = response.status_code
        rest = retry_after(response.headers.get("retry-after", ""))
        final = status < 500 and status not in _RETRIED
        return cls(f"status_{status}", f"answered with status {status}", rest, final, status != _MODERATED)


class Call:
    """One call of an upstream: its breaker and the metrics hear once how it went.

    Args:
        name: of the LLM.
        breaker: of the upstream.
        metrics: where a failure counts.
    """

    def __init__(self, name: str, breaker: Breaker, metrics: ServerMetrics) -> None:
        self._name, self._breaker, self._metrics = name, breaker, metrics
        self._entered = breaker.enter()
        self._open = True

    def ended(self, error: UpstreamError | None = None) -> None:
        """It is over, with a whole answer or with an error. Only the first word counts."""
        if not self._open:
            return
        self._open = False
        if error is None:
            self._breaker.succeeded()
            return
        self._metrics.upstream_error(self._name, error.kind)
        if error.blamed:
            self._breaker.failed(error.retry_after)
        else:
            self._breaker.release(self._entered)

    def release(self) -> None:
        """Nobody needs to wait for its end: its answer has begun, or the client is gone and it never ends."""
        if self._open:
            self._breaker.release(self._entered)


def retry_after(value: str) -> float | None:
    """Seconds of rest that a Retry-After header asks for, by a number or a date; None for anything else."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
