"""Where a request ends: two readers must not see it at different places, and none of it may run as another one."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from p2l_server import FakeScorer, Running, until
from raw_http import post, request, say

from p2l_sdk import P2L
from p2l_sdk.serve import Engine, create_app, protocol

HIDDEN = request(b"GET /v1/p2l/models")  # what would run as a second request
PLAIN = b"POST /v1/leaderboard"
BODY = b'{"prompt": "a"}'
LENGTH = b"Content-Length: 15"
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"f\r\n" + BODY + b"\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def server():
    with Running(create_app(Engine(P2L(FakeScorer()))), header_seconds=2.0) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("a length and chunks", request(PLAIN, LENGTH, CHUNKED, body=b"0\r\n\r\n" + HIDDEN)),
        ("chunks and a length", request(PLAIN, CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n" + HIDDEN)),
        ("two lengths", request(PLAIN, LENGTH, b"Content-Length: 0", body=BODY + HIDDEN)),
        ("the same length twice", request(PLAIN, LENGTH, LENGTH, body=BODY + HIDDEN)),
        ("a list of lengths", request(PLAIN, b"Content-Length: 15, 15", body=BODY + HIDDEN)),
        ("a length with a sign", request(PLAIN, b"Content-Length: +15", body=BODY + HIDDEN)),
        ("a hexadecimal length", request(PLAIN, b"Content-Length: 0xf", body=BODY + HIDDEN)),
        ("a length of 26 digits", request(PLAIN, b"Content-Length: " + b"9" * 26, body=BODY + HIDDEN)),
        ("a space before the colon", request(PLAIN, b"Content-Length : 15", body=BODY + HIDDEN)),
        ("a folded line", request(PLAIN, b"X: y\r\n Content-Length: 15", body=BODY + HIDDEN)),
        ("line feeds alone", request(PLAIN, LENGTH).replace(b"\r\n", b"\n") + BODY + HIDDEN),
        ("a line feed within", request(PLAIN, b"X: y\nContent-Length: 0", LENGTH, body=BODY + HIDDEN)),
        ("a NUL", request(PLAIN, b"X: \0", LENGTH, body=BODY + HIDDEN)),
        ("an encoding that is no chunks", request(PLAIN, b"Transfer-Encoding: xchunked", body=CHUNKS + HIDDEN)),
        ("chunks last but one", request(PLAIN, b"Transfer-Encoding: chunked, identity", body=CHUNKS + HIDDEN)),
        ("two encodings", request(PLAIN, b"Transfer-Encoding: gzip, chunked", body=CHUNKS + HIDDEN)),
        ("an encoding twice", request(PLAIN, CHUNKED, b"Transfer-Encoding: identity", body=CHUNKS + HIDDEN)),
        ("an encoding of HTTP/1.0", request(PLAIN, CHUNKED, body=CHUNKS + HIDDEN).replace(b"HTTP/1.1", b"HTTP/1.0", 1)),
        ("a chunk of an odd size", request(PLAIN, CHUNKED, body=b"0x" + CHUNKS + HIDDEN)),
        ("a chunk that is too large", request(PLAIN, CHUNKED, body=b"f" * 17 + CHUNKS + HIDDEN)),
        ("a chunk ended by a line feed", request(PLAIN, CHUNKED, body=CHUNKS.replace(b"\r\n", b"\n") + HIDDEN)),
        ("a chunk longer than it says", request(PLAIN, CHUNKED, body=b"e" + CHUNKS[1:] + HIDDEN)),
        ("two hosts", request(PLAIN, b"Host: evil.example", LENGTH, body=BODY + HIDDEN)),
        ("no host", request(PLAIN, LENGTH, body=BODY + HIDDEN).replace(b"Host", b"Hast", 1)),
        ("HTTP/2 without asking", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN),
        ("HTTP/2 as a version", request(PLAIN, LENGTH, body=BODY + HIDDEN).replace(b"1.1", b"2.0", 1)),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + HIDDEN),
        ("a tunnel", request(b"CONNECT localhost:80", body=HIDDEN)),
        ("an address without a path", request(b"GET http://evil.example", body=HIDDEN)),
        ("a path that is not ASCII", request("GET /é".encode(), body=HIDDEN)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused_and_the_connection_closed(server, name, sent):
    for parts in (sent, [sent[i : i + 1] for i in range(len(sent))]):
        said = say(server.port, parts, seconds=3)
        assert (said.statuses, said.closed) == ([400], True)
        error = json.loads(said.replies[0][1])["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "malformed_request")


UPGRADES = [
    (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),  # Java
    (b"Connection: upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x", b"Sec-WebSocket-Version: 13"),
    (b"Upgrade: TLS/1.0, foo/2", b"Connection: keep-alive, Upgrade"),
]


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("framing", [(LENGTH, BODY), (CHUNKED, CHUNKS)])
@pytest.mark.parametrize("pieces", [1, 2, 1000])
def test_a_wish_for_another_protocol_is_ignored_and_the_body_kept(server, upgrade, framing, pieces):
    field, body = framing
    sent = request(PLAIN, *upgrade, field, body=body)
    follows = post("/v1/leaderboards", {"prompts": ["b", "c"]}, b"Connection: close")
    step = max(1, len(sent) // pieces)
    said = say(server.port, [*(sent[i : i + step] for i in range(0, len(sent), step)), follows])
    assert (said.statuses, said.closed) == ([200, 200], True)
    assert [("leaderboards" in json.loads(body)) for _, body in said.replies] == [False, True]


def test_a_body_of_an_upgrade_never_runs_as_a_request(server):
    said = say(server.port, request(PLAIN, *UPGRADES[0], b"Content-Length: %d" % len(HIDDEN), body=HIDDEN), seconds=0.5)
    assert said.statuses == [400]
    assert json.loads(said.replies[0][1])["error"]["code"] == "invalid_json"
    said = say(server.port, request(b"GET /health", *UPGRADES[0], b"Connection: close"))
    assert (said.statuses, said.closed) == ([200], True)  # both fields count
    assert say(server.port, request(b"GET /health", *UPGRADES[0]) * 3, seconds=0.5).statuses == [200] * 3


def test_trailers_change_nothing(server):
    trailers = b"Host: evil.example\r\nOrigin: https://evil.example\r\nExpect: 100-continue\r\n\r\n"
    said = say(server.port, request(PLAIN, CHUNKED, body=CHUNKS[:-2] + trailers) + request(b"GET /health"), seconds=0.5)
    assert said.statuses == [200, 200]


def test_a_fault_behind_a_request_costs_that_one_nothing():
    scorer = FakeScorer()
    with Running(create_app(Engine(P2L(scorer)))) as server:
        for fault in (b"\0", b"GET /\0", request(b"GET /x", b"Content-Length: -1"), b"GET /" + b"x" * 100_000):
            scorer.gate.clear()
            threading.Timer(0.2, scorer.gate.set).start()
            said = say(server.port, [post("/v1/leaderboard", {"prompt": f"slow {fault[:9]!r}"}), fault], pause=0.05)
            assert (said.statuses, said.closed) == ([200], True)


def test_requests_that_are_piled_up_are_not_all_taken():
    scorer = FakeScorer()
    with Running(create_app(Engine(P2L(scorer)))) as server:
        scorer.gate.clear()
        threading.Timer(0.3, scorer.gate.set).start()
        said = say(server.port, post("/v1/leaderboard", {"prompt": "slow"}) + request(b"GET /health") * 10_000)
        assert said.closed
        assert said.statuses == [200] * 17  # the one in work, and 16 behind it
        said = say(server.port, request(b"GET /health") * 12 + request(b"GET /health", b"Connection: close"))
        assert (said.statuses, said.closed) == ([200] * 13, True)
        until(lambda: len(server.connections) == 0)


class Sent(asyncio.Transport):
    """Notes each call of the system."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = list[bytes]()
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def test_the_header_of_a_reply_is_sent_with_what_follows():
    header, body, large = b"HTTP/1.1 200 OK\r\n\r\n", b"body", b"b" * 100_000

    async def sent(*parts: bytes, close: bool = False) -> list[bytes]:
        transport = Sent()
        sender = protocol._Sender(transport, asyncio.get_running_loop())
        for part in parts:
            sender.write(part)
        if close:
            sender.close()
            assert transport.closed
        await asyncio.sleep(0)
        return transport.sent

    async def run() -> None:
        assert await sent(header, body, body) == [header + body, body]
        assert await sent(header) == [header]  # what follows is not there yet
        assert await sent(header, large) == [header, large]  # it is not copied
        assert await sent(header, header, body) == [header + header, body]  # 100 Continue
        assert await sent(header, close=True) == [header]

    asyncio.run(run())


def test_a_body_that_breaks_off_is_nobodys(server):
    for sent in (request(PLAIN, LENGTH, body=BODY[:5]), request(PLAIN, CHUNKED, body=CHUNKS[:9])):
        with_end = say(server.port, sent, seconds=0.2)
        assert with_end.statuses == []
    said = say(server.port, request(PLAIN, b"Expect: 100-continue", LENGTH, body=BODY), seconds=0.5)
    assert said.statuses in ([100, 200], [200])


def test_a_body_in_a_hundred_thousand_chunks_is_refused(server):
    body = json.dumps({"prompt": "a" * 1_000_000}).encode()
    for size, status in ((1, 400), (9, 400), (200, 200), (9000, 200)):
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts_of(body, size))
        said = say(server.port, request(PLAIN, CHUNKED, b"Connection: close", body=chunks + b"0\r\n\r\n"))
        assert (said.statuses, said.closed) == ([status], True)


def parts_of(body: bytes, size: int) -> list[bytes]:
    return [body[i : i + size] for i in range(0, len(body), size)]
