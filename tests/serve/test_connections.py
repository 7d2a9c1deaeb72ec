"""What a client may do before the server knows who it is: headers, silence, connections, framing, on raw sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import time
from contextlib import ExitStack

import pytest
from p2l_server import FakeScorer, Running, until
from raw_http import HOST, post, request, say

from p2l_sdk import P2L
from p2l_sdk.errors import P2LError
from p2l_sdk.serve import Engine, ServerMetrics, create_app
from p2l_sdk.serve.connections import ConnectionLimits, Connections

ASK = post("/v1/leaderboard", {"prompt": "a"})
CHUNKED = request(b"POST /v1/leaderboard", b"Transfer-Encoding: chunked")
LIMITS = {"header_seconds": 0.4, "stall_seconds": 0.4, "max_header_bytes": 32 * 1024}


def serving(scorer: FakeScorer | None = None, **limits) -> Running:
    return Running(create_app(Engine(P2L(scorer or FakeScorer()))), **{**LIMITS, **limits})


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


def endless(begin: bytes, part: bytes):
    """150 MB of something."""
    return itertools.chain([begin], itertools.repeat(part, 150 * 2**20 // len(part)))


MANY = b"".join(b"X-%d: 1\r\n" % i for i in range(101))


@pytest.mark.parametrize(
    ("name", "parts", "statuses"),
    [
        ("one field without an end", endless(b"GET /health HTTP/1.1\r\n" + HOST + b"X: ", b"x" * 65536), [431]),
        ("a name of a field without an end", endless(b"GET /health HTTP/1.1\r\n" + HOST, b"x" * 65536), [431]),
        ("fields without an end", endless(b"GET /health HTTP/1.1\r\n" + HOST, b"X: y\r\n" * 8192), [431]),
        ("a path without an end", endless(b"GET /", b"x" * 65536), [431]),
        ("blank lines without an end", endless(b"", b"\r\n" * 32768), [431]),
        ("an extension of a chunk without an end", endless(CHUNKED + b"1;a=", b"x" * 65536), [431]),
        ("trailers without an end", endless(CHUNKED + b"1\r\n{\r\n0\r\n", b"X: y\r\n" * 8192), [431]),
        ("one trailer without an end", endless(CHUNKED + b"1\r\n{\r\n0\r\nX: ", b"x" * 65536), [431]),
        ("101 fields", b"GET /health HTTP/1.1\r\n" + HOST + MANY + b"\r\n", [431]),
        ("a further header without an end", endless(request(b"GET /health") + b"GET /", b"x" * 65536), [200, 431]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_no_header_is_read_without_end(server, name, parts, statuses):
    said = say(server.port, parts)
    # the reply is lost if the rest of the header arrives at a socket that is closed
    assert said.statuses in (statuses, statuses[:-1])
    assert said.closed
    assert said.taken < 16 * 2**20  # what fits into the buffers between
    assert said.seconds < 2


def test_a_long_header_within_the_limits_is_read(server):
    long = request(b"GET /health?" + b"x" * 10_000, b"Cookie: " + b"y" * 20_000, *(b"X-%d: 1" % i for i in range(90)))
    for parts in (long * 3, [long[i : i + 700] for i in range(0, len(long), 700)]):
        said = say(server.port, parts, seconds=0.4)
        assert said.statuses == [200] * (3 if parts is long * 3 else len(said.replies))
        assert said.replies
    body = json.dumps({"prompt": "a" * 1_000_000}).encode()
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(body[i : i + 99]), body[i : i + 99]) for i in range(0, len(body), 99))
    assert say(server.port, CHUNKED + pieces + b"0\r\nX: y\r\n\r\n", seconds=1).statuses == [200]


@pytest.mark.parametrize(
    ("name", "parts", "statuses"),
    [
        ("nothing", [], []),
        ("half a line", [b"GET /hea"], [408]),
        ("half a header", [b"GET /health HTTP/1.1\r\nHost: local"], [408]),
        ("a header byte by byte", [bytes([byte]) for byte in request(b"GET /health", b"X: " + b"y" * 50)], [408]),
        ("a field now and then", [b"GET /health HTTP/1.1\r\n", *[b"X: y\r\n"] * 60], [408]),
        ("half a header after a request", [request(b"GET /health"), b"G", b"E"], [200, 408]),
        ("a header behind one that was answered", [request(b"GET /health") + b"GE", b"T"], [200, 408]),
        ("half of a body that nobody needs", [request(b"POST /nowhere", b"Content-Length: 9") + b"x"], [404]),
        ("such a body byte by byte", [request(b"POST /nowhere", b"Content-Length: 99"), *[b"x"] * 60], [404]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_those_who_are_silent_or_dribble_are_closed(server, name, parts, statuses):
    said = say(server.port, parts, pause=0.02)
    assert said.closed
    assert said.statuses == statuses
    assert 0.3 < said.seconds < 2.0
    if 408 in statuses:
        assert (
            json.loads(said.replies[-1][1])["error"]["message"]
            == "the header did not come within 0.4 s; send it at once"
        )


@pytest.mark.long
def test_a_connection_may_rest_between_two_requests(server):
    said = say(server.port, [request(b"GET /health")] * 3, pause=0.5, seconds=1.7)
    assert said.statuses == [200] * 3
    assert not said.closed
    with serving(idle_seconds=0.5) as short:
        said = say(short.port, request(b"GET /health"))
        assert (said.statuses, said.closed) == ([200], True)
        assert 0.4 < said.seconds < 2.0


@pytest.mark.long
def test_an_empty_line_after_a_body_is_no_request(server):
    said = say(server.port, [ASK + b"\r\n", ASK, b"\r\n", ASK], pause=0.5, seconds=2.2)
    assert said.statuses == [200] * 3
    assert not said.closed


def test_the_body_of_a_request_may_come_slowly(server):
    said = say(server.port, [ASK[:-3], ASK[-3:-2], ASK[-2:-1], ASK[-1:]], pause=0.3, seconds=1.4)
    assert said.statuses == [200]


def test_a_client_that_takes_nothing_is_dropped():
    with serving(max_per_client=9) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        many = post("/v1/leaderboards", {"prompts": [f"{i}" for i in range(1000)]})
        connection.sendall(many * 20)
        until(lambda: len(server.connections) == 1)
        until(lambda: len(server.connections) == 0, 10)
    assert b'p2l_refused_connections_total{reason="stalled"} 1.0' in server.metrics.exposition()


def test_connections_of_one_client_are_limited():
    with serving(max_per_client=3, proxies=(), header_seconds=5) as server, ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(3)]
        until(lambda: len(server.connections) == 3)
        said = say(server.port, b"")
        assert (said.statuses, said.closed) == ([429], True)
        error = json.loads(said.replies[0][1])["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "too_many_connections")
        assert error["message"] == "there are 3 connections from this address already; close one first"
        held[0].close()
        until(lambda: len(server.connections) == 2)
        assert say(server.port, request(b"GET /health", b"Connection: close")).statuses == [200]
    with serving(max_per_client=3, header_seconds=5) as server, ExitStack() as stack:  # this machine may be a proxy
        for _ in range(9):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        until(lambda: len(server.connections) == 9)
        assert say(server.port, request(b"GET /health", b"Connection: close")).statuses == [200]


class Peer:
    """A connection that does nothing."""

    def refuse(self, error) -> None: ...

    def drop(self) -> None: ...

    def close(self) -> None: ...

    def unsent(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),  # an IPv6 socket that also takes IPv4
        ("2001:db8::1", "2001:db8::ffff:1", True),  # one customer's network
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("10.0.0.7", "10.0.0.7", False),  # proxies
        ("::ffff:10.0.0.7", "10.0.0.7", False),
        ("fd00::1", "fd00::1", False),
        (None, None, False),  # a socket in the file system
    ],
)
def test_whose_a_connection_is(first, second, same):
    async def look() -> None:
        limits = ConnectionLimits(max_per_client=1, proxies=("10.0.0.0/24", "fd00::1"))
        connections = Connections(limits, ServerMetrics())
        one, other = Peer(), Peer()
        assert connections.admit(one, first) is None
        assert (connections.admit(other, second) is not None) == same
        connections.closed(other)
        connections.closed(one)
        assert connections.admit(Peer(), second) is None

    asyncio.run(look())


@pytest.mark.parametrize("wrong", [{"proxies": ("proxy.example",)}, {"max_connections": 0}, {"header_seconds": -1}])
def test_limits_that_cannot_be(wrong):
    with pytest.raises(P2LError, match=r"is no address of a proxy; write it as|it must be above 0"):
        ConnectionLimits(**wrong)


def test_those_who_only_wait_give_way_when_there_is_no_more_room():
    scorer = FakeScorer()
    with serving(scorer, max_connections=5, header_seconds=20) as server, ExitStack() as stack:
        waiting = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(5)]
        until(lambda: len(server.connections) == 5)
        for _ in range(20):
            assert say(server.port, request(b"GET /health", b"Connection: close")).statuses == [200]
        assert waiting[0].recv(1) == b""  # the one that had waited longest
        idle = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        idle.sendall(request(b"GET /health"))
        assert idle.recv(9) == b"HTTP/1.1 "
        scorer.gate.clear()
        for i in range(5):  # these are answered, or will be
            busy = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            busy.sendall(post("/v1/leaderboard", {"prompt": f"{i}"}))
            time.sleep(0.02)
        until(lambda: len(server.connections) == 5 and not server.connections._waiting and not server.connections._idle)
        said = say(server.port, b"")
        assert (said.statuses, said.closed) == ([503], True)
        scorer.gate.set()
        until(lambda: say(server.port, request(b"GET /health", b"Connection: close")).statuses == [200])
