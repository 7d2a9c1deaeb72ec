"""The settings of the training of a static model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace

from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.tables.settings import check_fields, count, number
from p2l_sdk.training.config import MOST_KEPT
from p2l_sdk.training.static_heads import Steps

_EPOCHS = (6, 10, 20)  # to choose from, see docs/train-a-static-model.md
_MOST_STEPS = 320  # of these; with many prompts, fewer epochs do


@dataclass(frozen=True, kw_only=True)
class StaticRecipe:
    """Settings of the training. The defaults were chosen on routing9's train split, by five folds over the prompts and
    fourteen runs that each left out one task; `steps` and `keep` are chosen anew for all votes, unless they are given.

    Attributes:
        feedback: the feedback model.
        max_prompt_tokens: tokens kept of a prompt, the last ones.
        symbol_weight: weight in the mean of single-character and special tokens; all others have weight 1.
        norm_power: the mean is divided by its norm to this power: 0 leaves it unchanged, 1 gives unit length.
        length_scale: standard deviation of the length feature, relative to 1 for a vector entry; 0 for no feature.
        hidden_size: width of the head's hidden layer.
        input_dropout, dropout: on the prompt's vector, and on the hidden layer.
        learning_rate, weight_decay: of AdamW; decay on matrices only; linear warm-up and cosine decay to 0.
        warmup_steps: of the steps, at most a tenth.
        steps: number of optimizer steps; None: that of 6, 10 or 20 passes over the prompts, as cross-validation says.
        batch_size: a batch consists of prompts, each with all of its votes.
        keep: share of the learned departure from the averaged leaderboard that is kept: 0 returns it for every prompt.
            None: chosen by cross-validation, for what tells LLMs apart and for what is common to all of them.
        copies: changed copies of each prompt to learn from too (`training.augmentation`); None for none.
        seed: of folds, initial weights, dropout and order.

    Raises:
        P2LError: a setting is illegal; the message names it and its legal values.
    """

    feedback: Feedback = Feedback.GRK
    max_prompt_tokens: int = count(512)
    symbol_weight: float = number(0.25, 1e-6)
    norm_power: float = number(0.5, 0.0, 1.0)
    length_scale: float = number(10.0, 0.0)
    hidden_size: int = count(256)
    input_dropout: float = number(0.1, 0.0, 0.95)
    dropout: float = number(0.2, 0.0, 0.95)
    learning_rate: float = number(2e-3, 0.0, 1.0)
    weight_decay: float = number(6.0, 0.0, 100.0)
    warmup_steps: int = count(20)
    steps: int | None = count(None)
    batch_size: int = count(128)
    keep: float | None = number(None, 0.0, MOST_KEPT)
    copies: int | None = count(None)
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)

    def for_prompts(self, n_prompts: int, epochs: float | None = None) -> StaticRecipe:
        """The recipe with the steps of `epochs` passes over the prompts; unchanged if it is None."""
        if epochs is None:
            return self
        return replace(self, steps=max(1, round(epochs * -(-n_prompts // self.batch_size))))

    def lengths(self, n_prompts: int) -> list[Steps]:
        """The trainings to choose from, shortest first: one if `steps` is given."""
        batches = -(-n_prompts // self.batch_size)
        steps = {min(epochs * batches, _MOST_STEPS) for epochs in _EPOCHS} if self.steps is None else {self.steps}
        names = [field.name for field in dataclasses.fields(Steps) if field.name not in ("steps", "warmup_steps")]
        same = {name: getattr(self, name) for name in names}
        return [Steps(steps=n, warmup_steps=max(1, min(self.warmup_steps, n // 10)), **same) for n in sorted(steps)]
