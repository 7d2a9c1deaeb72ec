"""What several benchmarks need: options, the machine, JSON output, a quantile, prompts, a server that has started."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import socket
import time
from typing import Any

WORDS = ["prove", "that", "the", "square", "root", "of", "two", "is", "irrational", "write", "a", "poem", "about"]
WORDS += ["code", "in", "python", "sum", "list"]


def rounds_and_json(description: str, rounds: int) -> argparse.ArgumentParser:
    """A parser with `--rounds` and `--json`; only the first line of the description is shown."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", action="store_true")
    return parser


def machine(*details: str) -> str:
    """The processor, its cores, further details, and the version of Python."""
    return f"{', '.join([_processor(), f'{os.cpu_count()} cores', *details])}; Python {platform.python_version()}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def print_json(**result: Any) -> None:
    """Print the result of a benchmark as JSON."""
    print(json.dumps(result, indent=2))


def quantile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def new_prompt(chance: random.Random, fewest: int, most: int) -> str:
    """A prompt of so many words that no cache has seen: it ends in a random number."""
    return " ".join(chance.choices(WORDS, k=chance.randint(fewest, most))) + f" {chance.random()}"


def wait_for(port: int) -> None:
    """Return as soon as the server on this machine's port answers.

    Raises:
        RuntimeError: it did not within two minutes.
    """
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:  # the socket may listen from the start: only an answer shows that the server runs
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                if b" 200 " in connection.recv(100):
                    return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the server did not start")
