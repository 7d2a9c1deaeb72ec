"""What the benchmarks measure with: draws of training sets, losses by prompt, and the learners' gradients."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from p2l_sdk import Votes, fit_leaderboard
from p2l_sdk.evaluation.metrics import PairPredictions, pair_metrics
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback

NAMES = ["model_a", "model_b", "tie", "tie (bothbad)"]


@pytest.fixture
def training_draws(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module("training_draws")


@pytest.fixture
def votes():
    random = np.random.default_rng(0)
    a = random.integers(0, 4, 200)
    b = (a + random.integers(1, 4, 200)) % 4
    winner = random.integers(0, 4, 200)
    columns = zip(range(200), a, b, winner, strict=True)
    return Votes.from_rows(
        {"prompt": f"prompt {i % 20}", "model_a": "abcd"[x], "model_b": "abcd"[y], "winner": NAMES[w]}
        for i, x, y, w in columns
    )


def rows(votes):
    columns = zip(votes.prompt, votes.a, votes.b, votes.winner, strict=True)
    return {(votes.prompts[p], votes.models[a], votes.models[b], w) for p, a, b, w in columns}


@pytest.mark.parametrize("per_prompt", [1, 3, None])
def test_a_draw_is_some_prompts_with_some_of_their_votes(training_draws, votes, per_prompt):
    drawn, chosen = training_draws.draw(votes, 6, per_prompt, np.random.default_rng(1))
    assert [votes.prompts[i] for i in chosen] == drawn.prompts
    assert len(set(chosen)) == 6
    assert np.bincount(drawn.prompt).tolist() == [10 if per_prompt is None else per_prompt] * 6
    assert rows(drawn) <= rows(votes)
    assert set(drawn.models) == {drawn.models[i] for i in np.r_[drawn.a, drawn.b]}  # as in a file of these votes
    again = training_draws.draw(votes, 6, per_prompt, np.random.default_rng(1))[0]
    assert rows(again) == rows(drawn)
    written = Votes.from_rows(training_draws.rows_to_write(drawn))
    assert rows(written) == rows(drawn)
    assert written.models == drawn.models


def test_votes_between_some_of_the_models_leave_the_others_out(training_draws, votes):
    some = training_draws.of_models(votes, np.array([0, 2]))
    assert some.models == ("a", "c")
    assert rows(some) == {row for row in rows(votes) if {row[1], row[2]} == {"a", "c"}}


@pytest.mark.parametrize("feedback", [Feedback.GRK, Feedback.RK, Feedback.BT])
def test_losses_by_prompt_sum_to_the_metrics_of_evaluate(training_draws, votes, feedback):
    random, n = np.random.default_rng(2), len(votes.prompts)
    coefs, eta = random.normal(size=(n, 4)), random.normal(size=(n, 1)) if feedback.has_eta else None
    scores = random.random((n, 4))
    got = training_draws.losses(Coefficients(coefs, eta, None), feedback, votes, scores)
    pair = [coefs[votes.prompt, x] for x in (votes.a, votes.b)]
    own = {} if eta is None else {"eta": eta[votes.prompt, 0]}
    metrics = pair_metrics(PairPredictions(feedback, *pair, votes.winner, **own, cluster=votes.prompt))
    want = metrics["cross_entropy"]
    value, error = training_draws.mean_and_error(got.entropy, got.n)
    assert value == pytest.approx(want.value)
    assert error == pytest.approx(want.standard_error, rel=0.05)
    assert got.bt.sum() / got.decisive.sum() == pytest.approx(metrics["bt_log_loss"].value)
    if feedback is not Feedback.BT:
        assert got.winner.sum() / got.decisive.sum() == pytest.approx(metrics["winner_log_loss"].value)
    assert got.routed.tolist() == scores[np.arange(n), coefs.argmax(1)].tolist()


@pytest.mark.parametrize("feedback", [Feedback.GRK, Feedback.RK, Feedback.BT])
def test_what_the_competitors_learn_from_is_the_gradient_of_the_votes(training_draws, votes, feedback):
    pytest.importorskip("sklearn", reason="the extra [bench] is not installed")
    competitors = importlib.import_module("competitors")
    random, n = np.random.default_rng(3), len(votes.prompts)
    known = competitors.Known(votes, random.normal(size=(n, 3)), fit_leaderboard(votes, feedback), None)
    departure, step = random.normal(size=(n, 4)), 1e-5
    pull, curvature = known.pulls(departure)
    for prompt, model in [(0, 0), (3, 2), (7, 1)]:
        change = np.zeros((n, 4))
        change[prompt, model] = step
        up, down = (competitors.log_loss(votes, known.board, departure + x) for x in (change, -change))
        assert pull[prompt, model] == pytest.approx(-(up - down) / (2 * step), abs=1e-6)
    assert (curvature >= 0).all()
    assert known.pulls()[0] == pytest.approx(known.pulls(np.zeros((n, 4)))[0])  # the fast path


@pytest.mark.parametrize("name", ["kNN", "ridge", "logistic", "boosting"])
def test_a_competitor_learns_what_the_vectors_tell(training_draws, name, monkeypatch):
    pytest.importorskip("sklearn", reason="the extra [bench] is not installed")
    competitors = importlib.import_module("competitors")
    monkeypatch.setattr(competitors, "_ROUNDS", (40, 80))
    monkeypatch.setattr(competitors, "_PENALTIES", (1.0, 10.0))
    random = np.random.default_rng(4)
    kind = random.integers(0, 2, 120)
    vectors = np.stack([kind, 1 - kind, *random.normal(size=(3, 120)) * 0.1], 1)
    wins = np.where(random.random(120) < 0.9, kind, 1 - kind)  # the LLM "b" is better on kind 1
    table = [{"prompt": f"{i}", "model_a": "a", "model_b": "b", "winner": NAMES[w]} for i, w in enumerate(wins)]
    known = competitors.Known.of(Votes.from_rows(table), vectors, None, Feedback.BT)
    departure, _ = competitors.learned(competitors.LEARNERS[name], known, np.eye(2, 5))
    assert departure[1, 0] - departure[1, 1] > 1.0  # kind 0
    assert departure[0, 1] - departure[0, 0] > 1.0
