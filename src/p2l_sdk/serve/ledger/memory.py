"""A ledger in memory: it ends with its process."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import defaultdict
from collections.abc import Sequence

from p2l_sdk.errors import P2LError
from p2l_sdk.serve.ledger.entries import Account, Entry, Grant, Hold, Spent, decide, periods, utc_day
from p2l_sdk.serve.ledger.store import absent, taken


class MemoryStore:
    """See `Store`."""

    instant = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spend: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._holds: defaultdict[str, dict[str, tuple[str, int]]] = defaultdict(dict)  # day and amount, by account
        self._accounts: dict[str, Account] = {}

    def apply(self, entries: Sequence[Entry]) -> list[Grant | None]:
        """Book some entries."""
        with self._lock:
            return [self._book(entry, utc_day(time.time())) for entry in entries]

    def spent(self, account: str) -> Spent:
        """What a key has spent."""
        with self._lock:
            return Spent.of(self._spend[account], utc_day(time.time()))

    def accounts(self) -> list[Account]:
        """All keys."""
        found = list(self._accounts.values())
        return [dataclasses.replace(account, spent=self.spent(account.id)) for account in found]

    def add(self, account: Account) -> None:
        """Add a key."""
        for other in self._accounts.values():
            same_name = account.managed and other.name == account.name and other.revoked is None
            if other.managed and (same_name or other.id == account.id):
                raise P2LError(taken(account, account.name))
        self._accounts[account.id] = account

    def revoke(self, name: str, now: float) -> None:
        """Revoke a managed key."""
        for account in self._accounts.values():
            if account.name == name and account.managed and account.revoked is None:
                self._accounts[account.id] = dataclasses.replace(account, revoked=now)
                return
        raise P2LError(absent(name, self.accounts()))

    def close(self) -> None:
        """Nothing to do."""

    def _book(self, entry: Entry, day: str) -> Grant | None:
        spend, holds = self._spend[entry.account], self._holds[entry.account]  # all are settled: the process lives
        old = holds.pop(entry.id, None)
        if old is not None:
            _add(spend, old[0], -old[1])
        if not isinstance(entry, Hold):
            if old is not None:
                _add(spend, old[0], entry.amount)
            return None
        grant = decide(entry, spend, day, holds.values)
        new = old if grant.amount is None else (day, grant.amount)
        if new is not None:
            holds[entry.id] = new
            _add(spend, *new)
        return grant


def _add(spend: defaultdict[str, int], day: str, amount: int) -> None:
    for period in periods(day):
        spend[period] += amount
