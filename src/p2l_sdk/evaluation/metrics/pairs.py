"""Predicted outcomes against votes: a value for every vote, and their means.

With d = coef_a - coef_b, s the logistic function, P the feedback model's probability, y the outcome of the vote:

    bt_log_loss         -log s(d) of the winner over the loser                                      decisive votes
    bt_mse              (1 - s(d))^2, likewise                                                      decisive votes
    pair_accuracy       1 if the winner has the higher coefficient, 1/2 if they are equal           decisive votes
    ece                 calibration error of P(winner) / (P(a) + P(b)), see `metrics.calibration`   decisive votes
    winner_log_loss     -log P(winner) / (P(a) + P(b)); without ties it is bt_log_loss              decisive votes, ties
    cross_entropy       -log P(y); in bt_tie a tie is half a win for each                           known votes
    brier_score         sum over the outcomes o of (1[o = y] - P(o))^2                              known votes, ties
    outcome_accuracy    1 if the most probable outcome occurred, split if several are equally so    known votes, ties
    tie_log_loss        of the event that nobody wins: a tie, or both bad                           known votes, ties
    tie_accuracy        1 if P(event) > 1/2 and it occurred, or < 1/2 and it did not              known votes, ties
    both_bad_log_loss, both_bad_accuracy    of the event that both are bad      known votes, models with "both bad"

"Ties": only for feedback models with ties. "Known": votes that the feedback model does not ignore. Losses are in nats.
"Nobody wins" is one event for every model with ties, so that models with a separate "both bad" outcome can be compared
with models that count it as a tie.

The paper's probability of a pair is s(d) for every feedback model, and `bt_log_loss` measures that. It is not what a
model with ties predicts for decisive votes: its odds of the winner are steeper than exp(d), because close comparisons
tend to end in ties. By s(d), a perfectly correct model would look underconfident; calibration is therefore measured on
the feedback model's own probability.
"""

from __future__ import annotations

import numpy as np

from p2l_sdk.evaluation.metrics.calibration import Reliability, reliability
from p2l_sdk.evaluation.metrics.estimates import Estimate, clustered_mean
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner, log_probabilities, vote_log_likelihood, vote_targets

PerVote = tuple[np.ndarray, np.ndarray]

_NOBODY_WINS = (Winner.TIE, Winner.BOTH_BAD)


def vote_losses(
    feedback: Feedback,
    coefs_a: np.ndarray,
    coefs_b: np.ndarray,
    winners: np.ndarray,
    *,
    eta: np.ndarray | None = None,
    gamma: np.ndarray | None = None,
) -> dict[str, PerVote]:
    """Every metric above except `ece`, vote by vote.

    Args:
        feedback: the feedback model.
        coefs_a, coefs_b: `(n,)` coefficients of the two LLMs on the vote's prompt, in logits.
        winners: `(n,)` integer `Winner` codes.
        eta, gamma: `(n,)` raw threshold and ground, if the feedback model has them.

    Returns:
        Name -> (values, counts), both `(n,)`; counts is 1 for the votes that the metric is measured on, 0 for others.
    """
    coefs_a, coefs_b = (np.asarray(coefs, dtype=np.float64) for coefs in (coefs_a, coefs_b))
    winners = np.asarray(winners)
    log_probs = log_probabilities(feedback, coefs_a, coefs_b, _float(eta), _float(gamma))
    log_likelihood, known = vote_log_likelihood(feedback, log_probs, winners)
    decisive = (winners <= Winner.B).astype(np.float64)
    margin = np.where(winners == Winner.A, coefs_a - coefs_b, coefs_b - coefs_a)
    losses: dict[str, PerVote] = {
        "bt_log_loss": (np.logaddexp(0.0, -margin), decisive),
        "bt_mse": (np.square(_logistic(-margin)), decisive),
        "pair_accuracy": (_right(margin), decisive),
        "cross_entropy": (-log_likelihood, known),
    }
    if feedback.has_eta:
        log_odds = _log_odds(log_probs)
        losses["winner_log_loss"] = (np.logaddexp(0.0, np.where(winners == Winner.A, -log_odds, log_odds)), decisive)
        targets = vote_targets(feedback)[winners]
        likeliest = log_probs == log_probs.max(1, keepdims=True)
        losses["brier_score"] = (np.square(targets - np.exp(log_probs)).sum(1), known)
        losses["outcome_accuracy"] = ((targets * likeliest).sum(1) / likeliest.sum(1), known)
    for name, event in (("tie", _NOBODY_WINS), ("both_bad", (Winner.BOTH_BAD,))):
        if event[0] in feedback.outcomes:
            within = np.isin(feedback.outcomes, event)
            event_or_not = np.stack([np.logaddexp.reduce(log_probs[:, part], 1) for part in (within, ~within)])
            right, wrong = np.where(np.isin(winners, event), event_or_not, event_or_not[::-1])
            losses[f"{name}_log_loss"] = (-right, known)
            losses[f"{name}_accuracy"] = (_right(right - wrong), known)
    return losses


def pair_metrics(
    feedback: Feedback,
    coefs_a: np.ndarray,
    coefs_b: np.ndarray,
    winners: np.ndarray,
    *,
    eta: np.ndarray | None = None,
    gamma: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
) -> dict[str, Estimate]:
    """The means of `vote_losses`, and `ece` in 10 bins; metrics to which no vote applies are absent.

    Args:
        weights: `(n,)` >= 0; 1 if not given.
        cluster: `(n,)` integers >= 0, the prompt of each vote; by default each vote is its own cluster.
        feedback, coefs_a, coefs_b, winners, eta, gamma: as in `vote_losses`.
    """
    weights = np.ones(len(winners)) if weights is None else np.asarray(weights, dtype=np.float64)
    cluster = np.arange(len(winners)) if cluster is None else np.asarray(cluster)
    losses = vote_losses(feedback, coefs_a, coefs_b, winners, eta=eta, gamma=gamma)
    metrics = _means(losses, weights, cluster)
    if "bt_log_loss" in metrics:
        curve = pair_reliability(
            feedback, coefs_a, coefs_b, winners, eta=eta, gamma=gamma, weights=weights, cluster=cluster
        )  # fmt: skip
        metrics["ece"] = Estimate(curve.ece, None, metrics["bt_log_loss"].n)
    return metrics


def paired_differences(
    first: dict[str, PerVote], second: dict[str, PerVote], weights: np.ndarray, cluster: np.ndarray
) -> dict[str, Estimate]:
    """Means of first - second over the same votes, for two predictions of them (`vote_losses`). The standard errors are
    usually much smaller than those of either mean, because hard votes are hard for both."""
    common = {
        name: (values - second[name][0], counts * second[name][1])
        for name, (values, counts) in first.items()
        if name in second
    }
    return _means(common, weights, cluster)


def pair_reliability(
    feedback: Feedback,
    coefs_a: np.ndarray,
    coefs_b: np.ndarray,
    winners: np.ndarray,
    *,
    eta: np.ndarray | None = None,
    gamma: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
    bins: int = 10,
) -> Reliability:
    """Reliability curve of the favourite over decisive votes: the probability that the LLM with the higher coefficient
    wins, given that one of the two does, and how often it did.

    Swapping the sides changes nothing. If the coefficients are equal, the vote counts as half a win of the favourite.

    Args:
        bins: number of bins of equal weight.
        feedback, coefs_a, coefs_b, winners, eta, gamma, weights, cluster: as in `pair_metrics`.

    Raises:
        VotesError: no vote is decisive.
    """
    coefs_a, coefs_b = (np.asarray(coefs, dtype=np.float64) for coefs in (coefs_a, coefs_b))
    log_odds = _log_odds(log_probabilities(feedback, coefs_a, coefs_b, _float(eta), _float(gamma)))
    winners = np.asarray(winners)
    weights = np.ones(len(winners)) if weights is None else np.asarray(weights, dtype=np.float64)
    won = _right(np.where(winners == Winner.A, log_odds, -log_odds))
    decisive = weights * (winners <= Winner.B)
    return reliability(_logistic(np.abs(log_odds)), won, weights=decisive, cluster=cluster, bins=bins)


def _log_odds(log_probs: np.ndarray) -> np.ndarray:
    """Log-odds of a against b, given that one wins; these are the first two outcomes of every feedback model."""
    return log_probs[:, Winner.A] - log_probs[:, Winner.B]


def _means(losses: dict[str, PerVote], weights: np.ndarray, cluster: np.ndarray) -> dict[str, Estimate]:
    return {
        name: clustered_mean(values, weights * counts, cluster)
        for name, (values, counts) in losses.items()
        if (weights * counts > 0).any()
    }


def _right(margin: np.ndarray) -> np.ndarray:
    """1 where the margin is positive, 0 where it is negative, 1/2 where it is 0."""
    return (np.sign(margin) + 1) / 2


def _logistic(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -x))


def _float(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else np.asarray(values, dtype=np.float64)
