"""200 concurrent clients while every fifth upstream call fails: no request is lost, answered twice or left hanging.

The gateway runs in a separate process (so that its memory can be measured), upstreams and clients in this one. Two
seconds by routing9, a minute with -m slow. The last test checks the mean budget through the whole request path.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from conftest import ROOT
from gateway_llms import CHEAP, COSTS, DEAR, MIDDLE
from gateway_server import Counts, gateway_app
from upstreams import Upstreams

from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.pool import UpstreamClient

KINDS = ("429", "500", "503", "slow", "drop", "reset", "garbage", "html", "stall", "error-event", "endless", "redirect")
TIMEOUT, DEADLINE = 2.0, 5.0  # seconds, for an attempt and for a request
QUESTIONS = ("Prove that {} is not prime", "Who wrote book number {}?", "Write a function that adds {}")


@contextmanager
def gateway_process(config: dict, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Start `python gateway_server.py CONFIG`; yields its address and the process."""
    (folder / "router.json").write_text(json.dumps(config))
    script = [sys.executable, str(ROOT / "tests" / "support" / "gateway_server.py"), str(folder / "router.json")]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(20)


class Clients:
    """The results of 200 clients."""

    def __init__(self, url: str, seconds: float) -> None:
        self.url, self.end = url, time.monotonic() + seconds
        self.sent = 0
        self.ids: list[str] = []
        self.broken_off = 0
        self.failures: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.slowest = 0.0
        self.memory: list[int] = []

    async def run(self, n: int, process: psutil.Process) -> None:
        asking = [asyncio.create_task(self._client(i)) for i in range(n)]
        while time.monotonic() < self.end:
            self.memory.append(process.memory_info().rss)
            await asyncio.sleep(0.25)
        await asyncio.gather(*asking)

    async def _client(self, i: int) -> None:
        rng = random.Random(i)
        host, port = self.url.removeprefix("http://").removesuffix("/v1").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        while time.monotonic() < self.end:
            self.sent += 1
            start = time.monotonic()
            question = rng.choice(QUESTIONS).format(rng.randrange(200))
            stream = rng.random() < 0.5
            body = {"model": "p2l", "messages": [{"role": "user", "content": question}], "stream": stream}
            try:
                async with asyncio.timeout(DEADLINE + 40):
                    await self._ask(reader, writer, body)
            except (OSError, ValueError, EOFError) as error:  # includes TimeoutError
                self.wrong.append(repr(error))
                break
            self.slowest = max(self.slowest, time.monotonic() - start)
        writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict) -> None:
        """Ask over a plain socket: with 200 connections, httpx itself would be the bottleneck."""
        content = json.dumps(body).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: p2l\r\ncontent-length: %d\r\n\r\n" % len(content))
        writer.write(content)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split()[1])
        if "content-length: " in head:
            text = await reader.readexactly(int(head.split("content-length: ")[1].split()[0]))
        else:
            text = b""
            while size := int(await reader.readline(), 16):
                text += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        if status != 200:
            self.failures[status] += 1
            self._error(json.loads(text))
        elif not body["stream"]:
            self.ids.append(json.loads(text)["id"])
        else:
            events = [event.removeprefix("data: ") for event in text.decode().split("\n\n") if event]
            if events[-1] == "[DONE]":
                ids = {json.loads(event)["id"] for event in events[:-1]}
                self.ids += ids
                if len(ids) != 1:
                    self.wrong.append("two answers in one stream")
            else:
                self.broken_off += 1
                self._error(json.loads(events[-1]))

    def _error(self, body: dict) -> None:
        error = body.get("error", {})
        if set(error) != {"message", "type", "param", "code"} or "secret-upstream-text" in error["message"]:
            self.wrong.append(json.dumps(body))


@pytest.mark.long
@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_two_hundred_clients_and_every_fifth_call_fails(seconds, tmp_path):
    with Upstreams(faults=0.2, fault_kinds=KINDS) as upstreams:
        upstreams.keep_seen = False
        config = {
            "models": {
                name: {"base_url": upstreams.url(name), "timeout": TIMEOUT} for name in (CHEAP, MIDDLE, DEAR)
            },
            "mean_budget": 0.0004, "deadline": DEADLINE, "backoff": 0.02, "breaker_failures": 20, "breaker_seconds": 1,
        }  # fmt: skip
        with gateway_process(config, tmp_path) as (url, process):
            clients = Clients(url, seconds)
            asyncio.run(clients.run(200, process))
            counts = httpx.get(f"{url}/counts").json()
            left = psutil.Process(process.pid).memory_info().rss
    answered, failed = len(clients.ids), sum(clients.failures.values())
    print(f"{clients.sent} requests in {seconds} s: {answered} answered, {clients.broken_off} broken off,", end=" ")
    print(f"{dict(clients.failures)} refused, slowest {counts['slowest']:.1f} s", end=" ")
    print(f"({clients.slowest:.1f} s for the client), mean cost {counts['mean_booked']:.6f}")
    assert clients.sent > 200
    assert not clients.wrong, clients.wrong[:3]
    assert answered + clients.broken_off + failed == clients.sent  # none is lost
    assert len(set(clients.ids)) == answered  # none is answered twice
    assert set(clients.ids) <= set(upstreams.answered)  # each came from an LLM
    assert counts["choices"] == answered + clients.broken_off  # each request that was answered is charged once
    assert set(clients.failures) <= {429, 502, 503, 504}
    assert answered > 0.8 * clients.sent
    assert counts["slowest"] < DEADLINE + 5  # a single process on a machine that may be busy
    assert clients.slowest < DEADLINE + 30  # 200 clients share one thread here; a hanging request would last a minute
    if counts["choices"] >= 10_000:
        assert counts["mean_booked"] == pytest.approx(0.0004, rel=0.01)
    if seconds >= 60:
        assert left < 1.1 * clients.memory[len(clients.memory) // 3], clients.memory


@pytest.mark.long
@pytest.mark.parametrize("n", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_the_mean_budget_through_the_whole_request_path(routing9, n):
    """The endpoint itself, 50 requests at a time, without the sockets of the clients; one call of an upstream in five
    fails. (Choice and charge alone, 10,000 times, are in test_router_config.)"""
    budget = 0.0004

    async def ask_all(upstreams: Upstreams) -> Counts:
        llms = {name: {"base_url": upstreams.url(name)} for name in (CHEAP, MIDDLE, DEAR)}
        settings = {"models": llms, "mean_budget": budget, "backoff": 0, "breaker_failures": 1000}
        async with UpstreamClient() as pool:
            app, engine = gateway_app(routing9, GatewayConfig.from_dict(settings), pool)
            await engine.start()  # normally done by a server's lifespan
            places = asyncio.Semaphore(50)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://p2l") as client:

                async def ask(i: int) -> None:
                    question = QUESTIONS[i % 3].format(i % 100)
                    body = {"model": "p2l", "messages": [{"role": "user", "content": question}]}
                    async with places:
                        await client.post("/v1/chat/completions", json=body)

                with engine.metrics.listening():
                    await asyncio.gather(*map(ask, range(n)))
            await engine.close()
        return engine.metrics

    with Upstreams(faults=0.2, fault_kinds=("reset", "429", "500"), seed=1) as upstreams:
        upstreams.keep_seen = False
        metrics = asyncio.run(ask_all(upstreams))
    assert n * 0.97 < len(metrics.costs) <= len(metrics.booked) <= n
    # Over or under by a few requests in all, however many there were (five of the dearest LLM at worst in 20 runs): for
    # 10,000 requests the twelve are 0.3 %, but 1 % of 500 would be two of them.
    assert sum(metrics.booked) == pytest.approx(len(metrics.booked) * budget, abs=12 * COSTS[DEAR])
