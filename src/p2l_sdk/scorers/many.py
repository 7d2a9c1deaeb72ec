"""A static scorer for millions of prompts: the same coefficients, several times faster, whatever the batches."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.scorers.batches import BATCH
from p2l_sdk.scorers.scorer import Scorer
from p2l_sdk.scorers.static import StaticScorer
from p2l_sdk.scorers.words import WordEncoder, reads_words

AnyScorer = TypeVar("AnyScorer", bound=Scorer)


class ManyScorer:
    """Scores batches with a `StaticScorer`.

    Words are tokenized once (`words`). Products of matrices are of 256 rows, the last batch filled up: how a library
    adds numbers depends on their number, and so a coefficient's last bit would.

    Args:
        scorer: the scorer.

    Attributes:
        encoder: its prompt encoder.
    """

    def __init__(self, scorer: StaticScorer) -> None:
        self.spec = scorer.spec
        self._scorer = word_by_word(scorer)
        self.encoder = self._scorer.encoder

    def score(self, prompts: Sequence[Prompt]) -> Coefficients:
        """Coefficients of prompts, float32; errors as in `StaticScorer.score`."""
        pooled = self._pooled(self._scorer._encode(prompts))
        n = len(pooled)
        filled = np.concatenate([pooled, np.repeat(pooled[-1:], -n % BATCH, axis=0)])
        parts = [self._scorer.score_pooled(filled[start : start + BATCH]) for start in range(0, n, BATCH)]
        return Coefficients.concatenate(parts)[:n]

    def _pooled(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """The vectors of prompts with these tokens, as `StaticScorer.pooled` gives them."""
        scorer, lengths = self._scorer, list(map(len, ids))
        rows = np.fromiter(itertools.chain.from_iterable(ids), np.int64, sum(lengths))
        factors, weights = scorer._row_factor[rows], scorer._token_weight[rows]
        shape = (max(lengths), scorer._table.shape[1])
        packed, vectors = np.empty(shape, scorer._table.dtype), np.empty(shape, np.float32)
        pooled = np.empty((len(ids), scorer._width), np.float32)
        for state, first, n in zip(pooled, itertools.accumulate(lengths, initial=0), lengths, strict=False):
            scorer._table.take(rows[first : first + n], 0, packed[:n], "clip")
            vectors[:n] = packed[:n]
            scorer._fill(state, factors[first : first + n], vectors[:n], weights[first : first + n])
        if scorer._words is not None:
            vocab = len(scorer._table)
            found = np.unique(np.repeat(np.arange(len(ids)), lengths) * vocab + rows)  # of all prompts at once
            ends = np.searchsorted(found, np.arange(1, len(ids)) * vocab)
            for state, tokens in zip(pooled, np.split(found % vocab, ends), strict=True):
                scorer._words.fill(state[scorer._n_means :], tokens)
        return pooled


def word_by_word(scorer: AnyScorer) -> AnyScorer:
    """The same scorer; a static one tokenizes words once (`words`), where its tokenizer allows that."""
    if not isinstance(scorer, StaticScorer) or not reads_words(scorer.encoder):
        return scorer
    other = copy.copy(scorer)
    other.encoder = other._encode = WordEncoder(scorer.encoder)
    return other


def for_many(scorer: Scorer) -> Scorer:
    """The scorer for batches of many prompts: itself, or the faster one of a static model."""
    return ManyScorer(scorer) if isinstance(scorer, StaticScorer) else scorer
