"""A ledger on a Redis server, which several machines share. Each entry is one script, which Redis runs as a whole.

What is set aside is a key of Redis with an expiry. It is counted as spent from the start, so nothing has to happen when
it expires. All keys of an account have one hash tag: they are together on one node of a cluster.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from p2l_sdk.errors import MissingExtraError, P2LError
from p2l_sdk.serve.ledger.entries import (
    Account,
    Budgets,
    Entry,
    Grant,
    Hold,
    LedgerError,
    Spent,
    periods,
    utc_day,
)
from p2l_sdk.serve.ledger.store import absent, taken

_SECONDS = 2.0  # until Redis must have answered
_HOLD = """
local spend, held, open = KEYS[1], KEYS[2], KEYS[3]
local least, most, seconds, day = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local limits = {ARGV[5], ARGV[6], ARGV[7]}
local enough, now, id = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]
local old = redis.call('HMGET', held, 'day', 'amount')
local function periods(day) return {'ever', string.sub(day, 1, 7), day} end
local function add(day, amount)
  for _, period in ipairs(periods(day)) do redis.call('HINCRBY', spend, period, string.format('%.0f', amount)) end
end
local had = {}
if old[1] then for _, period in ipairs(periods(old[1])) do had[period] = tonumber(old[2]) end end
local left, tightest = nil, 0
for i, period in ipairs(periods(day)) do
  if limits[i] ~= '' then
    local room = tonumber(limits[i]) - tonumber(redis.call('HGET', spend, period) or '0') + (had[period] or 0)
    if left == nil or room < left then left, tightest = room, i end
  end
end
local amount = most
if left ~= nil then amount = math.min(most, left, math.max(enough, math.floor(left / 2))) end
local granted = amount >= least
local others = 0
if granted then
  if old[1] then add(old[1], -tonumber(old[2])) end
  add(day, amount)
  redis.call('HSET', held, 'day', day, 'amount', string.format('%.0f', amount))
  redis.call('EXPIRE', held, seconds)
  redis.call('HSET', open, id, string.format('%s %.0f %.3f', day, amount, now + tonumber(seconds)))
else
  local entries = redis.call('HGETALL', open)
  for i = 1, #entries, 2 do
    local its_day, its_amount, expires = string.match(entries[i + 1], '(%S+) (%S+) (%S+)')
    if tonumber(expires) < now then
      redis.call('HDEL', open, entries[i])
    elseif entries[i] ~= id and periods(its_day)[tightest] == periods(day)[tightest] then
      others = others + tonumber(its_amount)
    end
  end
end
local function text(number) return string.format('%.0f', number) end
return {granted and 1 or 0, text(amount), left and text(left) or '', tightest, text(others)}
"""
_SETTLE = """
local spend, held = KEYS[1], KEYS[2]
local old = redis.call('HMGET', held, 'day', 'amount')
if old[1] then
  local more = string.format('%.0f', tonumber(ARGV[1]) - tonumber(old[2]))
  for _, period in ipairs({'ever', string.sub(old[1], 1, 7), old[1]}) do redis.call('HINCRBY', spend, period, more) end
  redis.call('DEL', held)
end
redis.call('HDEL', KEYS[3], ARGV[2])
return 0
"""


class RedisStore:
    """See `Store`.

    Args:
        url: of the server and its database: redis://[[user]:password@]host[:port][/number], rediss:// with TLS.

    Raises:
        MissingExtraError: the package redis is not installed.
        P2LError: the address is malformed, or nobody answers there.
    """

    instant = False

    def __init__(self, url: str) -> None:
        try:
            import redis
        except ImportError:
            raise MissingExtraError("a ledger on Redis", "redis", "redis") from None
        self._faults: tuple[type[Exception], ...] = (redis.RedisError, OSError)
        try:
            self._redis: Any = redis.Redis.from_url(
                url, decode_responses=True, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS
            )
            self._redis.ping()
        except (*self._faults, ValueError) as error:
            host = url.rpartition("@")[2]  # without a password
            raise P2LError(f"there is no Redis that answers at {host}: {_plain(error)}") from None

    def apply(self, entries: Sequence[Entry]) -> list[Grant | None]:
        """Book some entries, in one round trip."""
        now = time.time()
        day = utc_day(now)
        with self._working():
            pipeline = self._redis.pipeline(transaction=False)
            for entry in entries:
                account = f"p2l:{{{entry.account}}}"
                keys = [_spend(entry.account), f"{account}:hold:{entry.id}", f"{account}:open"]
                if isinstance(entry, Hold):
                    limits = entry.budgets.limits(day)
                    amounts = [limits[period][1] if period in limits else "" for period in periods(day)]
                    values: list[Any] = [entry.least, entry.most, max(1, round(entry.seconds)), day, *amounts]
                    values += [entry.enough, f"{now:.3f}", entry.id]
                    pipeline.eval(_HOLD, len(keys), *keys, *values)
                else:
                    pipeline.eval(_SETTLE, len(keys), *keys, entry.amount, entry.id)
            replies = pipeline.execute()
        pairs = zip(entries, replies, strict=True)
        return [_grant(entry, reply, day) if isinstance(entry, Hold) else None for entry, reply in pairs]

    def spent(self, account: str) -> Spent:
        """What a key has spent."""
        with self._working():
            return self._spent(account)

    def accounts(self) -> list[Account]:
        """All keys."""
        with self._working():
            kept = self._redis.hgetall("p2l:keys")
            return sorted(
                (self._account(id, json.loads(text)) for id, text in kept.items()), key=lambda a: (a.created, a.name)
            )

    def add(self, account: Account) -> None:
        """Add a key."""
        budgets = account.budgets
        text = json.dumps(
            {"name": account.name, "budgets": [budgets.total, budgets.daily, budgets.monthly],
             "created": account.created, "managed": account.managed}
        )  # fmt: skip
        with self._working():
            if account.managed:
                if not self._redis.hsetnx("p2l:names", account.name, account.id):
                    raise P2LError(taken(account, account.name))
                self._redis.hset("p2l:keys", account.id, text)
                return
            old = self._redis.hget("p2l:keys", account.id)
            if old is not None and json.loads(old)["managed"]:
                raise P2LError(taken(account, account.name))
            self._redis.hset("p2l:keys", account.id, text)

    def revoke(self, name: str, now: float) -> None:
        """Revoke a managed key."""
        with self._working():
            id = self._redis.hget("p2l:names", name)
            if id is not None:
                kept = json.loads(self._redis.hget("p2l:keys", id) or "{}")
                self._redis.hset("p2l:keys", id, json.dumps({**kept, "revoked": now}))
                self._redis.hdel("p2l:names", name)
                return
        raise P2LError(absent(name, self.accounts()))

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _account(self, id: str, kept: dict[str, Any]) -> Account:
        return Account(
            id, kept["name"], Budgets(*kept["budgets"]), kept["created"], kept.get("revoked"), kept["managed"],
            self._spent(id),
        )  # fmt: skip

    def _spent(self, account: str) -> Spent:
        day = utc_day(time.time())
        amounts = self._redis.hmget(_spend(account), [period or "ever" for period in periods(day)])
        return Spent.of({period: int(amount or 0) for period, amount in zip(periods(day), amounts, strict=True)}, day)

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        try:
            yield
        except self._faults as error:
            raise LedgerError(_plain(error)) from None


def _spend(account: str) -> str:
    return f"p2l:{{{account}}}:spend"


def _grant(hold: Hold, reply: list[Any], day: str) -> Grant:
    granted, amount, left, tightest, held = reply
    if left == "":
        return Grant(int(amount))
    name, limit = hold.budgets.limits(day)[periods(day)[int(tightest) - 1]]
    return Grant(int(amount) if granted else None, int(left), name, limit, int(held))


def _plain(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
