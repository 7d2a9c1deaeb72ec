"""An LLM that refuses a request: the next is called, and the client hears of it only if all refuse."""

from __future__ import annotations

import base64
import json
import logging
from urllib.parse import quote

import httpx
import openai
import pytest
from gateway_llms import CHEAP, COSTS, DEAR, HELLO, SECRET, config, ranking
from gateway_server import eventually, serving
from upstreams import Reply

from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.refusal import holds, refusal_within
from p2l_sdk.serve.gateway.request import ChatRequest

pytest_plugins = ["gateway_fixtures"]

LONG = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens"
OPENAI = {"message": LONG, "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}
# status, body, what the client reads if all refuse: message, code
SHAPES = {
    "openai": (400, {"error": OPENAI}, LONG, "context_length_exceeded"),
    "vllm flat": (400, {"object": "error", "message": LONG, "type": "BadRequestError", "param": None, "code": 400},
                  LONG, "context_length_exceeded"),
    "vllm nested": (400, {"error": {"message": LONG, "type": "BadRequestError", "code": 400}},
                    LONG, "context_length_exceeded"),
    "mistral": (422, {"object": "error", "message": {"detail": [{"loc": ["body"], "msg": "Extra inputs"}]}},
                "Extra inputs", "refused_by_upstream"),
    "mistral tool ids": (400, {"object": "error", "message": "Tool call id was call_1 but must be a-z", "code": "3280"},
                         "Tool call id was call_1 but must be a-z", "3280"),
    "fastapi": (422, {"detail": "no tools here"}, "no tools here", "refused_by_upstream"),
    "fastapi list": (422, {"detail": [{"loc": ["body", "n"], "msg": "too many", "type": "int"}]},
                     "too many", "refused_by_upstream"),
    "message": (400, {"message": "bad request"}, "bad request", "refused_by_upstream"),
    "text": (400, {"error": "model does not support images"}, "model does not support images", "refused_by_upstream"),
    "google": (400, '[{"error": {"code": 400, "message": "API key not valid", "status": "INVALID_ARGUMENT"}}]',
               "API key not valid", "refused_by_upstream"),
    "anthropic": (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long"}},
                  "prompt is too long", "context_length_exceeded"),
    "openrouter": (403, {"error": {"code": 403, "message": "moderated", "metadata": {"reasons": ["x"]}}},
                   "moderated", "403"),
    "no model": (404, {"error": {"message": "no such model", "type": "x", "code": "model_not_found"}},
                 "no such model", "model_not_found"),
    "new api": (400, {"error": {"message": "Unsupported parameter: 'max_tokens'", "code": "unsupported_parameter"}},
                "Unsupported parameter: 'max_tokens'", "unsupported_parameter"),
    "cloudflare": (400, {"success": False, "errors": [{"code": 5006, "message": "bad input"}]}, "bad input", "5006"),
    "spring": (415, {"status": 415, "error": "Unsupported Media Type", "message": "use JSON"},
               "use JSON", "refused_by_upstream"),
    "html": (413, "<html>nginx</html>", "refused the request with status 413", "refused_by_upstream"),
    "empty": (451, "", "refused the request with status 451", "refused_by_upstream"),
    "huge": (400, "x" * 300_000, "refused the request with status 400", "refused_by_upstream"),
    "surrogates": (400, '{"error": {"message": "half \\ud83d", "more": "\\ud83d"}}', "half ?", None),
    "not latin": (400, {"error": {"message": "zu groß 😀", "code": None}}, "zu groß 😀", None),
}  # fmt: skip


@pytest.fixture(scope="module")
def refusing(routing9, upstreams):
    with serving(routing9, config(upstreams)) as running:
        yield running


@pytest.fixture
def ask(refusing, upstreams):
    upstreams.reset()
    refusing.metrics.errors.clear()
    with httpx.Client() as client:
        yield lambda **body: client.post(
            f"{refusing.url}/chat/completions", json={"model": "p2l", "messages": HELLO, **body}
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_one_llms_refusal_is_not_the_clients_error_until_all_refuse(ask, refusing, upstreams, routing9, shape):
    status, content, message, code = SHAPES[shape]
    upstreams.replies["no"] = Reply(content, status)
    first, second, third = ranking(routing9)
    upstreams.always.update({first: "no", second: "no"})
    for i in range(4):
        reply = ask(stream=i % 2 == 1)
        assert (reply.status_code, reply.headers["x-p2l-model"]) == (200, third)
    known = code in ("context_length_exceeded", "model_not_found", "unsupported_parameter")
    kind = code if known else f"status_{status}"
    assert refusing.metrics.errors == {(first, kind): 4, (second, kind): 4}
    upstreams.always[third] = "400"
    for stream in (False, True):
        reply = ask(stream=stream)
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (status, code)
        assert message in error["message"]
        assert {"message", "type", "param", "code"} <= set(error)
        assert isinstance(error["type"], str)
        assert reply.headers["x-should-retry"] == "false"


def test_forty_of_forty_are_answered_while_one_llm_can(routing9, upstreams):
    """Refusals do not use up the attempts; faults beside them open their breakers."""
    upstreams.reset()
    first, second, third = ranking(routing9)
    upstreams.always.update({first: "400", second: "404"})
    with serving(routing9, config(upstreams, attempts=1)) as running, httpx.Client() as client:
        ask = {"model": "p2l", "messages": HELLO}
        replies = [client.post(f"{running.url}/chat/completions", json=ask) for _ in range(40)]
        assert {(reply.status_code, reply.headers["x-p2l-model"]) for reply in replies} == {(200, third)}


EMPTY = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "status_401"), (402, "insufficient_quota"), (429, "insufficient_quota"), (405, "status_405")],
)
def test_a_wrong_key_or_an_empty_account_uses_up_no_attempt(routing9, upstreams, status, kind):
    upstreams.reset()
    upstreams.replies["empty"] = Reply(EMPTY, status)
    first, second, third = ranking(routing9)
    upstreams.always.update({first: "empty", second: "empty"})
    with serving(routing9, config(upstreams, attempts=1, breaker_failures=3)) as running, httpx.Client() as client:
        asked = {"model": "p2l", "messages": HELLO}
        replies = [client.post(f"{running.url}/chat/completions", json=asked) for _ in range(5)]
        assert {(reply.status_code, reply.headers["x-p2l-model"]) for reply in replies} == {(200, third)}
        assert running.metrics.errors == {(first, kind): 3, (second, kind): 3}  # then they are left alone
        upstreams.always[third] = "empty"
        reply = client.post(f"{running.url}/chat/completions", json=asked)
        assert reply.status_code == 502
        assert "quota" not in reply.text  # it is ours, not the client's


def test_a_breaker_opens_on_four_faults_and_a_refusal_by_turns(routing9, upstreams):
    upstreams.reset()
    with serving(routing9, config(upstreams, attempts=1, breaker_failures=5)) as running, httpx.Client() as client:
        upstreams.script[CHEAP] = ["500", "500", "500", "500", "400"] * 4
        ask = {"model": CHEAP, "messages": HELLO}
        replies = [client.post(f"{running.url}/chat/completions", json=ask).status_code for _ in range(8)]
        assert replies == [502, 502, 502, 502, 400, 502, 503, 503]
        assert len(upstreams.seen) == 6


def test_faults_and_refusals_together_are_a_fault(routing9, upstreams):
    upstreams.reset()
    first, second, third = ranking(routing9)
    upstreams.always.update({first: "400", second: "429:3", third: "400"})
    with serving(routing9, config(upstreams)) as running:
        reply = httpx.post(f"{running.url}/chat/completions", json={"model": "p2l", "messages": HELLO})
    assert (reply.status_code, reply.headers["retry-after"], reply.headers["x-should-retry"]) == (429, "3", "false")
    assert 2000 < int(reply.headers["retry-after-ms"]) <= 3000
    for part in (f"{first} answered with status 400", f"{second} answered with status 429"):
        assert part in reply.json()["error"]["message"]


def test_the_log_says_why(ask, upstreams, routing9, caplog):
    first, second, third = ranking(routing9)
    upstreams.replies["no"] = Reply({"error": OPENAI}, 400)
    upstreams.always.update({first: "no", second: "403"})
    with caplog.at_level(logging.INFO, "p2l_sdk.serve.gateway.chat"):
        ask()
        upstreams.always[third] = "422"
        ask()
        eventually(lambda: len(caplog.records) == 2)
    answered, refused = (record.getMessage() for record in caplog.records)
    assert f"llm={third} end=done" in answered
    assert f"attempts=3 failed={first}:context_length_exceeded,{second}:status_403" in answered
    assert "llm=- end=400" in refused
    assert f"{third}:status_422" in refused


def test_a_named_llm_is_asked_once_and_what_is_our_fault_is_not_the_clients(ask, upstreams):
    for status, seen in ((400, 400), (413, 413), (415, 415), (422, 422), (451, 451), (403, 502), (404, 502)):
        upstreams.seen.clear()
        upstreams.script[DEAR] = [str(status)]
        assert ask(model=DEAR).status_code == seen
        assert len(upstreams.seen) == 1


ESCAPES = {
    "plain": SECRET,
    "upper case": SECRET.upper(),
    "json": "".join(f"\\u{ord(c):04x}" for c in SECRET),
    "json in json": json.dumps(json.dumps("".join(f"\\u{ord(c):04x}" for c in SECRET)))[1:-1],
    "hex": "".join(f"\\x{ord(c):02x}" for c in SECRET),
    "octal": "".join(f"\\{ord(c):03o}" for c in SECRET),
    "slashes": SECRET.replace("-", "\\-"),
    "url": "".join(f"%{ord(c):02X}" for c in SECRET),
    "url twice": quote("".join(f"%{ord(c):02X}" for c in SECRET)),
    "html": "".join(f"&#{ord(c)};" for c in SECRET),
    "html hex": "".join(f"&#x{ord(c):x};" for c in SECRET),
    **{f"base64 {n}": base64.b64encode(b"Bearer "[:n] + SECRET.encode() + b"!").decode() for n in (0, 1, 2, 7)},
}  # fmt: skip


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_refusal_that_holds_our_key_in_any_escape_stays_here(ask, upstreams, routing9, escape):
    first = ranking(routing9)[0]
    body = b'{"error": {"message": "a bad key: %b"}}' % ESCAPES[escape].encode()
    upstreams.replies["leak"] = Reply(body, 400)
    upstreams.script.update({first: ["leak"], DEAR: ["leak"]})
    assert ask().status_code == 200
    upstreams.always.update(dict.fromkeys(COSTS, "leak"))
    reply = ask(stream=True)
    assert reply.status_code == 502
    assert "bad key" not in reply.text


def test_what_holds_a_secret():
    assert not holds(b"a word: EMPTY", ["", "EMPTY"])  # no secrets, but what people write for none
    assert not holds(b"sk-abcdefg and sk-upstream", [SECRET])
    assert holds(b"a team's header: sk-of-the-header", ["", "sk-of-the-header"])


def test_a_key_in_a_header_of_the_config_is_one_too(routing9, upstreams):
    upstreams.reset()
    upstreams.replies["leak"] = Reply({"error": {"message": "not sk-in-a-header-77"}}, 400)
    upstreams.always[CHEAP] = "leak"
    settings = config(upstreams, llms={CHEAP: {"headers": {"Authorization": "Bearer sk-in-a-header-77"}}})
    with serving(routing9, settings) as running:
        reply = httpx.post(f"{running.url}/chat/completions", json={"model": CHEAP, "messages": HELLO})
        assert (reply.status_code, "sk-in" in reply.text) == (502, False)


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_behind_a_200_is_one(ask, refusing, upstreams, stream):
    """As OpenRouter sends it; a client must not be able to shut an upstream with it."""
    error = {"error": {"code": 400, "message": "too long"}}
    reply = Reply(f"data: {json.dumps(error)}\n\n", kind="text/event-stream") if stream else Reply(error)
    upstreams.replies["within"] = reply
    upstreams.script[DEAR] = ["within"] * 5
    for _ in range(5):
        found = ask(model=DEAR, stream=stream)
        assert (found.status_code, found.json()["error"]["message"]) == (400, "too long")
    assert ask(model=DEAR).status_code == 200
    assert refusing.metrics.errors == {(DEAR, "status_400"): 5}
    assert refusal_within({"error": {"code": 502, "message": "x"}}, DEAR) is None
    assert refusal_within({"error": {"type": "invalid_request_error", "message": "x"}}, DEAR).status == 400


def test_the_openai_client_reads_the_first_refusal(client, upstreams):
    upstreams.replies["flat"] = Reply(SHAPES["vllm flat"][1], 400)
    upstreams.always.update(dict.fromkeys(COSTS, "flat"))
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="p2l", messages=HELLO)
    assert (raised.value.code, raised.value.type) == ("context_length_exceeded", "BadRequestError")


@pytest.mark.parametrize(
    ("field", "sent", "arrives"),
    [
        (None, {"max_tokens": 5}, {"max_tokens": 5}),
        (None, {}, {"max_tokens": 64}),
        ("max_completion_tokens", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        ("max_completion_tokens", {}, {"max_completion_tokens": 64}),
        ("max_tokens", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        ("max_tokens", {"max_tokens": 7, "max_completion_tokens": 5}, {"max_tokens": 7}),
    ],
)
def test_the_limit_of_tokens_has_the_name_that_the_upstream_takes(field, sent, arrives):
    llm = LLMConfig(name="x", base_url="http://127.0.0.1:9/v1", max_tokens=64, max_tokens_field=field)
    request = ChatRequest.parse(json.dumps({"model": "x", "messages": HELLO, **sent}).encode())
    body = json.loads(request.body(llm))
    assert {name: value for name, value in body.items() if "max" in name} == arrives


@pytest.mark.parametrize(
    ("host", "field", "arrives"),
    [
        ("api.deepseek.com", None, "max_tokens"),  # which passes over the newer name
        ("127.0.0.1:11434", None, "max_tokens"),
        ("127.0.0.1:11434", "max_completion_tokens", "max_completion_tokens"),
        ("api.openai.com", None, "max_completion_tokens"),  # which refuses a name that it does not take
        ("ours.openai.azure.com", None, "max_completion_tokens"),
    ],
)
def test_a_limit_that_a_budget_needs_has_a_name_that_no_upstream_passes_over(host, field, arrives):
    llm = LLMConfig(name="x", base_url=f"https://{host}/v1", max_tokens_field=field)
    request = ChatRequest.parse(json.dumps({"model": "x", "messages": HELLO, "max_completion_tokens": 50}).encode())
    body = json.loads(request.limited(5).body(llm))
    assert {name: value for name, value in body.items() if "max" in name} == {arrives: 5}
    assert json.loads(request.body(llm)).get(field or "max_completion_tokens") == 50  # where no budget pays, as it came
