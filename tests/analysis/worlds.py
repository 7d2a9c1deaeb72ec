"""Worlds in which it is known what a search for strengths may find."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.modeling.spec_p2l import ModelSpec

TOPICS = ("algebra", "poetry", "cooking", "law", "chess")
MODELS = tuple("abcdefgh")
_WIDTH = 6
_SMALL = 1000  # of a prompt's number, which its vector passes on, in such a small unit that it tells nothing apart


class TopicScorer:
    """A model whose prompts are "TOPIC number", whose vectors tell the topics apart, and whose LLMs have strengths.

    Args:
        strengths: `(n_topics, n_models)` added to the coefficients of a topic, in logits.
        seed: of vectors and coefficients, which differ from prompt to prompt.
    """

    def __init__(self, strengths: np.ndarray, seed: int = 0) -> None:
        self.spec = ModelSpec(models=MODELS, feedback=Feedback.BT)
        self._strengths, self._seed = strengths, seed
        self._centres = np.random.default_rng(1).normal(size=(len(TOPICS), _WIDTH))

    def pooled(self, prompts: Sequence[Prompt]) -> np.ndarray:
        rows = []
        for prompt in prompts:
            topic, number = str(prompt).split()
            random = np.random.default_rng([self._seed, int(number)])
            k = TOPICS.index(topic)
            rows.append(
                np.concatenate([self._centres[k] + 0.2 * random.normal(size=_WIDTH), [k, int(number) / _SMALL]])
            )
        return np.array(rows, dtype=np.float32)

    def score_pooled(self, pooled: np.ndarray) -> Coefficients:
        rows = []
        for k, number in np.rint(pooled[:, -2:] * [1, _SMALL]).astype(int):
            random = np.random.default_rng([self._seed, 7, number])
            rows.append(self._strengths[k] + np.linspace(1, -1, len(MODELS)) + 0.5 * random.normal(size=len(MODELS)))
        return Coefficients(np.array(rows, dtype=np.float32), None, None)

    def score(self, prompts: Sequence[Prompt]) -> Coefficients:
        return self.score_pooled(self.pooled(prompts))


def topic_prompts(n: int) -> list[str]:
    """`n` prompts, of each topic in turn."""
    return [f"{TOPICS[i % len(TOPICS)]} {i}" for i in range(n)]
