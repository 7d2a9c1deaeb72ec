"""The P2L API on a real server, and the facade over HTTP."""

from __future__ import annotations

import logging
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import COSTS, MODELS
from fastapi import APIRouter, HTTPException, Request
from p2l_server import FakeScorer, Running, numbers, until

from p2l_sdk import P2L, P2LError
from p2l_sdk.errors import BudgetError, PromptError, RemoteError
from p2l_sdk.scorers.remote import RemoteScorer
from p2l_sdk.serve import Engine, create_app
from p2l_sdk.serve.schemas import RouteReply

PROMPTS = [
    "What is 17 * 23?",
    "Write a haiku about the sea",
    "\u4f60\u597d, \U0001f600 \u0000 \u2028",
    "x" * 3000,
    [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}, {"role": "user", "content": "so?"}],
]


@pytest.fixture(scope="module")
def server(default):
    with Running(create_app(Engine(default), max_prompts=50, max_body_bytes=20_000)) as running:
        yield running


@pytest.fixture(scope="module")
def remote(server):
    return P2L.from_pretrained(server.url)


def test_the_server_says_what_the_sdk_says(server, default):
    for prompt, board in zip(PROMPTS, default.leaderboards(PROMPTS), strict=True):
        status, answer, _ = server.ask("/v1/leaderboard", {"prompt": prompt})
        assert status == 200
        assert_same(answer, board.to_dict())
    _, answer, _ = server.ask("/v1/leaderboards", {"prompts": PROMPTS})
    for one, board in zip(answer["leaderboards"], default.leaderboards(PROMPTS), strict=True):
        assert_same(one, board.to_dict())
    _, answer, _ = server.ask("/v1/coefficients", {"prompts": PROMPTS})
    expected = default.coefficients(PROMPTS)
    np.testing.assert_allclose(answer["coefs"], expected.coefs, atol=1e-6)
    np.testing.assert_allclose(answer["eta"], expected.eta[:, 0], atol=1e-6)
    assert tuple(answer["models"]) == default.models
    assert answer["gamma"] is None
    _, answer, _ = server.ask("/v1/aggregate", {"prompts": PROMPTS, "weights": [1, 2, 3, 4, 0.5], "seed": 4})
    assert_same(answer, default.aggregate(PROMPTS, weights=[1, 2, 3, 4, 0.5], seed=4).to_dict())


def test_routes_are_those_of_the_sdk(server, default):
    for options in (
        {},
        {"cost": 0.0004, "seed": 0},
        {"cost": 0.0004, "policy": "strict"},
        {"cost": 0.001, "models": list(default.models[:4]), "costs": {default.models[0]: 0.00001}, "seed": 7},
        {"opponents": {default.models[2]: 1.0}, "objective": "usable"},
    ):
        status, answer, _ = server.ask("/v1/route", {"prompt": PROMPTS[0], **options})
        assert status == 200, answer
        assert_same(answer, default.route(PROMPTS[0], **options).to_dict())
        assert answer.keys() == RouteReply.model_fields.keys()


def test_a_route_is_to_an_llm_that_can_be_called(default):
    routed = [default.models[3], default.models[0]]
    with Running(create_app(Engine(default), routed=routed)) as server:
        rows = server.ask("/v1/p2l/models")[1]["models"]
        assert [row["model"] for row in rows if row["routed"]] == [name for name in default.models if name in routed]
        for options in ({}, {"cost": 0.001}, {"models": None}, {"models": list(default.models)}):
            chosen = {"cost": None, **options, "models": options.get("models") or routed}
            _, answer, _ = server.ask("/v1/route", {"prompt": PROMPTS[0], "seed": 0, **options})
            assert_same(answer, default.route(PROMPTS[0], seed=0, **chosen).to_dict())


def assert_same(one, other):
    assert type(one) is type(other) or {type(one), type(other)} <= {int, float}
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-6)
    else:
        assert one == other


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param", "text"),
    [
        ("/v1/leaderboard", {"prompt": "  "}, 400, "prompt_error", "prompt", "the prompt is empty"),
        ("/v1/leaderboards", {"prompts": ["a", ""]}, 400, "prompt_error", "prompts[1]", "prompt 1: the prompt is"),
        ("/v1/leaderboards", {"prompts": []}, 422, "invalid_body", "prompts", "at least 1 item"),
        ("/v1/leaderboards", {"prompts": ["a"] * 51}, 413, "request_too_large", "prompts", "51 prompts .* at most 50"),
        ("/v1/leaderboard", {"prompt": "x" * 20_000}, 413, "request_too_large", None, "larger than 20000 bytes"),
        ("/v1/leaderboard", {"promt": "secret"}, 422, "invalid_body", "prompt", "prompt: Field required"),
        ("/v1/leaderboard", {"prompt": "a", "top": 1}, 422, "invalid_body", None, "not known here; known: prompt$"),
        ("/v1/route", {"prompt": "a", "cots": 1}, 422, "invalid_body", None, r"here; did you mean 'costs'\?; known: p"),
        ("/v1/leaderboard", {"prompt": 7}, 422, "invalid_body", "prompt", "prompt: Input should be a valid"),
        ("/v1/leaderboard", {"prompt": [{"role": "me", "content": "secret"}]}, 422, "invalid_body", "prompt[0].role",
         r"prompt\[0\].role: Input should be 'system', .* or 'tool'"),
        ("/v1/leaderboard", {"prompt": ["secret"]}, 422, "invalid_body", "prompt[0]", "should be an object"),
        ("/v1/leaderboard", b"{", 400, "invalid_json", None, "not valid JSON"),
        ("/v1/leaderboard", b"\xff\xfe", 400, "invalid_json", None, "not valid JSON"),
        ("/v1/leaderboard", b"[" * 9000, 400, "invalid_json", None, "not valid JSON"),
        ("/v1/leaderboard", b'{"prompt": "\\ud800"}', 400, "invalid_json", None, "not valid JSON"),
        ("/v1/leaderboard", b"", 400, "invalid_json", None, "not valid JSON"),
        ("/v1/leaderboard", b"[]", 422, "invalid_body", "body", "body: Input should be an object"),
        ("/v1/route", {"prompt": "a", "cost": 1e-9}, 400, "budget_error", "cost", r"feasible budget is \$0.0001"),
        ("/v1/route", {"prompt": "a", "models": ["gpt"]}, 400, "unknown_model_error", None, "names 'gpt'"),
        ("/v1/route", {"prompt": "a", "models": ["g" * 9000]}, 400, "unknown_model_error", None, "names 'g{100}', "),
        ("/v1/route", b'{"prompt": "a", "cost": NaN}', 422, "invalid_body", "cost", "finite number|greater than"),
        ("/v1/route", {"prompt": "a", "policy": "x"}, 422, "invalid_body", "policy", "'optimal', 'strict' or 'best'"),
        ("/v1/route", {"prompt": "a", "objective": "usable", "opponents": {}}, 400, "p2l_error", None, "weight"),
        ("/v1/aggregate", {"prompts": ["a"], "weights": [1, 2]}, 400, "p2l_error", None, "1 finite numbers"),
        ("/v1/aggregate", {"prompts": ["a"], "weights": [0]}, 400, "p2l_error", None, "all weights are 0"),
        ("/predict", {"prompt": []}, 400, "prompt_error", "prompt", "no turn"),
        ("/nowhere", {}, 404, "not_found", None, "no such endpoint; /openapi.json lists them"),
        ("/v1/chat/completions", {}, 404, "not_found", None, "no router, .*; start it with p2l serve --config"),
        ("/v1/models", None, 404, "not_found", None, "no router, .*; start it with p2l serve --config"),
        ("/v1/leaderboard", None, 405, "method_not_allowed", None, "does not take that method"),
    ],
)  # fmt: skip
def test_errors_have_openais_shape_and_name_the_remedy(server, path, body, status, code, param, text):
    got, answer, _ = server.ask(path, body)
    assert got == status, answer
    assert answer.keys() == {"error"}
    assert answer["error"].keys() == {"message", "type", "param", "code"}
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["param"] == param
    assert answer["error"]["code"] == code
    assert re.search(text, answer["error"]["message"])
    assert "secret" not in answer["error"]["message"]


def test_a_body_without_a_length_is_limited_too(server):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("POST", "/v1/leaderboard", iter([b"x" * 9000] * 3), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_those_who_come_from_the_papers_code_find_its_endpoints(default):
    scorer = FakeScorer()

    def zero_eta(rows):
        rows[:, -1] = 0.0
        return rows

    scorer.change = zero_eta
    with Running(create_app(Engine(P2L(scorer)))) as server:
        _, models, _ = server.ask("/models")
        _, one, _ = server.ask("/predict", {"prompt": ["first turn", "second turn"]}, api_key="-")
        _, text, _ = server.ask("/predict", {"prompt": "first turn"})
    assert models == {"models": list(MODELS)}
    assert one == {"coefs": pytest.approx(numbers("first turn\nsecond turn")[:-1].tolist(), abs=1e-6), "eta": 0.0}
    assert text["coefs"] == pytest.approx(numbers("first turn")[:-1].tolist(), abs=1e-6)
    with Running(create_app(Engine(P2L(FakeScorer("bt"))))) as server:
        assert server.ask("/predict", {"prompt": ["a"]})[1]["eta"] is None


def test_models_costs_health_metrics_and_traffic(server, default):
    _, known, _ = server.ask("/v1/p2l/models")
    assert {row["model"]: row["cost"] for row in known["models"]} == dict(default.costs)
    assert all(row["routed"] for row in known["models"])
    assert known["feedback"] == "grk"
    assert known["limits"] == {"max_prompts": 50, "max_body_bytes": 20_000}
    assert server.ask("/health")[1] == {"status": "ok"}
    assert server.ask("/ready")[:2] == (200, {"status": "ready"})
    _, before, _ = server.ask("/v1/p2l/traffic")
    _, route, _ = server.ask("/v1/route", {"prompt": "a"})
    _, after, _ = server.ask("/v1/p2l/traffic")
    count = [
        {row["model"]: row["routes"] for row in table["traffic"]}.get(route["model"], 0) for table in (before, after)
    ]
    assert count[1] == count[0] + 1
    status, exposed, headers = server.ask("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    for name in (
        'p2l_stage_seconds_count{stage="score"}', "p2l_queue_depth 0.0", "p2l_batch_size_count",
        "p2l_cache_hits_total", f'p2l_routes_total{{model="{route["model"]}"}}',
        'p2l_requests_total{endpoint="/v1/route",status="200"}',
    ):  # fmt: skip
        assert name in exposed


def test_metrics_of_the_router():
    from p2l_sdk.serve import ServerMetrics

    metrics, other = ServerMetrics(), ServerMetrics()
    metrics.choice("a", 0.25)
    metrics.choice("a", None)
    metrics.choice("b", 0.5)
    metrics.upstream_error("b", "timeout")
    metrics.stage("upstream", 0.2)
    assert metrics.traffic() == [
        {"model": "a", "routes": 0, "calls": 2, "spend": 0.25, "errors": 0},
        {"model": "b", "routes": 0, "calls": 1, "spend": 0.5, "errors": 1},
    ]
    assert 'p2l_upstream_errors_total{kind="timeout",model="b"} 1.0' in metrics.exposition().decode()
    assert other.traffic() == []


def test_readiness_overload_and_timeouts_as_the_caller_sees_them():
    scorer = FakeScorer()
    engine = Engine(P2L(scorer), queue_size=1, timeout_s=3.0)
    with Running(create_app(engine)) as server, ThreadPoolExecutor(2) as threads:
        scorer.gate.clear()
        first = threads.submit(server.ask, "/v1/leaderboard", {"prompt": "occupies the worker"})
        until(lambda: len(scorer.batches) == 2)  # the first was the probe at the start
        second = threads.submit(server.ask, "/v1/leaderboard", {"prompt": "fills the queue"})
        until(lambda: "p2l_queue_depth 1.0" in server.ask("/metrics")[1])
        status, answer, headers = server.ask("/v1/leaderboard", {"prompt": "too many"})
        assert (status, answer["error"]["type"], answer["error"]["code"]) == (429, "rate_limit_error", "queue_full")
        assert int(headers["Retry-After"]) >= 1
        assert server.ask("/health")[0] == 200
        for waiting in (first, second):
            status, answer, _ = waiting.result()
            assert (status, answer["error"]["type"], answer["error"]["code"]) == (504, "server_error", "timeout")
        status, answer, _ = server.ask("/ready")
        assert (status, answer["error"]["code"]) == (503, "not_ready")
        assert "has not answered" in answer["error"]["message"]
        scorer.gate.set()


def test_shutting_down_answers_what_was_accepted():
    scorer = FakeScorer()
    with Running(create_app(Engine(P2L(scorer)))) as server, ThreadPoolExecutor(3) as threads:
        scorer.gate.clear()
        asked = [threads.submit(server.ask, "/v1/leaderboard", {"prompt": "a"})]
        until(lambda: len(scorer.batches) == 2)
        asked += [threads.submit(server.ask, "/v1/leaderboard", {"prompt": text}) for text in ("b", "c")]
        until(lambda: "p2l_queue_depth 2.0" in server.ask("/metrics")[1])
        server.stop()
        time.sleep(0.2)
        scorer.gate.set()
        assert [one.result()[0] for one in asked] == [200] * 3
    with pytest.raises(OSError, match="refused"):
        server.ask("/health")


def test_no_text_of_a_prompt_is_logged(caplog):
    scorer = FakeScorer()
    broken = APIRouter()

    @broken.get("/broken")
    async def fail() -> None:
        raise KeyError("my secret prompt")

    with caplog.at_level(logging.DEBUG), Running(create_app(Engine(P2L(scorer)), routers=[broken])) as server:
        server.ask("/v1/leaderboard", {"prompt": "my secret prompt"})
        scorer.error = ValueError("my secret prompt")
        status, answer, _ = server.ask("/v1/leaderboard", {"prompt": "my secret prompt, again"})
        assert (status, answer["error"]["code"]) == (500, "scoring_failed")
        status, answer, _ = server.ask("/broken")
        assert (status, answer["error"]["code"]) == (500, "internal_error")
        assert "secret" not in str(answer)
    assert "a request failed: KeyError at " in caplog.text
    assert "the model failed on 1 prompts: ValueError at " in caplog.text
    assert "secret" not in caplog.text


def test_pages_of_other_sites_are_refused(server):
    here = f"127.0.0.1:{server.port}"
    for origin in ("https://evil.example", "http://127.0.0.1:1", "null", f"http://{here}.evil.example"):
        for path, body in (("/v1/leaderboard", {"prompt": "a"}), ("/v1/p2l/models", None), ("/nowhere", {})):
            status, answer, _ = server.ask(path, body, Origin=origin)
            assert (status, answer["error"]["type"], answer["error"]["code"]) == (
                403, "invalid_request_error", "forbidden"
            )  # fmt: skip
            assert (
                "let the server allow its origin (p2l serve --origin), or the proxy before it pass the header Host"
                in str(answer)
            )
    assert server.ask("/v1/leaderboard", {"prompt": "a"}, Origin=f"http://{here}")[0] == 200  # our own page
    for host, origin in (("P2L.example", "https://p2l.example"), ("p2l.example:443", "https://p2l.example")):
        assert server.ask("/v1/leaderboard", {"prompt": "a"}, Host=host, Origin=origin)[0] == 200  # behind a proxy


def test_a_server_without_keys_answers_to_the_names_of_this_machine_only(default):
    with Running(create_app(Engine(default), local_only=True)) as server:
        for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:80", "127.8.9.10", "[::1]:8000"):
            assert server.ask("/v1/leaderboard", {"prompt": "a"}, Host=host)[0] == 200
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "10.0.0.1", "[::2]"):
            # a name that resolves to this machine: its pages have the same origin as this server
            status, answer, _ = server.ask("/v1/leaderboard", {"prompt": "a"}, Host=host, Origin=f"http://{host}")
            assert (status, answer["error"]["code"]) == (403, "forbidden")
            assert "give it keys to call it by another name" in answer["error"]["message"]


async def keyed(request: Request) -> None:
    if request.headers.get("authorization") != "Bearer right":
        raise HTTPException(401, "no valid key", {"WWW-Authenticate": "Bearer"})


def test_a_guard_stands_before_all_but_health_and_page(monkeypatch):
    with Running(create_app(Engine(P2L(FakeScorer())), guards=[keyed])) as server:
        for path in ("/v1/p2l/models", "/models", "/v1/p2l/traffic", "/metrics"):
            assert server.ask(path)[0] == 401
            assert server.ask(path, Authorization="Bearer right")[0] == 200
        status, answer, headers = server.ask("/v1/leaderboard", {"prompt": "a"})
        assert (status, answer["error"]["code"]) == (401, "unauthorized")
        assert headers["WWW-Authenticate"] == "Bearer"
        for path in ("/health", "/ready", "/"):
            assert server.ask(path)[0] == 200
        with pytest.raises(
            RemoteError, match=r"does not accept a request without a key; pass token=..., or set P2L_API"
        ):
            P2L.from_pretrained(server.url)
        with pytest.raises(RemoteError, match="does not accept your key"):
            P2L.from_pretrained(server.url, token="wrong")
        assert P2L.from_pretrained(server.url, token="right").leaderboard("a").models == MODELS
        monkeypatch.setenv("P2L_API_KEY", "right")
        assert P2L.from_pretrained(server.url).leaderboard("a").models == MODELS


# --- the facade over HTTP ---


def test_the_facade_over_http_is_the_local_one(remote, server, default):
    prompts = [*PROMPTS, *(f"{i} times {i}?" for i in range(130)), *["y" * 9000] * 3]  # exceeds one request
    np.testing.assert_allclose(remote.coefficients(prompts).coefs, default.coefficients(prompts).coefs, atol=1e-6)
    np.testing.assert_allclose(remote.coefficients(prompts).eta, default.coefficients(prompts).eta, atol=1e-6)
    for prompt in PROMPTS:
        assert_same(remote.leaderboard(prompt).to_dict(), default.leaderboard(prompt).to_dict())
    assert_same(remote.aggregate(prompts).to_dict(), default.aggregate(prompts).to_dict())
    assert_same(remote.route(PROMPTS[0], 0.0004, seed=1).to_dict(), default.route(PROMPTS[0], 0.0004, seed=1).to_dict())
    assert remote.costs == default.costs
    assert repr(remote) == f"P2L({server.url}: 9 LLMs, feedback grk)"


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


def test_several_threads_may_share_it(remote, default):
    with ThreadPoolExecutor(4) as threads:
        boards = list(threads.map(remote.leaderboard, (f"prompt {i}" for i in range(20))))
    for i, board in enumerate(boards):
        np.testing.assert_allclose(board.coefs, default.leaderboard(f"prompt {i}").coefs, atol=1e-6)


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
