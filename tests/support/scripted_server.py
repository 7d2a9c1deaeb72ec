"""An OpenAI-compatible server that follows scripts: known delays, known texts, faults. The first word of a prompt names
the script, which may be a function of the request's body; every request is counted."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter


@dataclass(frozen=True)
class Script:
    """How a request is answered: seconds to the first token and to the end, the text, the faults."""

    first: float = 0.0
    total: float = 0.0
    text: str = "yes it is"
    usage: tuple[int, int] | None = (10, 20)
    status: int = 200
    header: str = ""  # one more of a reply that is no stream
    raw: bytes | None = None  # sent instead of events
    cut: bool = False  # the connection breaks after the first token
    whole: bool = False  # one JSON body instead of a stream


Reply = Script | Callable[[dict], Script]


class ScriptedServer:
    """A context manager. Attributes: base_url; asked, the number of requests per prompt; bodies, the requests."""

    def __init__(self, scripts: dict[str, Reply] | None = None, *, one_at_a_time: bool = False) -> None:
        self.scripts, self.one_at_a_time = scripts or {}, one_at_a_time
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict] = []
        self.headers: list[str] = []

    def __enter__(self) -> ScriptedServer:
        ready = threading.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._lock = asyncio.Lock()
            server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
            self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            self._stop = asyncio.Event()
            ready.set()
            await self._stop.wait()
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.01)

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(int(h.split(":")[1]) for h in head.splitlines() if h.lower().startswith("content-length"))
                body = json.loads(await reader.readexactly(length))
                self.bodies.append(body)
                self.headers.append(head)
                prompt = body["messages"][-1]["content"]
                self.asked[prompt] += 1
                script = self.scripts.get(prompt.split()[0], self.scripts.get("*", Script()))
                script = script if isinstance(script, Script) else script(body)
                if self.one_at_a_time:
                    async with self._lock:
                        await self._answer(script, writer)
                else:
                    await self._answer(script, writer)
                if script.cut:
                    break
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, script: Script, writer: asyncio.StreamWriter) -> None:
        start = perf_counter()
        if script.status != 200 or script.whole:
            await asyncio.sleep(script.total)
            kind, body = "application/json", b'{"error": {"message": "overloaded"}}'
            if script.whole:
                message = {"message": {"role": "assistant", "content": script.text}, "finish_reason": "stop"}
                body = json.dumps({"choices": [message], "usage": _usage(script)}).encode()
            writer.write(f"HTTP/1.1 {script.status} X\r\ncontent-type: {kind}\r\n".encode())
            writer.write(f"{script.header}\r\n".encode() if script.header else b"")
            writer.write(f"content-length: {len(body)}\r\n\r\n".encode() + body)
            return await writer.drain()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        await writer.drain()
        if script.raw is not None:
            await _chunk(writer, script.raw)
            return await _chunk(writer, b"")
        words = script.text.split(" ") if script.text else []
        for i, word in enumerate(words):
            due = script.first + (script.total - script.first) * i / max(len(words) - 1, 1)
            await asyncio.sleep(start + due - perf_counter())
            delta = {"content": word if i == 0 else f" {word}"}
            await _chunk(writer, _event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))
            if script.cut:
                return None
        await asyncio.sleep(start + script.total - perf_counter())
        await _chunk(writer, _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        if script.usage is not None:
            await _chunk(writer, _event({"choices": [], "usage": _usage(script)}))
        await _chunk(writer, b"data: [DONE]\n\n")
        return await _chunk(writer, b"")


def _usage(script: Script) -> dict[str, int] | None:
    return None if script.usage is None else {"prompt_tokens": script.usage[0], "completion_tokens": script.usage[1]}


def _event(event: dict) -> bytes:
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\r\n\r\n"


async def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()
