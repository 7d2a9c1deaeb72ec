"""Ledgers: the same books in memory, in an SQLite file and on a Redis server."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from serve_process import redis_server

from p2l_sdk.errors import P2LError
from p2l_sdk.serve.ledger.entries import NANO, Account, Budgets, Grant, Hold, LedgerError, Settlement, Spent, nano
from p2l_sdk.serve.ledger.ledger import Ledger
from p2l_sdk.serve.ledger.opening import open_store
from p2l_sdk.serve.ledger.sqlite import SQLiteStore
from p2l_sdk.serve.ledger.store import Store

KINDS = ("memory", "sqlite", "redis")
NOON = 1_769_860_800.0  # 2026-01-31 12:00 UTC
DAY = 86_400.0
IDS = map(str, itertools.count())


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(params=KINDS)
def address(request, tmp_path) -> str:
    if request.param == "redis":
        import redis

        url = request.getfixturevalue("redis_url")
        redis.Redis.from_url(url).flushall()
        return url
    return "memory" if request.param == "memory" else str(tmp_path / "ledger")


@pytest.fixture
def store(address) -> Iterator[Store]:
    found = open_store(address)
    yield found
    found.close()


def hold(store: Store, most: float, least: float | None = None, id: str | None = None, **budgets: float) -> Grant:
    entry = Hold("a", id or next(IDS), nano(most if least is None else least), nano(most), Budgets(**budgets), 60)
    [grant] = store.apply([entry])
    assert grant is not None
    return grant


def settle(store: Store, id: str, usd: float) -> None:
    assert store.apply([Settlement("a", id, nano(usd))]) == [None]


def test_what_is_held_is_spent_until_it_is_settled(store):
    assert hold(store, 0.4, id="x", total=1.0) == Grant(nano(0.4), NANO, "budget", NANO)
    assert hold(store, 0.5, id="y", total=1.0).amount == nano(0.5)
    assert hold(store, 0.2, total=1.0) == Grant(None, nano(0.1), "budget", NANO, nano(0.9))
    assert store.spent("a") == Spent(0.9, 0.9, 0.9)
    settle(store, "x", 0.1)
    settle(store, "x", 0.3)  # only the first counts
    settle(store, "never held", 0.3)
    assert store.spent("a") == Spent(0.6, 0.6, 0.6)
    assert store.spent("b") == Spent()


def test_as_much_as_is_left_is_granted_but_not_less_than_is_of_use(store):
    assert hold(store, 5.0, least=0.3, total=1.0).amount == NANO
    assert hold(store, 5.0, least=0.3, total=1.0) == Grant(None, 0, "budget", NANO, NANO)
    assert hold(store, 5.0, least=0.3, total=1.25) == Grant(None, nano(0.25), "budget", nano(1.25), NANO)
    assert hold(store, 5.0, least=0.25, total=1.25).amount == nano(0.25)
    assert hold(store, 0.0, total=1.25).amount == 0
    assert hold(store, 7.0) == Grant(7 * NANO)  # no budget, no limit
    assert hold(store, 0.0, total=1.25).amount is None  # spent beyond what has become its budget


def test_who_does_not_know_how_much_takes_half_but_no_less_than_usual(store):
    def share(id: str, total: float | None = 1.0) -> int | None:
        [grant] = store.apply([Hold("a", id, nano(0.01), nano(0.9), Budgets(total), 60, nano(0.1))])
        assert grant is not None
        return grant.amount

    amounts = [share(str(i)) for i in range(6)]
    assert amounts == [nano(usd) for usd in (0.5, 0.25, 0.125, 0.1, 0.025)] + [None]
    assert share("5", 4.0) == nano(0.9)
    assert share("x", None) == nano(0.9)


def test_no_request_is_so_small_that_it_is_free(store):
    """1 nano-dollar at least is set aside for each, and booked."""
    ids = [next(IDS) for _ in range(1100)]
    budgets, tiny = Budgets(1e-6), nano(4.4e-13)
    grants = store.apply([Hold("a", id, tiny, tiny, budgets, 60) for id in ids])
    store.apply([Settlement("a", id, nano(3e-13)) for id in ids])
    assert [grant is not None and grant.amount for grant in grants] == [1] * 1000 + [None] * 100
    assert store.spent("a").total == 1e-6
    store.apply([Hold("b", "b", nano(0.001), nano(0.001), Budgets(), 60), Settlement("b", "b", 10**6 * tiny)])
    assert store.spent("b").total == 0.001


def test_a_refusal_says_what_requests_in_progress_hold_of_the_same_budget(store, monkeypatch):
    days = iter(["2026-01-30", "2026-01-31", "2026-01-31", "2026-02-01"])
    for module in ("memory", "sqlite", "redis"):
        monkeypatch.setattr(f"p2l_sdk.serve.ledger.{module}.utc_day", lambda _: day)
    for day, held in zip(days, (0.0, 0.4, 0.4, 0.9), strict=True):
        hold(store, 0.4 if day != "2026-01-31" else 0.5, id=day)
        refused = hold(store, 5.0, least=5.0, **({"total": 4.0} if day == "2026-02-01" else {"monthly": 4.0}))
        assert refused.amount is None
        assert refused.held == pytest.approx(nano(held + (0.5 if day == "2026-01-31" else 0.4)), abs=1)
    settle(store, "2026-01-31", 0.5)
    assert hold(store, 5.0, total=4.0).held == nano(0.8)
    assert hold(store, 5.0, daily=4.0).held == nano(0.4)


def test_a_hold_takes_the_place_of_the_one_before(store):
    assert hold(store, 0.6, id="x", total=1.0).amount == nano(0.6)
    for _ in range(2):  # as a client may repeat it that has lost its connection
        assert hold(store, 0.9, id="x", total=1.0) == Grant(nano(0.9), NANO, "budget", NANO)
    assert hold(store, 1.1, id="x", total=1.0).amount is None
    assert store.spent("a").total == 0.9  # a refused one leaves it as it was
    assert hold(store, 0.2, id="x", total=1.0).amount == nano(0.2)
    settle(store, "x", 0.15)
    assert store.spent("a").total == 0.15


@pytest.mark.parametrize(
    ("budgets", "grants", "tightest"),
    [
        ({"daily": 1.0}, [1.0, 1.0, 1.0, 1.0], "daily budget"),
        ({"monthly": 1.5}, [1.5, None, 1.5, None], "monthly budget"),
        ({"total": 1.5}, [1.5, None, None, None], "budget"),
        ({"total": 2.25, "daily": 1.0}, [1.0, 1.0, 0.25, None], "budget"),
        ({"monthly": 1.5, "daily": 1.0}, [1.0, 0.5, 1.0, 0.5], "monthly budget"),
        ({"total": 2.75, "monthly": 1.5, "daily": 1.0}, [1.0, 0.5, 1.0, 0.25], "budget"),
    ],
)
def test_budgets_of_a_day_a_month_and_ever(store, monkeypatch, budgets, grants, tightest):
    """January 30th and 31st, February 1st and 2nd, UTC; on each day a key wants two dollars."""
    for days, expected in zip((-1, 0, 1, 2), grants, strict=True):
        monkeypatch.setattr(time, "time", lambda now=NOON + days * DAY: now)
        grant = hold(store, 2.0, least=0.1, **budgets)
        assert grant.amount == (None if expected is None else nano(expected))
        refused = hold(store, 2.0, least=0.1, **budgets)
        assert (refused.amount, refused.left) == (None, 0)
    assert refused.budget == tightest
    spent = store.spent("a")
    assert (spent.today, spent.total) == (grants[3] or 0.0, sum(filter(None, grants)))
    assert spent.month == sum(filter(None, grants[2:]))


def test_a_request_over_midnight_is_paid_from_the_day_on_which_it_was_held(store, monkeypatch):
    midnight = NOON + DAY / 2
    monkeypatch.setattr(time, "time", lambda: midnight - 10)
    hold(store, 1.0, id="x", daily=1.0)
    hold(store, 1.0, id="y", total=9.0)
    monkeypatch.setattr(time, "time", lambda: midnight + 10)
    settle(store, "x", 0.25)
    assert store.spent("a") == Spent(0.0, 0.0, 1.25)
    assert hold(store, 0.5, id="y", daily=1.0).amount == nano(0.5)  # it is called again on the next day
    assert store.spent("a") == Spent(0.5, 0.5, 0.75)
    monkeypatch.setattr(time, "time", lambda: midnight - 10)
    assert store.spent("a") == Spent(0.25, 0.25, 0.75)


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_what_nobody_settles_stays_spent(kind, tmp_path, request):
    store = open_store(str(tmp_path / "x") if kind == "sqlite" else request.getfixturevalue("redis_url"))
    account = f"left-{kind}"
    store.apply([Hold(account, "gone", NANO, NANO, Budgets(total=1.5), 0.5)])
    time.sleep(1.2)
    [grant] = store.apply([Hold(account, "next", NANO, NANO, Budgets(total=1.5), 60)])
    assert grant == Grant(None, nano(0.5), "budget", nano(1.5))
    store.apply([Settlement(account, "gone", 0)])  # its process comes back, too late
    assert store.spent(account).total == 1.0
    store.close()


def test_keys_come_and_go(store):
    first = Account("aa", "team", Budgets(25.0, 1.0, None), 100.0)
    store.add(first)
    store.add(Account("bb", "docs", created=101.0))
    store.add(Account("cc", "of-a-file", Budgets(1.0), 102.0, managed=False))
    store.add(Account("cc", "of-a-file-2", Budgets(2.0), 103.0, managed=False))  # the file has changed
    with pytest.raises(P2LError, match="there is a key 'team' already; revoke it first, or choose another name"):
        store.add(Account("dd", "team", created=104.0))
    with pytest.raises(P2LError, match="the secret of the key 'mine' is that of a key in the ledger; take it out"):
        store.add(Account("aa", "mine", created=104.0, managed=False))
    store.apply([Hold("aa", "h", 1, nano(0.5), first.budgets, 60)])
    store.revoke("team", 105.0)
    store.add(Account("dd", "team", created=106.0))
    found = store.accounts()
    assert [(a.id, a.name, a.revoked, a.managed) for a in sorted(found, key=lambda a: a.id)] == [
        ("aa", "team", 105.0, True), ("bb", "docs", None, True), ("cc", "of-a-file-2", None, False),
        ("dd", "team", None, True),
    ]  # fmt: skip
    assert {a.id: a.spent.total for a in found} == {"aa": 0.5, "bb": 0.0, "cc": 0.0, "dd": 0.0}
    assert next(a for a in found if a.id == "aa").budgets == first.budgets
    assert next(a for a in found if a.id == "cc").budgets == Budgets(2.0)
    store.revoke("team", 107.0)
    for name, message in [
        ("team", "the key 'team' is revoked already"),
        ("of-a-file-2", "comes from a file or a variable; take it out there"),
        ("nobody", "there is no key 'nobody'"),
    ]:
        with pytest.raises(P2LError, match=message):
            store.revoke(name, 108.0)


HAMMER = """
import random, sys
from p2l_sdk.serve.ledger.entries import Budgets, Hold, Settlement
from p2l_sdk.serve.ledger.opening import open_store
store, budgets, paid = open_store(sys.argv[1]), Budgets(total=0.05, daily=1.0), 0
for i in range(400):
    id = f"{sys.argv[2]}-{i}"
    [grant] = store.apply([Hold("k", id, 100_000, random.randint(100_000, 900_000), budgets, 60)])
    if grant.amount is not None:
        cost = random.randint(0, grant.amount)
        store.apply([Settlement("k", id, cost)])
        paid += cost
print(paid)
"""


@pytest.mark.parametrize("address", ["sqlite", "redis"], indirect=True)
def test_processes_that_share_a_budget_never_grant_twice(address):
    command = [sys.executable, "-c", HAMMER, address]
    running = [subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True) for i in range(2)]
    paid = sum(int(process.communicate(timeout=60)[0]) for process in running)
    assert 0.9 * 50_000_000 < paid <= 50_000_000
    store = open_store(address)
    assert store.spent("k").total == paid / NANO  # exactly
    store.close()


def test_random_books_agree(tmp_path, redis_url):
    """All three grant and count the same, whatever happens in whatever order."""
    stores = [open_store("memory"), open_store(str(tmp_path / "ledger")), open_store(redis_url)]
    rng = random.Random(1)
    for _ in range(40):
        entries = []
        for _ in range(rng.randint(1, 12)):
            id, account = f"r{rng.randint(0, 9)}", f"random-{rng.randint(0, 1)}"
            if rng.random() < 0.5:
                budgets = Budgets(*(rng.choice([None, 0.5, 3.0, 9.0]) for _ in range(3)))
                most = rng.randint(0, NANO)
                entries.append(Hold(account, f"{account}{id}", rng.randint(0, most), most, budgets, 60))
            else:
                entries.append(Settlement(account, f"{account}{id}", rng.randint(0, NANO)))
        first, *others = [[(g and (g.amount, g.left)) for g in store.apply(entries)] for store in stores]
        assert others == [first, first]
        for account in ("random-0", "random-1"):
            assert len({store.spent(account) for store in stores}) == 1
    for store in stores:
        store.close()


class Failing(SQLiteStore):
    """A store that fails while `down`, and notes what it books."""

    down = False

    def apply(self, entries):
        if self.down:
            raise LedgerError("it is down")
        return super().apply(entries)


def test_settlements_wait_for_a_store_that_fails_and_requests_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr("p2l_sdk.serve.ledger.ledger._AGAIN_SECONDS", 0.05)
    store = Failing(tmp_path / "ledger")
    ledger = Ledger(store)

    async def run() -> None:
        asked = [Hold("a", str(i), NANO, NANO, Budgets(total=10.5), 60) for i in range(12)]
        grants = await asyncio.gather(*map(ledger.reserve, asked))
        assert [grant.amount for grant in grants] == [NANO] * 10 + [None] * 2  # in their order
        Failing.down = True
        for i in range(10):
            ledger.settle(Settlement("a", str(i), 1))
        with pytest.raises(LedgerError, match="the ledger of keys and spend cannot be used: it is down") as error:
            await ledger.reserve(asked[0])
        assert (error.value.status, error.value.code) == (503, "ledger_unavailable")
        Failing.down = False
        for _ in range(200):
            if store.spent("a").total < 1:
                break
            await asyncio.sleep(0.01)
        assert store.spent("a").total == 10 / NANO
        ledger.settle(Settlement("a", "11", 0))
        task = asyncio.ensure_future(ledger.reserve(Hold("a", "left", 5, 5, Budgets(), 60)))
        await asyncio.sleep(0)
        task.cancel()  # the client leaves while it is booked
        ledger.settle(Settlement("a", "left", 2))

    asyncio.run(run())
    ledger.close()
    assert open_store(str(tmp_path / "ledger")).spent("a").total == 12 / NANO


def test_what_is_settled_goes_with_the_next_hold(store, monkeypatch):
    if store.instant:
        pytest.skip("there is nothing to wait for")
    ledger, booked, apply = Ledger(store), list[list[str]](), store.apply
    monkeypatch.setattr(store, "apply", lambda entries: booked.append([one.id for one in entries]) or apply(entries))

    async def run() -> None:
        for i in range(4):
            await ledger.reserve(Hold("a", str(i), 5, 5, Budgets(total=1.0), 60))
            ledger.settle(Settlement("a", str(i), 2))
        while ledger.spent("a").total > 8 / NANO:  # without another hold, the last one is settled all the same
            await asyncio.sleep(0.01)

    asyncio.run(run())
    ledger.close()
    assert booked == [["0"], ["0", "1"], ["1", "2"], ["2", "3"], ["3"]]


def test_redis_is_asked_once_for_a_hold(redis_url):
    import redis

    server, store = redis.Redis.from_url(redis_url), open_store(redis_url)
    server.config_resetstat()
    store.apply([Hold("a", next(IDS), 5, 5, Budgets(), 60)])
    asked = {name: one["calls"] for name, one in server.info("commandstats").items()}
    assert asked.get("cmdstat_eval") == 1
    assert not [name for name in asked if name.startswith("cmdstat_script")]


def test_a_place_that_is_no_ledger(tmp_path):
    (tmp_path / "text").write_text("this is no data base, but a text of more than one hundred bytes. " * 10)
    for address, message in [
        (str(tmp_path / "text"), "text cannot be opened: file is not a database; name another file with --ledger"),
        (str(tmp_path / "no" / "x"), "cannot be opened: No such file or directory"),
        (str(tmp_path), "cannot be opened: Is a directory"),
    ]:
        with pytest.raises(P2LError, match=message):
            open_store(address)
    pytest.importorskip("redis")
    with pytest.raises(P2LError, match=r"there is no Redis that answers at 127\.0\.0\.1:1: ") as error:
        open_store("redis://:secret@127.0.0.1:1")
    assert "secret" not in str(error.value)


def test_a_file_is_for_its_owner_only_and_may_be_opened_by_many_at_once(tmp_path):
    path = tmp_path / "ledger"

    def use(_: int) -> Grant:
        store = SQLiteStore(path)
        try:
            return hold(store, 0.01)
        finally:
            store.close()

    with ThreadPoolExecutor(8) as threads:
        assert all(grant.amount for grant in threads.map(use, range(40)))
    store = SQLiteStore(path)
    assert store.spent("a").total == 0.4
    store.close()
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_amounts_are_rounded_up_and_limits_down():
    assert [nano(usd) for usd in (0.0001, 0.1 + 0.2, 1e-10, -1.0, 1e30)] == [100_000, 300_000_000, 1, 0, 10**17]
    assert [nano(usd) for usd in (0.0, 1e-13, 5e-324, 1.0002e-9, 25.0, 1e4)] == [0, 1, 1, 2, 25 * NANO, 10**13]
    assert Budgets(1e-10, None, 0.3).limits("2026-01-31") == {
        "": ("budget", 0),
        "2026-01": ("monthly budget", 300_000_000),
    }
