"""The LLMs behind the gateway in the tests, and what its clients send."""

from __future__ import annotations

import hashlib
from typing import Any

from upstreams import Upstreams

from p2l_sdk import P2L
from p2l_sdk.serve.auth import Key, Keys
from p2l_sdk.serve.gateway.config import GatewayConfig

CHEAP, MIDDLE, DEAR = "gemma-2-9b-it", "qwen2.5-7b-instruct", "llama-3.3-nemotron-super-49b-v1"
COSTS = {CHEAP: 0.0001, MIDDLE: 0.0002, DEAR: 0.0009}
LLM = {"base_url": "http://127.0.0.1:9/v1"}  # nothing listens there
MODELS = {"models": {CHEAP: LLM, MIDDLE: LLM, DEAR: LLM}}
PROMPT = "Prove that the square root of two is irrational"
HELLO = [{"role": "user", "content": PROMPT}]
SECRET_VARIABLE, SECRET = "P2L_TEST_KEY", "sk-upstream-secret-0123456789"  # the upstreams' key; set by `upstreams`
TEAM = {"authorization": "Bearer sk-team-0123456789"}


def config(upstreams: Upstreams, **settings: Any) -> GatewayConfig:
    """All three LLMs at these upstreams; `llms` adds settings to one of them, or another LLM."""
    llms: dict[str, dict[str, Any]] = {
        name: {"base_url": upstreams.url(name), "upstream_model": f"up/{name}", "api_key_env": SECRET_VARIABLE}
        for name in COSTS
    }
    for name, extra in settings.pop("llms", {}).items():
        llms[name] = {**llms.get(name, {}), **extra}
    fast = {"backoff": 0.01, "breaker_failures": 1000}
    return GatewayConfig.from_dict({"models": llms, **fast, **settings})


def team(budget: float) -> tuple[Keys, Key]:
    """The API key in `TEAM`."""
    key = Key("team", hashlib.sha256(b"sk-team-0123456789").digest(), budget)
    return Keys([key]), key


def ranking(p2l: P2L) -> list[str]:
    """The LLMs from the best to the worst for `PROMPT`."""
    return p2l.router(models=list(COSTS)).route(p2l.leaderboard(PROMPT)).ranking


def text(stream: Any) -> str:
    """The text of a streamed answer."""
    return "".join(c.delta.content or "" for event in stream for c in event.choices).strip()
