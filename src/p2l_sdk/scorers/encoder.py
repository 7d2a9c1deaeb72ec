"""Prompts of which a model reads only the end: how many there were, and what to say of them."""

from __future__ import annotations

from typing import Any


def n_cut(scorer: Any) -> int:
    """How many prompts a scorer has cut so far; 0 if it does not know, as one that asks a server."""
    return getattr(getattr(scorer, "encoder", None), "n_cut", 0)


def warn_of_cut(scorer: Any, n: int, of: int) -> None:
    """Warn that `n` of `of` prompts were cut, if there is any."""
    if n:
        from p2l_sdk.tables.warn import warn_caller  # a room that few prompts need

        one = "the prompt has more than {0} tokens: this model reads its last {0}"
        many = f"{n:,} of {of:,} prompts have more than {{0}} tokens: this model reads the last {{0}} of each"
        warn_caller((one if of == 1 else many).format(f"{scorer.spec.max_prompt_tokens:,}"))
