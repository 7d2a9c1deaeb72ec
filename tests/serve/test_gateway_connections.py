"""The connections to upstreams, byte by byte: which are used again, through which proxy, and malformed replies. Each
upstream here is a socket that follows a script."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import json
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator

import pytest
from gateway_llms import HELLO
from upstreams import Upstreams

from p2l_sdk.serve.gateway import pool
from p2l_sdk.serve.gateway.call import UpstreamError
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.pool import UpstreamClient
from p2l_sdk.serve.gateway.reasons import Work
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.upstream import Answer, Upstream
from p2l_sdk.serve.metrics import ServerMetrics

ANSWER = json.dumps({"choices": [{"message": {"role": "assistant", "content": "yes"}}]}).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
WHOLE = HEAD + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
EVENTS = b'data: {"choices": [{"index": 0, "delta": {"content": "yes"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
RESET = b"reset"


class Server:
    """A server of a connection at a time in a thread of its own; the script is what it does with each request.

    Attributes:
        url: of an LLM there.
        requests: their headers, as they came.
        bodies: of the requests.
        connections: how many there were.
    """

    def __init__(self, script: Callable[[socket.socket, int], bytes]) -> None:
        self._script, self.requests, self.bodies, self.connections = script, list[str](), list[bytes](), 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as reader:
            while line := reader.readline():
                head = line + b"".join(iter(reader.readline, b"\r\n"))
                self.requests.append(head.decode())
                sizes = [int(one[15:]) for one in head.lower().split(b"\r\n") if one.startswith(b"content-length:")]
                self.bodies.append(reader.read(sum(sizes)))
                reply = self._script(connection, len(self.requests))
                if reply.endswith(RESET):  # closing with this option sends RST instead of FIN
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                connection.sendall(reply.removesuffix(RESET))
                if reply.endswith(RESET) or b"content-length: %d\r\n" % len(ANSWER) not in reply:
                    time.sleep(0.05)
                    return


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket, int], bytes]], Server]]:
    started: list[Server] = []
    yield lambda script: started.append(Server(script)) or started[-1]
    for server in started:
        server.close()


def upstream(url: str, client: UpstreamClient, **settings: object) -> Upstream:
    config = GatewayConfig.from_dict({"models": {"x": {"base_url": url, "timeout": 5, **settings}}})
    [found] = Upstream.of(config.models["x"], config, client, ServerMetrics())
    return found


def chat(**fields: object) -> ChatRequest:
    return ChatRequest.parse(json.dumps({"model": "x", "messages": HELLO, **fields}).encode())


async def whole(answer: Answer) -> bytes:
    try:
        rest = b"" if answer.stream is None else b"".join([part async for part in answer.stream.rest()])
    finally:
        await answer.close()
    return bytes(answer.content) + rest


def ask(url: str, trust_env: bool = False, settings: dict | None = None, **fields: object) -> bytes:
    """The answer of an upstream to one request."""

    async def ask_it() -> bytes:
        async with UpstreamClient(trust_env) as client:
            return await whole(await upstream(url, client, **(settings or {})).ask(chat(**fields), 8))

    return asyncio.run(ask_it())


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


EVENTFUL = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
TE = b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"", "connection"),
        (RESET, "connection"),
        (b"nonsense\r\n\r\n", "connection"),
        (b"HTTP/1.1 twohundred OK\r\n\r\n", "connection"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", "connection"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n", "connection"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n", "connection"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000 + b"\r\n", "connection"),
        (b"HTTP/1.1 200 OK\r\nunfinished: hea", "connection"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc", "status_101"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "status_204"),
        (HEAD + b"content-length: 99999\r\n\r\n" + ANSWER, "connection"),
        (HEAD + b"content-length: 99999\r\n\r\n" + ANSWER + RESET, "connection"),
        (HEAD + TE + b"zz\r\nabc\r\n", "connection"),
        (HEAD + TE + b"5\r\nabc", "connection"),
        (HEAD + TE + chunked(ANSWER) + b"zz\r\n", "connection"),
        (HEAD + TE + chunked(ANSWER), "connection"),
        (EVENTFUL + TE + b"zz\r\nabc\r\n", "connection"),
        (EVENTFUL + TE + chunked(b": life\n\n") + RESET, "connection"),
    ],
    ids=range(19),
)  # fmt: skip
def test_a_malformed_reply_is_a_failure(serve, reply, kind, stream):
    server = serve(lambda *_: reply)
    with pytest.raises(UpstreamError) as caught:
        ask(server.url, stream=stream)
    other = "content"  # the content type is looked at first
    assert caught.value.kind == kind or (caught.value.kind == other and (EVENTFUL in reply) != stream)


FIRST = b'data: {"choices": [{"index": 0, "delta": {"content": "yes"}}]}\n\n'


@pytest.mark.parametrize(
    "rest", [b"", RESET, b"zz\r\nabc\r\n", b"-1\r\n", b"5\r\nab", b"0\r\n\r\n", b"ffffffffffffffffffff\r\n"]
)
def test_a_stream_that_goes_wrong_has_broken_off(serve, rest):
    def begin(connection: socket.socket, _: int) -> bytes:
        connection.sendall(EVENTFUL + TE + chunked(FIRST))
        time.sleep(0.05)
        return rest

    with pytest.raises(UpstreamError) as caught:
        ask(serve(begin).url, stream=True)
    assert caught.value.kind == "broken"


@pytest.mark.parametrize("pack", [gzip.compress, bytes, lambda content: gzip.compress(content)[:-9]])
def test_a_stream_that_is_encoded_although_nobody_asked(serve, pack):
    packed = pack(EVENTS)
    head = EVENTFUL + b"content-encoding: gzip\r\n" + TE
    server = serve(lambda *_: head + chunked(packed[:9], packed[9:]) + b"0\r\n\r\n")
    if pack is not bytes:
        assert ask(server.url, stream=True) == EVENTS  # [DONE] has come, so it is complete
    else:
        with pytest.raises(UpstreamError):
            ask(server.url, stream=True)
    assert "accept-encoding: identity" in server.requests[0].lower()


@pytest.mark.parametrize("size", [30, 3_000_000])
def test_what_a_request_looks_like_on_the_wire(serve, monkeypatch, size):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server = serve(lambda *_: WHOLE)
    headers = {"Cookie": "a=b", "X-Team": "p2l", "Host": "other.example"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(server.url + "/?version=2026-01%2F01", settings={"headers": headers}, user="x" * size)
    line, *lines = server.requests[0].split("\r\n")
    assert line == "POST /v1/chat/completions?version=2026-01%2F01 HTTP/1.1"
    got = dict(one.lower().split(": ", 1) for one in lines if one)
    assert got.pop("content-length") == str(len(server.bodies[0]))
    assert got == {
        "accept": "application/json", "accept-encoding": "identity", "content-type": "application/json",
        "user-agent": "p2l-sdk", "cookie": "a=b", "x-team": "p2l", "host": "other.example",
    }  # fmt: skip
    assert json.loads(server.bodies[0])["user"] == "x" * size


def test_a_connection_is_used_again_and_closed_when_idle(serve, monkeypatch):
    monkeypatch.setattr(pool, "_IDLE_SECONDS", 0.2)
    server = serve(lambda *_: WHOLE)

    async def ask_often() -> None:
        async with UpstreamClient() as client:
            llm = upstream(server.url, client)
            for _ in range(5):
                await llm.ask(chat(), 5)
            assert server.connections == 1
            await asyncio.sleep(0.5)
            await llm.ask(chat(), 5)
            assert server.connections == 2

    asyncio.run(ask_often())


def test_connections_that_only_a_burst_used_are_closed(monkeypatch):
    monkeypatch.setattr(pool, "_IDLE_SECONDS", 0.2)

    async def burst(upstreams: Upstreams) -> None:
        async with UpstreamClient() as client:
            llm = upstream(upstreams.url("x"), client)
            await asyncio.gather(*(llm.ask(chat(), 5) for _ in range(12)))
            assert upstreams.accepted == 12
            give_up = time.monotonic() + 3
            while upstreams.open:
                assert time.monotonic() < give_up, f"{upstreams.open} connections stay open"
                await asyncio.sleep(0.02)
            await llm.ask(chat(), 5)

    with Upstreams() as upstreams:
        asyncio.run(burst(upstreams))


@pytest.mark.parametrize("late", ["closed", "reset", "a reply that nobody asked for", "one byte"])
@pytest.mark.parametrize("noticed", [False, True])
def test_an_idle_connection_on_which_anything_came_is_not_used_again(serve, late, noticed):
    other = WHOLE.replace(b"yes", b"NO!")

    def script(connection: socket.socket, n: int) -> bytes:
        if n > 1:
            return WHOLE
        connection.sendall(WHOLE)
        time.sleep(0.1)
        if late == "reset":
            return RESET
        if late == "closed":
            connection.shutdown(socket.SHUT_WR)
        return {"closed": b"", "one byte": b"H"}.get(late, other)

    server = serve(script)

    async def ask_twice() -> bytes:
        async with UpstreamClient() as client:
            llm = upstream(server.url, client)
            await llm.ask(chat(), 5)
            time.sleep(0.2)  # the event loop has not seen what came meanwhile
            if noticed:
                await asyncio.sleep(0.05)
            return await whole(await llm.ask(chat(), 5))

    assert asyncio.run(ask_twice()) == ANSWER
    assert (server.connections, len(server.requests)) == (2, 2)


def test_a_call_that_is_given_up_closes_its_connection(serve):
    asked, left = threading.Event(), threading.Event()

    def wait(connection: socket.socket, _: int) -> bytes:
        asked.set()
        connection.settimeout(30)
        if connection.recv(1) == b"":
            left.set()
        return b""

    server = serve(wait)
    faults: list[dict] = []

    async def give_up() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        async with UpstreamClient() as client:
            call = asyncio.ensure_future(upstream(server.url, client).ask(chat(), 30))
            assert await asyncio.to_thread(asked.wait, 20)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await asyncio.to_thread(left.wait, 20)
        gc.collect()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(give_up())
    assert not faults


def test_only_trust_env_takes_the_proxy_of_the_environment(serve, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("default login somebody password of-the-netrc\n")
    refusal = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"
    server, proxy = serve(lambda *_: WHOLE), serve(lambda _, n: WHOLE if n == 1 else refusal)
    place = f"127.0.0.1:{proxy.port}"
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", f"http://me:pass@{place}")
    monkeypatch.setenv("HTTPS_PROXY", place)
    monkeypatch.setenv("P2L_TEST_KEY", "sk-upstream-secret")
    keyed = {"api_key_env": "P2L_TEST_KEY"}
    assert ask(server.url, settings=keyed) == ANSWER
    assert not proxy.requests
    assert ask("http://llm.example:81/v1", trust_env=True, settings=keyed) == ANSWER
    assert proxy.requests[0].startswith("POST http://llm.example:81/v1/chat/completions HTTP/1.1\r\n")
    assert "authorization: bearer sk-upstream-secret\r\n" in proxy.requests[0].lower()
    assert "proxy-authorization: basic bwu6cgfzcw==\r\n" in proxy.requests[0].lower()
    with pytest.raises(UpstreamError) as caught:
        ask("https://llm.example/v1", trust_env=True, settings=keyed)
    assert proxy.requests[1].startswith("CONNECT llm.example:443 HTTP/1.1\r\n")
    assert "sk-upstream-secret" not in proxy.requests[1]
    assert (caught.value.kind, caught.value.work) == ("connection", Work.NONE)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert ask(server.url, trust_env=True, settings=keyed) == ANSWER
    assert (len(server.requests), len(proxy.requests)) == (2, 2)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://X.example/openai/?api-version=2024", "https://X.example/openai/chat/completions?api-version=2024"),
        ("http://[::1]:8000", "http://[::1]:8000/chat/completions"),
        ("http://my_llm:8000/a%2Fb/", "http://my_llm:8000/a%2Fb/chat/completions"),
        ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC/chat/completions"),
    ],
)
def test_the_address_of_a_call(base_url, url):
    assert str(upstream(base_url, UpstreamClient())._url) == url
