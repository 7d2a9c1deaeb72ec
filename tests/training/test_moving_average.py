"""The moving average of the weights: it is what is evaluated and saved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import build_model
from transformers import Trainer, TrainerCallback, TrainingArguments

from p2l_sdk.errors import P2LError
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.training.data import ByPrompt, GroupedPrompts
from p2l_sdk.training.objective import VoteObjective
from p2l_sdk.training.trainer import P2LTrainer

DECAY, STEPS = 0.8, 30


class Weights(TrainerCallback):
    """Records the weights after each step, and computes their average by hand."""

    def __init__(self, model) -> None:
        self._model = model
        self.averages: list[dict[str, torch.Tensor]] = [self._now()]

    def _now(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in self._model.named_parameters()}

    def on_step_end(self, args, state, control, **_) -> None:
        step, now, before = state.global_step, self._now(), self.averages[-1]
        decay = min(DECAY, step / (step + 10))
        self.averages.append({name: decay * before[name] + (1 - decay) * now[name] for name in now})


def votes(rng, n: int) -> ByPrompt:
    prompt, a = np.arange(n) % 8, rng.integers(0, 4, n)
    labels = np.stack([prompt, a, (a + rng.integers(1, 4, n)) % 4, rng.integers(0, 4, n)], 1)
    return ByPrompt(8, labels=labels, weights=np.ones(n, np.float32))


@pytest.mark.long
@pytest.mark.parametrize("validated", [True, False])
def test_the_average_is_measured_and_kept(validated, rng, tmp_path):
    torch.manual_seed(0)
    model = build_model("llama", "grk")
    ids = [rng.integers(8, 20, 6).tolist() for _ in range(8)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True, max_steps=STEPS, save_steps=5,
        per_device_train_batch_size=4, learning_rate=3e-2, eval_strategy="steps" if validated else "no", eval_steps=5,
        load_best_model_at_end=validated, remove_unused_columns=False, label_names=["labels"],
    )  # fmt: skip
    validation = GroupedPrompts(ids, votes(rng, 60))  # other votes, so that the best is not the last
    trainer = P2LTrainer(
        model, arguments, objective=VoteObjective(Feedback.GRK), train=GroupedPrompts(ids, votes(rng, 60)),
        validation=validation if validated else None, head_learning_rate=3e-2, batch_size=4, average=DECAY,
    )  # fmt: skip
    weights = Weights(model)
    trainer.add_callback(weights)
    trainer.train()
    losses = {log["step"]: log["eval_loss"] for log in trainer.state.log_history if "eval_loss" in log}
    kept = min(losses, key=losses.get) if validated else STEPS
    assert len(losses) == (STEPS // 5 if validated else 0)
    assert not validated or kept < STEPS
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), weights.averages[kept][name], atol=1e-6, rtol=1e-5, msg=name)
    if validated:
        assert trainer.loss_on(validation) == pytest.approx(losses[kept], abs=1e-6)


def test_weights_that_are_divided_over_devices_are_not_averaged(tmp_path, rng, monkeypatch):
    plain = Trainer.__init__

    def with_fsdp(self, *args, **options) -> None:  # FSDP needs several devices
        plain(self, *args, **options)
        self.is_fsdp_enabled = True

    monkeypatch.setattr(Trainer, "__init__", with_fsdp)
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    with pytest.raises(P2LError, match="FSDP and DeepSpeed divide them; set it to 0"):
        P2LTrainer(
            build_model("llama", "grk"), arguments, objective=VoteObjective(Feedback.GRK),
            train=GroupedPrompts([[8, 9]] * 8, votes(rng, 20)), validation=None, head_learning_rate=1e-3, batch_size=4,
            average=DECAY,
        )  # fmt: skip
