"""`Distinct`: each different prompt once. A table of votes has a row for each vote on a prompt, which says nothing more
about the prompt, and a search that counted all of them would be surer than it may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from p2l_sdk.errors import PromptError
from p2l_sdk.modeling.prompt_p2l import CheckedPrompt, Prompt
from p2l_sdk.scorers.batches import in_batches

_REMEMBERED = 1_000_000  # prompts, in some 70 MB; what repeats a later one is not noticed


class Distinct:
    """The prompts of an iterable without those that say what an earlier one said, each time it is iterated.

    Args:
        prompts: can be iterated again.
        progress: called after each batch with the number of prompts read.

    Attributes:
        n_repeated: how many were left out of the last iteration.
    """

    def __init__(self, prompts: Iterable[Prompt], progress: Callable[[int], None] = lambda done: None) -> None:
        self.n_repeated = 0
        self._prompts, self._progress = prompts, progress

    def __iter__(self) -> Iterator[Prompt]:
        """PromptError: a prompt is invalid; `index` is its position among all."""
        seen, done = set[int](), 0
        self.n_repeated = 0
        for batch in in_batches(self._prompts):
            for i, prompt in enumerate(batch, start=done):
                key = hash(tuple(_turns(prompt, i)))
                if key in seen:
                    self.n_repeated += 1
                    continue
                if len(seen) < _REMEMBERED:
                    seen.add(key)
                yield prompt
            done += len(batch)
            self._progress(done)


def _turns(prompt: Prompt, i: int) -> list[str]:
    try:
        return CheckedPrompt(prompt).turns
    except PromptError as error:
        error.index = i
        raise
