"""`p2l serve` in processes of their own, and what else a ledger needs, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from forks import Forked, start


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Server:
    """A running `p2l serve`: its address, its process, and the file that it logs to."""

    def __init__(self, process: Forked | subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.address, self.url = process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/v1"
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def end(self, sig: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns its status."""
        self.process.send_signal(sig)
        return self.process.wait(30)


@contextlib.contextmanager
def p2l_serve(folder: Path, config: dict[str, Any] | None, *options: object, **env: str) -> Iterator[Server]:
    """Serve routing9 with a config until the end of the block."""
    port = free_port()
    name = f"{port}-{time.monotonic_ns()}"
    command = ["-m", "p2l_sdk", "serve", "--model", "routing9", "--port", port, *options]
    if config is not None:
        (folder / f"{name}.yaml").write_text(json.dumps(config))
        command += ["--config", folder / f"{name}.yaml"]
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        env = {"TMPDIR": str(folder), **os.environ, **env}  # what a server that is killed leaves there goes with it
        process = start(*command, output=output, env=env, imports=["p2l_sdk.serve.run", "p2l_sdk.serve.workers"])
    server = Server(process, port, log)
    try:
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{server.address}/ready").status_code == 200:
                    break
            assert process.poll() is None, server.log
            assert time.monotonic() < end, server.log
            time.sleep(0.02)
        yield server
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A real Redis server; yields its URL. Without the program or the package, what needs it is skipped."""
    pytest.importorskip("redis", reason="REDIS IS NOT TESTED: pip install redis")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("REDIS IS NOT TESTED: there is no redis-server here (apt-get install redis-server)")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert process.poll() is None
                time.sleep(0.01)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
