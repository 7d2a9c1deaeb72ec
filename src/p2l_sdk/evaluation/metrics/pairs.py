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

from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import numpy as np

from p2l_sdk.evaluation.metrics.calibration import Reliability, reliability
from p2l_sdk.evaluation.metrics.estimates import Estimate, clustered_mean
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner, log_probabilities, vote_log_likelihood, vote_targets

PerVote = tuple[np.ndarray, np.ndarray]

_NOBODY_WINS = (Winner.TIE, Winner.BOTH_BAD)


@dataclass(frozen=True, eq=False)
class PairPredictions:
    """Votes, with the coefficients that predict them: the input of every metric of this module.

    Attributes:
        feedback: the feedback model.
        coefs_a, coefs_b: `(n,)` coefficients of the two LLMs on the vote's prompt, in logits.
        winners: `(n,)` integer `Winner` codes.
        eta, gamma: `(n,)` raw threshold and ground, if the feedback model has them.
        weights: `(n,)` weights of the votes, >= 0; 1 if not given.
        cluster: `(n,)` integers >= 0, the prompt of each vote; by default each vote is its own cluster.
    """

    feedback: Feedback
    coefs_a: np.ndarray
    coefs_b: np.ndarray
    winners: np.ndarray
    _: KW_ONLY
    eta: np.ndarray | None = None
    gamma: np.ndarray | None = None
    weights: np.ndarray | None = None
    cluster: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("coefs_a", "coefs_b", "eta", "gamma", "weights"):
            if (values := getattr(self, name)) is not None:
                object.__setattr__(self, name, np.asarray(values, dtype=np.float64))
        object.__setattr__(self, "winners", np.asarray(self.winners))

    @cached_property
    def log_probs(self) -> np.ndarray:
        """`(n, n_outcomes)` log-probabilities of the feedback model's outcomes."""
        return log_probabilities(self.feedback, self.coefs_a, self.coefs_b, self.eta, self.gamma)

    @property
    def log_odds(self) -> np.ndarray:
        """`(n,)` log-odds of a against b, given that one wins; these are the first two outcomes of every feedback
        model."""
        return self.log_probs[:, Winner.A] - self.log_probs[:, Winner.B]

    @property
    def decisive(self) -> np.ndarray:
        """`(n,)` booleans: whether one of the two won."""
        return self.winners <= Winner.B

    @cached_property
    def losses(self) -> dict[str, PerVote]:
        """The `vote_losses` of these predictions, computed once."""
        return vote_losses(self)

    def mean(self, values: np.ndarray, counts: np.ndarray) -> Estimate | None:
        """The mean of `(n,)` values over the votes, times `(n,)` counts; None if no vote counts."""
        weights = counts if self.weights is None else self.weights * counts
        cluster = np.arange(len(values)) if self.cluster is None else np.asarray(self.cluster)
        return clustered_mean(values, weights, cluster) if (weights > 0).any() else None


def vote_losses(pairs: PairPredictions) -> dict[str, PerVote]:
    """Every metric above except `ece`, vote by vote.

    Returns:
        Name -> (values, counts), both `(n,)`; counts is 1 for the votes that the metric is measured on, 0 for others.
    """
    feedback, winners, log_probs = pairs.feedback, pairs.winners, pairs.log_probs
    log_likelihood, known = vote_log_likelihood(feedback, log_probs, winners)
    decisive = pairs.decisive.astype(np.float64)
    margin = _of_winner(pairs, pairs.coefs_a - pairs.coefs_b)
    losses: dict[str, PerVote] = {
        "bt_log_loss": (np.logaddexp(0.0, -margin), decisive),
        "bt_mse": (np.square(_logistic(-margin)), decisive),
        "pair_accuracy": (_right(margin), decisive),
        "cross_entropy": (-log_likelihood, known),
    }
    if feedback.has_eta:
        losses["winner_log_loss"] = (np.logaddexp(0.0, -_of_winner(pairs, pairs.log_odds)), decisive)
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


def pair_metrics(pairs: PairPredictions) -> dict[str, Estimate]:
    """The means of `vote_losses`, and `ece` in 10 bins; metrics to which no vote applies are absent."""
    metrics = _means(pairs, pairs.losses)
    if "bt_log_loss" in metrics:
        metrics["ece"] = Estimate(pair_reliability(pairs).ece, None, metrics["bt_log_loss"].n)
    return metrics


def paired_differences(first: PairPredictions, second: PairPredictions) -> dict[str, Estimate]:
    """Means of the losses of first minus those of second, two predictions of the same votes, weighted and clustered as
    in first. The standard errors are usually much smaller than those of either mean, because hard votes are hard for
    both."""
    differences = {
        name: (values - second.losses[name][0], counts * second.losses[name][1])
        for name, (values, counts) in first.losses.items()
        if name in second.losses
    }
    return _means(first, differences)


def pair_reliability(pairs: PairPredictions, bins: int = 10) -> Reliability:
    """Reliability curve of the favourite over decisive votes: the probability that the LLM with the higher coefficient
    wins, given that one of the two does, and how often it did.

    Swapping the sides changes nothing. If the coefficients are equal, the vote counts as half a win of the favourite.

    Args:
        pairs: the predictions.
        bins: number of bins of equal weight.

    Raises:
        VotesError: no vote is decisive.
        P2LError: `bins` is below 1.
    """
    favourite_won = _right(_of_winner(pairs, pairs.log_odds))
    weights = pairs.decisive.astype(np.float64) if pairs.weights is None else pairs.weights * pairs.decisive
    favourite = _logistic(np.abs(pairs.log_odds))
    return reliability(favourite, favourite_won, weights=weights, cluster=pairs.cluster, bins=bins)


def _means(pairs: PairPredictions, losses: dict[str, PerVote]) -> dict[str, Estimate]:
    means = {name: pairs.mean(values, counts) for name, (values, counts) in losses.items()}
    return {name: mean for name, mean in means.items() if mean is not None}


def _of_winner(pairs: PairPredictions, margin: np.ndarray) -> np.ndarray:
    """The margin of a over b, as seen from the winner (from b, if nobody won)."""
    return np.where(pairs.winners == Winner.A, margin, -margin)


def _right(margin: np.ndarray) -> np.ndarray:
    """1 where the margin is positive, 0 where it is negative, 1/2 where it is 0."""
    return (np.sign(margin) + 1) / 2


def _logistic(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -x))
