"""What vendors bill: fees, caches, refusals, errors; and what is not known of it."""

from __future__ import annotations

import dataclasses
import json
import logging
from datetime import date
from decimal import Decimal
from typing import Any

import httpx
import pytest
from gateway_llms import CHEAP, DEAR, HELLO, LLM, MIDDLE, TEAM, config, team
from gateway_server import eventually, serving
from upstreams import Reply

from p2l_sdk.serve.gateway import catalogue
from p2l_sdk.serve.gateway.catalogue import searches, token_prices, unpriced
from p2l_sdk.serve.gateway.check import check
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.overcharges import Overcharges
from p2l_sdk.serve.gateway.prices import Prices
from p2l_sdk.serve.gateway.quote import Quote
from p2l_sdk.serve.gateway.refusal import REFUSALS as REFUSED
from p2l_sdk.serve.gateway.refusal import Refusal, billed
from p2l_sdk.serve.gateway.request import BadRequest, ChatRequest
from p2l_sdk.serve.gateway.usage import Count, Written, counted_cost, overcharge
from p2l_sdk.serve.metrics import ServerMetrics

pytest_plugins = ["gateway_fixtures"]
PRICES = {"input": 1.0, "output": 4.0}
MODEL = LLMConfig(name="x", base_url="http://x", prices=Prices(**PRICES))
TOKENS = {"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 50}
FILE = {"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 2000, "filename": "a.pdf"}}


def asked(**fields: Any) -> ChatRequest:
    return ChatRequest.parse(json.dumps({"model": "p2l", "messages": HELLO, "max_tokens": 100, **fields}).encode())


def with_prices(**prices: Any) -> LLMConfig:
    return dataclasses.replace(MODEL, prices=Prices(**{**PRICES, **prices}))


def cost(usage: dict[str, Any], llm: LLMConfig = MODEL, request: ChatRequest | None = None) -> float:
    request = request or asked()
    found = counted_cost(usage, request, llm, Quote.of(request, llm, 0.0), Written(9))
    assert found is not None
    return found * 1e6


def test_a_fee_is_quoted_expected_and_counted():
    plain, fee = Quote.of(asked(n=3), MODEL, 0.0), Quote.of(asked(n=3), with_prices(request=0.01), 0.0)
    assert fee.most - plain.most == pytest.approx(0.03)  # some bill it for each answer
    assert fee.expected - plain.expected == pytest.approx(0.01)
    assert cost(TOKENS, with_prices(request=0.01)) == pytest.approx(10_000 + 20 + 120)
    assert with_prices(request=0.01).prices.cost == pytest.approx(0.01 + MODEL.prices.cost)
    refusal = Quote.of(asked(), with_prices(refusal=0.05), 0.0)
    assert refusal.read - Quote.of(asked(), MODEL, 0.0).read == pytest.approx(0.05)
    assert refusal.expected == Quote.of(asked(), MODEL, 0.0).expected


@pytest.mark.parametrize(
    ("cached", "write", "times"), [(None, None, 1), (0.1, 1.25, 1.25), (0.1, 0.5, 1), (3, 1.25, 3)]
)
def test_reading_is_quoted_at_the_dearest_of_its_prices(cached, write, times):
    plain = Quote.of(asked(), MODEL, 0.0).read
    assert Quote.of(asked(), with_prices(cached_input=cached, cache_write=write), 0.0).read == pytest.approx(
        plain * times
    )


def test_what_is_written_into_a_cache_has_its_price_whether_it_was_asked_for_or_not():
    llm = with_prices(cache_write=1.25, cached_input=0.1)
    for usage in (
        {**TOKENS, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 10}},
        {**TOKENS, "prompt_tokens_details": {"cached_tokens": 4, "cache_creation_tokens": 10}},
        {**TOKENS, "prompt_tokens_details": {"cached_tokens": 4, "cache_creation_input_tokens": 10}},
        {**TOKENS, "prompt_tokens_details": {"cached_tokens": 4, "cached_creation_tokens": 10}},
        {**TOKENS, "prompt_tokens_details": {"cached_tokens": 14, "cached_read_tokens": 4, "cached_write_tokens": 10}},
        {**TOKENS, "prompt_tokens_details": {"cached_tokens": 4, "cached_read_tokens": 4, "cached_write_tokens": 10}},
    ):
        assert cost(usage, llm) == pytest.approx(6 + 0.1 * 4 + 1.25 * 10 + 120)
    folded = {"cached_tokens": 10, "cached_write_tokens": 10}  # Bifrost up to 1.6.0 leaves out what is 0
    assert cost({**TOKENS, "prompt_tokens_details": folded}, llm) == pytest.approx(10 + 1.25 * 10 + 120)
    assert cost(TOKENS, llm) == pytest.approx(140)


@pytest.mark.parametrize("settings", [{}, {"context": 9000, "set_aside": "context"}], ids=["size", "context"])
def test_what_a_request_marks_was_written_unless_the_count_says_how_much_was(settings):
    """`cached_tokens` alone may be what was put there just now, as litellm's count of Google's LLMs is."""
    text = {"type": "text", "text": "Prove it", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    request = asked(messages=[{"role": "user", "content": [text]}])
    llm = dataclasses.replace(with_prices(cached_input=0.1, cache_write=1.25), **settings)
    assert cost({**TOKENS, **CACHED}, llm, request) == pytest.approx(2 * 20 + 120)
    assert cost({**TOKENS, **CACHED}, llm) == pytest.approx(5 + 0.1 * 15 + 120)
    details = CACHED["prompt_tokens_details"]
    for told in (
        {"prompt_tokens_details": {**details, "cache_creation_tokens": 0}},
        {"prompt_tokens_details": {**details, "cached_read_tokens": 15}},
        {"prompt_tokens_details": details, "cache_creation_input_tokens": 0},
    ):
        assert cost({**TOKENS, **told}, llm, request) == pytest.approx(2 * 5 + 0.1 * 15 + 120)


CACHED = {"prompt_tokens_details": {"cached_tokens": 15}}


@pytest.mark.parametrize(
    ("usage", "readings"),
    [
        (TOKENS, [(20, 30)]),
        ({**TOKENS, **CACHED}, [(20, 30)]),
        ({**TOKENS, "prompt_tokens_details": {"cached_tokens": 50}}, [(70, 30)]),  # more than the whole
        ({**TOKENS, **CACHED, "total_tokens": 64}, [(20, 44)]),
        ({**TOKENS, **CACHED, "total_tokens": 65}, [(20, 45), (35, 30)]),  # Google's thoughts, or the cache
        ({**TOKENS, "cache_read_input_tokens": 15, "cache_creation_input_tokens": 5}, [(40, 30)]),  # Anthropic's names
        ({**TOKENS, "cache_read_input_tokens": 15, **CACHED}, [(20, 30)]),  # LiteLLM
        ({**TOKENS, "total_tokens": 90}, [(20, 70)]),  # reasoning
    ],
)
def test_tokens_of_a_cache_are_a_part_of_the_prompt_or_beside_it(usage, readings):
    assert [(count.read, count.wrote) for count in Count.readings(usage)] == readings


def test_a_count_that_may_mean_two_things_is_booked_as_the_dearer_and_puts_no_llm_out():
    """Gemini counts what it thought in the total alone, and the cache as a part of the prompt."""
    llm, usage = with_prices(cached_input=0.25), {**TOKENS, **CACHED, "total_tokens": 100}
    assert cost(usage, llm) == pytest.approx(5 + 0.25 * 15 + 4 * 80)
    cache = {"prompt_tokens": 20, "completion_tokens": 90, "total_tokens": 185}  # beside: at most 100 were asked for
    cache["prompt_tokens_details"] = {"cached_tokens": 75}
    assert not overcharge(cache, asked(), llm, Quote.of(asked(), llm, 0.0))


def test_a_count_of_nothing_is_none():
    zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    quote = Quote.of(asked(), MODEL, 0.0)
    assert counted_cost(zero, asked(), MODEL, quote) is None
    assert counted_cost({**zero, "prompt_tokens": 20}, asked(), MODEL, quote, Written(5)) is None
    assert counted_cost({**zero, "prompt_tokens": 20}, asked(), MODEL, quote, Written(0)) == pytest.approx(20e-6)


@pytest.mark.parametrize(
    "usage",
    [
        {"cost": 0.4}, {"cost": {"total_cost": 0.4}}, {"estimated_cost": 0.4}, {"cost_in_usd_ticks": 4 * 10**9},
        {"is_byok": True, "cost": 0.02, "cost_details": {"upstream_inference_cost": 0.4}},
    ],
)  # fmt: skip
def test_a_stated_cost_above_the_quote_shows_that_the_prices_are_wrong(usage):
    request = asked()
    quote = Quote.of(request, MODEL, 0.0)
    assert "states a cost of $0.4" in overcharge({**TOKENS, **usage}, request, MODEL, quote).replace("$0.42", "$0.4")
    assert cost({**TOKENS, **usage}) == pytest.approx(quote.most * 1e6)
    assert not overcharge({**TOKENS, "cost": quote.most}, request, MODEL, quote)
    wrote = {**TOKENS, "prompt_tokens_details": {"cache_write_tokens": 9}}
    assert "no price of them is known (`cache_write`)" in overcharge(wrote, request, MODEL, quote)
    assert not overcharge(wrote, request, with_prices(cache_write=1.25), quote)


def known(host: str, model: str, **settings: Any) -> LLMConfig:
    entry = {"base_url": f"https://{host}/v1", "upstream_model": model, **settings}
    return GatewayConfig.from_dict({"models": {"a": entry}}).models["a"]


def test_all_parts_of_a_price_list_are_known_or_named():
    pytest.importorskip("genai_prices")
    sonar = token_prices("sonar", "https://api.perplexity.ai")
    assert sonar is not None
    assert sonar["request"] == pytest.approx(0.012)
    assert known("api.anthropic.com", "claude-3-5-haiku-20241022").prices.cache_write == 1.0
    assert known("api.anthropic.com", "claude-3-5-haiku-20241022").bounded  # an hour's cache is quoted twice
    assert known("api.openai.com", "gpt-4o").bounded  # searches are tools, which are refused
    deep = known("api.perplexity.ai", "sonar-deep-research")
    assert "output_citation_mtok" in deep.unpriced
    assert not deep.bounded
    assert unpriced("gemini-2.5-flash-image", "https://generativelanguage.googleapis.com/v1beta/openai")
    own = {"prices": {"input": 1, "output": 2}}
    assert known("api.anthropic.com", "claude-3-5-haiku-20241022", **own).prices.cache_write == 1.0  # forgotten
    assert known("api.perplexity.ai", "sonar", **own).prices.request == pytest.approx(0.012)
    assert known("llm.example.com", "gpt-4o-mini-search-preview", **own).unpriced
    assert known("llm.example.com", "sonar", prices={"input": 1, "output": 2, "request": 0}).bounded


STARTS = (None, "2000-01-01", "2020-01-01", "2900-01-01")  # of plans: two are over, one holds, one will


@pytest.mark.parametrize(
    ("plans", "prices"),
    [
        ([{"input": 1, "output": 2}, {}, {"input": 3, "output": 4, "cache_read": 1}], {"cached_input": 1}),
        ([{}, {"cache_read": 1, "cache_write": 4}, {"input": 3, "output": 4}], {}),  # what is over is over
        ([{}, {}, {"input": 3, "output": 4, "cache_read": 1}, {"input": 2, "output": 4}], {"cached_input": 2}),
        ([{}, {}, {"input": 3, "output": 4}, {"input": 2, "output": 4, "input_audio": 2}], {"audio_input": 3}),
        ([{}, {}, {"input": 3, "output": 4}, {"input": 2, "output": 4, "output_audio": 2}], {"audio_output": 4}),
    ],
)
def test_what_a_dated_plan_has_no_price_for_is_text_there(plans, prices, monkeypatch):
    types = pytest.importorskip("genai_prices.types")
    dates = [start and types.StartDateConstraint(date.fromisoformat(start)) for start in STARTS]
    usd = [types.ModelPrice(**{f"{name}_mtok": Decimal(n) for name, n in plan.items()}) for plan in plans]
    dated = [types.ConditionalPrice(when, prices=plan) for when, plan in zip(dates, usd, strict=False)]
    found = types.ModelInfo("x", types.ClauseEquals("x"), prices=dated)
    monkeypatch.setattr(catalogue, "_found", lambda model, base_url: found)
    assert token_prices("x", "https://api.example.com") == {"input": 3, "output": 4, **prices}


def test_llms_that_search_by_themselves_are_known_by_their_names():
    for name in ("sonar-pro", "perplexity/sonar", "gpt-4o-search-preview", "groq/compound-mini", "x/y:online"):
        assert searches(name)
    for name in ("NousResearch/Hermes-4-70B", "gpt-4o-mini", "claude-3-5-haiku", "gpt-rosalind-research"):
        assert not searches(name)


def test_an_llm_without_a_price_of_its_searches_is_named_and_left_out_where_a_budget_pays(routing9, upstreams):
    upstreams.reset()
    prices = {"prices": PRICES}
    llms = {CHEAP: {**prices, "upstream_model": "up/sonar"}, MIDDLE: prices, DEAR: prices}
    settings = config(upstreams, llms=llms)
    [said] = check(settings, routing9).warnings
    assert f"keys with budgets cannot use {CHEAP}, as its vendor also bills searches" in said
    assert "state its `prices`, `request` among them" in said
    for budget, statuses in ((1.0, [200, 400]), (None, [200, 200])):
        with serving(routing9, settings, team(budget)[0]) as server, httpx.Client(headers=TEAM) as client:
            replies = [
                client.post(f"{server.url}/chat/completions", json={"model": model, "messages": HELLO, "max_tokens": 9})
                for model in ("p2l", CHEAP)
            ]
        assert [reply.status_code for reply in replies] == statuses
        if budget is not None:
            assert replies[0].headers["x-p2l-model"] != CHEAP
            assert "its vendor also bills searches that it makes by itself" in replies[1].json()["error"]["message"]


def bill(upstreams: Any, usage: dict[str, Any]) -> None:
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]}
    upstreams.replies["bill"] = Reply({**answer, "usage": {**TOKENS, **usage}})
    upstreams.always[CHEAP] = "bill"


def test_an_llm_that_bills_above_its_quote_is_out_for_keys_with_budgets(routing9, upstreams, caplog):
    upstreams.reset()
    keys, key = team(10.0)
    llms = {name: {"prices": PRICES} for name in (CHEAP, MIDDLE, DEAR)}
    with serving(routing9, config(upstreams, llms=llms), keys) as server, httpx.Client(headers=TEAM) as client:

        def post(content: Any = "hi", model: str = CHEAP) -> httpx.Response:
            body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 9}
            return client.post(f"{server.url}/chat/completions", json=body)

        bill(upstreams, {"cost": 0.4})
        with caplog.at_level(logging.ERROR, "p2l_sdk.serve"):
            assert post([FILE]).status_code == 200
            eventually(lambda: 0.09 < key.spent < 0.2)  # what was set aside for a file
            assert post([FILE]).status_code == 400
        assert f"the prices of llm={CHEAP} are wrong, it states a cost of $0.4" in caplog.text
        assert "the key 'team' cannot use it for files, images and audio" in caplog.text
        bill(upstreams, {})
        assert post().status_code == 200  # of texts nothing is known
        bill(upstreams, {"cost": 0.4})
        assert post().status_code == 200
        refused = post()
        assert refused.status_code == 400
        assert "it has billed more than its `prices` in the config allow for" in refused.json()["error"]["message"]
        assert post("hi " * 9, "p2l").headers["x-p2l-model"] != CHEAP
        assert f'p2l_overcharges_total{{model="{CHEAP}"}} 2.0' in server.metrics.exposition().decode()


def test_a_count_that_proves_the_prices_wrong_is_booked_at_the_most(routing9, upstreams):
    """What it was cut to would be less: 5 tokens of an answer of 9,000 were counted, and far too many read."""
    upstreams.reset()
    keys, key = team(10.0)
    ask = {"model": CHEAP, "messages": HELLO, "max_tokens": 9000}
    quote = Quote.of(asked(**ask), MODEL, 0.0)
    with serving(routing9, config(upstreams, llms={CHEAP: {"prices": PRICES}}), keys) as server:
        bill(upstreams, {"prompt_tokens": 50_000, "completion_tokens": 5})
        assert httpx.post(f"{server.url}/chat/completions", content=json.dumps(ask), headers=TEAM).status_code == 200
        eventually(lambda: key.spent == pytest.approx(quote.most, abs=2e-9))


def test_what_one_key_is_billed_too_much_takes_the_llm_from_no_other():
    found, request, one = Overcharges(ServerMetrics()), asked(), team(10.0)[1]
    other = dataclasses.replace(one, name="other", digest=bytes(32))
    found.note(CHEAP, request, one, "it states a cost")
    assert found.of(request, one) == [CHEAP]
    assert found.of(request, other) == []


def test_keys_without_budgets_do_not_put_an_llm_out(routing9, upstreams):
    """They may ask for what is billed beside tokens."""
    upstreams.reset()
    with serving(routing9, config(upstreams, llms={CHEAP: {"prices": PRICES}}), team(None)[0]) as server:
        bill(upstreams, {"cost": 0.4})
        for _ in range(2):
            body = {"model": CHEAP, "messages": HELLO, "max_tokens": 9}
            assert httpx.post(f"{server.url}/chat/completions", json=body, headers=TEAM).status_code == 200


XAI = {"code": "The caller does not have permission", "error": "Content violates usage guidelines. Failed check: BIO"}
REFUSALS: dict[str, tuple[int, dict[str, Any], str]] = {  # status, body, what it may have cost: nothing, reading, all
    "OpenAI, Azure": (400, {"error": {"message": "filtered", "code": "content_filter"}}, "most"),
    "OpenAI's policy": (400, {"error": {"message": "no", "code": "content_policy_violation"}}, "most"),
    "xAI": (403, XAI, "most"),
    "DashScope": (400, {"error": {"message": "May be bad", "code": "data_inspection_failed"}}, "most"),
    "DeepSeek": (400, {"error": {"message": "Content Exists Risk", "code": "invalid_request_error"}}, "most"),
    "Groq's parser": (400, {"error": {"message": "Parsing failed.", "code": "output_parse_failed"}}, "most"),
    "OpenAI, thinking": (
        400,
        {"error": {"message": "Could not finish the message because max_tokens was reached.", "code": None}},
        "most",
    ),
    "OpenAI, invalid": (400, {"error": {"message": "Model produced invalid content.", "code": None}}, "most"),
    "by law": (451, {"error": {"message": "x"}}, "most"),
    "Google": (400, {"error": {"message": "x", "code": "PROHIBITED_CONTENT"}}, "most"),
    "by words": (400, {"error": {"message": "x", "code": "sensitive_words_detected"}}, "most"),
    "nothing valid": (422, {"error": {"message": "no valid response generated", "code": "x"}}, "most"),
    "SambaNova": (400, {"error": {"message": "Model did not output valid JSON. The output was truncated before "
                                  "the maximum token limit was reached"}}, "most"),
    "vLLM": (400, {"error": {"message": "1 validation error for list[function-wrap[__log_extra_fields__()]]\n  Invalid "
                             "JSON: EOF while parsing a string", "type": "BadRequestError"}}, "most"),
    "vLLM, gpt-oss": (400, {"error": {"message": "Unexpected token 200002 while expecting start token 200006"}},
                      "most"),
    "vLLM, gpt-oss, as a fault": (500, {"error": {"message": "unexpected tokens remaining in message header: x"}},
                                  "most"),
    "vLLM, gpt-oss's channel": (500, {"error": {"message": "channel marker present but no channel value found in "
                                      "header"}}, "most"),
    "OpenAI, for safety": (400, {"error": {"message": "we've limited access to this content for safety reasons",
                                 "code": "invalid_prompt"}}, "most"),
    "OpenAI, cyber": (400, {"error": {"message": "flagged for potentially high-risk cyber activity",
                            "code": "cyber_policy"}}, "most"),
    "LiteLLM's guardrail": (400, {"error": {"message": "Violated guardrail policy"}}, "most"),
    "SambaNova's code": (400, {"error": {"message": "x", "code": "error_model_output"}}, "most"),
    "Groq": (400, {"error": {"message": "Failed", "code": "tool_use_failed", "failed_generation": "x"}}, "most"),
    "OpenRouter": (403, {"error": {"message": "flagged by moderation", "code": 403,
                                   "metadata": {"reasons": ["x"], "flagged_input": "x"}}}, "read"),
    "no permission": (403, {"error": {"message": "Your project has no access to this model"}}, "nothing"),
    "too long": (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}, "nothing"),
    "with a count": (400, {"error": {"message": "no"}, "usage": TOKENS}, "counted"),
    "with a cost": (422, {"error": {"message": "no", "metadata": {"cost": 140e-6}}}, "counted"),
    "a fault with a count": (500, {"error": {"message": "no", "usage": TOKENS}}, "counted"),
    "counted as nothing": (400, {"error": {"message": "no"}, "usage": {"prompt_tokens": 0}}, "most"),
    "of a field": (400, {"error": {"message": "no", "param": "n"}}, "nothing"),
    "OpenAI, invalid, as a fault": (500, {"error": {"message": "The model produced invalid content."}}, "most"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_an_error_that_may_be_billed_is_booked(name, routing9, upstreams, caplog):
    upstreams.reset()
    status, body, what = REFUSALS[name]
    upstreams.replies["no"] = Reply(body, status=status)
    upstreams.always[CHEAP] = "no"
    keys, key = team(1.0)
    settings = config(upstreams, llms={CHEAP: {"prices": PRICES}}, attempts=1)
    quote = Quote.of(asked(model=CHEAP), MODEL, 0.0)
    with serving(routing9, settings, keys) as server:
        ask = json.dumps({"model": CHEAP, "messages": HELLO, "max_tokens": 100})  # spaces count, too
        assert httpx.post(f"{server.url}/chat/completions", content=ask, headers=TEAM).status_code >= 400
        expected = {"nothing": 0.0, "read": quote.read, "most": quote.most, "counted": 140e-6}[what]
        eventually(lambda: key.spent == pytest.approx(expected, abs=2e-9))
        said = f"llm={CHEAP} refused a request ("
        eventually(lambda: (said in caplog.text) == (what == "most" and status in REFUSED))


# an LLM failed at its work, or its answer was lost on the way, or nobody knows
AT_WORK = (202, 400, 408, 418, 422, 424, 446, 499, 502, 504, 520, 524)
BEFORE = (302, 401, 402, 403, 404, 405, 413, 415, 409, 410, 425, 429, 500, 501, 503, 521, 522, 523, 529)


def test_a_refusal_of_azure_is_booked_as_read(routing9, upstreams, monkeypatch):
    upstreams.reset()
    upstreams.always[CHEAP] = "no"
    keys, key = team(1.0)
    monkeypatch.setattr("p2l_sdk.serve.gateway.upstream.bills_refusals", lambda host: host == "127.0.0.1")
    settings = config(upstreams, llms={CHEAP: {"prices": PRICES}}, attempts=1, breaker_failures=100)
    quote = Quote.of(asked(model=CHEAP), MODEL, 0.0)
    expected = 0.0
    with serving(routing9, settings, keys) as server:
        ask = json.dumps({"model": CHEAP, "messages": HELLO, "max_tokens": 100})
        for status, code, usd in (
            (400, "context_length_exceeded", quote.read),
            (401, "x", 0.0),
            (400, "x", quote.most),
        ):
            upstreams.replies["no"] = Reply({"error": {"message": "no", "code": code}}, status=status)
            assert httpx.post(f"{server.url}/chat/completions", content=ask, headers=TEAM).status_code >= 400
            expected += usd
            eventually(lambda usd=expected: key.spent == pytest.approx(usd, abs=5e-9))


def test_a_status_is_booked_if_an_llm_was_at_work(routing9, upstreams):
    upstreams.reset()
    upstreams.always[CHEAP] = "no"
    keys, key = team(1.0)
    settings = config(upstreams, llms={CHEAP: {"prices": PRICES}}, attempts=1, breaker_failures=100)
    most = Quote.of(asked(model=CHEAP), MODEL, 0.0).most
    with serving(routing9, settings, keys) as server, httpx.Client(headers=TEAM) as client:
        ask = json.dumps({"model": CHEAP, "messages": HELLO, "max_tokens": 100})
        for n, status in enumerate((*AT_WORK, *BEFORE), 1):
            upstreams.replies["no"] = Reply({"error": {"message": "no"}}, status=status)
            assert client.post(f"{server.url}/chat/completions", content=ask).status_code >= 400
            spent = pytest.approx(min(n, len(AT_WORK)) * most, abs=n * 2e-9)
            eventually(lambda spent=spent: key.spent == spent)


@pytest.mark.parametrize(("status", "calls"), [(424, 3), (499, 3), (401, 1)])
def test_what_is_booked_and_may_be_mended_by_another_try_counts_among_the_attempts(status, calls, routing9, upstreams):
    upstreams.reset()
    upstreams.replies["no"] = Reply({"error": {"message": "no"}}, status=status)
    upstreams.always[CHEAP] = "no"
    with serving(routing9, config(upstreams, attempts=3, backoff=0.01)) as server:
        ask = {"model": CHEAP, "messages": HELLO}
        assert httpx.post(f"{server.url}/chat/completions", json=ask).status_code == 502
    assert len(upstreams.seen) == calls


def test_what_a_refusal_is_about():
    assert Refusal.of(403, json.dumps(XAI).encode(), "x").kind == "content_filter"
    assert billed([{"error": {"usage": {"cost": 1}}}]) == {"cost": 1}
    for nothing in (None, [], "x", {"cost": True}, {"usage": {"cost": -1}}, {"usage": "x"}):
        assert billed(nothing) is None


@pytest.mark.parametrize("fields", [{"reasoning": {"mode": "pro"}}, {"speed": "fast"}, {"preset": "x"}])
def test_a_field_that_makes_an_llm_dearer_is_refused_for_everybody(fields):
    with pytest.raises(BadRequest, match="may change which LLM answers or what it costs"):
        asked(**fields)
    assert asked(reasoning={"effort": "low", "mode": None}).model == "p2l"


def test_a_client_learns_which_part_of_its_request_counts_for_how_much(routing9, upstreams):
    upstreams.reset()
    image = {"type": "image_url", "image_url": {"url": "https://x.example/i"}}
    with serving(routing9, config(upstreams, llms={CHEAP: {"prices": PRICES}}), team(0.02)[0]) as server:
        body = {"model": CHEAP, "messages": [{"role": "user", "content": [FILE, image]}], "max_tokens": 9}
        reply = httpx.post(f"{server.url}/chat/completions", json=body, headers=TEAM)
    assert reply.status_code == 429
    said = reply.json()["error"]["message"]
    assert "its images as up to 1,600 tokens, its files, videos and tools as up to 100,000 tokens)" in said
    assert LLM["base_url"] not in said
