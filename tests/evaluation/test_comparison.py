"""Two models compared, paired, on the same votes and scores: in Python, and by `p2l evaluate --model A --model B`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command_line import p2l as command
from conftest import MODELS
from drawn_votes import Given, votes_of

from p2l_sdk import P2L, fit_leaderboard
from p2l_sdk.errors import P2LError, VotesError
from p2l_sdk.evaluation import compare, compare_with_baseline, evaluate_scores, evaluate_votes
from p2l_sdk.evaluation.metrics import arena_score
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.votes.counts import VoteCounts
from p2l_sdk.votes.votes import Scores, Votes

COSTS = dict(zip(MODELS, (0.001, 0.002, 0.004, 0.008), strict=True))


@pytest.fixture
def drawn(rng):
    """(the true model, a noisier one, votes and scores drawn from the truth on 300 prompts)."""
    coefs = rng.normal(size=(300, 4)) * 1.5
    eta = np.full((300, 1), -0.5)
    noisy = coefs + rng.normal(size=coefs.shape)
    scores = Scores([str(i) for i in range(300)], MODELS, 1 / (1 + np.exp(-coefs - rng.normal(size=coefs.shape))))
    return P2L(Given(coefs, eta), costs=COSTS), P2L(Given(noisy, eta), costs=COSTS), votes_of(coefs, eta, rng), scores


def test_the_difference_is_that_of_the_metrics_and_surer_than_either(drawn):
    true, noisy, votes, scores = drawn
    found = compare(true, noisy, votes, scores)
    assert (found.models, found.feedback) == (MODELS, ("grk", "grk"))
    assert found.first["routed_score"] == evaluate_scores(true, scores)["routed_score"]
    one, two = evaluate_votes(true, votes), evaluate_votes(noisy, votes)
    for name, difference in found.difference.items():
        if name in one:
            assert (found.first[name], found.second[name]) == (one[name], two[name])
        if name != "same_llm":
            assert difference.value == pytest.approx(found.first[name].value - found.second[name].value, abs=1e-12)
    assert found.difference["cross_entropy"].interval[1] < 0
    assert found.difference["routed_score"].interval[0] > 0
    assert found.difference["cross_entropy"].standard_error < one["cross_entropy"].standard_error
    again = compare(noisy, true, votes, scores).difference
    assert all(again[name].value == pytest.approx(-found.difference[name].value, abs=1e-12)
               for name in again if name != "same_llm")  # fmt: skip
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    low, high = plain["difference"]["routed_score"]["interval"]
    assert high - low == pytest.approx(2 * 1.96 * found.difference["routed_score"].standard_error)


def test_the_standard_errors_are_those_of_a_bootstrap_over_prompts(drawn, rng):
    true, noisy, votes, scores = drawn
    found = compare(true, noisy, votes, scores).difference
    table, costs = scores.scores, np.array(list(COSTS.values()))
    one, two = (p2l.coefficients(scores.prompts).coefs.argmax(1) for p2l in (true, noisy))
    each = np.arange(300)
    arenas, losses = [], []
    for _ in range(1500):
        rows = rng.integers(0, 300, 300)
        of = [arena_score(table[each, c][rows].mean(), costs[c][rows].mean()) for c in (one, two)]
        arenas.append(of[0] - of[1])
    assert found["router_arena_score"].standard_error == pytest.approx(np.std(arenas), rel=0.1)
    coefs = [p2l.coefficients(votes.prompts).coefs for p2l in (true, noisy)]
    decisive = votes.winner < 2
    sign = np.where(votes.winner == 0, 1.0, -1.0)
    margins = [sign * (c[votes.prompt, votes.a] - c[votes.prompt, votes.b]) for c in coefs]
    less = (np.logaddexp(0, -margins[0]) - np.logaddexp(0, -margins[1])) * decisive
    sums, counts = np.bincount(votes.prompt, less), np.bincount(votes.prompt, decisive.astype(float))
    for _ in range(1500):
        rows = rng.integers(0, 300, 300)
        losses.append(sums[rows].sum() / counts[rows].sum())
    assert found["bt_log_loss"].standard_error == pytest.approx(np.std(losses), rel=0.1)


def test_models_of_other_llms_and_feedback_are_compared_on_what_they_share(drawn, rng):
    true, _, votes, scores = drawn
    names = (MODELS[2], "stranger", MODELS[0], MODELS[1])
    other = P2L(Given(rng.normal(size=(300, 4)), None, Feedback.BT, names))
    found = compare(true, other, votes, scores)
    assert found.models == MODELS[:3]
    kept = np.isin(votes.a, [0, 1, 2]) & np.isin(votes.b, [0, 1, 2])
    assert found.sizes["n_votes"] == kept.sum()
    assert found.notes[0] == f"votes left out, on an LLM that only one of the models knows: {(~kept).sum():,}"
    assert "cross_entropy" in found.first
    assert not {"cross_entropy", "brier_score", "outcome_accuracy"} & set(found.difference)
    assert "grk and bt have different outcomes" in found.notes[1]
    decisive = kept & (votes.winner < 2)
    coefs = true.coefficients(votes.prompts).coefs
    margin = np.where(votes.winner == 0, 1, -1) * (coefs[votes.prompt, votes.a] - coefs[votes.prompt, votes.b])
    assert found.first["bt_log_loss"].value == pytest.approx(np.logaddexp(0, -margin)[decisive].mean())
    routed = scores.scores[np.arange(300), coefs[:, :3].argmax(1)]
    assert found.first["routed_score"].value == pytest.approx(routed.mean())
    assert "routed_cost" not in found.difference  # the second model has no costs


def test_what_cannot_be_compared_is_refused(drawn):
    true, _, votes, scores = drawn
    stranger = P2L(Given(np.zeros((300, 2)), None, Feedback.BT, (MODELS[0], "x")))
    with pytest.raises(P2LError, match=f"only the LLM '{MODELS[0]}' in common, so there is nothing to compare: the fi"):
        compare(true, stranger, votes)
    with pytest.raises(P2LError, match="give votes, scores or both"):
        compare(true, true)
    with pytest.raises(P2LError, match="the scores have no column for delta-405b, which both models know"):
        compare(true, true, scores=Scores(scores.prompts, MODELS[:3], scores.scores[:, :3]))
    rows = [{"prompt": "1", "model_a": MODELS[0], "model_b": "nobody", "winner": "tie"}]
    with pytest.raises(VotesError, match="the votes name nobody, which neither model knows"):
        compare(true, true, Votes.from_rows(rows))


def test_the_baseline_on_decisive_votes_is_a_bradley_terry_fit(drawn):
    true, _, votes, _ = drawn
    bt, grk = (fit_leaderboard(votes, feedback, intervals=None) for feedback in ("bt", "grk"))
    found = compare_with_baseline(true, votes, votes)
    of_board = compare_with_baseline(true, votes, grk)  # a leaderboard is taken as it is
    assert compare_with_baseline(true, votes, VoteCounts.of(votes)).to_dict() == found.to_dict()
    margin = np.where(votes.winner == 0, 1, -1) * (bt.coefs[votes.a] - bt.coefs[votes.b])
    by_hand = np.logaddexp(0, -margin)[votes.winner < 2].mean()
    assert found.metrics["bt_log_loss"].value == pytest.approx(by_hand)
    assert found.metrics["bt_log_loss"].value < of_board.metrics["bt_log_loss"].value - 1e-6
    of_model = evaluate_votes(true, votes)["bt_log_loss"].value
    assert found.difference["bt_log_loss"].value == pytest.approx(of_model - by_hand)
    for name in ("cross_entropy", "winner_log_loss", "ece", "brier_score"):
        assert found.metrics[name] == of_board.metrics[name]


@pytest.fixture
def files(tmp_path, routing9):
    """A model that lacks the last LLM of routing9, and files of votes and of scores, one of them outside [0, 1]."""
    names = routing9.models
    routing9.remove_model(names[-1]).save_pretrained(tmp_path / "less")
    rows = [
        {"prompt": f"write {word}", **dict(zip(names, values, strict=True))}
        for word, values in (
            ("a poem", [0, 1, 0.5, 1, 0, 1, 0, 1, 1]),
            ("code", [1, -0.033, 1, 0, 1, 0, 1, 0, 1]),
            ("a list", [1, 0, None, 1, 1, 0, 0, 1, 0]),
        )
    ]
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    votes = [{"prompt": row["prompt"], "model_a": names[0], "model_b": names[1], "winner": winner}
             for row in rows for winner in ("model_a", "tie (bothbad)", "model_b")]  # fmt: skip
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in votes))
    return tmp_path / "less", tmp_path / "scores.jsonl", tmp_path / "votes.jsonl"


def test_the_command_compares_two_models(files, routing9):
    less, scores, votes = files
    arguments = ("evaluate", "--model", "routing9", "--model", less, "--votes", votes, "--scores", scores)
    done = command(*arguments, "--scores-outside", "clip", "--json")
    found = json.loads(done.stdout)
    assert found["compared"] == ["routing9", str(less)]
    assert found["models"] == list(routing9.models[:-1])
    assert found["difference"]["bt_log_loss"]["n"] == 6
    said = (
        f"line 2: the score of '{routing9.models[1]}' is -0.033, the only one of 23 scores outside [0, 1]; it was cli"
    )
    assert said.encode() in done.stderr
    expected = compare(routing9, P2L.from_pretrained(less), Votes.read(votes)).to_dict()["difference"]
    for name, estimate in expected.items():
        assert found["difference"][name]["value"] == pytest.approx(estimate["value"])
    text = " ".join(command(*arguments, "--scores-outside", "drop").stdout.decode().split())
    for words in ("first", "difference", "95 % interval", "routed score", "8 common LLMs"):
        assert words in text


def test_the_command_shows_the_averaged_leaderboard_as_a_router(files, routing9):
    _, scores, votes = files
    arguments = ("evaluate", "--model", "routing9", "--scores", scores, "--baseline-votes", votes)
    costs = json_file(scores.parent / "costs.json", dict.fromkeys(routing9.models, 0.002))
    found = json.loads(command(*arguments, "--costs", costs, "--json").stdout)
    assert found["metrics"]["averaged_leaderboard_model"] in routing9.models
    assert found["metrics"]["routed_cost"]["value"] == pytest.approx(0.002)
    assert set(found["baseline"]["metrics"]) >= {"routed_score", "routed_cost"}
    assert any(f"scores: line 2: the score of '{routing9.models[1]}' is -0.033" in note for note in found["notes"])
    text = " ".join(command(*arguments).stdout.decode().split())
    assert "on scores its first LLM for every prompt: " in text
    assert "best single LLM on these prompts: " in text


def json_file(path, value):
    path.write_text(json.dumps(value))
    return path
