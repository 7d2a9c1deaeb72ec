"""Compressed bodies, pages of applications, keys in other headers, HEAD and slashes, on a real server."""

from __future__ import annotations

import asyncio
import functools
import gzip
import http.client
import json
import zlib
from itertools import repeat
from typing import Any, cast

import pytest
from conftest import MODELS, ROOT
from fastapi import APIRouter
from fastapi.staticfiles import StaticFiles
from gateway_llms import LLM
from p2l_server import FakeScorer, Running
from raw_http import request, say

from p2l_sdk import P2L
from p2l_sdk.errors import P2LError
from p2l_sdk.serve import Engine, create_app
from p2l_sdk.serve.auth import Keys
from p2l_sdk.serve.bodies import BodyRoom
from p2l_sdk.serve.gateway.chat import create_gateway
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.pool import UpstreamClient
from p2l_sdk.serve.http import Gate
from p2l_sdk.serve.metrics import ServerMetrics

LIMIT = 2 * 2**20
KEY = "sk-0123456789abcdef"
BODY = json.dumps({"prompt": "What is 17 * 23?"}).encode()
PUBLIC = ("/", "/health", "/ready", "/openapi.json")
KEYED = ("/v1/models", "/v1/models/p2l", "/v1/p2l/models", "/metrics")


@pytest.fixture(scope="module")
def server():
    engine = Engine(P2L(FakeScorer()))
    gateway = create_gateway(
        engine, GatewayConfig.from_dict({"models": {MODELS[0]: LLM}}), engine.metrics, UpstreamClient()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("P2L_API_KEYS", f"{KEY} team")
        keys = Keys.load()
    origins = ["https://App.example", "tauri://localhost", "app://obsidian.md", "moz-extension://*"]
    with Running(
        create_app(engine, routers=[gateway], guards=[keys], max_body_bytes=LIMIT, origins=origins)
    ) as running:
        yield running


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(content) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(BODY)),
        ("GZip", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),  # as some clients understand it
        ("identity", BODY),
        ("identity, gzip", gzip.compress(BODY)),
        ("", BODY),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_compressed_body_says_what_it_says(server, encoding, body):
    _, plain, _ = server.ask("/v1/leaderboard", BODY, api_key=KEY)
    assert server.ask("/v1/leaderboard", body, api_key=KEY, Content_Encoding=encoding)[:2] == (200, plain)
    for size in (1, 7):  # in chunks
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        parts = [body[i : i + size] for i in range(0, len(body), size)]
        connection.request(
            "POST", "/v1/leaderboard", iter(parts), {"api-key": KEY, "Content-Encoding": encoding}, encode_chunked=True
        )
        assert json.loads(connection.getresponse().read()) == plain
        connection.close()


def nested(content: bytes, times: int) -> bytes:
    for _ in range(times):
        content = gzip.compress(content)
    return content


@functools.cache
def bomb() -> bytes:
    """200 MB in 200 kB; made in the tests, as it takes a second."""
    return gzip.compress(b'{"prompt": "' + bytes(LIMIT * 100))


@pytest.mark.parametrize(
    ("encoding", "body", "status", "code"),
    [
        ("gzip", bomb, 413, "request_too_large"),
        ("deflate", zlib.compress(bytes(LIMIT + 1)), 413, "request_too_large"),
        ("gzip", gzip.compress(BODY)[:-3], 400, "invalid_json"),
        ("gzip", gzip.compress(BODY)[:1], 400, "invalid_json"),
        ("gzip", gzip.compress(BODY) + b"more", 400, "invalid_json"),
        ("gzip", gzip.compress(BODY) + gzip.compress(BODY), 400, "invalid_json"),
        ("gzip", BODY, 400, "invalid_json"),
        ("deflate", BODY, 400, "invalid_json"),
        ("gzip", b"", 400, "invalid_json"),
        ("gzip", nested(BODY, 2), 400, "invalid_json"),
        ("gzip, gzip", nested(BODY, 2), 415, "unsupported_content_encoding"),
        ("br", BODY, 415, "unsupported_content_encoding"),
        ("zstd", BODY, 415, "unsupported_content_encoding"),
        ("gzip;q=1", gzip.compress(BODY), 415, "unsupported_content_encoding"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_compressed_body_is_decoded_within_the_limit_or_refused(server, encoding, body, status, code):
    body = body() if callable(body) else body
    for path in ("/v1/leaderboard", "/v1/chat/completions"):
        got, answer, headers = server.ask(path, body, api_key=KEY, Content_Encoding=encoding)
        assert (got, answer["error"]["type"]) == (status, "invalid_request_error")
        assert answer["error"]["code"] in (code, "invalid_request")  # the router's word for what is no JSON
        assert headers["Accept-Encoding"] == ("gzip, deflate" if status == 415 else None)
    assert server.ask("/v1/leaderboard", body, Content_Encoding=encoding)[0] in (401, 415)  # nothing is decoded


def test_keys_come_in_the_headers_of_other_apis_too(server):
    wrong = "sk-of-somebody-else-0000"
    for headers, status in [
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"Authorization": f"bearer  {KEY} "}, 200),
        ({"x-api-key": KEY}, 200),  # Anthropic's clients
        ({"api-key": KEY}, 200),  # Azure's
        ({"X-Api-Key": f" {KEY} "}, 200),
        ({"Authorization": "Basic cHJveHk6cHJveHk=", "api-key": KEY}, 200),  # a proxy on the way
        ({"Authorization": "Bearer none", "x-api-key": KEY}, 200),  # a client that must be given some key
        ({"x-api-key": wrong, "api-key": KEY}, 200),
        ({"x-api-key": f"Bearer {KEY}"}, 401),
        ({"Authorization": KEY}, 401),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Authorization": f"Bearer {wrong}", "x-api-key": wrong}, 401),
        ({"api-key": ""}, 401),
        ({}, 401),
    ]:
        for path in ("/v1/models", "/v1/p2l/models"):
            assert server.ask(path, **headers)[0] == status, headers
    _, answer, headers = server.ask("/v1/models")
    assert "'Authorization: Bearer KEY' (or x-api-key, or api-key)" in answer["error"]["message"]
    assert headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", [*PUBLIC, *KEYED])
def test_head_is_get_without_a_body(server, path):
    for key in ({}, {"api_key": KEY}):
        status, _, headers = server.ask(path, **key)
        got, body, same = server.ask(path, method="HEAD", **key)
        assert status == (200 if path in PUBLIC or key else 401)
        assert (got, body) == (status, "")
        if path != "/metrics":
            assert same["Content-Length"] == headers["Content-Length"]
        assert same["Content-Type"] == headers["Content-Type"]


def test_head_on_one_connection_does_not_confuse_the_next_request(server):
    said = say(server.port, request(b"HEAD /health") + request(b"GET /health", b"Connection: close"))
    assert said.closed
    assert b'{"status":"ok"}' in said.heard
    assert said.heard.count(b'{"status":"ok"}') == 1
    status, _, headers = server.ask("/v1/leaderboard", method="HEAD", api_key=KEY)
    assert (status, headers["Allow"]) == (405, "POST")
    assert server.ask("/nowhere", method="HEAD", api_key=KEY)[0] == 404


@pytest.mark.parametrize(
    "path", ["/health/", "/ready//", "/v1/models/", "/v1/models/p2l/", "/v1/p2l/models/", "/metrics/"]
)
def test_a_slash_at_the_end_is_answered_and_never_a_redirect(server, path):
    without = path.rstrip("/")
    for method in ("GET", "HEAD"):
        for host in ("localhost", "evil.example"):
            for key in ({}, {"api_key": KEY}):
                status, body, headers = server.ask(path, method=method, Host=host, **key)
                assert (status, headers["Location"]) == (server.ask(without, method=method, **key)[0], None)
                if not path.startswith("/metrics"):
                    assert body == server.ask(without, method=method, **key)[1]


def test_posts_with_a_slash_too(server):
    plain = server.ask("/v1/leaderboard", BODY, api_key=KEY)
    assert server.ask("/v1/leaderboard/", BODY, api_key=KEY)[:2] == plain[:2]
    assert server.ask("/v1/chat/completions/", b"{", api_key=KEY)[0] == 400
    for path in ("/v1/leaderboard/", "/v1/chat/completions/"):
        assert server.ask(path, BODY)[0] == 401
    assert "no model 'nobody'" in server.ask("/v1/models/nobody/", api_key=KEY)[1]["error"]["message"]
    for path in ("//evil.example/", "//evil.example//", "/%2f/evil.example/", "/\\evil.example/", "/nowhere/"):
        status, answer, headers = server.ask(path)
        assert (status, answer["error"]["code"], headers["Location"]) == (404, "not_found", None)


def test_endpoints_of_ones_own_keep_their_slashes_and_their_head():
    router, late = APIRouter(), APIRouter()

    @router.get("/own/")
    async def own() -> str:
        return "with"

    @router.get("/own")
    async def other() -> str:
        return "without"

    @router.get("/of/{name}/")
    async def of(name: str) -> str:
        return name

    @router.head("/own")
    async def head() -> None: ...

    app = create_app(Engine(P2L(FakeScorer())), routers=[router])

    @late.get("/late/")
    async def later() -> str:
        return "late"

    app.include_router(late, prefix="/v2")
    app.mount("/pages", StaticFiles(directory=ROOT / "docs", html=True))
    with Running(app) as server:
        for path, said in (("/own/", "with"), ("/own", "without"), ("/of/me/", "me"), ("/v2/late/", "late")):
            assert server.ask(path)[:2] == (200, said)
        assert server.ask("/own", method="HEAD")[2]["Content-Length"] == "4"  # null, its own answer
        assert server.ask("/own/", method="HEAD")[2]["Content-Length"] == "6"  # "with"
        assert server.ask("/pages/serve.md")[0] == 200
        assert server.ask("/pages/serve.md", method="HEAD")[:2] == (200, "")
        assert server.ask("/pages/")[0] == 404  # the folder has no index.html


def test_pages_of_applications_are_allowed_by_their_origin(server):
    for origin, allowed in [
        ("https://app.example", True),
        ("HTTPS://APP.example", True),
        ("tauri://localhost", True),
        ("app://obsidian.md", True),
        ("moz-extension://5d1f8c0a-9b7e-42d6-8c0a-9b7e42d65d1f", True),
        ("moz-extension://", False),
        ("chrome-extension://mhjfbmdgcfjbbpaeojofohoefgiehjai", False),
        ("app://obsidian.md.evil", False),
        ("app://obsidian/md", False),
        ("http://app.example", False),
        ("https://app.example.evil.example", False),
        ("capacitor://localhost", False),
        ("null", False),
    ]:
        status, _, headers = server.ask("/v1/models", api_key=KEY, Origin=origin)
        assert (status, headers["Access-Control-Allow-Origin"]) == ((200, origin) if allowed else (403, None)), origin
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
        status, _, headers = server.ask("/v1/leaderboard", method="OPTIONS", Origin=origin, **asked)
        assert (status, headers["Access-Control-Allow-Origin"]) == ((200, origin) if allowed else (400, None)), origin


def test_an_application_that_calls_its_pages_localhost_is_not_this_machine():
    with Running(create_app(Engine(P2L(FakeScorer())), local_only=True)) as server:
        for scheme in ("tauri", "app", "capacitor", "ionic", "file"):
            assert server.ask("/v1/p2l/models", Host="localhost", Origin=f"{scheme}://localhost")[0] == 403
        assert server.ask("/v1/p2l/models", Host="localhost", Origin="http://localhost")[0] == 200


@pytest.mark.parametrize(
    "origin",
    ["app.example", "https://", "https://a.example/", "https://*", "*", "null", "app://a/b", "https://*.example", ""],
)
def test_what_is_no_origin(origin):
    with pytest.raises(P2LError, match="is no origin; write scheme and host alone"):
        create_app(Engine(P2L(FakeScorer())), origins=[origin])


def test_without_a_key_nothing_is_decoded(server):
    parts = repeat(
        request(b"POST /v1/leaderboard", b"Content-Encoding: gzip", b"Content-Length: %d" % len(bomb()), body=bomb()),
        20,
    )
    said = say(server.port, parts, seconds=1)
    assert set(said.statuses) == {401}


def test_a_connection_that_is_reset_while_a_reply_is_sent_is_no_fault_of_the_server(caplog):
    """uvloop says so with a RuntimeError; any other one is a mistake, and is logged."""

    async def replies(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def run(text: str) -> None:
        async def send(message: Any) -> None:
            raise RuntimeError(text)

        gate = Gate(replies, max_body_bytes=9, body_seconds=1.0, room=BodyRoom(9), metrics=ServerMetrics())
        scope = {"type": "http", "headers": [], "path": "/", "client": ("x", 1)}
        await gate(scope, cast(Any, None), send)

    asyncio.run(run("unable to perform operation on <TCPTransport closed=True>; the handler is closed"))
    assert not caplog.messages
    with pytest.raises(ConnectionError):
        asyncio.run(run("no such message"))
    assert "a request failed: RuntimeError" in caplog.text
