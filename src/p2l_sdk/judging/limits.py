"""How fast, how often and for how much LLMs are asked."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from time import monotonic

from p2l_sdk.errors import P2LError
from p2l_sdk.mpg.measure.endpoint import QueryError
from p2l_sdk.serve.gateway.call import RETRIED, retry_after
from p2l_sdk.serve.gateway.reasons import Work, work_before
from p2l_sdk.tables.settings import check_fields, count, number

_RETRIED = ("connection", "timeout", "cut off", "garbage", *(f"status {status}" for status in RETRIED))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a run, which may be others when it is resumed.

    Attributes:
        spend: USD that the whole run may cost, all its parts together; None for no limit.
        concurrency: queries in flight at once.
        requests_per_minute: to each LLM; None for no limit.
        attempts: how often a query is sent before it counts as failed: after 429, 5xx, a time-out or a broken
            connection.
        backoff: seconds before the second attempt, doubled for each further one, unless the server says how long
            (Retry-After).
        longest_wait: seconds that a wait may take at most; a query whose server demands more has failed.

    Raises:
        P2LError: a limit is out of range.
    """

    spend: float | None = number(None, 0.0)
    concurrency: int = count(8)
    requests_per_minute: float | None = number(None, 1e-3)
    attempts: int = count(5)
    backoff: float = number(1.0, 0.0)
    longest_wait: float = number(120.0, 0.0)

    def __post_init__(self) -> None:
        check_fields(self)

    def wait(self, error: QueryError, attempt: int) -> float | None:
        """Seconds to wait after the failure of this attempt (1, 2, ...); None if the query has failed for good."""
        retried = error.kind in _RETRIED or error.kind.startswith("status 5")
        if not retried or attempt >= self.attempts:
            return None
        asked = retry_after(error.retry_after)
        if asked is not None:
            return asked if asked <= self.longest_wait else None
        return min(self.backoff * 2.0 ** (attempt - 1) * random.uniform(0.8, 1.2), self.longest_wait)


def may_be_billed(error: QueryError, bills_errors: bool = False) -> bool:
    """Whether a failed query may have cost something: its answer had begun, was only waited for in vain, or was lost on
    its way; or any reply came, if its server `bills_errors` (as in `LLMConfig`)."""
    status = error.kind.removeprefix("status ")
    if status.isdecimal() and not bills_errors:
        return work_before(int(status)) is not Work.NONE
    return error.kind != "connection"


class Pace:
    """When the next query to one LLM may be sent: at most so many per minute, and none while the server wants a rest.

    Args:
        requests_per_minute: None for no limit.
    """

    def __init__(self, requests_per_minute: float | None) -> None:
        self._step = 0.0 if requests_per_minute is None else 60.0 / requests_per_minute
        self._next = self._rest = 0.0

    async def turn(self) -> None:
        """Wait for one's turn."""
        at = max(self._next, monotonic())
        self._next = at + self._step
        while (seconds := max(at, self._rest) - monotonic()) > 0:
            await asyncio.sleep(seconds)

    def rest(self, seconds: float) -> None:
        """Let nothing be sent for so long."""
        self._rest = max(self._rest, monotonic() + seconds)


def require_spend(value: float | None) -> None:
    """Raise `P2LError` for a spend limit of 0, under which nothing can be asked."""
    if value == 0:
        raise P2LError("the spend limit is 0 USD, under which nothing can be asked; raise it, or leave it out")
