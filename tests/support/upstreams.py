"""Local upstream LLM servers, scripted to misbehave: raw HTTP/1.1, so that anything can go wrong.

    with Upstreams() as upstreams:
        upstreams.url("beta")                  # base_url of an LLM named beta
        upstreams.script["beta"] = ["500"]     # behaviours of its next calls; then it answers again
        upstreams.seen                         # the requests so far
        upstreams.hung_up                      # calls that the client aborted

Behaviours: ok, slow (longer than any timeout in the tests), a status (429:3 with Retry-After: 3), one of `REFUSALS`,
drop (midway through the answer), reset (no answer at all), garbage, html, redirect, stall (midway), endless, leak (the
key is in the error); for streams also error-event, odd-event, done-only, azure (its first event), cut (ends cleanly
midway, after a text that mentions the end), linger (stays open after its end). Any other is a name in `replies`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import socket
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

FOREVER = 60.0  # seconds; no test waits this long
REFUSALS = {  # a 400 in formats other than OpenAI's
    "400-list": b'[{"error": {"code": 400, "message": "secret-upstream-text"}}]',
    "400-text": b'{"error": "secret-upstream-text"}',
    "400-object": b'{"object": "error", "message": "secret-upstream-text"}',
    "400-detail": b'{"detail": "secret-upstream-text"}',
    "400-html": b"<html>secret-upstream-text</html>",
}
_FIRST = {  # first events of streams
    "error-event": b'{"error": {"message": "secret-upstream-text", "code": 502}}',
    "odd-event": b'{"object": "ping"}',
    "done-only": b"[DONE]",
}


def closed_port() -> int:
    """A local port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Seen:
    """A request: the LLM, the headers, the raw body."""

    llm: str
    headers: dict[str, str]
    raw: bytes
    body: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Reply:
    """A reply word for word: its parts, with a pause before each."""

    content: bytes | str | dict[str, Any] | tuple[bytes, ...] = b""
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0

    @property
    def parts(self) -> tuple[bytes, ...]:
        if isinstance(self.content, tuple):
            return self.content
        text = json.dumps(self.content) if isinstance(self.content, dict) else self.content
        return (text if isinstance(text, bytes) else text.encode(),)


def events(*payloads: Any, **options: Any) -> Reply:
    """A stream of these payloads (JSON values, or text as it is), each in a part of its own."""
    texts = [payload if isinstance(payload, str) else f"data: {json.dumps(payload)}" for payload in payloads]
    return Reply(tuple(f"{text}\n\n".encode() for text in texts), kind="text/event-stream", **options)


def delta(said: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    """The payload of an event of a streamed answer."""
    return {"choices": [{"index": 0, "delta": said, "finish_reason": reason, **more}]}


class Upstreams:
    """The server, in its own thread.

    Args:
        faults: share of the calls that fail at random, in one of the ways in `fault_kinds`.
    """

    def __init__(self, faults: float = 0.0, fault_kinds: tuple[str, ...] = (), seed: int = 0) -> None:
        self.script: dict[str, list[str]] = defaultdict(list)
        self.always: dict[str, str] = {}
        self.replies: dict[str, Reply] = {}
        self.seen: list[Seen] = []
        self.hung_up: list[str] = []
        self.answered: dict[str, str] = {}  # id of each complete answer -> the LLM
        self.usage: dict[str, int] | None = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        self._faults, self._kinds, self._random = faults, fault_kinds, random.Random(seed)
        self._ids = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.keep_seen = True
        self.accepted = self.open = 0  # connections so far, and open now

    def __enter__(self) -> Upstreams:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def url(self, llm: str) -> str:
        return f"http://127.0.0.1:{self.port}/{llm}/v1"

    def reset(self) -> None:
        self.script.clear()
        self.always.clear()
        self.replies.clear()
        self.seen.clear()
        self.hung_up.clear()

    # --- inside ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._request(reader, writer):
                pass
        with contextlib.suppress(Exception):
            writer.close()
        self.open -= 1

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for name, _, value in (line.partition(":") for line in head[1:] if line):  # a repeated header keeps both values
            held = headers.get(name.lower())
            headers[name.lower()] = value.strip() if held is None else f"{held}, {value.strip()}"
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        llm = head[0].split()[1].split("/")[1]
        body = json.loads(raw)
        if self.keep_seen:
            self.seen.append(Seen(llm, headers, raw, body))
        how = self._behaviour(llm)
        if how == "reset":
            writer.transport.abort()
            return False
        if how == "leak":
            error = {"error": {"message": f"a bad key: {headers.get('authorization')}"}}
            return await self._send(writer, 400, json.dumps(error).encode())
        answer = asyncio.ensure_future(self._answer(writer, llm, body, how))
        end = asyncio.ensure_future(reader.read(1))  # the client sends no more: this ends when it does
        await asyncio.wait((answer, end), return_when=asyncio.FIRST_COMPLETED)
        next_request = end.result() if end.done() and end.exception() is None else b""
        if next_request:  # so the client has all of the answer
            reader._buffer[:0] = next_request  # type: ignore[attr-defined]
            await answer
        if not answer.done():
            self.hung_up.append(llm)
        answer.cancel()
        end.cancel()
        outcome, _ = await asyncio.gather(answer, end, return_exceptions=True)
        return outcome is True

    def _behaviour(self, llm: str) -> str:
        if self.script[llm]:
            return self.script[llm].pop(0)
        if self._faults and self._random.random() < self._faults:
            return self._random.choice(self._kinds)
        return self.always.get(llm, "ok")

    async def _answer(self, writer: asyncio.StreamWriter, llm: str, body: dict[str, Any], how: str) -> bool:
        """Send the answer; True if the connection can be reused."""
        if how == "slow":
            await asyncio.sleep(FOREVER)
        if how in self.replies:
            return await self._word_for_word(writer, self.replies[how])
        if how in REFUSALS:
            return await self._send(writer, 400, REFUSALS[how])
        if how[:3].isdigit():
            status, _, rest = how.partition(":")
            error = {
                "error": {"message": f"{llm} says {status}: secret-upstream-text", "type": "upstream", "code": None}
            }
            extra = {"Retry-After": rest} if rest else {}
            return await self._send(writer, int(status), json.dumps(error).encode(), **extra)
        if how == "redirect":
            return await self._send(writer, 307, b"", Location=self.url("elsewhere") + "/chat/completions")
        if how == "html":
            return await self._send(writer, 200, b"<html>secret-upstream-text</html>", kind="text/html")
        if how == "garbage":
            return await self._send(writer, 200, b'{"choices": [ secret-upstream-text')
        if body.get("stream"):
            return await self._stream(writer, llm, body, how)
        answer = completion(llm, body, f"chatcmpl-{next(self._ids)}", self.usage)
        content = json.dumps(answer).encode()
        if how in ("drop", "stall", "endless"):
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
            writer.write(head.encode() + content[: len(content) // 2])
            await writer.drain()
            await asyncio.sleep(0 if how == "drop" else FOREVER)
            writer.transport.abort()
            return False
        self.answered[answer["id"]] = llm
        return await self._send(writer, 200, content)

    async def _word_for_word(self, writer: asyncio.StreamWriter, reply: Reply) -> bool:
        lines = {"content-type": reply.kind, "transfer-encoding": "chunked", **reply.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"HTTP/1.1 {reply.status} X\r\n{head}\r\n".encode("latin-1"))
        for part in filter(None, reply.parts):
            await asyncio.sleep(reply.pause)
            await _chunk(writer, part)
        await _chunk(writer, b"")
        return True

    async def _stream(self, writer: asyncio.StreamWriter, llm: str, body: dict[str, Any], how: str) -> bool:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        if how in _FIRST:
            await _chunk(writer, b"data: " + _FIRST[how] + b"\n\n")
            await _chunk(writer, b"")
            return True
        answer = completion(llm, body, f"chatcmpl-{next(self._ids)}", self.usage)
        if how == "cut":
            answer["choices"][0]["message"]["content"] = "data: [DONE] is how a stream ends"
        events = [json.dumps(event).encode() for event in chunks(answer, body)]
        if how == "azure":
            events.insert(0, b'{"choices": [], "prompt_filter_results": []}')
        if how == "cut":
            events = [event.replace(b'"finish_reason": null', b'"finish_reason": ""') for event in events]
        middle = max(2, len(events) // 2)
        for i in itertools.count() if how == "endless" else range(len(events)):
            if i == middle and how == "drop":  # in the middle of an event
                await _chunk(writer, b"data: " + events[i][:20])
                writer.transport.abort()
                return False
            if i == middle and how == "cut":
                await _chunk(writer, b"")
                return True
            if i == middle and how == "stall":
                await asyncio.sleep(FOREVER)
            await _chunk(writer, b"data: " + events[min(i, 1) if how == "endless" else i] + b"\n\n")
            await asyncio.sleep(0.02 if how == "endless" else 0.002)
        await _chunk(writer, b"data: [DONE]\n\n")
        if how == "linger":
            await asyncio.sleep(FOREVER)
        self.answered[answer["id"]] = llm
        await _chunk(writer, b"")
        return True

    async def _send(
        self, writer: asyncio.StreamWriter, status: int, content: bytes, kind: str = "application/json", **headers: str
    ) -> bool:
        lines = {"Content-Type": kind, "Content-Length": str(len(content)), "X-Request-Id": "req-1"}
        lines |= {"Set-Cookie": "caller=first; Path=/", **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + content)
        await writer.drain()
        return True


async def _chunk(writer: asyncio.StreamWriter, content: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(content), content))
    await writer.drain()


def completion(llm: str, body: dict[str, Any], id: str, usage: dict[str, int] | None) -> dict[str, Any]:
    """An answer that reflects the request: tools are called, a schema is filled, images are counted."""
    parts = [p for m in body["messages"] if isinstance(m.get("content"), list) for p in m["content"]]
    images = sum(part["type"] == "image_url" for part in parts)
    if body.get("tools"):
        function = {"name": body["tools"][0]["function"]["name"], "arguments": '{"city": "Paris"}'}
        message: dict[str, Any] = {"role": "assistant", "content": None}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
        reason = "tool_calls"
    else:
        content = f"{llm} answers at temperature {body.get('temperature')} and sees {images} images"
        if (body.get("response_format") or {}).get("type") == "json_schema":
            content = json.dumps({"answer": 42})
        message, reason = {"role": "assistant", "content": content}, "stop"
    choices = [{"index": i, "message": message, "finish_reason": reason} for i in range(body.get("n") or 1)]
    answer = {"id": id, "object": "chat.completion", "created": 1, "model": body["model"], "choices": choices}
    return answer if usage is None else {**answer, "usage": usage}


def chunks(answer: dict[str, Any], body: dict[str, Any]) -> list[dict[str, Any]]:
    """The same answer in chunks of one word."""
    head = {"id": answer["id"], "object": "chat.completion.chunk", "created": 1, "model": answer["model"]}
    events = []
    for choice in answer["choices"]:
        i, message = choice["index"], choice["message"]
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": word + " "} for word in (message["content"] or "").split()]
        if "tool_calls" in message:
            deltas.append({"tool_calls": [{"index": 0, **message["tool_calls"][0]}]})
        events += [{**head, "choices": [{"index": i, "delta": d, "finish_reason": None}]} for d in deltas]
        events.append({**head, "choices": [{"index": i, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        events.append({**head, "choices": [], "usage": answer["usage"]})
    return events
