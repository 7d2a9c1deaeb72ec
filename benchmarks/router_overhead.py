"""The latency that the router adds to a call of an LLM: calls through `p2l serve` compared with direct calls.

Three processes on one machine: the upstream (which answers immediately, so that it does not hide the router), `p2l
serve` with the embedded default model, and this client. Direct calls and calls through the router alternate, prompt by
prompt, on connections that are kept open; every prompt is new, so the cache is of no use. With a ledger, an API key
with a budget pays every call; "none" is a router without keys. Redis needs `redis-server`, which this starts. "bare
proxy" is no router: a server that passes each call on and looks at nothing, which is the least that a second hop costs.

    python benchmarks/router_overhead.py [--calls 400] [--clients 1 --clients 8] [--model routing9]
        [--ledger "bare proxy" --ledger none --ledger sqlite --ledger redis]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import uvicorn
import uvloop
from fastapi import FastAPI, Request
from fastapi.responses import Response
from measuring import machine, new_prompt, print_json, quantile, wait_for

LLMS = {
    "arena": ("llama-3.1-8b", "gpt-4o-mini", "claude-3-5-haiku"),
    "routing9": ("llama-3.1-8b-instruct", "gemma-2-9b-it", "qwen2.5-7b-instruct"),
}
BARE = "bare proxy"
KEY = "a-key-of-the-benchmark"
ANSWER = {
    "id": "chatcmpl-0",
    "object": "chat.completion",
    "created": 0,
    "model": "upstream",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "391"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11},
}


def upstream(port: int) -> None:
    """An OpenAI-compatible server that answers immediately."""
    app, reply = FastAPI(), json.dumps(ANSWER).encode()

    @app.post("/v1/chat/completions")
    async def answer(request: Request) -> Response:
        await request.body()
        return Response(reply, media_type="application/json")

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False)


def bare_proxy(port: int, direct: int) -> None:
    """A server that passes each call on to the upstream at another port."""
    address, headers = f"http://127.0.0.1:{direct}/v1/chat/completions", {"Content-Type": "application/json"}

    async def passed_on(request: aiohttp.web.Request) -> aiohttp.web.Response:
        body = await request.read()
        async with request.app[session].post(address, data=body, headers=headers) as reply:
            content = await reply.read()
        return aiohttp.web.Response(body=content, status=reply.status, content_type=reply.content_type)

    async def health(_: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.json_response({"status": "ok"})

    async def opened(app: aiohttp.web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as app[session]:
            yield

    app, session = aiohttp.web.Application(), aiohttp.web.AppKey("session", aiohttp.ClientSession)
    app.cleanup_ctx.append(opened)
    app.add_routes([aiohttp.web.post("/v1/chat/completions", passed_on), aiohttp.web.get("/health", health)])
    loop = uvloop.new_event_loop()
    aiohttp.web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None, loop=loop)


async def call(stream: Any, port: int, prompt: str, model: str) -> float:
    """Seconds of one request."""
    reader, writer = stream
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": prompt}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {KEY}\r\n"
    asked = time.perf_counter()
    writer.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    got = await reader.readuntil(b"\r\n\r\n")
    if not got.startswith(b"HTTP/1.1 200"):
        raise RuntimeError((got + await reader.read(2000)).decode())
    sized = [line for line in got.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if sized:
        await reader.readexactly(int(sized[0][15:]))
    else:  # chunked transfer encoding
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    return time.perf_counter() - asked


async def turns(direct: int, router: int, calls: int, clients: int) -> list[tuple[float, float]]:
    """(direct, through the router) seconds for each prompt."""
    pairs: list[tuple[float, float]] = []

    async def client(number: int) -> None:
        chance = random.Random(number)
        streams = {port: await asyncio.open_connection("127.0.0.1", port) for port in (direct, router)}
        for i in range(calls // clients + 20):
            prompt = new_prompt(chance, 10, 40)
            seconds = {}
            for port, model in ((direct, "upstream"), (router, "p2l")) if i % 2 else ((router, "p2l"), (direct, "x")):
                seconds[port] = await call(streams[port], port, prompt, model)
            if i >= 20:  # the first 20 warm up
                pairs.append((seconds[direct], seconds[router]))
        for _, writer in streams.values():
            writer.close()

    await asyncio.gather(*map(client, range(clients)))
    return pairs


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def store(ledger: str, place: Path) -> Iterator[list[str]]:
    """The options of `p2l serve` for this ledger, which exists meanwhile."""
    keys = ["--api-keys", str(place / "keys.txt")]
    (place / "keys.txt").write_text(f"{KEY} benchmark 1000\n")
    if ledger == "none":
        yield []
    elif ledger == "redis":
        port = free_port()
        command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(place)]
        redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            time.sleep(1)
            yield [*keys, "--ledger", f"redis://127.0.0.1:{port}/0"]
        finally:
            redis.terminate()
            redis.wait(20)
    else:
        yield [*keys, "--ledger", "memory" if ledger == "memory" else str(place / "ledger.db")]


@contextlib.contextmanager
def running(target: Callable[..., None], *ports: int) -> Iterator[None]:
    """A server in a process of its own, at the first of the ports."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=ports)
    process.start()
    try:
        wait_for(ports[0])
        yield
    finally:
        process.terminate()
        process.join(20)


@contextlib.contextmanager
def serving(model: str, ledger: str, port: int, direct: int) -> Iterator[None]:
    """`p2l serve` before the upstream at another port."""
    with tempfile.TemporaryDirectory() as place, store(ledger, Path(place)) as options:
        config = Path(place) / "router.yaml"
        at = {"base_url": f"http://127.0.0.1:{direct}/v1", "prices": {"input": 0.15, "output": 0.6}}
        models = {name: {**at, "upstream_model": name} for name in LLMS[model]}
        config.write_text(json.dumps({"budget": 0.001, "models": models}))  # JSON is YAML
        command = [sys.executable, "-m", "p2l_sdk", "serve", "--model", model, "--config", str(config)]
        command += ["--port", str(port), *options]
        served = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(port)
            yield
        finally:
            served.terminate()
            served.wait(20)


def measure(model: str, ledger: str, calls: int, clients: list[int]) -> list[dict[str, Any]]:
    """A row for each number of clients."""
    direct, router = free_port(), free_port()
    between = running(bare_proxy, router, direct) if ledger == BARE else serving(model, ledger, router, direct)
    with running(upstream, direct), between:
        return [row(ledger, n, asyncio.run(turns(direct, router, calls, n))) for n in clients]


def row(ledger: str, clients: int, pairs: list[tuple[float, float]]) -> dict[str, Any]:
    line: dict[str, Any] = {"ledger": ledger, "clients": clients, "calls": len(pairs)}
    for name, values in (("direct", [d for d, _ in pairs]), ("router", [r for _, r in pairs])):
        line |= {f"{name}_p50_ms": 1e3 * statistics.median(values), f"{name}_p99_ms": 1e3 * quantile(values, 0.99)}
    return {**line, "added_p50_ms": 1e3 * statistics.median(r - d for d, r in pairs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--clients", type=int, action="append", help="that call at once; may be given several times")
    parser.add_argument("--ledger", choices=[BARE, "none", "memory", "sqlite", "redis"], action="append")
    parser.add_argument("--model", choices=sorted(LLMS), default="arena")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    clients = arguments.clients or [1, 8]
    stores = arguments.ledger or [BARE, "none"]
    rows = [line for name in stores for line in measure(arguments.model, name, arguments.calls, clients)]
    if arguments.json:
        print_json(machine=machine(), model=arguments.model, results=rows)
        return
    print(f"{machine()}; embedded model {arguments.model}\n")
    print("| ledger | clients | calls | direct p50, p99 ms | router p50, p99 ms | added p50 ms |")
    print("|---" * 6 + "|")
    for line in rows:
        print(
            f"| {line['ledger']} | {line['clients']} | {line['calls']} "
            f"| {line['direct_p50_ms']:.2f}, {line['direct_p99_ms']:.2f} "
            f"| {line['router_p50_ms']:.2f}, {line['router_p99_ms']:.2f} | {line['added_p50_ms']:.2f} |"
        )


if __name__ == "__main__":
    main()
