"""A scorer with predictable output, and a real server on a free port."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import numpy as np
import uvicorn
from conftest import COSTS, MODELS
from fastapi import FastAPI

from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.prompt_p2l import user_turns
from p2l_sdk.modeling.spec_p2l import ModelSpec


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


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a condition that must become true."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.005)


class Running:
    """A real uvicorn server in a thread: `with Running(app) as server:`."""

    def __init__(self, app: FastAPI) -> None:
        config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=10)
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
        return reply.status, json.loads(content) if is_json else content.decode(), reply.headers
