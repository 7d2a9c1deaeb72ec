"""`p2l keys`: the API keys in a ledger, which servers that use it see at once."""

from __future__ import annotations

import datetime
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2l_sdk.cli.common import JSON, number_type, print_json, say
from p2l_sdk.cli.once import Once
from p2l_sdk.errors import MissingExtraError, P2LError

if TYPE_CHECKING:
    from p2l_sdk.serve.ledger.entries import Account
    from p2l_sdk.serve.ledger.store import Store

LEDGER = click.option(
    "--ledger",
    metavar="FILE|URL",
    envvar="P2L_LEDGER",
    required=True,
    help="The ledger: a file, or redis://...; also read from P2L_LEDGER.",
)
_MOST = 1e8  # USD


@click.group(cls=Once, short_help="Add, list and revoke API keys while servers run.")
def keys() -> None:
    """API keys with budgets, in the ledger of `p2l serve --ledger`; a running server notices within a second."""


@keys.command(short_help="Make a key and print its secret, once.")
@click.argument("name")
@click.option("--budget", type=number_type(), metavar="USD", help="Most to be spent ever.")
@click.option("--daily", type=number_type(), metavar="USD", help="Most to be spent in a day (UTC).")
@click.option("--monthly", type=number_type(), metavar="USD", help="Most to be spent in a month (UTC).")
@LEDGER
@JSON
def add(
    name: str, budget: float | None, daily: float | None, monthly: float | None, ledger: str, as_json: bool
) -> None:
    """Make a key called NAME. Its secret is printed and stored nowhere: the ledger has its SHA-256 only."""
    from p2l_sdk.serve.ledger.entries import Account, Budgets, is_key_name

    if not is_key_name(name):
        raise P2LError("the name of a key is one word of printable characters")
    if not all(0 <= usd <= _MOST for usd in (budget, daily, monthly) if usd is not None):
        raise P2LError(f"a budget is a number of USD, from 0 to {_MOST:.0f}")
    store = _open(ledger, new=True)
    from p2l_sdk.serve.auth import account_of, new_secret

    secret = new_secret()
    store.add(Account(account_of(secret), name, Budgets(budget, daily, monthly), time.time()))
    store.close()
    if as_json:
        print_json({"name": name, "secret": secret})
    else:
        say(secret)
        say(f"p2l: this is the secret of {name!r}; it is not shown again", err=True)


@keys.command("list", short_help="List the keys with their budgets and spend.")
@LEDGER
@JSON
def list_keys(ledger: str, as_json: bool) -> None:
    """List the keys of a ledger, also those that were revoked and those that servers have from files. Amounts are USD;
    spent is also what is set aside for requests in progress."""
    store = _open(ledger)
    rows = [_row(account) for account in store.accounts()]
    store.close()
    if as_json:
        print_json({"keys": rows})
        return
    if not rows:
        say("p2l: there is no key; p2l keys add makes one", err=True)
        return
    from rich.table import Table

    from p2l_sdk.cli.terminal import Console

    table = Table(box=None, pad_edge=False)
    table.add_column("key")
    for column in ("spent today", "of", "this month", "of", "ever", "of"):
        table.add_column(column, justify="right")
    table.add_column("created (UTC)")
    table.add_column("")
    for row in rows:
        spent = row["spent"]
        amounts = [(spent["today"], row["daily"]), (spent["month"], row["monthly"]), (spent["total"], row["budget"])]
        cells = [cell for used, limit in amounts for cell in (f"{used:.4f}", "" if limit is None else f"{limit:g}")]
        state = "" if row["revoked"] is None else f"revoked {row['revoked'][:10]}"
        table.add_row(row["name"], *cells, row["created"][:10], state or ("" if row["managed"] else "from a file"))
    Console().print(table)


@keys.command(short_help="Revoke a key.")
@click.argument("name")
@LEDGER
def revoke(name: str, ledger: str) -> None:
    """Revoke the key called NAME: its next request is refused. What it has spent stays in the ledger."""
    store = _open(ledger)
    store.revoke(name, time.time())
    store.close()
    say(f"p2l: the key {name!r} is revoked", err=True)


def _open(ledger: str, new: bool = False) -> Store:
    if find_spec("fastapi") is None:
        raise MissingExtraError("p2l keys", "fastapi", "serve")
    from p2l_sdk.serve.ledger.opening import MEMORY, open_store

    if ledger == MEMORY:
        raise P2LError("a ledger in memory has only the keys that its server was started with; name a file")
    if not new and "://" not in ledger and not Path(ledger).exists():
        raise P2LError(f"there is no ledger {ledger}; p2l keys add and p2l serve make one")
    return open_store(ledger)


def _row(account: Account) -> dict[str, Any]:
    spent, budgets = account.spent, account.budgets
    return {
        "name": account.name,
        "budget": budgets.total,
        "daily": budgets.daily,
        "monthly": budgets.monthly,
        "spent": {"today": spent.today, "month": spent.month, "total": spent.total},
        "created": _moment(account.created),
        "revoked": None if account.revoked is None else _moment(account.revoked),
        "managed": account.managed,
    }


def _moment(seconds: float) -> str:
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        raise P2LError(f"the ledger has the time {seconds:g}, which is none; restore it from a copy") from None
