"""`calibrate`: how much of its departure from the averaged leaderboard a trained model keeps."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from fine_tuning import LLMS, run, vote_rows, write_base, write_jsonl

from p2l_sdk import P2L
from p2l_sdk.errors import P2LError
from p2l_sdk.evaluation import evaluate
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.modeling_p2l import P2LOutput
from p2l_sdk.training.calibration import Losses, calibrated
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
