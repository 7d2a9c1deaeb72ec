"""Train a static P2L model on votes, in seconds on one core.

The backbone is a table of token vectors, distilled from a sentence encoder or taken from an existing static model (by
default the embedded model routing9). It is frozen, so each prompt is read once, and only the head is trained. The head
starts at the averaged leaderboard of the votes, decays strongly towards it, and keeps only a share of its learned
departure from it. How long it is trained and how much it keeps is chosen by cross-validation over the prompts
(`static_choice.py`): where the votes teach nothing, the model returns the averaged leaderboard.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.configuration_p2l import P2LConfig
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.modeling.prompt_p2l import PromptEncoder, pad
from p2l_sdk.modeling.spec_p2l import Activation, ModelSpec, Pooling
from p2l_sdk.modeling.static_p2l import StaticConfig
from p2l_sdk.tables.settings import check_fields, count, number
from p2l_sdk.training.checks import check_ground, check_prompts
from p2l_sdk.training.choice import Choice
from p2l_sdk.training.config import MOST_KEPT
from p2l_sdk.training.data import ByPrompt
from p2l_sdk.training.familiarity import remember_prompts
from p2l_sdk.training.group_error import group_error
from p2l_sdk.training.listener import Listener
from p2l_sdk.training.static_choice import cross_validate, n_steps
from p2l_sdk.training.static_folds import Folds
from p2l_sdk.training.static_heads import (
    Heads,
    Scales,
    Steps,
    as_outputs,
    learnable,
    log_likelihoods,
    n_models_of,
    train_heads,
)
from p2l_sdk.training.teacher import with_lessons
from p2l_sdk.training.token_table import TokenTable
from p2l_sdk.training.verdict import Verdict
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.votes import Votes

_EPOCHS = (6, 10, 20)  # to choose from, see docs/train-a-static-model.md
_MOST_STEPS = 320  # of these; with many prompts, fewer epochs do


@dataclass(frozen=True, kw_only=True)
class StaticRecipe:
    """Settings of the training. The defaults were chosen on routing9's train split, by five folds over the prompts and
    fourteen runs that each left out one task; `steps` and `keep` are chosen anew for all votes, unless they are given.

    Attributes:
        feedback: the feedback model.
        max_prompt_tokens: tokens kept of a prompt, the last ones.
        symbol_weight: weight in the mean of single-character and special tokens; all others have weight 1.
        norm_power: the mean is divided by its norm to this power: 0 leaves it unchanged, 1 gives unit length.
        length_scale: standard deviation of the length feature, relative to 1 for a vector entry; 0 for no feature.
        hidden_size: width of the head's hidden layer.
        input_dropout, dropout: on the prompt's vector, and on the hidden layer.
        learning_rate, weight_decay: of AdamW; decay on matrices only; linear warm-up and cosine decay to 0.
        warmup_steps: of the steps, at most a tenth.
        steps: number of optimizer steps; None: that of 6, 10 or 20 passes over the prompts, as cross-validation says.
        batch_size: a batch consists of prompts, each with all of its votes.
        keep: share of the learned departure from the averaged leaderboard that is kept: 0 returns it for every prompt.
            None: chosen by cross-validation, for what tells LLMs apart and for what is common to all of them.
        copies: changed copies of each prompt to learn from too (`training.augmentation`); None for none.
        seed: of folds, initial weights, dropout and order.

    Raises:
        P2LError: a setting is illegal; the message names it and its legal values.
    """

    feedback: Feedback = Feedback.GRK
    max_prompt_tokens: int = count(512)
    symbol_weight: float = number(0.25, 1e-6)
    norm_power: float = number(0.5, 0.0, 1.0)
    length_scale: float = number(10.0, 0.0)
    hidden_size: int = count(256)
    input_dropout: float = number(0.1, 0.0, 0.95)
    dropout: float = number(0.2, 0.0, 0.95)
    learning_rate: float = number(2e-3, 0.0, 1.0)
    weight_decay: float = number(6.0, 0.0, 100.0)
    warmup_steps: int = count(20)
    steps: int | None = count(None)
    batch_size: int = count(128)
    keep: float | None = number(None, 0.0, MOST_KEPT)
    copies: int | None = count(None)
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)

    def for_prompts(self, n_prompts: int, epochs: float | None = None) -> StaticRecipe:
        """The recipe with the steps of `epochs` passes over the prompts; unchanged if it is None."""
        if epochs is None:
            return self
        return replace(self, steps=max(1, round(epochs * -(-n_prompts // self.batch_size))))

    def lengths(self, n_prompts: int) -> list[Steps]:
        """The trainings to choose from, shortest first: one if `steps` is given."""
        batches = -(-n_prompts // self.batch_size)
        steps = {min(epochs * batches, _MOST_STEPS) for epochs in _EPOCHS} if self.steps is None else {self.steps}
        names = [field.name for field in dataclasses.fields(Steps) if field.name not in ("steps", "warmup_steps")]
        same = {name: getattr(self, name) for name in names}
        return [Steps(steps=n, warmup_steps=max(1, min(self.warmup_steps, n // 10)), **same) for n in sorted(steps)]


@dataclass(frozen=True, eq=False)
class StaticFit:
    """A trained static model.

    Attributes:
        model: the model, with an 8-bit table.
        averaged: the averaged leaderboard of the training votes.
        choice: what cross-validation chose, and how good it is; None if nothing was left to choose, or there are too
            few votes to leave some out: then the model returns the averaged leaderboard, unless `keep` was given.
        recipe: the settings, with what was chosen: steps, and `keep` of what tells LLMs apart.
        held_out: the verdict on votes that were held out; None without.
    """

    model: P2LModel
    averaged: Leaderboard
    choice: Choice | None
    recipe: StaticRecipe
    held_out: Verdict | None = None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on held-out votes or, without any, that of cross-validation."""
        return self.held_out or (None if self.choice is None else self.choice.verdict)

    @property
    def words(self) -> tuple[str, ...]:
        """What was chosen and measured, for people."""
        verdicts = [verdict for verdict in (self.choice and self.choice.verdict, self.held_out) if verdict]
        lines = [f"{verdict.measured}: {verdict.figures}: {verdict.sentence}" for verdict in verdicts]
        if self.choice is not None:
            lines += self.choice.words
        elif self.recipe.keep == 0.0:
            lines.append("the model returns the averaged leaderboard for every prompt")
        return tuple(lines)


def train_static(
    votes: Votes,
    table: TokenTable,
    recipe: StaticRecipe,
    costs: dict[str, float] | None = None,
    *,
    averaged: Leaderboard | None = None,
    lessons: Votes | None = None,
    listener: Listener | None = None,
) -> P2LModel:
    """Train a model with an 8-bit table, ready to be saved together with `table.tokenizer`.

    Args:
        votes: the votes to learn from; their LLMs are those of the model.
        table: token vectors and their tokenizer.
        recipe: the settings.
        costs: USD per response by LLM name, stored with the model.
        averaged: the averaged leaderboard of these votes; fitted if it is not given.
        lessons: further votes on the same prompts and LLMs, weighted, to learn from as well, see `training.teacher`;
            the averaged leaderboard and what cross-validation measures are those of `votes` alone.
        listener: is told of the progress.

    Raises:
        VotesError: there is only one prompt, or the feedback model needs "both bad" votes and there are none.
    """
    return fit_static(votes, table, recipe, costs, averaged=averaged, lessons=lessons, listener=listener).model


def fit_static(
    votes: Votes,
    table: TokenTable,
    recipe: StaticRecipe,
    costs: dict[str, float] | None = None,
    *,
    averaged: Leaderboard | None = None,
    lessons: Votes | None = None,
    held_out: Votes | None = None,
    listener: Listener | None = None,
) -> StaticFit:
    """As `train_static`, with what was chosen and measured.

    Args:
        held_out: votes on other prompts, on the same LLMs, to measure the model on.
    """
    check_prompts(votes)
    check_ground(votes, recipe.feedback)
    grouped = ByPrompt.of_votes(with_lessons(votes, lessons), recipe.feedback)
    encode = PromptEncoder(_spec(votes, recipe, 1, {}), Tokenizer.from_str(table.tokenizer.to_str()))
    backbone = _new_model(_spec(votes, recipe, 1, {}), table, recipe)
    vectors = _standardise(backbone, encode(votes.prompts), recipe)
    if averaged is None:
        averaged = fit_leaderboard(votes, recipe.feedback, intervals=None)
    start = as_outputs([averaged], recipe.feedback)
    folds = Folds.of(vectors, votes, grouped, recipe.feedback, recipe.seed)
    if recipe.copies is not None:
        folds = folds.with_copies(lambda prompts: _vectors(backbone, encode(prompts)), recipe.copies, recipe.seed)
    choice, head = _fit_head(folds, recipe, start, listener or Listener())
    spec = _spec(votes, recipe, head.hidden.shape[-1], costs or {})
    model = _with_head(backbone, spec, head)
    remember_prompts(model, vectors, recipe.seed, _group_error(folds, recipe, choice))
    verdict = None
    if held_out is not None:
        outputs = head.of(0, _vectors(model, encode(held_out.prompts)))
        departs = (recipe.keep or 0.0) if choice is None else choice.verdict.keep
        verdict = _held_out_verdict(held_out, outputs, start[0], recipe.feedback, departs)
    keep = recipe.keep if choice is None else choice.keep
    steps = recipe.lengths(len(votes.prompts))[-1].steps if choice is None else choice.steps
    used = replace(recipe, keep=keep or 0.0, steps=steps)
    return StaticFit(quantized(model), averaged, choice, used, verdict)


def quantized(model: P2LModel) -> P2LModel:
    """The same model with its table in 8 bits and one scale per token. An entry changes by at most 1/254 of the largest
    absolute entry of its row."""
    table = model.backbone.table.detach()
    scale = table.abs().amax(1) / 127.0
    scale[scale == 0] = 1.0
    config = model.config.to_dict()
    config["backbone_config"] = {**config["backbone_config"], "quantized": True}
    for key in ("architectures", "dtype", "transformers_version"):
        config.pop(key, None)
    small = P2LModel(P2LConfig(**config)).eval()
    codes = (table / scale[:, None]).round().to(torch.int8)
    small.load_state_dict({**model.state_dict(), "backbone.table": codes, "backbone.scale": scale})
    return small


def write_static(model: P2LModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write model, tokenizer and remote code into an existing folder."""
    model.save_pretrained(folder)
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_padding()  # drop what its last use set: the model's own rules are in config.json
    tokenizer.no_truncation()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=tokenizer.id_to_token(0)).save_pretrained(folder)


def _new_model(spec: ModelSpec, table: TokenTable, recipe: StaticRecipe) -> P2LModel:
    vocab, width = table.vectors.shape
    backbone = StaticConfig(
        vocab_size=vocab,
        embedding_size=width,
        length_feature=recipe.length_scale > 0,
    )
    model = P2LModel(P2LConfig(backbone_config=backbone, **spec.to_dict()))
    model.backbone.requires_grad_(False)
    model.backbone.table.data = torch.from_numpy(table.vectors.astype(np.float32))
    tokens = [table.tokenizer.id_to_token(i) or "" for i in range(vocab)]
    symbol = torch.tensor([len(token) <= 1 or (token[0] in "[<" and token[-1] in "]>") for token in tokens])
    model.backbone.log_weight.data = torch.where(symbol, math.log(recipe.symbol_weight), 0.0)
    return model


@torch.no_grad()
def _standardise(model: P2LModel, ids: list[list[int]], recipe: StaticRecipe) -> torch.Tensor:
    """Standardise the table and the length feature on these prompts in place, and return the prompts' vectors."""
    backbone = model.backbone
    log_lengths = torch.tensor([len(row) for row in ids], dtype=torch.float32).log()
    if backbone.length is not None:
        factor = recipe.length_scale / max(float(log_lengths.std()), 1e-3)
        backbone.length.data = torch.tensor([log_lengths.mean(), factor, log_lengths.min(), log_lengths.max()])
    width = backbone.table.shape[1]
    # Shifting and scaling the rows of the table does the same to a weighted mean of them, so no extra layer is needed.
    means = _vectors(model, ids)[:, :width]
    backbone.config.norm_power = recipe.norm_power
    backbone.table -= means.mean(0)
    spread = _vectors(model, ids)[:, :width].std(0).square().mean().sqrt()
    if recipe.norm_power < 1.0:  # at 1 every vector has unit length, whatever the scale
        backbone.table *= spread ** (-1.0 / (1.0 - recipe.norm_power))
    return _vectors(model, ids)


def _vectors(model: P2LModel, ids: list[list[int]], batch_size: int = 256) -> torch.Tensor:
    """The `(n_prompts, hidden_size)` pooled states of the prompts."""
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    vectors = torch.empty(len(ids), model.config.hidden_size)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        input_ids, mask = (torch.from_numpy(x) for x in pad([ids[i] for i in rows], 0))
        vectors[rows] = model.backbone(input_ids, mask).pooler_output
    return vectors


def _spec(votes: Votes, recipe: StaticRecipe, hidden_size: int, costs: dict[str, float]) -> ModelSpec:
    return ModelSpec(
        models=votes.models,
        feedback=recipe.feedback,
        costs=costs,
        pooling=Pooling.POOLER,
        max_prompt_tokens=recipe.max_prompt_tokens,
        chat=False,
        head_hidden_size=hidden_size,
        head_activation=Activation.GELU,
        head_input_dropout=recipe.input_dropout,
        head_dropout=recipe.dropout,
    )


def _fit_head(
    folds: Folds, recipe: StaticRecipe, start: torch.Tensor, listener: Listener
) -> tuple[Choice | None, Heads]:
    """What was chosen, and the head: the mean of the folds' heads or, if nothing is left to choose or the votes are too
    few to leave some out, one that is trained on all prompts."""
    prompts = folds.lessons.prompts
    lengths = recipe.lengths(len(folds.fold))
    keep = recipe.keep
    if keep is None or recipe.steps is None:
        bar = _Bar(listener, n_steps(lengths, len(folds.fold)))
        found = cross_validate(folds, lengths, recipe.hidden_size, keep, start, bar.tick)
        if found is not None:
            bar.full()
            return found
        keep = 0.0 if keep is None else keep
    bar = _Bar(listener, lengths[-1].steps)
    width, size = folds.vectors.shape[1], recipe.hidden_size
    heads = Heads.new(learnable(start, recipe.feedback), width, size, recipe.seed)
    heads = train_heads(heads, folds.lesson_vectors, folds.lessons, [prompts], recipe.feedback, lengths[-1], bar.tick)
    return None, heads.shrunk(start, Scales(keep, keep, n_models_of(start, recipe.feedback)))


def _group_error(folds: Folds, recipe: StaticRecipe, choice: Choice | None) -> float:
    """The variance of the model's error for a kind of prompt that it has not seen; see `training.group_error`."""
    lengths, n_models = recipe.lengths(len(folds.fold)), len(folds.votes.models)
    how = lengths[-1] if choice is None else next(steps for steps in lengths if steps.steps == choice.steps)
    keep = recipe.keep or 0.0
    scales = Scales(keep, keep, n_models) if choice is None else Scales(choice.keep, choice.level, n_models)
    return group_error(folds, how, recipe.hidden_size, scales)


class _Bar:
    """Tells a listener how many steps of a training are done."""

    def __init__(self, listener: Listener, total: int) -> None:
        self._listener, self._total, self._done = listener, total, 0
        self._tell()

    def tick(self) -> None:
        """One step more is done."""
        self._done += 1
        self._tell()

    def full(self) -> None:
        """No more steps follow, though there might have been."""
        if self._done < self._total:
            self._done = self._total
            self._tell()

    def _tell(self) -> None:
        self._listener.progress("training", self._done, self._total)


@torch.no_grad()
def _with_head(model: P2LModel, spec: ModelSpec, head: Heads) -> P2LModel:
    """A model with the backbone of `model`, and this head."""
    made = P2LModel(P2LConfig(backbone_config=model.backbone.config, **spec.to_dict())).eval()
    made.backbone = model.backbone
    out, bias = head.out[0].T, head.out_bias[0, 0]
    layers = [(made.head.get_submodule("hidden"), head.hidden[0].T, head.hidden_bias[0, 0])]
    n = len(spec.models)
    for name, columns in (("coefs", slice(0, n)), ("eta", slice(n, n + 1)), ("gamma", slice(-1, None))):
        if (layer := getattr(made.head, name)) is not None:
            layers.append((layer, out[columns], bias[columns]))
    for layer, weight, offset in layers:
        layer.get_parameter("weight").copy_(weight)
        layer.get_parameter("bias").copy_(offset)
    return made


def _held_out_verdict(
    votes: Votes, outputs: torch.Tensor, averaged: torch.Tensor, feedback: Feedback, keep: float
) -> Verdict:
    """The verdict on held-out votes, given the model's `(n_prompts, n_outputs)` and the averaged leaderboard."""
    columns = ByPrompt.of_votes(votes, feedback).of(np.arange(len(votes.prompts)))
    labels = columns["labels"]
    model, baseline = (
        -log_likelihoods(x, labels, feedback).numpy() for x in (outputs, averaged.expand(len(outputs), -1))
    )
    return Verdict.of_losses(
        model,
        baseline,
        labels[:, 0].numpy(),
        columns["weights"].numpy(),
        measured=f"{len(votes.prompts):,} prompts held out",
        keep=keep,
    )
