"""`p2l serve --workers`: several processes at one address that share connections, counters, keys and spend."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from billing_llm import BillingLLMs
from command_line import refused
from gateway_llms import CHEAP, DEAR, HELLO, MIDDLE
from gateway_server import eventually
from serve_process import Server, p2l_serve

from p2l_sdk.serve.ledger.opening import open_store

PRICES = {CHEAP: (0.5, 1.0), MIDDLE: (2.0, 5.0), DEAR: (10.0, 40.0)}  # USD per million tokens
SECRET = "sk-team-0123456789"
TEAM = {"authorization": f"Bearer {SECRET}"}
BODY = {"model": DEAR, "messages": HELLO, "max_tokens": 50}
# a connection for each request, so that all workers get some
EACH_ANEW: dict[str, Any] = {"headers": TEAM, "timeout": 20, "limits": httpx.Limits(max_keepalive_connections=0)}


@pytest.fixture(scope="module")
def llms():
    with BillingLLMs(PRICES).serving() as running:
        yield running


@pytest.fixture
def config(llms) -> dict[str, Any]:
    llms.reset()
    models = {
        name: {"base_url": llms.url(name), "prices": {"input": prices[0], "output": prices[1]}, "timeout": 10.0}
        for name, prices in PRICES.items()
    }
    return {"models": models, "breaker_failures": 1000, "deadline": 20.0}


def workers(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def total(server: Server, name: str) -> float:
    """The sum of a counter over its labels."""
    text = httpx.get(f"{server.address}/metrics", headers=TEAM).text
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def spent(ledger: Path) -> float:
    store = open_store(str(ledger))
    found = sum(account.spent.total for account in store.accounts())
    store.close()
    return found


def test_a_worker_that_is_killed_loses_its_own_calls_only(config, llms, tmp_path):
    """Forty clients for three seconds; after one of them a worker is killed."""
    (tmp_path / "keys").write_text(f"{SECRET} team 50\n")
    seen: Counter[object] = Counter()
    options = ("--api-keys", tmp_path / "keys", "--ledger", tmp_path / "l", "--workers", 2)
    with p2l_serve(tmp_path, config, *options) as server:
        eventually(lambda: len(workers(server)) == 2)
        [first, second] = workers(server)

        async def client(session: httpx.AsyncClient, end: float) -> None:
            while time.monotonic() < end:
                try:
                    seen[(await session.post(f"{server.url}/chat/completions", json=BODY)).status_code] += 1
                except httpx.TransportError:
                    seen["lost"] += 1

        async def kill() -> None:
            await asyncio.sleep(1)
            second.send_signal(signal.SIGKILL)

        async def all_of_it() -> None:
            end = time.monotonic() + 3
            async with httpx.AsyncClient(**EACH_ANEW) as session:
                await asyncio.gather(kill(), *(client(session, end) for _ in range(40)))

        asyncio.run(all_of_it())
        assert set(seen) <= {200, "lost"}
        assert seen["lost"] <= 40
        assert seen[200] > 60
        eventually(lambda: len(workers(server)) == 2)
        assert first.is_running()
        billed, each = sum(llms.bills.values()), sum(llms.bills.values()) / len(llms.bodies)
        eventually(lambda: billed * 0.999 <= spent(tmp_path / "l"))
        assert spent(tmp_path / "l") <= billed + 40 * 5 * each  # those that were lost may have been billed
        # whichever worker is asked, and also the dead one's calls
        assert seen[200] <= total(server, "p2l_choices_total") <= seen[200] + seen["lost"]
        assert total(server, "p2l_choices_total") == total(server, "p2l_choices_total")
        assert total(server, "p2l_key_spend_usd") == pytest.approx(spent(tmp_path / "l"))
        eventually(lambda: "a worker has ended (SIGKILL); another one takes its place" in server.log)
        traffic = httpx.get(f"{server.address}/v1/p2l/traffic", headers=TEAM).json()["traffic"]
        assert sum(row["calls"] for row in traffic) == total(server, "p2l_choices_total")


def test_it_ends_gracefully_and_leaves_nothing_behind(config, llms, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    llms.behaviour[CHEAP] = "silent"  # answers after 5 s, but for that
    replies: list[int] = []
    config = {**config, "models": {CHEAP: {**config["models"][CHEAP], "timeout": 20.0}}}
    with p2l_serve(tmp_path, config, "--workers", 2, P2L_API_KEYS=f"{SECRET} team 1.0") as server:
        assert len(list((tmp_path / "tmp").iterdir())) == 1

        def call() -> None:
            body = {"model": CHEAP, "messages": HELLO, "max_tokens": 5}
            replies.append(
                httpx.post(f"{server.url}/chat/completions", json=body, headers=TEAM, timeout=20).status_code
            )

        calls = [threading.Thread(target=call) for _ in range(6)]
        for thread in calls:
            thread.start()
        eventually(lambda: len(llms.bodies) == 6)
        ids = [worker.pid for worker in workers(server)]
        assert server.end(signal.SIGTERM) == -signal.SIGTERM
        for thread in calls:
            thread.join()
        assert replies == [200] * 6
        assert not any(map(psutil.pid_exists, ids))
        assert not list((tmp_path / "tmp").iterdir())
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.address}/health")


def test_workers_end_when_their_parent_is_killed(tmp_path):
    with p2l_serve(tmp_path, None, "--workers", 2) as server:
        eventually(lambda: len(workers(server)) == 2)
        found = workers(server)
        server.end(signal.SIGKILL)
        eventually(lambda: not any(worker.is_running() for worker in found), 20)


def test_two_workers_have_one_budget_without_a_ledger_of_their_own(config, llms, tmp_path):
    with p2l_serve(tmp_path, config, "--workers", 2, P2L_API_KEYS=f"{SECRET} team 0.02") as server:

        async def run() -> Counter[int]:
            async with httpx.AsyncClient(**EACH_ANEW) as session:
                asked = (session.post(f"{server.url}/chat/completions", json=BODY) for _ in range(60))
                return Counter(reply.status_code for reply in await asyncio.gather(*asked))

        assert set(asyncio.run(run())) == {200, 429}
        assert 0.7 * 0.02 < sum(llms.bills.values()) <= 0.02 * 1.01


def test_what_keeps_a_worker_from_serving_is_said_once(tmp_path):
    assert "nowhere" in refused("serve", "--workers", 2, "--model", tmp_path / "nowhere", "--port", 0)[-400:]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refused("serve", "--workers", 2, "--model", "routing9", "--port", taken.getsockname()[1])
        assert "is in use; end what listens there" in said
