"""The frozen part of a static model in training: a table of token vectors, standardised on the training prompts."""

from __future__ import annotations

import math

import numpy as np
import torch

from p2l_sdk.modeling.configuration_p2l import P2LConfig
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.modeling.prompt_p2l import pad
from p2l_sdk.modeling.spec_p2l import Activation, ModelSpec, Pooling
from p2l_sdk.modeling.static_p2l import StaticConfig
from p2l_sdk.training.static_recipe import StaticRecipe
from p2l_sdk.training.token_table import TokenTable
from p2l_sdk.training.word_features import WordFeatures
from p2l_sdk.votes.votes import Votes


def new_model(spec: ModelSpec, table: TokenTable, recipe: StaticRecipe) -> P2LModel:
    """A model of this spec with a frozen table, not yet standardised."""
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
def standardise(model: P2LModel, ids: list[list[int]], recipe: StaticRecipe) -> torch.Tensor:
    """Standardise the table and the length feature on these prompts in place, and return the prompts' vectors."""
    backbone = model.backbone
    log_lengths = torch.tensor([len(row) for row in ids], dtype=torch.float32).log()
    if backbone.length is not None:
        factor = recipe.length_scale / max(float(log_lengths.std()), 1e-3)
        backbone.length.data = torch.tensor([log_lengths.mean(), factor, log_lengths.min(), log_lengths.max()])
    width = backbone.table.shape[1]
    # Shifting and scaling the rows of the table does the same to a weighted mean of them, so no extra layer is needed.
    means = vectors_of(model, ids)[:, :width]
    backbone.config.norm_power = recipe.norm_power
    backbone.table -= means.mean(0)
    spread = vectors_of(model, ids)[:, :width].std(0).square().mean().sqrt()
    if recipe.norm_power < 1.0:  # at 1 every vector has unit length, whatever the scale
        backbone.table *= spread ** (-1.0 / (1.0 - recipe.norm_power))
    return vectors_of(model, ids)


@torch.no_grad()
def with_words(model: P2LModel, words: WordFeatures) -> P2LModel:
    """The same model, without a head as yet, with word features in its vectors."""
    table = words.table
    config = {**model.config.backbone_config.to_dict(), "word_features": table.shape[1]}
    wider = P2LModel(P2LConfig(backbone_config=StaticConfig(**config), **model.spec.to_dict()))
    wider.backbone.requires_grad_(False)
    wider.backbone.load_state_dict({**model.backbone.state_dict(), "words.table": table, "words.idf": words.idf})
    return wider


def vectors_of(model: P2LModel, ids: list[list[int]], batch_size: int = 256) -> torch.Tensor:
    """The `(n_prompts, hidden_size)` pooled states of the prompts."""
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    vectors = torch.empty(len(ids), model.config.hidden_size)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        input_ids, mask = (torch.from_numpy(x) for x in pad([ids[i] for i in rows], 0))
        vectors[rows] = model.backbone(input_ids, mask).pooler_output
    return vectors


def spec_of(votes: Votes, recipe: StaticRecipe, hidden_size: int, costs: dict[str, float]) -> ModelSpec:
    """The spec of a static model with a head of this width."""
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
