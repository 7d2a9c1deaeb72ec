"""Feedback on single answers: right or wrong, and scores. The saved model is the pairwise model implied by it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from fine_tuning import LLMS, PAIRS, prompts, run, write_jsonl
from thorough import thorough

from p2l_sdk.errors import P2LError, VotesError
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.training.task import Task
from p2l_sdk.votes.votes import Scores

CHANCE = {"code": (0.9, 0.3, 0.5), "poem": (0.2, 0.8, 0.5), "proof": (0.4, 0.5, 0.75)}
MEAN = {"code": (7.9, 7.0, 7.3), "poem": (4.2, 5.1, 4.5), "proof": (6.0, 6.2, 6.8)}  # prompts differ more than LLMs
SIGMA = 0.7


def score_rows(kind: str, n: int, seed: int = 0) -> list[dict]:
    """Rows of scores, in which every sixth answer is missing."""
    rng = np.random.default_rng([seed, 2])
    rows = []
    for of, prompt in prompts(n, seed):
        drawn = rng.random(3) < CHANCE[of] if kind == "bernoulli" else rng.normal(MEAN[of], SIGMA)
        scores = [None if rng.random() < 1 / 6 else float(x) for x in drawn]
        rows.append({"prompt": prompt, **dict(zip(LLMS, scores, strict=True))})
    return rows


def chance_of_a(kind: str, of: str) -> np.ndarray:
    """For each pair, the probability that a's answer is better: right, given that only one is, or of higher score."""
    a, b = np.array(PAIRS).T
    if kind == "bernoulli":
        p = np.array(CHANCE[of])
        return p[a] * (1 - p[b]) / (p[a] * (1 - p[b]) + p[b] * (1 - p[a]))
    gap = (np.array(MEAN[of])[a] - np.array(MEAN[of])[b]) / (SIGMA * math.sqrt(2))
    return np.array([0.5 * (1 + math.erf(z / math.sqrt(2))) for z in gap])


@pytest.mark.long
@pytest.mark.parametrize(("kind", "validation"), [("bernoulli", 0.1), *thorough(("gaussian", 0.1), ("gaussian", 0.0))])
def test_pointwise_feedback_gives_the_chances_of_pairs(kind, validation, base, tmp_path):
    scores = write_jsonl(tmp_path / "scores.jsonl", score_rows(kind, 3000))
    p2l = run(
        scores, tmp_path / "model", base=str(base("llama")), feedback=kind, method="full", learning_rate=1e-3,
        head_learning_rate=1e-2, epochs=4, batch_size=100, checkpoints=4, validation=validation,
    )  # fmt: skip
    assert p2l.spec.feedback is Feedback.BT
    history = json.loads((tmp_path / "model" / "training_history.json").read_text())
    card = (tmp_path / "model" / "README.md").read_text()
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    if validation:
        baseline = float(card.partition("averaged leaderboard ")[2].split()[0].rstrip("."))
        assert min(losses) < baseline - 0.05
    else:
        assert not losses
        assert "No prompts were held out" in card
    a, b = np.array(PAIRS).T
    unseen = prompts(60, seed=5)
    coefs = p2l.coefficients([prompt for _, prompt in unseen]).coefs.astype(float)
    for of in CHANCE:
        theta = coefs[[other == of for other, _ in unseen]].mean(0)
        found = 1 / (1 + np.exp(theta[b] - theta[a]))
        np.testing.assert_allclose(found, chance_of_a(kind, of), atol=0.08, err_msg=of)
        if kind == "bernoulli":
            np.testing.assert_allclose(1 / (1 + np.exp(-theta)), CHANCE[of], atol=0.08, err_msg=of)


def test_scores_that_cannot_be_learned_from_are_refused(tmp_path):
    def task(rows: list[dict], kind: str, validation: float = 0.0) -> Task:
        from p2l_sdk.modeling.feedback_p2l import Pointwise

        scores = Scores.read(write_jsonl(tmp_path / "s.jsonl", rows), allow_missing=True)
        return Task.of_scores(scores, Pointwise(kind), validation, 0)

    with pytest.raises(VotesError, match="a score is not between 0 and 1, as bernoulli feedback needs"):
        task([{"prompt": "a", "x": 0.5, "y": 2.0}], "bernoulli")
    with pytest.raises(VotesError, match="the scores of every LLM are all equal"):
        task([{"prompt": "a", "x": 1.0, "y": 2.0}, {"prompt": "b", "x": 1.0, "y": 2.0}], "gaussian")
    with pytest.raises(P2LError, match=r"validation is 0\.5, which leaves one side of 1 prompts empty"):
        task([{"prompt": "a", "x": 1.0, "y": 0.0}] * 4, "bernoulli", 0.5)
    rows = [{"prompt": "a", "model_a": "x", "model_b": "y", "winner": "model_a"}]
    votes = write_jsonl(tmp_path / "votes.jsonl", rows)
    with pytest.raises(VotesError, match="feedback bernoulli learns from scores of single answers"):
        run(votes, tmp_path / "out", base="base", feedback="bernoulli")
    scores = write_jsonl(tmp_path / "scores.jsonl", score_rows("bernoulli", 30))
    with pytest.raises(P2LError, match="label_smoothing: of no effect on the scores of feedback bernoulli"):
        run(scores, tmp_path / "out", base="base", feedback="bernoulli", label_smoothing=0.1)


def test_a_prompt_in_several_rows_is_on_one_side_of_the_split(tmp_path):
    from p2l_sdk.modeling.feedback_p2l import Pointwise

    rows = [{"prompt": f"prompt {i % 10}", "x": float(i % 2), "y": float(i % 3 == 0)} for i in range(60)]
    task = Task.of_scores(Scores.read(write_jsonl(tmp_path / "s.jsonl", rows)), Pointwise.BERNOULLI, 0.3, 0)
    held_out = set(task.validation.prompts)
    assert len(held_out) == 3
    assert len(task.validation.prompts) == 18
    assert not held_out & set(task.train.prompts)


def test_a_summary_of_the_scores_is_printed_first(base, tmp_path, capsys):
    from p2l_sdk.cli.training_progress import Terminal
    from p2l_sdk.training.config import TrainingConfig
    from p2l_sdk.training.run import train

    rows = [{"prompt": f"prompt {i % 20}", "x": float(i % 2), "y": 0.25 if i % 4 else None} for i in range(60)]
    file = write_jsonl(tmp_path / "scores.jsonl", rows)
    config = TrainingConfig(
        votes=file, output=tmp_path / "m", base=base("llama"), feedback="bernoulli", method="head", epochs=1,
        validation=0.0,
    )  # fmt: skip
    train(config, listener=Terminal())
    said = capsys.readouterr().out
    assert "105 on 20 prompts in 60 rows, 15 missing" in said
    assert "40 rows repeat an earlier one: same prompt and scores" in said
    assert [line.split() for line in said.splitlines() if line[:2] in ("x ", "y ")] == [
        ["x", "60", "0.5"],
        ["y", "45", "0.25"],
    ]
    x, y = 0.5, (0.25 * 45 + 0.5) / 46  # the averaged leaderboard adds half a success and half a failure
    entropy = [-(p * math.log(q) + (1 - p) * math.log(1 - q)) for p, q in ((0.5, x), (0.25, y))]
    assert f"loss {(60 * entropy[0] + 45 * entropy[1]) / 105:.4f} (bernoulli)" in said
