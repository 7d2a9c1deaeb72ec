"""Requests per second and latency of the server at 1, 8, 32 and 128 clients, compared with a plain server.

The plain server serves the same model from an async handler that runs one prompt at a time on the event loop, as the
paper's research code does. Server and clients are two processes on one machine. Clients keep their connection open and
send the next request as soon as they have an answer; every prompt is new, so the cache is of no use. Meanwhile, one
more client requests /health every 20 ms. The two servers alternate, round by round, so that a busy machine slows both;
the results are medians over the rounds.

With `--runtime onnx` (or openvino), the server runs what `p2l export --runtime onnx` wrote to the folder ("tiny" is
exported here), and the plain server still torch.

    python benchmarks/serving.py [--model default --model tiny --model FOLDER] [--runtime onnx] [--rounds 3]
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measuring import WORDS, machine, new_prompt, print_json, quantile, rounds_and_json, wait_for

CLIENTS = (1, 8, 32, 128)


def tiny(folder: Path) -> None:
    """Save a random transformer with two layers of hidden size 32, and a word-level tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    from p2l_sdk.modeling.configuration_p2l import P2LConfig
    from p2l_sdk.modeling.modeling_p2l import P2LModel

    tokens = ["[PAD]", "[UNK]", "<|cls|>", *dict.fromkeys(WORDS)]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    backbone = LlamaConfig(
        vocab_size=len(tokens), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    names = [f"llm-{i}" for i in range(9)]
    spec: dict[str, Any] = {"models": names, "feedback": "grk", "chat": False, "cls_token": "<|cls|>"}
    P2LModel(P2LConfig(backbone_config=backbone, **spec)).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(folder)


def export(folder: Path) -> None:
    """Write the graph of a model beside its weights."""
    from p2l_sdk.scorers.load import load_scorer
    from p2l_sdk.scorers.onnx_export import export_onnx

    export_onnx(load_scorer(folder), folder)


def plain_app(p2l: Any) -> Any:
    """The plain server's app."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.post("/v1/leaderboard")
    async def leaderboard(asked: dict[str, str]) -> dict[str, Any]:
        return p2l.leaderboard(asked["prompt"]).to_dict()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def serve(source: str | None, engine: bool, runtime: str | None, listener: socket.socket) -> None:
    """The server's process."""
    import uvicorn

    from p2l_sdk import P2L
    from p2l_sdk.serve import Engine, create_app
    from p2l_sdk.serve.process import tune_process

    p2l = P2L.from_pretrained(source, runtime=runtime if engine else None)
    app = create_app(Engine(p2l, queue_size=4096, timeout_s=120)) if engine else plain_app(p2l)
    if engine:
        tune_process()  # as `p2l serve` does
    uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False)).run(sockets=[listener])


@contextmanager
def running(source: str | None, engine: bool, runtime: str | None = None) -> Iterator[int]:
    # asyncio only disables Nagle's algorithm if the socket names its protocol, as uvicorn's own sockets do
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    port = listener.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(source, engine, runtime, listener))
    process.start()
    try:
        wait_for(port)
        yield port
    finally:
        process.terminate()
        process.join(20)


async def ask(stream: Any, request: bytes) -> None:
    """One request on an open connection; minimal, since the client shares the machine with the server."""
    reader, writer = stream
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length[15:]))


def post(chance: random.Random, words: int) -> bytes:
    """A request with a new prompt of half to twice `words` words."""
    body = json.dumps({"prompt": new_prompt(chance, words // 2, words * 2)}).encode()
    head = "POST /v1/leaderboard HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def load(port: int, clients: int, seconds: float, words: int, seed: int) -> dict[str, float]:
    """Requests per second, and the latency of requests and of health checks in ms."""
    times: list[float] = []
    checks: list[float] = []
    start = time.perf_counter()
    end = start + seconds

    async def client(number: int) -> None:
        chance = random.Random(seed * 1000 + number)
        stream = await asyncio.open_connection("127.0.0.1", port)
        while (asked := time.perf_counter()) < end:
            await ask(stream, post(chance, words))
            times.append(time.perf_counter() - asked)
        stream[1].close()

    async def health() -> None:
        stream = await asyncio.open_connection("127.0.0.1", port)
        while (asked := time.perf_counter()) < end:
            await ask(stream, b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            checks.append(time.perf_counter() - asked)
            await asyncio.sleep(0.02)
        stream[1].close()

    await asyncio.gather(health(), *(client(i) for i in range(clients)))
    took = time.perf_counter() - start
    return {
        "per_second": len(times) / took,
        "p50_ms": 1e3 * statistics.median(times),
        "p99_ms": 1e3 * quantile(times, 0.99),
        "health_p99_ms": 1e3 * quantile(checks, 0.99),
    }


def measure(
    source: str | None, runtime: str | None, seconds: float, rounds: int, words: int, numbers: tuple[int, ...]
) -> list[dict[str, Any]]:
    """For each number of clients, medians over the rounds, in which engine and plain server alternate."""
    rows = []
    with running(source, True, runtime) as engine, running(source, False) as plain:
        for port in (engine, plain):
            asyncio.run(load(port, 4, min(seconds, 1.0), words, 999))  # warm up
        for clients in numbers:
            seen: dict[str, list[dict[str, float]]] = {"engine": [], "plain": []}
            for i in range(rounds):
                for name, port in (("engine", engine), ("plain", plain)):
                    seen[name].append(asyncio.run(load(port, clients, seconds, words, i * 1000 + clients)))
            row: dict[str, Any] = {"clients": clients}
            for name, runs in seen.items():
                row[name] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            pairs = zip(seen["engine"], seen["plain"], strict=True)
            row["times_plain"] = statistics.median(a["per_second"] / b["per_second"] for a, b in pairs)
            rows.append(row)
    return rows


def main() -> None:
    parser = rounds_and_json(__doc__, 3)
    parser.add_argument("--model", action="append", help="default, tiny, or what P2L.from_pretrained takes")
    parser.add_argument(
        "--runtime", choices=["torch", "onnx", "openvino"], help="of the server; that of the plain one is torch"
    )
    parser.add_argument("--clients", type=int, action="append", help="1, 8, 32 and 128 if not given")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--words", type=int, default=20, help="of a prompt, about")
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as place:
        for name in arguments.model or ["default", "routing9", "tiny"]:
            source = None if name == "default" else name
            if name == "tiny":
                source = str(Path(place) / "tiny")
                tiny(Path(source))
                if arguments.runtime in ("onnx", "openvino"):
                    export(Path(source))
            numbers = tuple(arguments.clients or CLIENTS)
            results[name] = measure(
                source, arguments.runtime, arguments.seconds, arguments.rounds, arguments.words, numbers
            )
    if arguments.json:
        print_json(machine=machine(), results=results)
        return
    print(f"{machine()}; {arguments.rounds} rounds of {arguments.seconds:g} s\n")
    print("| model | clients | per s | p50, p99 ms | health p99 | plain: per s | p50, p99 | health p99 | times |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, rows in results.items():
        for row in rows:
            cells = []
            for kind in ("engine", "plain"):
                run = row[kind]
                cells += [f"{run['per_second']:.0f}", f"{run['p50_ms']:.1f}, {run['p99_ms']:.1f}"]
                cells += [f"{run['health_p99_ms']:.1f}"]
            print(f"| {name} | {row['clients']} | {' | '.join(cells)} | {row['times_plain']:.2f} |")


if __name__ == "__main__":
    main()
