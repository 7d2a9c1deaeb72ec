"""Large bodies wait for each other, so that nobody fills the server's memory; small ones and other clients do not."""

from __future__ import annotations

import asyncio
import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from gateway_server import eventually
from p2l_server import FakeScorer, Running

from p2l_sdk import P2L
from p2l_sdk.serve import Engine, app, create_app
from p2l_sdk.serve.auth import Keys
from p2l_sdk.serve.bodies import BodyRoom
from p2l_sdk.serve.errors import BodiesWait

LIMIT, LARGE = 2 * 2**20, 3 * 2**19
KEYS = ("sk-0123456789abcdef", "sk-fedcba9876543210")


def test_a_client_may_have_half_of_the_room():
    async def takes() -> None:
        room = BodyRoom(100)
        await room.take("a", 50, 0)
        with pytest.raises(BodiesWait):
            await room.take("a", 1, 0.05)
        await room.take("b", 30, 0)
        await room.take("c", 20, 0)
        with pytest.raises(BodiesWait):
            await room.take("d", 1, 0)
        waits = asyncio.ensure_future(room.take("a", 40, 5))
        await asyncio.sleep(0.05)
        assert not waits.done()
        room.give("a", 50)
        await waits

    asyncio.run(takes())


@pytest.fixture
def scorer():
    return FakeScorer()


@pytest.fixture
def server(monkeypatch, scorer):
    monkeypatch.setattr(app, "_BODY_ROOM", 0)  # two bodies of the largest size
    monkeypatch.setenv("P2L_API_KEYS", ",".join(f"{key} team-{i}" for i, key in enumerate(KEYS)))
    engine, keys = Engine(P2L(scorer)), Keys.load()
    with Running(create_app(engine, guards=[keys], max_body_bytes=LIMIT, body_seconds=1.0)) as running:
        yield running


@pytest.mark.parametrize("kind", ["length", "chunks", "gzip"])
def test_a_large_body_waits_for_that_of_its_client_and_for_no_other(kind, server, scorer):
    blank = b" " * LARGE  # no JSON, so that it would be answered at once
    body, headers = (gzip.compress(blank), {"content-encoding": "gzip"}) if kind == "gzip" else (blank, {})

    def status(key: str, content: bytes, **fields: str) -> int:
        sent = iter([content]) if kind == "chunks" else content
        return httpx.post(
            f"{server.url}/v1/leaderboard", content=sent, headers={"x-api-key": key, **fields}
        ).status_code

    with ThreadPoolExecutor() as threads:
        scorer.gate.clear()
        first = threads.submit(status, KEYS[0], json.dumps({"prompt": "x" * LARGE}).encode())
        eventually(lambda: any(len(text) == LARGE for batch in scorer.batches for text in batch))
        assert status(KEYS[0], body, **headers) == 503
        assert status(KEYS[1], body, **headers) == 400
        assert status(KEYS[0], b" ") == 400
        scorer.gate.set()
        assert first.result() == 200
    assert status(KEYS[0], body, **headers) == 400
