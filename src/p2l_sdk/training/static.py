"""Train a static P2L model on votes, in seconds on one core.

The backbone is a table of token vectors, distilled from a sentence encoder or taken from an existing static model (by
default the embedded model routing9). It is frozen, so each prompt is read once, and only the head is trained. The head
starts at the averaged leaderboard of the votes, decays strongly towards it, and keeps only a share of its learned
departure from it: where the votes teach nothing, the model returns the averaged leaderboard.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
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
from p2l_sdk.training.data import ByPrompt
from p2l_sdk.training.familiarity import remember_prompts
from p2l_sdk.training.heads import shrink_towards, start_at
from p2l_sdk.training.listener import Listener, tracked
from p2l_sdk.training.token_table import TokenTable
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.votes import Votes

_MOST_EPOCHS = 20  # by default; chosen by held-out loss at 300 and 1,000 prompts, see docs/train-a-static-model.md


@dataclass(frozen=True, kw_only=True)
class StaticRecipe:
    """Settings of the training. The defaults were chosen on routing9's train split, by five folds over the prompts and
    fourteen runs that each left out one task.

    Attributes:
        feedback: the feedback model.
        max_prompt_tokens: tokens kept of a prompt, the last ones.
        symbol_weight: weight in the mean of single-character and special tokens; all others have weight 1.
        norm_power: the mean is divided by its norm to this power: 0 leaves it unchanged, 1 gives unit length.
        length_scale: standard deviation of the length feature, relative to 1 for a vector entry; 0 for no feature.
        hidden_size: width of the head's hidden layer.
        input_dropout, dropout: on the prompt's vector, and on the hidden layer.
        learning_rate, weight_decay: of AdamW; decay on matrices only; linear warm-up and cosine decay to 0.
        warmup_steps, steps, batch_size: a batch consists of prompts, each with all of its votes.
        keep: share of the learned departure from the averaged leaderboard that is kept; lower is more cautious.
        seed: of initial weights, dropout and order.

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
    steps: int = count(224)
    batch_size: int = count(128)
    keep: float = number(0.9, 0.0, 1.0)
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)

    def for_prompts(self, n_prompts: int, epochs: float | None = None) -> StaticRecipe:
        """The recipe with the steps of `epochs` passes over the prompts; by default its own steps, but at most 20
        passes, since with few prompts more would overfit. The warm-up takes at most a tenth of the steps."""
        batches = -(-n_prompts // self.batch_size)
        steps = min(self.steps, _MOST_EPOCHS * batches) if epochs is None else max(1, round(epochs * batches))
        return replace(self, steps=steps, warmup_steps=max(1, min(self.warmup_steps, steps // 10)))


def train_static(
    votes: Votes,
    table: TokenTable,
    recipe: StaticRecipe,
    costs: dict[str, float] | None = None,
    *,
    averaged: Leaderboard | None = None,
    listener: Listener | None = None,
) -> P2LModel:
    """Train a model with an 8-bit table, ready to be saved together with `table.tokenizer`.

    Args:
        votes: the votes to learn from; their LLMs are those of the model.
        table: token vectors and their tokenizer.
        recipe: the settings.
        costs: USD per response by LLM name, stored with the model.
        averaged: the averaged leaderboard of these votes; fitted if it is not given.
        listener: is told of the progress.

    Raises:
        VotesError: there is only one prompt, or the feedback model needs "both bad" votes and there are none.
    """
    check_prompts(votes)
    check_ground(votes, recipe.feedback)
    torch.manual_seed(recipe.seed)
    spec = ModelSpec(
        models=votes.models,
        feedback=recipe.feedback,
        costs=costs or {},
        pooling=Pooling.POOLER,
        max_prompt_tokens=recipe.max_prompt_tokens,
        chat=False,
        head_hidden_size=recipe.hidden_size,
        head_activation=Activation.GELU,
        head_input_dropout=recipe.input_dropout,
        head_dropout=recipe.dropout,
    )
    model = _new_model(spec, table, recipe)
    encode = PromptEncoder(spec, Tokenizer.from_str(table.tokenizer.to_str()))
    vectors = _standardise(model, encode(votes.prompts), recipe)
    if averaged is None:
        averaged = fit_leaderboard(votes, recipe.feedback, intervals=None)
    _start_at(model, averaged)
    _fit_head(model, vectors, votes, recipe, listener or Listener())
    shrink_towards(model, averaged, recipe.keep)
    remember_prompts(model, vectors, recipe.seed)
    return quantized(model)


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


@torch.no_grad()
def _start_at(model: P2LModel, leaderboard: Leaderboard) -> None:
    """Initialise the head so that it returns this leaderboard for every prompt."""
    nn.init.normal_(model.head.get_parameter("hidden.weight"), std=model.backbone.table.shape[1] ** -0.5)
    start_at(model, leaderboard)


def _fit_head(model: P2LModel, vectors: torch.Tensor, votes: Votes, recipe: StaticRecipe, listener: Listener) -> None:
    head, grouped, random = model.head, ByPrompt.of_votes(votes, recipe.feedback), np.random.default_rng(recipe.seed)
    matrices = [p for p in head.parameters() if p.dim() > 1]
    biases = [p for p in head.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": biases, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.99),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda t: min(1.0, (t + 1) / recipe.warmup_steps) * 0.5 * (1.0 + math.cos(math.pi * t / recipe.steps)),
    )
    epochs = (random.permutation(len(vectors)) for _ in itertools.count())
    batches = (rows[i : i + recipe.batch_size] for rows in epochs for i in range(0, len(rows), recipe.batch_size))
    head.train()
    for _ in tracked(range(recipe.steps), "training", listener):
        rows = next(batches)
        batch = grouped.of(rows)
        coefs, eta, gamma = head(vectors[rows])
        loss = model.vote_loss(coefs, eta, gamma, batch["labels"], batch["weights"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    head.eval()
