"""API keys of the server: who may call it and how much they may spend."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import hmac
import math
import os
import secrets
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request

from p2l_sdk.errors import P2LError
from p2l_sdk.modeling.number_p2l import to_number
from p2l_sdk.routing.route import usd
from p2l_sdk.serve.errors import OVERLOADED, ApiError
from p2l_sdk.serve.ledger.entries import NANO, Account, Budgets, Grant, Hold, Settlement, is_key_name, nano
from p2l_sdk.serve.ledger.ledger import Ledger

ENVIRONMENT = "P2L_API_KEYS"
SHORTEST_KEY = 16
_BUDGETS = ("budget", "daily", "monthly")
_BARE = ("x-api-key", "api-key")  # headers that hold a bare key
_HELD_SECONDS = 1  # until another try is worthwhile, where requests in progress hold what is left
_MOST_KEYS = 10_000  # from a file: each request is compared with all of them, and each is booked at the start
_FRESH_SECONDS = 0.9  # how late the server may notice that a key was added or revoked


class Unauthorized(ApiError):  # noqa: N818  named for what happened, like all errors of the server
    """The request has no key, or an unknown one."""

    status, code = 401, "invalid_api_key"


class OutOfBudget(ApiError):  # noqa: N818
    """The key's remaining budget is too small for this request."""

    status, type, code = 429, "insufficient_quota", "insufficient_quota"


class BudgetInUse(OutOfBudget):
    """The key's budget would do, but for what its requests in progress hold, some of which comes back."""

    type, code = OVERLOADED, "budget_in_use"


@dataclass(eq=False)
class Key:
    """An API key. The secret itself is not stored.

    Attributes:
        name: for people and the log.
        digest: SHA-256 of the secret.
        budget, daily, monthly: USD that may be spent with it ever, in a day and in a month of UTC; None for no limit.
        ledger: counts what is spent with it.
    """

    name: str
    digest: bytes = field(repr=False)
    budget: float | None = None
    daily: float | None = None
    monthly: float | None = None
    ledger: Ledger = field(default_factory=Ledger, repr=False)

    @property
    def account(self) -> str:
        """Its id in the ledger."""
        return self.digest.hex()

    @property
    def budgets(self) -> Budgets:
        """All limits."""
        return Budgets(self.budget, self.daily, self.monthly)

    @property
    def spent(self) -> float:
        """USD so far, including what is set aside for requests in progress; it may block."""
        return self.ledger.spent(self.account).total

    @property
    def limited(self) -> bool:
        """Whether it has a budget."""
        return self.budgets != Budgets()

    async def require_any(self) -> None:
        """Ask whether there is anything left to spend.

        Raises:
            OutOfBudget: there is not.
            LedgerError: the ledger does not say.
        """
        hold = Hold(self.account, uuid.uuid4().hex, 1, 1, self.budgets, _HELD_SECONDS)
        grant = await self.ledger.reserve(hold)
        if grant.amount is None:
            raise self.refused(grant, 1 / NANO)
        self.ledger.settle(Settlement(hold.account, hold.id, 0))

    def refused(
        self, grant: Grant, cost: float, read: float = 0.0, counts: str = "", shorter: bool = True
    ) -> OutOfBudget:
        """The error for a request that the ledger has refused.

        Args:
            grant: the refusal.
            cost: USD that the request needs at least.
            read: what of it is for reading the prompt.
            counts: as how much the parts of the prompt count, in words.
            shorter: whether a shorter prompt would need less.
        """
        left, needs, limit = (grant.left or 0) / NANO, nano(cost) / NANO, usd(grant.limit / NANO)
        has = f"the key {self.name!r} has {usd(max(left, 0.0))} left of its {grant.budget} of {limit}"
        if (grant.left or 0) + grant.held >= nano(cost):
            text = (
                f"{has}, as its requests in progress hold {usd(grant.held / NANO)}, and this needs up to {usd(needs)}; "
                "try again when they have ended, or set max_tokens in all of them, so that they hold less"
            )
            return BudgetInUse(text, headers={"Retry-After": str(_HELD_SECONDS)})
        again = _anew(grant.budget)
        if left <= 0:
            text = f"the {grant.budget} of {limit} of the key {self.name!r} is spent{again}"
        else:
            remedy = "a shorter prompt, " if read > 0.0 and shorter else ""
            why = f": {counts}" if counts else ""
            prompt = f" ({usd(read)} of it to read the prompt{why})" if read > 0.0 else ""
            text = (
                f"{has}, and this needs up to {usd(needs)}{prompt}; send {remedy}a lower cost or a smaller n, or name "
                f"a cheaper LLM{again}"
            )
        return OutOfBudget(text, headers={"x-should-retry": "false"})  # respected by OpenAI's clients


def _anew(budget: str) -> str:
    """When a budget begins anew, for the end of a message; nothing for one that does not."""
    today = datetime.datetime.now(datetime.UTC).date()
    if budget.startswith("daily"):
        day = today + datetime.timedelta(days=1)
    elif budget.startswith("monthly"):
        day = (today.replace(day=1) + datetime.timedelta(days=32)).replace(day=1)
    else:
        return ""
    return f"; it begins anew on {day} at 00:00 UTC"


class Keys:
    """All keys of a server, as a guard of its endpoints: a request without one of them is refused; for all others the
    key is put in `request.state.key`.

    Args:
        keys: that stay while the server runs.
        ledger: counts what is spent; if it outlives the process, it may have further keys, which come and go.

    Attributes:
        ledger: as given, or one in memory.

    Raises:
        P2LError: two keys have the same name or the same secret.
    """

    def __init__(self, keys: Sequence[Key], ledger: Ledger | None = None) -> None:
        self._keys = tuple(keys)
        for what in ("name", "digest"):
            first: dict[object, Key] = {}
            for key in self._keys:
                same = first.setdefault(getattr(key, what), key)
                if same is not key:
                    raise P2LError(
                        f"two API keys have the same {'name' if what == 'name' else 'secret'}: {same.name!r}"
                    )
        self.ledger = Ledger() if ledger is None else ledger
        self._others: dict[bytes, Key] = {}  # those of the ledger
        self._read_at = -math.inf
        self._reading: asyncio.Task[None] | None = None
        for key in self._keys:
            key.ledger = self.ledger

    def within(self, ledger: Ledger) -> Keys:
        """The same keys, listed in a ledger that counts what they spend.

        Raises:
            P2LError: one of them was made by `p2l keys`, so that revoking it there would not end it.
        """
        now = time.time()
        ledger.store.apply(())  # opens a file for good, which is much faster than once for each key
        for key in self._keys:
            ledger.store.add(Account(key.account, key.name, key.budgets, now, managed=False))
        return Keys(self._keys, ledger)

    def in_use(self) -> list[Account]:
        """Each key that is in use, with what it has spent, including what is set aside; it may block."""
        ours = {key.account for key in self._keys}
        accounts = self.ledger.store.accounts()
        return [one for one in accounts if one.id in ours or (one.managed and one.revoked is None)]

    @property
    def limited(self) -> bool:
        """Whether there are budgets, or a ledger in which there may be some at any time."""
        return any(key.limited for key in self._keys) or not self.ledger.store.instant

    def __len__(self) -> int:
        return len(self._keys)

    def __bool__(self) -> bool:
        """Whether there are keys, or a ledger in which there may be some at any time."""
        return bool(self._keys) or not self.ledger.store.instant

    @property
    def forgetful(self) -> bool:
        """Whether there are budgets that begin anew with every start of the server."""
        return self.ledger.store.instant and any(key.limited for key in self._keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    @classmethod
    def load(cls, file: str | Path | None = None) -> Keys:
        """Read the keys from a file and from the environment variable P2L_API_KEYS: one per line (in the variable also
        separated by commas), each optionally followed by a name and budgets in USD, "25 daily=1 monthly=10". Lines
        that begin with # are ignored.

        Raises:
            P2LError: the file cannot be read, a line is invalid, or the sources given hold no key. The message names
                the line, never the key.
        """
        environment = os.environ.get(ENVIRONMENT)  # set but empty still counts as a source: no key there is an error
        lines = [
            (f"{ENVIRONMENT}, entry {i}", line)
            for i, line in enumerate((environment or "").replace(",", "\n").splitlines(), 1)
        ]
        if file is not None:
            try:
                text = Path(file).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise P2LError(f"the file of API keys {str(file)!r} cannot be read: {reason}") from None
            lines += [(f"{file}, line {i}", line) for i, line in enumerate(text.splitlines(), 1)]
        found: list[Key] = []
        for place, line in lines:
            if line.strip() and not line.lstrip().startswith("#"):
                found.append(_key(place, line.split(), f"key-{len(found) + 1}"))
            if len(found) > _MOST_KEYS:
                raise P2LError(f"{place}: more than {_MOST_KEYS:,} API keys; put the rest into a ledger: p2l keys add")
        named = [str(file)] if file is not None else []
        named += [ENVIRONMENT] if environment is not None else []
        if named and not found:
            raise P2LError(
                f"there is no API key in {' or '.join(named)}, so anybody could call the server; write one there, on a "
                "line of its own, or leave it out (unset the variable)"
            )
        return cls(found)

    def find(self, secret: str) -> Key | None:
        """The key with this secret, which is compared with all keys in constant time; or that of the ledger, found by
        its hash."""
        digest, found = _digest(secret), None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found or self._others.get(digest)

    async def __call__(self, request: Request) -> None:
        """Check a request and set `request.state.key`.

        Raises:
            Unauthorized: the request carries none of the keys.
            LedgerError: the ledger does not say which keys it has.
        """
        key = self._of(request)
        if (key is None or key not in self._keys) and not self.ledger.store.instant:
            await self._up_to_date()
            key = self._of(request)
        if key is None:
            raise Unauthorized(
                "this server needs an API key: send the header 'Authorization: Bearer KEY' (or x-api-key, or api-key)",
                headers={"WWW-Authenticate": "Bearer"},
            )
        request.state.key = key

    def _of(self, request: Request) -> Key | None:
        return next(filter(None, map(self.find, secrets_of(request))), None)

    async def _up_to_date(self) -> None:
        """Read the keys of the ledger, unless they have just been read; once for all who wait for them."""
        if time.monotonic() - self._read_at < _FRESH_SECONDS:
            return
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        began = time.monotonic()
        try:
            accounts = await self.ledger.accounts()
        finally:
            self._reading = None
        self._others = {
            bytes.fromhex(account.id): Key(account.name, bytes.fromhex(account.id), *_limits(account), self.ledger)
            for account in accounts
            if account.managed and account.revoked is None
        }
        self._read_at = began


def _limits(account: Account) -> tuple[float | None, float | None, float | None]:
    return account.budgets.total, account.budgets.daily, account.budgets.monthly


def new_secret() -> str:
    """A secret for a new key, 256 bits."""
    return "sk-p2l-" + secrets.token_urlsafe(32)


def account_of(secret: str) -> str:
    """The id in the ledger of the key with this secret."""
    return _digest(secret).hex()


def secrets_of(request: Request) -> Iterator[str]:
    """What may be a key of ours: clients made for Anthropic or Azure send theirs in headers of their own, perhaps
    beside an `Authorization` that is meant for a proxy on the way."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield secret.strip()
    for name in _BARE:
        if name in request.headers:
            yield request.headers[name].strip()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _key(place: str, words: list[str], name: str) -> Key:
    secret, *rest = words
    if len(secret) < SHORTEST_KEY:
        raise P2LError(f"{place}: an API key has at least {SHORTEST_KEY} characters")
    if not secret.isprintable():
        raise P2LError(f"{place}: an API key has printable characters only, or no client can send it")
    if rest and not is_key_name(rest[0]):
        raise P2LError(f"{place}: the name of a key is one word of printable characters")
    budgets: dict[str, float] = {}
    for word in rest[1:]:
        kind, _, amount = word.rpartition("=")
        kind = kind or "budget"
        budgets[kind] = to_number(amount) if kind in _BUDGETS and kind not in budgets else -1.0
    if not all(usd >= 0 for usd in budgets.values()):
        raise P2LError(
            f"{place}: after the key stand its name and its budget, a number >= 0, USD, or daily=USD, monthly=USD; "
            "nothing else"
        )
    total, daily, monthly = map(budgets.get, _BUDGETS)
    return Key(rest[0] if rest else name, _digest(secret), total, daily, monthly)
