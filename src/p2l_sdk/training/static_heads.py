"""Heads of a static model, several trained at once as batched tensors: those of the folds of a cross-validation.

A head has one hidden layer; its outputs are one column per LLM, then eta and gamma where the feedback model has them.
Training starts at a leaderboard, the averaged one of the votes that this head may see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback, eta_of_threshold, log_probabilities, vote_log_likelihood
from p2l_sdk.training.augmentation import VectorsWithCopies
from p2l_sdk.training.data import ByPrompt
from p2l_sdk.training.heads import LEAST_LOG_S


class Scales(NamedTuple):
    """Shares of outputs: how much is kept of a departure from the averaged leaderboard, or comes from other heads.

    Attributes:
        keep: share of what tells LLMs apart, which decides the routes.
        level: share of what is common to all LLMs on a prompt: its difficulty, and its tie threshold.
        n_models: number of LLMs, the first outputs of a head.
    """

    keep: float
    level: float
    n_models: int


@dataclass(frozen=True, eq=False)
class Heads:
    """The weights of m heads.

    Attributes:
        hidden, hidden_bias: `(m, width, hidden_size)` and `(m, 1, hidden_size)`.
        out, out_bias: `(m, hidden_size, n_outputs)` and `(m, 1, n_outputs)`.
    """

    hidden: torch.Tensor
    hidden_bias: torch.Tensor
    out: torch.Tensor
    out_bias: torch.Tensor

    @classmethod
    def new(cls, start: torch.Tensor, width: int, hidden_size: int, seed: int) -> Heads:
        """Random hidden layers, whose heads return `start` `(m, 1, n_outputs)` for every prompt."""
        random = torch.Generator().manual_seed(seed)
        m = len(start)
        hidden = torch.randn(m, width, hidden_size, generator=random) * width**-0.5
        bias = (2.0 * torch.rand(m, 1, hidden_size, generator=random) - 1.0) * width**-0.5
        return cls(hidden, bias, torch.zeros(m, hidden_size, start.shape[-1]), start.clone())

    def __len__(self) -> int:
        return len(self.hidden)

    @property
    def weights(self) -> list[torch.Tensor]:
        """The four tensors; matrices first, then biases."""
        return [self.hidden, self.out, self.hidden_bias, self.out_bias]

    def __call__(self, vectors: torch.Tensor, input_dropout: float = 0.0, dropout: float = 0.0) -> torch.Tensor:
        """`(m, n, width)` vectors, one batch for each head -> `(m, n, n_outputs)`."""
        x = functional.dropout(vectors, input_dropout)
        x = functional.gelu(torch.baddbmm(self.hidden_bias, x, self.hidden), approximate="tanh")
        return torch.baddbmm(self.out_bias, functional.dropout(x, dropout), self.out)

    @torch.no_grad()
    def of(self, i: int, vectors: torch.Tensor) -> torch.Tensor:
        """`(n, width)` vectors -> `(n, n_outputs)` of head i."""
        return Heads(*(x[i : i + 1] for x in (self.hidden, self.hidden_bias, self.out, self.out_bias)))(vectors[None])[
            0
        ]

    @torch.no_grad()
    def mean(self, averaged: torch.Tensor, towards: torch.Tensor) -> Heads:
        """One head that returns `towards` plus the mean departure of these heads from their averaged leaderboards:
        their hidden layers side by side. A mean of models varies less with the draw of the votes than each of them.

        Args:
            averaged: `(m, 1, n_outputs)` averaged leaderboard of each head.
            towards: `(1, 1, n_outputs)` averaged leaderboard of all votes.
        """
        m, width, size = self.hidden.shape
        return Heads(
            self.hidden.permute(1, 0, 2).reshape(1, width, m * size),
            self.hidden_bias.reshape(1, 1, m * size),
            self.out.reshape(1, m * size, -1) / m,
            towards + (self.out_bias - averaged).mean(0, keepdim=True),
        )

    @torch.no_grad()
    def beside(self, other: Heads, shares: Scales) -> Heads:
        """Heads that return the mean of what these return and of what as many others do, which have these shares of it:
        hidden layers side by side."""
        return Heads(
            torch.cat([self.hidden, other.hidden], 2),
            torch.cat([self.hidden_bias, other.hidden_bias], 2),
            torch.cat([self.out - scaled(self.out, shares), scaled(other.out, shares)], 1),
            self.out_bias + scaled(other.out_bias - self.out_bias, shares),
        )

    @torch.no_grad()
    def shrunk(self, averaged: torch.Tensor, scales: Scales) -> Heads:
        """Keep a share of the departure from an averaged leaderboard; see `kept` for the arguments."""
        return Heads(self.hidden, self.hidden_bias, scaled(self.out, scales), kept(self.out_bias, averaged, scales))


def as_outputs(boards: Sequence[Leaderboard], feedback: Feedback) -> torch.Tensor:
    """Leaderboards as outputs of a head, `(n_boards, 1, n_outputs)`."""
    columns = [np.stack([board.coefs for board in boards])]
    for there, name in ((feedback.has_eta, "eta"), (feedback.has_gamma, "gamma")):
        if there:
            columns.append(np.array([[float(np.asarray(getattr(board, name)).item())] for board in boards]))
    return torch.as_tensor(np.concatenate(columns, 1), dtype=torch.float32)[:, None]


def learnable(outputs: torch.Tensor, feedback: Feedback) -> torch.Tensor:
    """Outputs to start at: a tie threshold at its minimum has no gradient, so it starts a little higher."""
    outputs = outputs.clone()
    if feedback.has_eta:
        outputs[..., n_models_of(outputs, feedback)].clamp_(min=float(eta_of_threshold(feedback, LEAST_LOG_S)))
    return outputs


def n_models_of(outputs: torch.Tensor, feedback: Feedback) -> int:
    """The number of LLMs: the outputs without eta and gamma."""
    return outputs.shape[-1] - feedback.has_eta - feedback.has_gamma


def scaled(departure: torch.Tensor, scales: Scales) -> torch.Tensor:
    """`(..., n_outputs)` departures from an averaged leaderboard, each times its share; see `kept`."""
    n_models = scales.n_models
    common = departure[..., :n_models].mean(-1, keepdim=True)
    coefs = scales.keep * (departure[..., :n_models] - common) + scales.level * common
    return torch.cat([coefs, scales.level * departure[..., n_models:]], -1)


def kept(outputs: torch.Tensor, averaged: torch.Tensor, scales: Scales) -> torch.Tensor:
    """Outputs, moved towards those of an averaged leaderboard.

    Args:
        outputs, averaged: `(..., n_outputs)`.
        scales: how much of the departure is kept.
    """
    return averaged + scaled(outputs - averaged, scales)


def log_likelihoods(outputs: torch.Tensor, labels: torch.Tensor, feedback: Feedback) -> torch.Tensor:
    """`(n_rows, n_outputs)` and `(n_votes, 4)` labels [row, a, b, winner] -> `(n_votes,)` log-likelihoods."""
    row, a, b, winner = labels.unbind(1)
    size, flat, n_models = outputs.shape[-1], outputs.reshape(-1), n_models_of(outputs, feedback)
    first = row * size
    eta = flat[first + n_models] if feedback.has_eta else None
    gamma = flat[first + size - 1] if feedback.has_gamma else None
    log_probs = log_probabilities(feedback, flat[first + a], flat[first + b], eta, gamma)
    return vote_log_likelihood(feedback, log_probs, winner)[0]


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How heads are trained; see `StaticRecipe` for the meaning."""

    steps: int
    warmup_steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    input_dropout: float
    dropout: float
    seed: int

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0: linear warm-up, cosine decay to 0."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        return self.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * step / self.steps))


def train_heads(
    heads: Heads,
    vectors: torch.Tensor | VectorsWithCopies,
    votes: ByPrompt,
    members: Sequence[np.ndarray],
    feedback: Feedback,
    how: Steps,
    tick: Callable[[], None],
) -> Heads:
    """Train each head on its own prompts; all take as many steps, with batches of equal size.

    Args:
        heads: where they start; not changed.
        vectors: `(n_prompts, width)` vectors of all prompts.
        votes: on these prompts.
        members: for each head, the indices of its prompts, all with votes.
        feedback: the feedback model.
        how: settings of the training.
        tick: is called after every step.
    """
    heads = Heads(*(x.clone() for x in (heads.hidden, heads.hidden_bias, heads.out, heads.out_bias)))
    for weight in heads.weights:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [
            {"params": heads.weights[:2], "weight_decay": how.weight_decay},
            {"params": heads.weights[2:], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.99),
        fused=True,
    )
    size = min(how.batch_size, *(len(rows) for rows in members))
    streams = [_batches(rows, size, np.random.default_rng([how.seed, i])) for i, rows in enumerate(members)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(how.seed)  # of dropout
        for step in range(how.steps):
            rows = np.concatenate([next(stream) for stream in streams])
            batch = votes.of(rows)
            outputs = heads(vectors[rows].view(len(heads), size, -1), how.input_dropout, how.dropout)
            likelihoods = log_likelihoods(outputs.view(len(rows), -1), batch["labels"], feedback)
            head = batch["labels"][:, 0] // size
            totals = torch.zeros(len(heads)).index_add_(0, head, batch["weights"])
            loss = -(likelihoods * batch["weights"] / totals[head]).sum()
            for group in optimizer.param_groups:
                group["lr"] = how.rate(step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            tick()
    return Heads(*(x.detach() for x in (heads.hidden, heads.hidden_bias, heads.out, heads.out_bias)))


def one_head(
    vectors: torch.Tensor | VectorsWithCopies,
    votes: ByPrompt,
    averaged: torch.Tensor,
    feedback: Feedback,
    how: Steps,
    hidden_size: int,
    keep: float,
    tick: Callable[[], None],
) -> Heads:
    """One head, trained on all prompts with votes, where nothing is chosen.

    Args:
        vectors, votes, feedback, how, tick: as in `train_heads`.
        averaged: `(1, 1, n_outputs)` averaged leaderboard of the votes, where it starts.
        hidden_size: width of its hidden layer.
        keep: share of the departure from the averaged leaderboard that is kept.
    """
    heads = Heads.new(learnable(averaged, feedback), vectors.shape[1], hidden_size, how.seed)
    heads = train_heads(heads, vectors, votes, [votes.prompts], feedback, how, tick)
    return heads.shrunk(averaged, Scales(keep, keep, n_models_of(averaged, feedback)))


def _batches(rows: np.ndarray, size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches without end; the last of each pass is filled up from the pass's start."""
    n = -(-len(rows) // size)
    while True:
        order = random.permutation(rows)
        yield from np.concatenate([order, order])[: n * size].reshape(n, size)
