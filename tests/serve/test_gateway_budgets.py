"""A key's budget is a bound: attacks on it, against LLMs that keep their own books."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from billing_fixtures import BUDGET, PRICES, ask, many
from billing_llm import WINDOW, BillingLLMs
from gateway_llms import CHEAP, DEAR, HELLO, TEAM, ranking
from gateway_server import eventually

from p2l_sdk.errors import P2LError
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.llm import MAX_TOKENS

pytest_plugins = ["billing_fixtures"]
LONG = [{"role": "user", "content": "Prove it. " * 40_000}]
IMAGE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 200_000}}]
VIDEO = [{"type": "video_url", "video_url": {"url": "https://x.example/v"}}, {"type": "text", "text": "hi"}]
CACHED = [{"type": "text", "text": "x" * 9000, "cache_control": {"type": "ephemeral"}}]
PDF = [{"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}, {"type": "text", "text": "hi"}]
TOOLS = [{"type": "function", "function": {"name": f"f{i}", "description": "d" * 2000}} for i in range(60)]


def fails(kind: str) -> Callable[[BillingLLMs, list[str]], None]:
    """The first choice fails."""
    return lambda llms, ranked: llms.behaviour.update({ranked[0]: kind})


def all_do(kind: str) -> Callable[[BillingLLMs, list[str]], None]:
    return lambda llms, ranked: llms.behaviour.update(dict.fromkeys(ranked, kind))


ATTACKS: dict[str, tuple[list[dict], dict[str, Any]]] = {
    "one long prompt": ([ask(messages=LONG)], {}),
    "long prompts, one after another": ([ask(messages=LONG)] * 6, {"one_by_one": True}),
    "parallel, long answers": ([ask(max_tokens=100_000)] * 60, {}),
    "a null beside a limit": (
        [ask(max_tokens=5, max_completion_tokens=None), ask(max_tokens=None, max_completion_tokens=5)] * 8,
        {name: {"max_tokens_field": field} for name, field in zip(PRICES, MAX_TOKENS * 2, strict=False)},
    ),
    "no limit but null": ([ask(max_completion_tokens=None)] * 8, {}),
    "fields that nobody here knows": ([ask(documents=["word " * 4000])] * 12, {}),
    "a video elsewhere": ([ask(messages=[{"role": "user", "content": VIDEO}])] * 12, {}),
    "answers that are none": ([ask(max_tokens=900)] * 12, {"before": all_do("html"), "one_by_one": True}),
    "reasoning beside the answer": ([ask(max_tokens=900)] * 12, {"before": all_do("beside"), "one_by_one": True}),
    **{
        f"answers with a count of the kind {kind!r}": ([ask(max_tokens=900)] * 40, {"before": all_do(kind)})
        for kind in ("thinks", "unsummed", "byok")
    },
    "prompts that are read and refused": (
        [ask(messages=[{"role": "user", "content": "x" * 9000}], max_tokens=20)] * 12,
        {"before": all_do("filter"), "one_by_one": True},
    ),
    "streams that are counted in parts": (
        [ask(stream=True, max_tokens=50, messages=[{"role": "user", "content": "x" * 9000}])] * 40,
        {"before": all_do("parts")},
    ),
    "a limit of many digits": ([ask(max_tokens=10**400)] * 10, {}),
    "parallel, no limit": ([ask()] * 60, {}),
    "many answers": ([ask(n=100)] * 5, {}),
    "many answers of some length": ([ask(n=50, max_tokens=5000)] * 5, {}),
    "two limits": ([ask(max_tokens=5, max_completion_tokens=100_000)] * 20, {}),
    "the dearest by name": ([ask(model=DEAR, max_tokens=20_000)] * 10, {}),
    "a dear one after a refusal": ([ask(max_tokens=4000)] * 10, {"before": fails("403")}),
    "a dear one after a failure": ([ask(max_tokens=4000)] * 10, {"before": fails("500")}),
    "calls that time out and are billed": ([ask(max_tokens=4000)] * 4, {"before": all_do("silent"), "attempts": 3}),
    "leaving before the answer": ([ask(max_tokens=4000)] * 8, {"before": all_do("silent"), "leave_after": 0.3}),
    "leaving in mid-stream": ([ask(stream=True)] * 12, {"leave_after": 0.4}),
    "streams without asking for a count": ([ask(stream=True, max_tokens=200)] * 12, {}),
    "streams with a refusal to count": (
        [ask(stream=True, stream_options={"include_usage": False}, max_tokens=200)] * 12,
        {},
    ),
    "answers that are not counted": ([ask(max_tokens=3000)] * 12, {"before": all_do("untold"), "one_by_one": True}),
    "counts that cannot be": ([ask(max_tokens=300)] * 12, {"before": all_do("lie"), "one_by_one": True}),
    "large tools": ([ask(tools=TOOLS)] * 12, {}),
    "images": ([ask(messages=[{"role": "user", "content": [*IMAGE, {"type": "text", "text": "hi"}]}])] * 12, {}),
    "streams that are not counted": ([ask(stream=True, max_tokens=200)] * 12, {"before": all_do("untold")}),
    "what is to be kept in a cache": ([ask(messages=[{"role": "user", "content": CACHED}], max_tokens=5)] * 12, {}),
    "a packed file": ([ask(messages=[{"role": "user", "content": PDF}])] * 12, {}),
    "an earlier answer in sound": (
        [ask(messages=[{"role": "assistant", "audio": {"id": "a"}}, *HELLO], max_tokens=5)] * 12,
        {name: {"prices": {"audio_input": 3 * prices[0]}} for name, prices in PRICES.items()},
    ),
    "a prompt that is billed for each of many answers": (
        [ask(messages=[{"role": "user", "content": "x" * 2000}], n=20, max_tokens=5)] * 12,
        {"before": all_do("each")},
    ),
    "tokens that no text shows": (
        [ask(max_tokens=900, ignore_eos=True)] * 12,
        {"before": all_do("blank"), "one_by_one": True},
    ),
    "tokens that no text shows, in streams that are left": (
        [ask(stream=True, max_tokens=900, logit_bias={"9": 100})] * 12,
        {"before": all_do("blank"), "leave_after": 0.5},
    ),
    **{
        f"streams of the kind {kind!r}": (
            [ask(stream=True, max_tokens=100, n=n)] * 12,
            {
                "before": all_do(kind),
                "one_by_one": kind == "withheld",
            },
        )
        for kind, n in (("early", 1), ("custom", 1), ("shares", 8), ("framed", 8), ("withheld", 1))
    },
    "a prompt that is read, and counted, for each choice of a stream": (
        [ask(stream=True, max_tokens=16, n=10, messages=[{"role": "user", "content": "x " * 1000}])] * 40,
        {"before": all_do("shares"), "one_by_one": True},
    ),
    "streams that stall": (
        [ask(stream=True, max_tokens=5000)] * 12,
        {"before": all_do("stall")},
    ),
    "leaving streams that are sent in lumps": (
        [ask(stream=True, max_tokens=5000)] * 12,
        {"before": all_do("stall"), "leave_after": 0.8},
    ),
    "a count that is not asked for in earnest": (
        [ask(stream=True, max_tokens=200, stream_options={"include_usage": "false"})] * 12,
        {},
    ),
    "answers that are accepted": ([ask(max_tokens=900)] * 12, {"before": all_do("202"), "one_by_one": True}),
    "a text that grows in its normal form": (
        [ask(messages=[{"role": "user", "content": "\ufdfa\U0001d160\ufb2c" * 300}], max_tokens=5)] * 12,
        {"before": all_do("normal"), "one_by_one": True},
    ),
    "tools that are written on many lines": (
        [ask(tools=[{"type": "function", "function": {"name": "f", "parameters": {"enum": [1] * 4000}}}], max_tokens=5)]
        * 6,
        {"before": all_do("pretty"), "one_by_one": True},
    ),
    "a limit of a config's own": ([ask()] * 12, {DEAR: {"max_tokens": 15_000}, CHEAP: {"max_tokens": 15_000}}),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_do_not_overspend(name, gateway, llms, routing9):
    bodies, how = ATTACKS[name]
    how = dict(how)
    before, leave, one_by_one = how.pop("before", None), how.pop("leave_after", None), how.pop("one_by_one", False)
    server, key = gateway(**how)
    if before is not None:
        before(llms, ranking(routing9))
    url = f"{server.url}/chat/completions"
    if one_by_one:
        statuses = [status for body in bodies for status in asyncio.run(many(url, [body], leave))]
    else:
        statuses = asyncio.run(many(url, bodies, leave))
    assert set(statuses) <= {0, 200, 400, 429, 502, 504}, statuses
    assert sum(llms.bills.values()) <= BUDGET * 1.01
    eventually(lambda: key.spent <= BUDGET * 1.0001)
    eventually(lambda: key.spent >= sum(llms.bills.values()) * 0.99)  # and nothing was had for nothing
    if 429 in statuses:
        assert 0.0 <= key.spent <= BUDGET * 1.0001


def test_an_answer_is_cut_to_what_the_key_can_pay_and_the_reply_says_so(gateway, llms):
    server, key = gateway(budget=0.01)
    with httpx.Client(headers=TEAM, base_url=server.url) as client:
        reply = client.post("/chat/completions", json=ask(model=DEAR, max_tokens=100_000))
        limit = int(reply.headers["x-p2l-max-tokens"])
        assert reply.status_code == 200
        assert 170 < limit < 200  # 128 + 16 tokens for a template cost as much as 36 of the answer
        assert llms.bodies[-1]["max_tokens"] == limit
        assert key.spent == pytest.approx(llms.bills[DEAR])
        short = client.post("/chat/completions", json=ask(model=CHEAP, max_completion_tokens=20))
        assert "x-p2l-max-tokens" not in short.headers
        assert llms.bodies[-1]["max_tokens"] == 20  # the name that no upstream passes over
        refused = client.post("/chat/completions", json=ask(model=DEAR, messages=LONG))
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")


def test_an_error_says_that_the_key_could_not_pay_another_try(gateway, llms):
    server, key = gateway(budget=0.01)
    llms.behaviour[CHEAP] = "html"
    reply = httpx.post(f"{server.url}/chat/completions", json=ask(model=CHEAP, max_tokens=9000), headers=TEAM)
    error = reply.json()["error"]
    assert (reply.status_code, len(llms.bodies)) == (502, 2)
    assert error["message"].endswith("; what the key has left does not pay another call")
    assert key.spent == pytest.approx(0.01, rel=0.02)


def test_the_choice_goes_by_what_this_request_costs(gateway, llms):
    server, _ = gateway(budget=100.0)
    with httpx.Client(headers=TEAM, base_url=server.url) as client:
        for messages, cost in ((HELLO, 0.01), (LONG, 0.1)):
            reply = client.post("/chat/completions", json=ask(messages=messages, cost=cost, max_tokens=10))
            assert reply.status_code == 200
            assert float(reply.headers["x-p2l-expected-cost"]) <= cost
        low = client.post("/chat/completions", json=ask(messages=LONG, cost=0.01))
        assert (low.status_code, low.json()["error"]["param"]) == (400, "cost")
        named = client.post("/chat/completions", json=ask(model=DEAR, messages=LONG, cost=0.5))
        assert named.status_code == 400
        assert DEAR in named.json()["error"]["message"]


@pytest.mark.parametrize(
    "field",
    [
        {"Model": DEAR}, {"N": 100}, {"Max_Tokens": 10**6}, {"STREAM": True}, {"me\u017f\u017fages": LONG},
        {"models": [DEAR]}, {"best_of": 20}, {"service_tier": "priority"}, {"provider": {"order": ["x"]}},
        {"max_tokens": "100000"}, {"max_tokens": 1e5}, {"max_tokens": True}, {"max_completion_tokens": -1},
        {"stream_options": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_fields_that_change_the_llm_or_its_price_are_refused(field, gateway, llms):
    server, _ = gateway()
    reply = httpx.post(f"{server.url}/chat/completions", json=ask(**field), headers=TEAM)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == next(iter(field)).casefold()
    assert not llms.bodies


def test_what_the_config_allows_is_passed_on(gateway, llms):
    server, _ = gateway(allow=["service_tier"])
    reply = httpx.post(f"{server.url}/chat/completions", json=ask(service_tier="flex", max_tokens=5), headers=TEAM)
    assert reply.status_code == 200
    assert llms.bodies[-1]["service_tier"] == "flex"


def test_a_count_is_asked_for_and_kept_from_a_client_that_did_not_ask(gateway, llms):
    server, _ = gateway(budget=10.0)
    for options, told in ((None, False), ({"include_usage": True}, True), ({"include_usage": False, "x": 1}, False)):
        body = ask(stream=True, max_tokens=5, **({} if options is None else {"stream_options": options}))
        text = httpx.post(f"{server.url}/chat/completions", json=body, headers=TEAM).text
        assert ('"usage"' in text) is told
        assert text.endswith("data: [DONE]\n\n")
        assert text.count('"x "') == 5
        assert llms.bodies[-1]["stream_options"] == {**(options or {}), "include_usage": True}
    eventually(lambda: len(server.metrics.costs) == 3)
    assert sum(server.metrics.costs) == pytest.approx(sum(llms.bills.values()))


def test_what_a_key_without_budgets_asks_for_does_not_overflow_the_ledger(gateway, llms):
    server, key = gateway(budget=None, attempts=1)
    llms.behaviour[DEAR] = "html"  # which may be billed: 41 million
    body = ask(model=DEAR, n=1024, max_tokens=10**9)
    assert httpx.post(f"{server.url}/chat/completions", json=body, headers=TEAM).status_code == 502
    assert key.spent == 10_000


def test_one_lie_does_not_send_the_pacer_to_the_cheapest(gateway, llms, routing9):
    mean = 0.003
    server, _ = gateway(budget=10.0, mean_budget=mean)
    client = httpx.Client(headers=TEAM, base_url=server.url)

    def chosen() -> str:
        return client.post("/chat/completions", json=ask(max_tokens=40)).headers["x-p2l-model"]

    usual = chosen()
    llms.behaviour.update(dict.fromkeys(PRICES, "lie"))
    chosen()
    llms.behaviour.clear()
    assert usual != CHEAP
    assert [chosen() for _ in range(5)] == [usual] * 5
    client.close()
    assert json.dumps(server.metrics.costs)  # finite numbers
    assert max(server.metrics.costs) < 0.02


def test_where_the_whole_context_is_set_aside_no_template_overspends(gateway, llms):
    """The vendor reads as much as its LLM has room for, whatever the request; the answer is a part of that."""
    llms.behaviour[CHEAP] = "window"
    price = (WINDOW * PRICES[CHEAP][0] + 100 * PRICES[CHEAP][1]) / 1e6
    held = {"context": WINDOW, "set_aside": "context"}
    server, key = gateway(budget=3.5 * price, **{CHEAP: held})
    statuses = asyncio.run(many(f"{server.url}/chat/completions", [ask(model=CHEAP, max_tokens=100)] * 20))
    assert sorted(statuses) == [200] * 3 + [429] * 17
    assert key.spent == pytest.approx(llms.bills[CHEAP])
    assert 2.9 * price < llms.bills[CHEAP] <= key.budget
    poor, _ = gateway(budget=0.04, **{CHEAP: held})
    reply = httpx.post(f"{poor.url}/chat/completions", json=ask(model=CHEAP, max_tokens=100), headers=TEAM)
    says = "all that the LLM can read is set aside, 100,000 tokens); send a lower cost"  # and no shorter prompt
    assert (reply.status_code, says in reply.json()["error"]["message"]) == (429, True)
    server, key = gateway(budget=3.5 * price)  # by the size of the requests, all of them may be called
    asyncio.run(many(f"{server.url}/chat/completions", [ask(model=CHEAP, max_tokens=100)] * 20))
    assert llms.bills[CHEAP] > 2 * key.budget


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"set_aside": "context"}, "set_aside: context needs the setting `context`"),
        ({"set_aside": "all", "context": 1000}, "set_aside is 'all'; it must be size or context"),
        ({"set_aside": "context", "context": 1000, "cost": 0.1}, "set_aside: context needs `prices`"),
        ({"set_aside": "context", "context": 1000, "cost": 0.1, "flat": True}, "set_aside: context needs `prices`"),
    ],
)
def test_what_is_set_aside_has_to_be_known(settings, says):
    with pytest.raises(P2LError, match=says):
        GatewayConfig.from_dict({"models": {"x": {"base_url": "http://x", **settings}}})
