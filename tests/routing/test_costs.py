"""Costs from every source, names matched to prices without guessing, and routing with unknown costs."""

from __future__ import annotations

import json
import re
import sys
import warnings
from datetime import UTC, datetime

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import COSTS, MODELS, shared

from p2l_sdk import P2L
from p2l_sdk.cli import cli
from p2l_sdk.errors import CostError, MissingExtraError, P2LError, P2LWarning, UnknownModelError
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.routing.costs import load_costs, response_cost
from p2l_sdk.routing.prices import How, match_prices
from p2l_sdk.routing.router import Router

PRICES = {
    "alpha-7b": {"input_price": 0.1, "output_price": 0.25},
    "gamma-70b": {"input_price": 2.5, "output_price": 10.0},
}


def write(path, costs):
    """The same costs in every file format."""
    prices = isinstance(next(iter(costs.values())), dict)
    rows = [{"model": name, **(cost if prices else {"cost": cost}), "note": "x"} for name, cost in costs.items()]
    text = {
        ".json": lambda: json.dumps(costs),
        ".yaml": lambda: json.dumps(costs),  # JSON is YAML too
        ".jsonl": lambda: "\n".join(map(json.dumps, rows)),
        ".csv": lambda: "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]),
    }[path.suffix]()
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".jsonl", ".csv"])
@pytest.mark.parametrize("costs", [COSTS, PRICES], ids=["per response", "per token"])
def test_a_file_says_what_its_mapping_says(suffix, costs, tmp_path):
    path = write(tmp_path / f"costs{suffix}", costs)
    read = load_costs(path, MODELS, output_tokens=1500)
    assert read == load_costs(str(path), MODELS, output_tokens=1500) == load_costs(costs, MODELS, output_tokens=1500)
    assert set(read.missing) == set(MODELS) - set(costs)
    assert repr(read) == f"Costs of {len(costs)} of 4 LLMs (costs{suffix}): {dict(read)}"


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        (
            {"alpha-7b": 0.2, "gamma-70b": 4},
            "4 is read as the cost of 'gamma-70b' in USD per response: is it for 1,000",
        ),
        ({"alpha-7b": 3e-8}, "3e-08 is read as the cost of 'alpha-7b' in USD per response: is it per token"),
        ({"alpha-7b": {"input_price": 3e-6, "output_price": 1}}, "3e-06 .* in USD per million tokens: is it per token"),
    ],
)
def test_a_cost_that_is_hardly_in_its_unit_is_said(costs, said, tmp_path):
    for source in (costs, write(tmp_path / "costs.json", costs)):
        with pytest.warns(P2LWarning, match=said):
            load_costs(source, MODELS)


@pytest.mark.parametrize("costs", [COSTS, PRICES, {"alpha-7b": 0, "gamma-70b": 0.9}])
def test_usual_costs_pass_without_a_word(costs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_costs(costs, MODELS)


def test_token_prices_make_a_cost_by_the_formula(rng):
    assert response_cost(2.5, 10, 400, 1000) == pytest.approx(0.011)
    for a, b, n, m in rng.uniform(0, 100, (50, 4)):
        entry = {"input_price": a, "output_price": b}
        expected = {"alpha-7b": pytest.approx(a * n * 1e-6 + b * m * 1e-6)}
        assert dict(load_costs({"alpha-7b": entry}, MODELS, input_tokens=n, output_tokens=m)) == expected
        own = {**entry, "input_tokens": n, "output_tokens": m}
        assert dict(load_costs({"alpha-7b": own}, MODELS)) == expected


REFUSED = {
    '{"alpha-7b": -1}': "the cost of 'alpha-7b' is -1",
    '{"alpha-7b": NaN}': "the cost of 'alpha-7b' is nan",
    '{"alpha-7b": null}': "the cost of 'alpha-7b' is None",
    '{"alpha-8b": 1}': "names 'alpha-8b', which this model does not know; did you mean 'alpha-7b'?",
    '{"alpha-7b": 1, "alpha-7b": 2}': "'alpha-7b' stands twice in one object; keep one",
    '{"alpha-7b": {"input_price": 1}}': "the cost of 'alpha-7b' lacks 'output_price'; give USD per response, or",
    '{"alpha-7b": {"input": 1, "output_price": 1}}': "the cost of 'alpha-7b' has 'input'",
    '{"alpha-7b": {"input_price": "much", "output_price": 1}}': "the input_price of 'alpha-7b' is 'much'",
    '{"alpha-7b": {"input_price": 1, "output_price": 1, "output_tokens": -5}}': "output_tokens of 'alpha-7b' is -5",
    "[1]": "costs must be a mapping, {name: USD per response}, not [1]",
    "{": "costs.json' cannot be read as JSON",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_bad_file_is_refused_with_its_fault(text, tmp_path):
    path = tmp_path / "costs.json"
    path.write_text(text)
    with pytest.raises((CostError, UnknownModelError), match=re.escape(REFUSED[text])):
        load_costs(path, MODELS)


def test_a_bad_table_or_source_is_refused_with_its_fault(tmp_path):
    table = tmp_path / "costs.csv"
    for text, fault in {
        "name,price\nalpha-7b,1\n": "line 2: a table of costs has the columns 'model' and 'cost'",
        "model,cost\nalpha-7b,1\nalpha-7b,2\n": "'alpha-7b' stands twice",
        "model,cost\nalpha-7b\n": "fewer fields than the header",
        "model,cost\nalpha-7b,\n": "the cost of 'alpha-7b' is ''",
    }.items():
        table.write_text(text)
        with pytest.raises(CostError, match=fault):
            load_costs(table, MODELS)
    (tmp_path / "costs.yaml").write_text("a: [")
    for source, fault in {
        tmp_path / "costs.yaml": "cannot be read as YAML",
        "nowhere.json": "no such file: 'nowhere.json'",
        "genai": "'genai' is no source of costs; give a file \\(.yaml, .json, .*, or 'genai-prices'",
        3: "costs must be a mapping",
    }.items():
        with pytest.raises(CostError, match=fault):
            load_costs(source, MODELS)


def test_a_model_takes_any_source_and_keeps_what_it_cannot_be_changed_into(saved, tmp_path):
    path = write(tmp_path / "costs.csv", PRICES)
    p2l = P2L.from_pretrained(saved("static"), costs=path)
    assert p2l.costs == {"alpha-7b": 0.000175, "gamma-70b": 0.00625}
    with pytest.raises(CostError):
        p2l.costs = {"alpha-7b": -1}
    with pytest.raises(TypeError):
        p2l.costs.usd["alpha-7b"] = 1
    assert p2l.costs == {"alpha-7b": 0.000175, "gamma-70b": 0.00625}
    p2l.save_pretrained(tmp_path / "again")
    again = P2L.from_pretrained(tmp_path / "again").costs
    assert (again, again.source) == (p2l.costs, "stored with the model")


# --- genai-prices: name -> (provider, model, how), or why it was not matched; each looked up by hand ---

TRICKY = {
    "gpt-4": ("openai", "gpt-4", How.ID),
    "gpt-4-turbo": ("openai", "gpt-4-turbo", How.ID),
    "gpt-4-1106-preview": ("openai", "gpt-4-turbo", How.ALIAS),  # a turbo, although it begins with gpt-4-
    "gpt-4-2031-01-01": How.OTHER_NAMES,  # no rule matches
    "gpt-4o-2024-05-13": ("openai", "gpt-4o-2024-05-13", How.ID),  # at twice the price of gpt-4o
    "gpt-4o-2024-11-20": ("openai", "gpt-4o", How.ALIAS),
    "openai/gpt-4o": ("openai", "gpt-4o", How.ID),
    "somebody/gpt-4o": How.UNKNOWN,
    "o1": ("openai", "o1", How.ID),
    "o1-mini": ("openai", "o1-mini", How.ID),
    "o3-mini-high": ("openai", "o3-mini", How.ALIAS),  # listed in the package
    "gpt-5-mini-high": How.OTHER_NAMES,  # not listed; it thinks longer, and so costs more per response
    "claude-3-5-sonnet-20241022": ("anthropic", "claude-3-5-sonnet", How.ALIAS),
    "Claude 3.5 Sonnet": ("anthropic", "claude-3-5-sonnet", How.NORMALISED),
    "claude-sonnet-4-20250514": ("anthropic", "claude-sonnet-4-0", How.ALIAS),
    "claude-sonnet-4-5-20250929": ("anthropic", "claude-sonnet-4-5", How.ALIAS),
    "claude-opus-4-20250514": ("anthropic", "claude-opus-4-0", How.ALIAS),
    "claude-opus-4-1-20250805-thinking-16k": How.OTHER_NAMES,
    "claude-opus-5-5-20261001": ("anthropic", "claude-opus-5-5", How.ALIAS),  # matched by a pattern that ends in a date
    "gemini-2.5-pro": ("google", "gemini-2.5-pro", How.ID),
    "gemini-1.5-flash-8b-001": How.OTHER_NAMES,  # the rule of gemini-1.5-flash would match it
    "gemini-3-pro": How.OTHER_NAMES,  # gemini-3-pro-preview, or -image-preview?
    "mistral-large-2407": ("mistral", "mistral-large", How.ALIAS),
    "mistral-large-3": How.OTHER_NAMES,
    "amazon-nova-pro-v1.0": ("aws", "amazon.nova-pro-v1:0", How.NORMALISED),
    "llama-3.1-8b-instruct": How.SEVERAL_PRICES,
    "llama-3.1-405b-instruct-fp8": How.OTHER_NAMES,
    "grok-4.1": How.OTHER_NAMES,
    "deepseek-v3": How.SEVERAL_PRICES,
    "my-own-model": How.UNKNOWN,
}


@pytest.fixture(scope="module")
def matched():
    pytest.importorskip("genai_prices")
    return match_prices(TRICKY)


@pytest.mark.parametrize("name", TRICKY)
def test_a_tricky_name_is_matched_to_itself_or_not_at_all(name, matched):
    match, expected = matched[name], TRICKY[name]
    if isinstance(expected, How):
        assert (match.price, match.how) == (None, expected)
        assert bool(match.candidates) == (expected is not How.UNKNOWN)
    else:
        assert (match.price.provider, match.price.model, match.how) == expected
        assert match.candidates == ()
    if match.how is How.SEVERAL_PRICES:
        assert len({(p.input_price, p.output_price) for p in match.candidates}) > 1


OTHER_NAME = {  # Arena names that differ from the package's, each looked up by hand
    "mistral-large-2407": "mistral-large",
    "pixtral-large-2411": "pixtral-large",
    "claude-3-opus-20240229": "claude-3-opus-latest",
    "claude-3-5-haiku-20241022": "claude-3-5-haiku-latest",
    "claude-3-7-sonnet-20250219": "claude-3-7-sonnet-latest",
    "command-r-plus-08-2024": "command-r-plus",
    "command-r-08-2024": "command-r",
    "ministral-8b-2410": "ministral-8b",
    "deepseek-r1": "deepseek-reasoner",
    "deepseek-r1-0528": "deepseek-reasoner",
    "mistral-medium-2505": "mistral-medium-3-1",
    "mistral-medium-2508": "mistral-medium-3-1",
    "gemini-2.5-flash-preview-09-2025": "gemini-2.5-flash",
    "gemini-2.5-flash-preview-05-20": "gemini-2.5-flash-preview",
    "gpt-5-chat": "gpt-5",
    "grok-4-fast": "grok-4-fast-reasoning",
}


def test_no_name_of_the_arena_is_matched_to_another_model():
    pytest.importorskip("genai_prices")
    from pyarrow import parquet

    names = parquet.read_table(shared("data/arena_leaderboard/prices.parquet"))["model"].to_pylist()
    found = [match for match in match_prices(names).values() if match.price is not None]
    assert found
    for match in found:
        model = match.price.model.rpartition("/")[2].lower()
        undated = re.sub(r"-(\d{8}|\d{4}-\d\d-\d\d)$", "", match.name)
        same = {re.sub(r"[.:]", "-", name) for name in (match.name, undated)}
        assert re.sub(r"[.:]", "-", model) in same or OTHER_NAME.get(match.name) == model, match


def test_a_provider_that_is_named_decides(matched):
    (match,) = match_prices(["llama-3.1-8b-instruct"], ["openrouter"]).values()
    assert match.price.provider == "openrouter"
    assert match.price in matched["llama-3.1-8b-instruct"].candidates
    both = match_prices(["llama-3.1-8b-instruct", "gpt-4o", "claude-3-opus-20240229"], ["openai", "openrouter"])
    assert [m.price and m.price.provider for m in both.values()] == ["openrouter", "openai", None]
    with pytest.raises(CostError, match="genai-prices has no provider 'openruter'; did you mean 'openrouter'"):
        load_costs("genai-prices:openruter", ("gpt-4o",))


def test_prices_of_a_day_and_of_a_length(matched):
    def price(name, **options):
        found = match_prices([name], **options)[name].price
        return found.input_price, found.output_price

    assert price("o3", at=datetime(2025, 6, 1, tzinfo=UTC)) == (10, 40)
    assert price("o3", at=datetime(2025, 7, 1, tzinfo=UTC)) == (2, 8)
    assert price("gemini-2.5-pro", input_tokens=200_000) == (1.25, 10)
    assert price("gemini-2.5-pro", input_tokens=200_001) == (2.5, 15)
    costs = load_costs("genai-prices", ("gemini-2.5-pro", "my-own-model"), input_tokens=300_000, output_tokens=1000)
    assert dict(costs) == {"gemini-2.5-pro": pytest.approx(0.765)}
    assert costs.missing == ("my-own-model",)
    assert re.fullmatch(r"genai-prices \d.*", costs.source)


def test_our_sums_are_the_package_s_own(matched):
    genai_prices = pytest.importorskip("genai_prices")
    usage = genai_prices.Usage(input_tokens=700, output_tokens=300)
    costs = load_costs("genai-prices", ("gpt-4o", "claude-3-opus-20240229"), input_tokens=700, output_tokens=300)
    for name, cost in costs.items():
        assert cost == pytest.approx(float(genai_prices.calc_price(usage, name).total_price), abs=1e-12)


def test_without_the_package_its_pip_line_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)
    with pytest.raises(MissingExtraError, match=re.escape('pip install "p2l-sdk[prices]"')):
        load_costs("genai-prices", MODELS)


# --- routing and the command line ---


def test_an_unknown_cost_is_within_no_budget():
    board = Leaderboard(models=("a", "b", "c", "d"), coefs=np.array([3.0, 2.0, 1.0, 0.0]), feedback=Feedback.BT)
    router = Router(board.models, board.feedback, {"a": 5.0, "c": 0.5, "d": 2.0}, policy="best")
    route = router.route(board, 1.0)
    assert (route.ranking, route.expected_cost) == (["a", "c"], 5.0)  # b's cost is unknown, d's is too high
    assert router.route(board).ranking == ["a", "b", "c", "d"]
    assert Router(board.models, board.feedback, {"b": 1.0}).route(board).expected_cost is None
    free, bounded = (
        Router(board.models, board.feedback, {"a": 5.0, "c": 0.5, "d": 2.0}).route(board, c) for c in (None, 1)
    )
    assert (free.left_out, bounded.left_out) == ((), ("b",))
    assert "b" not in bounded.ranking + list(bounded.mixture)
    assert ("left out", "1 LLM whose cost is not known") in bounded.facts()
    with pytest.raises(CostError, match="no cost is known for b"):  # who names it must know it
        Router(board.models, board.feedback, {"a": 5.0, "c": 0.5, "d": 2.0}, models=["b", "c"]).route(board, 1.0)
    with pytest.raises(CostError, match="no cost is known for a, b, c, d"):
        Router(board.models, board.feedback, {}).route(board, 1.0)


def run(*arguments):
    result = CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_what_p2l_costs_says_can_be_read_again(saved, tmp_path):
    folder, table, file = saved("static"), write(tmp_path / "prices.csv", PRICES), tmp_path / "costs.json"
    said = json.loads(
        run("costs", "--model", folder, "--costs", table, "--output-tokens", 900, "--output", file, "--json")
    )
    expected = load_costs(PRICES, MODELS, output_tokens=900)
    assert said["costs"] == expected == load_costs(file, MODELS)
    assert {row["model"]: row["cost"] for row in said["llms"]} == {name: expected.get(name) for name in MODELS}
    board = json.loads(run("leaderboard", "write", "--model", folder, "--costs", file, "--json"))
    assert board["costs"] == expected
    route = json.loads(run("route", "write", "--model", folder, "--costs", write(table, COSTS), "--json"))
    assert route["expected_cost"] == COSTS[route["model"]]
    bounded = ("route", "write", "--model", folder, "--costs", file, "--cost", 1)
    assert json.loads(run(*bounded, "--json"))["left_out"] == ["beta-13b", "delta-405b"]
    with pytest.raises(P2LError, match="no cost is known for beta-13b, delta-405b"):
        run(*bounded, "--models", ",".join(MODELS))


def test_the_table_of_costs_names_what_is_not_known(saved):
    pytest.importorskip("genai_prices")
    folder = saved("static", models=("gpt-4o", "llama-3.1-8b-instruct"), costs={"gpt-4o": 0.5})
    plain = run("costs", "--model", folder)
    assert "Costs of 1 of 2 LLMs: stored with the model" in plain
    assert "--costs FILE" in plain
    text = " ".join(run("costs", "--model", folder, "--costs", "genai-prices").split())
    assert "gpt-4o 6.25 2.5 10 openai" in text
    assert "several prices: " in text
    assert "genai-prices:together" in text
