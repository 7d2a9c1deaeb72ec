"""Prompts in folds: heads that did not see the prompts that they are measured on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from p2l_sdk.errors import ConvergenceError, P2LWarning, VotesError
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.training.augmentation import VectorsWithCopies
from p2l_sdk.training.data import ByPrompt
from p2l_sdk.training.recognised import recognising_heads
from p2l_sdk.training.static_heads import (
    Heads,
    Scales,
    Steps,
    as_outputs,
    kept,
    learnable,
    log_likelihoods,
    train_heads,
)
from p2l_sdk.training.word_features import WordFeatures
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.votes import Votes

Tick = Callable[[], None]

FOLDS = 5
_MOST_SCANNED = 100_000  # votes on which shares kept are compared
_MOST_OUTPUTS = 1 << 21  # of prompts times LLMs, that are copied at once


@dataclass(frozen=True, eq=False)
class Folds:
    """Prompts in folds, with what is needed to train and measure a head for each.

    Attributes:
        vectors: `(n_prompts, width)`.
        votes: the votes to measure on.
        lessons: what the heads learn from: the votes, and those of a teacher.
        feedback: the feedback model.
        fold: `(n_prompts,)` the fold of each prompt.
        lesson_vectors: what the heads read in training: the vectors, or now and then those of changed copies.
        category: `(n_prompts,)` number of each prompt's category, -1 for none, for heads to recognise; None without.
        words: of whom the vectors know which words tell categories; None without.
        retold: with a category for each prompt and a fold, the same prompts whose vectors know no more than these.
    """

    vectors: torch.Tensor
    votes: Votes
    lessons: ByPrompt
    feedback: Feedback
    fold: np.ndarray
    lesson_vectors: torch.Tensor | VectorsWithCopies
    category: np.ndarray | None = None
    words: WordFeatures | None = None
    retold: Callable[[np.ndarray, np.ndarray], Folds] | None = None

    @classmethod
    def of(cls, vectors: torch.Tensor, votes: Votes, lessons: ByPrompt, feedback: Feedback, seed: int) -> Folds:
        """Folds at random."""
        return cls(vectors, votes, lessons, feedback, folds_of(len(votes.prompts), seed), vectors)

    def with_copies(self, copies: torch.Tensor, seed: int) -> Folds:
        """Heads learn from changed copies of each prompt too, of these `(n_copies, n_prompts, width)` vectors. Whatever
        is measured is measured on the prompts as they stand."""
        return replace(self, lesson_vectors=VectorsWithCopies(self.vectors, copies, seed=seed))

    def telling(
        self,
        category: np.ndarray,
        vectors: torch.Tensor,
        fold: np.ndarray | None = None,
        words: WordFeatures | None = None,
        retold: Callable[[np.ndarray, np.ndarray], Folds] | None = None,
    ) -> Folds:
        """The same prompts and votes, with vectors that tell their categories, which heads recognise."""
        return replace(
            self,
            vectors=vectors,
            lesson_vectors=vectors,
            fold=self.fold if fold is None else fold,
            category=category,
            words=words,
            retold=retold,
        )

    def knowing(self, rows: np.ndarray, fold: np.ndarray | None = None) -> Folds:
        """The same prompts (in other folds), of which only these have a category, and tell which words do."""
        fold = self.fold if fold is None else fold
        if self.category is None or self.retold is None:
            return replace(self, fold=fold)
        category = np.full_like(self.category, -1)
        category[rows] = self.category[rows]
        return self.retold(category, fold)

    def members(self, share: float = 1.0) -> list[np.ndarray]:
        """The prompts with votes outside each fold; or a share of them, the same ones for every fold."""
        chosen = np.arange(len(self.fold)) / max(len(self.fold), 1) < share
        chosen = chosen[np.random.default_rng(len(self.fold)).permutation(len(self.fold))]
        return [rows[chosen[rows] & (self.fold[rows] != i)] for i in range(FOLDS) for rows in [self.lessons.prompts]]

    def averaged(self, members: Sequence[np.ndarray]) -> torch.Tensor | None:
        """`(n_folds, 1, n_outputs)` averaged leaderboards of the votes on the members; None if some cannot be fitted,
        because there are too few votes."""
        if min(len(rows) for rows in members) < 2:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", P2LWarning)  # what all votes leave open is told once, elsewhere
                boards = [fit_leaderboard(self.votes.subset(rows), self.feedback, intervals=None) for rows in members]
        except (VotesError, ConvergenceError):
            return None
        return as_outputs(boards, self.feedback)

    def train(
        self,
        averaged: torch.Tensor,
        members: list[np.ndarray],
        how: Steps,
        size: int,
        tick: Tick,
        recognised: Scales | None = None,
    ) -> Heads:
        """Heads of `size` hidden units, one for each fold; with these shares beside them, ones that recognise."""
        start = learnable(averaged, self.feedback)
        heads = Heads.new(start, self.vectors.shape[1], size, how.seed)
        heads = train_heads(heads, self.lesson_vectors, self.lessons, members, self.feedback, how, tick)
        return heads.beside(self.recognise(averaged, members, how.seed, tick), recognised) if recognised else heads

    def recognise(self, averaged: torch.Tensor, members: list[np.ndarray], seed: int, tick: Tick) -> Heads:
        """Heads that recognise the categories, one for each fold."""
        assert self.category is not None
        return recognising_heads(
            self.vectors,
            self.category,
            self.lessons,
            self.fold,
            members,
            averaged,
            self.feedback,
            seed=seed,
            tick=tick,
        )

    def left_out(self, heads: Heads) -> torch.Tensor:
        """`(n_prompts, n_outputs)` of every prompt, from the head that did not see it."""
        outputs = torch.empty(len(self.fold), heads.out.shape[-1])
        for i in range(FOLDS):
            rows = np.flatnonzero(self.fold == i)
            outputs[rows] = heads.of(i, self.vectors[rows])
        return outputs

    def keep_of(self, outputs: torch.Tensor, averaged: torch.Tensor, scales: Scales) -> torch.Tensor:
        """What `left_out` gives, moved in place towards the averaged leaderboards of the folds; see `kept`."""
        for part in _parts(*outputs.shape):
            outputs[part] = kept(outputs[part], averaged[self.fold[part], 0], scales)
        return outputs


def folds_of(n_prompts: int, seed: int) -> np.ndarray:
    """`(n_prompts,)` the fold of each prompt, at random."""
    return np.random.default_rng(seed).permutation(n_prompts) % FOLDS


class LossSums:
    """Sums of the losses of each prompt's votes, of any outputs.

    Args:
        folds: the prompts and votes; of very many votes a sample is used.

    Attributes:
        weights: `(n_prompts,)` sums of the votes' weights.
    """

    def __init__(self, folds: Folds) -> None:
        columns = ByPrompt.of_votes(folds.votes, folds.feedback).of(np.arange(len(folds.fold)))
        self._labels, self._weights = columns["labels"], columns["weights"]
        if len(self._labels) > _MOST_SCANNED:
            rows = np.random.default_rng(0).permutation(len(self._labels))[:_MOST_SCANNED]
            self._labels, self._weights = self._labels[rows], self._weights[rows]
        self._folds, self._n = folds, len(folds.fold)
        self.weights = self._by_prompt(self._weights)

    def of(self, outputs: torch.Tensor | None, averaged: torch.Tensor, grid: Sequence[Scales]) -> np.ndarray:
        """`(len(grid), n_prompts)` loss sums, for each choice of the shares kept.

        Args:
            outputs: `(n_prompts, n_outputs)`; None for the averaged leaderboards.
            averaged: `(n_folds, 1, n_outputs)` averaged leaderboard of each fold.
            grid: the choices.
        """
        losses = [_losses(self._labels, self._folds, outputs, averaged, scales) for scales in grid]
        return np.stack([self._by_prompt(each * self._weights) for each in losses])

    def _by_prompt(self, values: torch.Tensor) -> np.ndarray:
        return np.bincount(self._labels[:, 0].numpy(), values.numpy().astype(np.float64), self._n)


def vote_losses(
    folds: Folds, outputs: torch.Tensor | None, averaged: torch.Tensor, scales: Scales
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loss, weight and prompt of every vote that counts; the arguments are those of `LossSums.of`, without outputs the
    losses are those of the averaged leaderboards."""
    columns = ByPrompt.of_votes(folds.votes, folds.feedback).of(np.arange(len(folds.fold)))
    losses = _losses(columns["labels"], folds, outputs, averaged, scales)
    return losses.numpy(), columns["weights"].numpy(), columns["labels"][:, 0].numpy()


def _losses(
    labels: torch.Tensor, folds: Folds, outputs: torch.Tensor | None, averaged: torch.Tensor, scales: Scales
) -> torch.Tensor:
    """`(n_votes,)` losses; of thousands of LLMs some prompts at a time, as copies of all outputs would be gigabytes."""
    losses = torch.empty(len(labels))
    for part in _parts(len(folds.fold), averaged.shape[-1]):
        start = part.start
        here = (labels[:, 0] >= start) & (labels[:, 0] < part.stop)
        some = averaged[folds.fold[part], 0]
        if outputs is not None:
            some = kept(outputs[part], some, scales)
        losses[here] = -log_likelihoods(some, labels[here] - torch.tensor([start, 0, 0, 0]), folds.feedback)
    return losses


def _parts(n_prompts: int, n_outputs: int) -> Iterator[slice]:
    """Parts of the prompts whose outputs may be copied several times."""
    size = max(1, _MOST_OUTPUTS // n_outputs)
    for start in range(0, n_prompts, size):
        yield slice(start, min(start + size, n_prompts))
