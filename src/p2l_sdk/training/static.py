"""Train a static P2L model from votes, in a minute on two cores: `python -m p2l_sdk.training --help`.

The backbone is a table of token vectors, distilled from a sentence encoder or taken from an existing static model
(the embedded default, if none is named). It stays as it is; what is learned is the weight of each token and the head.
The head starts at the marginal leaderboard of the votes with all prompt-dependent output at zero, and decays towards
that start: what the votes do not teach stays the averaged leaderboard. At the end the table is stored in 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedTokenizerFast

from p2l_sdk.marginal import fit_leaderboard
from p2l_sdk.modeling.configuration_p2l import P2LConfig
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.modeling.prompt_p2l import PromptEncoder, pad
from p2l_sdk.modeling.spec_p2l import Activation, ModelSpec, Pooling
from p2l_sdk.modeling.static_p2l import StaticConfig
from p2l_sdk.training.token_table import TokenTable
from p2l_sdk.votes import Votes


@dataclass(frozen=True, kw_only=True)
class StaticRecipe:
    """Settings of the training; the defaults were chosen on held-out parts of routing9's train split.

    Attributes:
        feedback: the feedback model.
        max_prompt_tokens: tokens kept of a prompt, its last ones.
        hidden_size: width of the head's hidden layer.
        input_dropout, dropout: of the prompt's vector, of the hidden layer.
        length_scale: standard deviation of the length feature beside the unit-variance vector.
        learning_rate, weight_decay: of AdamW, on the head's matrices; warm-up, then cosine decay to 0.
        token_learning_rate: of the logarithms of the token weights.
        warmup_steps, epochs, batch_size: batches are of prompts, each with all of its votes.
        seed: of initial weights, dropout and order.
    """

    feedback: str = "grk"
    max_prompt_tokens: int = 512
    hidden_size: int = 256
    input_dropout: float = 0.3
    dropout: float = 0.5
    length_scale: float = 3.0
    learning_rate: float = 2e-3
    weight_decay: float = 3.0
    token_learning_rate: float = 1e-2
    warmup_steps: int = 20
    epochs: int = 7
    batch_size: int = 128
    seed: int = 0


def train_static(
    votes: Votes, table: TokenTable, recipe: StaticRecipe, costs: dict[str, float] | None = None, *, quiet: bool = False
) -> P2LModel:
    """A trained model with an 8-bit table, ready to be saved beside `table.tokenizer`.

    Args:
        votes: the votes to learn from; their models are the model's.
        table: token vectors and their tokenizer.
        recipe: the settings.
        costs: USD per response by LLM name, stored with the model.
        quiet: no progress bar.
    """
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
    encoder = PromptEncoder(spec, Tokenizer.from_str(table.tokenizer.to_str()))
    ids = [row for i in range(0, len(votes.prompts), 1024) for row in encoder(votes.prompts[i : i + 1024])]
    model = _new_model(spec, table, recipe)
    _start(model, ids, votes, recipe)
    _fit(model, ids, votes, recipe, quiet)
    return quantized(model)


def quantized(model: P2LModel) -> P2LModel:
    """The same model with its table in 8 bits, one scale per token; at most half a step of 1/127 of a row's largest
    entry is lost. Tokens that the table does not tell from nothing keep a scale of 1."""
    table = model.backbone.table.detach()
    scale = table.abs().amax(1) / 127.0
    scale[scale == 0] = 1.0
    config = model.config.to_dict()
    config["backbone_config"] = {**config["backbone_config"], "quantized": True}
    for key in ("architectures", "dtype", "transformers_version"):
        config.pop(key, None)
    small = P2LModel(P2LConfig(**config)).eval()
    state = model.state_dict() | {
        "backbone.table": (table / scale[:, None]).round().to(torch.int8),
        "backbone.scale": scale,
    }
    small.load_state_dict(state)
    return small


def _new_model(spec: ModelSpec, table: TokenTable, recipe: StaticRecipe) -> P2LModel:
    vocab, width = table.vectors.shape
    backbone = StaticConfig(vocab_size=vocab, embedding_size=width, length_feature=recipe.length_scale > 0)
    model = P2LModel(P2LConfig(backbone_config=backbone, **spec.to_dict()))
    model.backbone.table.data = torch.from_numpy(table.vectors.astype(np.float32))
    # Vocabularies are sorted by frequency: by Zipf's law the token of rank r has a probability near 1 / r, and
    # frequent tokens say little (Arora et al., 2017, "smooth inverse frequency").
    frequency = 1.0 / (torch.arange(vocab) + 100.0)
    model.backbone.log_weight.data = torch.log(1e-3 / (1e-3 + frequency / frequency.sum()))
    return model


@torch.no_grad()
def _start(model: P2LModel, ids: list[list[int]], votes: Votes, recipe: StaticRecipe) -> None:
    """Standardise the prompt vectors; set the output to the marginal leaderboard, whatever the prompt."""
    backbone, head = model.backbone, model.head
    lengths = torch.tensor([len(row) for row in ids], dtype=torch.float32).log()
    if backbone.length is not None:
        backbone.length.data = torch.stack([lengths.mean(), recipe.length_scale / lengths.std().clamp_min(1e-3)])
    width = backbone.table.shape[1]
    vectors = torch.cat([backbone(x, mask).pooler_output for _, x, mask in _batches(ids, 256)])[:, :width]
    # a weighted mean of shifted and scaled rows is the shifted and scaled mean: this needs no layer of its own
    backbone.table.data = (backbone.table - vectors.mean(0)) / vectors.std(0).square().mean().sqrt()
    marginal = fit_leaderboard(votes, model.spec.feedback)
    nn.init.normal_(head.hidden.weight, std=1.0 / math.sqrt(width))
    for layer, value in ((head.coefs, marginal.coefs), (head.eta, marginal.eta), (head.gamma, marginal.gamma)):
        if layer is not None:
            layer.weight.zero_()
            layer.bias.copy_(torch.as_tensor(value, dtype=torch.float32).reshape(-1))


def _fit(model: P2LModel, ids: list[list[int]], votes: Votes, recipe: StaticRecipe, quiet: bool) -> None:
    grouped = _VotesByPrompt(votes)
    steps = recipe.epochs * math.ceil(len(ids) / recipe.batch_size)
    optimizer = torch.optim.AdamW(_parameter_groups(model, recipe), betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min(1.0, (t + 1) / recipe.warmup_steps) * 0.5 * (1.0 + math.cos(math.pi * t / steps))
    )
    random = np.random.default_rng(recipe.seed)
    model.backbone.table.requires_grad_(False)
    model.train()
    stream = (batch for _ in range(recipe.epochs) for batch in _batches(ids, recipe.batch_size, random))
    for rows, input_ids, mask in track(stream, "training", steps, disable=quiet, transient=True):
        labels, weights = grouped.of(rows)
        loss = model(input_ids, mask, labels=labels, weights=weights).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def _parameter_groups(model: P2LModel, recipe: StaticRecipe) -> list[dict]:
    matrices = [p for p in model.head.parameters() if p.dim() > 1]
    biases = [p for p in model.head.parameters() if p.dim() == 1]
    return [
        {"params": matrices, "lr": recipe.learning_rate, "weight_decay": recipe.weight_decay},
        {"params": biases, "lr": recipe.learning_rate, "weight_decay": 0.0},
        {"params": [model.backbone.log_weight], "lr": recipe.token_learning_rate, "weight_decay": 0.0},
    ]


def _batches(
    ids: list[list[int]], size: int, random: np.random.Generator | None = None
) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor]]:
    """(numbers of the prompts, input_ids, mask), in random order if a generator is given."""
    order = np.arange(len(ids)) if random is None else random.permutation(len(ids))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        input_ids, mask = pad([ids[i] for i in rows], 0)
        yield rows, torch.from_numpy(input_ids), torch.from_numpy(mask)


class _VotesByPrompt:
    """All votes of a batch of prompts, as the labels and weights of `P2LModel.forward`."""

    def __init__(self, votes: Votes) -> None:
        order = np.argsort(votes.prompt, kind="stable")
        self._labels = np.stack([votes.prompt, votes.a, votes.b, votes.winner], 1)[order]
        self._weights = votes.weight[order].astype(np.float32)
        self._starts = np.searchsorted(votes.prompt[order], np.arange(len(votes.prompts) + 1))

    def of(self, prompts: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        spans = [np.arange(self._starts[p], self._starts[p + 1]) for p in prompts]
        labels = self._labels[np.concatenate(spans)].copy()
        labels[:, 0] = np.repeat(np.arange(len(prompts)), [len(span) for span in spans])
        return torch.from_numpy(labels), torch.from_numpy(self._weights[np.concatenate(spans)])


def write_static(model: P2LModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write model, tokenizer and remote code into a folder that exists."""
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=tokenizer.id_to_token(0)).save_pretrained(folder)
