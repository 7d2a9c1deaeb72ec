"""One leaderboard for a stream of prompts: scored in batches and reduced as they come, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from p2l_sdk.errors import PromptError
from p2l_sdk.leaderboards.aggregate import PairStatistics, PromptWeights
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.scorers.batches import score_in_batches
from p2l_sdk.scorers.scorer import Scorer


def aggregate_prompts(
    scorer: Scorer,
    prompts: Iterable[Prompt],
    weights: Iterable[float] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Leaderboard:
    """The aggregate leaderboard of the prompts; arguments and errors as in `P2L.aggregate`."""
    models, remaining = scorer.spec.models, PromptWeights(weights)
    statistics = PairStatistics(scorer.spec.feedback, len(models), seed=seed)
    for part in score_in_batches(scorer, prompts):
        statistics.add(part, remaining.take(len(part)))
        if progress is not None:
            progress(statistics.n_prompts)
    remaining.require_end(statistics.n_prompts)
    if statistics.n_prompts == 0:
        raise PromptError("there are no prompts to aggregate; give at least one")
    return statistics.solve(models)
