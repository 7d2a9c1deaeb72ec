"""A static scorer for millions of prompts: the same coefficients, several times faster, whatever the batches."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.scorers.batches import BATCH
from p2l_sdk.scorers.scorer import Scorer
from p2l_sdk.scorers.static import StaticScorer
from p2l_sdk.scorers.words import WordEncoder, reads_words


class ManyScorer:
    """Scores batches with a `StaticScorer`.

    Words are tokenized once (`words`). Products of matrices are of 256 rows, the last batch filled up: how a library
    adds numbers depends on their number, and so a coefficient's last bit would.

    Args:
        scorer: the scorer.
    """

    def __init__(self, scorer: StaticScorer) -> None:
        self.spec = scorer.spec
        self._scorer = copy.copy(scorer)
        if reads_words(scorer._encode):
            self._scorer._encode = WordEncoder(scorer._encode)

    def score(self, prompts: Sequence[Prompt]) -> Coefficients:
        """Coefficients of prompts, float32; errors as in `StaticScorer.score`."""
        pooled = np.stack([self._scorer._pool(ids) for ids in self._scorer._encode(prompts)])
        n = len(pooled)
        filled = np.concatenate([pooled, np.repeat(pooled[-1:], -n % BATCH, axis=0)])
        parts = [self._scorer.score_pooled(filled[start : start + BATCH]) for start in range(0, n, BATCH)]
        return Coefficients.concatenate(parts)[:n]


def for_many(scorer: Scorer) -> Scorer:
    """The scorer for batches of many prompts: itself, or the faster one of a static model."""
    return ManyScorer(scorer) if isinstance(scorer, StaticScorer) else scorer
