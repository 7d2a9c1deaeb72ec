"""What a run does, as its settings and the base's own configuration say. Nothing else is read here.

A setting without effect is refused, since whoever gave it expects one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from p2l_sdk.errors import ModelFormatError, P2LError
from p2l_sdk.hub.access import is_repo_id
from p2l_sdk.hub.config import backbone_kind, is_native, read_config
from p2l_sdk.hub.folders import STATIC_MODEL, locate
from p2l_sdk.modeling.feedback_p2l import Feedback, Pointwise
from p2l_sdk.modeling.spec_p2l import STATIC_BACKBONE, ModelSpec
from p2l_sdk.training.config import STATIC, Method, TrainingConfig

# the settings that a static model takes; all others are for text backbones
_STATIC_SETTINGS = (
    "votes", "output", "recipe", "base", "base_name", "static_from", "feedback", "teacher", "teacher_weight",
    "by", "eval_votes", "eval_scores", "columns", "winners", "rename", "skip_invalid", "max_rows", "scores_outside",
    "llms", "not_llms", "costs", "epochs", "keep", "copies", "validation", "calibrate", "seed", "push_to_hub",
    "title", "license", "cost_note", "notes",
)  # fmt: skip
_REFINE_SETTINGS = (
    "votes", "output", "base", "base_name", "feedback", "eval_votes", "eval_scores", "columns", "winners", "rename",
    "skip_invalid", "max_rows", "scores_outside", "llms", "not_llms", "costs", "push_to_hub",
    "title", "license", "cost_note", "notes",
)  # fmt: skip
_LORA = ("lora_rank", "lora_alpha", "lora_dropout")
_WITHOUT_EFFECT: dict[Method, tuple[str, ...]] = {
    Method.LORA: (),
    Method.FULL: _LORA,
    Method.HEAD: (*_LORA, "learning_rate", "gradient_checkpointing"),
}


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        feedback: the feedback model; None for the one that suits the votes.
        static_base: folder of the static model whose token table is used; None if the base is another one.
        refined: folder of the model of kinds that is refined with the votes (`P2L.refine`), and the spec of that model.
            Its feedback model stands where none is given.
    """

    feedback: Feedback | Pointwise | None
    static_base: Path | None
    refined: tuple[Path, ModelSpec] | None = None

    @classmethod
    def of(cls, config: TrainingConfig, *, resume: bool) -> Plan:
        """The plan of a run.

        Raises:
            P2LError: a setting is unknown, has no effect, or contradicts another one.
            ModelFormatError: the base is a trained P2L model.
        """
        if config.teacher is None and config.by is None and config.teacher_weight is not None:
            _refuse(["teacher_weight"], "without a teacher or a column of categories (by)")
        kinds = _model_of_kinds(config)
        if kinds is not None:
            plan = cls(_feedback(config.feedback), None, kinds)
            _check_refine(config, plan.feedback, resume)
            return plan
        plan = cls(_feedback(config.feedback), _static_base(config))
        if plan.static_base is not None:
            _check_static(config, plan.feedback, resume)
        else:
            _check_text(config, plan.feedback)
        return plan


def _feedback(name: str | None) -> Feedback | Pointwise | None:
    if name is None:
        return None
    key = str(name).lower()
    if key in tuple(Pointwise):
        return Pointwise(key)
    try:
        return Feedback.parse(name)
    except ModelFormatError as error:
        raise P2LError(f"{error}, {', '.join(Pointwise)}") from None


def _static_base(config: TrainingConfig) -> Path | None:
    if config.base == STATIC:
        return STATIC_MODEL
    if config.static_from is not None:
        raise P2LError("static_from goes with base 'static' alone")
    path = Path(config.base).expanduser()
    try:
        saved = read_config(path)
    except ModelFormatError:
        return None
    if not is_native(saved):
        return None
    if (kind := backbone_kind(saved)) != STATIC_BACKBONE:
        raise ModelFormatError(
            f"the base {config.base!r} is a P2L model already; name the {kind} model that it was trained from"
        )
    return path


def _model_of_kinds(config: TrainingConfig) -> tuple[Path, ModelSpec] | None:
    """Folder and spec of the base if it is a model that recognises kinds of prompt: a folder, or a short name."""
    if config.base == STATIC or (is_repo_id(config.base) and not Path(config.base).expanduser().is_dir()):
        return None
    try:
        folder = locate(config.base)
        saved = read_config(folder)
        if not is_native(saved) or not saved.get("kinds"):
            return None
    except ModelFormatError:
        return None  # whatever it is, it is no such model; who loads it says what is wrong
    return folder, ModelSpec.from_config(saved)


def _check_refine(config: TrainingConfig, feedback: Feedback | Pointwise | None, resume: bool) -> None:
    idle = [name for name in config.chosen if name not in _REFINE_SETTINGS] + ["resume"] * resume
    _refuse(idle, f"where votes refine a model of kinds ({config.base!r}), which has one solution")
    if isinstance(feedback, Pointwise):
        raise P2LError(f"feedback {feedback} trains text backbones; a model of kinds is refined with votes on pairs")


def _check_static(config: TrainingConfig, feedback: Feedback | Pointwise | None, resume: bool) -> None:
    idle = [name for name in config.chosen if name not in _STATIC_SETTINGS] + ["resume"] * resume
    _check_recipe(config, static=True)
    _refuse(idle, "on a static model; name a text backbone with base (--base)")
    if isinstance(feedback, Pointwise):
        raise P2LError(f"feedback {feedback} trains text backbones; a static model takes pairwise feedback")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise P2LError("a static model trains in seconds in one process; start it without accelerate")


def _check_text(config: TrainingConfig, feedback: Feedback | Pointwise | None) -> None:
    _check_recipe(config, static=False)
    given = config.chosen
    idle = [name for name in given if name in _WITHOUT_EFFECT[config.trained]]
    _refuse(idle, f"where the method is {config.trained}; leave it out, or choose another method")
    _refuse([name for name in given if name == "copies"], "on a text backbone; it is a setting of static models")
    if isinstance(feedback, Pointwise):
        idle = [name for name in ("label_smoothing", "teacher", "by") if name in given]
        _refuse(idle, f"on the scores of feedback {feedback}; leave it out")
    local = Path(config.base).expanduser().exists()
    if local and config.base_revision is not None and config.base_name is None:
        _refuse(["base_revision"], f"on {config.base!r}, a path of this machine; leave it out")
    if not local and None not in (config.base_name, config.base_revision):
        raise P2LError(
            f"base_revision cannot be that of {config.base!r} and of {config.base_name!r} at once; fetch the base into "
            "a folder and name that one as base, or leave out base_name"
        )


def _check_recipe(config: TrainingConfig, *, static: bool) -> None:
    if config.recipe is not None and (config.recipe.base == STATIC) is not static:
        kind = "a text backbone" if static else "a static model"
        raise P2LError(
            f"recipe {config.recipe} trains {kind}, and base {config.base!r} is none; leave out one of the two"
        )


def _refuse(names: list[str], where: str) -> None:
    if names:
        raise P2LError(f"{', '.join(names)}: of no effect {where}")
