"""One leaderboard for a stream of prompts: scored in batches and reduced as they come, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from p2l_sdk.errors import PromptError
from p2l_sdk.leaderboards.aggregate import PairStatistics, PromptWeights
from p2l_sdk.leaderboards.leaderboard import Z_95, Coefficients, Kinds, Leaderboard
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.scorers.batches import score_in_batches
from p2l_sdk.scorers.scorer import Scorer, variance_of


def aggregate_prompts(
    scorer: Scorer,
    prompts: Iterable[Prompt],
    weights: Iterable[float] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Leaderboard:
    """The aggregate leaderboard of the prompts; arguments and errors as in `P2L.aggregate`."""
    scored = score_in_batches(scorer, prompts)
    return aggregate_scored(scored, scorer.spec, variance_of(scorer), weights, seed, progress)


def aggregate_scored(
    parts: Iterable[Coefficients],
    spec: ModelSpec,
    variance: np.ndarray | None,
    weights: Iterable[float] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Leaderboard:
    """The aggregate leaderboard of prompts that a model has scored.

    Args:
        parts: their coefficients, batch by batch.
        spec: of the model.
        variance: of the model's last layer, if it recognises kinds of prompt; see `EditableScorer.variance`.
        weights, seed, progress: as in `P2L.aggregate`, with its errors.
    """
    remaining = PromptWeights(weights)
    statistics = PairStatistics(spec.feedback, len(spec.models), seed=seed)
    shares, familiar = np.zeros(len(spec.kinds)), None
    for part in parts:
        weights_of = remaining.take(len(part))
        statistics.add(part, weights_of)
        if part.kinds is not None:
            shares += part.kinds.shares.sum(0) if weights_of is None else weights_of @ part.kinds.shares
        if part.familiarity is not None:
            weighted = part.familiarity if weights_of is None else weights_of * part.familiarity
            familiar = (familiar or 0.0) + float(weighted.sum())
        if progress is not None:
            progress(statistics.n_prompts)
    remaining.require_end(statistics.n_prompts)
    if statistics.n_prompts == 0:
        raise PromptError("there are no prompts to aggregate; give at least one")
    board = statistics.solve(spec.models)
    if familiar is not None:
        board = replace(board, familiarity=familiar / statistics.weight)
    return board if variance is None else _with_kinds(board, spec.kinds, variance, shares / statistics.weight)


def _with_kinds(board: Leaderboard, names: tuple[str, ...], variance: np.ndarray, shares: np.ndarray) -> Leaderboard:
    """The aggregate of prompts that show these `(n_kinds,)` mean shares of kinds, its intervals widened by the errors
    of the ratings that the model was built from (which do not shrink with the number of prompts)."""
    kinds = Kinds.of_layer(names, shares[None], variance)
    margin, coefs = Z_95 * kinds.errors[0], board.coefs
    away = np.zeros((2, len(coefs))) if board.intervals is None else np.abs(board.intervals.T - coefs)
    low, high = np.hypot(away, margin)
    named = dict(zip(kinds.names, shares.tolist(), strict=True))
    return replace(board, intervals=np.stack([coefs - low, coefs + high], 1), kinds=named)
