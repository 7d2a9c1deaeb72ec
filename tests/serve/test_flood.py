"""A server under attack still answers: `p2l serve` itself, its attackers and the one who asks for its health, each in a
process of its own. Two seconds for three of the attacks, a minute for all with -m slow."""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from conftest import ROOT
from gateway_llms import CHEAP, LLM
from raw_http import request, say
from upstreams import closed_port

HEALTHY_SECONDS = 0.1  # the 99th percentile of /health
MOST_MEMORY = 600 * 2**20  # bytes
LARGE = 60_000_000  # bytes of the upstream's reply
SUPPORT = ROOT / "tests" / "support"


def large_replies() -> list[bytes]:
    """Completions of 60 MB: one string, text full of escapes, log-probabilities."""
    entry = {"token": "a", "logprob": -0.25, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -3.5}] * 5}
    one = json.dumps(entry).encode()
    before, between, behind = b'{"choices": [{"message": {"content": "', b'"}, "logprobs": {"content": [', b"]}}]}"
    return [
        before + b"a" * LARGE + between + behind,
        before + b'\\"' * (LARGE // 2) + between + behind,
        before + b"a" + between + b", ".join([one] * (LARGE // (len(one) + 2))) + behind,
    ]


class Upstream(socketserver.ThreadingTCPServer):
    """Answers every request with the next of the large replies."""

    daemon_threads = True

    def __init__(self) -> None:
        self.replies, self.n = large_replies(), 0
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(socketserver.StreamRequestHandler):
    server: Upstream

    def handle(self) -> None:
        while b"content-length" not in (line := self.rfile.readline().lower()):
            pass
        while self.rfile.readline() != b"\r\n":
            pass
        self.rfile.read(int(line.split(b":")[1]))
        body = self.server.replies[self.server.n % 3]
        self.server.n += 1
        head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n"
        with contextlib.suppress(OSError):  # the attack is over
            self.wfile.write(head.format(len(body)).encode())
            self.wfile.write(body)


@contextmanager
def command(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if name != "P2L_API_KEYS"}
    words = [sys.executable, *map(str, arguments)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[int, psutil.Process]]:
    folder: Path = tmp_path_factory.mktemp("flood")
    with Upstream() as upstream:
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        llm = {"base_url": f"http://127.0.0.1:{upstream.server_address[1]}/v1", "cost": 0.001}
        config = {"models": {"large": llm, CHEAP: LLM}, "breaker_failures": 1000}
        (folder / "router.json").write_text(json.dumps(config))
        port = closed_port()
        words = ("-m", "p2l_sdk", "serve", "--model", "routing9", "--port", port, "--config", folder / "router.json")
        with command(*words) as process:
            give_up = time.monotonic() + 60
            while True:
                assert process.poll() is None
                assert time.monotonic() < give_up
                try:
                    assert say(port, request(b"GET /ready", b"Connection: close")).statuses == [200]
                    break
                except OSError:
                    time.sleep(0.05)
            yield port, psutil.Process(process.pid)
        upstream.shutdown()


def under_attack(server: tuple[int, psutil.Process], kind: str, seconds: float) -> float:
    """Attack the server, check its memory, and return the 99th percentile of its answers to /health, in seconds."""
    port, process = server
    memory = []
    with command(SUPPORT / "attacks.py", kind, port, seconds + 1) as attack:
        time.sleep(0.5)
        with command(SUPPORT / "attacks.py", "health", port, seconds) as health:
            while health.poll() is None:
                memory.append(process.memory_info().rss)
                time.sleep(0.05)
            n, p50, p99, slowest = json.loads(health.stdout.read())
        attack.wait(seconds + 60)
        done = int(attack.stdout.read())
    print(f"{kind}: {done} done; /health {n} times, p50 {1000 * p50:.1f} ms, p99 {1000 * p99:.1f} ms,", end=" ")
    print(f"slowest {1000 * slowest:.0f} ms; memory {max(memory) / 2**20:.0f} MB")
    assert max(memory) < MOST_MEMORY
    assert done > 0 or kind != "replies"
    return float(p99)


SOON, LATER = ("headers", "slowloris", "replies"), ("idle", "pipeline", "unread")


@pytest.mark.long
@pytest.mark.parametrize("kind", [*SOON, *(pytest.param(kind, marks=pytest.mark.slow) for kind in LATER)])
def test_health_is_answered_at_once_under_attack(server, kind):
    # other tests share the processors: one of three tries shows what the server can do
    assert any(under_attack(server, kind, 2.0) < HEALTHY_SECONDS for _ in range(3))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*SOON, *LATER])
def test_health_is_answered_at_once_under_attack_for_a_minute(server, kind):
    assert under_attack(server, kind, 60.0) < HEALTHY_SECONDS
