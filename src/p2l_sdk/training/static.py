"""Train a static P2L model on votes, in seconds on one core.

The backbone is a table of token vectors, distilled from a sentence encoder or taken from an existing static model (by
default the embedded model routing9). It is frozen, so each prompt is read once, and only the head is trained. The head
starts at the averaged leaderboard of the votes, decays strongly towards it, and keeps only a share of its learned
departure from it. How long it is trained and how much it keeps is chosen by cross-validation over the prompts
(`static_choice.py`): where the votes teach nothing, the model returns the averaged leaderboard.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from p2l_sdk.modeling.prompt_p2l import PromptEncoder
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.rewording.copies import changed_copies
from p2l_sdk.scorers.static import TABLES
from p2l_sdk.training.checks import check_ground, check_prompts
from p2l_sdk.training.choice import Choice
from p2l_sdk.training.data import ByPrompt
from p2l_sdk.training.familiarity import remember_prompts
from p2l_sdk.training.group_error import group_error
from p2l_sdk.training.listener import Listener
from p2l_sdk.training.recognised import largest
from p2l_sdk.training.static_backbone import new_model, spec_of, standardise, vectors_of, with_words
from p2l_sdk.training.static_choice import cross_validate, n_steps, recognised_of
from p2l_sdk.training.static_folds import FOLDS, Folds, Tick
from p2l_sdk.training.static_heads import (
    Heads,
    Scales,
    as_outputs,
    log_likelihoods,
    one_head,
)
from p2l_sdk.training.static_recipe import StaticRecipe
from p2l_sdk.training.teacher import with_lessons
from p2l_sdk.training.token_table import TokenTable
from p2l_sdk.training.verdict import Verdict
from p2l_sdk.training.word_features import WordFeatures
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.votes import Votes


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
    category: np.ndarray | None = None,
    held_out: Votes | None = None,
    listener: Listener | None = None,
) -> StaticFit:
    """As `train_static`, with what was chosen and measured.

    Args:
        category: `(n_prompts,)` number of each prompt's category, -1 for none. Which words tell them is read in each
            prompt, and part of the model recognises them, if cross-validation finds the model no worse with that, or if
            the votes are too few to tell.
        held_out: votes on other prompts, on the same LLMs, to measure the model on.
    """
    check_prompts(votes)
    check_ground(votes, recipe.feedback)
    learned = with_lessons(votes, lessons)
    grouped = ByPrompt.of_votes(learned, recipe.feedback)
    encode = PromptEncoder(spec_of(votes, recipe, 1, {}), Tokenizer.from_str(table.tokenizer.to_str()))
    backbone = new_model(spec_of(votes, recipe, 1, {}), table, recipe)
    ids = encode(votes.prompts)
    vectors = standardise(backbone, ids, recipe)
    if averaged is None:
        averaged = fit_leaderboard(votes, recipe.feedback, intervals=None)
    start = as_outputs([averaged], recipe.feedback)
    folds = Folds.of(vectors, votes, grouped, recipe.feedback, recipe.seed)
    listener = listener or Listener()
    copies = [] if recipe.copies is None else changed_copies(votes.prompts, recipe.copies, recipe.seed)
    options = _options(folds, ids, [encode(copy) for copy in copies], category, backbone, recipe, listener)
    choice, folds, head = _fit_head(options, recipe, start, listener)
    if folds.words is not None:
        backbone, vectors = with_words(backbone, folds.words), folds.vectors
    spec = spec_of(votes, recipe, head.hidden.shape[-1], costs or {})
    model = with_head(backbone, spec, head)
    n_words = backbone.config.backbone_config.word_features  # 0 of unknown words, as of words that tell nothing
    remember_prompts(model, vectors, recipe.seed, _group_error(folds, recipe, choice), uncounted=n_words)
    verdict = None
    if held_out is not None:
        outputs = head.of(0, vectors_of(model, encode(held_out.prompts)))
        departs = (recipe.keep or 0.0) if choice is None else choice.verdict.keep
        verdict = _held_out_verdict(held_out, outputs, start[0], recipe.feedback, departs)
    keep = recipe.keep if choice is None else choice.keep
    steps = recipe.lengths(len(votes.prompts))[-1].steps if choice is None else choice.steps
    used = replace(recipe, keep=keep or 0.0, steps=steps)
    return StaticFit(quantized(model), averaged, choice, used, verdict)


def quantized(model: P2LModel) -> P2LModel:
    """The same model with its tables in 8 bits and one scale per token. An entry changes by at most 1/254 of the
    largest absolute entry of its row."""
    state = model.state_dict()
    for name in [name for name in TABLES if name in state]:
        scale = state[name].abs().amax(1) / 127.0
        scale[scale == 0] = 1.0
        state[name.replace("table", "scale")] = scale
        state[name] = (state[name] / scale[:, None]).round().to(torch.int8)
    config = model.config.to_dict()
    config["backbone_config"] = {**config["backbone_config"], "quantized": True}
    for key in ("architectures", "dtype", "transformers_version"):
        config.pop(key, None)
    small = P2LModel(P2LConfig(**config)).eval()
    small.load_state_dict(state)
    return small


def write_static(model: P2LModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write model, tokenizer and remote code into an existing folder."""
    model.save_pretrained(folder)
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_padding()  # drop what its last use set: the model's own rules are in config.json
    tokenizer.no_truncation()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=tokenizer.id_to_token(0)).save_pretrained(folder)


def _options(
    folds: Folds,
    ids: list[list[int]],
    copies: list[list[list[int]]],
    category: np.ndarray | None,
    backbone: P2LModel,
    recipe: StaticRecipe,
    listener: Listener,
) -> list[Folds]:
    """The folds without their categories and, if there are any, with them; heads learn from the copies as well."""
    of_copies = [vectors_of(backbone, each) for each in copies]

    def with_copies(each: Folds) -> Folds:
        if not copies:
            return each
        words = each.words
        read = of_copies if words is None else [words.beside(*of) for of in zip(of_copies, copies, strict=True)]
        return each.with_copies(torch.stack(read), recipe.seed)

    def told(category: np.ndarray, fold: np.ndarray, tick: Tick = lambda: None) -> Folds:
        words = WordFeatures.learned(ids, category, fold, len(backbone.backbone.table), recipe.seed, tick)
        return with_copies(folds.telling(category, words.beside(folds.vectors, ids), fold, words, told))

    options = [with_copies(folds)]
    if category is not None:
        bar = _Bar(listener, FOLDS, "which words tell the categories")
        options.append(told(largest(category), folds.fold, bar.tick))
    return options


def _fit_head(
    options: Sequence[Folds], recipe: StaticRecipe, start: torch.Tensor, listener: Listener
) -> tuple[Choice | None, Folds, Heads]:
    """What was chosen, the folds that it was chosen on, and the head: the mean of the folds' heads or, if nothing is
    left to choose or the votes are too few to leave some out, one that is trained on all prompts."""
    folds = options[-1]
    lengths = recipe.lengths(len(folds.fold))
    keep = recipe.keep
    if keep is None or recipe.steps is None or len(options) > 1 or folds.category is not None:
        bar = _Bar(listener, n_steps(lengths, options))
        found = cross_validate(options, lengths, recipe.hidden_size, keep, start, bar.tick)
        if found is not None:
            bar.full()
            return found
        keep = 0.0 if keep is None else keep
        folds = folds if keep else options[0]
    bar = _Bar(listener, lengths[-1].steps)
    vectors, size = folds.lesson_vectors, recipe.hidden_size
    return None, folds, one_head(vectors, folds.lessons, start, recipe.feedback, lengths[-1], size, keep, bar.tick)


def _group_error(folds: Folds, recipe: StaticRecipe, choice: Choice | None) -> float:
    """The variance of the model's error for a kind of prompt that it has not seen; see `training.group_error`."""
    lengths, n_models = recipe.lengths(len(folds.fold)), len(folds.votes.models)
    how = lengths[-1] if choice is None else next(steps for steps in lengths if steps.steps == choice.steps)
    keep = recipe.keep or 0.0
    scales = Scales(keep, keep, n_models) if choice is None else Scales(choice.keep, choice.level, n_models)
    return group_error(
        folds, how, recipe.hidden_size, scales, None if choice is None else recognised_of(choice, n_models)
    )


class _Bar:
    """Tells a listener how many steps of a part of the work are done."""

    def __init__(self, listener: Listener, total: int, doing: str = "training") -> None:
        self._listener, self._total, self._doing, self._done = listener, total, doing, 0
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
        self._listener.progress(self._doing, self._done, self._total)


@torch.no_grad()
def with_head(model: P2LModel, spec: ModelSpec, head: Heads) -> P2LModel:
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
