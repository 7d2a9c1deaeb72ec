"""Prompts that repeat another one of their file, which the intervals of an aggregate do not know."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from p2l_sdk.cli.common import say
from p2l_sdk.modeling.prompt_p2l import Prompt

_REMEMBERED = 100_000  # prompts in which repeated ones are noticed: a file of any size takes constant memory


class Repeats:
    """Counts the prompts of a stream that were there before."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._n = 0

    def watched(self, prompts: Iterable[Prompt]) -> Iterator[Prompt]:
        """The same prompts."""
        for prompt in prompts:
            key = hash(prompt if isinstance(prompt, str) else json.dumps(prompt))
            if key in self._seen:
                self._n += 1
            elif len(self._seen) < _REMEMBERED:
                self._seen.add(key)
            yield prompt

    def say(self, n_prompts: int) -> None:
        """Say on stderr how many there were, if any."""
        if self._n:
            repeated = f"{self._n:,} of {n_prompts:,} prompts repeat another one"
            say(f"p2l: {repeated}, and the intervals count them as independent", err=True)
