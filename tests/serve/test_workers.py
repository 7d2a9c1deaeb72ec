"""`p2l serve --workers`: several processes at one address that share connections, counters, keys and spend."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from billing_llm import BillingLLMs
from command_line import refused
from gateway_llms import CHEAP, DEAR, HELLO, MIDDLE, ranking
from gateway_server import eventually
from serve_process import Server, p2l_serve

from p2l_sdk.serve.ledger.opening import open_store

PRICES = {CHEAP: (0.5, 1.0), MIDDLE: (2.0, 5.0), DEAR: (10.0, 40.0)}  # USD per million tokens
SECRET = "sk-team-0123456789"
TEAM = {"authorization": f"Bearer {SECRET}"}
BODY = {"model": DEAR, "messages": HELLO, "max_tokens": 50}
MOST = (10 * (len(str(HELLO)) + 128 + 16) + 40 * 50) * 1e-6  # USD, set aside for one such request: also for a template
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


@pytest.mark.long
@pytest.mark.parametrize(
    ("clients", "seconds"), [(40, 3), pytest.param(200, 60, marks=pytest.mark.slow)], ids=["40 clients", "200 clients"]
)
def test_a_worker_that_is_killed_loses_its_own_calls_only(clients, seconds, config, llms, routing9, tmp_path):
    """A fifth of the time the first choice fails, and a worker is killed in the middle."""
    (tmp_path / "keys").write_text(f"{SECRET} team 500\n")
    first_choice = ranking(routing9)[0]
    seen: Counter[object] = Counter()
    options = ("--api-keys", tmp_path / "keys", "--ledger", tmp_path / "l", "--workers", 2)
    with p2l_serve(tmp_path, config, *options) as server:
        eventually(lambda: len(workers(server)) == 2)
        [first, second] = workers(server)

        async def client(session: httpx.AsyncClient, end: float) -> None:
            while time.monotonic() < end:
                try:
                    body = {**BODY, "model": "p2l"}
                    seen[(await session.post(f"{server.url}/chat/completions", json=body)).status_code] += 1
                except httpx.TransportError:
                    seen["lost"] += 1

        async def trouble(end: float) -> None:
            while time.monotonic() < end:
                if second.is_running() and end - time.monotonic() < seconds / 2:
                    second.send_signal(signal.SIGKILL)
                await asyncio.sleep(0.08)
                llms.behaviour[first_choice] = "500"
                await asyncio.sleep(0.02)
                llms.behaviour.clear()

        async def all_of_it() -> None:
            end = time.monotonic() + seconds
            async with httpx.AsyncClient(**EACH_ANEW) as session:
                await asyncio.gather(trouble(end), *(client(session, end) for _ in range(clients)))

        asyncio.run(all_of_it())
        assert set(seen) <= {200, "lost"}
        assert seen["lost"] <= clients
        assert seen[200] > 60
        eventually(lambda: len(workers(server)) == 2)
        assert first.is_running()
        billed = sum(llms.bills.values())
        # what it had answered in its last milliseconds stays at the most, too: its settlement died with it. That is one
        # answer of each client at most, as the next request of the same client is only then made
        most = billed + (seen["lost"] + clients) * MOST
        booked = partial(spent, tmp_path / "l")
        eventually(lambda: billed * 0.999 <= booked() <= most, otherwise=lambda: (billed, booked(), most, seen))
        # whichever worker is asked, and also the dead one's calls
        assert seen[200] <= total(server, "p2l_choices_total") <= seen[200] + seen["lost"]
        assert total(server, "p2l_choices_total") == total(server, "p2l_choices_total")
        assert total(server, "p2l_upstream_errors_total") > 0
        assert total(server, "p2l_key_spend_usd") == pytest.approx(spent(tmp_path / "l"))
        eventually(lambda: "a worker has ended (SIGKILL); another one takes its place" in server.log)
        traffic = httpx.get(f"{server.address}/v1/p2l/traffic", headers=TEAM).json()["traffic"]
        assert sum(row["calls"] for row in traffic) == total(server, "p2l_choices_total")


def test_it_ends_gracefully_and_leaves_nothing_behind(config, llms, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    replies: list[str] = []
    with p2l_serve(tmp_path, config, "--workers", 2, P2L_API_KEYS=f"{SECRET} team 1.0") as server:
        assert len(list((tmp_path / "tmp").iterdir())) == 1

        def call() -> None:
            body = {"model": CHEAP, "messages": HELLO, "max_tokens": 300, "stream": True}  # takes a second
            replies.append(httpx.post(f"{server.url}/chat/completions", json=body, headers=TEAM, timeout=20).text)

        calls = [threading.Thread(target=call) for _ in range(6)]
        for thread in calls:
            thread.start()
        eventually(lambda: len(llms.bodies) == 6)
        ids = [worker.pid for worker in workers(server)]
        assert server.end(signal.SIGTERM) == -signal.SIGTERM
        for thread in calls:
            thread.join()
        assert all(reply.endswith("data: [DONE]\n\n") for reply in replies)
        assert len(replies) == 6
        assert not any(map(psutil.pid_exists, ids))
        assert not list((tmp_path / "tmp").iterdir())
        assert "Traceback" not in server.log
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.address}/health")


def test_workers_end_when_their_parent_is_killed(tmp_path):
    with p2l_serve(tmp_path, None, "--workers", 2) as server:
        eventually(lambda: len(workers(server)) == 2)
        found = workers(server)
        server.end(signal.SIGKILL)
        eventually(lambda: not any(worker.is_running() for worker in found), 20)
        assert "Traceback" not in server.log


def test_two_workers_have_one_budget_without_a_ledger_of_their_own(config, llms, tmp_path):
    with p2l_serve(tmp_path, config, "--workers", 2, P2L_API_KEYS=f"{SECRET} team 0.02") as server:

        async def run() -> Counter[int]:
            async with httpx.AsyncClient(**EACH_ANEW) as session:
                asked = (session.post(f"{server.url}/chat/completions", json=BODY) for _ in range(60))
                return Counter(reply.status_code for reply in await asyncio.gather(*asked))

        assert set(asyncio.run(run())) == {200, 429}
        # all come at once, and what is set aside for each holds 144 tokens for a template that this LLM does not add
        assert 0.5 * 0.02 < sum(llms.bills.values()) <= 0.02 * 1.01


def test_what_keeps_a_worker_from_serving_is_said_once(tmp_path):
    assert "nowhere" in refused("serve", "--workers", 2, "--model", tmp_path / "nowhere", "--port", 0)[-400:]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refused("serve", "--workers", 2, "--model", "routing9", "--port", taken.getsockname()[1])
        assert "is in use; end what listens there" in said
