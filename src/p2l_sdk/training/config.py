"""`TrainingConfig`: every setting of a training run, the same in Python, on the command line and in a YAML file."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from p2l_sdk.errors import P2LError, member
from p2l_sdk.modeling.spec_p2l import Pooling
from p2l_sdk.tables.documents import read_yaml
from p2l_sdk.tables.reading import Reading, read_renames
from p2l_sdk.tables.settings import check_fields, check_keys, count, number
from p2l_sdk.training.recipes import STATIC, Recipe
from p2l_sdk.votes.scores_outside import Outside

TEACHER_WEIGHT = 3.0
MOST_KEPT = 1.25  # most of the departure from the averaged leaderboard that may be kept: a bit above what was learned
_HELD_OUT = 0.1  # of a text backbone's prompts, by default

__all__ = [
    "MOST_KEPT",
    "STATIC",
    "TEACHER_WEIGHT",
    "Method",
    "Precision",
    "Recipe",
    "TrainingConfig",
]


class Method(StrEnum):
    """What is trained."""

    LORA = "lora"  # low-rank updates of the backbone's linear layers and experts, and the head
    FULL = "full"  # every weight
    HEAD = "head"  # only the head, on features that are computed once


class Precision(StrEnum):
    """The arithmetic of the backbone; head and optimizer are always in float32."""

    AUTO = "auto"  # bf16 where the hardware computes in it, else fp32
    BF16 = "bf16"
    FP32 = "fp32"


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The settings of a training run, validated on creation.

    Attributes:
        votes: votes to train on: a file, several by a pattern ("votes-*.jsonl"), a saved `datasets` folder or a Hub
            data set; or scores (those of `p2l mpg measure`, too), from which the votes on all pairs are derived (with
            pointwise feedback the scores themselves are used).
        output: the new folder; `~` is expanded.
        base: "static" (the token table of the embedded model routing9), a static model's folder, or any text backbone:
            Hub id, folder or .gguf file. A model that recognises kinds of prompt (its folder, or a short name such as
            "arena") is not trained anew but refined with the votes, in closed form: see `P2L.refine`.
        recipe: "best", "fast" or "tiny", see `Recipe`: other defaults for the settings that are not given.
        base_revision: branch, tag or commit of the base on the Hub.
        base_name: name of the base in adapter and card, if others find it elsewhere than at `base`.
        static_from: sentence encoder to distil the token table from, with base "static".
        feedback: feedback model, or pointwise feedback (bernoulli, gaussian). None is the one that suits the votes
            (grk if some are "both bad", rk if some are ties, else bt) or, where a model of kinds is refined, its own.
        method: what is trained of a text backbone: "lora", "full" or "head", see `Method`. None is "lora".
        teacher: P2L model whose outcome probabilities on the training prompts are learned from, beside the votes:
            folder, Hub id or short name; several, separated by commas or as a list, teach their mean. It must know the
            LLMs of the votes. Whatever is measured or held out is measured on votes alone.
        by: column of the votes that says what a prompt is about (a subject, a task, a language); the model needs no
            labels. A static model reads which words tell a category and recognises it (`training.word_features` and
            `recognised`) unless it is clearly worse with that. A text backbone, and any model with a `teacher_weight`,
            is taught the averaged leaderboard of each category (`training.category_teacher`).
        teacher_weight: total weight of what the teacher says (and likewise of the categories), relative to that of the
            votes. None is 3.
        eval_votes, eval_scores: held-out data, measured once after training.
        scores_outside: what to do with scores outside [0, 1], in `votes` and `eval_scores`: "clip" them, "rescale" all
            scores to [0, 1], or "drop" them; see `Scores.read`. None keeps them.
        columns, winners, rename, skip_invalid, max_rows: how the files of votes and scores are read, see `Votes.read`.
        llms, not_llms: of scores in `votes`: the columns that are LLMs, or those that are none; as text separated by
            commas, or as a list. None: all numeric columns, see `Scores.read`.
        validation: share of the prompts held out of training, on which the loss is reported; a text backbone stops
            early by it. 0 for none. None is 0.1 for a text backbone; a static model then cross-validates instead, and
            is trained on all prompts.
        costs: file of USD per response, or another source (see `load_costs`), stored with the model.
        epochs: passes over the training prompts. None is 3; for a static model chosen by cross-validation.
        keep: share of the learned departure from the averaged leaderboard that is kept: 0 returns it for every prompt,
            1 is what training made. None: a static model chooses it by cross-validation, a text backbone keeps all
            (with `calibrate`: what is best on the held-out prompts).
        copies: changed copies of each prompt that a static model learns from as well (other words around the question,
            typos, words left out), so that its answer stays put more often; each makes reading the prompts longer.
        batch_size: prompts per optimizer step, over all processes. None is 16, or 128 with method "head".
        micro_batch_size: prompts per forward pass of one process; by default its whole share of the step.
        length_window: steps within which prompts are sorted by length, which saves padding. Prompts of similar length
            tend to be of one kind; with 1 every step is a random draw, best with a small `micro_batch_size`.
        learning_rate: peak rate of the backbone, with cosine decay to 0. None is 4e-4 (LoRA) or 2e-5 (full).
        head_learning_rate: peak rate of the head.
        warmup: share of the steps in which the learning rate rises.
        weight_decay: of AdamW, on matrices only.
        max_grad_norm: gradients are clipped to this norm.
        label_smoothing: share of each vote that is spread evenly over all outcomes.
        average: decay of an exponential moving average of the weights, which is evaluated and kept instead of the
            weights of a single step; 0.98 averages about 50 steps, 0 is none.
        calibrate: after training, scale the departure of the coefficients from the averaged leaderboard so that the
            loss on held-out prompts is lowest: a model that overfits is overconfident on new prompts, and one that is
            no better than the averaged leaderboard then returns that. A static model does so unless `keep` is given, on
            the prompts that each fold leaves out.
        lora_rank, lora_alpha, lora_dropout: of the LoRA.
        head_hidden_size: width of the head's hidden layer; None for a linear head.
        head_dropout: dropout before the head's last layer.
        pooling, cls_token, chat, max_prompt_tokens: see `ModelSpec`. By default (None, for the CLS token "auto") chosen
            to suit the base. A CLS token of None or "none" means no extra token.
        checkpoints: number of checkpoints in the run; the validation loss is measured at each.
        patience: stop after this many checkpoints without a better validation loss; None to train to the end.
        precision: see `Precision`.
        gradient_checkpointing: recompute activations in the backward pass, to save memory.
        seed: of validation split, initial weights, order and dropout.
        report_to: trackers of the Trainer, e.g. "tensorboard" or "trackio". Whatever they write into the checkpoint
            folder stays there.
        push_to_hub: repository to push the finished model to.
        title, license, cost_note, notes: for the card; notes is a Markdown file that is appended to it.

    Raises:
        P2LError: a setting is illegal; the message names it and its legal values.
    """

    votes: str
    output: str
    base: str = STATIC
    recipe: Recipe | None = None
    base_revision: str | None = None
    base_name: str | None = None
    static_from: str | None = None
    feedback: str | None = None
    method: Method | None = None
    teacher: str | None = None
    by: str | None = None
    teacher_weight: float | None = number(None, 1e-3, 1e3)
    eval_votes: str | None = None
    eval_scores: str | None = None
    columns: dict[str, str] | None = None
    winners: dict[str, str] | None = None
    rename: dict[str, str] | str | None = None
    skip_invalid: bool = False
    max_rows: int | None = count(None)
    scores_outside: Outside | None = None
    llms: str | None = None
    not_llms: str | None = None
    validation: float | None = number(None, 0.0, 0.9)
    costs: str | None = None
    epochs: float | None = number(None, 0.0, 10_000)
    keep: float | None = number(None, 0.0, MOST_KEPT)
    copies: int | None = count(None)
    batch_size: int | None = count(None)
    micro_batch_size: int | None = count(None)
    length_window: int = count(16)
    learning_rate: float | None = number(None, 0.0, 1.0)
    head_learning_rate: float = number(1e-3, 0.0, 1.0)
    warmup: float = number(0.05, 0.0, 1.0)
    weight_decay: float = number(0.01, 0.0, 100.0)
    max_grad_norm: float = number(1.0, 1e-6, 1e6)
    label_smoothing: float = number(0.0, 0.0, 0.9)
    average: float = number(0.0, 0.0, 0.9999)
    calibrate: bool = False
    lora_rank: int = count(16)
    lora_alpha: float = number(32.0, 1e-6, 1e6)
    lora_dropout: float = number(0.0, 0.0, 0.95)
    head_hidden_size: int | None = count(None)
    head_dropout: float = number(0.0, 0.0, 0.95)
    pooling: Pooling | None = None
    cls_token: str | None = "auto"
    chat: bool | None = None
    max_prompt_tokens: int | None = count(None)
    checkpoints: int = count(10)
    patience: int | None = count(None)
    precision: Precision = Precision.AUTO
    gradient_checkpointing: bool = False
    seed: int = 0
    report_to: str | None = None
    push_to_hub: str | None = None
    title: str | None = None
    license: str | None = None
    cost_note: str = ""
    notes: str | None = None

    def __new__(cls, **settings: Any) -> Self:
        """Notes which settings are given, since these win over those of a recipe, even where they are the default."""
        config = super().__new__(cls)
        object.__setattr__(config, "_given", frozenset(settings))
        return config

    def __post_init__(self) -> None:
        if self.recipe is not None:
            object.__setattr__(self, "recipe", member(Recipe, "recipe", self.recipe))
            for name, value in self._of_recipe.items():
                object.__setattr__(self, name, value)
        enums: dict[str, type[StrEnum]] = {"method": Method, "precision": Precision, "pooling": Pooling}
        enums["scores_outside"] = Outside
        for name, kind in enums.items():
            if (value := getattr(self, name)) is not getattr(type(self), name):  # the default, which may be None
                object.__setattr__(self, name, member(kind, name, value))
        for name in ("votes", "output", "base"):
            value = getattr(self, name)
            self._check(name, isinstance(value, str | Path) and str(value) != "", "given")
            object.__setattr__(self, name, str(value))
        object.__setattr__(self, "output", os.path.expanduser(self.output))
        self._check("by", self.by is None or (isinstance(self.by, str) and self.by != ""), "the name of a column")
        if self.teacher is not None:
            object.__setattr__(self, "teacher", _names(self.teacher))
        for name in ("llms", "not_llms"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _columns(name, getattr(self, name)))
        if isinstance(self.rename, str | Path):
            object.__setattr__(self, "rename", read_renames(self.rename))
        Reading.of(self.columns, self.winners, self.rename, self.skip_invalid, self.max_rows)
        if self.cls_token == "none":
            object.__setattr__(self, "cls_token", None)
        check_fields(self)
        if "calibrate" in self._of_recipe and (self.validation == 0 or self.keep is not None):
            object.__setattr__(self, "calibrate", False)  # nothing to calibrate on, or nothing to choose
        self._check("seed", isinstance(self.seed, int) and self.seed >= 0, "an integer >= 0")
        self._check("epochs", self.epochs is None or self.epochs > 0, "a number above 0")
        self._check("calibrate", not self.calibrate or self.validation != 0, "false where validation is 0")
        self._check("calibrate", not self.calibrate or self.keep is None, "false where keep is given")
        self._check("patience", self.patience is None or self.validation != 0, "null where validation is 0")

    @property
    def llm_columns(self) -> dict[str, Any]:
        """What `Votes.read` and `Scores.read` are told of the columns of scores."""
        llms, others = (None if names is None else names.split(",") for names in (self.llms, self.not_llms))
        return {"models": llms, "not_llms": others or ()}

    @property
    def reading(self) -> dict[str, Any]:
        """What `Votes.read` is told of columns, winners, names and faulty rows."""
        return {name: getattr(self, name) for name in ("columns", "winners", "rename", "skip_invalid", "max_rows")}

    @property
    def held_out(self) -> float:
        """The share of the prompts held out of the training of a text backbone, with the default resolved."""
        return _HELD_OUT if self.validation is None else self.validation

    @property
    def trained(self) -> Method:
        """The method, with the default resolved."""
        return self.method or Method.LORA

    @property
    def chosen(self) -> list[str]:
        """The settings that were chosen by hand: others than the default, and not of the recipe."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        names = [name for name, default in defaults.items() if getattr(self, name) != default]
        return sorted(name for name in names if name not in self._of_recipe)

    @property
    def teachers(self) -> tuple[str, ...]:
        """The teachers, none or several."""
        return tuple(self.teacher.split(",")) if self.teacher else ()

    @property
    def weight_of_teacher(self) -> float:
        """The weight of what is taught, with the default resolved."""
        return TEACHER_WEIGHT if self.teacher_weight is None else self.teacher_weight

    @property
    def _of_recipe(self) -> dict[str, Any]:
        """What the recipe sets."""
        if self.recipe is None:
            return {}
        return {name: value for name, value in self.recipe.settings.items() if name not in vars(self)["_given"]}

    @classmethod
    def from_yaml(cls, path: str | Path, **overrides: Any) -> TrainingConfig:
        """Settings from a YAML file; `overrides` take precedence.

        Raises:
            P2LError: the file cannot be read, a key occurs twice or is unknown, or a value is illegal.
        """
        values = read_yaml(path)
        if not isinstance(values, dict):
            raise P2LError(f"{str(path)!r} holds no settings; it needs lines like 'votes: votes.jsonl'")
        return cls.from_dict({**values, **overrides}, str(path))

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "the settings") -> TrainingConfig:
        """Settings from a dictionary; for an unknown key the error suggests the nearest known one."""
        check_keys(values, cls, source)
        for key in ("votes", "output"):
            if key not in values:
                raise P2LError(f"{source}: {key!r} is missing")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The settings that differ from the defaults, and all that the recipe sets, as plain values for a YAML file."""
        fields, also = dataclasses.fields(self), {} if self.recipe is None else self.recipe.settings
        values = {f.name: getattr(self, f.name) for f in fields}
        values = {f.name: values[f.name] for f in fields if values[f.name] != f.default or f.name in also}
        return {key: str(value) if isinstance(value, StrEnum) else value for key, value in values.items()}

    def _check(self, name: str, legal: bool, rule: str) -> None:
        if not legal:
            raise P2LError(f"{name} is {getattr(self, name)!r}; it must be {rule}")


def _columns(name: str, value: Any) -> str:
    """Names of columns, as text or as a list, separated by commas."""
    names = value.split(",") if isinstance(value, str) else value
    if isinstance(names, list | tuple) and names and all(isinstance(part, str) and part.strip() for part in names):
        return ",".join(part.strip() for part in names)
    raise P2LError(f"{name} is {value!r}; it must be names of columns, by commas or as a list")


def _names(teacher: Any) -> str:
    """One or several teachers, as text or as a list, separated by commas."""
    names = [teacher] if isinstance(teacher, str | Path) else teacher
    if isinstance(names, list | tuple) and all(isinstance(name, str | Path) for name in names):
        parts = [part.strip() for name in names for part in str(name).split(",")]
        if parts and all(parts):
            return ",".join(parts)
    raise P2LError(f"teacher is {teacher!r}; it must be a model (folder, Hub id, short name), or several, by commas")
