"""Heads that recognise the categories of prompts, and say what the votes on each category say.

Where people have said what a prompt is about (a subject, a task, a language), two convex fits tell more than a network
that has to find the categories by itself: a multinomial logistic regression from a prompt's vector to the shares of the
categories, and a linear layer from shares to outputs, fitted to the votes. The second learns from shares that a
recogniser gives which did not see the prompt, as they are on new prompts.

A head of a static model has one hidden layer and no softmax. So an ordinary head is taught to give the same outputs,
by least squares on the prompts' vectors: the function to learn is smooth and free of noise, and 128 units are enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional

from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.training.categories import MOST_RECOGNISED
from p2l_sdk.training.data import ByPrompt
from p2l_sdk.training.static_heads import Heads, learnable, log_likelihoods

STEPS = 300  # in which a head learns the outputs
MOST_PROMPTS, _MOST_VOTES = 20_000, 100_000  # of more, so many are drawn
_DECAY = 60.0  # of the recogniser, for vectors whose entries have a variance of about 1
_DECAY_OF_DEPARTURES = 0.5, 0.5  # in votes: always, and for each vote that a prompt has, as these are much alike
_ITERATIONS = 40  # of L-BFGS, at most
_HIDDEN, _BATCH, _RATE, _WARM_UP = 128, 128, 5e-3, 20


def largest(category: np.ndarray) -> np.ndarray:
    """The same numbers or, of more than 100 categories, new ones of the 100 that have the most prompts; prompts of the
    others have none, as those with -1."""
    sizes = np.bincount(category[category >= 0])
    if len(sizes) <= MOST_RECOGNISED:
        return category
    new = np.full(len(sizes) + 1, -1)  # the last is that of -1
    new[np.sort(np.argsort(-sizes, kind="stable")[:MOST_RECOGNISED])] = np.arange(MOST_RECOGNISED)
    return new[category]


def recognising_heads(
    vectors: torch.Tensor,
    category: np.ndarray,
    votes: ByPrompt,
    fold: np.ndarray,
    members: Sequence[np.ndarray],
    averaged: torch.Tensor,
    feedback: Feedback,
    *,
    seed: int,
    tick: Callable[[], None],
) -> Heads:
    """A head for each fold. Nothing that it learned of a category came from its own fold's prompts, but for the
    categories of these (not their votes) in the shares from which its linear layer learned.

    Args:
        vectors: `(n_prompts, width)` vectors of all prompts.
        category: `(n_prompts,)` number of each prompt's category, -1 for none.
        votes: on these prompts.
        fold: `(n_prompts,)` the fold of each prompt.
        members: for each fold, the prompts outside of it to learn from.
        averaged: `(n_folds, 1, n_outputs)` averaged leaderboards of the members' votes.
        feedback: the feedback model.
        seed: of the hidden layers and of the order.
        tick: is called `STEPS` times.
    """
    random, start = np.random.default_rng(seed), learnable(averaged, feedback)
    some = [random.permutation(rows)[:MOST_PROMPTS] for rows in members]
    recognisers = [_recogniser(vectors, category, rows) for rows in some]
    shares = torch.empty(len(fold), recognisers[0][1].shape[1])
    for i, (weight, bias) in enumerate(recognisers):
        shares[fold == i] = torch.softmax(torch.addmm(bias, vectors[fold == i], weight), -1)
    layers = [_departures(shares, votes, rows, start[i], feedback) for i, rows in enumerate(some)]
    weights, biases = (torch.stack(each) for each in zip(*recognisers, strict=True))
    outs, out_biases = (torch.stack(each) for each in zip(*layers, strict=True))

    def teacher(x: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(out_biases, torch.softmax(torch.baddbmm(biases, x, weights), -1), outs)

    heads = Heads.new(start, vectors.shape[1], _HIDDEN, seed)
    return _taught(heads, vectors[np.unique(np.concatenate(some))], teacher, seed, tick)


def _recogniser(vectors: torch.Tensor, category: np.ndarray, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """`(width, k)` weights and `(1, k)` biases of the logits of the categories."""
    rows = rows[category[rows] >= 0]
    x, label = vectors[rows], torch.as_tensor(category[rows])
    k = int(category.max()) + 1
    weight, bias = torch.zeros(x.shape[1], k, requires_grad=True), torch.zeros(1, k, requires_grad=True)

    def loss() -> torch.Tensor:
        missed = functional.cross_entropy(torch.addmm(bias, x, weight), label, reduction="sum")
        return missed + 0.5 * _DECAY * weight.square().sum()

    return least([weight, bias], loss)


def _departures(
    shares: torch.Tensor, votes: ByPrompt, rows: np.ndarray, start: torch.Tensor, feedback: Feedback
) -> tuple[torch.Tensor, torch.Tensor]:
    """`(k, n_outputs)` weights and `(1, n_outputs)` biases of the outputs, by the likelihood of the votes on rows."""
    batch, mine = votes.of(rows), shares[rows]
    labels, weights = batch["labels"], batch["weights"]
    weight = torch.zeros(shares.shape[1], start.shape[-1], requires_grad=True)
    bias = start.clone().requires_grad_(True)
    always, each = _DECAY_OF_DEPARTURES
    decay = always + each * float(weights.sum()) / len(rows)
    if len(labels) > _MOST_VOTES:
        some = torch.as_tensor(np.random.default_rng(0).permutation(len(labels))[:_MOST_VOTES])
        labels, weights = labels[some], weights[some] * (len(labels) / _MOST_VOTES)

    def loss() -> torch.Tensor:
        likelihoods = log_likelihoods(torch.addmm(bias, mine, weight), labels, feedback)
        return 0.5 * decay * weight.square().sum() - (likelihoods * weights).sum()

    return least([weight, bias], loss)


def least(
    unknowns: list[torch.Tensor], loss: Callable[[], torch.Tensor], iterations: int = _ITERATIONS, history: int = 100
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two unknowns at the minimum of a convex loss, by L-BFGS with so long a memory."""
    optimizer = torch.optim.LBFGS(unknowns, max_iter=iterations, history_size=history, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    weight, bias = (unknown.detach() for unknown in unknowns)
    return weight, bias


def _taught(
    heads: Heads,
    vectors: torch.Tensor,
    teacher: Callable[[torch.Tensor], torch.Tensor],
    seed: int,
    tick: Callable[[], None],
) -> Heads:
    """Heads that give what a teacher gives, `(m, n, width)` vectors -> `(m, n, n_outputs)`."""
    random = np.random.default_rng(seed)
    for weight in heads.weights:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(heads.weights, weight_decay=0.0, betas=(0.9, 0.99), fused=True)
    for step in range(STEPS):
        x = vectors[random.integers(0, len(vectors), _BATCH)].expand(len(heads), -1, -1)
        loss = len(heads) * (heads(x) - teacher(x)).square().mean()  # as if each were alone
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / _WARM_UP) * 0.5 * (1.0 + math.cos(math.pi * step / STEPS))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tick()
    return Heads(*(x.detach() for x in (heads.hidden, heads.hidden_bias, heads.out, heads.out_bias)))
