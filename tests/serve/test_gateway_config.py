"""The gateway's settings: legal values, error messages, the choice that they make."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_llms import CHEAP, DEAR, LLM, MIDDLE, MODELS

from p2l_sdk.errors import BudgetError, P2LError, UnknownModelError
from p2l_sdk.routing.mixture import Policy
from p2l_sdk.serve.gateway.catalogue import token_prices
from p2l_sdk.serve.gateway.check import LLMCheck, check
from p2l_sdk.serve.gateway.choice import Chooser
from p2l_sdk.serve.gateway.config import GatewayConfig, costs
from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.prices import Prices


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
        ("models: {a: {base_url: 'http://x', flat: true, prices: {input: 1, output: 1}}}", "give prices or `flat: tr"),
        ("models: {a: {base_url: 'http://x', flat: 1}}", "flat is 1; it must be true or false"),
        ("models: {a: {base_url: 'http://x', bills_errors: most}}", "bills_errors is 'most'; it must be true or false"),
        ("models: {a: {base_url: 'http://x', prices: {input: .nan, output: 1}}}", "input is nan; it must be a number"),
        ("models: {a: {base_url: 'http://x'}}\nallow: [1]", "allow is \\[1\\]; it must be a list of fields"),
    ],
)
def test_a_bad_file_is_refused_with_the_remedy(text, message, tmp_path):
    path = tmp_path / "router.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(P2LError, match=message) as error:
        GatewayConfig.from_yaml(path)
    assert "router.yaml" in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(P2LError, match=r"no such file: .*absent.yaml'"):
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
    assert GatewayConfig.from_dict({**MODELS, "policy": "Strict"}).policy is Policy.STRICT


def test_check_names_what_is_missing(routing9, monkeypatch):
    monkeypatch.delenv("P2L_ABSENT", raising=False)
    monkeypatch.setenv("P2L_PRESENT", "x")
    config = GatewayConfig.from_dict(
        {"models": {
            CHEAP: {**LLM, "api_key_env": "P2L_ABSENT"},
            "new-llm": {**LLM, "api_key_env": "P2L_PRESENT"},
            "other-llm": {**LLM, "cost": 0.1},
        }}
    )  # fmt: skip
    found = check(config, routing9)
    assert found.llms == (
        LLMCheck(CHEAP, LLM["base_url"], routing9.costs[CHEAP], known=True, similar=None),
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
    assert costs(config, routing9) == {CHEAP: routing9.costs[CHEAP], "other-llm": 0.1}
    monkeypatch.setenv("P2L_ABSENT", " \n")
    assert check(config, routing9).missing_keys == ("P2L_ABSENT",)
    monkeypatch.setenv("P2L_ABSENT", "sk-größe")
    with pytest.raises(P2LError, match="the key in P2L_ABSENT holds characters that no header can carry; set it anew"):
        check(config, routing9)
    with pytest.raises(UnknownModelError, match=r"the config names 'gemma-2', .* did you mean 'gemma-2-9b-it'"):
        check(GatewayConfig.from_dict({"models": {"gemma-2": LLM}}), routing9)
    with pytest.raises(UnknownModelError, match="the table of opponents names 'x'"):
        check(GatewayConfig.from_dict({**MODELS, "opponents": {"x": 1}}), routing9)


def test_a_budget_that_no_llm_fits_keeps_the_router_from_starting(routing9):
    for setting in ("budget", "mean_budget"):
        with pytest.raises(BudgetError, match=r"the cheapest feasible budget is \$0.0001"):
            Chooser(GatewayConfig.from_dict({**MODELS, setting: 0.00005}), routing9)


def test_the_policy_and_the_opponents_are_those_of_the_sdk(routing9):
    board = routing9.leaderboard("What is 17 * 23?")
    for policy in ("strict", "best"):
        options = {"policy": policy, "opponents": {CHEAP: 2, DEAR: 1}, "objective": "usable"}
        choice = Chooser(GatewayConfig.from_dict({**MODELS, **options, "budget": 0.0005}), routing9).routed(
            board, "p2l", None
        )
        route = routing9.router(models=[CHEAP, MIDDLE, DEAR], **options).route(board, 0.0005)
        assert list(choice.ranking) == route.ranking
        assert choice.expected_score == route.expected_score
        assert choice.expected_cost == route.expected_cost


def test_the_budget_of_the_config_holds_for_the_best_llm_too(routing9):
    board = routing9.leaderboard("Prove that the square root of two is irrational")
    assert Chooser(GatewayConfig.from_dict(MODELS), routing9).routed(board, "p2l-best", None).ranking[0] == DEAR
    chooser = Chooser(GatewayConfig.from_dict({**MODELS, "budget": 0.0005}), routing9)
    choice = chooser.routed(board, "p2l-best", None)
    assert set(choice.ranking) == {CHEAP, MIDDLE}
    assert choice.expected_cost <= 0.0005
    assert chooser.routed(board, "p2l-best", 0.001).ranking[0] == DEAR  # the client's own budget
    paced = Chooser(GatewayConfig.from_dict({**MODELS, "mean_budget": 0.0005}), routing9)
    assert paced.routed(board, "p2l-best", None).pacer is paced.pacer
    assert paced.routed(board, "p2l-best", 0.001).pacer is None
    assert paced.by_name(DEAR, None).pacer is None  # an LLM that is named is used


def test_a_key_in_place_of_its_variable_is_not_shown():
    with pytest.raises(P2LError, match="api_key_env must be the name of an environment variable") as raised:
        GatewayConfig.from_dict({"models": {"a": {"base_url": "http://x/v1", "api_key_env": "sk-abc 123"}}})
    assert "sk-abc" not in str(raised.value)


def test_token_prices_that_are_known_are_used_where_the_config_gives_none():
    """So that a budget of a key is a bound there."""
    pytest.importorskip("genai_prices")

    def llm(host: str, model: str, **settings: Any) -> LLMConfig:
        entry = {"base_url": f"https://{host}/v1", "upstream_model": model, **settings}
        return GatewayConfig.from_dict({"models": {"a": entry}}).models["a"]

    found = llm("api.openai.com", "gpt-4o-mini")
    assert found.prices == Prices(input=0.15, output=0.6, cached_input=0.075)
    assert llm("api.anthropic.com", "claude-3-5-haiku-20241022").prices.output == 4.0
    deepseek = token_prices("deepseek-chat", "https://api.deepseek.com/v1")  # cheaper by night
    assert (deepseek["input"], deepseek["output"]) == (0.27, 1.1)
    tiers = token_prices("gemini-2.5-pro", "https://generativelanguage.googleapis.com/v1beta/openai")
    assert (tiers["input"], tiers["output"]) == (2.5, 15.0)  # of long prompts
    for own in ({"cost": 0.01}, {"flat": True}, {"prices": {"input": 1, "output": 2}}):
        assert llm("api.openai.com", "gpt-4o-mini", **own).prices in (None, Prices(input=1, output=2))
    for host, model in (("api.openai.com", "no-such-llm"), ("llm.example.com", "gpt-4o-mini"), ("127.0.0.1:1", "x")):
        assert llm(host, model).prices is None


def test_llms_without_a_bound_are_named_with_the_remedy(routing9):
    prices = {"input": 1, "output": 1}
    llms = {CHEAP: LLM, MIDDLE: {**LLM, "flat": True}, DEAR: {**LLM, "prices": prices}}
    [said] = check(GatewayConfig.from_dict({"models": llms}), routing9).warnings
    assert f"budgets of keys are no bound at {CHEAP}: every answer is booked at the same cost" in said
    assert "give it `prices` by the token, or `flat: true` if its cost is the same" in said
    del llms[CHEAP]
    assert check(GatewayConfig.from_dict({"models": llms}), routing9).warnings == []
