"""Fine-tuning of a text backbone (a LoRA, all weights, or the head alone), with checkpoints to resume from."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import EarlyStoppingCallback, PrinterCallback, TrainingArguments

from p2l_sdk.errors import P2LError
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.modeling.prompt_p2l import PromptEncoder
from p2l_sdk.training.callbacks import ProgressBar, check_trackers, checkpoints, is_whole, last_whole_checkpoint
from p2l_sdk.training.config import Method, Precision, TrainingConfig
from p2l_sdk.training.data import GroupedPrompts
from p2l_sdk.training.heads import HeadOnFeatures, best_keep, pooled_features, rescale, shrink_towards, start_at
from p2l_sdk.training.model import add_lora, chosen_precision, new_model
from p2l_sdk.training.task import Task
from p2l_sdk.training.trainer import P2LTrainer

_EPOCHS, _BATCH_SIZE = 3.0, 16
_LEARNING_RATE = {Method.LORA: 4e-4, Method.FULL: 2e-5}
_SETTINGS = "settings.json"
_NOT_OF_THE_RUN = ("output", "eval_votes", "eval_scores", "push_to_hub", "title", "license", "cost_note", "notes",
                   "report_to", "base_name", "costs")  # fmt: skip


@dataclass(frozen=True)
class FineTuned:
    """The result of a finished run.

    Attributes:
        model: the trained P2LModel, or a PEFT model around one.
        tokenizer: its tokenizer.
        history: one dictionary per log: step, epoch, loss or eval_loss, ...
        settings: the main settings used, defaults resolved.
        baseline: validation loss of the averaged leaderboard; None without validation.
        is_main: whether this process writes the output.
        seconds: duration of the training, over all resumes.
        device: the device that it ran on.
    """

    model: Any
    tokenizer: Any
    history: list[dict[str, float]]
    settings: dict[str, Any]
    baseline: float | None
    is_main: bool
    seconds: float
    device: str


def checkpoint_folder(config: TrainingConfig) -> Path:
    """The folder of a run's checkpoints, which exists until the run is finished."""
    output = Path(config.output)
    return output.with_name(output.name + ".checkpoints")


def fine_tune(config: TrainingConfig, task: Task, costs: dict[str, float], *, resume: bool, quiet: bool) -> FineTuned:
    """Train on `task`. Writes nothing but the checkpoint folder.

    Raises:
        P2LError: there are checkpoints of another run, a setting does not fit, or the run diverged.
    """
    check_trackers(config.report_to)
    folder, n_prompts = checkpoint_folder(config), len(task.train.feedback.prompts)
    batch_size = min(config.batch_size or (128 if config.trained is Method.HEAD else _BATCH_SIZE), n_prompts)
    arguments, settings = training_arguments(config, folder, n_prompts, batch_size, task.validation is not None)
    with arguments.main_process_first(local=False):  # only this process creates and empties the folder
        main = arguments.process_index == 0
        checkpoint = _checkpoint(config, task, folder, resume) if main else last_whole_checkpoint(folder)
    torch.manual_seed(config.seed)
    model, tokenizer = new_model(config, task.models, task.saved_feedback, costs)
    start_at(model, task.marginal)
    pad_id = tokenizer.pad_token_id or 0
    encode = PromptEncoder.from_transformers(model.spec, tokenizer)
    sides = [side for side in (task.train, task.validation) if side is not None]
    inputs: list[Any] = [encode(side.prompts) for side in sides]
    trained: nn.Module = model
    if config.trained is Method.LORA:
        trained = add_lora(model, config)
    elif config.trained is Method.HEAD:
        model.to(arguments.device)
        with arguments.main_process_first(local=False):  # it computes them, the others read the file
            inputs = [
                pooled_features(model, ids, pad_id, folder / f"features-{k}.safetensors", quiet=quiet)
                for k, ids in enumerate(inputs)
            ]
        trained = HeadOnFeatures(model)
    data = [GroupedPrompts(x, side.feedback, pad_id) for x, side in zip(inputs, sides, strict=True)]
    train, validation = data[0], data[1] if len(data) > 1 else None
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
    progress = ProgressBar(train.n_items / len(train) * batch_size, trainer.steps_per_epoch, task.noun)
    if not quiet:
        trainer.add_callback(progress)
    if config.patience is not None and validation is not None:
        trainer.add_callback(EarlyStoppingCallback(config.patience))
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    baseline = None if task.validation is None else task.averaged_loss(task.validation)
    told = main and not quiet and baseline is not None
    if told:
        print(f"validation, averaged leaderboard: {baseline:.4f}", file=sys.stderr)
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    finally:
        progress.stop()  # otherwise Ctrl-C would leave the terminal without a cursor
    if told:
        kept = min((log for log in trainer.state.log_history if "eval_loss" in log), key=lambda log: log["eval_loss"])
        epoch = kept["step"] / trainer.steps_per_epoch
        print(f"kept: epoch {epoch:.2f}, validation loss {kept['eval_loss']:.4f}", file=sys.stderr)
    if config.calibrate and task.validation is not None and validation is not None:
        output = trainer.outputs_on(validation)
        keep = best_keep(task.objective, task.marginal, output, task.validation.feedback.of(validation.prompts))
        shrink_towards(model, task.marginal, keep)
        settings = {**settings, "keep": keep}
        if told:
            print(f"calibrated: {keep:.0%} of the departure from the averaged leaderboard is kept", file=sys.stderr)
    rescale(model, task.objective.rescaling(lambda: trainer.loss_on(validation or train)))
    trained = model if config.trained is Method.HEAD else trainer.accelerator.unwrap_model(trainer.model)
    return FineTuned(
        model=trained.to("cpu"),  # make room for the saved model, which is loaded and measured next
        tokenizer=tokenizer,
        history=trainer.state.log_history,
        settings={**settings, "steps": trainer.state.global_step},
        baseline=baseline,
        is_main=trainer.is_world_process_zero(),
        seconds=trainer.seconds,
        device=str(arguments.device),
    )


def _checkpoint(config: TrainingConfig, task: Task, folder: Path, resume: bool) -> Path | None:
    """The checkpoint to continue from, None for a new run. The run's settings are stored next to the checkpoints."""
    settings = {k: v for k, v in config.to_dict().items() if k not in _NOT_OF_THE_RUN}
    if config.trained is Method.LORA:
        settings.pop("method", None)  # it is the default, so naming it does not make another run
    settings["contents of votes"] = task.digest()
    file = folder / _SETTINGS
    if resume and file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        changed = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
        if changed:
            raise P2LError(
                f"the run in {str(folder)!r} was begun with other settings of {', '.join(changed)}; resume it with the "
                "same, or delete that folder and begin again"
            )
        for half in (path for path in checkpoints(folder) if not is_whole(path)):
            shutil.rmtree(half)
        return last_whole_checkpoint(folder)
    if not file.is_file() and checkpoints(folder):
        raise P2LError(
            f"{str(folder)!r} holds checkpoints of something else, where this run would keep its own; move them, or "
            "choose another output"
        )
    if file.is_file() and last_whole_checkpoint(folder) is not None:
        raise P2LError(f"an unfinished run lies in {str(folder)!r}; go on with --resume, or delete that folder")
    if resume:
        print(f"p2l: no run to resume in {str(folder)!r}; this is a new one", file=sys.stderr)
    delete_checkpoints(folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".part")
    partial.write_text(json.dumps(settings, indent=2), encoding="utf-8")
    partial.replace(file)
    return None


def delete_checkpoints(folder: Path) -> None:
    """Delete a run's own files from its checkpoint folder; anything else, such as logs of a tracker, stays."""
    for checkpoint in checkpoints(folder):
        shutil.rmtree(checkpoint)
    parts = ("features-*.safetensors", "features-*.part", "settings.part", _SETTINGS)
    for pattern in parts:  # the settings last: they identify the folder as the run's
        for file in folder.glob(pattern):
            file.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def training_arguments(
    config: TrainingConfig, folder: Path, n_prompts: int, batch_size: int, validated: bool
) -> tuple[TrainingArguments, dict[str, Any]]:
    """The Trainer's arguments, and the main settings with defaults resolved, as a dictionary for the card."""
    epochs = _EPOCHS if config.epochs is None else config.epochs
    rates = {}
    if config.trained is not Method.HEAD:  # the head has a rate of its own
        given = config.learning_rate
        rates["learning_rate"] = _LEARNING_RATE[config.trained] if given is None else given
    steps = max(1, round(epochs * -(-n_prompts // batch_size)))
    every = max(1, -(-steps // config.checkpoints))
    precision = chosen_precision(config)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        learning_rate=rates.get("learning_rate", config.head_learning_rate),
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
    names: tuple[str, ...] = (
        "head_learning_rate",
        "warmup",
        "weight_decay",
        "max_grad_norm",
        "label_smoothing",
        "average",
    )
    names += ("head_hidden_size", "head_dropout", "seed")
    names += ("lora_rank", "lora_alpha", "lora_dropout") if config.trained is Method.LORA else ()
    chosen = {"epochs": epochs, **rates, "batch_size": batch_size, "precision": str(precision)}
    chosen |= {name: value for name in names if (value := getattr(config, name)) is not None}
    return arguments, {**chosen, "processes": arguments.world_size}


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
