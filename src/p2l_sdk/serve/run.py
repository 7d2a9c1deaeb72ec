"""A server in this process: `ServerSettings` say what it is, `run_server` puts its parts together and serves."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import ipaddress
import logging
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from p2l_sdk.errors import P2LError
from p2l_sdk.p2l import P2L
from p2l_sdk.serve.app import Application, create_app
from p2l_sdk.serve.auth import ENVIRONMENT, Keys
from p2l_sdk.serve.connections import ConnectionLimits, Connections
from p2l_sdk.serve.engine.engine import Engine
from p2l_sdk.serve.gateway.chat import create_gateway
from p2l_sdk.serve.gateway.config import GatewayConfig, costs, known_llms
from p2l_sdk.serve.gateway.pool import create_client
from p2l_sdk.serve.metrics import ServerMetrics
from p2l_sdk.serve.process import allow_open_files, require_address, tune_process
from p2l_sdk.serve.protocol import limited_protocol

_log = logging.getLogger("p2l_sdk.serve")
_GRACE_SECONDS = 30.0  # for requests in flight when the server is to stop


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Everything about a server but its model, validated on creation.

    Attributes:
        host, port: where it listens.
        keys: who may call it; without a key, it serves this machine only.
        gateway: the LLMs that it calls for OpenAI's clients; None for the P2L API alone.
        cache_mb: memory for the coefficients of prompts seen before; 0 for none.
        max_body_bytes, max_prompts: limits per request.
        origins: sites and applications whose pages may call it (CORS).
        connections: limits of what a client may do before the server knows who it is.

    Raises:
        P2LError: the host can be reached from outside, and there is no key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: Keys = field(default_factory=lambda: Keys(()))
    gateway: GatewayConfig | None = None
    cache_mb: float = 64.0
    max_body_bytes: int = 32 * 2**20
    max_prompts: int = 1024
    origins: tuple[str, ...] = ()
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)

    def __post_init__(self) -> None:
        if not self.keys and not _is_loopback(self.host):
            raise P2LError(
                f"the address {self.host} can be reached from outside, and there is no API key; set {ENVIRONMENT} or "
                "--api-keys FILE, or listen at 127.0.0.1"
            )


def run_server(p2l: P2L, settings: ServerSettings) -> None:
    """Serve a model until the process is asked to stop. With a gateway, the model's costs become those of its config.

    Raises:
        P2LError: the server cannot listen at its address, or an origin is malformed.
        BudgetError: the config's budget is below its cheapest LLM.
        CostError: the cost of an LLM is not known.
    """
    serving = _serve(p2l, settings)
    try:
        import uvloop
    except ImportError:  # not available on Windows
        asyncio.run(serving)
    else:
        uvloop.run(serving)


async def _serve(p2l: P2L, settings: ServerSettings) -> None:
    gateway, keys = settings.gateway, settings.keys
    routed = None if gateway is None else _adopt_costs(p2l, gateway)
    engine = Engine(p2l, cache_mb=settings.cache_mb)
    for key in keys:
        engine.metrics.key(key.name, functools.partial(getattr, key, "spent"))
    async with create_client(gateway is not None and gateway.trust_env) as client:
        app = create_app(
            engine,
            routers=[] if gateway is None else [create_gateway(engine, gateway, engine.metrics, client)],
            guards=[keys] if keys else [],
            local_only=not keys,
            routed=routed,
            max_body_bytes=settings.max_body_bytes,
            max_prompts=settings.max_prompts,
            origins=settings.origins,
        )
        server = uvicorn.Server(_uvicorn_config(app, settings, engine.metrics))
        require_address(settings.host, settings.port)
        tune_process()
        await server.serve()


def _adopt_costs(p2l: P2L, gateway: GatewayConfig) -> list[str]:
    """Give the model the config's costs and return the LLMs that it can route to, by their names in the config:
    /v1/route, too, chooses among those that can be called, at their costs (of an LLM at two addresses, the lower)."""
    routed, known = known_llms(gateway, p2l), costs(gateway, p2l)
    dearest_first = sorted(routed, key=known.__getitem__, reverse=True)
    p2l.costs = {**p2l.costs, **{routed[name]: known[name] for name in dearest_first}}
    return list(routed)


def _uvicorn_config(app: Application, settings: ServerSettings, metrics: ServerMetrics) -> uvicorn.Config:
    log_config: dict[str, Any] = copy.deepcopy(LOGGING_CONFIG)
    log_config["loggers"]["p2l_sdk"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    limits = settings.connections
    room = allow_open_files(limits.max_connections)
    if room < limits.max_connections:
        limits = dataclasses.replace(limits, max_connections=room)
        _log.warning("this process may open few files (ulimit -n): it takes at most %d connections", room)
    grace = _GRACE_SECONDS if settings.gateway is None else settings.gateway.deadline
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=log_config,
        access_log=False,
        http=limited_protocol(Connections(limits, metrics)),
        ws="none",
        timeout_keep_alive=round(limits.idle_seconds) + 1,  # `Connections` closes them before
        timeout_graceful_shutdown=round(grace),
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
