"""A server as the scorer: `P2L` over HTTP, and servers that fail."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import COSTS
from p2l_server import PROMPTS, FakeScorer, Running, assert_same

from p2l_sdk import P2L, P2LError
from p2l_sdk.errors import BudgetError, PromptError, RemoteError
from p2l_sdk.scorers.remote import RemoteScorer
from p2l_sdk.serve import Engine, create_app


@pytest.fixture(scope="module")
def server(routing9):
    with Running(create_app(Engine(routing9), max_prompts=50, max_body_bytes=20_000)) as running:
        yield running


@pytest.fixture(scope="module")
def remote(server):
    return P2L.from_pretrained(server.url)


@pytest.mark.parametrize("name", ["routing9", "arena"])
def test_p2l_over_http_is_the_local_one(name):
    local = P2L.from_pretrained(name)
    prompts = [*PROMPTS, *(f"{i} times {i}?" for i in range(130)), *["y" * 9000] * 3]  # exceeds one request
    with Running(create_app(Engine(local), max_prompts=50, max_body_bytes=20_000)) as server:
        remote = P2L.from_pretrained(server.url)
        found, expected = remote.coefficients(prompts), local.coefficients(prompts)
        np.testing.assert_allclose(found.coefs, expected.coefs, atol=1e-6)
        if local.spec.feedback.has_eta:
            np.testing.assert_allclose(found.eta, expected.eta, atol=1e-6)
        if local.spec.kinds:
            np.testing.assert_allclose(found.kinds.shares, expected.kinds.shares, atol=1e-6)
            np.testing.assert_allclose(found.kinds.errors, expected.kinds.errors, atol=1e-6)
        for prompt in PROMPTS:
            assert_same(remote.leaderboard(prompt).to_dict(), local.leaderboard(prompt).to_dict())
        assert_same(remote.aggregate(prompts, seed=2).to_dict(), local.aggregate(prompts, seed=2).to_dict())
        weights = [float(i % 3) for i in range(len(prompts))]
        assert_same(
            remote.aggregate(prompts, weights=weights).to_dict(), local.aggregate(prompts, weights=weights).to_dict()
        )
        for options in ({}, {"cost": 0.0004}, {"cost": 0.0004, "models": [*list(local.costs)[-5:], "llama-3.1-8b"]}):
            route, same = (p2l.route(PROMPTS[0], seed=1, **options) for p2l in (remote, local))
            assert_same(route.to_dict(), same.to_dict())
        assert remote.costs == local.costs
        assert remote.spec.kinds == local.spec.kinds
        assert repr(remote) == f"P2L({server.url}: {len(local.models)} LLMs, feedback {local.spec.feedback})"
        with Running(create_app(Engine(remote))) as proxy:  # a server in front of a server
            assert_same(P2L.from_pretrained(proxy.url).leaderboard("hi").to_dict(), local.leaderboard("hi").to_dict())


def test_errors_over_http_are_those_of_the_local_model(remote, server):
    with pytest.raises(PromptError, match=r"^the prompt is empty"):
        remote.leaderboard(" ")
    with pytest.raises(PromptError, match=r"^prompt 300: the prompt is empty"):
        remote.leaderboards(["a"] * 300 + [" "])
    with pytest.raises(BudgetError, match="cheapest feasible"):
        remote.route("a", 1e-9)
    with pytest.raises(P2LError, match="nothing to copy"):
        remote.save_pretrained("nowhere")
    with pytest.raises(RemoteError, match=r"answers 404: there is no such endpoint.*; name the server without /v1"):
        RemoteScorer(f"{server.url}/v1")
    with pytest.raises(RemoteError, match=r"answers 413: the body is larger than 20000 bytes"):
        remote.leaderboard("x" * 30_000)


def test_several_threads_may_share_it(remote, routing9):
    with ThreadPoolExecutor(4) as threads:
        boards = list(threads.map(remote.leaderboard, (f"prompt {i}" for i in range(20))))
    for i, board in enumerate(boards):
        np.testing.assert_allclose(board.coefs, routing9.leaderboard(f"prompt {i}").coefs, atol=1e-6)


class Faulty(BaseHTTPRequestHandler):
    """Scripted responses: (status, headers, body), or None to break the connection."""

    script: list
    seen: list

    def do_GET(self):
        self.seen.append((time.monotonic(), dict(self.headers)))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.script.pop(0)
        if answer is None:
            self.connection.close()
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def faulty():
    Faulty.script, Faulty.seen = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


KNOWN = (
    b'{"feedback": "bt", "models": [{"model": "a", "cost": 0.1}, {"model": "b", "cost": null}], '
    b'"limits": {"max_prompts": 8, "max_body_bytes": 1000}}'
)


SCORED = b'{"models": ["a", "b"], "coefs": [[1.5, -0.25]], "eta": null, "gamma": null}'


def test_it_tries_again_where_that_may_help(faulty):
    Faulty.script[:] = [None, (503, {}, b"busy"), (200, {}, KNOWN)]
    p2l = P2L(RemoteScorer(faulty))
    assert (p2l.models, dict(p2l.costs)) == (("a", "b"), {"a": 0.1})
    Faulty.script[:] = [(429, {"Retry-After": "1"}, b"{}"), None, (200, {}, SCORED)]
    Faulty.seen.clear()
    assert p2l.leaderboard("x").coefs.tolist() == [1.5, -0.25]
    assert Faulty.seen[1][0] - Faulty.seen[0][0] > 0.95  # waits as long as it was asked to


def test_it_gives_up_with_the_reason(faulty):
    refusal = b'{"error": {"message": "the model failed"}}'
    Faulty.script[:] = [(500, {}, refusal)] * 2
    with pytest.raises(RemoteError, match=r"answers 500: the model failed, after 2 tries; does p2l serve run there\?"):
        RemoteScorer(faulty, retries=1)
    for answer, text in (
        ((404, {}, b"<html>"), "answers 404: no reason is given"),
        ((200, {}, b"<html>"), r"not as a p2l server does \(no JSON\)"),
        ((200, {}, b"{}"), "not as a p2l server does"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), "redirects elsewhere, which is not followed"),
    ):
        Faulty.script[:] = [answer]
        with pytest.raises(RemoteError, match=text):
            RemoteScorer(faulty)
    Faulty.script[:] = [(200, {}, KNOWN), (200, {}, SCORED.replace(b'"b"', b'"c"'))]
    with pytest.raises(RemoteError, match="serves another model now; load it again"):
        RemoteScorer(faulty).score(["x"])


def test_a_server_of_a_model_with_kinds_tells_what_its_coefficients_are_worth(faulty):
    known, variance = KNOWN.replace(b'"limits"', b'"kinds": ["code"], "limits"'), b"[[0.09, 0.01], [0.0, 0.04]]"
    kinds = b'{"kinds": ["code"], "variance": %s}'
    scored = SCORED.replace(b'"gamma"', b'"kinds": [[0.5]], "gamma"')
    Faulty.script[:] = [(200, {}, known), (200, {}, kinds % variance), (200, {}, scored)]
    board = P2L(RemoteScorer(faulty)).leaderboard("x")
    assert board.kinds == {"code": 0.5}
    error = np.sqrt([0.25 * 0.09 + 0.01, 0.04])
    np.testing.assert_allclose(
        board.intervals, np.stack([board.coefs - 1.96 * error, board.coefs + 1.96 * error], 1), atol=1e-4
    )
    for reply in (kinds.replace(b"code", b"math") % variance, kinds % b"[[0.09, 0.01]]"):
        Faulty.script[:] = [(200, {}, known), (200, {}, reply)]
        with pytest.raises(RemoteError, match="serves another model now; load it again"):
            RemoteScorer(faulty)
    for reply in (b"{}", kinds % b'[["x"]]'):
        Faulty.script[:] = [(200, {}, known), (200, {}, reply)]
        with pytest.raises(RemoteError, match="not as a p2l server does"):
            RemoteScorer(faulty)
    Faulty.script[:] = [(200, {}, known), (200, {}, kinds % variance), (200, {}, SCORED)]
    with pytest.raises(RemoteError, match="not as a p2l server does"):  # a leaderboard without its kinds
        RemoteScorer(faulty).score(["x"])


def test_a_key_with_a_line_end_is_sent_without_it_and_one_that_no_header_carries_is_not_shown(faulty, monkeypatch):
    Faulty.script[:] = [(200, {}, KNOWN)] * 2
    RemoteScorer(faulty, key="sk-secret\r\n")
    monkeypatch.setenv("P2L_API_KEY", " sk-secret\n")
    RemoteScorer(faulty)
    assert [headers["Authorization"] for _, headers in Faulty.seen] == ["Bearer sk-secret"] * 2
    for key in ("sk-secret\nX-Evil: 1", "sk-secret\u2026", "sk-secret\x00"):
        with pytest.raises(RemoteError, match=r"the key in token=\.\.\. holds characters that no header can") as error:
            RemoteScorer(faulty, key=key)
        assert "secret" not in str(error.value)
    monkeypatch.setenv("P2L_API_KEY", "sk-secret\nsk-other")
    with pytest.raises(RemoteError, match="the key in P2L_API_KEY holds characters"):
        RemoteScorer(faulty)


def test_no_key_is_sent_where_none_is_asked_for(faulty, monkeypatch):
    monkeypatch.setenv("P2L_API_KEY", "sk-secret")
    Faulty.script[:] = [(200, {}, KNOWN)] * 3
    for token in (False, None, "sk-own"):
        P2L.from_pretrained(faulty, token=token)
    assert [headers.get("Authorization") for _, headers in Faulty.seen] == [None, "Bearer sk-secret", "Bearer sk-own"]


def test_options_that_a_server_cannot_have_are_refused():
    for option in ({"revision": "v2"}, {"device": "cuda"}, {"base": "org/base"}, {"local_files_only": True}):
        with pytest.raises(P2LError, match=rf"^a server takes no {next(iter(option))} \(it has its model"):
            P2L.from_pretrained("http://127.0.0.1:9", **option)


def test_it_says_why_a_server_without_keys_refuses_its_name(faulty):
    refusal = b'{"error": {"code": "forbidden", "message": "this server has no API keys, so it answers to localhost"}}'
    Faulty.script[:] = [(403, {}, refusal), (403, {}, b"")]
    with pytest.raises(RemoteError, match="answers 403: this server has no API keys, so it answers to localhost"):
        RemoteScorer(faulty)
    with pytest.raises(RemoteError, match="does not accept a request without a key"):
        RemoteScorer(faulty)


def test_addresses_that_are_none_and_servers_that_are_not_there():
    for address in ("http://", "http://a:b", "http://h/?x=1"):
        with pytest.raises(RemoteError, match="is no address of a server; write http://host:port"):
            P2L.from_pretrained(address)
    with pytest.raises(RemoteError, match="a key does not belong in an address"):
        P2L.from_pretrained("http://user:password@localhost:1")
    with pytest.raises(RemoteError, match=r"127\.0\.0\.1:9 cannot be reached .*and was asked once; does p2l serve run"):
        RemoteScorer("http://127.0.0.1:9", retries=0)


def test_it_waits_no_longer_than_its_timeout():
    scorer = FakeScorer()
    with Running(create_app(Engine(P2L(scorer)))) as server:
        slow = RemoteScorer(server.url, timeout_s=0.3, retries=0)
        assert dict(slow.spec.costs) == COSTS
        scorer.gate.clear()
        with pytest.raises(RemoteError, match=r"cannot be reached \(timed out\)"):
            slow.score(["x"])
        scorer.gate.set()
