"""The training objectives: the negative log-likelihood of votes, or of scores of single answers.

A model trained on single answers is saved with the feedback model `bt`, because the chance that one answer beats
another follows from them. Right or wrong (bernoulli): if exactly one of two independent answers is right, it is a's
with probability sigmoid(theta_a - theta_b), exactly. Scores (gaussian) with standard deviation sigma around their
means: a's is higher with probability Phi(d / (sigma sqrt 2)), which sigmoid(1.2035 d / sigma) approximates within 0.01
(Bowling et al. 2009: 1.702 is the factor from probit to logit); the coefficients are scores in units of sigma / 1.2035.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch

from p2l_sdk.modeling.feedback_p2l import (
    Feedback,
    Pointwise,
    Winner,
    log_probabilities,
    pointwise_log_likelihood,
    vote_log_likelihood,
)

METRICS = ("loss", "bt_log_loss", "pair_accuracy")  # returned by `measure` in this order; scores have only the first
PROBIT_TO_LOGIT = 1.702 / 2.0**0.5  # per sigma of one score; the difference of two has sqrt 2 times that


class Objective(Protocol):
    """Computes the losses of the items of a batch from the model's output."""

    def __call__(self, output: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """`(n_items,)` negative log-likelihoods in nats."""
        ...

    def measure(self, output: Any, batch: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """For the learning curve: one or all of `METRICS`, in that order, each as `(n_items,)` values and weights."""
        ...

    def rescaling(self, loss: Callable[[], float]) -> float:
        """The factor to multiply the trained coefficients by; `loss` computes their mean loss on held-out prompts."""
        ...


class VoteObjective:
    """The objective for votes: `labels` are `(n_votes, 4)` rows of [row of the prompt in the batch, a, b, winner].

    Args:
        feedback: the feedback model.
        label_smoothing: share of each vote that is spread evenly over all outcomes (in the loss, not in `measure`).
    """

    def __init__(self, feedback: Feedback, label_smoothing: float = 0.0) -> None:
        self._feedback, self._smoothing = feedback, label_smoothing

    def __call__(self, output: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss of every vote or score, in nats."""
        log_probs, log_likelihood = self._log_likelihood(output, batch["labels"])
        if self._smoothing:
            log_likelihood = (1.0 - self._smoothing) * log_likelihood + self._smoothing * log_probs.mean(-1)
        return -log_likelihood

    def measure(self, output: Any, batch: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Name -> (value, weight) of every vote or score."""
        row, a, b, winner = batch["labels"].unbind(1)
        _, log_likelihood = self._log_likelihood(output, batch["labels"])
        margin = output.coefs[row, a] - output.coefs[row, b]
        margin = torch.where(winner == Winner.A, margin, -margin)
        decisive = batch["weights"] * ((winner == Winner.A) | (winner == Winner.B))
        return {
            "loss": (-log_likelihood, batch["weights"]),
            "bt_log_loss": (torch.nn.functional.softplus(-margin), decisive),
            "pair_accuracy": ((margin.sign() + 1.0) / 2.0, decisive),
        }

    def rescaling(self, loss: Callable[[], float]) -> float:
        """The factor of the coefficients that the saved model takes; 1 for votes."""
        return 1.0

    def _log_likelihood(self, output: Any, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        row, a, b, winner = labels.unbind(1)
        eta, gamma = (None if x is None else x[row, 0] for x in (output.eta, output.gamma))
        log_probs = log_probabilities(self._feedback, output.coefs[row, a], output.coefs[row, b], eta, gamma)
        return log_probs, vote_log_likelihood(self._feedback, log_probs, winner)[0]


class ScoreObjective:
    """The objective for scores of single answers: `labels` are `(n_answers, 2)` rows of [row of the prompt in the
    batch, LLM], `values` the scores.

    Args:
        kind: bernoulli or gaussian.
        centre, scale: of gaussian scores: the mean of the LLMs' means, and the standard deviation around these means.
    """

    def __init__(self, kind: Pointwise, centre: float = 0.0, scale: float = 1.0) -> None:
        self._kind, self._centre, self._scale = kind, centre, scale

    def __call__(self, output: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss of every vote or score, in nats."""
        row, model = batch["labels"].unbind(1)
        theta, values = output.coefs[row, model], batch["values"]
        if self._kind is Pointwise.GAUSSIAN:
            theta, values = theta / PROBIT_TO_LOGIT, (values - self._centre) / self._scale
        return -pointwise_log_likelihood(self._kind, theta, values)

    def measure(self, output: Any, batch: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Name -> (value, weight) of every vote or score."""
        return {"loss": (self(output, batch), batch["weights"])}

    def rescaling(self, loss: Callable[[], float]) -> float:
        """For gaussian scores: training uses the standard deviation around the LLMs' means as sigma, but the part that
        the prompts explain is not noise. The loss tells what is left of it, taken as at least a hundredth."""
        if self._kind is Pointwise.BERNOULLI:
            return 1.0
        return max(2.0 * loss() - math.log(2.0 * math.pi), 1e-4) ** -0.5
