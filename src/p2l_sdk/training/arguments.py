"""The Trainer's arguments, from the settings of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from p2l_sdk.errors import P2LError
from p2l_sdk.training.config import Method, Precision, TrainingConfig
from p2l_sdk.training.model import chosen_precision

_EPOCHS = 3.0
_BATCH_SIZE = {Method.LORA: 16, Method.FULL: 16, Method.HEAD: 128}
_LEARNING_RATE = {Method.LORA: 4e-4, Method.FULL: 2e-5}
_IN_THE_CARD = (
    "head_learning_rate", "warmup", "weight_decay", "max_grad_norm", "label_smoothing", "average", "head_hidden_size",
    "head_dropout", "seed",
)  # fmt: skip
_OF_THE_LORA = ("lora_rank", "lora_alpha", "lora_dropout")


def batch_size_for(config: TrainingConfig, n_prompts: int) -> int:
    """Prompts per step, over all processes."""
    return min(config.batch_size or _BATCH_SIZE[config.trained], n_prompts)


def training_arguments(
    config: TrainingConfig, folder: Path, n_prompts: int, batch_size: int, validated: bool
) -> tuple[TrainingArguments, dict[str, Any]]:
    """The Trainer's arguments, and the main settings with defaults resolved, as a dictionary for the card.

    Args:
        config: the settings of the run.
        folder: of its checkpoints.
        n_prompts: number of prompts to learn from.
        batch_size: prompts per step, over all processes.
        validated: whether there are prompts for validation.

    Raises:
        P2LError: a step cannot be shared out evenly over processes and micro-batches.
    """
    epochs = _EPOCHS if config.epochs is None else config.epochs
    steps = max(1, round(epochs * -(-n_prompts // batch_size)))
    every = max(1, -(-steps // config.checkpoints))
    rate = None  # the head has a rate of its own
    if config.trained is not Method.HEAD:
        rate = _LEARNING_RATE[config.trained] if config.learning_rate is None else config.learning_rate
    precision = chosen_precision(config)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        learning_rate=config.head_learning_rate if rate is None else rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(config.warmup * steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=precision is Precision.BF16 and config.trained is not Method.HEAD,
        seed=config.seed,
        logging_steps=max(1, min(10, every)),
        logging_nan_inf_filter=False,  # `P2LTrainer.log` raises an error for them
        eval_strategy="steps" if validated else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=validated,
        restore_callback_states_from_checkpoint=True,  # so that early stopping keeps its count
        metric_for_best_model="eval_loss" if validated else None,
        greater_is_better=False if validated else None,
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        report_to=config.report_to or "none",
        use_cpu=not torch.accelerator.is_available(),
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=torch.accelerator.is_available(),
    )
    _share_out(arguments, config, n_prompts, batch_size)
    chosen: dict[str, Any] = {"epochs": epochs} | ({} if rate is None else {"learning_rate": rate})
    chosen |= {"batch_size": batch_size, "precision": str(precision)}
    names = _IN_THE_CARD + (_OF_THE_LORA if config.trained is Method.LORA else ())
    chosen |= {name: value for name in names if (value := getattr(config, name)) is not None}
    return arguments, {**chosen, "processes": arguments.world_size}


def _share_out(arguments: TrainingArguments, config: TrainingConfig, n_prompts: int, batch_size: int) -> None:
    """Divide a step among the processes, one device each, and their micro-batches."""
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one device per process; no nn.DataParallel over the others
    arguments.mixed_precision = "bf16" if arguments.bf16 else "no"  # overrides accelerate's own configuration
    share, rest = divmod(batch_size, arguments.world_size)
    micro = min(config.micro_batch_size or share, share)
    if rest or share % micro:
        cut = " (there are no more prompts)" if batch_size == n_prompts else ""
        raise P2LError(
            f"batch_size {batch_size}{cut} is no multiple of {arguments.world_size} processes times micro_batch_size "
            f"{micro}; choose one of the two so that it is"
        )
    arguments.per_device_train_batch_size = micro
    arguments.per_device_eval_batch_size = 2 * micro
    arguments.gradient_accumulation_steps = share // micro
