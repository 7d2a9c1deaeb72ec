"""`Call`: one call of an upstream in progress; `UpstreamError`: why it failed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from p2l_sdk.serve.gateway.breaker import ClientBreaker
from p2l_sdk.serve.gateway.reasons import Work, work_before
from p2l_sdk.serve.gateway.refusal import Refusal
from p2l_sdk.serve.metrics import ServerMetrics

_WORKED = ("timeout", "broken", "error", "content", "connection")
RETRIED = (408, 409, 424, 425, 429, 499)  # beside 5xx: another try may mend these
_MODERATED = 403  # the reason may be what one client wrote


class UpstreamError(Exception):
    """A failed call. Its text and kind never contain anything that the upstream sent.

    Attributes:
        kind: timeout, connection, status_429, status_500, ..., content, error, broken; of a refusal a known code, as
            context_length_exceeded, or status_400, ...
        retry_after: seconds that the upstream asks to wait.
        final: whether a retry at the same upstream would fail the same way (a wrong key, an unknown model).
        blamed: whether it counts as a failure of the upstream.
        refusal: what the upstream has against the request, if it refused it.
        work: what the LLM may have done, which is billed.
        usage: what it says to have counted or to bill, although it failed.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        retry_after: float | None = None,
        final: bool = False,
        blamed: bool = True,
        refusal: Refusal | None = None,
        work: Work | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after
        self.final = final
        self.blamed = blamed
        self.refusal = refusal
        self.work = work if work is not None else Work.WROTE if kind in _WORKED else Work.NONE
        self.usage: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str]) -> UpstreamError:
        """The error for a reply whose status is not that of an answer; names of its headers in any case."""
        final = status < 500 and status not in RETRIED
        rest = retry_after(headers.get("retry-after", ""), headers.get("retry-after-ms", ""))
        text = f"answered with status {status}"
        return cls(f"status_{status}", text, rest, final, status != _MODERATED, work=work_before(status))

    @classmethod
    def refused(cls, refusal: Refusal) -> UpstreamError:
        """The error for a refusal, which is a judgement about one request at one LLM: no fault, and no answer."""
        text = f"answered with status {refusal.status}"
        return cls(refusal.kind, text, final=True, blamed=False, refusal=refusal, work=refusal.work)


class Call:
    """One call of an upstream. Its outcome is reported once, to the circuit breaker and, on failure, to the metrics.

    Args:
        name: of the LLM.
        breaker: of the upstream, as the client meets it.
        metrics: counts failures.
    """

    def __init__(self, name: str, breaker: ClientBreaker, metrics: ServerMetrics) -> None:
        self._name, self._breaker, self._metrics = name, breaker, metrics
        self._entered = breaker.enter()
        self._open = True

    def ended(self, error: UpstreamError | None = None) -> None:
        """The call ended, with a complete answer or with an error. Only the first report counts."""
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
        """Other requests need not wait for its end: the answer has begun, or the client has disconnected."""
        if self._open:
            self._breaker.release(self._entered)


def retry_after(value: str, milliseconds: str = "") -> float | None:
    """Seconds to wait according to the headers Retry-After (a number or a date) and, more exactly, retry-after-ms; None
    if neither says so."""
    for text, unit in ((milliseconds, 1e-3), (value, 1.0)):
        with contextlib.suppress(ValueError):
            seconds = float(text) * unit
            if math.isfinite(seconds):
                return max(0.0, seconds)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
