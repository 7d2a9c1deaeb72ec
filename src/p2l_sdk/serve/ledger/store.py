"""`Store`: where a ledger is kept. Its methods block; `Ledger` calls them off the event loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from p2l_sdk.serve.ledger.entries import Account, Entry, Grant, Spent


class Store(Protocol):
    """The books, in memory, in a file or on a server.

    Attributes:
        instant: whether its methods never wait for anything.
    """

    instant: bool

    def apply(self, entries: Sequence[Entry]) -> list[Grant | None]:
        """Book some entries in their order, each as a whole or not at all. Doing it again does no harm.

        Returns:
            What each hold is granted, None for settlements.

        Raises:
            LedgerError: the store does not work.
        """

    def spent(self, account: str) -> Spent:
        """What a key has spent, by `Account.id`."""

    def accounts(self) -> list[Account]:
        """All keys, also those that were revoked, oldest first, with what they have spent."""

    def add(self, account: Account) -> None:
        """Add a key, or bring one up to date that is not managed.

        Raises:
            P2LError: a managed key has its name, or its secret.
        """

    def revoke(self, name: str, now: float) -> None:
        """Revoke a managed key.

        Raises:
            P2LError: there is none of this name.
        """

    def close(self) -> None:
        """Let go of files and connections."""


def taken(account: Account, name: str) -> str:
    """The text of the error for a key that cannot be added."""
    if account.managed:
        return f"there is a key {name!r} already; revoke it first, or choose another name"
    return f"the secret of the key {account.name!r} is that of a key in the ledger; take it out of the file or variable"


def absent(name: str, accounts: Sequence[Account]) -> str:
    """The text of the error for a key that cannot be revoked."""
    named = [account for account in accounts if account.name == name]
    if any(account.managed for account in named):
        return f"the key {name!r} is revoked already"
    if named:
        return f"the key {name!r} comes from a file or a variable; take it out there, and start the server again"
    return f"there is no key {name!r}; p2l keys list shows them all"
