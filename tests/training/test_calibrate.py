"""`calibrate`: how much of its departure from the averaged leaderboard a trained model keeps."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from fine_tuning import LLMS, run, vote_rows, write_base, write_jsonl

from p2l_sdk import P2L
from p2l_sdk.cli.training_progress import Terminal
from p2l_sdk.errors import P2LError
from p2l_sdk.evaluation import evaluate
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.modeling_p2l import P2LOutput
from p2l_sdk.training.calibration import Losses, as_it_is, calibrated
from p2l_sdk.training.objective import VoteObjective
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.votes import Votes


@pytest.mark.parametrize("sureness", [0.9, 1.0, 1.5])
def test_it_finds_how_much_too_sure_a_model_is(rng, sureness):
    n, votes = 400, 50
    board = Leaderboard(models=LLMS, coefs=np.array([0.5, 0.0, -0.5]), feedback=Feedback.BT)
    true = board.coefs + rng.normal(0, 1, (n, 3))
    row = np.repeat(np.arange(n), votes)
    a = rng.integers(0, 3, n * votes)
    b = (a + rng.integers(1, 3, n * votes)) % 3
    wins = rng.random(n * votes) < 1 / (1 + np.exp(true[row, b] - true[row, a]))
    labels = torch.from_numpy(np.stack([row, a, b, np.where(wins, 0, 1)], 1))
    output = P2LOutput(coefs=torch.from_numpy(board.coefs + sureness * (true - board.coefs)), eta=None, gamma=None)
    feedback = {"labels": labels, "weights": torch.ones(len(labels))}
    losses = Losses.of(VoteObjective(Feedback.BT), board, output, feedback)
    verdict = calibrated(losses, 0, "held out")
    assert verdict.keep * sureness == pytest.approx(1.0, abs=0.04)
    assert verdict.better
    assert verdict.n_prompts == n
    margin = true[row, a] - true[row, b]
    truth = np.log1p(np.exp(np.where(wins, -margin, margin))).mean()
    assert verdict.model.value == pytest.approx(truth, abs=2e-3)


@pytest.mark.long
@pytest.mark.parametrize("method", ["lora", "head"])
def test_a_run_ends_with_what_suits_its_validation_prompts(tmp_path, method):
    votes = write_jsonl(tmp_path / "votes.jsonl", vote_rows("grk", votes_per_pair=2))  # few enough to be memorised
    settings = {
        "base": str(write_base(tmp_path / "base", "llama")), "method": method, "validation": 0.3, "epochs": 6,
        "learning_rate": 1e-2, "head_learning_rate": 1e-2, "head_hidden_size": 16, "checkpoints": 1,
    }  # fmt: skip
    if method == "head":
        del settings["learning_rate"]
    plain = run(votes, tmp_path / "plain", **settings)
    calibrated = run(votes, tmp_path / "calibrated", **settings, calibrate=True)
    keep = float(re.search(r"keep (\d\.\d+)", (tmp_path / "calibrated" / "README.md").read_text()).group(1))
    assert 0.0 <= keep <= 1.2
    assert keep != 1.0
    train, held_out = Votes.read(votes).split(0.3, 0)
    board = fit_leaderboard(train, "grk", intervals=None)
    before, after = plain.coefficients(held_out.prompts), calibrated.coefficients(held_out.prompts)
    np.testing.assert_allclose(after.coefs, board.coefs + keep * (before.coefs - board.coefs), atol=2e-5)

    def loss(p2l: P2L) -> float:
        return evaluate(p2l, held_out).metrics["cross_entropy"].value

    assert loss(calibrated) < loss(plain)


def test_it_needs_validation_prompts(tmp_path):
    with pytest.raises(P2LError, match="calibrate is True; it must be false where validation is 0"):
        run(tmp_path / "v.jsonl", tmp_path / "o", calibrate=True, validation=0)


def noisy(rng, n, signal, sureness=1.0):
    """Votes by Bradley-Terry around a leaderboard, and the output of a model whose departure from it is partly noise:
    that it is right about (`signal`), and as much that it makes up."""
    board = Leaderboard(models=LLMS, coefs=np.array([0.5, 0.0, -0.5]), feedback=Feedback.BT)
    departure, imagined = rng.normal(0, 1, (n, 3)), rng.normal(0, 1, (n, 3))
    row = np.repeat(np.arange(n), 3)
    a, b = (np.tile(x, n) for x in ([0, 0, 1], [1, 2, 2]))
    true = board.coefs + signal * departure
    wins = rng.random(3 * n) < 1 / (1 + np.exp(true[row, b] - true[row, a]))
    labels = torch.from_numpy(np.stack([row, a, b, np.where(wins, 0, 1)], 1))
    coefs = board.coefs + sureness * (signal * departure + imagined)
    output = P2LOutput(coefs=torch.from_numpy(coefs), eta=None, gamma=None)
    return board, output, {"labels": labels, "weights": torch.ones(len(labels))}


@pytest.mark.long
def test_a_model_that_knows_nothing_returns_the_averaged_leaderboard():
    """Of many models without any knowledge, nearly all keep nothing, and what is kept of the rest does no harm."""
    kept, harm = [], []
    for seed in range(40):
        board, output, feedback = noisy(np.random.default_rng(seed), 60, signal=0.0)
        verdict = calibrated(Losses.of(VoteObjective(Feedback.BT), board, output, feedback), seed, "held out")
        assert verdict.better == (verdict.keep > 0)
        kept.append(verdict.keep)
        harm.append(verdict.keep**2 / 8)  # the loss grows by about that on other prompts: half of p (1 - p) keep^2 var
        if not verdict.keep:
            assert verdict.model == verdict.averaged
            assert verdict.difference.value == 0.0
            assert "the model returns it for every prompt" in verdict.sentence
    assert np.mean(np.array(kept) == 0) > 0.6
    assert np.mean(harm) < 0.003


def test_a_model_that_knows_something_keeps_a_part(rng):
    board, output, feedback = noisy(rng, 600, signal=1.0)
    verdict = calibrated(Losses.of(VoteObjective(Feedback.BT), board, output, feedback), 0, "held out")
    assert 0.2 < verdict.keep < 0.8  # half of what it says is noise
    assert verdict.difference.value < -2 * verdict.difference.standard_error


def test_the_loss_that_is_reported_was_not_fitted(rng):
    """Measured on prompts that had no part in the choice, a share is no better than the best one in hindsight."""
    board, output, feedback = noisy(rng, 50, signal=0.5)
    losses = Losses.of(VoteObjective(Feedback.BT), board, output, feedback)
    verdict = calibrated(losses, 0, "held out")
    fitted = losses.mean.mean(0).min()
    assert verdict.model.value > fitted


@pytest.mark.parametrize("keep", [0.0, 0.4, 1.0])
def test_a_verdict_without_calibration_is_on_the_model_as_it_is(rng, keep):
    board, output, feedback = noisy(rng, 200, signal=0.0)
    losses = Losses.of(VoteObjective(Feedback.BT), board, output, feedback, tuple({0.0, keep}))
    verdict = as_it_is(losses, keep, "held out")
    shrunk = P2LOutput(coefs=torch.from_numpy(board.coefs) + keep * (output.coefs - torch.from_numpy(board.coefs)))
    expected = VoteObjective(Feedback.BT)(P2LOutput(coefs=shrunk.coefs, eta=None, gamma=None), feedback).mean()
    assert verdict.model.value == pytest.approx(float(expected))
    assert verdict.keep == keep
    assert not verdict.better
    assert verdict.sentence.startswith("no better than the averaged leaderboard on these votes")


def test_a_single_prompt_for_validation(rng):
    board, output, feedback = noisy(rng, 1, signal=0.5)
    verdict = calibrated(Losses.of(VoteObjective(Feedback.BT), board, output, feedback), 0, "held out")
    assert verdict.n_prompts == 1


@pytest.mark.long
@pytest.mark.parametrize("calibrate", [True, False])
def test_text_models_end_with_a_verdict(tmp_path, capsys, calibrate):
    """Votes that have nothing to do with their prompts: no model can be better than the averaged leaderboard."""
    rows, random = vote_rows("grk", 60, votes_per_pair=2), np.random.default_rng(1)
    prompts = random.permutation([row["prompt"] for row in rows])
    votes = write_jsonl(tmp_path / "v.jsonl", [{**r, "prompt": p} for r, p in zip(rows, prompts, strict=True)])
    settings = {
        "base": str(write_base(tmp_path / "base", "bert")), "method": "full", "validation": 0.4, "epochs": 4,
        "learning_rate": 1e-2, "head_learning_rate": 1e-2, "checkpoints": 1,
    }  # fmt: skip
    p2l = run(votes, tmp_path / "out", **settings, calibrate=calibrate, listener=Terminal())
    shown, card = capsys.readouterr().out, (tmp_path / "out" / "README.md").read_text()
    verdict = p2l.verdict
    assert f"verdict: {verdict.sentence}" in shown
    assert verdict.figures in shown
    assert verdict.figures in card
    assert "o better than the averaged leaderboard on these votes" in card
    assert "held out: 40% of the prompts" in card
    assert ("--calibrate makes such a model return the averaged leaderboard" in shown) is not calibrate
    boards = p2l.coefficients([row["prompt"] for row in rows[:20]]).coefs
    if calibrate:
        assert verdict.keep == 0.0
        train, _ = Votes.read(votes).split(0.4, 0)
        np.testing.assert_allclose(
            boards, fit_leaderboard(train, "grk", intervals=None).coefs[None] + 0 * boards, atol=1e-5
        )
    else:
        assert np.ptp(boards, 0).max() > 0.01


@pytest.mark.long
def test_a_share_that_is_given_is_kept(tmp_path):
    votes = write_jsonl(tmp_path / "votes.jsonl", vote_rows("grk", votes_per_pair=2))
    settings = {
        "base": str(write_base(tmp_path / "base", "llama")), "method": "full", "epochs": 2, "learning_rate": 1e-2,
        "head_learning_rate": 1e-2, "checkpoints": 1, "validation": 0,
    }  # fmt: skip
    plain, kept = run(votes, tmp_path / "plain", **settings), run(votes, tmp_path / "kept", **settings, keep=0.3)
    board = fit_leaderboard(Votes.read(votes), "grk", intervals=None)
    before, after = (p2l.coefficients(["python code", "write a poem"]) for p2l in (plain, kept))
    np.testing.assert_allclose(after.coefs, board.coefs + 0.3 * (before.coefs - board.coefs), atol=2e-5)
    assert "keep 0.3" in (tmp_path / "kept" / "README.md").read_text()
    assert plain.verdict is kept.verdict is None  # nothing was held out
