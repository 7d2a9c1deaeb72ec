"""What a ledger holds: amounts, budgets, keys, and the entries of a request.

A request has one hold. It is counted as spent from the moment at which it is granted, so nothing can be granted twice;
settling it replaces the amount by the actual cost. A hold that nobody settles, because its process was killed, stays
spent as it is: an LLM may have billed it.

Amounts are whole nano-dollars (1e-9 USD), whose sums are exact.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from p2l_sdk.serve.errors import SERVER, ApiError

NANO = 10**9
EVER = ""  # the period of the total
_ROUNDING = 1e-14  # of a sum of floating-point numbers, relative
_MOST = 10**17  # nano-dollars: what is more overflows the integers of some store


class LedgerError(ApiError):
    """The ledger does not answer, so nothing can be granted."""

    status, type, code = 503, SERVER, "ledger_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the ledger of keys and spend cannot be used: {reason}", headers={"Retry-After": "1"})


@dataclass(frozen=True)
class Budgets:
    """What may be spent with a key, in USD; None for no limit. All of them hold.

    Attributes:
        total: ever.
        daily: in a day of UTC.
        monthly: in a month of UTC.
    """

    total: float | None = None
    daily: float | None = None
    monthly: float | None = None

    def limits(self, day: str) -> dict[str, tuple[str, int]]:
        """Name and amount of each limit, by the period that it holds for on this day."""
        named = zip(("budget", "monthly budget", "daily budget"), (self.total, self.monthly, self.daily), strict=True)
        return {
            period: (name, nano(usd, math.floor))
            for period, (name, usd) in zip(periods(day), named, strict=True)
            if usd is not None
        }


@dataclass(frozen=True)
class Hold:
    """A request for an amount to be set aside, in place of what the same hold has set aside before.

    Attributes:
        account: the key that pays, by `Account.id`.
        id: of the hold, unique.
        least, most: nano-dollars. As much as is left is granted, if it is no less than `least`; never more than `most`.
        budgets: of the key.
        seconds: until nobody will settle it any more.
        enough: nano-dollars; beyond that no more than half of what is left is granted, so that requests at the same
            time have something too. By default `most`.
    """

    account: str
    id: str
    least: int
    most: int
    budgets: Budgets
    seconds: float
    enough: int = _MOST


@dataclass(frozen=True)
class Settlement:
    """The actual cost of a hold, in nano-dollars."""

    account: str
    id: str
    amount: int


Entry = Hold | Settlement


@dataclass(frozen=True)
class Grant:
    """The answer to a hold.

    Attributes:
        amount: nano-dollars that are set aside now; None if it was refused.
        left: of the tightest budget before that, in nano-dollars; None if there is no budget.
        budget: the name of that budget.
        limit: its amount, in nano-dollars.
        held: what other requests in progress hold of it, if this one was refused, in nano-dollars.
    """

    amount: int | None
    left: int | None = None
    budget: str = "budget"
    limit: int = 0
    held: int = 0


@dataclass(frozen=True)
class Spent:
    """USD that a key has spent, including what is set aside for requests in progress."""

    today: float = 0.0
    month: float = 0.0
    total: float = 0.0

    @classmethod
    def of(cls, amounts: Mapping[str, int], day: str) -> Spent:
        """The sums of some amounts by period, in nano-dollars, on this day."""
        ever, month, today = (amounts.get(period, 0) / NANO for period in periods(day))
        return cls(today, month, ever)


@dataclass(frozen=True)
class Account:
    """A key in a ledger. The secret itself is not stored.

    Attributes:
        id: SHA-256 of the secret, in hexadecimal digits.
        name: for people.
        budgets: of the key.
        created, revoked: seconds since 1970; None if it is not revoked.
        managed: whether it was made by `p2l keys add`; those of files and variables are only listed.
        spent: so far.
    """

    id: str
    name: str
    budgets: Budgets = Budgets()
    created: float = 0.0
    revoked: float | None = None
    managed: bool = True
    spent: Spent = field(default=Spent())


def decide(
    hold: Hold, spent: Mapping[str, int], day: str, others: Callable[[], Iterable[tuple[str, int]]] = lambda: ()
) -> Grant:
    """What a hold is granted. The script of `ledger/redis.py` decides in the same way.

    Args:
        hold: the request.
        spent: nano-dollars by period, without what this hold has set aside before.
        day: of now.
        others: what other requests in progress have set aside of the same key, each with its day; asked if this one is
            refused.
    """
    limits = hold.budgets.limits(day)
    if not limits:
        return Grant(hold.most)
    left, name, limit, period = min(
        (limit - spent.get(period, 0), name, limit, period) for period, (name, limit) in limits.items()
    )
    amount = min(hold.most, left, max(hold.enough, left // 2))
    if amount >= hold.least:
        return Grant(amount, left, name, limit)
    held = sum(amount for day, amount in others() if period in periods(day))
    return Grant(None, left, name, limit, held)


def is_key_name(name: object) -> bool:
    """Whether this names a key: one word of printable characters, since it stands in logs and in terminals."""
    return isinstance(name, str) and name.isprintable() and len(name.split()) == 1


def periods(day: str) -> tuple[str, str, str]:
    """The periods that a day belongs to: ever, its month, the day itself."""
    return EVER, day[:7], day


def utc_day(now: float) -> str:
    """The day of a time in seconds since 1970, as 2026-01-31."""
    return datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%d")


def nano(usd: float, whole: Callable[[float], int] = math.ceil) -> int:
    """USD in nano-dollars, rounded up (or as `whole` does), but for the error of floating-point sums: whatever is not
    nothing costs one at least."""
    amount = max(usd, 0.0) * NANO
    if amount >= _MOST:
        return _MOST
    return whole(amount * (1 - _ROUNDING if whole is math.ceil else 1 + _ROUNDING))
