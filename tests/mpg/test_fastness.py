"""Fastness: from prices, from measurements, from both."""

from __future__ import annotations

import numpy as np
import pytest
from mpg_results import ROWS, refusal

from p2l_sdk.mpg import Fastness, Results, Run, goodness
from p2l_sdk.mpg.fastness import Measure, measure_text
from p2l_sdk.mpg.report import Report


def test_fastness_of_prices_is_a_table_of_costs(routing9):
    p2l = routing9
    prices = {name: (0.2, 0.4 + 0.1 * i) for i, name in enumerate(p2l.models)}
    fast = Fastness.of_prices(prices, input_tokens=500, output_tokens=dict.fromkeys(prices, 1000))
    assert fast[p2l.models[0]] == pytest.approx(0.0005)
    assert set(fast) == set(p2l.models)
    route = p2l.route("What is 17 * 23?", cost=0.0006, costs=fast)
    assert route.expected_cost == pytest.approx(0.0006)
    assert "no token count of 'x'" in refusal(Fastness.of_prices, {"x": (1, 1)}, input_tokens={}, output_tokens=1)
    assert "must be numbers >= 0" in refusal(Fastness.of_prices, {"x": (-1, 1)}, input_tokens=1, output_tokens=1)
    assert "'seconds' is not known; known are: usd_per_query" in refusal(fast.values_of, "seconds")


def test_measured_fastness_has_intervals():
    rng = np.random.default_rng(0)
    seconds = rng.gamma(4, 0.5, 400)  # mean 2, sd 1
    run = Run(seconds=seconds, output_tokens=50 * seconds, usd=np.full(400, 0.001), callers=4)
    fast = Fastness.measured({"m": run})
    found = fast.measures["seconds"]["m"]
    assert found.low < seconds.mean() < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * seconds.std() / 20, rel=0.12)
    assert fast.measures["queries_per_second"]["m"].value == pytest.approx(4 / seconds.mean())
    assert fast.measures["tokens_per_second"]["m"].value == pytest.approx(50)
    assert fast["m"] == pytest.approx(0.001)
    rows = [{"model": "m", "benchmark": "b", "question_id": i, "score": 1, "seconds": 2.0} for i in range(3)]
    of_results = Fastness.of_results(Results.read(rows))
    assert of_results.measures["queries_per_second"]["m"].value == pytest.approx(0.5)
    assert dict(of_results) == {}


def test_prices_take_the_counted_tokens_and_keep_what_was_measured():
    row = {"benchmark": "b", "score": 1, "seconds": 2.0}
    rows = [{**row, "model": "a", "question_id": i, "input_tokens": 10, "output_tokens": 4 + i} for i in range(3)]
    rows += [{**row, "model": name, "question_id": 0} for name in "bc"]
    results = Results.read(rows)
    prices = {"a": (0.1, 0.2), "b": (1.0, 2.0), "other": (1.0, 1.0)}
    fast = Fastness.of_results(results, prices=prices, tokens=(500, 100))
    assert dict(fast) == pytest.approx({"a": 2e-6, "b": 7e-4})  # 10 and 5 tokens counted; 500 and 100 assumed
    cost = fast.measures["usd_per_query"]
    assert (cost["a"].n, cost["b"].n) == (3, 0)
    assert 1.8e-6 <= cost["a"].low < cost["a"].high <= 2.2e-6
    assert set(fast.measures["seconds"]) == {"a", "b", "c"}
    assert fast.note == (
        "measured; 95 % intervals over the queries; cost from list prices and the counted tokens; "
        "cost of b from list prices of 500 input and 100 output tokens, not measured"
    )
    assert dict(Fastness.of_results(results, prices=prices)) == pytest.approx({"a": 2e-6})
    unmeasured = Results.read(ROWS)
    assert Fastness.of_results(unmeasured, prices=prices, tokens=(500, 500)).note == (
        "cost from list prices of 500 input and 500 output tokens, nothing measured"
    )
    found = goodness(results, draws=100, prior="jeffreys")
    assert Report(found, fast).shown_measure == "queries_per_second"  # c has no cost
    assert Report(found, fast, "usd_per_query").notes[-1] == "usd_per_query is not known of c"
    two = goodness(results.of_models(["a", "b"]), draws=100, prior="jeffreys")
    assert Report(two, fast).shown_measure == "usd_per_query"
    assert "'foo' is not known; known are: usd_per_query, queries_per_second, seconds, " in refusal(
        Report, found, fast, "foo"
    )


def test_an_llm_measured_in_two_files_keeps_both():
    rows = [{"model": "a", "score": 1, "question_id": i, "seconds": 1.0 + i} for i in range(3)]
    parts = [
        Results.read([{**row, "benchmark": "x"} for row in rows]),
        Results.read([{**row, "benchmark": "y", "output_tokens": 7, "seconds": 5.0} for row in rows[:1]]),
    ]
    joined = Results.joined(parts)
    assert joined.samples["seconds"]["a"].tolist() == [1, 2, 3, 5]
    np.testing.assert_array_equal(joined.samples["output_tokens"]["a"], [np.nan] * 3 + [7])
    fast = Fastness.of_results(joined).measures
    assert fast["seconds"]["a"].value == pytest.approx(11 / 4)
    assert fast["tokens_per_second"]["a"].value == pytest.approx(7 / 5)


def test_numbers_are_written_out():
    assert measure_text("usd_per_query", Measure(2e-6, 1.5e-6, 2.25e-6, 9)) == "$0.000002 (0.0000015 to 0.00000225)"
    assert measure_text("tokens_per_second", Measure(12345.0)) == "12300"
