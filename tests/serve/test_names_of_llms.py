"""LLMs named as people write them: in a config, its check, the gateway and the API."""

from __future__ import annotations

import json

import httpx
import openai
import pytest
from gateway_llms import CHEAP, DEAR, HELLO, LLM, MIDDLE, PROMPT
from gateway_server import serving
from p2l_server import Running, assert_same

from p2l_sdk.errors import UnknownModelError
from p2l_sdk.serve import Engine, create_app
from p2l_sdk.serve.gateway.check import check
from p2l_sdk.serve.gateway.config import GatewayConfig, costs

pytest_plugins = ["gateway_fixtures"]

OWN = {"gemma2:9b": CHEAP, "Qwen2.5-7B": MIDDLE}
NANO = "nvidia/llama-3.3-nemotron-super-49b-v1"


def named(**settings) -> GatewayConfig:
    """A config in which the first LLM has a cost, the second that of the P2L model."""
    llms = {name: dict(LLM) for name in OWN} | settings.pop("llms", {})
    llms["gemma2:9b"] |= {"cost": 0.00015}
    return GatewayConfig.from_dict({"models": llms, **settings})


def test_the_check_shows_what_was_read(routing9):
    found = check(named(llms={"gpt-9": {**LLM, "cost": 1}}, opponents={"Llama-3.1-8B": 1}), routing9)
    assert [(llm.name, llm.known, llm.own) for llm in found.llms] == [
        ("gemma2:9b", True, CHEAP),
        ("Qwen2.5-7B", True, MIDDLE),
        ("gpt-9", False, None),
    ]
    assert found.matched == OWN
    assert found.unknown == ("gpt-9",)
    assert costs(named(), routing9) == {"gemma2:9b": 0.00015, "Qwen2.5-7B": routing9.costs[MIDDLE]}


def test_the_command_says_it(tmp_path, capsys, monkeypatch):
    from p2l_sdk.cli import cli

    path = tmp_path / "router.yaml"
    path.write_text(json.dumps({"models": {**{name: {**LLM, "cost": 1} for name in (*OWN, "gpt-9")}}}))
    cli(["serve", "--model", "routing9", "--check", str(path)], standalone_mode=False)
    out = capsys.readouterr().out
    assert f"gemma2:9b: routed as {CHEAP}, $1 per response" in out
    assert "gpt-9: by name only: the P2L model does not know it, " in out
    assert "an LLM that the P2L model does not know: is it not there at all? docs/no-votes.md" in out
    monkeypatch.setattr("p2l_sdk.serve.run.run_server", lambda *_: None)
    cli(["serve", "--model", "routing9", "--config", str(path)], standalone_mode=False)
    assert f"p2l: gemma2:9b is read as {CHEAP}, Qwen2.5-7B as {MIDDLE}\n" in capsys.readouterr().err


def test_an_ambiguous_name_is_not_routed_to(saved):
    from p2l_sdk import P2L
    from p2l_sdk.cli.serve import _by_name

    p2l = P2L.from_pretrained(saved("static", models=("a-2024-01-01", "a-2024-02-02", "b"), costs={"b": 1.0}))
    found = check(GatewayConfig.from_dict({"models": {"a": {**LLM, "cost": 1}, "b": LLM}}), p2l)
    assert [(llm.known, llm.candidates) for llm in found.llms] == [
        (False, ("a-2024-01-01", "a-2024-02-02")),
        (True, ()),
    ]
    assert _by_name(found.llms[0]) == "by name only: it may be a-2024-01-01 or a-2024-02-02; name one of them"
    assert found.warnings[0] == "a is never routed to, as it may be a-2024-01-01 or a-2024-02-02; name one of them"
    with pytest.raises(
        UnknownModelError, match="the config names 'a', which may be a-2024-01-01 or a-2024-02-02; name"
    ):
        check(GatewayConfig.from_dict({"models": {"a": LLM}}), p2l)
    with pytest.raises(UnknownModelError, match="the table of opponents names 'a', which may be"):
        check(GatewayConfig.from_dict({"models": {"b": LLM}, "opponents": {"a": 1}}), p2l)


def test_clients_and_upstreams_see_the_names_of_the_config(routing9, upstreams):
    llms = {
        name: {"base_url": upstreams.url(name), "cost": cost} for name, cost in zip(OWN, (0.0001, 0.0002), strict=True)
    }
    llms |= {f"Super-{i}": {"base_url": upstreams.url(f"s{i}"), "cost": 9.0} for i in range(2)}  # unknown: by name only
    config = GatewayConfig.from_dict({"models": llms, "opponents": {"Llama-3.1-8B": 1.0}})
    best = routing9.route(PROMPT, models=list(OWN), opponents={"llama-3.1-8b-instruct": 1.0})
    with (
        serving(routing9, config) as server,
        openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client,
    ):
        assert [model.id for model in client.models.list()] == ["p2l", "p2l-best", *llms]
        reply = client.chat.completions.with_raw_response.create(model="p2l", messages=HELLO)
        assert reply.headers["x-p2l-model"] == best.model
        assert float(reply.headers["x-p2l-expected-score"]) == pytest.approx(best.expected_score, abs=1e-5)
        assert reply.parse().model == best.model  # what the upstream was asked for
        budget = client.chat.completions.with_raw_response.create(
            model="p2l", messages=HELLO, extra_body={"cost": 0.0001}
        )
        assert budget.headers["x-p2l-model"] == "gemma2:9b"
        assert server.metrics.choices.keys() <= OWN.keys()


def test_one_llm_behind_two_addresses(routing9, upstreams):
    """The cheaper address is called, and if it fails the other one."""
    places = {NANO: 0.0009, "llama-3.3-nemotron-super-49b": 0.0004}
    llms = {name: {"base_url": upstreams.url(f"place{i}"), "cost": places[name]} for i, name in enumerate(places)}
    config = GatewayConfig.from_dict({"models": llms, "backoff": 0.01, "budget": 0.0009})
    upstreams.reset()
    upstreams.always["place1"] = "500"
    with serving(routing9, config) as server:
        reply = httpx.post(f"{server.url}/chat/completions", json={"model": "p2l", "messages": HELLO, "cost": 0.0009})
        assert reply.status_code == 200, reply.text
        assert reply.headers["x-p2l-model"] == NANO
        assert [seen.llm for seen in upstreams.seen] == ["place1", "place0"]
    upstreams.reset()


def test_routes_over_the_api(routing9):
    with Running(create_app(Engine(routing9), routed=list(OWN))) as server:
        rows = server.ask("/v1/p2l/models")[1]["models"]
        assert {row["model"] for row in rows if row["routed"]} == set(OWN.values())
        for options in ({}, {"models": ["google/gemma-2-9b-it", NANO], "costs": {NANO: 0.00001}, "cost": 0.00002}):
            _, answer, _ = server.ask("/v1/route", {"prompt": PROMPT, "seed": 0, **options})
            expected = routing9.route(PROMPT, seed=0, **{"models": list(OWN), **options})
            assert_same(answer, expected.to_dict())
            assert answer["model"] in (options.get("models") or OWN)
        assert answer["matched"] == {"google/gemma-2-9b-it": CHEAP, NANO: DEAR}
        # the names that clients make up do not fill the metrics
        counted = {row["model"]: row["routes"] for row in server.ask("/v1/p2l/traffic")[1]["traffic"]}
        assert counted == {routing9.route(PROMPT, models=list(OWN)).model: 1, DEAR: 1}
        status, answer, _ = server.ask("/v1/route", {"prompt": PROMPT, "models": ["gpt-9"]})
        assert status == 400
        assert "names 'gpt-9', which this model does not know" in answer["error"]["message"]
