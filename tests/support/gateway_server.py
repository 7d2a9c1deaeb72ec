"""The gateway with the embedded model routing9 on a real uvicorn server in a thread, for tests.

Run as a script, it is a separate process: `python gateway_server.py CONFIG.json` prints its address.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI

from p2l_sdk.serve import Engine, ServerMetrics, create_app
from p2l_sdk.serve.connections import ConnectionLimits, Connections
from p2l_sdk.serve.gateway.chat import create_gateway
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.pool import UpstreamClient
from p2l_sdk.serve.protocol import limited_protocol


class Counts(ServerMetrics):
    """Metrics that tests can inspect.

    Attributes:
        booked: USD of each request that cost anything or was answered, failed calls included, as the log tells them
            while `listening`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.choices: Counter[str] = Counter()
        self.errors: Counter[tuple[str, str]] = Counter()
        self.costs: list[float] = []
        self.booked: list[float] = []
        self.slowest = 0.0  # seconds

    def choice(self, model: str, cost: float | None = None) -> None:
        super().choice(model, cost)
        self.choices[model] += 1
        self.costs.append(0.0 if cost is None else cost)

    def upstream_error(self, model: str, kind: str) -> None:
        super().upstream_error(model, kind)
        self.errors[model, kind] += 1

    def stage(self, name: str, seconds: float) -> None:
        super().stage(name, seconds)
        if name == "chat":
            self.slowest = max(self.slowest, seconds)

    async def summary(self) -> dict[str, float]:
        mean = sum(self.booked) / max(len(self.booked), 1)
        return {"choices": sum(self.choices.values()), "mean_booked": mean, "slowest": self.slowest}

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Read the gateway's log."""
        log, handler = logging.getLogger("p2l_sdk.serve.gateway.chat"), logging.Handler()
        handler.emit = self._hear  # type: ignore[method-assign]
        level = log.level
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)

    def _hear(self, record: logging.LogRecord) -> None:
        if (found := re.search(r" cost=([0-9.]+) ", record.getMessage())) is not None:
            self.booked.append(float(found[1]))


class Running:
    """A server under test: its address, engine and metrics."""

    def __init__(self, url: str, engine: Engine) -> None:
        self.url, self.engine = url, engine
        self.metrics: Any = engine.metrics  # `Counts`


def gateway_app(
    p2l: Any, config: GatewayConfig, client: UpstreamClient, keys: Any = None, **limits: Any
) -> tuple[Any, Engine]:
    """The app as `p2l serve` assembles it, but with `Counts` as metrics; and its engine."""

    @contextlib.asynccontextmanager
    async def closing(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    metrics = Counts()
    engine, counts = Engine(p2l, metrics=metrics), APIRouter(lifespan=closing)
    counts.add_api_route("/v1/counts", metrics.summary)
    routers = [create_gateway(engine, config, metrics, client), counts]
    return create_app(engine, routers=routers, guards=[] if keys is None else [keys], **limits), engine


@contextlib.contextmanager
def serving(p2l: Any, config: GatewayConfig, keys: Any = None, **limits: Any) -> Iterator[Running]:
    """Serve a gateway with this config; it stops at the end of the block."""
    app, engine = gateway_app(p2l, config, UpstreamClient(), keys, **limits)
    with running(app) as url:
        yield Running(url, engine)


@contextlib.contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve an app on uvicorn in a thread; yields its address."""
    # asyncio disables Nagle's algorithm only if the protocol is given; otherwise each reply would be delayed by 40 ms
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    http = limited_protocol(Connections(ConnectionLimits(), ServerMetrics()))
    server = uvicorn.Server(uvicorn.Config(app, http=http, log_config=None, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server does not end"


def eventually(what: Any, seconds: float = 60.0, otherwise: Any = lambda: "it did not come true") -> None:
    """Wait until the condition is true; `otherwise` says what was found in its place."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.01)


if __name__ == "__main__":
    from p2l_sdk import P2L

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    settings = GatewayConfig.from_dict(json.loads(Path(sys.argv[1]).read_text()))
    with serving(P2L.from_pretrained("routing9"), settings) as server, server.metrics.listening():
        print(server.url, flush=True)
        stop.wait()
