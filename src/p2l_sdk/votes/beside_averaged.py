"""`BesideAveraged`: how a trained model compares with the averaged leaderboard; `training.verdict.Verdict` is one."""

from __future__ import annotations

from typing import Any, Protocol


class BesideAveraged(Protocol):
    """What is known, on votes that were not fitted, of a model beside the averaged leaderboard."""

    @property
    def measured(self) -> str:
        """How it was measured."""

    @property
    def n_prompts(self) -> int:
        """Number of prompts that it was measured on."""

    @property
    def better(self) -> bool:
        """Whether the model departs from the averaged leaderboard, and has the lower loss."""

    @property
    def sentence(self) -> str:
        """The verdict in plain words, without a full stop."""

    @property
    def figures(self) -> str:
        """The losses in words."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
