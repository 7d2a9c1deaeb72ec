"""Metrics as plain functions of arrays: predicted outcomes against votes, calibration, comparing two leaderboards.

A metric that does not apply to the feedback model or to these votes is absent from the result; there are no
placeholder values.
"""

from p2l_sdk.evaluation.metrics.calibration import Reliability, reliability
from p2l_sdk.evaluation.metrics.estimates import Estimate, clustered_mean
from p2l_sdk.evaluation.metrics.leaderboards import compare_leaderboards, kendall, spearman, spread_of_coefficients
from p2l_sdk.evaluation.metrics.pairs import (
    PairPredictions,
    pair_metrics,
    pair_reliability,
    paired_differences,
    vote_losses,
)
from p2l_sdk.evaluation.metrics.routing import arena_score, cost_saved, relative_difference, router_arena_score

__all__ = [
    "Estimate",
    "PairPredictions",
    "Reliability",
    "arena_score",
    "clustered_mean",
    "compare_leaderboards",
    "cost_saved",
    "kendall",
    "pair_metrics",
    "pair_reliability",
    "paired_differences",
    "relative_difference",
    "reliability",
    "router_arena_score",
    "spearman",
    "spread_of_coefficients",
    "vote_losses",
]
