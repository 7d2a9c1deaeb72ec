"""Fixtures of the gateway's tests, for modules with `pytest_plugins = ["gateway_fixtures"]`: upstream servers, the
gateway in front of them, OpenAI's client."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from gateway_llms import COSTS, SECRET, SECRET_VARIABLE, config
from gateway_server import Running, serving
from upstreams import Upstreams

from p2l_sdk import P2L


@pytest.fixture(scope="module")
def upstreams() -> Iterator[Upstreams]:
    with pytest.MonkeyPatch.context() as patch, Upstreams() as running:
        patch.setenv(SECRET_VARIABLE, SECRET)
        yield running


@pytest.fixture(scope="module")
def server(routing9: P2L, upstreams: Upstreams) -> Iterator[Running]:
    llms = {name: {"timeout": 1.0} for name in COSTS}
    llms["by-name-only"] = {
        "base_url": upstreams.url("by-name-only"), "cost": 0.001, "system": "Be brief.",
        "temperature": 0.7, "top_p": 0.9, "max_tokens": 64, "headers": {"X-Title": "tests", "User-Agent": "team"},
    }  # fmt: skip
    with serving(routing9, config(upstreams, llms=llms, deadline=2.0)) as running:
        yield running


@pytest.fixture
def client(server: Running, upstreams: Upstreams) -> Iterator[openai.OpenAI]:
    upstreams.reset()
    server.metrics.errors.clear()
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=20) as client:
        yield client
