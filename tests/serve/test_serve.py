"""The P2L API on a real server."""

from __future__ import annotations

import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import MODELS
from fastapi import APIRouter, HTTPException, Request
from p2l_server import PROMPTS, FakeScorer, Running, assert_same, numbers, until

from p2l_sdk import P2L
from p2l_sdk.errors import RemoteError
from p2l_sdk.serve import Engine, create_app
from p2l_sdk.serve.schemas import CoefficientsReply, KindsReply, ModelsReply, RouteReply


@pytest.fixture(scope="module")
def server(routing9):
    with Running(create_app(Engine(routing9), max_prompts=50, max_body_bytes=20_000)) as running:
        yield running


@pytest.fixture(scope="module", params=["routing9", "default"])
def both(request):
    """A model and a server of it: one that is grounded and knows all costs, and one that recognises kinds of prompt."""
    p2l = request.getfixturevalue(request.param)
    with Running(create_app(Engine(p2l), max_prompts=50, max_body_bytes=20_000)) as running:
        yield p2l, running


def test_the_server_says_what_the_sdk_says(both):
    p2l, server = both
    for prompt, board in zip(PROMPTS, p2l.leaderboards(PROMPTS), strict=True):
        status, answer, _ = server.ask("/v1/leaderboard", {"prompt": prompt})
        assert status == 200
        assert_same(answer, board.to_dict())
        assert answer.get("kinds", {}).keys() == set(p2l.spec.kinds)
    _, answer, _ = server.ask("/v1/leaderboards", {"prompts": PROMPTS})
    for one, board in zip(answer["leaderboards"], p2l.leaderboards(PROMPTS), strict=True):
        assert_same(one, board.to_dict())
    _, answer, _ = server.ask("/v1/coefficients", {"prompts": PROMPTS})
    expected = p2l.coefficients(PROMPTS)
    np.testing.assert_allclose(answer["coefs"], expected.coefs, atol=1e-6)
    assert (answer["eta"] is None) == (expected.eta is None)
    if expected.eta is not None:
        np.testing.assert_allclose(answer["eta"], expected.eta[:, 0], atol=1e-6)
    assert (answer["kinds"] is None) == (expected.kinds is None)
    if expected.kinds is not None:
        np.testing.assert_allclose(answer["kinds"], expected.kinds.shares, atol=1e-6)
    assert tuple(answer["models"]) == p2l.models
    assert answer["gamma"] is None
    assert answer.keys() == CoefficientsReply.model_fields.keys()
    _, answer, _ = server.ask("/v1/aggregate", {"prompts": PROMPTS, "weights": [1, 2, 3, 4, 0.5], "seed": 4})
    assert_same(answer, p2l.aggregate(PROMPTS, weights=[1, 2, 3, 4, 0.5], seed=4).to_dict())


def test_routes_are_those_of_the_sdk(both):
    p2l, server = both
    for options in (
        {},
        {"cost": 0.0004, "seed": 0},
        {"cost": 0.0004, "policy": "strict"},
        {"cost": 0.001, "models": [p2l.models[0], *list(p2l.costs)[1:4]], "costs": {p2l.models[0]: 0.00001}, "seed": 7},
        {"opponents": {p2l.models[2]: 1.0}, "objective": "usable" if p2l.spec.feedback.grounded else "win_rate"},
    ):
        status, answer, _ = server.ask("/v1/route", {"prompt": PROMPTS[0], **options})
        assert status == 200, answer
        assert_same(answer, p2l.route(PROMPTS[0], **options).to_dict())
        assert answer.keys() == RouteReply.model_fields.keys() - (set() if p2l.spec.kinds else {"kinds"})


def test_within_a_budget_llms_of_unknown_cost_are_left_out_unless_they_are_asked_for(default):
    with Running(create_app(Engine(default))) as server:
        _, answer, _ = server.ask("/v1/route", {"prompt": "a", "cost": 0.001})
        without = [name for name in default.models if name not in default.costs]
        assert sorted(answer["left_out"]) == sorted(without)
        asked = {"prompt": "a", "cost": 0.001, "models": [without[0], "gpt-4o-mini"]}
        status, answer, _ = server.ask("/v1/route", asked)
        assert (status, answer["error"]["code"]) == (400, "cost_error")
        assert f"no cost is known for {without[0]}; pass costs=" in answer["error"]["message"]
        status, answer, _ = server.ask("/v1/route", {**asked, "costs": {without[0]: 0.0009}})
        assert status == 200
        assert answer["matched"] == {"gpt-4o-mini": "gpt-4o-mini-2024-07-18"}


def test_a_route_is_to_an_llm_that_can_be_called(routing9):
    routed = [routing9.models[3], routing9.models[0]]
    with Running(create_app(Engine(routing9), routed=routed)) as server:
        rows = server.ask("/v1/p2l/models")[1]["models"]
        assert [row["model"] for row in rows if row["routed"]] == [name for name in routing9.models if name in routed]
        for options in ({}, {"cost": 0.001}, {"models": None}, {"models": list(routing9.models)}):
            chosen = {"cost": None, **options, "models": options.get("models") or routed}
            _, answer, _ = server.ask("/v1/route", {"prompt": PROMPTS[0], "seed": 0, **options})
            assert_same(answer, routing9.route(PROMPTS[0], seed=0, **chosen).to_dict())


def test_tool_calls_and_null_parts_are_read_as_in_the_sdk(both):
    p2l, server = both
    conversation = [
        {"role": "system"},
        {"role": "user", "content": [{"type": "text", "text": "Write code"}, {"type": "text", "text": None}, None]},
        {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": None},
        {"role": "function", "name": "f", "content": {"degrees": 21}},
        {"role": "assistant", "content": None},
        {"role": "user", "content": [{"type": None, "text": None}, {"type": "text", "text": "and run it"}]},
    ]
    expected = p2l.leaderboard([{"role": "user", "content": "Write code"}, {"role": "user", "content": "and run it"}])
    assert_same(p2l.leaderboard(conversation).to_dict(), expected.to_dict())
    status, answer, _ = server.ask("/v1/leaderboard", {"prompt": conversation})
    assert status == 200
    assert_same(answer, expected.to_dict())
    status, answer, _ = server.ask("/v1/leaderboard", {"prompt": [*conversation, {"role": "user"}]})
    assert (status, answer["error"]["param"]) == (422, "prompt[7].content")


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
        ("/v1/aggregate", {"prompts": ["a"], "weights": [1, 2]}, 400, "p2l_error", None, "more weights than prompts"),
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


def test_those_who_come_from_the_papers_code_find_its_endpoints(routing9):
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


def test_what_the_server_knows(both):
    p2l, server = both
    _, known, _ = server.ask("/v1/p2l/models")
    assert known.keys() == ModelsReply.model_fields.keys()
    assert [row["model"] for row in known["models"]] == list(p2l.models)
    assert {row["model"]: row["cost"] for row in known["models"] if row["cost"] is not None} == dict(p2l.costs)
    assert all(row["routed"] for row in known["models"])
    assert known["feedback"] == str(p2l.spec.feedback)
    assert tuple(known["kinds"]) == p2l.spec.kinds
    assert known["limits"] == {"max_prompts": 50, "max_body_bytes": 20_000}
    _, kinds, _ = server.ask("/v1/p2l/kinds")
    assert kinds.keys() == KindsReply.model_fields.keys()
    assert tuple(kinds["kinds"]) == p2l.spec.kinds
    assert (kinds["variance"] is None) == (not p2l.spec.kinds)
    if p2l.spec.kinds:
        np.testing.assert_allclose(kinds["variance"], p2l.variance, rtol=1e-6)


def test_health_metrics_and_traffic(both):
    _, server = both
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


@pytest.mark.long
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


def test_a_server_without_keys_answers_to_the_names_of_this_machine_only(routing9):
    with Running(create_app(Engine(routing9), local_only=True)) as server:
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
