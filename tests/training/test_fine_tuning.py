"""Fine-tuning: the objective, the order of prompts, every feedback model, every kind of base."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import build_model
from fine_tuning import GAMMA, LOG_S, PAIRS, THETA, TIES, law, prompts, run, vote_rows, write_jsonl
from thorough import thorough
from transformers import TrainingArguments

from p2l_sdk.errors import P2LError, VotesError
from p2l_sdk.evaluation import evaluate_votes
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner, log_probabilities, log_threshold
from p2l_sdk.training import arguments as trainer_arguments
from p2l_sdk.training.config import TrainingConfig
from p2l_sdk.training.data import ByPrompt, GroupedPrompts, LengthGroupedBatches
from p2l_sdk.training.objective import VoteObjective
from p2l_sdk.training.task import Task
from p2l_sdk.training.trainer import P2LTrainer, dtype_of_sums
from p2l_sdk.votes.summary import summarise
from p2l_sdk.votes.votes import Votes

# --- one forward pass for all votes on a prompt -------------------------------------------------------------------


def gradients(inputs: list, feedback: ByPrompt, parts: int, tmp_path, smoothing: float) -> dict[str, torch.Tensor]:
    """The gradients of one optimizer step on all prompts, in this many micro-batches, as taken by the Trainer."""
    model = build_model("llama", "grk")
    data = GroupedPrompts(inputs, feedback)
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True)
    trainer = P2LTrainer(
        model, arguments, objective=VoteObjective(Feedback.GRK, smoothing), train=data, validation=None,
        head_learning_rate=1e-3, batch_size=len(data),
    )  # fmt: skip
    micro = [data.collate(part.tolist()) for part in np.array_split(data.prompts, parts)]
    trainer.current_gradient_accumulation_steps = parts
    batches, _ = trainer.get_batch_samples(iter(micro), parts, torch.device("cpu"))
    total = sum(trainer.training_step(model, batch) for batch in batches)
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": total, **found}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_grouped_votes_are_plain_votes(tmp_path, rng, smoothing):
    """Loss and gradients, weights of votes included, in one forward pass or in several."""
    n, ids = 30, [rng.integers(8, 20, length).tolist() for length in (3, 9, 5, 2)]
    prompt, a = rng.integers(0, 4, n), rng.integers(0, 4, n)
    labels = np.stack([prompt, a, (a + rng.integers(1, 4, n)) % 4, rng.integers(0, 4, n)], 1)
    weights = rng.integers(0, 4, n).astype(np.float32)
    grouped = ByPrompt(4, labels=labels, weights=weights)
    each = labels.copy()
    each[:, 0] = np.arange(n)
    plain = ByPrompt(n, labels=each, weights=weights)
    expected = gradients([ids[p] for p in prompt], plain, 1, tmp_path, smoothing)
    repeated = ByPrompt(4, labels=labels.repeat(weights.astype(int), 0), weights=np.ones(int(weights.sum()), "float32"))
    for inputs, feedback, parts in (
        (ids, grouped, 1),
        (ids, grouped, 4),
        (ids, repeated, 2),
        ([ids[p] for p in prompt], plain, 7),
    ):
        found = gradients(inputs, feedback, parts, tmp_path, smoothing)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=2e-6, rtol=2e-4, msg=name)


def test_votes_that_say_nothing_take_no_part(rng):
    rows = [{**row, "winner": "tie"} if i % 3 == 0 else row for i, row in enumerate(vote_rows("bt", 30))]
    votes = Votes.from_rows(rows)
    kept = ByPrompt.of_votes(votes, Feedback.BT)
    decisive = votes.winner < Winner.TIE
    assert len(kept) == decisive.sum()
    assert kept.of(kept.prompts)["weights"].sum() == votes.weight[decisive].sum()
    assert len(ByPrompt.of_votes(votes, Feedback.BT_TIE)) == len(votes)


# --- the order of prompts -----------------------------------------------------------------------------------------


def test_batches_are_of_similar_length_and_every_epoch_is_another(rng):
    lengths = np.round(np.exp(rng.normal(4, 1, 1003))).astype(int)
    order = LengthGroupedBatches(lengths, 16, seed=3)
    epochs = []
    for epoch in range(3):
        order.set_epoch(epoch)
        epochs.append(list(order))
        assert len(epochs[-1]) == len(order) == 63 * 16
        assert set(epochs[-1]) == set(range(1003))
    assert epochs[0] != epochs[1] != epochs[2]
    again = LengthGroupedBatches(lengths, 16, seed=3)
    again.set_epoch(2)
    assert list(again) == epochs[2]
    assert list(LengthGroupedBatches(lengths, 16, seed=4)) != epochs[0]

    def padding(items: np.ndarray) -> float:
        batches = lengths[items].reshape(-1, 16)
        return 1.0 - batches.sum() / (batches.max(1).sum() * 16)

    shuffled = np.concatenate([rng.permutation(1003), np.arange(5)])
    assert padding(np.array(epochs[0])) < 0.5 * padding(shuffled)
    firsts = [lengths[epoch[:16]].mean() for epoch in epochs]  # the order of the batches is random
    assert len(set(firsts)) > 1


def test_a_window_of_one_step_makes_every_step_a_random_draw(rng):
    lengths = rng.integers(1, 300, 1024)
    drawn = lengths[list(LengthGroupedBatches(lengths, 16, seed=0, window=1))].reshape(-1, 16)
    grouped = lengths[list(LengthGroupedBatches(lengths, 16, seed=0))].reshape(-1, 16)
    assert (np.diff(drawn, axis=1) >= 0).all()  # sorted by length, so that micro-batches have little padding
    assert drawn.reshape(-1, 4).max(1).sum() * 4 < 1.3 * lengths.sum()
    assert drawn.mean(1).std() == pytest.approx(lengths.std() / 4, rel=0.3)  # as for means of 16 independent draws
    assert grouped.mean(1).std() > 0.9 * lengths.std()


def test_validation_goes_by_length_and_measures_the_same(rng, tmp_path):
    prompt = np.arange(60) % 30
    labels = np.stack([prompt, rng.integers(0, 2, 60), rng.integers(2, 4, 60), rng.integers(0, 4, 60)], 1)
    ids = [rng.integers(8, 20, n).tolist() for n in rng.integers(1, 40, 30)]
    data = GroupedPrompts(ids, ByPrompt(30, labels=labels, weights=np.ones(60, np.float32)))
    arguments = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True, per_device_eval_batch_size=4,
        label_names=["labels"], remove_unused_columns=False,
    )  # fmt: skip
    trainer = P2LTrainer(
        build_model("llama", "grk"), arguments, objective=VoteObjective(Feedback.GRK), train=data, validation=data,
        head_learning_rate=1e-3, batch_size=4,
    )  # fmt: skip
    batches = [batch["input_ids"].shape[1] for batch in trainer.get_eval_dataloader()]
    by_length = sorted(map(len, ids))
    assert batches == [max(by_length[i : i + 4]) for i in range(0, 30, 4)]
    output, feedback = trainer.outputs_on(data), data.collate(list(range(30)))
    losses, weights = VoteObjective(Feedback.GRK).measure(output, feedback)["loss"]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float((losses * weights).sum() / weights.sum()), abs=1e-5)


def test_fewer_prompts_than_a_batch():
    order = LengthGroupedBatches(np.array([3, 1, 2]), 16, seed=0)
    assert order.steps == 1
    assert sorted(order) == [0, 1, 2]


# --- recovery -----------------------------------------------------------------------------------------------------


def expected_chances(feedback: Feedback, kind: str) -> np.ndarray:
    """Expected outcome probabilities under the feedback model, `(3 pairs, n_outcomes)`: ties are ignored in `bt`, and
    count as half a win for each LLM in `bt_tie`."""
    chances = law(feedback, kind)
    if feedback is Feedback.BT_TIE:
        return chances[:, :2] + TIES / 2
    if feedback is Feedback.BT:
        return chances[:, :2] / (1.0 - TIES)
    return chances[:, list(feedback.outcomes)]


@pytest.mark.long
@pytest.mark.parametrize("feedback", [Feedback.GRK, *thorough(*(f for f in Feedback if f is not Feedback.GRK))])
def test_every_feedback_model_recovers_what_depends_on_the_prompt(feedback, base, tmp_path):
    votes = write_jsonl(tmp_path / "votes.jsonl", vote_rows(feedback, 60, 300))
    p2l = run(
        votes, tmp_path / "model", base=str(base("llama")), feedback=str(feedback), method="full", learning_rate=3e-3,
        head_learning_rate=2e-2, epochs=40, batch_size=20, validation=0.1, checkpoints=3,
    )  # fmt: skip
    held_out = Votes.from_rows(vote_rows(feedback, 30, 300, seed=7), p2l.models)
    averaged = summarise(held_out, feedback).marginal_cross_entropy  # the best single leaderboard in hindsight
    assert evaluate_votes(p2l, held_out)["cross_entropy"].value < averaged - 0.02
    unseen = prompts(30, seed=7)
    scored = p2l.coefficients([prompt for _, prompt in unseen])
    a, b = np.array(PAIRS).T
    for kind in THETA:
        rows = [i for i, (other, _) in enumerate(unseen) if other == kind]
        theta, eta, gamma = (
            None if x is None else x[rows].astype(float) for x in (scored.coefs, scored.eta, scored.gamma)
        )
        found = np.exp(log_probabilities(feedback, theta[:, a], theta[:, b], eta, gamma))
        assert np.abs(found - expected_chances(feedback, kind)).max() < 0.12, kind
        np.testing.assert_allclose(found.mean(0), expected_chances(feedback, kind), atol=0.04, err_msg=kind)
        true, theta = np.array(THETA[kind]), theta.mean(0)
        if feedback is not Feedback.BT_TIE:
            np.testing.assert_allclose(theta[a] - theta[b], true[a] - true[b], atol=0.3, err_msg=kind)
        if feedback in (Feedback.RK, Feedback.GRK, Feedback.BA):  # votes hardly determine the zero of rk_reparam
            assert log_threshold(feedback, eta).mean() == pytest.approx(LOG_S[kind], abs=0.3), kind
        if feedback in (Feedback.GRK, Feedback.BA):
            ground = 0.0 if gamma is None else gamma.mean() - GAMMA
            np.testing.assert_allclose(theta - ground, true, atol=0.3, err_msg=kind)


# --- the Trainer's arguments, and what it must not do ---------------------------------------------------------------


def arguments_of(tmp_path, n_prompts: int = 32, batch_size: int = 16, **settings) -> TrainingArguments:
    config = TrainingConfig(votes="votes.jsonl", output="out", base="some/base", precision="fp32", **settings)
    return trainer_arguments.training_arguments(config, tmp_path, n_prompts, batch_size, False)[0]


def test_a_process_takes_one_gpu(tmp_path, monkeypatch):
    class OfTwoGPUs(TrainingArguments):
        def __post_init__(self):
            super().__post_init__()
            self._n_gpu = 2

    monkeypatch.setattr(trainer_arguments, "TrainingArguments", OfTwoGPUs)
    arguments = arguments_of(tmp_path)
    assert arguments.n_gpu == 1  # with more, the Trainer would use nn.DataParallel
    assert arguments.train_batch_size == 16


def test_the_precision_is_that_of_the_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")  # as set by `accelerate launch`
    assert arguments_of(tmp_path).mixed_precision == "no"


def test_a_batch_that_was_cut_to_the_number_of_prompts_is_said_to_be(tmp_path):
    with pytest.raises(
        P2LError, match=r"batch_size 13 \(there are no more prompts\) is no multiple of 1 processes times"
    ):
        arguments_of(tmp_path, n_prompts=13, batch_size=13, micro_batch_size=4)


def test_sums_are_exact_where_the_device_has_float64():
    assert dtype_of_sums(torch.device("cuda")) == dtype_of_sums(torch.device("cpu")) == torch.float64
    assert dtype_of_sums(torch.device("mps")) == torch.float32


def test_too_few_prompts_to_hold_some_out():
    votes = Votes.from_rows(vote_rows("grk", 4))
    with pytest.raises(
        VotesError, match=r"validation is 0\.1, which leaves one side of 4 prompts empty; use 0 for none"
    ):
        Task.of_votes(votes, Feedback.GRK, 0.1, 0)


def test_a_run_that_diverges_ends_at_once(base, tmp_path, monkeypatch):
    votes = write_jsonl(tmp_path / "votes.jsonl", vote_rows("grk", 30))
    nothing = lambda self, output, batch: output.coefs.sum() * batch["weights"] * torch.nan  # noqa: E731
    monkeypatch.setattr(VoteObjective, "__call__", nothing)
    with pytest.raises(P2LError, match="the loss is not finite at step 10: the run diverged; begin again with a lower"):
        run(votes, tmp_path / "m", base=str(base("llama")), method="head", epochs=50, batch_size=8, checkpoints=2)


@pytest.mark.parametrize(("method", "known"), [("full", False), ("head", True)])
def test_familiarity_is_not_measured_on_prompts_that_a_backbone_was_trained_on(method, known, base, tmp_path):
    """Such prompts are closer together than new ones; of these, twelve are held out, which are too few."""
    votes = write_jsonl(tmp_path / "votes.jsonl", vote_rows("grk", 120, 2))
    p2l = run(votes, tmp_path / "model", base=str(base("llama")), method=method, epochs=1, validation=0.1)
    assert (p2l.leaderboard("a prompt").familiarity is not None) is known
