"""The metrics: computed by hand, against SciPy, and against the values of the paper's research code."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from conftest import ROOT, shared

from p2l_sdk import Leaderboard
from p2l_sdk.errors import P2LError, VotesError
from p2l_sdk.evaluation.metrics import (
    PairPredictions,
    compare_leaderboards,
    kendall,
    pair_metrics,
    pair_reliability,
    paired_differences,
    reliability,
    spearman,
    spread_of_coefficients,
    vote_losses,
)
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner

A, B, TIE, BAD = Winner


def random_votes(rng, n=200):
    """coefs_a, coefs_b, winners, eta and gamma, for any feedback model."""
    coefs_a, coefs_b = rng.normal(size=(2, n))
    return coefs_a, coefs_b, rng.integers(0, 4, n), {"eta": rng.normal(size=n), "gamma": rng.normal(size=n)}


# --- pairs ---------------------------------------------------------------------------------------------------------


def test_pair_metrics_by_hand():
    """Two decisive votes of probability 0.8 and 0.4, one on equal coefficients, one tie."""
    d = np.log([0.8 / 0.2, 0.6 / 0.4, 1.0, 3.0])
    metrics = pair_metrics(
        PairPredictions(Feedback.BT, d, np.zeros(4), np.array([A, B, B, TIE]), weights=np.array([1, 1, 2, 7.0]))
    )
    assert metrics["bt_log_loss"].value == pytest.approx(-np.log([0.8, 0.4, 0.5, 0.5]).mean())
    assert metrics["bt_mse"].value == pytest.approx((0.2**2 + 0.6**2 + 2 * 0.5**2) / 4)
    assert metrics["pair_accuracy"].value == pytest.approx((1 + 0 + 2 * 0.5) / 4)
    assert metrics["bt_log_loss"].n == metrics["cross_entropy"].n == 3


def test_ties_and_both_bad_by_hand():
    """Coefficients 0 and t = 2 (+ 1e-6): a and b 1/4 each, both bad 1/3, tie the remaining 1/6."""
    votes = np.array([A, TIE, BAD])
    metrics = pair_metrics(PairPredictions(Feedback.GRK, np.zeros(3), np.zeros(3), votes, eta=np.zeros(3)))
    close = pytest.approx
    assert metrics["cross_entropy"].value == close(np.log([4, 6, 3]).mean(), abs=1e-5)
    assert metrics["tie_log_loss"].value == close(np.log([2, 2, 2]).mean(), abs=1e-5)  # 1/6 + 1/3 = 1/2
    assert metrics["both_bad_log_loss"].value == close(-np.log([2 / 3, 2 / 3, 1 / 3]).mean(), abs=1e-5)
    assert metrics["both_bad_accuracy"].value == close(2 / 3)
    assert metrics["outcome_accuracy"].value == close(1 / 3)
    law = np.array([1 / 4, 1 / 4, 1 / 6, 1 / 3])
    brier = [np.square(np.eye(4)[y] - law).sum() for y in votes]
    assert metrics["brier_score"].value == close(np.mean(brier), abs=1e-5)


def test_most_probable_outcomes_share_the_credit():
    votes = np.array([A, B])
    hardly_any_ties = np.full(2, -50.0)
    metrics = pair_metrics(PairPredictions(Feedback.RK, np.zeros(2), np.zeros(2), votes, eta=hardly_any_ties))
    assert metrics["outcome_accuracy"].value == 0.5
    assert metrics["pair_accuracy"].value == 0.5


@pytest.mark.parametrize("feedback", list(Feedback))
def test_metrics_that_do_not_apply_are_absent(feedback, rng):
    coefs_a, coefs_b, winners, heads = random_votes(rng)
    pairs = {"bt_log_loss", "bt_mse", "pair_accuracy", "ece"}
    ties = {"winner_log_loss", "brier_score", "outcome_accuracy", "tie_log_loss", "tie_accuracy"}
    expected = pairs | {"cross_entropy"} | (ties if feedback.has_eta else set())
    if BAD in feedback.outcomes:
        expected |= {"both_bad_log_loss", "both_bad_accuracy"}
    assert set(pair_metrics(PairPredictions(feedback, coefs_a, coefs_b, winners, **heads))) == expected
    undecided = np.full(len(winners), TIE)
    without = expected - pairs - {"winner_log_loss"} - ({"cross_entropy"} if feedback is Feedback.BT else set())
    assert set(pair_metrics(PairPredictions(feedback, coefs_a, coefs_b, undecided, **heads))) == without


@pytest.mark.parametrize("feedback", list(Feedback))
def test_sides_do_not_matter(feedback, rng):
    coefs_a, coefs_b, winners, heads = random_votes(rng)
    swapped = np.array([B, A, TIE, BAD])[winners]
    first = pair_metrics(PairPredictions(feedback, coefs_a, coefs_b, winners, **heads))
    second = pair_metrics(PairPredictions(feedback, coefs_b, coefs_a, swapped, **heads))
    for name, estimate in first.items():
        assert second[name].value == pytest.approx(estimate.value), name


@pytest.mark.parametrize("feedback", [Feedback.RK, Feedback.RK_REPARAM, Feedback.GRK, Feedback.BA])
def test_the_cross_entropy_is_the_sum_of_its_parts(feedback, rng):
    """Chain rule: does nobody win; if somebody does, who; if nobody does, is it that both are bad."""
    coefs_a, coefs_b, winners, heads = random_votes(rng)
    losses = {name: values * counts for name, (values, counts) in
              vote_losses(PairPredictions(feedback, coefs_a, coefs_b, winners, **heads)).items()}  # fmt: skip
    rest = losses["cross_entropy"] - losses["tie_log_loss"] - losses["winner_log_loss"]
    undecided = winners >= TIE
    np.testing.assert_allclose(rest[~undecided], 0, atol=1e-12)
    if BAD in feedback.outcomes:
        assert (rest[undecided] > 0).all()
    else:
        np.testing.assert_allclose(rest, 0, atol=1e-12)


@pytest.mark.parametrize("feedback", [Feedback.RK, Feedback.GRK])
def test_with_ties_the_odds_of_a_winner_are_steeper_than_the_coefficients(feedback, rng):
    """A model that is exactly right is calibrated by its law, and too cautious by sigmoid(coef_a - coef_b)."""
    n = 40_000
    coefs, eta = rng.normal(size=(2, n)), np.full(n, 5.0 if feedback is Feedback.RK else 1.0)
    losses = [
        vote_losses(PairPredictions(feedback, *coefs, np.full(n, w), eta=eta))["cross_entropy"][0]
        for w in feedback.outcomes
    ]
    law = np.exp(-np.stack(losses))
    winners = np.array(feedback.outcomes)[(rng.random(n) > law.cumsum(0)).sum(0).clip(max=len(law) - 1)]
    predictions = PairPredictions(feedback, *coefs, winners, eta=eta)
    right = pair_reliability(predictions)
    assert right.ece < 2 * right.ece_by_chance
    cautious = pair_reliability(PairPredictions(Feedback.BT, *coefs, winners))
    assert cautious.ece > 4 * cautious.ece_by_chance
    assert (cautious.frequency > cautious.probability)[1:].all()  # the first bin is about 1/2 in both
    metrics = pair_metrics(predictions)
    assert metrics["ece"].value == right.ece
    assert metrics["winner_log_loss"].value < metrics["bt_log_loss"].value


@pytest.mark.long
def test_the_losses_are_least_at_the_truth(rng):
    """Proper scores: no other threshold than the true one has a lower expected loss of ties."""
    n, names = 40_000, ("cross_entropy", "brier_score", "tie_log_loss")
    coefs, eta = rng.normal(size=(2, n)), np.zeros(n)
    each = [PairPredictions(Feedback.RK_REPARAM, *coefs, np.full(n, winner), eta=eta) for winner in (A, B, TIE)]
    law = np.exp(-np.stack([vote_losses(pairs)["cross_entropy"][0] for pairs in each]))
    winners = (rng.random(n) > law.cumsum(0)).sum(0).clip(max=2)
    for name in names:
        means = [
            pair_metrics(PairPredictions(Feedback.RK_REPARAM, *coefs, winners, eta=eta + shift))[name].value
            for shift in (-1, 0, 1)
        ]
        assert means[1] < min(means[0], means[2]), name


def test_a_paired_difference_is_more_precise(rng):
    coefs_a, coefs_b, winners, _ = random_votes(rng, 2000)
    votes = {"weights": np.ones(2000), "cluster": np.arange(2000) // 4}
    truth = PairPredictions(Feedback.BT, coefs_a, coefs_b, winners, **votes)
    near = PairPredictions(Feedback.BT, coefs_a + 0.1, coefs_b, winners, **votes)
    difference, alone, other = paired_differences(truth, near), pair_metrics(truth), pair_metrics(near)
    for name, estimate in difference.items():
        assert estimate.value == pytest.approx(alone[name].value - other[name].value)
        assert estimate.n == alone[name].n
    assert difference["bt_log_loss"].standard_error < alone["bt_log_loss"].standard_error / 5


# --- calibration ---------------------------------------------------------------------------------------------------


def test_calibration_by_hand():
    p, y = np.array([0.1, 0.2, 0.9, 0.8]), np.array([0.0, 1.0, 1.0, 1.0])
    curve = reliability(p, y, bins=2)
    np.testing.assert_allclose(curve.probability, [0.15, 0.85])
    np.testing.assert_allclose(curve.frequency, [0.5, 1.0])
    np.testing.assert_allclose(curve.share, [0.5, 0.5])
    assert curve.n.tolist() == [2, 2]
    assert curve.ece == pytest.approx((0.35 + 0.15) / 2)
    weighted = reliability(p, y, weights=np.array([3.0, 1.0, 0.0, 4.0]), bins=2)
    assert weighted.n.tolist() == [2, 1]
    assert weighted.ece == pytest.approx((abs(0.125 - 0.25) + 0.2) / 2)
    assert weighted.to_dict()["bins"][1]["standard_error"] is None  # one case has no standard error, and JSON no NaN
    assert weighted.ece_by_chance is None


def test_cases_of_one_probability_stay_together(rng):
    p = rng.choice([0.6, 0.7, 0.9], 500)
    y = rng.integers(0, 2, 500).astype(float)
    curve, order = reliability(p, y, bins=10), rng.permutation(500)
    np.testing.assert_allclose(curve.probability, [0.6, 0.7, 0.9])
    np.testing.assert_allclose(reliability(p[order], y[order], bins=10).frequency, curve.frequency)


def test_a_calibrated_model_shows_the_error_that_chance_gives(rng):
    errors, by_chance = [], []
    for _ in range(40):
        p = rng.uniform(0.5, 1.0, 1500)
        curve = reliability(p, (rng.random(1500) < p).astype(float))
        errors.append(curve.ece)
        by_chance.append(curve.ece_by_chance)
    assert np.mean(by_chance) == pytest.approx(np.mean(errors), rel=0.1)
    overconfident = reliability(p**0.5, (rng.random(1500) < p).astype(float))
    assert overconfident.ece == pytest.approx(np.mean(np.sqrt(p) - p), abs=0.03)
    assert overconfident.ece > 3 * overconfident.ece_by_chance


def test_the_curve_of_pairs_is_that_of_the_favourite():
    d, winners = np.log([3.0, 1 / 3.0, 1.0, 9.0]), np.array([A, A, B, TIE])
    curve = pair_reliability(PairPredictions(Feedback.BT, d, np.zeros(4), winners), bins=2)
    np.testing.assert_allclose(curve.probability, [0.5, 0.75])
    np.testing.assert_allclose(curve.frequency, [0.5, 0.5])
    assert curve.n.tolist() == [1, 2]
    with pytest.raises(VotesError, match="no decisive vote"):
        pair_reliability(PairPredictions(Feedback.BT, d, np.zeros(4), np.full(4, TIE)))
    with pytest.raises(P2LError, match="at least 1 bin, got 0"):
        pair_reliability(PairPredictions(Feedback.BT, d, np.zeros(4), winners), bins=0)


# --- leaderboards --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1000, 4])  # with few levels there are many ties
def test_rank_correlations_are_those_of_scipy(levels, rng):
    from scipy import stats

    for n in (2, 5, 40):
        x, y = rng.integers(0, levels, (2, n)).astype(float)
        if np.ptp(x) and np.ptp(y):
            assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
            assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)
    assert np.isnan(spearman(np.zeros(3), x[:3]))
    assert np.isnan(kendall(np.zeros(3), x[:3]))


def board(coefs, feedback=Feedback.BT, names="abcdefghijkl", **fields):
    coefs = np.array(coefs, dtype=float)
    return Leaderboard(models=tuple(names[: len(coefs)]), coefs=coefs, feedback=feedback, **fields)


def test_leaderboards_compared_by_hand():
    metrics = compare_leaderboards(board([2, 1, 0]), board([1, 2, 0]), k=(1, 2, 3, 4))
    s = 1 / (1 + np.exp(-np.array([1, 2, 1, -1, 1, 2])))
    assert metrics["preference_l1"] == pytest.approx(np.abs(s[:3] - s[3:]).mean())
    assert metrics["kendall"] == pytest.approx(1 / 3)
    assert metrics["spearman"] == pytest.approx(0.5)
    tops = {1: (0.0, 1.0), 2: (1.0, 1.0), 3: (1.0, 2 / 3)}
    for k, values in tops.items():
        assert (metrics[f"top_{k}_overlap"], metrics[f"top_{k}_displacement"]) == pytest.approx(values)
    assert "top_4_overlap" not in metrics  # there are only three LLMs
    assert "outcome_l1" not in metrics  # no ties


def test_only_what_both_leaderboards_know_is_compared():
    a, b = board([3, 2, 1, 0], names="abcd"), board([0, 5, 1, 2], names="bxcd")
    assert compare_leaderboards(a, b) == compare_leaderboards(board([2, 1, 0]), board([0, 1, 2]))
    same = board([1, 1, 1])
    assert not {"spearman", "kendall"} & set(compare_leaderboards(same, board([0, 1, 2])))
    grk = [board([1, 0, 2], Feedback.GRK, eta=eta) for eta in (0.0, 1.0)]
    assert compare_leaderboards(*grk)["outcome_l1"] > compare_leaderboards(*grk)["preference_l1"] == 0
    assert "outcome_l1" not in compare_leaderboards(grk[0], board([1, 0, 2]))
    with pytest.raises(P2LError, match="1 LLMs in common; at least 2"):
        compare_leaderboards(a, board([1, 2], names="ay"))
    with pytest.raises(P2LError, match="top of 0 LLMs"):
        compare_leaderboards(a, b, k=(0,))


def test_spread_of_coefficients_by_hand():
    spread = spread_of_coefficients(np.array([[0.0, 1, 2, 3, 4], [5, 5, 5, 5, 5]]))
    assert {name: values.tolist() for name, values in spread.items()} == {
        "range": [4, 0], "iqr": [2, 0], "std": [pytest.approx(np.sqrt(2.5)), 0],
    }  # fmt: skip


# --- the values of the paper's research code -----------------------------------------------------------------------

LOSSES = ("bt", "bt-tie", "rk", "rk-reparam", "bag")
TIES = ("Tie_Loss", "Tie_Accuracy", "Tie_bb_Loss", "Tie_bb_Accuracy")
NAMES = {"range": "Spread", "iqr": "IQR", "std": "Std"}
COMPARED = ("p2l_vs_marginal-gt", "p2l_vs_arena", "p2l_vs_arena_nan_at_3", "marginal_vs_marginal-gt")
CLAMP = {"rk": 1e-3, "rk-reparam": 1e-6, "bag": 1e-6}  # below these probabilities, their losses are flat


@pytest.fixture(scope="module")
def oracle():
    from safetensors.numpy import load_file

    data = json.loads(shared("oracle/metrics.json").read_text())
    return data, load_file(shared("oracle/metrics.safetensors"))


def oracle_votes(oracle, loss):
    """coefs, eta and (winner, loser, code) of the rows that a loss accepts; the winner is on side a."""
    _, tensors = oracle
    labels = tensors["labels_tie012"]
    rows = labels[:, 2] == 0 if loss == "bt" else slice(None)
    eta = tensors.get(f"eta.{loss}")
    labels = labels[rows]
    votes = labels[:, 0], labels[:, 1], np.array([A, TIE, BAD])[labels[:, 2]]
    return tensors["coefs"][rows].astype(float), None if eta is None else eta[rows, 0].astype(float), votes


def in_their_words(loss, losses, winners):
    """Their metrics, converted from ours. The differences:

    - probabilities are clamped before the logarithm;
    - MSE is the mean of (1 - P(outcome))^2 if there are ties (not a proper score; ours is the Brier score), and in
      bt-tie a tie costs 1/4 whatever was predicted;
    - accuracy is over all outcomes if there are ties; in bt-tie a tie is half right whatever was predicted.
    """
    mean = {name: (values * counts).sum() / counts.sum() for name, (values, counts) in losses.items()}
    decisive, highest = (winners == A).mean(), -np.log(CLAMP.get(loss, 1e-300))
    cross_entropy = losses["cross_entropy"][0]
    theirs = {"BCELoss": mean["bt_log_loss"], "Loss": np.minimum(cross_entropy, highest).mean()}
    if loss in CLAMP:
        theirs["MSELoss"] = np.square(1 - np.exp(-cross_entropy)).mean()
        theirs["Accuracy"] = mean["outcome_accuracy"]
    else:
        theirs["MSELoss"] = mean["bt_mse"] * decisive + 0.25 * (1 - decisive)
        theirs["Accuracy"] = mean["pair_accuracy"] * decisive + 0.5 * (1 - decisive)
    if loss in ("rk", "bag"):
        theirs["Tie_Loss"] = np.minimum(losses["tie_log_loss"][0], highest).mean()
        theirs["Tie_Accuracy"] = mean["tie_accuracy"]
    if loss == "bag":
        theirs["Tie_bb_Loss"] = np.minimum(losses["both_bad_log_loss"][0], highest).mean()
        theirs["Tie_bb_Accuracy"] = mean["both_bad_accuracy"]
    return theirs


@pytest.mark.parametrize("loss", LOSSES)
def test_votes_metrics_are_those_of_the_research_code(loss, oracle):
    coefs, eta, (a, b, winners) = oracle_votes(oracle, loss)
    each = np.arange(len(a))
    losses = vote_losses(PairPredictions(Feedback.parse(loss), coefs[each, a], coefs[each, b], winners, eta=eta))
    truth = oracle[0]["loss_types"][loss]["simple_raw"]
    ours = in_their_words(loss, losses, winners)
    for name in (
        "Loss",
        "BCELoss",
        "MSELoss",
        "Accuracy",
        "Tie_Loss",
        "Tie_Accuracy",
        "Tie_bb_Loss",
        "Tie_bb_Accuracy",
    ):
        if truth[name] == -1:  # their value for "not implemented"
            assert name not in ours
        else:
            assert ours[name] == pytest.approx(truth[name], abs=1e-5), name
    spread, pooled = spread_of_coefficients(coefs), spread_of_coefficients(coefs.reshape(1, -1))
    ours = {f"Mean-{theirs}-BT": spread[name].mean() for name, theirs in NAMES.items()}
    ours |= {"Mean-BT": coefs.mean(), "Std-BT": pooled["std"][0], "Spread-BT": pooled["range"][0]}
    assert ours == {name: pytest.approx(truth[name], abs=1e-5) for name in truth if name.endswith("-BT")}


@pytest.mark.parametrize("compared", COMPARED)
@pytest.mark.parametrize("loss", LOSSES)
def test_leaderboard_metrics_are_those_of_the_research_code(loss, compared, oracle):
    entry, names = oracle[0]["loss_types"][loss][compared], oracle[0]["model_list"]
    feedback, truth = Feedback.parse(loss), entry["metrics_raw"]
    boards = {}
    for side, key in (("model-aggr", "model"), ("ground-truth", "gt")):
        rated = [i for i, coef in enumerate(entry[f"{key}_coefs"]) if coef is not None]  # null means not rated
        eta = float(entry[f"{key}_eta"][0]) if feedback.has_eta else None
        coefs = np.array([entry[f"{key}_coefs"][i] for i in rated])
        boards[side] = Leaderboard(models=tuple(names[i] for i in rated), coefs=coefs, feedback=feedback, eta=eta)
    model, gt = boards["model-aggr"], boards["ground-truth"]
    ours = compare_leaderboards(model, gt, k=(1, 3, 5, 10))
    assert ours["kendall"] == pytest.approx(truth["Kendall-lbs"], abs=1e-6)
    assert ours["spearman"] == pytest.approx(truth["Spearman-lbs"], abs=1e-6)
    for k in ("1", "3", "5", "10"):
        assert ours[f"top_{k}_overlap"] == pytest.approx(truth["Top-k-fraction"][k], abs=1e-4)
        assert ours[f"top_{k}_displacement"] == pytest.approx(truth["Top-k-displace"][k], abs=1e-4)
    n = len(gt.models)
    if feedback.has_eta:
        assert np.isfinite(ours["outcome_l1"])
        if n == len(names):  # theirs is NaN if an LLM is not rated
            assert ours["outcome_l1"] == pytest.approx(truth["L1-Dist-Prob"], abs=1e-6)
    else:  # theirs counts each LLM against itself, a distance of 0
        assert ours["preference_l1"] * (n - 1) / n == pytest.approx(truth["L1-Dist-Prob"], abs=1e-6)
    for side, leaderboard in boards.items():
        if len(leaderboard.models) < len(names):  # theirs is NaN, or counts votes on the unrated LLM as "no tie"
            continue
        listed = [line.split(":")[0] for line in truth["Leaderboard"][side]]
        assert listed == leaderboard.ranking
        for name, values in spread_of_coefficients(leaderboard.coefs[None]).items():
            assert values[0] == pytest.approx(truth[f"{NAMES[name]}-BT"][side], abs=1e-4)
        _, _, (a, b, winners) = oracle_votes(oracle, loss)
        eta = None if leaderboard.eta is None else np.full(len(a), leaderboard.eta)
        losses = vote_losses(PairPredictions(feedback, leaderboard.coefs[a], leaderboard.coefs[b], winners, eta=eta))
        constant = in_their_words(loss, losses, winners)
        for name in ("Loss", "BCELoss", *TIES):
            assert constant.get(name, -1) == pytest.approx(truth[f"Aggr_{name}"][side], abs=1e-4), name


# --- the evaluate library ------------------------------------------------------------------------------------------


def test_the_evaluate_library_loads_the_metric_and_its_card_is_true(monkeypatch, tmp_path, capsys, rng):
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    card = (ROOT / "hub_cards" / "pair_metrics" / "README.md").read_text(encoding="utf-8")
    code, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", card, re.DOTALL).groups()
    names: dict = {}
    exec(code, names)
    assert capsys.readouterr().out.strip() == shown.strip()
    metric = names["metric"]
    coefs_a, coefs_b, winners, heads = random_votes(rng, 60)
    words = [("model_a", "model_b", "tie", "both_bad")[winner] for winner in winners]
    prompts = [f"prompt {i % 20}" for i in range(60)]
    weights = rng.uniform(size=60)
    result = metric.compute(
        coefs_a=coefs_a, coefs_b=coefs_b, winners=words, feedback="ba", etas=heads["eta"], gammas=heads["gamma"],
        weights=weights, prompts=prompts,
    )  # fmt: skip
    votes = {"weights": weights, "cluster": np.arange(60) % 20}
    expected = pair_metrics(PairPredictions(Feedback.BA, coefs_a, coefs_b, winners, **heads, **votes))
    for name, estimate in expected.items():
        assert result[name] == pytest.approx(estimate.value)
        if name != "ece":
            assert result[f"{name}_standard_error"] == pytest.approx(estimate.standard_error)
    metric.add_batch(coefs_a=coefs_a[:30], coefs_b=coefs_b[:30], winners=words[:30])
    metric.add_batch(coefs_a=coefs_a[30:], coefs_b=coefs_b[30:], winners=words[30:])
    assert metric.compute()["bt_log_loss"] == pytest.approx(
        pair_metrics(PairPredictions(Feedback.BT, coefs_a, coefs_b, winners))["bt_log_loss"].value
    )
    with pytest.raises(ValueError, match="winner is 'left'; legal values: model_a, model_b"):
        metric.compute(coefs_a=[1.0], coefs_b=[0.0], winners=["left"])
