"""How well a model routes prompts for which every LLM's answer has a score."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2l_sdk.errors import P2LError
from p2l_sdk.evaluation.metrics.estimates import clustered_mean
from p2l_sdk.p2l import P2L
from p2l_sdk.votes.votes import Scores


def evaluate_scores(p2l: P2L, scores: Scores) -> dict[str, Any]:
    """Measure routing by mean scores over the prompts.

    Returns:
        `routed_score`: of the LLM with the highest coefficient; `best_single_score`: of `best_single_model`, the best
        LLM on these prompts in hindsight; `gain_over_best_single`: their difference, paired by prompt;
        `oracle_score`: of the best LLM for each prompt.

    Raises:
        P2LError: the scores are for other LLMs than the model's, or in another order, or a score is missing.
    """
    if scores.models != p2l.models:
        raise P2LError("these scores are of other LLMs than the model; read them with Scores.read(file, p2l.models)")
    if not np.isfinite(scores.scores).all():
        raise P2LError("a score is missing; routing is measured on prompts that have the scores of all LLMs")
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
