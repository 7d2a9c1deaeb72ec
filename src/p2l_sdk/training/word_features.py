"""Word features of a static model, from the categories of its training prompts: which words tell them.

A multinomial logistic regression from TF-IDF vectors (each token once, weighed by how rare it is, and the vector of
unit length) to the categories: its coefficients are a table with a column for each category, and its logits are further
entries of a prompt's vector. The mean of token vectors says less: in it, few rare words that tell what a prompt is
about drown in the others.

On its own training prompts a regression is surer than on others. So there are five of them, one for each fold, from the
prompts of the other folds: heads learn from what they say on the fold that they did not see. The model has their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from p2l_sdk.training.recognised import MOST_PROMPTS, least

ITERATIONS = 60  # of L-BFGS for each fold, at most
_DECAY = 0.05
_WIDTH = 12.0  # standard deviation of an entry, relative to one of the mean of token vectors
_HISTORY = 10
_COMMON = 2  # prompts with a token, at least, or it is not learned

Ids = Sequence[Sequence[int]]


@dataclass(frozen=True, eq=False)
class WordFeatures:
    """What was learned.

    Attributes:
        tables: `(n_folds, vocab_size, k)` for each fold, from the prompts of the others.
        idf: `(vocab_size,)` inverse document frequency, 1 + log((1 + n) / (1 + number of prompts with the token)).
        fold: `(n_prompts,)` the fold of each prompt.
    """

    tables: torch.Tensor
    idf: torch.Tensor
    fold: np.ndarray

    @classmethod
    def learned(
        cls, ids: Ids, category: np.ndarray, fold: np.ndarray, vocab_size: int, seed: int, tick: Callable[[], None]
    ) -> WordFeatures:
        """Learn them.

        Args:
            ids: the tokens of each prompt.
            category: `(n_prompts,)` number of each prompt's category, -1 for none.
            fold: `(n_prompts,)` the fold of each prompt.
            vocab_size: number of tokens that there are.
            seed: of the prompts that are drawn where there are very many.
            tick: is called after each fold.
        """
        bags = _Bags.of(ids)
        n_prompts_with = torch.bincount(bags.tokens, minlength=vocab_size)
        idf = 1.0 + torch.log((1.0 + len(ids)) / (1.0 + n_prompts_with))
        tables, random = [], np.random.default_rng(seed)
        for i in range(int(fold.max()) + 1):
            rows = random.permutation(np.flatnonzero((fold != i) & (category >= 0)))[:MOST_PROMPTS]
            tables.append(_regression(bags.some(rows), torch.as_tensor(category[rows]), idf, int(category.max()) + 1))
            tick()
        found = cls(torch.stack(tables), idf, fold)
        return cls(found.tables * (_WIDTH / found.left_out(ids).std().clamp_min(1e-6)), idf, fold)

    def left_out(self, ids: Ids) -> torch.Tensor:
        """`(n_prompts, k)` features of the training prompts, or of changed copies of them in the same order, by the
        table that did not see the prompt's category."""
        bags = _Bags.of(ids)
        found = torch.empty(len(ids), self.tables.shape[2])
        for i, table in enumerate(self.tables):
            rows = np.flatnonzero(self.fold == i)
            found[rows] = bags.some(rows).times(table, self.idf)
        return found

    def beside(self, vectors: torch.Tensor, ids: Ids) -> torch.Tensor:
        """The vectors of the training prompts, or of changed copies of them, with these features."""
        return torch.cat([vectors, self.left_out(ids)], 1)

    @property
    def table(self) -> torch.Tensor:
        """`(vocab_size, k)` that of the model."""
        return self.tables.mean(0)


@dataclass(frozen=True, eq=False)
class _Bags:
    """The tokens that occur in each prompt, one prompt's after the other's, and where each prompt's begin and end."""

    tokens: torch.Tensor
    ends: np.ndarray

    @classmethod
    def of(cls, ids: Ids) -> _Bags:
        bags = [np.unique(np.asarray(row, dtype=np.int64)) for row in ids]
        return cls(torch.from_numpy(np.concatenate(bags)), np.cumsum([0, *map(len, bags)]))

    def some(self, rows: np.ndarray) -> _Bags:
        lengths = np.diff(self.ends)[rows]
        ends = np.cumsum([0, *lengths])
        places = np.arange(ends[-1]) + np.repeat(self.ends[rows] - ends[:-1], lengths)
        return _Bags(self.tokens[places], ends)

    def weights(self, idf: torch.Tensor) -> torch.Tensor:
        """The entries of the prompts' TF-IDF vectors."""
        prompt = torch.repeat_interleave(torch.as_tensor(np.diff(self.ends)))
        of_token = idf[self.tokens]
        squares = torch.zeros(len(self.ends) - 1).index_add_(0, prompt, of_token.square())
        return of_token / squares.sqrt()[prompt]

    def times(self, table: torch.Tensor, idf: torch.Tensor) -> torch.Tensor:
        """`(n_prompts, k)` products of TF-IDF vectors with a table."""
        return _product(self.tokens, table, self.ends, self.weights(idf))


def _product(tokens: torch.Tensor, table: torch.Tensor, ends: np.ndarray, weights: torch.Tensor) -> torch.Tensor:
    starts = torch.as_tensor(ends[:-1])
    return functional.embedding_bag(tokens, table, starts, mode="sum", per_sample_weights=weights)


def _regression(bags: _Bags, category: torch.Tensor, idf: torch.Tensor, k: int) -> torch.Tensor:
    """`(vocab_size, k)` coefficients; 0 for tokens that hardly occur."""
    known = torch.bincount(bags.tokens, minlength=len(idf)) >= _COMMON
    place = torch.cumsum(known, 0) - 1  # of a token among those that are learned
    learned = known[bags.tokens]
    tokens, weights = place[bags.tokens].clamp_min(0), bags.weights(idf) * learned
    weight, bias = torch.zeros(max(int(known.sum()), 1), k, requires_grad=True), torch.zeros(1, k, requires_grad=True)

    def loss() -> torch.Tensor:
        logits = bias + _product(tokens, weight, bags.ends, weights)
        return functional.cross_entropy(logits, category, reduction="sum") + 0.5 * _DECAY * weight.square().sum()

    found, _ = least([weight, bias], loss, ITERATIONS, _HISTORY)
    table = torch.zeros(len(idf), k)
    table[known] = found[: int(known.sum())]
    return table
