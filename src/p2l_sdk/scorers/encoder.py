"""The encoder of prompts, which notices those of which the model reads only the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from p2l_sdk.modeling.prompt_p2l import Prompt, PromptEncoder

_MOST = 32  # characters of a token, more than any text has on average


class NoticingEncoder(PromptEncoder):
    """A `PromptEncoder` that counts the prompts that it cuts.

    Attributes:
        n_cut: how many prompts had more tokens than the model reads.
    """

    n_cut = 0

    def __call__(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """The token ids, as in `PromptEncoder`."""
        ids = super().__call__(prompts)
        full = (prompt for prompt, row in zip(prompts, ids, strict=True) if len(row) == self._spec.max_prompt_tokens)
        self.n_cut += sum(map(self._is_cut, full))
        return ids

    def _is_cut(self, prompt: Prompt) -> bool:
        """Whether a prompt that has all the tokens that the model reads has more."""
        text = self.text(prompt)
        if len(text) > _MOST * self._limit:
            return True
        return bool(self._tokenizer.encode(text, add_special_tokens=self._spec.add_special_tokens).overflowing)


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
