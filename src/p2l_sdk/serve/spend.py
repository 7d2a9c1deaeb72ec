"""Money: what a request may cost is set aside when its LLM is chosen, and settled once, when it was answered or not."""

from __future__ import annotations

from typing import Protocol

from p2l_sdk.serve.config import Prices

_BYTES_PER_TOKEN = 4  # of text in UTF-8, about; who wants it exact has the upstream count


class Account(Protocol):
    """Who is charged: the pacer of the mean budget, a key with a budget."""

    def record(self, cost: float) -> None:
        """Take note of a cost, USD."""

    def correct(self, recorded: float, cost: float | None) -> None:
        """Put a cost in the place of the recorded one; None if there was none."""


class Charge:
    """The charge of one request.

    Args:
        expected: USD, recorded with every account at once: many requests are under way at a time. Also an attribute.
        accounts: who is charged.
    """

    def __init__(self, expected: float, *accounts: Account) -> None:
        self.expected = expected
        self._accounts = accounts
        self._open = True
        for account in accounts:
            account.record(expected)

    def settle(self, cost: float | None) -> None:
        """What the answer did cost, USD; None if there was no answer. Only the first call counts."""
        if self._open:
            self._open = False
            for account in self._accounts:
                account.correct(self.expected, cost)


def by_text(prices: Prices, read: int, written: int) -> float:
    """USD of a response whose tokens nobody counted, from the bytes of text that the LLM read and wrote."""
    return prices.of(read / _BYTES_PER_TOKEN, written / _BYTES_PER_TOKEN)
