"""Fine-tuning of a text backbone (a LoRA, all weights, or the head alone), with checkpoints to resume from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import EarlyStoppingCallback, PrinterCallback, TrainingArguments

from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.modeling.prompt_p2l import PromptEncoder, padding_id
from p2l_sdk.outputs.faults import write_faults
from p2l_sdk.training.arguments import batch_size_for, training_arguments
from p2l_sdk.training.calibration import Losses, as_it_is, calibrated
from p2l_sdk.training.callbacks import TellListener, check_trackers, validation_of
from p2l_sdk.training.checkpoints import begin_or_resume, last_whole_checkpoint, nothing_left
from p2l_sdk.training.config import Method, Precision, TrainingConfig
from p2l_sdk.training.data import GroupedPrompts
from p2l_sdk.training.familiarity import remember_prompts
from p2l_sdk.training.heads import HeadOnFeatures, pooled_features, rescale, shrink_towards, start_at
from p2l_sdk.training.listener import Listener, Validation
from p2l_sdk.training.model import add_lora, chosen_precision, new_model
from p2l_sdk.training.places import checkpoint_folder
from p2l_sdk.training.task import Task
from p2l_sdk.training.trainer import P2LTrainer
from p2l_sdk.training.verdict import Verdict

_REMEMBERED = 4096  # training prompts from which a model learns what they look like


@dataclass(frozen=True)
class FineTuned:
    """The result of a finished run.

    Attributes:
        model: the trained P2LModel, or a PEFT model around one.
        tokenizer: its tokenizer.
        history: one dictionary per log: step, epoch, loss or eval_loss, ...
        settings: the main settings used, defaults resolved.
        baseline: validation loss of the averaged leaderboard; None without validation.
        verdict: the model beside the averaged leaderboard on the validation prompts; None without validation.
        is_main: whether this process writes the output.
        seconds: duration of the training, over all resumes.
        device: the device that it ran on.
    """

    model: Any
    tokenizer: Any
    history: list[dict[str, float]]
    settings: dict[str, Any]
    baseline: float | None
    verdict: Verdict | None
    is_main: bool
    seconds: float
    device: str


def fine_tune(
    config: TrainingConfig,
    task: Task,
    costs: dict[str, float],
    *,
    resume: bool = False,
    listener: Listener | None = None,
) -> FineTuned:
    """Train on `task`. Writes nothing but the checkpoint folder.

    Args:
        config: the settings of the run.
        task: what to learn from.
        costs: USD per response by LLM name, stored with the model.
        resume: continue from the last complete checkpoint of the same run.
        listener: is told what happens, in the first of several processes.

    Raises:
        P2LError: there are checkpoints of another run, a setting does not fit, or the run diverged.
    """
    check_trackers(config.report_to)
    folder, n_prompts = checkpoint_folder(config), len(task.train.feedback.prompts)
    batch_size = batch_size_for(config, n_prompts)
    arguments, settings = training_arguments(config, folder, n_prompts, batch_size, task.validation is not None)
    main = arguments.process_index == 0
    listener = listener if main and listener is not None else Listener()
    with arguments.main_process_first(local=False):  # only this process creates and empties the folder
        if main:
            checkpoint = begin_or_resume(config, task.digest(), folder, resume=resume, listener=listener)
        else:
            checkpoint = last_whole_checkpoint(folder)
    torch.manual_seed(config.seed)
    with nothing_left(folder, is_new=main and not resume):
        model, tokenizer = new_model(config, task.models, task.saved_feedback, costs)
        start_at(model, task.averaged)
        trained, train, validation = _prepared(config, task, model, tokenizer, arguments, listener)
    trainer = _trainer(config, task, trained, arguments, train, validation, batch_size)
    items = train.n_items / len(train) * batch_size
    trainer.add_callback(TellListener(listener, items=items, noun=task.noun, steps_per_epoch=trainer.steps_per_epoch))
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    baseline = None if task.validation is None else task.averaged_loss(task.validation)
    if baseline is not None:
        listener.validation_baseline(baseline)
    with write_faults(folder, "; make room, and go on with --resume"):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    listener.trained(_kept(trainer))
    verdict = None if validation is None else _judged(config, task, trainer, validation)
    keep = verdict.keep if config.calibrate and verdict is not None else config.keep
    if keep is not None:
        settings["keep"] = keep
        shrink_towards(model, task.averaged, keep)
    if config.calibrate and verdict is not None:
        listener.calibrated(verdict.keep)
    rescale(model, task.objective.rescaling(lambda: trainer.loss_on(validation or train)))
    _remember(model, trainer, train, validation)
    trained = model if config.trained is Method.HEAD else trainer.accelerator.unwrap_model(trainer.model)
    return FineTuned(
        model=trained.to("cpu"),  # make room for the saved model, which is loaded and measured next
        tokenizer=tokenizer,
        history=trainer.state.log_history,
        settings={**settings, "steps": trainer.state.global_step},
        baseline=baseline,
        verdict=verdict,
        is_main=trainer.is_world_process_zero(),
        seconds=trainer.seconds,
        device=str(arguments.device),
    )


def _prepared(
    config: TrainingConfig,
    task: Task,
    model: P2LModel,
    tokenizer: Any,
    arguments: TrainingArguments,
    listener: Listener,
) -> tuple[nn.Module, GroupedPrompts, GroupedPrompts | None]:
    """The module to train, and the prompts of both sides in the form that it reads: token ids, or features."""
    pad_id = padding_id(tokenizer, model.n_embeddings)
    encode = PromptEncoder.from_transformers(model.spec, tokenizer, model.n_embeddings)
    sides = [side for side in (task.train, task.validation) if side is not None]
    inputs: list[Any] = [encode(side.prompts) for side in sides]
    trained: nn.Module = model
    if config.trained is Method.LORA:
        trained = add_lora(model, config)
    elif config.trained is Method.HEAD:
        inputs = _features(model, inputs, pad_id, arguments, listener)
        trained = HeadOnFeatures(model)
    data = [GroupedPrompts(x, side.feedback, pad_id) for x, side in zip(inputs, sides, strict=True)]
    return trained, data[0], data[1] if len(data) > 1 else None


def _features(
    model: P2LModel,
    ids: Sequence[Sequence[Sequence[int]]],
    pad_id: int,
    arguments: TrainingArguments,
    listener: Listener,
) -> list[torch.Tensor]:
    model.to(arguments.device)
    files = [Path(str(arguments.output_dir)) / f"features-{k}.safetensors" for k in range(len(ids))]
    with arguments.main_process_first(local=False):  # it computes them, the others read the file
        return [pooled_features(model, rows, pad_id, file, listener) for rows, file in zip(ids, files, strict=True)]


def _trainer(
    config: TrainingConfig,
    task: Task,
    trained: nn.Module,
    arguments: TrainingArguments,
    train: GroupedPrompts,
    validation: GroupedPrompts | None,
    batch_size: int,
) -> P2LTrainer:
    trainer = P2LTrainer(
        trained,
        arguments,
        objective=task.objective,
        train=train,
        validation=validation,
        head_learning_rate=config.head_learning_rate,
        batch_size=batch_size,
        average=config.average,
        length_window=config.length_window,
    )
    trainer.remove_callback(PrinterCallback)
    if config.patience is not None and validation is not None:
        trainer.add_callback(EarlyStoppingCallback(config.patience))
    return trainer


def _remember(model: P2LModel, trainer: P2LTrainer, train: GroupedPrompts, validation: GroupedPrompts | None) -> None:
    """Let the model know its training prompts. Where its backbone was trained, these are closer together than new
    prompts are, so familiarity is measured on the validation prompts, and without them not at all."""
    held_out = None
    if not isinstance(trainer.model, HeadOnFeatures):
        if validation is None:
            return
        held_out = _states(model, validation, trainer)
    remember_prompts(model, _states(model, train, trainer), trainer.args.seed, held_out=held_out)


@torch.inference_mode()
def _states(model: P2LModel, train: GroupedPrompts, trainer: P2LTrainer) -> torch.Tensor:
    """`(n, width)` pooled states of the prompts, or of a sample of them, on the CPU."""
    device, size = trainer.args.device, trainer.args.per_device_eval_batch_size
    items = np.sort(np.random.default_rng(trainer.args.seed).permutation(len(train))[:_REMEMBERED])
    items = items[np.argsort(train.lengths[items], kind="stable")]
    model.to(device).eval()
    parts = []
    for start in range(0, len(items), size):
        batch = train.__getitems__(items[start : start + size].tolist())
        state = batch.get("features")
        if state is None:
            with trainer.accelerator.autocast():
                state = model.pooled(batch["input_ids"].to(device), batch["attention_mask"].to(device))
        parts.append(state.float().cpu())
    return torch.cat(parts)


def _kept(trainer: P2LTrainer) -> Validation | None:
    """The validation of the checkpoint that is kept, the one with the lowest loss."""
    logs = [log for log in trainer.state.log_history if "eval_loss" in log]
    if not logs:
        return None
    return validation_of(min(logs, key=lambda log: log["eval_loss"]), trainer.steps_per_epoch)


def _judged(config: TrainingConfig, task: Task, trainer: P2LTrainer, validation: GroupedPrompts) -> Verdict:
    """The model beside the averaged leaderboard on the validation prompts; `keep` is the share that it is to keep."""
    output, feedback = trainer.outputs_on(validation), validation.all_feedback()
    held_out = f"held out: {config.held_out:.0%} of the prompts"
    if config.calibrate:
        losses = Losses.of(task.objective, task.averaged, output, feedback)
        return calibrated(losses, config.seed, f"{held_out}, the share kept was chosen on others of them")
    keep = 1.0 if config.keep is None else config.keep
    losses = Losses.of(task.objective, task.averaged, output, feedback, tuple({0.0, keep}))
    return as_it_is(losses, keep, held_out)


def save(result: FineTuned, folder: Path, config: TrainingConfig) -> None:
    """Write weights, configuration, tokenizer and remote code into an existing folder; a LoRA becomes an adapter."""
    model: P2LModel = result.model
    if config.trained is Method.LORA:
        model = result.model.get_base_model()
        peft = result.model.peft_config["default"]
        peft.base_model_name_or_path, peft.inference_mode = config.base_name or _found_anywhere(config.base), True
        precision = torch.bfloat16 if chosen_precision(config) is Precision.BF16 else torch.float32
        for name, parameter in result.model.named_parameters():
            if ".lora_" in name:
                parameter.data = parameter.data.to(precision)  # the precision that training computed in
        result.model.save_pretrained(folder, save_embedding_layers=False)
        model.config.save_pretrained(folder)
    else:
        model.save_pretrained(folder)
    result.tokenizer.save_pretrained(folder)


def _found_anywhere(base: str) -> str:
    """A local path made absolute, so that the adapter loads from any working directory; a Hub id unchanged."""
    path = Path(base).expanduser()
    return str(path.absolute()) if path.exists() else base
