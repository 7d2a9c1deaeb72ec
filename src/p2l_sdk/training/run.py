"""`train`, behind `p2l train`: from a file of votes to a model folder with its card.

Torch is imported inside functions, so that invalid settings and data are refused at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from p2l_sdk import pictures
from p2l_sdk.editing.edit import only_rows
from p2l_sdk.editing.refined import Refined
from p2l_sdk.errors import HubError, P2LError
from p2l_sdk.hub.folders import STATIC_MODEL
from p2l_sdk.modeling.feedback_p2l import Feedback, Pointwise
from p2l_sdk.outputs.faults import write_faults
from p2l_sdk.outputs.folders import CHECKPOINTS, new_folder, require_new, require_writable
from p2l_sdk.p2l import P2L
from p2l_sdk.scorers.load import load_scorer
from p2l_sdk.training.card import Card, base_name
from p2l_sdk.training.config import Method, TrainingConfig
from p2l_sdk.training.inputs import Inputs
from p2l_sdk.training.learning_curve import plot_learning_curve
from p2l_sdk.training.listener import Listener
from p2l_sdk.training.plan import Plan
from p2l_sdk.training.score_summary import ScoreSummary
from p2l_sdk.votes.votes import Scores, Votes

_TRANSFORMERS_SWITCH = "transformers.utils.logging"


def train(config: TrainingConfig, *, resume: bool = False, listener: Listener | None = None) -> P2L | None:
    """Train a model, write it to `config.output` and load it.

    Settings are checked before any file is read, and all data is read and checked before any model is loaded. The
    output folder appears when everything is done; until then the checkpoints of a text backbone are in
    `<output>.checkpoints`, or in `<output>/.checkpoints` if the output is an empty folder that is there already.

    Args:
        config: all settings.
        resume: continue from the last complete checkpoint of the same run.
        listener: is told what happens. To see what `p2l train` shows, give `p2l_sdk.cli.training_progress.Terminal()`;
            without a listener, nothing is printed.

    Returns:
        The model, as loaded from its folder; None in all but the first of several processes.

    Raises:
        VotesError: votes or scores are invalid, or not enough for the feedback model.
        P2LError: a setting does not fit or has no effect, the output exists, or the run cannot be resumed.
        ModelFormatError: the base cannot be loaded.
    """
    if not isinstance(config, TrainingConfig):
        raise P2LError("train takes a TrainingConfig; TrainingConfig.from_yaml reads one from a file")
    main = os.environ.get("RANK", "0") == "0"
    listener = listener if main and listener is not None else Listener()
    try:
        with _without_bars():
            return _run(config, resume, main, listener)
    finally:
        listener.close()


def _run(config: TrainingConfig, resume: bool, main: bool, listener: Listener) -> P2L | None:
    plan = Plan.of(config, resume=resume)
    if main:
        _require_output(config, plan)
    inputs = Inputs.read(config, plan)
    if inputs.summary is not None:
        listener.data_read(config.votes, inputs.summary)
    if inputs.categories is not None:
        listener.categories_read(inputs.categories)
    made: tuple[P2L, Card] | None
    if plan.refined is not None:
        made = _refine(inputs, plan.refined[0], listener)
    elif plan.static_base is not None:
        made = _train_static(inputs, Feedback(inputs.feedback), plan.static_base, listener)
    else:
        made = _fine_tune(inputs, inputs.feedback, resume, listener)
    if made is None:
        return None
    p2l, card = made
    if card.verdict is not None:
        p2l.verdict = card.verdict
        listener.verdict(card.verdict)
    listener.measured(card.reports)
    if config.push_to_hub is not None:
        _push(p2l, config.output, config.push_to_hub, listener)
    return p2l


def _require_output(config: TrainingConfig, plan: Plan) -> None:
    """Check that the output, and the checkpoints of a text backbone, can be written."""
    if plan.refined is not None or plan.static_base is not None:
        require_new(config.output)
        return
    from p2l_sdk.training.places import checkpoint_folder

    folder = checkpoint_folder(config)
    try:
        require_new(config.output, besides=[CHECKPOINTS])
    except P2LError as error:
        if os.path.isfile(Path(config.output) / "config.json") and os.path.isdir(folder):
            raise P2LError(f"{error} (a finished run needs its checkpoints in {str(folder)!r} no more)") from None
        raise
    with write_faults(folder):
        require_writable(folder)


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """No progress bars of the Hub's client and transformers: only the listener tells how far the run is.

    transformers need not be imported yet: data are read before. Its switch then begins as the client's stands.
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    there, silent = sys.modules.get(_TRANSFORMERS_SWITCH), are_progress_bars_disabled()
    shown = not silent if there is None else there.is_progress_bar_enabled()
    disable_progress_bars()
    if there is not None:
        there.disable_progress_bar()
    try:
        yield
    finally:
        there = sys.modules.get(_TRANSFORMERS_SWITCH)
        if shown and there is not None:
            there.enable_progress_bar()  # and the client's
        (disable_progress_bars if silent else enable_progress_bars)()


def _refine(inputs: Inputs, base: Path, listener: Listener) -> tuple[P2L, Card]:
    """A model of kinds, refined with the votes, and its card, which are in the output folder."""
    config, data, folder = inputs.config, cast(Votes, inputs.data), Path(inputs.config.output)  # `Plan` refuses scores
    p2l = P2L.from_pretrained(base).refine(data, feedback=str(inputs.feedback))
    if inputs.costs:
        p2l.costs = inputs.costs
    refined = replace(cast(Refined, p2l.refined), matched=inputs.read_as)
    listener.refined(refined)
    with new_folder(config.output) as partial:
        p2l.save_pretrained(partial)
        loaded = P2L(load_scorer(partial), folder=folder)
        only = P2L(only_rows(load_scorer(partial), data.models))  # held-out data need not know the other LLMs
        card = inputs.card(loaded, f"refined from {base_name(config)}", {}, measured=only)
        (partial / "README.md").write_text(card.refined(refined), encoding="utf-8")
    loaded.refined = refined
    return loaded, card


def _train_static(inputs: Inputs, feedback: Feedback, base: Path, listener: Listener) -> tuple[P2L, Card]:
    """A static model and its card, which are in the output folder."""
    from p2l_sdk.training.categories import Categories
    from p2l_sdk.training.static import fit_static, write_static
    from p2l_sdk.training.static_folds import folds_of
    from p2l_sdk.training.static_recipe import StaticRecipe
    from p2l_sdk.training.teacher import together
    from p2l_sdk.training.token_table import distil, table_of

    config, data = inputs.config, cast(Votes, inputs.data)  # `Plan` refuses scores
    held_out, averaged = None, inputs.averaged
    if config.validation:
        data, held_out = data.split(config.validation, config.seed)
        averaged = None  # that of the training side
    recipe = StaticRecipe(feedback=feedback, seed=config.seed, keep=config.keep, copies=config.copies)
    recipe = recipe.for_prompts(len(data.prompts), config.epochs)
    if config.static_from is not None:
        name = config.base_name or Path(config.static_from).name
        table, origin = distil(config.static_from), f"Its token table was distilled from {name}."
    else:
        source = "the embedded static model" if base == STATIC_MODEL else config.base
        table, origin = table_of(base), f"Its token table is that of {source}."
    taught, category = _taught(config, data, feedback, listener), None
    if config.teacher_weight is not None:  # whoever gives it wants the categories to teach
        groups = folds_of(len(data.prompts), config.seed)
        taught = together(taught, _of_categories(config, data, feedback, groups, listener))
    elif config.by is not None:
        category = Categories.of(data, config.by).number
    with new_folder(config.output) as partial:
        fit = fit_static(
            data,
            table,
            recipe,
            inputs.costs,
            averaged=averaged,
            lessons=taught,
            category=category,
            held_out=held_out,
            listener=listener,
        )
        write_static(fit.model, table.tokenizer, partial)
        p2l = P2L(load_scorer(partial), folder=Path(config.output))
        if fit.choice is not None:
            listener.cross_validated(fit.choice)
        elif recipe.keep is None:
            listener.too_few_prompts()
        settings = vars(fit.recipe) | _recipe_and_teacher(config, taught=taught is not None)
        card = inputs.card(p2l, "static", settings, verdict=fit.verdict)
        size = (partial / "model.safetensors").stat().st_size / 1e6
        (partial / "README.md").write_text(card.static(fit.model, origin, size, fit.words), encoding="utf-8")
    return p2l, card


def _fine_tune(
    inputs: Inputs, feedback: Feedback | Pointwise, resume: bool, listener: Listener
) -> tuple[P2L, Card] | None:
    """A fine-tuned text backbone and its card, which are in the output folder; None in all but the first process."""
    from p2l_sdk.training.checkpoints import delete_checkpoints, last_whole_checkpoint
    from p2l_sdk.training.finetune import fine_tune, save
    from p2l_sdk.training.places import checkpoint_folder
    from p2l_sdk.training.task import Task
    from p2l_sdk.training.teacher import together

    config, data, folder = inputs.config, inputs.data, checkpoint_folder(inputs.config)
    if isinstance(data, Scores):
        task = Task.of_scores(data, Pointwise(feedback), config.held_out, config.seed)
        summary = ScoreSummary.of(data, Pointwise(feedback), task.averaged_loss(task.train))
        listener.data_read(config.votes, summary)
    else:
        groups = data.part(config.held_out, config.seed) if config.held_out else None
        task = Task.of_votes(
            data,
            Feedback(feedback),
            config.held_out,
            config.seed,
            config.label_smoothing,
            averaged=inputs.averaged,
            lessons=together(
                _taught(config, data, Feedback(feedback), listener),
                _of_categories(config, data, Feedback(feedback), groups, listener),
            ),
        )
    try:
        result = fine_tune(config, task, inputs.costs, resume=resume, listener=listener)
    except KeyboardInterrupt:
        if last_whole_checkpoint(folder) is None:
            raise
        raise KeyboardInterrupt(f"checkpoints are in {str(folder)!r}; go on with --resume") from None
    if not result.is_main:
        return None
    # an adapter records where others find its base (`base_name`); here the base is loaded from `config.base`
    base = config.base if config.trained is Method.LORA and config.base_name is not None else None
    with new_folder(config.output, besides=[CHECKPOINTS]) as partial:
        save(result, partial, config)
        (partial / "training_history.json").write_text(json.dumps(result.history, indent=1), encoding="utf-8")
        axes = plot_learning_curve(result.history, result.baseline, unit=f"nats per {task.noun.rstrip('s')}")
        pictures.save(axes.figure, partial / "learning_curve.png")
        p2l = P2L(load_scorer(partial, result.device, base), folder=Path(config.output))
        card = inputs.card(
            p2l,
            f"{config.trained} on {base_name(config)}",
            result.settings | _recipe_and_teacher(config, taught=bool(config.teachers) or config.by is not None),
            verdict=result.verdict,
            seconds=result.seconds,
            baseline=result.baseline,
            history=result.history,
        )
        (partial / "README.md").write_text(card.finetuned(), encoding="utf-8")
    delete_checkpoints(folder)
    return p2l, card


def _taught(config: TrainingConfig, votes: Votes, feedback: Feedback, listener: Listener) -> Votes | None:
    """What the teachers say on the prompts of the votes; None without any."""
    from p2l_sdk.training.teacher import lessons

    if not config.teachers:
        return None
    teachers = [P2L.from_pretrained(name) for name in config.teachers]
    return lessons(teachers, votes, feedback, config.weight_of_teacher, seed=config.seed, listener=listener)


def _of_categories(
    config: TrainingConfig, votes: Votes, feedback: Feedback, groups: np.ndarray | None, listener: Listener
) -> Votes | None:
    """What the categories say; None without any. None says to a group of prompts what the votes of another one told."""
    from p2l_sdk.training.category_teacher import category_lessons

    if config.by is None:
        return None
    weight = config.weight_of_teacher
    return category_lessons(votes, config.by, feedback, weight, groups, seed=config.seed, listener=listener)


def _recipe_and_teacher(config: TrainingConfig, *, taught: bool) -> dict[str, Any]:
    """For the card; `taught` says whether anything was learned beside the votes."""
    found: dict[str, Any] = {} if config.recipe is None else {"recipe": str(config.recipe)}
    if config.teachers:
        found["teacher"] = " and ".join(Path(name).name for name in config.teachers)
    if config.by is not None:
        found["by"] = config.by
    if taught:
        found["teacher_weight"] = config.weight_of_teacher
    return found


def _push(p2l: P2L, output: str, repo_id: str, listener: Listener) -> None:
    try:
        commit = p2l.push_to_hub(repo_id)
    except HubError as error:
        raise HubError(f"{error}. The model is trained and safe in {output!r}: p2l push {output} {repo_id}") from error
    listener.pushed(len(p2l.models), str(commit.pr_url or commit))
