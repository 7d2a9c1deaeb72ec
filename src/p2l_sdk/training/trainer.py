"""`P2LTrainer`: the Hugging Face Trainer with grouped feedback and an exact mean loss.

The loss of a step is the weighted mean over all of its votes, however they are split over processes and micro-batches,
so two processes compute the same as one. Optimizer state, schedule, precision, distribution and trackers are handled by
the Trainer and accelerate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import EvalPrediction, Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import TrainOutput

from p2l_sdk.errors import P2LError
from p2l_sdk.modeling.modeling_p2l import P2LOutput
from p2l_sdk.training.callbacks import SetEpoch
from p2l_sdk.training.checkpoints import WholeCheckpoints
from p2l_sdk.training.data import GroupedPrompts, LengthGroupedBatches
from p2l_sdk.training.moving_average import MovingAverage
from p2l_sdk.training.objective import METRICS, Objective

_FEEDBACK = ("labels", "weights", "values")


class P2LTrainer(Trainer):
    """The trainer.

    Args:
        model: a P2LModel, a PEFT model around one, or a `HeadOnFeatures`.
        args: the Trainer's arguments.
        objective: the loss to minimise.
        train: the prompts to learn from.
        validation: the prompts to validate on, or None.
        head_learning_rate: learning rate of the parameters under `head`.
        batch_size: prompts per step, over all processes.
        average: decay of the moving average of the weights, which is evaluated and kept; 0 for none.
        length_window: steps within which prompts are sorted by length.

    Raises:
        P2LError: `average` is set with FSDP or DeepSpeed.
    """

    optimizer: torch.optim.Optimizer | None

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        objective: Objective,
        train: GroupedPrompts,
        validation: GroupedPrompts | None,
        head_learning_rate: float,
        batch_size: int,
        average: float = 0.0,
        length_window: int = 16,
        **options: Any,
    ) -> None:
        self._objective, self._head_learning_rate = objective, head_learning_rate
        self._order = LengthGroupedBatches(train.lengths, batch_size, args.seed, length_window)
        self._step_weight: torch.Tensor | float = 1.0
        self._parts = 1
        self._seconds_before, self._begun = 0.0, time.monotonic()
        super().__init__(model, args, _as_it_is, train, validation, compute_metrics=_means, **options)
        self.model_accepts_loss_kwargs = False  # `compute_loss` itself divides by the weight of the whole step
        self.add_callback(SetEpoch(self._order))
        if average and self._is_divided:
            raise P2LError("average needs the weights in one place, and FSDP and DeepSpeed divide them; set it to 0")
        self._average = MovingAverage(self.model, average) if average else None
        if self._average is not None:
            self.add_callback(self._average)  # saves before the checkpoint is marked as complete
        self.add_callback(WholeCheckpoints(self.accelerator))

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the prompts."""
        return self._order.steps

    @property
    def _is_divided(self) -> bool:
        """Whether weights or optimizer states are sharded over devices."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    @property
    def _is_fused(self) -> bool:
        """Whether the optimizer steps in one kernel, which weights in one place on a CPU or a CUDA device can."""
        return not self._is_divided and {p.device.type for p in self.model.parameters()} <= {"cpu", "cuda"}

    def loss_on(self, prompts: GroupedPrompts) -> float:
        """The mean loss on these prompts, not logged."""
        return self.predict(prompts).metrics["test_loss"]

    @torch.no_grad()
    def outputs_on(self, prompts: GroupedPrompts) -> P2LOutput:
        """The model's output for each prompt, in their order, on the CPU; the same in every process."""
        self.model_wrapped.eval()
        order, size = np.argsort(prompts.lengths, kind="stable"), self.args.per_device_eval_batch_size
        parts = []
        for start in range(0, len(order), size):
            inputs = self._prepare_inputs(prompts.__getitems__(order[start : start + size].tolist()))
            with self.accelerator.autocast():  # the model lacks it if no step was taken here
                parts.append(self.model_wrapped(**{k: x for k, x in inputs.items() if k not in _FEEDBACK}))
        place = torch.from_numpy(np.argsort(order))
        columns = zip(*((part.coefs, part.eta, part.gamma) for part in parts), strict=True)
        coefs, eta, gamma = (
            None if column[0] is None else torch.cat(column).float().cpu()[place] for column in columns
        )
        return P2LOutput(coefs=coefs, eta=eta, gamma=gamma)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW with a separate learning rate for the head and weight decay on matrices only."""
        if self.optimizer is None:
            groups: dict[tuple[float, float], list[nn.Parameter]] = {}
            for name, parameter in (self.model if model is None else model).named_parameters():
                if parameter.requires_grad:
                    rate = self._head_learning_rate if ".head." in f".{name}" else self.args.learning_rate
                    decay = self.args.weight_decay if parameter.dim() > 1 else 0.0
                    groups.setdefault((rate, decay), []).append(parameter)
            self.optimizer = torch.optim.AdamW(
                [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()],
                betas=(0.9, 0.99),
                fused=self._is_fused,  # on a CPU a third of the time of a step, where every weight is trained
            )
        return self.optimizer

    def train(self, resume_from_checkpoint: Any = None, **options: Any) -> Any:
        """Train. Afterwards the model has the weights of the best checkpoint, or without validation those of the last
        step; with `average`, their moving average. If the run had ended at the checkpoint, no step is taken."""
        earlier = None
        if resume_from_checkpoint is not None:
            earlier = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
            self._seconds_before = _seconds(earlier)
            if self._average is not None:
                self._average.load(Path(resume_from_checkpoint))
        self._begun = time.monotonic()
        if earlier is not None and _has_ended(earlier) and not self._is_divided:
            self.state = earlier
            self._load_from_checkpoint(str(resume_from_checkpoint))
            if earlier.best_model_checkpoint is not None:
                self._load_best_model()
            result = TrainOutput(earlier.global_step, float("nan"), {})
        else:
            result = super().train(resume_from_checkpoint, **options)
        if self._average is not None:
            if self.state.best_model_checkpoint is not None:
                self._average.load(Path(self.state.best_model_checkpoint))
            self._average.keep()
        return result

    def log(self, logs: dict[str, float], *args: Any, **options: Any) -> None:
        """Log with `seconds`, the duration of the training so far, including that before a resume.

        Raises:
            P2LError: a loss is not finite.
        """
        for name in ("loss", "eval_loss"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise P2LError(
                    f"the {'validation ' if name == 'eval_loss' else ''}loss is not finite at step "
                    f"{self.state.global_step}: the run diverged; begin again with a lower learning_rate or "
                    "head_learning_rate"
                )
        seconds = self._seconds_before + time.monotonic() - self._begun
        super().log({**logs, "seconds": round(seconds, 2)}, *args, **options)

    @property
    def seconds(self) -> float:
        """Duration of the training, including that before a resume."""
        return _seconds(self.state)

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """Evaluate, with the averaged weights if there are any."""
        with nullcontext() if self._average is None else self._average.in_place():
            return super().evaluate(*args, **options)

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroupedBatches:
        return self._order

    def _get_eval_sampler(self, eval_dataset: Any) -> list[int]:
        """In order of length, which saves padding; the metrics are sums, so the order does not matter."""
        return np.argsort(eval_dataset.lengths, kind="stable").tolist()

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The micro-batches of a step. Also computes their total weight over all processes, which divides the loss."""
        batches, counted = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches:
            weight = torch.stack([batch["weights"].sum() for batch in batches]).sum().to(device)
            self._step_weight = self.accelerator.reduce(weight, "sum").clamp_min(torch.finfo(weight.dtype).tiny)
            self._parts = len(batches)
        return batches, counted

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The share of these prompts in the mean loss of the step, times the factors that Trainer and DDP divide by."""
        output = model(**{name: value for name, value in inputs.items() if name not in _FEEDBACK})
        loss = (self._objective(output, inputs) * inputs["weights"]).sum() / self._step_weight
        loss = loss * (self.accelerator.num_processes * self._parts)
        return (loss, output) if return_outputs else loss

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[None, torch.Tensor, torch.Tensor]:
        """The sums of metrics and of their weights per prompt, which the Trainer gathers from all processes."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            output = model(**{name: value for name, value in inputs.items() if name not in _FEEDBACK})
        measured = self._objective.measure(output, inputs)  # in the order of METRICS
        row = inputs["labels"][:, 0]
        exact = dtype_of_sums(row.device)
        sums = torch.zeros(2 * len(measured), len(output.coefs), dtype=exact, device=row.device)
        for k, (values, weights) in enumerate(measured.values()):
            sums[2 * k].index_add_(0, row, (values * weights).to(exact))
            sums[2 * k + 1].index_add_(0, row, weights.to(exact))
        return None, sums.T.contiguous(), torch.zeros(sums.shape[1], device=row.device)


def dtype_of_sums(device: torch.device) -> torch.dtype:
    """float64, or float32 on Apple's GPUs, which lack float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _has_ended(state: TrainerState) -> bool:
    """Whether the run had ended at this state: all steps were taken, or early stopping ended it."""
    control = state.stateful_callbacks.get("TrainerControl", {})
    stopped = isinstance(control, dict) and control.get("args", {}).get("should_training_stop", False)
    return bool(stopped) or state.global_step >= state.max_steps


def _seconds(state: TrainerState) -> float:
    return max((log.get("seconds", 0.0) for log in state.log_history), default=0.0)


def _as_it_is(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return batch  # `GroupedPrompts` has collated it


def _means(prediction: EvalPrediction) -> dict[str, float]:
    sums = np.asarray(prediction.predictions).sum(0).reshape(-1, 2)
    return {name: float(total / weight) for name, (total, weight) in zip(METRICS, sums, strict=False) if weight > 0}
