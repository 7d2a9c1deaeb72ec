"""The router's settings: legal values, error messages; API keys; the parts of the router in isolation."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from conftest import ROOT
from upstreams import Upstreams

from p2l_sdk.errors import BudgetError, P2LError, UnknownModelError
from p2l_sdk.routing.pacing import BudgetPacer
from p2l_sdk.serve.auth import Key, Keys, OutOfBudget
from p2l_sdk.serve.gateway.breaker import Breaker
from p2l_sdk.serve.gateway.call import UpstreamError
from p2l_sdk.serve.gateway.check import LLMCheck, check
from p2l_sdk.serve.gateway.choice import Chooser
from p2l_sdk.serve.gateway.config import GatewayConfig, LLMConfig, Prices, costs
from p2l_sdk.serve.gateway.pool import SpreadTransport, create_client
from p2l_sdk.serve.gateway.request import BadRequest, ChatRequest
from p2l_sdk.serve.gateway.spend import Charge
from p2l_sdk.serve.gateway.sse import Events, error_event, payloads
from p2l_sdk.serve.process import require_address

CHEAP, MIDDLE, DEAR = "gemma-2-9b-it", "qwen2.5-7b-instruct", "llama-3.3-nemotron-super-49b-v1"
LLM = {"base_url": "http://127.0.0.1:9/v1"}
MODELS = {"models": {CHEAP: LLM, MIDDLE: LLM, DEAR: LLM}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no settings; it needs a section 'models'"),
        ("models: {}", "'models' must be a section with one entry for each LLM"),
        ("models: [a]", "'models' must be a section"),
        ("model: {a: {base_url: 'http://x'}}", "'model' is no setting; did you mean 'models'?"),
        ("models: {a: {base_url: 'http://x', tmperature: 1}}", "a: 'tmperature' is no setting; did you mean 'temper"),
        ("models: {a: {}}", "a: 'base_url' is missing"),
        ("models: {a: http://x}", "a: needs at least a base_url"),
        ("models: {a: {base_url: api.openai.com}}", "a: base_url is 'api.openai.com'; it must be an address like"),
        ("models: {a: {base_url: 'http://me:pw@x'}}", "it must be an address like"),
        ("models: {a: {base_url: 'http://host:abc/v1'}}", "base_url is 'http://host:abc/v1'; it must be"),
        ("models: {a: {base_url: 'http://host:70000/v1'}}", "it must be an address like"),
        ("models: {a: {base_url: 'http://api..example/v1'}}", "it must be an address like"),
        ("models: {a: {base_url: 'http://x/v1/chat/completions/'}}", "write it without /chat/completions, which is ad"),
        ("models: {a: {base_url: 'http://x/chat/completions?api-version=1'}}", "without /chat/completions"),
        ("models: {a: {base_url: 'http://x', temperature: 3}}", "temperature is 3; it must be a number from 0 to 2"),
        ("models: {a: {base_url: 'http://x', timeout: null}}", "timeout is None; it must be a number >= 0.001"),
        ("models: {a: {base_url: 'http://x', max_tokens: 0}}", "max_tokens is 0; it must be an integer > 0"),
        ("models: {a: {base_url: 'http://x', cost: .inf}}", "cost is inf; it must be a number >= 0"),
        ("models: {a: {base_url: 'http://x', cost: 1, prices: {input: 1, output: 1}}}", "a cost or prices, not both"),
        ("models: {a: {base_url: 'http://x', prices: {input: 1}}}", "a section with 'input' and 'output', USD per mi"),
        ("models: {a: {base_url: 'http://x', prices: {input: 1, output: 1, inputs: 2}}}", "did you mean 'input'?"),
        ("models: {a: {base_url: 'http://x', api_key_header: k}}", "api_key_header needs api_key_env"),
        ("models: {a: {base_url: 'http://x', headers: 3}}", "headers is 3; it must be a mapping"),
        ("models: {a: {base_url: 'http://x', headers: {X-Team: Größe}}}", "the value of X-Team holds characters"),
        ("models: {a: {base_url: 'http://x', headers: {X-Team: }}}", "headers: X-Team must be a text"),
        ("models: {a: {base_url: 'http://x', headers: {X Team: a}}}", "headers: 'X Team' is no header that a config"),
        ("models: {a: {base_url: 'http://x', headers: {Content-Length: 3}}}", "'Content-Length' is no header that"),
        ("models: {a: {base_url: 'http://x', headers: {X-A: 1, x-a: 2}}}", "headers: x-a stands twice; upper and"),
        ("models: {a: {base_url: 'http://x', api_key_env: K, api_key_header: 'a b'}}", "api_key_header: 'a b' is no"),
        ("models: {p2l: {base_url: 'http://x'}}", "an LLM is called 'p2l'"),
        ("models: {a: {base_url: 'http://x'}, a: {base_url: 'http://y'}}", "'a' stands twice in the section at line 1"),
        ("models: {a: {base_url: 'http://x'}}\npolicy: bst", "unknown policy 'bst'; known: optimal, strict, best"),
        ("models: {a: {base_url: 'http://x'}}\nbudget: x", "budget is 'x'; it must be a number >= 0"),
        ("models: {a: {base_url: 'http://x'}}\nbudget: 1\nmean_budget: 1", "a budget .* or a mean_budget"),
        ("models: {a: {base_url: 'http://x'}}\ntrust_env: 1", "trust_env is 1; it must be true or false"),
        ("models: {a: [", "cannot be read as YAML"),
    ],
)
def test_a_bad_file_is_refused_with_the_remedy(text, message, tmp_path):
    path = tmp_path / "router.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(P2LError, match=message) as error:
        GatewayConfig.from_yaml(path)
    assert "router.yaml" in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(P2LError, match=r"absent.yaml' cannot be read"):
        GatewayConfig.from_yaml(tmp_path / "absent.yaml")


def test_a_good_file(tmp_path):
    path = tmp_path / "router.yaml"
    path.write_text(
        "budget: 4e-4\n"  # a string in YAML 1.1
        f"models:\n  {CHEAP}: &there\n    base_url: https://a.example/v1\n    temperature: 0\n"
        f"  {DEAR}:\n    <<: *there\n    upstream_model: big\n    prices: {{input: 1, output: 2}}\n"
    )
    config = GatewayConfig.from_yaml(path)
    assert config.budget == 0.0004
    assert config.models[CHEAP].model == CHEAP
    assert config.models[CHEAP].temperature == 0
    assert config.models[DEAR].model == "big"
    assert config.models[DEAR].prices == Prices(input=1, output=2)
    assert config.models[DEAR].prices.cost == pytest.approx(0.0015)
    with pytest.raises(AttributeError):
        config.budget = 1


def test_check_names_what_is_missing(default, monkeypatch):
    monkeypatch.delenv("P2L_ABSENT", raising=False)
    monkeypatch.setenv("P2L_PRESENT", "x")
    config = GatewayConfig.from_dict(
        {"models": {
            CHEAP: {**LLM, "api_key_env": "P2L_ABSENT"},
            "new-llm": {**LLM, "api_key_env": "P2L_PRESENT"},
            "other-llm": {**LLM, "cost": 0.1},
        }}
    )  # fmt: skip
    found = check(config, default)
    assert found.llms == (
        LLMCheck(CHEAP, LLM["base_url"], default.costs[CHEAP], known=True, similar=None),
        LLMCheck("new-llm", LLM["base_url"], None, known=False, similar=None),
        LLMCheck("other-llm", LLM["base_url"], 0.1, known=False, similar=None),
    )
    assert (found.unknown, found.missing_keys, found.without_cost) == (
        ("new-llm", "other-llm"), ("P2L_ABSENT",), ("new-llm",)
    )  # fmt: skip
    assert found.problems == [
        "these environment variables are not set: P2L_ABSENT",
        "no cost is known for new-llm; give them a cost or prices",
    ]
    assert costs(config, default) == {CHEAP: default.costs[CHEAP], "other-llm": 0.1}
    monkeypatch.setenv("P2L_ABSENT", " \n")
    assert check(config, default).missing_keys == ("P2L_ABSENT",)
    monkeypatch.setenv("P2L_ABSENT", "sk-größe")
    with pytest.raises(P2LError, match="the key in P2L_ABSENT holds characters that no header can carry; set it anew"):
        check(config, default)
    with pytest.raises(UnknownModelError, match=r"the config names 'gemma-2', .* did you mean 'gemma-2-9b-it'"):
        check(GatewayConfig.from_dict({"models": {"gemma-2": LLM}}), default)
    with pytest.raises(UnknownModelError, match="the table of opponents names 'x'"):
        check(GatewayConfig.from_dict({**MODELS, "opponents": {"x": 1}}), default)


def test_a_budget_that_no_llm_fits_keeps_the_router_from_starting(default):
    for setting in ("budget", "mean_budget"):
        with pytest.raises(BudgetError, match=r"the cheapest feasible budget is \$0.0001"):
            Chooser(GatewayConfig.from_dict({**MODELS, setting: 0.00005}), default)


def test_the_policy_and_the_opponents_are_those_of_the_sdk(default):
    board = default.leaderboard("What is 17 * 23?")
    for policy in ("strict", "best"):
        options = {"policy": policy, "opponents": {CHEAP: 2, DEAR: 1}, "objective": "usable"}
        choice = Chooser(GatewayConfig.from_dict({**MODELS, **options, "budget": 0.0005}), default).routed(
            board, "p2l", None
        )
        route = default.router(models=[CHEAP, MIDDLE, DEAR], **options).route(board, 0.0005)
        assert list(choice.ranking) == route.ranking
        assert choice.expected_score == route.expected_score
        assert choice.expected_cost == route.expected_cost


def test_the_budget_of_the_config_holds_for_the_best_llm_too(default):
    board = default.leaderboard("Prove that the square root of two is irrational")
    assert Chooser(GatewayConfig.from_dict(MODELS), default).routed(board, "p2l-best", None).ranking[0] == DEAR
    chooser = Chooser(GatewayConfig.from_dict({**MODELS, "budget": 0.0005}), default)
    choice = chooser.routed(board, "p2l-best", None)
    assert set(choice.ranking) == {CHEAP, MIDDLE}
    assert choice.expected_cost <= 0.0005
    assert chooser.routed(board, "p2l-best", 0.001).ranking[0] == DEAR  # the client's own budget
    paced = Chooser(GatewayConfig.from_dict({**MODELS, "mean_budget": 0.0005}), default)
    assert paced.routed(board, "p2l-best", None).pacer is paced.pacer
    assert paced.routed(board, "p2l-best", 0.001).pacer is None
    assert paced.by_name(DEAR, None).pacer is None  # an LLM that is named is used


def test_keys(tmp_path, monkeypatch):
    monkeypatch.setenv("P2L_API_KEYS", "sk-0123456789abcdef,sk-1123456789abcdef named 2.5")
    keys = Keys.load()
    assert len(keys) == 2
    assert (keys.find("sk-0123456789abcdef").name, keys.find("sk-1123456789abcdef").budget) == ("key-1", 2.5)
    assert keys.find("sk-0123456789abcde") is None
    assert keys.find("\ud800") is None
    assert not Keys([])
    for line, message in [
        ("short", "line 1: an API key has at least 16 characters"),
        ("sk-2123456789abcdef name x", "line 1: after the key stand its name and its budget"),
        ("sk-2123456789abcdef name -1", "its budget, a number >= 0"),
        ("sk-2123456789abcdef name 1 2", "nothing else"),
        ("sk-2123456789abcdef named", "two API keys have the same name: 'named'"),
        ("sk-0123456789abcdef again", "two API keys have the same secret: 'key-1'"),
    ]:
        (tmp_path / "keys").write_text(line)
        with pytest.raises(P2LError, match=message) as error:
            Keys.load(tmp_path / "keys")
        assert line.split()[0] not in str(error.value)
    with pytest.raises(P2LError, match="cannot be read: No such file"):
        Keys.load(tmp_path / "absent")


def test_a_body_of_many_megabytes_is_read_or_refused_quickly():
    rest = b'"model": "p2l", "messages": [{"role": "user", "content": "hi"}]}'
    start = time.perf_counter()
    assert ChatRequest.parse(b"{" + b" " * 2**25 + rest).model == "p2l"
    for fields in (b'"a":1,' * 2**22, b"".join(b'"x%d":1,' % i for i in range(500))):
        with pytest.raises(BadRequest, match="not a JSON object in UTF-8 of at most 500 fields"):
            ChatRequest.parse(b"{" + fields + rest)
    assert time.perf_counter() - start < 1.5
    assert len(ChatRequest.parse(b"{" + b"".join(b'"x%d":1,' % i for i in range(498)) + rest).fields) == 500


def test_what_a_request_asks_for():
    def parse(**fields):
        return ChatRequest.parse(json.dumps({"model": "p2l", "messages": [{"role": "user"}], **fields}).encode())

    assert [parse(cost=cost).budget for cost in (None, 0, "1e-3", 10**308)] == [None, 0, 0.001, 1e308]
    for cost in (10**309, -1, "x", "nan", 1e999, [1], {}, True):
        with pytest.raises(BadRequest, match=r"finite number|not a JSON object"):
            parse(cost=cost)
    assert [parse().n, parse(n=None).n, parse(n=1024).n] == [1, 1, 1024]
    for n in (0, -1, 1025, 10**400, 2.0, "20", True):
        with pytest.raises(BadRequest, match="n must be an integer from 1 to 1024"):
            parse(n=n)
    parts = [{"type": "text", "text": "ab"}, {"type": "image_url", "image_url": {"url": "data:"}}, "?", {"text": 1}]
    messages = [{"role": "system", "content": "é"}, {"role": "user", "content": parts}, {"role": "assistant"}]
    assert parse(messages=messages).text_bytes == 4


def test_a_body_is_rewritten_without_being_parsed_and_written_again():
    llm = LLMConfig(name="x", base_url="http://127.0.0.1:9/v1", upstream_model="up/x", system='be "brief"')
    rng = random.Random(0)

    def value(depth: int = 0):
        kind = rng.randrange(7 if depth < 3 else 5)
        if kind >= 5:
            items = [value(depth + 1) for _ in range(rng.randrange(4))]
            return items if kind == 5 else {f'k{i}"': item for i, item in enumerate(items)}
        return [rng.random(), rng.randrange(-9, 9), 'a"}{,:[\n\u00e9😀\\'[: rng.randrange(10)], None, True][kind]

    for _ in range(300):
        extra = {f"x{i}{rng.choice(chr(34) + 'é')}": value() for i in range(rng.randrange(5))}
        body = {"model": "p2l", "messages": [{"role": "user", "content": "hi"}], **extra}
        text = json.dumps(body, indent=rng.choice([None, 1]), ensure_ascii=rng.random() < 0.5)
        sent = json.loads(ChatRequest.parse(text.encode()).body(llm))
        system = {"role": "system", "content": 'be "brief"'}
        assert sent == {**body, "model": "up/x", "messages": [system, *body["messages"]]}


def test_events_are_cut_at_their_ends_wherever_the_parts_are():
    stream = b': hello\n\ndata: {"a": 1}\n\nevent: x\r\ndata: {"usage": {"prompt_tokens": 3}}\r\n\r\ndata: [DONE]\n\n'
    for size in (1, 2, 3, 7, 1000):
        events = Events()
        parts = [events.feed(stream[i : i + size]) for i in range(0, len(stream), size)]
        assert b"".join(parts) == stream
        assert events.rest() == b""
        assert all(part.endswith((b"\n\n", b"\r\n\r\n")) for part in parts if part)
        assert (events.done, events.finished, events.usage) == (True, True, {"prompt_tokens": 3})
    assert list(payloads(stream)) == [{"a": 1}, {"usage": {"prompt_tokens": 3}}, "[DONE]"]
    assert list(payloads(b"data: {oops\n\n")) == [None]
    [event] = payloads(error_event("gone", "server_error", "x"))
    assert event == {"error": {"message": "gone", "type": "server_error", "param": None, "code": "x"}}
    finished = Events()
    finished.feed(b'data: {"choices": [{"finish_reason": null}]}\n\n')
    assert not finished.finished
    finished.feed(b'data: {"choices": [{"finish_reason": "stop"}]}\n\n')
    assert finished.finished
    assert not finished.done


def event(text: str, reason: str | None, index: int = 0) -> bytes:
    """An event of a streamed answer."""
    choice = {"index": index, "delta": {"content": text}, "finish_reason": reason}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


def test_only_the_end_of_the_answer_is_its_end():
    events = Events()
    for text in ("[DONE]", "data: [DONE]", "\n\ndata: [DONE]\n\n", '"finish_reason": "stop"'):
        events.feed(event(text, None) + event(text, ""))  # some servers send an empty finish reason in every event
        assert not events.done
        assert not events.finished
    events.feed(event("", "stop"))
    assert (events.done, events.finished) == (False, True)
    two = Events(choices=2)
    two.feed(event("", "stop", 0) + event("", "stop", 0))
    assert not two.finished
    two.feed(event("", "length", 1))
    assert two.finished
    two.feed(b"data:[DONE]\n\n")
    assert two.done


def test_a_large_event_in_small_parts_takes_no_longer():
    events, start = Events(), time.process_time()
    for _ in range(4096):
        assert events.feed(b"x" * 2048) == b""
    assert len(events.feed(b"\n\n")) == 4096 * 2048 + 2
    assert time.process_time() - start < 1.0


def test_a_breaker_opens_lets_one_try_and_closes(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("p2l_sdk.serve.gateway.breaker.time.monotonic", lambda: now[0])
    breaker = Breaker(failures=2, seconds=10)
    breaker.failed()
    assert breaker.wait() == 0
    breaker.failed()
    assert breaker.wait() == 10
    now[0] += 10
    assert breaker.wait() == 0
    breaker.enter()
    assert breaker.wait() == 10  # others wait for the outcome of the trial
    breaker.succeeded()
    assert breaker.wait() == 0
    breaker.failed(retry_after=3600)
    assert breaker.wait() == 10  # no upstream is paused for an hour
    now[0] += 10
    breaker.failed(retry_after=2)
    assert breaker.wait() == 10


def test_a_request_that_tells_nothing_keeps_nobody_waiting(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("p2l_sdk.serve.gateway.breaker.time.monotonic", lambda: now[0])
    breaker = Breaker(failures=1, seconds=10)
    before = breaker.enter()
    breaker.failed()
    breaker.release(before)  # not a trial: it was in flight when the others failed
    assert breaker.wait() == 10
    now[0] += 10
    trial = breaker.enter()
    breaker.release(trial)
    assert breaker.wait() == 0
    now[0] += 1
    breaker.failed()
    breaker.release(trial)  # a failure in the meantime outweighs the trial
    assert breaker.wait() == 10


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("1.5", 1.5), ("-3", 0), (timedelta(seconds=90), 89), (timedelta(-1), 0), ("", None), ("inf", None),
     ("soon", None), ("Mon, 99 Foo 9999999999 00:00:00 GMT", None)],
)  # fmt: skip
def test_how_long_an_upstream_wants_to_rest(value, seconds):
    if isinstance(value, timedelta):
        value = format_datetime(datetime.now(UTC) + value, usegmt=True)
    error = UpstreamError.of(httpx.Response(429, headers={"Retry-After": value}))
    assert error.retry_after == (None if seconds is None else pytest.approx(seconds, abs=2 if seconds > 60 else 0))


def test_a_key_says_what_is_left_of_its_budget():
    key = Key("team-docs", b"", 0.00125)
    for _ in range(11):
        key.record(0.0001)
    key.require(0.00015)
    left = r"the key 'team-docs' has \$0.00015 left of its budget of \$0.00125, and this needs up to \$0.0009; send a"
    with pytest.raises(OutOfBudget, match=left):
        key.require(3 * 0.0003)
    key.record(0.00015)
    with pytest.raises(OutOfBudget, match=r"the budget of \$0.00125 of the key 'team-docs' is spent$"):
        key.require(0.0009)


def test_a_charge_is_settled_once():
    key, pacer = Key("a", b"", 1.0), BudgetPacer([0.1, 0.4], 0.2)
    charge = Charge(0.4, key, pacer)
    assert (key.spent, pacer.spent, pacer.n) == (0.4, 0.4, 1)
    charge.settle(0.1)
    charge.settle(0.3)
    charge.settle(None)
    assert (key.spent, pacer.spent, pacer.n) == pytest.approx((0.1, 0.1, 1))
    Charge(0.4, key, pacer).settle(None)
    assert (key.spent, pacer.spent, pacer.n) == pytest.approx((0.1, 0.1, 1))


def test_a_mean_budget_holds_within_one_per_cent_over_ten_thousand_requests(default):
    """The router's own choice and charge, 200 requests under way at a time, one in five without an answer, answers
    whose true cost is not the expected one, and some by the next LLM of the ranking."""
    budget, rng = 0.0004, random.Random(0)
    chooser = Chooser(GatewayConfig.from_dict({**MODELS, "mean_budget": budget}), default)
    kinds = ["Prove that {} is odd", "Who wrote book {}?", "Write a function that adds {}", "Which organ is no. {}?"]
    boards = default.leaderboards([kind.format(i) for i in range(25) for kind in kinds])
    under_way: list[tuple[Charge, float]] = []
    paid: list[float] = []

    def settle() -> None:
        charge, cost = under_way.pop(rng.randrange(len(under_way)))
        if rng.random() < 0.2:
            charge.settle(None)
        else:
            paid.append(cost)
            charge.settle(cost)

    while len(paid) < 10_000:
        choice = chooser.routed(rng.choice(boards), rng.choice(["p2l", "p2l-best"]), None)
        name = rng.choices(choice.ranking[:2], (0.9, 0.1)[: len(choice.ranking)])[0]
        charge = Charge(chooser.costs[choice.ranking[0]], choice.pacer)
        under_way.append((charge, chooser.costs[name] * rng.uniform(0.5, 1.5)))
        if len(under_way) == 200:
            settle()
    assert sum(paid) / len(paid) == pytest.approx(budget, rel=0.01)
    while under_way:
        settle()
    assert chooser.pacer.n == len(paid)
    assert chooser.pacer.spent == pytest.approx(sum(paid))


def test_no_redirects_and_no_proxies_of_the_environment(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    async def look() -> None:
        async with create_client() as client:
            assert not client.follow_redirects
            assert not client.trust_env
            assert not client._mounts  # httpx stores proxies here
        async with create_client(trust_env=True) as client:
            assert client._mounts

    asyncio.run(look())


def test_pools_that_only_a_burst_used_keep_no_connections():
    async def ask(url: str, n: int, client: httpx.AsyncClient) -> list[int]:
        body = {"model": "x", "messages": [{"role": "user", "content": "hi"}]}
        replies = await asyncio.gather(*(client.post(f"{url}/chat/completions", json=body) for _ in range(n)))
        return [reply.status_code for reply in replies]

    async def burst(upstreams: Upstreams) -> None:
        transport = SpreadTransport(httpx.Limits(keepalive_expiry=0.2), pools=3)
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            assert await ask(upstreams.url("x"), 12, client) == [200] * 12
            assert upstreams.accepted >= 3
            give_up = time.monotonic() + 3
            while upstreams.open:
                assert time.monotonic() < give_up, f"{upstreams.open} connections stay open"
                await asyncio.sleep(0.02)
            assert await ask(upstreams.url("x"), 1, client) == [200]

    with Upstreams() as upstreams:
        asyncio.run(burst(upstreams))


def p2l(*arguments) -> None:
    """Run a p2l command in this process."""
    from p2l_sdk.cli import cli

    cli([str(argument) for argument in arguments], standalone_mode=False)


def test_the_example_is_in_the_docs_and_ready_to_serve(monkeypatch, capsys):
    example, page = ROOT / "examples" / "router.yaml", (ROOT / "docs" / "router.md").read_text()
    assert f"```yaml\n{example.read_text()}```" in page
    monkeypatch.setenv("HF_TOKEN", "hf-x")
    monkeypatch.setenv("NVIDIA_API_KEY", "nv-x")
    p2l("serve", "--check", example)
    out = capsys.readouterr().out.replace(str(example), "examples/router.yaml")
    assert f"$ p2l serve --check examples/router.yaml\n{out}$ p2l serve --config" in page
    monkeypatch.delenv("NVIDIA_API_KEY")
    with pytest.raises(P2LError, match=r"router\.yaml: these environment variables are not set: NVIDIA_API_KEY"):
        p2l("serve", "--check", example)
    with pytest.raises(P2LError, match="these environment variables are not set: NVIDIA_API_KEY"):
        p2l("serve", "--config", example)  # which would serve it


def test_the_check_says_what_is_unknown(tmp_path, capsys):
    path = tmp_path / "router.yaml"
    path.write_text(
        json.dumps(
            {"budget": 0.00001, "models": {CHEAP: LLM, **{name: {**LLM, "cost": 1} for name in ("new-llm", "gemma2")}}}
        )
    )
    with pytest.raises(BudgetError, match=r"the cheapest feasible budget is \$0.0001"):
        p2l("serve", "--check", path)
    said = capsys.readouterr().out
    assert "new-llm: by name only: the P2L model does not know it, $1 per response" in said
    assert f"gemma2: by name only: the P2L model does not know it (did you mean {CHEAP!r}?), $1 per" in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_no_address_but_this_machine_without_a_key(host, monkeypatch):
    monkeypatch.delenv("P2L_API_KEYS", raising=False)
    with pytest.raises(P2LError, match=f"the address {host} can be reached from outside, and there is no API key; set"):
        p2l("serve", "--host", host)


def test_the_command_sets_the_limits_and_without_keys_answers_to_this_machine_only(default, tmp_path, monkeypatch):
    asked = []

    class Server:
        """A stand-in for uvicorn's server, without sockets."""

        def __init__(self, app):
            self.app = app

        async def serve(self):
            transport = httpx.ASGITransport(self.app)
            for host in ("localhost", "evil.example"):
                async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                    asked.append(await client.get("/v1/p2l/models"))

    monkeypatch.setattr("uvicorn.Config", lambda app, **_: app)
    monkeypatch.setattr("uvicorn.Server", Server)
    monkeypatch.setattr("gc.freeze", lambda: None)
    monkeypatch.delenv("P2L_API_KEYS", raising=False)
    p2l("serve", "--port", 0, "--max-prompts", 7, "--max-body-mb", 2)
    assert [reply.status_code for reply in asked] == [200, 403]
    assert asked[0].json()["limits"] == {"max_prompts": 7, "max_body_bytes": 2 * 2**20}
    path = tmp_path / "router.yaml"
    path.write_text(json.dumps({"models": {CHEAP: {**LLM, "cost": 0.00005}, "new-llm": {**LLM, "cost": 1}}}))
    p2l("serve", "--port", 0, "--config", path)
    rows = asked[2].json()["models"]  # as seen by the page, and by clients that only ask for a route
    assert [row for row in rows if row["routed"]] == [{"model": CHEAP, "cost": 0.00005, "routed": True}]
    assert {row["model"]: row["cost"] for row in rows} == {**default.costs, CHEAP: 0.00005}
    monkeypatch.setenv("P2L_API_KEYS", "sk-0123456789abcdef")
    p2l("serve", "--port", 0)
    assert [reply.status_code for reply in asked[4:]] == [401, 401]


def test_where_it_cannot_listen_it_says_so_before_it_starts(monkeypatch):
    monkeypatch.setenv("P2L_API_KEYS", "sk-0123456789abcdef")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(P2LError, match=f"port {port} at 127.0.0.1 is in use; .* choose another with --port"):
            p2l("serve", "--port", port)
    for host in ("192.0.2.1", "no.such.host.invalid"):  # reserved for documentation, and nonexistent
        with pytest.raises(P2LError, match=f"{host} is no address of this machine; give one with --host"):
            p2l("serve", "--host", host, "--port", 0)
    require_address("localhost", port)  # the port is free again


def test_a_place_for_keys_without_a_key_is_no_open_server(tmp_path, monkeypatch):
    file = tmp_path / "keys"
    monkeypatch.delenv("P2L_API_KEYS", raising=False)
    for text in ("", "\n", "# sk-0123456789abcdef\n"):
        file.write_text(text)
        with pytest.raises(P2LError, match=r"there is no API key in .*keys, so anybody could call the server; write"):
            Keys.load(file)
    with pytest.raises(P2LError, match="there is no API key in "):
        p2l("serve", "--api-keys", file)  # which would serve
    assert len(Keys.load()) == 0  # no keys configured
    for text in (",", " ", "#", ""):  # a compose file turns an unset variable into the empty string
        monkeypatch.setenv("P2L_API_KEYS", text)
        with pytest.raises(P2LError, match="there is no API key in P2L_API_KEYS, so anybody"):
            Keys.load()
    with pytest.raises(P2LError, match="keys or P2L_API_KEYS, so anybody"):
        Keys.load(file)
    file.write_text("sk-0123456789abcdef")
    assert len(Keys.load(file)) == 1
    with pytest.raises(P2LError, match=r"there is no API key in P2L_API_KEYS, .* or leave it out"):
        p2l("serve")  # which would serve
