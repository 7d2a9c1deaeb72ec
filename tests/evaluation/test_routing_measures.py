"""The field's measures of routing: by hand, against resampling, and with missing scores and costs."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from conftest import MODELS
from drawn_votes import Given

from p2l_sdk import P2L, Leaderboard
from p2l_sdk.errors import P2LError, P2LWarning
from p2l_sdk.evaluation import evaluate, evaluate_scores
from p2l_sdk.evaluation.metrics import arena_score, cost_saved, relative_difference, router_arena_score
from p2l_sdk.evaluation.routed import best_single
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.votes.votes import Scores

COSTS = dict(zip(MODELS, (0.001, 0.002, 0.004, 0.008), strict=True))


@pytest.fixture
def routed(rng):
    """(model, scores of 60 prompts): the coefficients say half of which LLM is right."""
    coefs = rng.normal(size=(60, 4))
    table = (coefs + rng.normal(size=(60, 4)) + [0.0, 0.2, 0.4, 1.0] > 0.5).astype(float)
    p2l = P2L(Given(coefs, np.zeros((60, 1))), costs=COSTS)
    return p2l, Scores([str(i) for i in range(60)], p2l.models, table)


def test_router_arenas_score_by_hand():
    """RouterArena's own leaderboard: accuracy 0.7575 at USD 0.125 per 1,000 queries has the score 0.7505."""
    assert arena_score(0.7575, 0.125e-3) == pytest.approx(0.7505, abs=5e-4)
    cheapness = math.log(200 / 0.311) / math.log(200 / 0.0044)  # the base of the logarithms does not matter
    assert arena_score(0.7167, 0.311e-3) == pytest.approx(1.1 * 0.7167 * cheapness / (0.07167 + cheapness))
    assert arena_score(0.7167, 0.311e-3) == pytest.approx(0.7046, abs=5e-4)
    assert arena_score(0.6, 0.0) == arena_score(0.6, 0.0044e-3) == pytest.approx(1.1 * 0.6 / 1.06)
    assert arena_score(0.6, 1.0) == arena_score(0.0, 1.0) == 0.0


def test_the_delta_method_agrees_with_a_bootstrap(rng):
    scores, costs = rng.binomial(1, 0.6, 400).astype(float), rng.choice([2e-4, 1e-3, 9e-3], 400)
    others = np.clip(scores + rng.choice([-1, 0, 0, 0, 1], 400), 0, 1)
    drawn = rng.integers(0, 400, (4000, 400))
    arena = [arena_score(scores[rows].mean(), costs[rows].mean()) for rows in drawn]
    gain = scores[drawn].mean(1) / others[drawn].mean(1) - 1
    for estimate, resampled in (
        (router_arena_score(scores, costs), arena),
        (relative_difference(scores, others), gain),
    ):
        assert estimate.n == 400
        assert estimate.standard_error == pytest.approx(np.std(resampled), rel=0.08)
    assert relative_difference(scores, np.zeros(400)) is None
    assert router_arena_score(scores[:1], costs[:1]).standard_error is None


def test_cost_saved_by_hand():
    """Three settings on four prompts; the single LLM scores 0.5 at a cost of 10."""
    scores = np.array([[0, 0, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0]], dtype=float)
    costs = np.array([[1, 1, 1, 1], [2, 2, 3, 1], [9, 9, 9, 9]], dtype=float)
    single = np.array([1, 1, 0, 0], dtype=float)
    saved = cost_saved(scores, costs, single, 10.0)
    assert saved.value == pytest.approx(0.8)  # the second setting: the first is cheaper, but worse
    assert saved.standard_error > 0
    assert cost_saved(scores, costs, single, 10.0) == saved
    assert cost_saved(scores[:1], costs[:1], single, 10.0) is None  # never as good
    assert cost_saved(scores[2:], costs[2:], single, 6.0).value == pytest.approx(-0.5)  # as good only at a higher cost
    assert cost_saved(scores, costs, single, 0.0) is None


def test_all_measures_of_a_model_by_hand(routed):
    p2l, scores = routed
    table, choice = scores.scores, p2l.coefficients(scores.prompts).coefs.argmax(1)
    metrics = evaluate_scores(p2l, scores)
    score, cost = table[np.arange(60), choice].mean(), np.array(list(COSTS.values()))[choice].mean()
    single = int(table.mean(0).argmax())
    oracle = table.max(1).mean()
    expected = {
        "routed_score": score, "routed_cost": cost, "router_arena_score": arena_score(score, cost),
        "best_single_score": table[:, single].mean(), "best_single_cost": COSTS[MODELS[single]],
        "gain_over_best_single": score - table[:, single].mean(),
        "relative_gain_over_best_single": score / table[:, single].mean() - 1,
        "oracle_score": oracle, "gap_to_oracle": oracle - score, "relative_gap_to_oracle": 1 - score / oracle,
    }  # fmt: skip
    for name, value in expected.items():
        assert metrics[name].value == pytest.approx(value), name
        assert metrics[name].n == 60
    assert metrics["best_single_model"] == MODELS[single]
    found = p2l.router().frontier(p2l.coefficients(scores.prompts).coefs, None, table)
    cheap = found.router_costs[found.router_scores >= table[:, single].mean()]
    assert metrics["cost_saved"].value >= 1 - cheap.min() / COSTS[MODELS[single]] - 0.01  # of other budgets, fewer


def test_the_averaged_leaderboard_routes_every_prompt_to_its_first_llm(routed):
    p2l, scores = routed
    board = Leaderboard(models=p2l.models, coefs=np.array([0.0, 3.0, 1.0, 2.0]), feedback=Feedback.GRK, eta=0.0)
    report = evaluate(p2l, scores=scores, baseline_votes=board)
    assert report.metrics["averaged_leaderboard_model"] == MODELS[1]
    mean = scores.scores[:, 1].mean()
    assert report.baseline.metrics["routed_score"].value == pytest.approx(mean)
    assert report.baseline.metrics["routed_cost"].value == pytest.approx(0.002)
    assert report.baseline.metrics["router_arena_score"].value == pytest.approx(arena_score(mean, 0.002))
    for name, difference in report.baseline.difference.items():
        assert difference.value == pytest.approx(report.metrics[name].value - report.baseline.metrics[name].value)
    assert set(report.baseline.difference) == {"routed_score", "routed_cost", "router_arena_score"}
    assert report.notes == []
    json.dumps(report.to_dict(), allow_nan=False)


def test_missing_scores_are_left_out_of_what_needs_them_and_counted(routed):
    p2l, scores = routed
    table, choice = scores.scores.copy(), p2l.coefficients(scores.prompts).coefs.argmax(1)
    table[0, choice[0]] = np.nan
    table[1, (choice[1] + 1) % 4] = np.nan
    some = Scores(scores.prompts, scores.models, table)
    report = evaluate(p2l, scores=some)
    metrics, rest = report.metrics, np.arange(1, 60)
    assert metrics["routed_score"].n == 59
    assert metrics["routed_score"].value == pytest.approx(scores.scores[rest, choice[1:]].mean())
    assert metrics["oracle_score"].n == metrics["gap_to_oracle"].n == metrics["cost_saved"].n == 58
    assert metrics["oracle_score"].value == pytest.approx(scores.scores[2:].max(1).mean())
    assert "2 of 240 scores are missing" in report.notes[0]
    assert "prompts left out, of 60" in report.notes[1]
    assert "1 of routed_score, router_arena_score" in report.notes[1]
    assert "oracle_score, gap_to_oracle, relative_gap_to_oracle, cost_saved" in report.notes[1].partition("2 of")[2]


def test_an_llm_with_few_scores_is_not_the_best_single_one():
    table = np.array([[0.5, 1.0], [0.6, np.nan], [0.4, np.nan]])
    assert best_single(table) == 0
    assert best_single(np.array([[np.nan, 0.2], [np.nan, np.nan], [np.nan, np.nan]])) == 1


def test_without_costs_there_is_no_measure_of_costs(routed):
    p2l, scores = routed
    p2l.costs = {}
    metrics = evaluate_scores(p2l, scores)
    assert not {"routed_cost", "router_arena_score", "best_single_cost", "cost_saved"} & set(metrics)
    p2l.costs = {name: COSTS[name] for name in MODELS[:2]}  # the router's LLM has a known cost on some prompts
    metrics = evaluate_scores(p2l, scores)
    cheap = int((p2l.coefficients(scores.prompts).coefs.argmax(1) < 2).sum())
    assert metrics["routed_cost"].n == metrics["router_arena_score"].n == cheap < 60


def test_scores_outside_the_unit_interval_have_no_accuracy(routed):
    p2l, scores = routed
    table = scores.scores.copy()
    table[:, 3] += 0.5
    rows = [{"prompt": p, **dict(zip(MODELS, row, strict=True))} for p, row in zip(scores.prompts, table, strict=True)]
    report = evaluate(p2l, scores=Scores.read(rows, p2l.models))
    assert "router_arena_score" not in report.metrics
    assert "--scores-outside" in report.notes[0]
    with pytest.warns(P2LWarning, match="clipped"):
        clipped = evaluate(p2l, scores=Scores.read(rows, p2l.models, outside="clip"))
    assert "router_arena_score" in clipped.metrics
    assert "were clipped to the nearer end" in clipped.notes[0]


def test_no_score_at_all_is_an_error(routed):
    p2l, scores = routed
    with pytest.raises(P2LError, match="there is no score to measure routing on"):
        evaluate_scores(p2l, Scores(scores.prompts, scores.models, np.full((60, 4), np.nan)))
