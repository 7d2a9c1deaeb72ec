"""Money: what a request may cost is reserved when its LLM is chosen, and settled once, when the request ends."""

from __future__ import annotations

from typing import Protocol

from p2l_sdk.serve.gateway.config import Prices

_BYTES_PER_TOKEN = 4  # of text in UTF-8, roughly; for exact costs, have the upstream count


class Account(Protocol):
    """Anything that can be charged: the pacer of the mean budget, an API key."""

    def record(self, cost: float) -> None:
        """Record a cost in USD."""

    def correct(self, recorded: float, cost: float | None) -> None:
        """Replace a recorded cost by the actual one; None if there was none."""


class Charge:
    """The charge of one request.

    Args:
        expected: USD, recorded with every account at once, since other requests are in progress; also an attribute.
        accounts: the accounts to charge.
    """

    def __init__(self, expected: float, *accounts: Account) -> None:
        self.expected = expected
        self._accounts = accounts
        self._open = True
        for account in accounts:
            account.record(expected)

    def settle(self, cost: float | None) -> None:
        """Replace the expected cost by the actual one, USD; None if there was no answer. Only the first call counts."""
        if self._open:
            self._open = False
            for account in self._accounts:
                account.correct(self.expected, cost)


def by_text(prices: Prices, read: int, written: int) -> float:
    """The estimated cost in USD of a response without a token count, from the bytes of text read and written."""
    return prices.of(read / _BYTES_PER_TOKEN, written / _BYTES_PER_TOKEN)
