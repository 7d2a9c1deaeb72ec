"""A server in this process: `ServerSettings` say what it is, `run_server` puts its parts together and serves."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI
from uvicorn.config import LOGGING_CONFIG

from p2l_sdk.errors import P2LError
from p2l_sdk.p2l import P2L
from p2l_sdk.serve.app import Application, create_app
from p2l_sdk.serve.auth import ENVIRONMENT, Keys
from p2l_sdk.serve.connections import ConnectionLimits, Connections
from p2l_sdk.serve.engine.engine import Engine
from p2l_sdk.serve.gateway.chat import create_gateway
from p2l_sdk.serve.gateway.check import unbounded_note
from p2l_sdk.serve.gateway.config import GatewayConfig, costs, known_llms
from p2l_sdk.serve.gateway.pool import UpstreamClient
from p2l_sdk.serve.ledger.ledger import Ledger
from p2l_sdk.serve.ledger.opening import MEMORY, open_store
from p2l_sdk.serve.metrics import ServerMetrics
from p2l_sdk.serve.process import allow_open_files, is_loopback, require_address, tune_process
from p2l_sdk.serve.protocol import limited_protocol
from p2l_sdk.serve.scraping import MetricsGuard

_log = logging.getLogger("p2l_sdk.serve")
_GRACE_SECONDS = 30.0  # for requests in flight when the server is to stop


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Everything about a server but its model, validated on creation.

    Attributes:
        host, port: where it listens.
        keys: who may call it; without a key, and without a ledger for further ones, it serves this machine only.
        ledger: where keys and what they spend are kept: a file or an address, see `open_store`; None for memory.
        gateway: the LLMs that it calls for OpenAI's clients; None for the P2L API alone.
        cache_mb: memory for the coefficients of prompts seen before; 0 for none.
        max_body_bytes, max_prompts: limits per request.
        origins: sites and applications whose pages may call it (CORS).
        connections: limits of what a client may do before the server knows who it is.
        metrics_key: who holds it may read /metrics; None for this machine alone, see `MetricsGuard`.

    Raises:
        P2LError: the host can be reached from outside, and there is no key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: Keys = field(default_factory=lambda: Keys(()))
    ledger: str | None = None
    gateway: GatewayConfig | None = None
    cache_mb: float = 64.0
    max_body_bytes: int = 32 * 2**20
    max_prompts: int = 1024
    origins: tuple[str, ...] = ()
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    metrics_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.keys and self.ledger in (None, MEMORY) and not is_loopback(self.host):
            raise P2LError(
                f"the address {self.host} can be reached from outside, and there is no API key; set {ENVIRONMENT} or "
                "--api-keys FILE, or listen at 127.0.0.1"
            )


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One of several processes that serve together.

    Attributes:
        listeners: the sockets of all.
        metrics: the folder of the counters of all.
        of: how many there are.
        ready: called when this one serves.
    """

    listeners: Sequence[socket.socket]
    metrics: str
    of: int
    ready: Callable[[], None]


def run_server(p2l: P2L, settings: ServerSettings, worker: Worker | None = None) -> None:
    """Serve a model until the process is asked to stop. With a gateway, the model's costs become those of its config.

    Args:
        p2l: the model.
        settings: of the server.
        worker: if this process is one of several, see `run_workers`.

    Raises:
        P2LError: the server cannot listen at its address, an origin is malformed, or the ledger cannot be opened.
        BudgetError: the config's budget is below its cheapest LLM.
        CostError: the cost of an LLM is not known.
    """
    keys = open_keys(settings)
    serving = _serve(p2l, settings, keys, worker)
    try:
        try:
            import uvloop
        except ImportError:  # not available on Windows
            asyncio.run(serving)
        else:
            uvloop.run(serving)
    finally:
        keys.ledger.close()


def open_keys(settings: ServerSettings) -> Keys:
    """The keys of the settings, with the ledger, which is to be closed.

    Raises:
        P2LError: it cannot be opened, or one of the keys was made by `p2l keys`.
    """
    ledger = Ledger(open_store(settings.ledger))
    try:
        return settings.keys.within(ledger)
    except P2LError:
        ledger.close()
        raise


async def _serve(p2l: P2L, settings: ServerSettings, keys: Keys, worker: Worker | None) -> None:
    gateway = settings.gateway
    routed = None if gateway is None else _adopt_costs(p2l, gateway)
    metrics = ServerMetrics(None if worker is None else worker.metrics)
    engine = Engine(p2l, cache_mb=settings.cache_mb, metrics=metrics)
    if keys:
        metrics.keys(keys.in_use)

    @contextlib.asynccontextmanager
    async def settled(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(keys.ledger.close)  # uvicorn ends the process before anything else could be done

    async with UpstreamClient(gateway is not None and gateway.trust_env) as client:
        calls = [] if gateway is None else [create_gateway(engine, gateway, engine.metrics, client)]
        app = create_app(
            engine,
            routers=[*calls, APIRouter(lifespan=settled)],
            guards=[keys] if keys else [],
            metrics_guard=MetricsGuard(keys, settings.metrics_key),
            local_only=not keys,
            routed=routed,
            max_body_bytes=settings.max_body_bytes,
            max_prompts=settings.max_prompts,
            origins=settings.origins,
        )
        server = uvicorn.Server(_uvicorn_config(app, settings, engine.metrics, 1 if worker is None else worker.of))
        if worker is None:
            require_address(settings.host, settings.port)
        tune_process()
        if keys.forgetful:
            _log.warning("what keys spend is forgotten when this server stops; --ledger FILE keeps it")
        if gateway is not None and keys.limited and (unbounded := unbounded_note(gateway)):
            _log.warning("%s", unbounded)
        if worker is None:
            await server.serve()
        else:
            begun = asyncio.ensure_future(_begun(server, worker.ready))
            await server.serve(sockets=list(worker.listeners))
            await begun


async def _begun(server: uvicorn.Server, ready: Callable[[], None]) -> None:
    while not (server.started or server.should_exit):
        await asyncio.sleep(0.01)
    ready()


def _adopt_costs(p2l: P2L, gateway: GatewayConfig) -> list[str]:
    """Give the model the config's costs and return the LLMs that it can route to, by their names in the config:
    /v1/route, too, chooses among those that can be called, at their costs (of an LLM at two addresses, the lower)."""
    routed, known = known_llms(gateway, p2l), costs(gateway, p2l)
    dearest_first = sorted(routed, key=known.__getitem__, reverse=True)
    p2l.costs = {**p2l.costs, **{routed[name]: known[name] for name in dearest_first}}
    return list(routed)


def log_config() -> dict[str, Any]:
    """How a server and its processes log: as uvicorn does."""
    config: dict[str, Any] = copy.deepcopy(LOGGING_CONFIG)
    config["loggers"]["p2l_sdk"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return config


def _uvicorn_config(app: Application, settings: ServerSettings, metrics: ServerMetrics, workers: int) -> uvicorn.Config:
    limits = settings.connections
    if workers > 1:
        limits = dataclasses.replace(limits, max_connections=-(-limits.max_connections // workers))
    room = allow_open_files(limits.max_connections)
    if room < limits.max_connections:
        limits = dataclasses.replace(limits, max_connections=room)
        _log.warning("this process may open few files (ulimit -n): it takes at most %d connections", room)
    grace = _GRACE_SECONDS if settings.gateway is None else settings.gateway.deadline
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=log_config(),
        access_log=False,
        http=limited_protocol(Connections(limits, metrics)),
        ws="none",
        timeout_keep_alive=round(limits.idle_seconds) + 1,  # `Connections` closes them before
        timeout_graceful_shutdown=round(grace),
    )
