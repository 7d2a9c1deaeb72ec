"""Project MPG: errors in results and trees, Goodness against known values, Fastness, agreement."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats
from scipy.special import gammaln

from p2l_sdk.cli.mpg_tables import print_report
from p2l_sdk.errors import P2LError, ResultsError
from p2l_sdk.evaluation.metrics import kendall, spearman
from p2l_sdk.mpg import Fastness, Results, Run, Tree, correlations, goodness
from p2l_sdk.mpg.factor import fit_factor, log_rising_factorial
from p2l_sdk.mpg.fastness import Measure, measure_text
from p2l_sdk.mpg.harness import read_harness
from p2l_sdk.mpg.livebench import read_livebench
from p2l_sdk.mpg.pairing import paired, shared_luck
from p2l_sdk.mpg.pictures import pareto_front, plot_goodness_fastness, plot_subdomains
from p2l_sdk.mpg.report import Report
from p2l_sdk.pictures import require_pyplot

sys.path.insert(0, str(ROOT / "benchmarks"))
from mpg_coverage import SCENARIOS, study

ROWS = [
    {"model": "a", "benchmark": "math", "correct": 80, "total": 100},
    {"model": "a", "benchmark": "code", "correct": 30, "total": 50},
    {"model": "b", "benchmark": "math", "correct": 60, "total": 100},
    {"model": "b", "benchmark": "code", "correct": 20, "total": 50},
    {"model": "c", "benchmark": "math", "correct": 40, "total": 100},
    {"model": "c", "benchmark": "code", "correct": 10, "total": 50},
]
NODES = {"all": ["math", "code"]}


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(P2LError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def with_row(**changes) -> list[dict]:
    return [*ROWS[:2], {**ROWS[2], **changes}, *ROWS[3:]]


# --- results ---------------------------------------------------------------------------------------------------------


def test_the_three_forms_say_the_same(tmp_path):
    counts = Results.read(ROWS)
    questions = [
        {"model": r["model"], "benchmark": r["benchmark"], "question_id": i, "score": float(i < r["correct"])}
        for r in ROWS
        for i in range(r["total"])
    ]
    means = [
        {"model": r["model"], "benchmark": r["benchmark"], "score": r["correct"] / r["total"], "n": r["total"]}
        for r in ROWS
    ]
    percent = [{**row, "score": 100 * row["score"]} for row in means]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, questions)))
    (tmp_path / "r.csv").write_text(
        "model,benchmark,score,n\n" + "".join(f"{r['model']},{r['benchmark']},{r['score']},{r['n']}\n" for r in means)
    )
    import pandas as pd

    pd.DataFrame(means).to_parquet(tmp_path / "r.parquet")
    tables = [Results.read(s) for s in (questions, means, pd.DataFrame(means), *map(str, tmp_path.iterdir()))]
    for results in [*tables, Results.read(percent, percent=True)]:
        assert results.models == counts.models
        assert results.benchmarks == counts.benchmarks
        np.testing.assert_allclose(results.means, counts.means)
        np.testing.assert_allclose(results.counts, counts.counts)
    assert np.isnan(Results.read([{k: v for k, v in r.items() if k != "n"} for r in means]).counts).all()


def test_a_column_per_benchmark(tmp_path):
    file = tmp_path / "wide.csv"
    file.write_text("model,mmlu,gsm8k\na,50,30\nb,60,\n")
    found = Results.read(file, percent=True)
    assert (found.models, found.benchmarks) == (("a", "b"), ("mmlu", "gsm8k"))
    assert found.means.tolist()[0] == [0.5, 0.3]
    assert found.means[1, 0] == 0.6
    assert np.isnan(found.means[1, 1])
    assert found.counts[1, 1] == 0
    assert np.isnan(found.counts[0]).all()
    assert "row 1: mmlu is '50'; it must be a number in [0, 1]" in refusal(Results.read, file)
    bad = [{"model": "a", "mmlu": 0.5}, {"model": "b", "mmlu": "x"}]
    assert "row 2: mmlu is 'x'; it must be a number in [0, 1]" in refusal(Results.read, bad)
    assert "rows 1 and 2 are both of LLM 'a'; keep one" in refusal(Results.read, [bad[0], bad[0]])


def test_bad_results_are_refused_by_name():
    assert "row 3: correct is 120; it must be at most total, 100" in refusal(Results.read, with_row(correct=120))
    assert "row 3: total is 0; it must be above 0" in refusal(Results.read, with_row(correct=0, total=0))
    assert "row 3: correct is nan" in refusal(Results.read, with_row(correct=float("nan")))
    assert "row 3 has no model" in refusal(Results.read, with_row(model=None))
    assert "rows 1 and 7 are both of LLM 'a', benchmark 'math'" in refusal(Results.read, [*ROWS, ROWS[0]])
    assert "they need one of: model, benchmark, question_id, score" in refusal(Results.read, [{"model": "a"}])
    assert "is empty" in refusal(Results.read, [])
    mean = {"model": "a", "benchmark": "math", "score": 71.0}
    assert "row 1: score is 71.0; it must be a number in [0, 1]" in refusal(Results.read, [mean])
    assert "row 1: score is nan" in refusal(Results.read, [{**mean, "score": float("nan")}])
    assert "row 1: n is 0" in refusal(Results.read, [{**mean, "score": 0.5, "n": 0}])
    asked = {**mean, "score": 1.0, "question_id": "q1"}
    assert "both of LLM 'a', benchmark 'math', question 'q1'" in refusal(Results.read, [asked, asked])
    assert "row 1: seconds is -1" in refusal(Results.read, [{**asked, "seconds": -1}])
    assert "two tables have a result of 'a' on 'math'" in refusal(Results.joined, [Results.read(ROWS)] * 2)
    assert "no result of 'z'" in refusal(Results.read(ROWS).of_models, ["z"])


def test_a_graded_score_counts_as_the_questions_that_leave_its_error():
    rng = np.random.default_rng(0)
    scores = rng.beta(6, 4, (1, 400))
    results = Results.of_questions(["a"], {"essays": scores})
    mean, count = results.means[0, 0], results.counts[0, 0]
    as_binomial = np.sqrt(mean * (1 - mean) / count)
    bootstrap = scores[0][rng.integers(0, 400, (2000, 400))].mean(1).std()
    assert as_binomial == pytest.approx(bootstrap, rel=0.06)


def test_the_harness_of_eleuther_is_read(tmp_path):
    folder = tmp_path / "org__model-a"
    folder.mkdir()
    summary = {
        "results": {
            "gsm8k": {"alias": "gsm8k", "exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": 0.05},
            "arc": {"acc,none": 0.4, "acc_stderr,none": 0.01, "acc_norm,none": 0.6, "acc_norm_stderr,none": 0.02},
            "group": {"alias": "group"},
        },
        "n-samples": {"gsm8k": {"original": 100, "effective": 100}},
        "model_name": "org/model-a",
    }
    (folder / "results_2025-01-01T00-00-00.0.json").write_text(json.dumps(summary))
    rows = [
        {"doc_id": i, "filter": f, "metrics": ["exact_match"], "exact_match": float(i < 3)}
        for f in ("strict", "flexible")
        for i in range(4)
    ]
    (folder / "samples_gsm8k_2025-01-01T00-00-00.0.jsonl").write_text("\n".join(map(json.dumps, rows)))
    results = read_harness(tmp_path)
    assert results.models == ("org/model-a",)
    assert dict(zip(results.benchmarks, results.means[0], strict=True)) == {"gsm8k": 0.75, "arc": 0.6}
    assert dict(zip(results.benchmarks, results.counts[0], strict=True)) == pytest.approx({"gsm8k": 4, "arc": 600})
    assert results.questions["gsm8k"].shape == (1, 4)
    assert "has no 'bleu'; it has: exact_match" in refusal(read_harness, folder, metric="bleu")
    (tmp_path / "empty").mkdir()
    assert "no results_*.json and no samples_*.jsonl" in refusal(read_harness, tmp_path / "empty")


def test_a_table_of_livebench_is_read(tmp_path):
    (tmp_path / "table.csv").write_text("model,AMPS_Hard,typos,cta\nx,50,20,\ny,75,40,10\n")
    (tmp_path / "categories.json").write_text(json.dumps({"Mathematics": ["AMPS_Hard"], "Language": ["typos", "cta"]}))
    results, tree = read_livebench(tmp_path / "table.csv", tmp_path / "categories.json")
    np.testing.assert_allclose(results.means, [[0.5, 0.2, np.nan], [0.75, 0.4, 0.1]])
    assert tree.domains == ("Mathematics", "Language")
    assert tree.nodes["Language"] == ("typos", "cta")
    assert read_livebench(tmp_path / "table.csv")[1].domains == ("Mathematics", "Data Analysis", "Language")
    (tmp_path / "table.csv").write_text("model,typos\nx,120\n")
    assert "row 1: typos is '120'; it must be a number in [0, 100]" in refusal(read_livebench, tmp_path / "table.csv")


# --- trees -----------------------------------------------------------------------------------------------------------


def test_bad_trees_are_refused_by_name(tmp_path):
    def of(nodes, **more):
        return refusal(Tree.read, {"nodes": nodes, **more})

    assert "the tree is cyclic: a -> b -> a" in of({"root": ["x"], "a": ["b"], "b": ["a"]})
    assert "the tree is cyclic: a -> a" in of({"root": ["x"], "a": ["a"]})
    assert "this one has 2: a, b" in of({"a": ["x"], "b": ["y"]})
    assert "'x' is a child of 'a' and of 'b'" in of({"a": ["x", "b"], "b": ["x"]})
    assert "weights of 'x' is -1; it must be a number > 0" in of({"a": ["x"]}, weights={"x": -1})
    assert "chance of 'x' is 1; it must be a number in [0, 1)" in of({"a": ["x"]}, chance={"x": 1})
    assert "chance of the tree names 'y'" in of({"a": ["x"]}, chance={"y": 0.5})
    assert "known: name, nodes" in of({"a": ["x"]}, wieghts={})
    assert "node 'a' has no children" in of({"a": []})
    assert "trees that come along: livebench, mpg" in refusal(Tree.read, tmp_path / "none.yaml")
    (tmp_path / "t.yaml").write_text("nodes: &n\n  a: [*n]\n")
    assert "children of a tree's node are names" in refusal(Tree.read, tmp_path / "t.yaml")
    tree = Tree.read({"nodes": {"all": ["math", "cods"]}})
    text = refusal(goodness, Results.read(ROWS), tree)
    assert "the tree names the benchmark 'cods', which has no results; your results have 'code' (to leave out" in text


def test_shares_and_parts_of_a_tree():
    tree = Tree.read({"nodes": {"all": ["x", "rest"], "rest": ["y", "z"]}, "weights": {"x": 3, "z": 4}})
    assert tree.shares("all") == {"x": 0.75, "y": 0.05, "z": 0.2}
    assert [name for name, _ in tree.walk()] == ["all", "x", "rest", "y", "z"]
    assert tree.only(["x", "y"]).shares("all") == {"x": 0.75, "y": 0.25}
    for name in ("mpg", "livebench"):
        built_in = Tree.read(name)
        assert len(built_in.leaves()) > len(built_in.domains) > 2
    assert len(Tree.read(ROOT / "examples" / "routing9_tree.yaml").leaves()) == 14


# --- Goodness --------------------------------------------------------------------------------------------------------


def test_the_likelihood_is_that_of_the_beta_binomial():
    x, n = np.array([1e-6, 0.3, 2.0, 50.0, 1e4]), np.array([[0.0], [1.0], [7.5], [2000.0]])
    np.testing.assert_allclose(log_rising_factorial(x, n), gammaln(x + n) - gammaln(x), atol=1e-6)


def test_a_single_cell_has_its_beta_posterior():
    """Jeffreys' prior: the quantiles of beta(k + 1/2, n - k + 1/2)."""
    found = goodness(Results.read(ROWS), Tree.read({"nodes": NODES}), prior="jeffreys", draws=40_000)
    at = found.at("math")
    limits = stats.beta(80.5, 20.5).ppf([0.025, 0.975])
    np.testing.assert_allclose(found.intervals[0, at], limits, atol=0.003)
    assert found.ranking == ["a", "b", "c"]
    assert found.ranks[:, 0].tolist() == [1, 2, 3]
    better = stats.beta(80.5, 20.5).rvs(40_000, random_state=1) > stats.beta(60.5, 40.5).rvs(40_000, random_state=2)
    assert found.better("a", "b", "math") == pytest.approx(better.mean(), abs=0.01)


def test_it_is_seeded_and_chance_is_taken_off():
    tree = Tree.read({"nodes": NODES, "chance": {"code": 0.5}})
    runs = ((3, "table"), (3, "table"), (4, "jeffreys"))
    first, again, other = (goodness(Results.read(ROWS), tree, draws=400, seed=s, prior=p) for s, p in runs)
    np.testing.assert_array_equal(first.draws, again.draws)
    assert not np.array_equal(first.draws, other.draws)
    assert first.values("code")["c"] < 0  # below chance, and not clipped
    board = first.leaderboard()
    assert board.best == "a"
    assert board.intervals.shape == (3, 2)


def test_weights_by_spread_let_no_benchmark_drown_the_others():
    """One benchmark spreads the LLMs tenfold: in the plain mean it alone decides."""
    rng = np.random.default_rng(0)
    ability = rng.normal(size=40)
    noise = rng.normal(size=(40, 5))
    spread = np.array([0.2, 0.02, 0.02, 0.02, 0.02])
    means = 0.5 + spread * (ability[:, None] + noise)
    results = Results(tuple(map(str, range(40))), tuple("abcde"), np.clip(means, 0, 1), np.full((40, 5), 50_000.0))
    plain, even = (goodness(results, draws=400, weighting=w, prior="jeffreys") for w in ("plain", "spread"))
    assert spearman(even.means[:, 0], ability) > spearman(plain.means[:, 0], ability) + 0.05
    np.testing.assert_allclose(plain.weights[0], 0.2)
    influence = even.weights[0] * np.std(results.means, axis=0, ddof=1)
    np.testing.assert_allclose(influence, influence[0])


def test_missing_cells_the_factor_helps_where_the_plain_mean_misleads():
    """Weak LLMs were never run on the hard benchmarks: the mean of what they have flatters them."""
    rng = np.random.default_rng(1)
    ability, easiness = np.sort(rng.normal(0, 1, 16)), np.linspace(2, -2, 8)
    truth = 1 / (1 + np.exp(-(easiness + ability[:, None] + rng.normal(0, 0.2, (16, 8)))))
    means = rng.binomial(200, truth) / 200
    means[:10, 4:] = np.nan  # the ten weakest, on the four hardest
    counts = np.where(np.isnan(means), 0.0, 200.0)
    results = Results(tuple(f"m{i}" for i in range(16)), tuple(f"b{i}" for i in range(8)), means, counts)
    whole = truth.mean(1)
    found = {
        "renormalise": goodness(results, draws=800, missing="renormalise", weighting="plain"),
        "impute": goodness(results, draws=800, weighting="plain"),
        "one_factor": goodness(results, draws=800, method="one-factor", weighting="plain"),
    }
    agreement = {name: kendall(g.means[:, 0], whole) for name, g in found.items()}
    assert agreement["impute"] > agreement["renormalise"] + 0.4, agreement
    assert agreement["one_factor"] > agreement["renormalise"] + 0.4, agreement
    inside = (found["impute"].intervals[:, 0, 0] <= whole) & (whole <= found["impute"].intervals[:, 0, 1])
    assert inside.mean() > 0.85
    assert "40 of 128 cells are missing (* marks what needs them): predicted" in found["impute"].notes[0]
    assert found["impute"].observed[0, 0] == pytest.approx(0.5)


def test_an_llm_without_a_result_in_a_domain_is_refused():
    tree = Tree.read({"nodes": {"all": ["numbers", "code"], "numbers": ["math"]}})
    results = Results.read(ROWS[:-1])
    assert "'c' has no result in 'code'" in refusal(goodness, results, tree)
    assert goodness(results, tree, method="one_factor", draws=400).models == ("a", "b", "c")
    assert len(goodness(results.of_models(["a", "b"]), tree, draws=400, prior="jeffreys").rows()) == 2
    assert "unknown method 'elo'; known: tree, one_factor" in refusal(goodness, results, tree, method="elo")
    gap = Results.read(ROWS[:-1])
    assert "says nothing of missing cells" in refusal(goodness, gap, Tree({"all": ("math",)}), prior="jeffreys")


def test_shared_luck_is_the_correlation_of_the_means():
    rng = np.random.default_rng(0)
    common = rng.normal(size=300)
    scores = (np.array([0.3, 0.0, -0.4])[:, None] + common + rng.normal(size=(3, 300)) > 0).astype(float)
    luck = shared_luck(scores, np.ones(3))
    picks = rng.integers(0, 300, (4000, 300))
    np.testing.assert_allclose(luck, np.corrcoef(scores[:, picks].mean(2)), atol=0.05)
    draws = rng.beta(scores.sum(1) + 1, (1 - scores).sum(1) + 1, (4000, 3))
    moved = paired(draws, scores, np.ones(3), rng)
    np.testing.assert_array_equal(np.sort(moved, 0), np.sort(draws, 0))
    np.testing.assert_allclose(np.corrcoef(moved.T), luck, atol=0.05)
    scores[1, 100:] = np.nan  # fewer shared questions, less correlated luck
    assert shared_luck(scores, np.ones(3))[0, 1] < 0.7 * luck[0, 1]


def test_the_one_factor_model_finds_what_made_the_data():
    rng = np.random.default_rng(2)
    ability, easiness = rng.normal(0, 1, 20), rng.normal(0, 1, 12)
    truth = 1 / (1 + np.exp(-(easiness + ability[:, None])))
    fit = fit_factor(rng.binomial(300, truth).astype(float), np.full(truth.shape, 300.0), draws=800)
    effect = (fit.ability * fit.loading.mean(1, keepdims=True)).mean(0)  # the scale of one can be absorbed by the other
    np.testing.assert_allclose(effect - effect.mean(), ability - ability.mean(), atol=0.25)
    assert fit.scale_reduction < 1.3


@pytest.mark.parametrize("name", ["5 questions", "5 to 2,000, a fifth of the cells missing"])
def test_intervals_hold_the_truth(name):
    """A short run of benchmarks/mpg_coverage.py; the full one is in docs/mpg.md."""
    shares = study(SCENARIOS[name], 4, draws=800).shares()
    assert 0.91 < shares["all"] < 0.985
    assert shares["ranks"] > 0.93


# --- Fastness, agreement, report -------------------------------------------------------------------------------------


def test_fastness_of_prices_is_a_table_of_costs():
    from p2l_sdk import P2L

    p2l = P2L.from_pretrained()
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


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    names = [f"m{i}" for i in range(25)]
    y, x = rng.normal(size=25), np.round(rng.normal(size=25), 1)
    z = y + 0.3 * rng.normal(size=25)
    tables = {"x": dict(zip(names, x, strict=True)), "z": dict(zip(names, z, strict=True))}
    noise, near = correlations(tables, dict(zip(names, y, strict=True)))
    expected = stats.pearsonr(x, y)[0], stats.spearmanr(x, y)[0], stats.kendalltau(x, y)[0]
    values = [noise.coefficients[key] for key in ("pearson", "spearman", "kendall")]
    np.testing.assert_allclose([v.value for v in values], expected, atol=1e-12)
    assert (values[1].value, values[2].value) == pytest.approx((spearman(x, y), kendall(x, y)))
    picks = rng.integers(0, 25, (1000, 25))
    plain = np.quantile([stats.spearmanr(x[p], y[p])[0] for p in picks], [0.025, 0.975])
    np.testing.assert_allclose([values[1].low, values[1].high], plain, atol=0.06)
    assert near.differences["kendall"].low > 0
    assert noise.differences == {}
    assert "have 0 LLMs in common" in refusal(correlations, tables, {"other": 1.0})


def test_the_pareto_front():
    assert pareto_front(np.array([3, 2, 1, 2.5]), np.array([1, 2, 1.5, 0.5])).tolist() == [0, 1]


def test_what_is_not_all_measured_is_marked():
    plt = require_pyplot()
    rows = [row for row in ROWS if (row["model"], row["benchmark"]) != ("c", "code")]
    found = goodness(Results.read(rows), draws=200)
    goodness_of = {row[1]: row[2] for row in found.cells()[1]}
    assert [name for name, cell in goodness_of.items() if cell.startswith("*")] == ["c"]
    assert found.notes == (
        "1 of 6 cells is missing (* marks what needs them): predicted from the LLM's other results and the others' "
        "there, with that uncertainty",
    )
    axes = plot_subdomains(found)
    assert len([patch for patch in axes.patches if patch.get_hatch()]) == 2 * 2  # two outlines: the whole, and code
    figure = axes.figure
    figure.canvas.draw()
    title = axes._left_title
    assert "hatched: not all of it is measured" in " ".join(title.get_text().split())
    assert title.get_window_extent().x1 <= figure.bbox.x1
    plt.close(figure)
    whole = plot_subdomains(goodness(Results.read(ROWS), draws=200))
    assert not any(patch.get_hatch() for patch in whole.patches)
    assert "hatched" not in whole.get_title("left")
    plt.close(whole.figure)


def test_labels_of_the_front_are_clear_of_its_line():
    from matplotlib.text import Text

    plt = require_pyplot()
    found = goodness(Results.read(ROWS), draws=200)
    for measure, prices in (("usd_per_query", (9.0, 2.0, 2.0)), ("queries_per_second", None)):
        if prices is None:
            fast = Fastness.measured(
                {n: Run(seconds=np.full(5, s)) for n, s in zip("abc", (9.0, 3.0, 2.0), strict=True)}
            )
        else:
            costs = {n: (price, price) for n, price in zip("abc", prices, strict=True)}
            fast = Fastness.of_prices(costs, input_tokens=500, output_tokens=500)
        axes = plot_goodness_fastness(found, fast, measure)
        axes.figure.canvas.draw()
        line = next(line for line in axes.lines if line.get_linestyle() == "--")
        path = line.get_transform().transform_path(line.get_path())
        assert len(axes.texts) == 3
        for text in axes.texts:
            box = Text.get_window_extent(text)
            assert not path.intersects_bbox(box, filled=False)
            assert axes.bbox.x0 - 2 <= box.x0 < box.x1 <= axes.bbox.x1 + 2
        assert ("side by side" in axes.get_xlabel()) == (prices is not None)
        legend = axes.get_legend().get_window_extent()
        assert legend.y0 >= axes.bbox.y1 - 1
        plt.close(axes.figure)


def test_a_narrow_terminal_keeps_names_whole(monkeypatch, capsys):
    name = "llama-3.3-nemotron-super-49b-v1"
    found = goodness(Results.read([{**row, "model": name if row["model"] == "a" else row["model"]} for row in ROWS]))
    fast = Fastness.of_prices({name: (1.0, 2.0), "b": (1.0, 1.0)}, input_tokens=500, output_tokens=500)
    for columns, best in ((80, False), (120, True)):
        monkeypatch.setenv("COLUMNS", str(columns))
        print_report(Report(found, fast))
        lines = capsys.readouterr().out.splitlines()
        assert any(name in line for line in lines)
        assert max(map(len, lines)) <= columns
        assert any("no room here for: best (--json has all)" in line for line in lines) is not best


def test_like_llms_look_alike():
    """Within an interval of each other no contrast, and all that show the best number are bold."""
    plt = require_pyplot()
    rows = [
        {"model": name, "benchmark": benchmark, "question_id": i, "score": float(i < right + more)}
        for name, more in (("a", 1), ("b", 0), ("c", 0))
        for benchmark, right in (("few", 2), ("many", 200 if name == "a" else 40))
        for i in range(12 if benchmark == "few" else 400)
    ]
    found = goodness(Results.read(rows), draws=400, prior="jeffreys")
    axes = plot_subdomains(found)
    cells = [patch.get_facecolor()[0] for patch in axes.patches]  # red: darker for less
    few, many = cells[3:6], cells[6:9]
    assert np.ptp(few) < 0.25 < 0.6 < np.ptp(many)
    assert abs(few[1] - few[2]) < 0.05
    weights = {text.get_text(): text.get_fontweight() for text in axes.texts}
    assert weights["50"] == "bold"
    assert weights["10"] == "normal"
    plt.close(axes.figure)
    rows = [
        {"model": name, "benchmark": benchmark, "correct": right, "total": 10_000}
        for name in "ab"
        for benchmark, right in (("math", 8000), ("code", 3000))
    ]
    same = plot_subdomains(goodness(Results.read(rows), draws=400, prior="jeffreys"))
    numbers = [text for text in same.texts if text.get_text().isdigit()]
    assert {text.get_text(): text.get_fontweight() for text in numbers} == {"55": "bold", "80": "bold", "30": "bold"}
    assert len([text for text in numbers if text.get_fontweight() == "bold"]) == 6
    plt.close(same.figure)


def test_the_pictures_and_the_page_say_whether_chance_is_off():
    plt = require_pyplot()
    fast = Fastness.of_prices(dict.fromkeys("abc", (1.0, 1.0)), input_tokens=500, output_tokens=500)
    for chance, scale, sentence in (
        ({}, "questions right, %", "the tree names no chance level"),
        ({"math": 0.25}, "questions right beyond chance, %", "where the tree names a chance level"),
    ):
        found = goodness(Results.read(ROWS), Tree.read({"nodes": NODES, "chance": chance}), draws=200)
        axes = plot_goodness_fastness(found, fast)
        assert scale in axes.get_ylabel()
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["both the best and the cheapest"]
        table = plot_subdomains(found)
        assert scale in " ".join(table.get_title("left").split())
        plt.close(axes.figure)
        plt.close(table.figure)
        assert sentence in Report(found).to_html()


def test_what_few_questions_do_is_said():
    rows = [
        {"model": name, "benchmark": "b", "correct": right, "total": total}
        for name, right, total in (("a", 0, 12), ("b", 5, 12))
    ]
    jeffreys = goodness(Results.read(rows), draws=400, prior="jeffreys")
    assert jeffreys.notes == (
        "where questions are few, estimates are drawn from the score towards one half: on single benchmarks by up to "
        "4 points",
    )
    assert "towards what the other results make one expect" in goodness(Results.read(rows), draws=400).notes[0]
    many = [{**row, "correct": 100 * row["correct"], "total": 1200} for row in rows]
    assert goodness(Results.read(many), draws=400, prior="jeffreys").notes == ()


def test_captions_name_goodness_and_count():
    found = goodness(Results.read(ROWS), Tree.read({"nodes": NODES}), draws=200)
    assert found.caption == "Goodness (all) of 3 LLMs on 2 benchmarks (tree)"
    one = Results.read([{"model": "a", "benchmark": "math", "score": 0.5}])
    assert goodness(one, draws=200).caption == "Goodness of 1 LLM on 1 benchmark (tree)"
    assert goodness(one, draws=200).notes[0].startswith("1 published mean without a number of questions: taken as 100")


def test_report_on_the_command_line(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from p2l_sdk.cli import cli

    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (tmp_path / "prices.json").write_text(json.dumps([{"name": n, "input_price": 1, "output_price": 2} for n in "abc"]))
    (tmp_path / "reference.csv").write_text("model,rating\na,1200\nb,1100\nc,1150\n")
    (tmp_path / "tree.yaml").write_text("nodes: {all: [numbers, code], numbers: [math]}\n")
    command = ["mpg", "report", "--results", f"{tmp_path}/r.jsonl", "--tree", f"{tmp_path}/tree.yaml"]
    command += [
        "--prices",
        f"{tmp_path}/prices.json",
        "--reference",
        f"{tmp_path}/reference.csv",
        "--draws",
        "400",
        "--prior",
        "jeffreys",
    ]
    run = CliRunner(env={"COLUMNS": "110"}).invoke
    table = run(cli, [*command, "--output", f"{tmp_path}/out"], catch_exceptions=False).output
    assert [line.split()[1] for line in table.splitlines() if line[:4].strip().isdigit()][:3] == ["a", "b", "c"]
    assert "$0.0015" in table
    assert "Agreement with the reference, 3 LLMs" in table
    assert not [line for line in table.splitlines() if line != line.rstrip()]
    with monkeypatch.context() as patch:
        patch.setattr("p2l_sdk.mpg.goodness", lambda *_, **__: pytest.fail("refused only after the fit"))
        with pytest.raises(P2LError, match="out' exists already; name a new or an empty folder"):
            run(cli, [*command, "--output", f"{tmp_path}/out"], catch_exceptions=False, standalone_mode=False)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 2
    assert "http" not in page.replace("http://www.w3.org", "")
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert json.loads(run(cli, [*command, "--json"], catch_exceptions=False).output) == data
    assert [row["model"] for row in data["goodness"]["nodes"][0]["rows"]] == ["a", "b", "c"]
    for name in ("goodness_fastness.png", "subdomains.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    (tmp_path / "r.jsonl").write_text(json.dumps({**ROWS[0], "correct": 120}))
    with pytest.raises(ResultsError, match="correct is 120"):
        run(cli, command, catch_exceptions=False, standalone_mode=False)


def test_a_goodness_is_the_prior_of_a_new_llm():
    """With few votes the new LLM stands nearer to where its benchmarks put it."""
    from p2l_sdk import P2L
    from p2l_sdk.errors import P2LWarning, UnknownModelError
    from p2l_sdk.votes.votes import Votes

    p2l = P2L.from_pretrained()
    prompts = ["What is 17 * 23?", "Who wrote Moby Dick?", "Write a haiku about the sea"]
    level = np.mean([board.coefs for board in p2l.leaderboards(prompts)], 0)
    names = (*p2l.models, "new")
    rng = np.random.default_rng(0)
    skill = np.append(level, level.max() + 1.0)
    right = np.round(1000 / (1 + np.exp(-(skill[:, None] * 0.8 + rng.normal(0, 0.1, (len(names), 6))))))
    counts = {"model": [], "benchmark": [], "correct": [], "total": []}
    for m, name in enumerate(names):
        for b in range(6):
            for key, value in zip(counts, (name, f"b{b}", right[m, b], 1000), strict=True):
                counts[key].append(value)
    board = goodness(Results.read(counts), draws=400, prior="jeffreys").leaderboard()
    votes = Votes.read(
        [{"prompt": p, "model_a": "new", "model_b": p2l.models[0], "winner": "tie"} for p in prompts], names
    )
    with pytest.warns(P2LWarning, match="too few votes"):
        plain = p2l.add_model("new", votes)
    told = p2l.add_model("new", votes, prior=board)
    known, blind = (np.mean([b.coefs[-1] for b in model.leaderboards(prompts)]) for model in (told, plain))
    assert abs(known - skill[-1]) < 0.5 < abs(blind - skill[-1])
    assert told.additions["new"].standard_error < plain.additions["new"].standard_error
    assert told.additions["new"].to_dict()["prior"] == "leaderboard"
    with pytest.raises(UnknownModelError, match="the prior names 'new'"):
        p2l.add_model("new", votes, prior=goodness(Results.read(ROWS), draws=400, prior="jeffreys").leaderboard())
