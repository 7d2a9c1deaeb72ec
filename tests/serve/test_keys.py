"""API keys: where they are read, and their budgets."""

from __future__ import annotations

import asyncio
import random
import re

import pytest

from p2l_sdk.errors import P2LError
from p2l_sdk.serve.auth import Key, Keys, OutOfBudget
from p2l_sdk.serve.ledger.entries import Budgets, Grant, Hold, Settlement, nano


def test_keys(tmp_path, monkeypatch):
    monkeypatch.setenv("P2L_API_KEYS", "sk-0123456789abcdef,sk-1123456789abcdef named 2.5")
    keys = Keys.load()
    assert len(keys) == 2
    assert (keys.find("sk-0123456789abcdef").name, keys.find("sk-1123456789abcdef").budget) == ("key-1", 2.5)
    assert keys.find("sk-0123456789abcde") is None
    assert keys.find("\ud800") is None
    assert not Keys([])
    for line, message in [
        ("short", "line 1: an API key has at least 16 characters"),
        ("sk-2123456789abcdef name x", "line 1: after the key stand its name and its budget"),
        ("sk-2123456789abcdef name -1", "its budget, a number >= 0"),
        ("sk-2123456789abcdef name 1 2", "nothing else"),
        ("sk-2123456789abcdef name daily=1 daily=2", "nothing else"),
        ("sk-2123456789abcdef name weekly=1", "nothing else"),
        ("sk-2123456789abcdef name monthly=nan", "nothing else"),
        ("sk-2123456789abcdef name =1 2", "nothing else"),
        ("sk-2123456789abcdef named", "two API keys have the same name: 'named'"),
        ("sk-0123456789abcdef again", "two API keys have the same secret: 'key-1'"),
    ]:
        (tmp_path / "keys").write_text(line)
        with pytest.raises(P2LError, match=message) as error:
            Keys.load(tmp_path / "keys")
        assert line.split()[0] not in str(error.value)
    with pytest.raises(P2LError, match="cannot be read: No such file"):
        Keys.load(tmp_path / "absent")


def test_a_key_may_have_several_budgets(monkeypatch):
    monkeypatch.setenv("P2L_API_KEYS", "sk-0123456789abcdef a 25 monthly=10 daily=1,sk-1123456789abcdef b daily=0")
    assert [key.budgets for key in Keys.load()] == [Budgets(25.0, 1.0, 10.0), Budgets(None, 0.0, None)]


def test_a_key_says_what_is_left_of_its_budget():
    key = Key("team-docs", b"", 0.00125)

    async def ask(cost: float) -> OutOfBudget | None:
        hold = Hold(key.account, str(random.random()), nano(cost), nano(cost), key.budgets, 60)
        grant = await key.ledger.reserve(hold)
        if settled and grant.amount is not None:
            key.ledger.settle(Settlement(key.account, hold.id, nano(cost)))
        return key.refused(grant, cost) if grant.amount is None else None

    settled = True
    for _ in range(11):
        assert asyncio.run(ask(0.0001)) is None
    left = r"the key 'team-docs' has \$0.00015 left of its budget of \$0.00125, and this needs up to \$0.0009; send a"
    assert re.match(left, str(asyncio.run(ask(3 * 0.0003))))
    assert asyncio.run(ask(0.00015)) is None  # exactly what is left
    spent = r"the budget of \$0.00125 of the key 'team-docs' is spent$"
    assert re.match(spent, str(asyncio.run(ask(0.0009))))


def test_what_is_held_comes_back_and_what_is_spent_does_not():
    key = Key("team", b"", 1.0, daily=0.5)

    def refusal(left: float, held: float, cost: float, budget: str = "budget", read: float = 0.0) -> OutOfBudget:
        return key.refused(Grant(None, nano(left), budget, nano(1.0), nano(held)), cost, read)

    held = refusal(0.1, 0.3, 0.4)
    assert (held.status, held.code, held.headers) == (429, "budget_in_use", {"Retry-After": "1"})
    assert re.search(r"requests in progress hold \$0.3, .* \$0.4; try again .*max_tokens", str(held))
    spent = refusal(0.1, 0.2, 0.4, read=0.39)
    assert (spent.code, spent.headers) == ("insufficient_quota", {"x-should-retry": "false"})
    assert re.search(r"\(\$0.39 of it to read the prompt\); send a shorter prompt, a lower cost", str(spent))
    assert re.search(
        r"is spent; it begins anew on \d{4}-\d\d-\d\d at 00:00 UTC$", str(refusal(0, 0, 1, "daily budget"))
    )
    assert re.search(
        r"is spent; it begins anew on \d{4}-\d\d-01 at 00:00 UTC$", str(refusal(0, 0, 1, "monthly budget"))
    )
