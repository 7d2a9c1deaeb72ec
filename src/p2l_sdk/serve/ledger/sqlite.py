"""A ledger in an SQLite file, which the processes of one machine share.

Its log (WAL) is written with every transaction and synchronised now and then: what a killed process has booked is kept,
what the last moments before a power cut have booked may be lost.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from p2l_sdk.errors import P2LError
from p2l_sdk.modeling.limits_p2l import shown
from p2l_sdk.serve.ledger.entries import (
    Account,
    Budgets,
    Entry,
    Grant,
    Hold,
    LedgerError,
    Spent,
    decide,
    is_key_name,
    periods,
    utc_day,
)
from p2l_sdk.serve.ledger.store import absent, taken

_BEYOND = 1e18  # no budget, time or amount is so large
_VERSION = 1
_BUSY_SECONDS = 5.0  # until another process must have ended its transaction, which takes less than a millisecond
_TABLES = f"""
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, total REAL, daily REAL, monthly REAL,
    created REAL NOT NULL, revoked REAL, managed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS names ON keys (name) WHERE managed AND revoked IS NULL;
CREATE TABLE IF NOT EXISTS spend (
    account TEXT, period TEXT, amount INTEGER NOT NULL, PRIMARY KEY (account, period)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS holds (
    id TEXT PRIMARY KEY, account TEXT NOT NULL, day TEXT NOT NULL, amount INTEGER NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS expiry ON holds (expires);
PRAGMA user_version = {_VERSION};
"""


class SQLiteStore:
    """See `Store`.

    Args:
        path: of the file, which is made if it is not there.

    Raises:
        P2LError: it cannot be made or opened, or is no ledger.
    """

    instant = False

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self._writer: sqlite3.Connection | None = None
        try:  # a pipe would make a reader wait
            if os.path.exists(self._path) and not os.path.isfile(self._path) and not os.path.isdir(self._path):
                raise P2LError(f"the ledger {self._path} is no file; name another file with --ledger")
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))
            with self._opened() as connection:
                [version] = connection.execute("PRAGMA user_version").fetchone()
                if version not in (0, _VERSION):
                    raise P2LError(f"{self._path} was written by another version of p2l; name another file")
                if version == 0:
                    connection.executescript(_TABLES)
                _require_ours(connection)
        except (OSError, sqlite3.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise P2LError(
                f"the ledger {self._path} cannot be opened: {reason}; name another file with --ledger"
            ) from None

    def apply(self, entries: Sequence[Entry]) -> list[Grant | None]:
        """Book some entries, in one transaction."""
        now = time.time()
        with _faults():
            if self._writer is None:
                self._writer = self._connect()
            with _transaction(self._writer) as connection:
                found = [_book(connection, entry, now) for entry in entries]
                connection.execute("DELETE FROM holds WHERE expires < ?", (now,))  # they stay spent
        return found

    def spent(self, account: str) -> Spent:
        """What a key has spent."""
        with _faults(), self._opened() as connection:
            rows = connection.execute("SELECT period, amount FROM spend WHERE account = ?", (account,))
            return Spent.of(dict(rows), utc_day(time.time()))

    def accounts(self) -> list[Account]:
        """All keys."""
        day = utc_day(time.time())
        amounts: defaultdict[str, dict[str, int]] = defaultdict(dict)
        with _faults(), self._opened() as connection:
            for account, period, amount in connection.execute(
                "SELECT account, period, amount FROM spend WHERE period IN (?, ?, ?)", periods(day)
            ):
                amounts[account][period] = amount
                _require_numbers(account, (amount,))
            rows = connection.execute(
                "SELECT id, name, total, daily, monthly, created, revoked, managed FROM keys ORDER BY created, name"
            ).fetchall()
            for _, name, *numbers, _ in rows:
                if not is_key_name(name):
                    raise LedgerError(f"a key has the name {shown(name)}; restore the file from a copy")
                _require_numbers(name, numbers)
            return [
                Account(id, name, Budgets(total, daily, monthly), created, revoked, bool(managed),
                        Spent.of(amounts[id], day))
                for id, name, total, daily, monthly, created, revoked, managed in rows
            ]  # fmt: skip

    def add(self, account: Account) -> None:
        """Add a key."""
        budgets = account.budgets
        values = (account.id, account.name, budgets.total, budgets.daily, budgets.monthly, account.created)
        with (
            _faults(),
            self._opened() as connection,
            contextlib.suppress(sqlite3.IntegrityError),  # of the names
            _transaction(connection),
        ):
            added = connection.execute(
                "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, NULL, ?) ON CONFLICT (id) DO UPDATE SET "
                "name = excluded.name, total = excluded.total, daily = excluded.daily, monthly = excluded.monthly "
                "WHERE NOT managed AND NOT excluded.managed",
                (*values, account.managed),
            )
            if added.rowcount:
                return
        raise P2LError(taken(account, account.name))

    def revoke(self, name: str, now: float) -> None:
        """Revoke a managed key."""
        with _faults(), self._opened() as connection, _transaction(connection):
            changed = connection.execute(
                "UPDATE keys SET revoked = ? WHERE name = ? AND managed AND revoked IS NULL", (now, name)
            )
            if changed.rowcount:
                return
        raise P2LError(absent(name, self.accounts()))

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own, as another thread may be writing."""
        with contextlib.closing(self._connect()) as connection:
            yield connection


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerError(str(error)) from None


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """A transaction that locks the file before it reads: what it reads stays true until it has written."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _book(connection: sqlite3.Connection, entry: Entry, now: float) -> Grant | None:
    day, account = utc_day(now), entry.account
    old = connection.execute("SELECT day, amount FROM holds WHERE id = ?", (entry.id,)).fetchone()
    if not isinstance(entry, Hold):
        if old is not None:
            _add(connection, account, old[0], entry.amount - old[1])
            connection.execute("DELETE FROM holds WHERE id = ?", (entry.id,))
        return None
    spent: dict[str, int] = {}
    if entry.budgets != Budgets():
        spent = dict(
            connection.execute(
                "SELECT period, amount FROM spend WHERE account = ? AND period IN (?, ?, ?)", (account, *periods(day))
            )
        )
        for period in periods(old[0]) if old is not None else ():
            spent[period] = spent.get(period, 0) - old[1]
    others = "SELECT day, amount FROM holds WHERE account = ? AND id != ? AND expires >= ?"
    grant = decide(entry, spent, day, lambda: connection.execute(others, (account, entry.id, now)))
    if grant.amount is not None:
        if old is not None and old[0] != day:
            _add(connection, account, old[0], -old[1])
        _add(connection, account, day, grant.amount - (old[1] if old is not None and old[0] == day else 0))
        row = (entry.id, account, day, grant.amount, now + entry.seconds)
        connection.execute("INSERT OR REPLACE INTO holds VALUES (?, ?, ?, ?, ?)", row)
    return grant


def _add(connection: sqlite3.Connection, account: str, day: str, amount: int) -> None:
    connection.execute(
        "INSERT INTO spend VALUES (?1, ?2, ?5), (?1, ?3, ?5), (?1, ?4, ?5) "
        "ON CONFLICT DO UPDATE SET amount = amount + excluded.amount",
        (account, *periods(day), amount),
    )


def _require_ours(connection: sqlite3.Connection) -> None:
    """Refuse a file whose tables are not those of `_TABLES`: a trigger, or a view in a table's place, runs SQL of
    whoever made the file when it is read or written.

    Raises:
        sqlite3.DatabaseError: what is not ours.
    """
    with contextlib.closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(_TABLES)
        ours = dict(fresh.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    found = {}
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master"):
        if kind == "trigger":
            raise sqlite3.DatabaseError(f"its trigger {shown(name)} is none of p2l's")
        found[name.lower()] = sql
    for name, sql in ours.items():
        if str(found.get(name)).split() != sql.split():
            raise sqlite3.DatabaseError(f"its table {name} is not that of a ledger")


def _require_numbers(name: str, values: Sequence[Any]) -> None:
    """Refuse a file that somebody has edited or damaged: of what is no number, no budget can be kept."""
    for value in values:
        if not (value is None or (isinstance(value, int | float) and abs(value) < _BEYOND)):
            raise LedgerError(f"the key {shown(name)} has {shown(value)} for a number; restore the file from a copy")
