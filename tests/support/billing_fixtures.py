"""A gateway with a key, in front of LLMs that bill; a pytest plugin."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httpx
import pytest
from billing_llm import BillingLLMs
from gateway_llms import CHEAP, DEAR, HELLO, MIDDLE, TEAM, team
from gateway_server import serving

from p2l_sdk.serve.gateway.config import GatewayConfig

PRICES = {CHEAP: (0.5, 1.0), MIDDLE: (2.0, 5.0), DEAR: (10.0, 40.0)}  # USD per million tokens
BUDGET = 0.05


@pytest.fixture(scope="module")
def llms():
    with BillingLLMs(PRICES).serving() as running:
        yield running


@pytest.fixture
def gateway(routing9, llms):
    """Start a gateway with a key; yields a function that starts it with settings and returns its address and key."""
    llms.reset()
    with contextlib.ExitStack() as stack:

        def start(budget: float | None = BUDGET, **settings: Any) -> tuple[Any, Any]:
            models = {}
            for name, (read, written) in PRICES.items():
                own = dict(settings.pop(name, {}))
                prices = {"input": read, "output": written, "output_tokens": 200, **own.pop("prices", {})}
                models[name] = {"base_url": llms.url(name), "prices": prices, "timeout": 1.0, **own}
            keys, key = team(budget)
            config = GatewayConfig.from_dict({"models": models, "backoff": 0.01, "breaker_failures": 1000, **settings})
            running = stack.enter_context(serving(routing9, config, keys))
            return running, key

        yield start


async def many(url: str, bodies: list[dict], leave_after: float | None = None) -> list[int]:
    """Send requests at once; a client may leave in the middle. Their statuses; 0 for those that left."""
    async with httpx.AsyncClient(headers=TEAM, timeout=30, limits=httpx.Limits(max_connections=200)) as client:

        async def one(body: dict) -> int:
            try:
                async with asyncio.timeout(leave_after), client.stream("POST", url, json=body) as reply:
                    async for _ in reply.aiter_bytes():
                        pass
                    return reply.status_code
            except TimeoutError:
                return 0

        return await asyncio.gather(*map(one, bodies))


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": "p2l", "messages": HELLO, **fields}
