"""Goodness against known values: posteriors, weights, missing cells, shared luck, coverage."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from conftest import ROOT
from mpg_results import NODES, ROWS, refusal
from scipy import stats
from scipy.special import gammaln
from thorough import thorough

from p2l_sdk.evaluation.metrics import kendall, spearman
from p2l_sdk.mpg import Results, Tree, goodness
from p2l_sdk.mpg.factor import fit_factor, log_rising_factorial
from p2l_sdk.mpg.pairing import paired, shared_luck

sys.path.append(str(ROOT / "benchmarks"))  # at the end: nothing there may shadow a module of the tests
from mpg_coverage import SCENARIOS, study


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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
@pytest.mark.parametrize("name", ["5 questions", *thorough("5 to 2,000, a fifth of the cells missing")])
def test_intervals_hold_the_truth(name):
    """A short run of benchmarks/mpg_coverage.py; the full one is in docs/mpg.md."""
    shares = study(SCENARIOS[name], 4, draws=800).shares()
    assert 0.91 < shares["all"] < 0.985
    assert shares["ranks"] > 0.93


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


@pytest.mark.long
def test_captions_name_goodness_and_count():
    found = goodness(Results.read(ROWS), Tree.read({"nodes": NODES}), draws=200)
    assert found.caption == "Goodness (all) of 3 LLMs on 2 benchmarks (tree)"
    one = Results.read([{"model": "a", "benchmark": "math", "score": 0.5}])
    assert goodness(one, draws=200).caption == "Goodness of 1 LLM on 1 benchmark (tree)"
    assert goodness(one, draws=200).notes[0].startswith("1 published mean without a number of questions: taken as 100")


def test_a_goodness_is_the_prior_of_a_new_llm(routing9):
    """With few votes the new LLM stands nearer to where its benchmarks put it."""
    from p2l_sdk.errors import P2LWarning, UnknownModelError
    from p2l_sdk.votes.votes import Votes

    p2l = routing9
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
    informed = p2l.add_model("new", votes, prior=board)
    known, blind = (np.mean([b.coefs[-1] for b in model.leaderboards(prompts)]) for model in (informed, plain))
    assert abs(known - skill[-1]) < 0.5 < abs(blind - skill[-1])
    assert informed.additions["new"].standard_error < plain.additions["new"].standard_error
    assert informed.additions["new"].to_dict()["prior"] == "leaderboard"
    with pytest.raises(UnknownModelError, match="the prior names 'new'"):
        p2l.add_model("new", votes, prior=goodness(Results.read(ROWS), draws=400, prior="jeffreys").leaderboard())
