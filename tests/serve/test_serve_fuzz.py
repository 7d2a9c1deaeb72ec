"""The P2L API and the router under unusual requests: drawn from their own OpenAPI schema, and malformed bodies."""

from __future__ import annotations

import http.client
import json
import random
import time

import pytest
import schemathesis
from conftest import MODELS
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from p2l_server import FakeScorer, Running
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from upstreams import Upstreams

from p2l_sdk import P2L
from p2l_sdk.serve import Engine, create_app
from p2l_sdk.serve.gateway.chat import create_gateway
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.pool import UpstreamClient

CHECKS = [
    not_a_server_error,
    checks.content_type_conformance,
    checks.negative_data_rejection,
    checks.response_schema_conformance,
    checks.status_code_conformance,
    checks.unsupported_method,
]
UPSTREAMS = Upstreams().__enter__()  # the application contains its address, and its schema names the tests


def application() -> FastAPI:
    """The whole server: the P2L API, and a router in front of two working LLMs."""
    engine = Engine(P2L(FakeScorer()))
    config = GatewayConfig.from_dict({"models": {name: {"base_url": UPSTREAMS.url(name)} for name in MODELS[:2]}})
    return create_app(engine, routers=[create_gateway(engine, config, engine.metrics, UpstreamClient())])


APP = application()
OPERATIONS = {
    f"{o.method} {o.path}": o
    for o in (r.ok() for r in schemathesis.openapi.from_dict(APP.openapi()).get_all_operations())
}


@pytest.fixture(scope="module")
def server():
    with Running(APP) as running:
        yield running


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_the_schema_holds_whatever_is_sent(server, name):
    operation, statuses = OPERATIONS[name], []
    takes_body = name.startswith("post")
    modes = schemathesis.GenerationMode
    for mode in (modes.POSITIVE, modes.NEGATIVE) if takes_body else (modes.POSITIVE,):

        @settings(
            max_examples=10 if takes_body else 2,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(mode))
        def run(case):
            response = case.call(base_url=server.url, timeout=20)
            statuses.append(response.status_code)
            case.validate_response(response, checks=CHECKS)

        run()
    # most of the prompts drawn are empty (400), and no LLM has the names drawn (404)
    assert {200, 400, 404} & set(statuses)
    if takes_body:
        assert (400 if "chat" in name else 422) in statuses


def test_malformed_bodies_get_an_error_in_openais_shape(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    answered: set[tuple[int, str]] = set()
    for path, body in malformed(1000):
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        content = json.loads(reply.read())
        assert reply.status in (400, 422), (path, body)
        assert content.keys() == {"error"}
        assert content["error"].keys() == {"message", "type", "param", "code"}
        assert content["error"]["type"] == "invalid_request_error"
        assert content["error"]["message"]
        answered.add((reply.status, content["error"]["code"]))
    connection.close()
    assert answered == {
        (400, "invalid_json"), (400, "prompt_error"), (422, "invalid_body"),
        (400, "invalid_request"),  # from the router
    }  # fmt: skip


def heavy(n: int) -> dict[str, list[bytes]]:
    """Bodies of about n bytes that would cost many times their size: each value, each fault, each name."""
    empty, one, name = b"[]," * (n // 3), b"1," * (n // 2), b",".join(b'"k%d":"x"' % i for i in range(n // 14))
    wrong = b'{"role":"me","content":"a"},' * (n // 28)
    return {
        "/v1/leaderboard": [
            b'{"prompt": [' + empty + b"[]]}",
            b'{"prompt": [' + wrong + b"1]}",
            b'{"prompt": [{"role": "user", "content": [' + one + b"1]}]}",
            b"{" + name + b"}",
        ],
        "/v1/leaderboards": [b'{"prompts": [' + one + b"1]}"],
        "/v1/aggregate": [b'{"prompts": ["a"], "weights": [' + empty + b"1]}"],
        "/v1/route": [
            b'{"prompt": "a", "costs": {' + name + b"}}",
            b'{"prompt": "a", "opponents": {' + name + b"}}",
            b'{"prompt": "a", "models": [' + one + b"1]}",
        ],
        "/predict": [b'{"prompt": [' + one + b"1]}"],
        "/v1/chat/completions": [
            b'{"model": "p2l", "messages": [' + empty + b"1]}",
            b'{"model": "p2l", "messages": [' + b'{"role":"user","content":"a"},' * (n // 30) + b"1]}",
            b"{" + name + b"}",
        ],
    }


@pytest.mark.long
@pytest.mark.parametrize("n", [200_000, 4_000_000])
def test_a_body_full_of_faults_is_refused_at_once(server, n):
    for path, bodies in heavy(n).items():
        for body in bodies:
            start = time.monotonic()
            assert server.ask(path, body)[0] in (400, 413, 422), (path, body[:60])
            assert time.monotonic() - start < 2.0, (path, body[:60])


WHOLE = {
    "/v1/leaderboard": {"prompt": "a"},
    "/v1/leaderboards": {"prompts": ["a", [{"role": "user", "content": "b"}]]},
    "/v1/coefficients": {"prompts": ["a"]},
    "/v1/aggregate": {"prompts": ["a", "b"], "weights": [1, 2], "seed": 1},
    "/v1/route": {"prompt": "a", "cost": 0.001, "models": [MODELS[0]], "costs": {MODELS[0]: 0.001}, "policy": "strict"},
    "/predict": {"prompt": ["a"]},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}], "model": "p2l", "cost": 0.001},
}
WRONG = [{}, {"a": 1}, [[]], [1], [None], True, -1, 1e400, float("nan"), [{"role": "user"}], [{"content": "x"}]]


def malformed(n: int):
    """Bodies that are not JSON, or have a field of the wrong type, or lack a required field."""
    chance = random.Random(5)
    for _ in range(n):
        path, whole = chance.choice(list(WHOLE.items()))
        text = json.dumps(whole)
        kind = chance.randrange(6)
        if kind == 0:
            yield path, text[: chance.randrange(len(text))].encode()
        elif kind == 1:
            yield path, chance.randbytes(chance.randrange(1, 200)) + b"\xff"
        elif kind == 2:
            place = chance.randrange(1, len(text))
            yield path, (text[:place] + chance.choice("}]\x00\x01") + text[place:] + "}").encode()
        elif kind == 3:
            yield path, json.dumps(chance.choice([[], "a", 1, None, [whole], {}, {"Prompt": "a"}])).encode()
        elif kind == 4:
            first = next(iter(whole))
            yield path, json.dumps({**whole, first: chance.choice(WRONG)}).encode()
        else:
            yield path, b'{"prompt": ' + chance.choice([b"[", b'{"a":']) * chance.randrange(1, 9000)
