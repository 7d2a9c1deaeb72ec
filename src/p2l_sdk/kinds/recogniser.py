"""Recognises kinds of prompt: a small network from the prompts' vectors to one share in [0, 1] per kind, trained here
in numpy, in seconds.

A prompt may be of several kinds, or of none, so each kind is a yes-or-no question of its own. What the network says of
a prompt that it was trained on is too sure, so five more are trained, each without a fifth of the prompts: how well
kinds are recognised, and how long to train, is judged by what these say of the fifth that they have not seen.

With changed copies of the prompts (see `rewording.copies`), each batch is read twice, as it stands and changed: both
shall be recognised, and alike. For the mean of token vectors, a few words around a question are much of the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

EPOCHS = (12, 25, 50)  # passes over the prompts, from which the left-out prompts choose
FOLDS = 5
HIDDEN = 256
_RATE, _DECAY, _BATCH, _WARM_UP = 2e-3, 1.0, 128, 20  # of AdamW; decay of matrices only
_INPUT_DROPOUT, _DROPOUT = 0.2, 0.3
_BETAS = (0.9, 0.99)
_LEAST_STEPS = 60
_ALIKE = 3.0  # weight of the squared difference between the shares in a prompt and in its copy

Layers = list[np.ndarray]  # hidden weights (width, HIDDEN) and bias, output weights (HIDDEN, n_kinds) and bias


@dataclass(frozen=True, eq=False)
class Recogniser:
    """A trained network.

    Attributes:
        layers: weights and bias of the hidden layer, `(width, HIDDEN)` and `(HIDDEN,)`, and of the output,
            `(HIDDEN, n_kinds)` and `(n_kinds,)`.
        epochs: passes over the prompts.
        left_out: `(n_prompts, n_kinds)` share of each kind in each prompt, in (0, 1), by a network that was trained
            without that prompt.
        loss: mean log-loss of these, in nats per prompt.
    """

    layers: Layers
    epochs: int
    left_out: np.ndarray
    loss: float

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """`(n, n_kinds)` shares of the kinds in prompts with these `(n, width)` features."""
        return _shares(self.layers, features)


def train_recogniser(
    features: np.ndarray,
    member: np.ndarray,
    unsure: np.ndarray,
    *,
    copies: np.ndarray | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Recogniser:
    """Train the network.

    Args:
        features: `(n_prompts, width)` vectors of the prompts, of about unit variance.
        member: `(n_prompts, n_kinds)` whether a prompt is of a kind.
        unsure: `(n_prompts, n_kinds)` whether that is left open; the prompt then counts neither for nor against it.
        copies: `(n_copies, n_prompts, width)` vectors of changed copies of the prompts; none by default.
        seed: of folds, initial weights, order and dropout.
        progress: called with the number of networks trained so far, of at most `len(EPOCHS) * FOLDS + 1`.
    """
    y, told = member.astype(np.float32), (~unsure).astype(np.float32)
    x = features.astype(np.float32)[None]
    if copies is not None:
        x = np.concatenate([x, copies.astype(np.float32)])
    folds = _folds(member, np.random.default_rng(seed))
    best: tuple[float, int, np.ndarray] | None = None
    done = 0
    for epochs in EPOCHS:
        left_out = np.empty(y.shape)
        for fold in range(FOLDS):
            out = folds == fold
            if out.any():
                layers = _train(x[:, ~out], y[~out], told[~out], epochs, np.random.default_rng([seed, fold]))
                left_out[out] = _shares(layers, x[0, out])
            done += 1
            if progress is not None:
                progress(done)
        loss = _log_loss(left_out, member, told)
        if best is not None and loss >= best[0]:
            break
        best = loss, epochs, left_out
    assert best is not None
    loss, epochs, left_out = best
    return Recogniser(_train(x, y, told, epochs, np.random.default_rng([seed, FOLDS])), epochs, left_out, loss)


def _folds(member: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The fold of each prompt; prompts of the same kinds are spread evenly, since a kind may have few."""
    order = random.permutation(len(member))
    order = order[np.lexsort(member[order].T)]
    folds = np.empty(len(member), dtype=np.intp)
    folds[order] = np.arange(len(member)) % FOLDS
    return folds


def _train(x: np.ndarray, y: np.ndarray, told: np.ndarray, epochs: int, random: np.random.Generator) -> Layers:
    """Train on `(1 + n_copies, n_prompts, width)` vectors, the prompts' own first."""
    rate = ((y * told).sum(0) + 1.0) / (told.sum(0) + 2.0)
    layers: Layers = [
        random.normal(0.0, x.shape[2] ** -0.5, (x.shape[2], HIDDEN)),
        np.zeros(HIDDEN),
        np.zeros((HIDDEN, y.shape[1])),
        np.log(rate / (1.0 - rate)),  # before it has learned anything, a kind is as likely as it is frequent
    ]
    layers = [layer.astype(np.float32) for layer in layers]
    steps = max(_LEAST_STEPS, epochs * math.ceil(len(y) / _BATCH))
    means, squares = [np.zeros_like(layer) for layer in layers], [np.zeros_like(layer) for layer in layers]
    for step, rows in enumerate(_batches(len(y), steps, random), 1):
        batch, alike = x[0, rows], 0.0
        if len(x) > 1:
            batch = np.concatenate([batch, x[random.integers(1, len(x), len(rows)), rows]])
            rows, alike = np.concatenate([rows, rows]), _ALIKE
        speed = _RATE * min(1.0, step / _WARM_UP) * 0.5 * (1.0 + math.cos(math.pi * (step - 1) / steps))
        for i, gradient in enumerate(_gradients(layers, batch, y[rows], told[rows], random, alike)):
            means[i] += (1.0 - _BETAS[0]) * (gradient - means[i])
            squares[i] += (1.0 - _BETAS[1]) * (gradient * gradient - squares[i])
            unbiased = means[i] / (1.0 - _BETAS[0] ** step)
            scale = np.sqrt(squares[i] / (1.0 - _BETAS[1] ** step)) + np.float32(1e-8)
            if layers[i].ndim > 1:
                layers[i] *= np.float32(1.0 - speed * _DECAY)
            layers[i] -= np.float32(speed) * unbiased / scale
    return layers


def _batches(n: int, steps: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    rows = np.empty(0, dtype=np.intp)
    for _ in range(steps):
        while len(rows) < min(n, _BATCH):
            rows = np.concatenate([rows, random.permutation(n)])
        yield rows[:_BATCH]
        rows = rows[_BATCH:]


def _gradients(
    layers: Layers, x: np.ndarray, y: np.ndarray, told: np.ndarray, random: np.random.Generator, alike: float = 0.0
) -> Layers:
    """Derivatives of the mean log-loss on a batch, under dropout; with `alike`, the second half of the batch are copies
    of the first, and that times the squared difference of their shares is added to the loss of each prompt."""
    w1, b1, w2, b2 = layers
    x = x * _mask(x.shape, _INPUT_DROPOUT, random)
    hidden, slope = _gelu(x @ w1 + b1)
    mask = _mask(hidden.shape, _DROPOUT, random)
    dropped = hidden * mask
    shares = _sigmoid(dropped @ w2 + b2)
    error = (shares - y) * told
    if alike:
        own, copied = np.split(shares, 2)
        apart = np.float32(2.0 * alike) * (own - copied)
        error += np.concatenate([apart, -apart]) * shares * (1.0 - shares)
    error /= np.float32(len(x))
    back = (error @ w2.T) * mask * slope
    return [x.T @ back, back.sum(0), dropped.T @ error, error.sum(0)]


def _mask(shape: tuple[int, ...], share: float, random: np.random.Generator) -> np.ndarray:
    return (random.random(shape, dtype=np.float32) >= share) * np.float32(1.0 / (1.0 - share))


def _gelu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """GELU in the tanh approximation, and its derivative."""
    cubic = _CUBE * (x * x)
    share = _sigmoid(_SLOPE * x * (1.0 + cubic))
    return x * share, share + x * share * (1.0 - share) * _SLOPE * (1.0 + 3.0 * cubic)


_SLOPE, _CUBE = np.float32(2.0 * math.sqrt(2.0 / math.pi)), np.float32(0.044715)


def _shares(layers: Layers, x: np.ndarray) -> np.ndarray:
    w1, b1, w2, b2 = layers
    return _sigmoid(_gelu(x.astype(np.float32) @ w1 + b1)[0] @ w2 + b2)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _log_loss(shares: np.ndarray, member: np.ndarray, told: np.ndarray) -> float:
    return -float((told * np.log(np.maximum(np.where(member, shares, 1.0 - shares), 1e-9))).sum(1).mean())
