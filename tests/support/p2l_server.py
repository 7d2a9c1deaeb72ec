"""A scorer with predictable output, and a real server on a free port."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import uvicorn
from conftest import COSTS, MODELS
from fastapi import FastAPI

from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.prompt_p2l import user_turns
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.serve.connections import ConnectionLimits, Connections
from p2l_sdk.serve.metrics import ServerMetrics
from p2l_sdk.serve.protocol import limited_protocol

PROMPTS = [
    "What is 17 * 23?",
    "Write a haiku about the sea",
    "\u4f60\u597d, \U0001f600 \u0000 \u2028",
    "x" * 3000,
    [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}, {"role": "user", "content": "so?"}],
]


def numbers(text: str) -> np.ndarray:
    """The coefficients and eta that the fake scorer returns for a text."""
    letters = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.float32)
    return np.array([np.sin(k * letters.sum() + k) + len(letters) / 100 for k in range(1, len(MODELS) + 2)], np.float32)


class FakeScorer:
    """Scores by `numbers`; records its batches, and can be blocked (`gate`), slowed down and made to fail."""

    def __init__(self, feedback: str = "grk", seconds: float = 0.0) -> None:
        self.spec = ModelSpec(models=MODELS, feedback=feedback, costs=COSTS)
        self.seconds, self.batches = seconds, []
        self.gate, self.error = threading.Event(), None
        self.gate.set()
        self.change: Callable[[np.ndarray], np.ndarray] = lambda rows: rows

    def score(self, prompts) -> Coefficients:
        self.batches.append(["\n".join(user_turns(prompt)) for prompt in prompts])
        assert self.gate.wait(20)
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        rows = self.change(np.stack([numbers(text) for text in self.batches[-1]]))
        return Coefficients(rows[:, :-1], rows[:, -1:] if self.spec.feedback.has_eta else None, None)


def assert_same(found: Any, expected: Any) -> None:
    """Check that two JSON values are equal, numbers up to 1e-6."""
    (found_numbers, rest), (expected_numbers, expected_rest) = flat(found), flat(expected)
    assert rest == expected_rest
    assert found_numbers == pytest.approx(expected_numbers, rel=1e-6, abs=1e-6)


def flat(value: Any, place: str = "") -> tuple[dict[str, float], dict[str, Any]]:
    """The numbers in a JSON value by their place, and all else: of lists and objects, their kind and length."""
    if type(value) in (int, float):
        return {place: value}, {}
    if not isinstance(value, dict | list):
        return {}, {place: (type(value), value)}
    floats: dict[str, float] = {}
    rest: dict[str, Any] = {place: (type(value), len(value))}
    for name, part in value.items() if isinstance(value, dict) else enumerate(value):
        found = flat(part, f"{place}/{name}")
        floats |= found[0]
        rest |= found[1]
    return floats, rest


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a condition that must become true."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.005)


class Running:
    """A real server in a thread, with the protocol of `p2l serve`: `with Running(app) as server:`.

    Attributes:
        connections: of the server.
    """

    def __init__(self, app: FastAPI, **limits: Any) -> None:
        self.metrics = ServerMetrics()
        self.connections = Connections(ConnectionLimits(**limits), self.metrics)
        http = limited_protocol(self.connections)
        config = uvicorn.Config(app, port=0, http=http, log_config=None, timeout_graceful_shutdown=10)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Running:
        self._thread.start()
        until(lambda: self._server.started or not self._thread.is_alive(), 60)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def stop(self) -> None:
        """Ask the server to stop, as SIGTERM does."""
        self._server.should_exit = True

    def __exit__(self, *_) -> None:
        self.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def ask(self, path: str, body=None, *, method: str | None = None, **headers: str):
        """Send a request; returns (status, parsed JSON or text, headers). A body of bytes is sent unchanged."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        named = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        request = urllib.request.Request(self.url + path, data, named, method=method)
        try:
            reply = urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError as error:
            reply = error
        content = reply.read()
        is_json = reply.headers.get("Content-Type", "").startswith("application/json")
        return reply.status, json.loads(content) if is_json and content else content.decode(), reply.headers
