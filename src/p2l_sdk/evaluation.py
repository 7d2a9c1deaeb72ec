"""How well a model predicts votes and routes prompts it was not trained on.

Votes on one prompt are not independent, so standard errors are clustered by prompt: the mean is a ratio of sums over
prompts, and its variance that of the prompts' residuals (linearisation, with the factor n / (n - 1)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from p2l_sdk.errors import VotesError
from p2l_sdk.facade import P2L
from p2l_sdk.modeling.feedback_p2l import Winner, log_probabilities, vote_log_likelihood
from p2l_sdk.votes import Scores, Votes


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error clustered by prompt (None for one prompt), and how many votes or prompts it is of."""

    value: float
    standard_error: float | None
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"value": self.value, "standard_error": self.standard_error, "n": self.n}


def clustered_mean(values: np.ndarray, weights: np.ndarray, cluster: np.ndarray) -> Estimate:
    """Weighted mean with a cluster-robust standard error (None with fewer than two clusters).

    Args:
        values, weights: `(n,)`.
        cluster: `(n,)` integers >= 0.
    """
    used = weights > 0
    values, weights, cluster = values[used], weights[used], cluster[used]
    if not len(values):
        raise VotesError("there is nothing to average: no vote of this kind in the file")
    total = weights.sum()
    mean = float((weights * values).sum() / total)
    residuals = np.bincount(cluster, weights * (values - mean))
    n_clusters = len(np.unique(cluster))
    if n_clusters < 2:
        return Estimate(mean, None, len(values))
    variance = np.square(residuals).sum() * n_clusters / (n_clusters - 1)
    return Estimate(mean, float(np.sqrt(variance) / total), len(values))


def evaluate_votes(p2l: P2L, votes: Votes) -> dict[str, Estimate]:
    """How well the model predicts votes.

    Returns:
        `bt_log_loss`: of sigmoid(coef_a - coef_b) over decisive votes, nats; `pair_accuracy`: the share of decisive
        votes whose winner has the higher coefficient (equal ones count half); `cross_entropy`: of the feedback
        model's own outcomes over all votes it knows, nats. The first two are absent if no vote is decisive.
    """
    scored = p2l.coefficients(votes.prompts)
    row = votes.prompt
    theta_a, theta_b = (scored.coefs[row, side].astype(np.float64) for side in (votes.a, votes.b))
    eta, gamma = (None if x is None else x[row, 0].astype(np.float64) for x in (scored.eta, scored.gamma))
    log_probs = log_probabilities(p2l.spec.feedback, theta_a, theta_b, eta, gamma)
    log_likelihood, counts = vote_log_likelihood(p2l.spec.feedback, log_probs, votes.winner)
    decisive = np.isin(votes.winner, (Winner.A, Winner.B))
    margin = np.where(votes.winner == Winner.A, theta_a - theta_b, theta_b - theta_a)
    metrics = {}
    if (decisive & (votes.weight > 0)).any():
        metrics["bt_log_loss"] = clustered_mean(np.logaddexp(0.0, -margin), votes.weight * decisive, row)
        metrics["pair_accuracy"] = clustered_mean((np.sign(margin) + 1) / 2, votes.weight * decisive, row)
    metrics["cross_entropy"] = clustered_mean(-log_likelihood, votes.weight * counts, row)
    return metrics


def evaluate_scores(p2l: P2L, scores: Scores) -> dict[str, Any]:
    """How well the model routes: mean scores over the prompts.

    Returns:
        `routed_score` of the LLM with the highest coefficient, `best_single_score` of `best_single_model` (the best
        in hindsight on this very file), `gain_over_best_single` (paired), `oracle_score` of the best LLM per prompt.
    """
    choice = p2l.coefficients(scores.prompts).coefs.argmax(1)
    single = int(scores.scores.mean(0).argmax())
    one, each = np.ones(len(choice)), np.arange(len(choice))
    routed = scores.scores[each, choice]
    return {
        "routed_score": clustered_mean(routed, one, each),
        "best_single_score": clustered_mean(scores.scores[:, single], one, each),
        "best_single_model": scores.models[single],
        "gain_over_best_single": clustered_mean(routed - scores.scores[:, single], one, each),
        "oracle_score": clustered_mean(scores.scores.max(1), one, each),
    }
