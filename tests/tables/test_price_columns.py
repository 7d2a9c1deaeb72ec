"""Prices in columns whose names say their unit."""

from __future__ import annotations

import pytest

from p2l_sdk.errors import CostError, ResultsError, TableError
from p2l_sdk.mpg.prices import read_prices
from p2l_sdk.routing.costs import load_costs
from p2l_sdk.tables.price_columns import COST, INPUT, OUTPUT, price_units

READ = {  # name -> what it is, the factor to USD per million tokens or per response
    "Input ($/1M tokens)": (INPUT, 1),
    "Output ($/1M tokens)": (OUTPUT, 1),
    "Output $/M": (OUTPUT, 1),
    "Input (USD / MTok)": (INPUT, 1),
    "In ($/1M)": (INPUT, 1),
    "Prompt price in USD per million tokens": (INPUT, 1),
    "Completion cost per 1,000,000 tokens": (OUTPUT, 1),
    "$ per 1M input tokens": (INPUT, 1),
    "input_cost_per_million_tokens": (INPUT, 1),
    "Price per 1K input": (INPUT, 1000),
    "Price per 1K output tokens": (OUTPUT, 1000),
    "Input price ($/1000 tokens)": (INPUT, 1000),
    "output-cost-per-1k": (OUTPUT, 1000),
    "Input: $ per thousand tokens": (INPUT, 1000),
    "output_cost_per_token": (OUTPUT, 1e6),
    "Cost per input token (USD)": (INPUT, 1e6),
    "USD per response": (COST, 1),
    "Cost / request ($)": (COST, 1),
    "Cost per 1,000 responses": (COST, 1e-3),
    "$/1k calls": (COST, 1e-3),
    "USD per million answers": (COST, 1e-6),
}


@pytest.mark.parametrize("name", READ)
def test_a_unit_is_read_out_of_the_name(name):
    ours, factor = READ[name]
    units = price_units(["model", name, "Context (1M tokens)"])
    assert units.columns == {name: ours}
    assert units.number(ours, "$ 0.25") == pytest.approx(0.25 * factor)
    assert units.number(ours, 2) == pytest.approx(2 * factor)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Price per 1K", "does not say of what it is"),
        ("$ per 1M tokens", "does not say of what it is"),
        ("Price in USD per 1M tokens", "does not say of what it is"),
        ("Input/output price per 1M tokens", "does not say of what it is"),
        ("Input ($)", "does not say of how many tokens"),
        ("Input price per 100K tokens", "does not say of how many tokens"),
        ("Cost of responses", "does not say of how many responses"),
        ("Output cost per response", "does not say of how many responses"),
        ("Input (€/1M tokens)", "is in another unit than USD"),
        ("Input (cents per 1K tokens)", "is in another unit than USD"),
    ],
)
def test_what_a_name_leaves_open_is_not_guessed(name, said):
    units = price_units(["model", name])
    assert units.columns == {}
    assert units.doubt.startswith(f"{name!r} {said}")


@pytest.mark.parametrize(
    "name",
    ["Output tokens per second", "Max output (1M)", "Cached input ($/1M tokens)", "Requests per 1k", "Batch price"],
)
def test_other_columns_are_none_of_this(name):
    units = price_units(["model", name])
    assert (units.columns, units.doubt) == ({}, "")


def test_two_columns_of_one_price_are_refused():
    with pytest.raises(TableError, match=r"'Input \$/1M' and 'Input \$/1K' are both read as input_price; keep one"):
        price_units(["Input $/1M", "Input $/1K"])
    with pytest.raises(TableError, match="'USD per response' is the cost of a response, and there are prices of"):
        price_units(["USD per response", "Input $/1M", "Output $/1M"])
    assert price_units(["input_price", "Input $/1K", "Output $/1M"]).columns == {"Output $/1M": OUTPUT}
    assert price_units(["cost", "USD per response"]).columns == {}  # ours goes before
    assert price_units(["Input $/1M", "Output $/1M", "Blended price"]).doubt == ""


def test_tables_of_costs_and_of_prices_are_read_alike(tmp_path):
    table = tmp_path / "prices.csv"
    for text in (
        "Model,Input ($/1M tokens),Output ($/1M tokens)\nalpha-7b,0.15,0.60\n",
        "Model,Price per 1K input,Price per 1K output\nalpha-7b,$0.00015,$0.0006\n",
        "Model;Input ($/1M tokens);Output ($/1M tokens)\nalpha-7b;0,15;0,60\n",
    ):
        table.write_text(text)
        assert load_costs(table, ("alpha-7b",)) == {"alpha-7b": pytest.approx(0.000375)}
        assert read_prices(table) == {"alpha-7b": (pytest.approx(0.15), pytest.approx(0.6))}
    table.write_text("LLM,Cost per 1000 requests\nalpha-7b,0.375\n")
    assert load_costs(table, ("alpha-7b",)) == {"alpha-7b": pytest.approx(0.000375)}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("model,Price per 1K\nalpha-7b,1\n", "line 2: a table of costs .*'Price per 1K' does not say of what it is"),
        ("model,Input ($/1M),Output ($)\nalpha-7b,1,2\n", r"'Output \(\$\)' does not say of how many tokens it is"),
        ("model,Input ($/1M),Output ($/1M)\nalpha-7b,1,much\n", "the output_price of 'alpha-7b' is 'much'"),
        ("model,Input ($/1M)\nalpha-7b,1\n", "the cost of 'alpha-7b' lacks 'output_price'"),
        ("model,In ($/1M),Out ($/1M)\nalpha-7b,1.060,2\nbeta,930,1\n", "if the point separates thousands, write 1060"),
    ],
)
def test_a_table_that_is_not_clear_is_refused(text, fault, tmp_path):
    table = tmp_path / "prices.csv"
    table.write_text(text)
    with pytest.raises(CostError, match=fault):
        load_costs(table, ("alpha-7b", "beta"))
    if "much" not in text and "1.060" not in text:
        said = "has no output_price" if text.startswith("model,Input") else "has no input_price; 'Price per 1K' does"
        with pytest.raises(ResultsError, match=said):
            read_prices(table)
