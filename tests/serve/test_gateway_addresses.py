"""Several addresses of one LLM: they share its calls, stand in for each other, and have breakers of their own."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest
from gateway_llms import CHEAP, DEAR, HELLO, LLM, MIDDLE, SECRET, config, ranking
from gateway_server import eventually, serving
from upstreams import closed_port

from p2l_sdk.errors import P2LError
from p2l_sdk.serve.gateway.check import check
from p2l_sdk.serve.gateway.config import GatewayConfig

pytest_plugins = ["gateway_fixtures"]


def several(upstreams, addresses, **settings):
    """A config whose cheapest LLM has these addresses."""
    places = [{"base_url": upstreams.url(name), **more} for name, more in addresses.items()]
    return config(upstreams, llms={CHEAP: {"addresses": places, "upstream_model": "same"}}, **settings)


@pytest.fixture
def ask(upstreams):
    upstreams.reset()
    with httpx.Client() as client:
        yield lambda running, model=CHEAP, **more: client.post(
            f"{running.url}/chat/completions", json={"model": model, "messages": HELLO, **more}
        )


def test_calls_are_shared_by_weight(routing9, upstreams, ask):
    with serving(routing9, several(upstreams, {"a": {"weight": 3}, "b": {}, "reserve": {"weight": 0}})) as running:
        for _ in range(200):
            assert ask(running).headers["x-p2l-model"] == CHEAP
    calls = Counter(seen.llm for seen in upstreams.seen)
    assert calls["reserve"] == 0
    assert 120 < calls["a"] < 180
    assert calls["a"] + calls["b"] == 200
    assert running.metrics.choices == {CHEAP: 200}


@pytest.mark.parametrize("fault", ["500", "reset", "429", "401", "400", "404", "html"])
@pytest.mark.parametrize("stream", [False, True])
def test_another_address_stands_in_before_another_llm(routing9, upstreams, ask, fault, stream):
    upstreams.always.update({"a": fault, "b": fault})
    with serving(routing9, several(upstreams, {"a": {"weight": 9}, "b": {}, "c": {"weight": 0}})) as running:
        reply = ask(running, "p2l", cost=0.0001, stream=stream)
        assert (reply.status_code, reply.headers["x-p2l-model"], reply.headers["x-p2l-probability"]) == (
            200,
            CHEAP,
            "1",
        )
        assert sorted(seen.llm for seen in upstreams.seen) == ["a", "b", "c"]
        assert {llm for llm, _ in running.metrics.errors} == {CHEAP}


def test_all_addresses_of_an_llm_are_one_attempt(routing9, upstreams, ask, caplog):
    first, second, _ = ranking(routing9)
    down = [{"base_url": f"http://127.0.0.1:{closed_port()}/v1"} for _ in range(3)]
    with serving(routing9, config(upstreams, llms={first: {"addresses": down}}, attempts=2)) as running:
        caplog.set_level("INFO", "p2l_sdk.serve.gateway.chat")
        assert ask(running, "p2l").headers["x-p2l-model"] == second
        assert running.metrics.errors == {(first, "connection"): 3}
        eventually(lambda: all(f"{first}#{i}:connection" in caplog.text for i in (1, 2, 3)))
        upstreams.always.update({second: "500", CHEAP: "500"})
        error = ask(running, "p2l").json()["error"]["message"]
        assert f"{first}#2 could not be reached" in error
        assert CHEAP not in error


def test_each_address_has_its_breaker(routing9, upstreams, ask):
    upstreams.always["a"] = "500"
    settings = several(upstreams, {"a": {"weight": 1e9}, "b": {"weight": 1e-9}}, breaker_failures=3)
    with serving(routing9, settings) as running:
        for _ in range(10):
            assert ask(running).status_code == 200
        calls = Counter(seen.llm for seen in upstreams.seen)
        assert calls == {"a": 3, "b": 10}
        upstreams.always["b"] = "500"
        assert [ask(running).status_code for _ in range(2)] == [502, 503]


def test_if_all_addresses_refuse_the_first_refusal_is_the_answer(routing9, upstreams, ask):
    upstreams.always.update({"a": "400", "b": "422", DEAR: "400", MIDDLE: "400"})
    with serving(routing9, several(upstreams, {"a": {"weight": 1e9}, "b": {"weight": 1e-9}})) as running:
        assert ask(running).status_code == 400
        assert [seen.llm for seen in upstreams.seen] == ["a", "b"]
        upstreams.seen.clear()
        assert ask(running, "p2l").status_code == 400
        assert len(upstreams.seen) == 4


def test_each_address_has_its_key_and_its_name_of_the_llm(routing9, upstreams, ask, monkeypatch):
    monkeypatch.setenv("P2L_OTHER_KEY", "sk-other-0123456789")
    addresses = {
        "own": {"api_key_env": "P2L_OTHER_KEY", "upstream_model": "own-name"},
        "header": {"api_key_env": "P2L_OTHER_KEY", "api_key_header": "api-key"},
        "bare": {},
    }
    seen = {}
    for name in addresses:
        with serving(routing9, several(upstreams, {name: addresses[name]})) as running:
            assert ask(running).status_code == 200
            seen[name] = upstreams.seen[-1]
    assert (seen["own"].headers["authorization"], seen["own"].body["model"]) == (
        "Bearer sk-other-0123456789", "own-name"
    )  # fmt: skip
    assert (seen["header"].headers["api-key"], seen["header"].body["model"]) == ("sk-other-0123456789", "same")
    assert SECRET not in str(seen["bare"].headers)  # the LLM's key was written for the LLM's own base_url


def test_what_addresses_inherit():
    def places(**llm):
        return GatewayConfig.from_dict({"models": {CHEAP: llm}}).models[CHEAP].places

    one, other = places(base_url="http://a/v1", api_key_env="A", addresses=[{}, {"api_key_env": "B", "weight": 2}])
    assert (one.base_url, one.api_key_env, other.base_url, other.api_key_env) == (
        "http://a/v1",
        "A",
        "http://a/v1",
        "B",
    )
    one, other = places(api_key_env="A", addresses=[{"base_url": "http://b/v1"}, {"base_url": "http://c/v1"}])
    assert (one.api_key_env, other.api_key_env) == ("A", "A")  # there is no other base_url that it could be for
    assert (one.model, one.addresses) == (CHEAP, ())
    assert places(base_url="http://a/v1")[0].base_url == "http://a/v1"


@pytest.mark.parametrize(
    ("llm", "message"),
    [
        ({"addresses": []}, "addresses must be a list with one entry for each address"),
        ({"addresses": "http://a"}, "addresses must be a list"),
        ({"addresses": ["http://a"]}, "each entry of addresses must be a section"),
        ({"addresses": [{"base_url": "http://a"}, {}]}, "'base_url' is missing"),
        ({"addresses": [{"base_url": "http://a", "wieght": 2}]}, "'wieght' is no setting; did you mean 'weight'?"),
        ({"addresses": [{"base_url": "http://a", "weight": -1}]}, "weight is -1; it must be a number >= 0"),
        ({"addresses": [{"base_url": "a"}]}, "base_url is 'a'; it must be an address like"),
        ({"addresses": [{"base_url": "http://a", "api_key_env": "sk-1 2"}]}, "must be the name of an environment"),
        ({"addresses": [{"base_url": "http://a", "api_key_header": "k"}]}, "api_key_header needs api_key_env"),
        ({**LLM, "context": 0}, "context is 0; it must be an integer > 0"),
        ({**LLM, "tools": "no"}, "tools is 'no'; it must be true or false"),
        ({**LLM, "vision": 1}, "vision is 1; it must be true or false"),
        ({**LLM, "max_tokens_field": "tokens"}, "max_tokens_field is 'tokens'; it must be max_tokens or max_"),
    ],
)  # fmt: skip
def test_a_bad_entry_is_refused_with_the_remedy(llm, message):
    with pytest.raises(P2LError, match=message) as raised:
        GatewayConfig.from_dict({"models": {"a": llm}})
    assert "sk-1" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fallback": "a"}, "fallback is 'a'; it must be a list of LLMs of 'models'"),
        ({"fallback": ["b"]}, "fallback names 'b'; known: a"),
        ({"fallback": 3}, "fallback is 3; it must be a list"),
        ({"ping_seconds": 0}, "ping_seconds is 0; it must be a number >= 0.01"),
        ({"ping_seconds": "x"}, "ping_seconds is 'x'"),
    ],
)
def test_a_bad_setting_for_all_is_refused_with_the_remedy(settings, message):
    with pytest.raises(P2LError, match=message):
        GatewayConfig.from_dict({"models": {"a": LLM}, **settings})


def test_check_sees_every_address(routing9, monkeypatch):
    monkeypatch.setenv("P2L_PRESENT", "x")
    monkeypatch.delenv("P2L_ABSENT", raising=False)
    places = [{"base_url": "http://a/v1", "api_key_env": "P2L_PRESENT"}, {"base_url": "http://b/v1"}]
    places[1]["api_key_env"] = "P2L_ABSENT"
    models = {CHEAP: {"addresses": places}, "our-llm": {**LLM, "cost": 0.1}}
    found = check(GatewayConfig.from_dict({"models": models, "fallback": ["our-llm"]}), routing9)
    assert found.missing_keys == ("P2L_ABSENT",)
    assert [llm.base_url for llm in found.llms] == ["http://a/v1, http://b/v1", LLM["base_url"]]
    assert found.unknown == ()  # a fallback need not be known
