"""Spend and keys outlive servers and are shared by them: real processes, killed, restarted and side by side, against
LLMs that keep their own books."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from billing_llm import BillingLLMs
from gateway_llms import CHEAP, DEAR, HELLO, MIDDLE
from gateway_server import eventually
from serve_process import p2l_serve, redis_server

from p2l_sdk.cli import cli
from p2l_sdk.errors import P2LError
from p2l_sdk.serve.ledger.opening import open_store

PRICES = {CHEAP: (0.5, 1.0), MIDDLE: (2.0, 5.0), DEAR: (10.0, 40.0)}  # USD per million tokens
SECRET = "sk-team-0123456789"
TEAM = {"authorization": f"Bearer {SECRET}"}


@pytest.fixture(scope="module")
def llms():
    with BillingLLMs(PRICES).serving() as running:
        yield running


@pytest.fixture
def config(llms) -> dict[str, Any]:
    llms.reset()
    models = {
        name: {
            "base_url": llms.url(name),
            "prices": {"input": prices[0], "output": prices[1], "output_tokens": 200},
            "timeout": 10.0,
        }
        for name, prices in PRICES.items()
    }
    return {"models": models, "breaker_failures": 1000, "deadline": 20.0}


def key_file(folder: Path, *budget: float) -> Path:
    path = folder / "keys"
    path.write_text(" ".join(map(str, (SECRET, "team", *budget))))
    return path


def spent(ledger: Path | str) -> float:
    store = open_store(str(ledger))
    [account] = [account for account in store.accounts() if account.name == "team"]
    store.close()
    return account.spent.total


def ask(url: str, **fields: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {fields.pop('secret', SECRET)}"}
    body = {"model": DEAR, "messages": HELLO, "max_tokens": 100, **fields}
    return httpx.post(f"{url}/chat/completions", json=body, headers=headers, timeout=30)


async def many(urls: list[str], bodies: list[dict[str, Any]]) -> Counter[int]:
    """Send requests at once, in turns to the servers; how often each status came."""
    async with httpx.AsyncClient(headers=TEAM, timeout=30, limits=httpx.Limits(max_connections=100)) as client:
        urls = [f"{urls[i % len(urls)]}/chat/completions" for i in range(len(bodies))]
        replies = await asyncio.gather(*(client.post(url, json=body) for url, body in zip(urls, bodies, strict=True)))
    return Counter(reply.status_code for reply in replies)


@pytest.mark.long
def test_spend_survives_a_restart(config, llms, tmp_path):
    keys = key_file(tmp_path, 0.01245)
    ledger = Path(f"{keys}.ledger")  # stands beside the file of keys, if nothing else is said
    with p2l_serve(tmp_path, config, "--api-keys", keys) as server:
        assert [ask(server.url).status_code for _ in range(2)] == [200, 200]
        assert server.end(signal.SIGTERM) == -signal.SIGTERM
    assert spent(ledger) == pytest.approx(sum(llms.bills.values()), rel=1e-6)
    with p2l_serve(tmp_path, config, "--api-keys", keys) as server:
        cut = ask(server.url)  # what is left pays for a shorter answer only
        assert int(cut.headers["x-p2l-max-tokens"]) < 100
        refused = ask(server.url)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    assert sum(llms.bills.values()) <= 0.01245 * 1.01
    assert SECRET.encode() not in ledger.read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_is_killed_in_the_middle_of_calls_has_spent_what_was_set_aside(config, llms, tmp_path, stream):
    keys = key_file(tmp_path, 0.05)
    if not stream:
        llms.behaviour.update(dict.fromkeys(PRICES, "silent"))
    with p2l_serve(tmp_path, config, "--api-keys", keys, "--ledger", tmp_path / "l") as server:

        def call() -> None:
            with pytest.raises(httpx.HTTPError):
                ask(server.url, max_tokens=200, stream=stream)

        calls = [threading.Thread(target=call) for _ in range(4)]
        for thread in calls:
            thread.start()
        eventually(lambda: len(llms.bodies) == 4)
        server.end(signal.SIGKILL)
        for thread in calls:
            thread.join()
    billed = sum(llms.bills.values())
    assert billed <= spent(tmp_path / "l") <= 0.05  # never less than the LLMs have written
    assert spent(tmp_path / "l") == pytest.approx(4 * 0.01021, rel=0.1)
    llms.behaviour.clear()
    with p2l_serve(tmp_path, config, "--api-keys", keys, "--ledger", tmp_path / "l") as server:
        statuses = asyncio.run(many([server.url], [{"model": DEAR, "messages": HELLO, "max_tokens": 500}] * 8))
        assert set(statuses) == {200, 429}
    assert sum(llms.bills.values()) <= 0.05 * 1.01


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_two_servers_on_one_budget_do_not_overspend(kind, config, llms, tmp_path):
    budget = 0.05
    keys = key_file(tmp_path, budget)
    with (
        redis_server(tmp_path) if kind == "redis" else _path(tmp_path / "shared") as ledger,
        p2l_serve(tmp_path, config, "--api-keys", keys, "--ledger", ledger) as one,
        p2l_serve(tmp_path, config, "--api-keys", keys, "--ledger", ledger) as other,
    ):
        bodies = [{"model": DEAR, "messages": HELLO, "max_tokens": 20 + i % 30} for i in range(120)]
        statuses = asyncio.run(many([one.url, other.url], bodies))
        assert set(statuses) == {200, 429}
        assert 0.9 * budget < sum(llms.bills.values()) <= 1.01 * budget
        eventually(lambda: spent(ledger) == pytest.approx(sum(llms.bills.values()), rel=1e-6))
        told = httpx.get(f"{other.address}/metrics", headers=TEAM).text
        [line] = [line for line in told.splitlines() if line.startswith('p2l_key_spend_usd{key="team"}')]
        assert float(line.split()[1]) == pytest.approx(spent(ledger))


class _path:  # noqa: N801
    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> str:
        return str(self.path)

    def __exit__(self, *_: object) -> None: ...


def p2l_keys(capsys, *arguments: object) -> str:
    """Run p2l keys in this process; what it prints."""
    capsys.readouterr()
    cli(["keys", *map(str, arguments)], standalone_mode=False)
    return capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_keys_are_added_and_revoked_while_a_server_runs(kind, config, llms, tmp_path, capsys):
    with redis_server(tmp_path) if kind == "redis" else _path(tmp_path / "ledger") as ledger:
        with p2l_serve(tmp_path, config, "--ledger", ledger, "--host", "127.0.0.1") as server:
            assert ask(server.url, secret="sk-nobody-0123456789").status_code == 401
            secret = p2l_keys(capsys, "add", "team", "--daily", "0.005", "--ledger", ledger).strip()
            eventually(lambda: ask(server.url, secret=secret, max_tokens=1).status_code == 200, 2)
            refused = ask(server.url, secret=secret, n=50)
            assert refused.status_code == 429
            assert "left of its daily budget of $0.005" in refused.json()["error"]["message"]
            eventually(lambda: spent(ledger) == pytest.approx(sum(llms.bills.values()), rel=1e-6))
            [row] = json.loads(p2l_keys(capsys, "list", "--ledger", ledger, "--json"))["keys"]
            assert (row["name"], row["daily"], row["budget"], row["revoked"]) == ("team", 0.005, None, None)
            assert row["spent"]["today"] == row["spent"]["total"] == pytest.approx(sum(llms.bills.values()), rel=1e-6)
            assert "team" in p2l_keys(capsys, "list", "--ledger", ledger)
            p2l_keys(capsys, "revoke", "team", "--ledger", ledger)
            eventually(lambda: ask(server.url, secret=secret, max_tokens=1).status_code == 401, 2)
            asked = len(llms.bodies)
            assert ask(server.url, secret=secret).status_code == 401
            assert len(llms.bodies) == asked
        if kind == "sqlite":
            assert secret.encode() not in Path(ledger).read_bytes()


def test_a_redis_that_goes_away_grants_nothing_and_comes_back(config, llms, tmp_path):
    keys = key_file(tmp_path, 1.0)
    with redis_server(tmp_path) as url, p2l_serve(tmp_path, config, "--api-keys", keys, "--ledger", url) as server:
        import redis

        assert ask(server.url).status_code == 200
        redis.Redis.from_url(url).client_kill_filter(_type="normal")  # a connection that breaks is opened again
        eventually(lambda: ask(server.url).status_code == 200, 5)
        redis.Redis.from_url(url).shutdown(nosave=True)
        asked = len(llms.bodies)
        refused = ask(server.url)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "ledger_unavailable")
        assert len(llms.bodies) == asked
        assert httpx.get(f"{server.address}/health").status_code == 200
        assert "p2l_requests_total" in httpx.get(f"{server.address}/metrics", headers=TEAM).text


def test_keys_of_a_file_stand_in_the_ledger_and_are_revoked_in_the_file(config, tmp_path, capsys):
    keys, ledger = key_file(tmp_path, 0.5), tmp_path / "l"
    with p2l_serve(tmp_path, config, "--api-keys", keys, "--ledger", ledger) as server:
        assert ask(server.url).status_code == 200
        [row] = json.loads(p2l_keys(capsys, "list", "--ledger", ledger, "--json"))["keys"]
        assert (row["name"], row["budget"], row["managed"]) == ("team", 0.5, False)
    with pytest.raises(P2LError, match="the key 'team' comes from a file or a variable; take it out there"):
        p2l_keys(capsys, "revoke", "team", "--ledger", ledger)
    keys.write_text(p2l_keys(capsys, "add", "mine", "--ledger", ledger))  # else revoking it would not end it
    with pytest.raises(P2LError, match="the secret of the key 'key-1' is that of a key in the ledger"):
        cli(["serve", "--api-keys", str(keys), "--ledger", str(ledger)], standalone_mode=False)


def test_the_keys_commands_say_what_is_wrong(tmp_path, capsys):
    ledger = tmp_path / "l"
    for arguments, message in [
        (("list", "--ledger", ledger), "there is no ledger .*/l; p2l keys add and p2l serve make one"),
        (("add", "two words", "--ledger", ledger), "the name of a key is one word of printable characters"),
        (("add", "x", "--daily", "1e12", "--ledger", ledger), "a budget is a number of USD, from 0 to 100000000"),
        (("add", "x", "--budget", "-1", "--ledger", ledger), "a budget is a number of USD"),
        (("list", "--ledger", "memory"), "a ledger in memory has only the keys that its server was started with"),
    ]:
        with pytest.raises(P2LError, match=message):
            p2l_keys(capsys, *arguments)
        assert not ledger.exists()


def test_what_a_ledger_in_memory_forgets_is_said(config, tmp_path):
    with p2l_serve(tmp_path, config, "--api-keys", key_file(tmp_path, 1.0), "--ledger", "memory") as server:
        assert "what keys spend is forgotten when this server stops; --ledger FILE keeps it" in server.log
