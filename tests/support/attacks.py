"""Attacks on a server, each in a process of its own: `python attacks.py KIND PORT SECONDS`; prints what came of it.

Kinds: headers (headers of 150 MB), slowloris (1,500 headers, one byte at a time), idle (2,500 silent connections),
pipeline (thousands of requests at once), replies (chats whose answer is 60 MB), unread (large answers that nobody
reads), and health, which is no attack: it asks for /health and prints how often, and the median, 99th percentile and
maximum of the seconds that an answer took.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable

from raw_http import post, request

CHAT = post("/v1/chat/completions", {"model": "large", "messages": [{"role": "user", "content": "a"}]})
HEALTH = request(b"GET /health", b"Connection: close")
MANY = post("/v1/leaderboards", {"prompts": [f"prompt {i}" for i in range(1000)]})


class Attack:
    """Until `end`, against `port`."""

    def __init__(self, port: int, seconds: float) -> None:
        self.port, self.end = port, time.monotonic() + seconds
        self.done, self.grace = 0, 0.0

    async def repeat(self, once: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        while time.monotonic() < self.end:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    async with asyncio.timeout(max(0.1, self.end + self.grace - time.monotonic())):
                        await once(reader, writer)
                    self.done += 1
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.01)

    async def headers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
        for _ in range(150):
            writer.write(b"x" * 2**20)
            await writer.drain()
        await reader.read()

    async def slowloris(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in request(b"GET /health", b"X: " + b"y" * 1000):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(1.0)

    async def idle(self, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def pipeline(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request(b"GET /health") * 20_000)
        await reader.read()

    async def replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHAT)
        head = await reader.readuntil(b"\r\n\r\n")
        left = int(head.lower().split(b"content-length:")[1].split()[0])
        assert head.startswith(b"HTTP/1.1 200 ")
        while left > 0 and (part := await reader.read(2**20)):
            left -= len(part)

    async def unread(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(MANY * 20)
        await asyncio.sleep(self.end - time.monotonic())

    async def health(self) -> list[float]:
        took = []
        while time.monotonic() < self.end:
            start = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(HEALTH)
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            took.append(time.monotonic() - start)
            writer.close()
            await asyncio.sleep(0.005)
        took.sort()
        return [len(took), *(took[int(share * (len(took) - 1))] for share in (0.5, 0.99, 1.0))]


CLIENTS = {"headers": 8, "slowloris": 1500, "idle": 2500, "pipeline": 4, "replies": 3, "unread": 8}


async def main(kind: str, port: int, seconds: float) -> object:
    attack = Attack(port, seconds)
    attack.grace = 30.0 if kind == "replies" else 0.0  # what has been asked for is taken
    if kind == "health":
        return await attack.health()
    await asyncio.gather(*(attack.repeat(getattr(attack, kind)) for _ in range(CLIENTS[kind])))
    return attack.done


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
