"""Scoring a stream of prompts in batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping

from p2l_sdk.errors import PromptError
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.scorers.encoder import n_cut, warn_of_cut
from p2l_sdk.scorers.scorer import Scorer

BATCH = 256  # prompts


def score_in_batches(scorer: Scorer, prompts: Iterable[Prompt], size: int = BATCH) -> Iterator[Coefficients]:
    """The coefficients of any number of prompts, a batch at a time, in constant memory.

    Raises:
        PromptError: this is no list of prompts, or one is invalid; `index` is its position.

    Warns:
        P2LWarning: prompts were longer than what the model reads; said once, at the end.
    """
    done, before = 0, n_cut(scorer)
    for batch in in_batches(prompts, size):
        try:
            yield scorer.score(batch)
        except PromptError as error:
            error.index = done + (error.index or 0)
            raise
        done += len(batch)
    warn_of_cut(scorer, n_cut(scorer) - before, done)


def in_batches(prompts: Iterable[Prompt], size: int = BATCH) -> Iterator[list[Prompt]]:
    """Lists of so many prompts, the last one of fewer. PromptError: this is no list of prompts."""
    if isinstance(prompts, str):
        raise PromptError("this takes a list of prompts, not one string; wrap it: [prompt]")
    if isinstance(prompts, Mapping) or hasattr(prompts, "columns") or not isinstance(prompts, Iterable):
        hint = "; pass its column of prompts, table['prompt']" if hasattr(prompts, "keys") else ""
        raise PromptError(f"this takes a list of prompts, not {type(prompts).__name__}{hint}")
    if type(prompts).__module__.partition(".")[0] == "datasets" and hasattr(prompts, "column_names"):
        raise PromptError(
            f"this takes a list of prompts, not {type(prompts).__name__}; pass its column, data['prompt']"
        )
    remaining = iter(prompts)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
