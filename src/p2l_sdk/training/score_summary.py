"""Summary of a table of scores, before anything is trained on it; the counterpart of `votes.summary`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from p2l_sdk.modeling.feedback_p2l import Pointwise
from p2l_sdk.tables.columns import turns_of
from p2l_sdk.tables.reading import Findings
from p2l_sdk.votes.scores import Scores


@dataclass(frozen=True)
class ScoreSummary:
    """The figures of a table of scores.

    Attributes:
        n_rows, n_prompts: number of rows and of distinct prompts.
        n_answers, n_missing: number of cells with and without a score.
        n_duplicates: rows that repeat an earlier one (same prompt, same scores).
        models: (name, number of answers, mean score or NaN without answers), highest mean first.
        feedback: the feedback model of the loss below.
        averaged_loss: mean loss of the averaged leaderboard in nats, which a model that reads prompts has to beat.
        findings: what was noticed, and done, when the scores were read.
    """

    n_rows: int
    n_prompts: int
    n_answers: int
    n_missing: int
    n_duplicates: int
    models: tuple[tuple[str, int, float], ...]
    feedback: Pointwise
    averaged_loss: float
    findings: Findings = field(default_factory=Findings)

    @classmethod
    def of(cls, scores: Scores, feedback: Pointwise, averaged_loss: float) -> ScoreSummary:
        """Summarise scores, given the loss of their averaged leaderboard."""
        prompts = [turns_of(prompt) for prompt in scores.prompts]
        rows = {(prompt, row.tobytes()) for prompt, row in zip(prompts, scores.scores, strict=True)}
        there = np.isfinite(scores.scores)
        answers = there.sum(0)
        sums = np.where(there, scores.scores, 0.0).sum(0)
        means = np.divide(sums, answers, out=np.full(len(answers), np.nan), where=answers > 0)
        models = [(name, int(n), float(mean)) for name, n, mean in zip(scores.models, answers, means, strict=True)]
        return cls(
            n_rows=len(prompts),
            n_prompts=len(set(prompts)),
            n_answers=int(there.sum()),
            n_missing=int((~there).sum()),
            n_duplicates=len(prompts) - len(rows),
            models=tuple(sorted(models, key=lambda row: (not row[1], -row[2], row[0]))),
            feedback=feedback,
            averaged_loss=averaged_loss,
            findings=scores.findings,
        )
