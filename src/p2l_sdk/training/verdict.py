"""`Verdict`: whether a trained model predicts votes on new prompts better than the averaged leaderboard does.

Both are measured on votes that neither was fitted to. Votes on one prompt are not independent, so the standard errors
are clustered by prompt; that of the difference is usually much the smallest, since hard votes are hard for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from p2l_sdk.evaluation import Estimate
from p2l_sdk.evaluation.metrics.estimates import clustered_mean

NO_BETTER = "no better than the averaged leaderboard on these votes"
RETURNS_AVERAGE = f"{NO_BETTER}: the model returns it for every prompt"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Losses on votes that were not fitted, in nats per vote, lower is better.

    Attributes:
        measured: how, in words that follow the figures, e.g. "5-fold cross-validation over prompts" or "held out: 10 %
            of the prompts".
        model, averaged: mean loss of the model and of the averaged leaderboard.
        difference: mean of the model's loss minus the averaged leaderboard's; below 0 the model is better.
        n_prompts: number of prompts measured on.
        keep: share of the model's departure from the averaged leaderboard that is kept; 0 if the model returns the
            averaged leaderboard for every prompt.
    """

    measured: str
    model: Estimate
    averaged: Estimate
    difference: Estimate
    n_prompts: int
    keep: float = 1.0

    @classmethod
    def of_losses(
        cls,
        model: np.ndarray,
        averaged: np.ndarray,
        prompt: np.ndarray,
        weights: np.ndarray | None = None,
        *,
        measured: str,
        keep: float = 1.0,
    ) -> Verdict:
        """From the loss of each vote.

        Args:
            model, averaged: `(n_votes,)` losses in nats.
            prompt: `(n_votes,)` integers >= 0, the prompt of each vote.
            weights: `(n_votes,)` weights of the votes; 1 if not given.
            measured, keep: see `Verdict`.

        Raises:
            VotesError: no weight is above 0.
        """
        weights = np.ones(len(model)) if weights is None else np.asarray(weights, dtype=np.float64)
        model, averaged = (np.asarray(x, dtype=np.float64) for x in (model, averaged))
        estimates = [clustered_mean(x, weights, np.asarray(prompt)) for x in (model, averaged, model - averaged)]
        return cls(
            measured=measured,
            model=estimates[0],
            averaged=estimates[1],
            difference=estimates[2],
            n_prompts=len(np.unique(np.asarray(prompt)[weights > 0])),
            keep=keep,
        )

    @property
    def better(self) -> bool:
        """Whether the model departs from the averaged leaderboard, and has the lower loss."""
        return self.keep > 0.0 and self.difference.value < 0.0

    @property
    def sentence(self) -> str:
        """The verdict in plain words, without a full stop."""
        if self.keep == 0.0:
            return RETURNS_AVERAGE
        if not self.better:
            return NO_BETTER
        error = self.difference.standard_error
        if error is not None and -self.difference.value > 2.0 * error:
            return "better than the averaged leaderboard"
        return "better than the averaged leaderboard, though by less than two standard errors"

    @property
    def figures(self) -> str:
        """The losses in words, e.g. "0.912 nats per vote, averaged leaderboard 0.956, difference -0.044 ± 0.010"."""
        error = self.difference.standard_error
        margin = "" if error is None else f" ± {error:.3f}"
        return (
            f"{self.model.value:.3f} nats per vote, averaged leaderboard {self.averaged.value:.3f}, difference "
            f"{self.difference.value:+.3f}{margin}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "measured": self.measured,
            "model": self.model.to_dict(),
            "averaged": self.averaged.to_dict(),
            "difference": self.difference.to_dict(),
            "n_prompts": self.n_prompts,
            "keep": self.keep,
            "sentence": self.sentence,
        }
