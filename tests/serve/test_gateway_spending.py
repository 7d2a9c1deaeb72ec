"""What the requests of the gateway cost: keys, prices, charges, the mean budget."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from typing import Any

import httpx
import openai
import pytest
from gateway_llms import CHEAP, HELLO, LLM, MODELS, TEAM, config, team
from gateway_server import eventually, serving

from p2l_sdk.routing.pacing import BudgetPacer
from p2l_sdk.serve.auth import Key, Keys
from p2l_sdk.serve.gateway import record
from p2l_sdk.serve.gateway.choice import Chooser
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.quote import Quote
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.spend import Charge

pytest_plugins = ["gateway_fixtures"]


def test_keys_and_their_budgets(routing9, upstreams, monkeypatch, tmp_path):
    upstreams.reset()
    (tmp_path / "keys").write_text("# ours\nsk-team-a-0123456789 team-a\nsk-team-b-0123456789 team-b 0.00025\n")
    monkeypatch.setenv("P2L_API_KEYS", "sk-environment-0123456789")
    keys = Keys.load(tmp_path / "keys")
    with serving(routing9, config(upstreams, budget=0.0001), keys) as running:

        def ask(key):
            with openai.OpenAI(base_url=running.url, api_key=key, max_retries=0) as client:
                return client.chat.completions.create(model="p2l", messages=HELLO)

        for key in ("sk-team-a-0123456789", "sk-environment-0123456789"):
            assert ask(key).model == f"up/{CHEAP}"
        for wrong in ("sk-team-a-012345678", "sk-team-a-0123456789x", "x"):
            with pytest.raises(openai.AuthenticationError, match="this server needs an API key"):
                ask(wrong)
        assert httpx.get(f"{running.url}/models").status_code == 401
        seen = len(upstreams.seen)
        upstreams.script[CHEAP] = ["500", "ok"]  # failed calls cost nothing
        for _ in range(2):
            ask("sk-team-b-0123456789")
        with pytest.raises(openai.RateLimitError, match=r"'team-b' has \$0.00005 left of its budget of \$0.00025"):
            ask("sk-team-b-0123456789")
        assert len(upstreams.seen) == seen + 3
        assert "sk-team" not in repr(keys.find("sk-team-b-0123456789"))


def test_prices_by_the_token(routing9, upstreams):
    upstreams.reset()
    prices = {"input": 10, "output": 20, "input_tokens": 100, "output_tokens": 50}
    with serving(routing9, config(upstreams, llms={CHEAP: {"prices": prices}})) as running:
        ask = {"model": CHEAP, "messages": HELLO}
        reply = httpx.post(f"{running.url}/chat/completions", json=ask)
        read = len(HELLO[0]["content"]) / 4
        assert float(reply.headers["x-p2l-expected-cost"]) == pytest.approx((10 * read + 20 * 50) / 1e6, rel=1e-5)
        usage = {"stream": True, "stream_options": {"include_usage": True}}
        httpx.post(f"{running.url}/chat/completions", json={**ask, **usage})
        httpx.post(f"{running.url}/chat/completions", json={**ask, "stream": True})
        eventually(lambda: len(running.metrics.costs) == 3)
        assert running.metrics.costs == pytest.approx([0.0002] * 3)  # all are counted, whether the client asks or not


def test_each_of_several_answers_costs(routing9, upstreams):
    upstreams.reset()
    keys, key = team(0.0005)
    ask = {"model": CHEAP, "messages": HELLO}
    with serving(routing9, config(upstreams), keys) as running, httpx.Client(headers=TEAM) as client:
        assert client.post(f"{running.url}/chat/completions", json={**ask, "n": 3}).status_code == 200
        assert key.spent == pytest.approx(0.0003)
        eventually(lambda: running.metrics.costs == pytest.approx([0.0003]))
        reply = client.post(f"{running.url}/chat/completions", json={**ask, "n": 3})
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "insufficient_quota")
        for n in ("3", 3.0, 0):  # an upstream may parse it as a number
            reply = client.post(f"{running.url}/chat/completions", json={**ask, "n": n})
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, "n")
        assert key.spent == pytest.approx(0.0003)
        assert len(upstreams.seen) == 1


def test_a_call_that_a_client_left_is_paid(routing9, upstreams):
    upstreams.reset()
    upstreams.script[CHEAP] = ["stall"]
    keys, key = team(1.0)
    with serving(routing9, config(upstreams), keys) as running:
        with httpx.Client(timeout=1.0, headers=TEAM) as client, pytest.raises(httpx.ReadTimeout):
            client.post(f"{running.url}/chat/completions", json={"model": CHEAP, "messages": HELLO, "n": 2})
        eventually(lambda: upstreams.hung_up == [CHEAP])
        eventually(lambda: running.metrics.slowest > 0)  # the request has ended
        assert key.spent == pytest.approx(0.0002)
        upstreams.always[CHEAP] = "500"  # a failed call is not charged
        httpx.post(f"{running.url}/chat/completions", json={"model": CHEAP, "messages": HELLO}, headers=TEAM)
        assert key.spent == pytest.approx(0.0002)


def test_a_stream_without_a_count_costs_by_its_text(routing9, upstreams, monkeypatch):
    upstreams.reset()
    monkeypatch.setattr(record, "_COUNT_SECONDS", 0.5)
    llm = {"prices": {"input": 10, "output": 20, "output_tokens": 1}, "stream_usage": False}
    ask = {"model": CHEAP, "messages": HELLO, "stream": True}
    read = len(HELLO[0]["content"]) / 4 * 10e-6
    keys, key = team(1.0)
    with serving(routing9, config(upstreams, llms={CHEAP: llm}), keys) as running:
        url = f"{running.url}/chat/completions"
        with openai.OpenAI(base_url=running.url, api_key="sk-team-0123456789", max_retries=0) as client:
            events = list(client.chat.completions.create(**ask))
        written = len("".join(choice.delta.content or "" for event in events for choice in event.choices))
        assert written > 40
        eventually(lambda: len(running.metrics.costs) == 1)
        assert running.metrics.costs[0] >= read * 0.9 + written / 4 * 20e-6
        assert running.metrics.costs[0] <= read * 1.1 + written * 20e-6  # no token is shorter than a byte
        upstreams.script[CHEAP] = ["endless"]
        with httpx.Client(headers=TEAM) as client, client.stream("POST", url, json=ask) as reply:
            parts = reply.iter_text()
            got = "".join(next(parts) for _ in range(20))  # then the client leaves
        said = sum(len(text) for text in re.findall(r'"content": "([^"]*)"', got))
        eventually(lambda: len(running.metrics.costs) == 2)
        assert said > 100
        assert running.metrics.costs[1] >= read + said / 4 * 20e-6 - 1e-9
        # nobody counted: the key pays the most that it can have been, with 8,192 tokens of answer each
        most = 2 * (10 * (len(json.dumps(HELLO, separators=(",", ":"))) + 128 + 16) + 20 * 8192) / 1e6
        assert key.spent == pytest.approx(most, rel=0.001)


def charge_of(cost: float, **accounts: Any) -> Charge:
    """The charge of a request to an LLM that costs so much per response."""
    body = json.dumps({"model": "p2l", "messages": HELLO}).encode()
    return Charge(ChatRequest.parse(body), {"x": Quote(cost, cost)}, "x", **accounts)


def test_a_charge_is_settled_once():
    key, pacer = Key("a", b"", 1.0), BudgetPacer([0.1, 0.4], 0.2)
    charge = charge_of(0.4, pacer=pacer, key=key)
    asyncio.run(charge.admit(LLMConfig(name="x", **LLM), ()))
    assert (key.spent, pacer.spent, pacer.n) == (0.4, 0.4, 1)
    charge.settle(0.1)
    charge.settle(0.3)
    charge.settle(None)
    assert (key.spent, pacer.spent, pacer.n) == pytest.approx((0.1, 0.1, 1))
    charge_of(0.4, pacer=pacer, key=key).settle(None)
    assert (key.spent, pacer.spent, pacer.n) == pytest.approx((0.1, 0.1, 1))


def test_each_call_of_a_request_is_paid_from_the_day_on_which_it_begins(monkeypatch):
    key, midnight = Key("a", b"", daily=1.0), 20_000 * 86_400.0
    charge, llm = charge_of(0.4, key=key), LLMConfig(name="x", **LLM)

    async def called_again_after_midnight() -> None:
        monkeypatch.setattr(time, "time", lambda: midnight - 1)
        await charge.require(["x"])
        await charge.admit(llm, ())  # fails, and costs nothing
        monkeypatch.setattr(time, "time", lambda: midnight + 1)
        await charge.admit(llm, ())

    asyncio.run(called_again_after_midnight())
    charge.settle(0.3)
    assert key.ledger.spent(key.account).today == 0.3
    monkeypatch.setattr(time, "time", lambda: midnight - 1)
    assert key.ledger.spent(key.account).today == 0.0


@pytest.mark.long
def test_a_mean_budget_holds_within_one_per_cent_over_ten_thousand_requests(routing9):
    """The gateway's own choice and charge, 200 requests under way at a time, one in five without an answer, answers
    whose true cost is not the expected one, and some by the next LLM of the ranking."""
    budget, rng = 0.0004, random.Random(0)
    chooser = Chooser(GatewayConfig.from_dict({**MODELS, "mean_budget": budget}), routing9)
    kinds = ["Prove that {} is odd", "Who wrote book {}?", "Write a function that adds {}", "Which organ is no. {}?"]
    boards = routing9.leaderboards([kind.format(i) for i in range(25) for kind in kinds])
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
        charge = charge_of(chooser.costs[choice.ranking[0]], pacer=choice.pacer)
        under_way.append((charge, chooser.costs[name] * rng.uniform(0.5, 1.5)))
        if len(under_way) == 200:
            settle()
    assert sum(paid) / len(paid) == pytest.approx(budget, rel=0.01)
    while under_way:
        settle()
    assert chooser.pacer.n == len(paid)
    assert chooser.pacer.spent == pytest.approx(sum(paid))
