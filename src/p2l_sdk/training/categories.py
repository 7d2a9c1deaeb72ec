"""What a column of the votes says their prompts are about: a subject, a task, a language."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2l_sdk.errors import VotesError, did_you_mean
from p2l_sdk.votes.votes import Votes

MOST_CATEGORIES = 1000
MOST_RECOGNISED = 100
_NONE = ("", "nan", "none", "null", "n/a", "na", "<na>")  # labels that say that there is none


@dataclass(frozen=True, eq=False)
class Categories:
    """The categories of the prompts of votes.

    Attributes:
        column: the column that tells them.
        names: the categories.
        number: `(n_prompts,)` that of each prompt, an index into `names`; -1 where it has none.
        recognised: whether a model is to recognise them, or the 100 largest of them; or else they teach.
    """

    column: str
    names: tuple[str, ...]
    number: np.ndarray
    recognised: bool = False

    @classmethod
    def of(cls, votes: Votes, column: str, *, recognised: bool = False) -> Categories:
        """Read a column of categories to recognise or to learn from. A prompt with several labels has that of its first
        vote.

        Raises:
            VotesError: there is no such column, or it has fewer than 2 or more than 1,000 categories, or more than half
                as many as prompts.
        """
        if column not in votes.categories:
            there = did_you_mean(column, votes.categories) if votes.categories else "they have none at all"
            raise VotesError(f"the votes have no column of categories {column!r}; {there}")
        _, first = np.unique(votes.prompt, return_index=True)
        labels = np.char.strip(votes.categories[column][first].astype(str))
        blank = np.isin(np.char.lower(labels), _NONE)
        names, number = np.unique(labels[~blank], return_inverse=True)
        if not 2 <= len(names) <= min(MOST_CATEGORIES, (~blank).sum() / 2):
            found = "1 category" if len(names) == 1 else f"{len(names):,} categories"
            raise VotesError(
                f"the column {column!r} has {found} on {(~blank).sum():,} prompts; to teach what prompts have in "
                f"common, it takes 2 to {MOST_CATEGORIES:,}, of two prompts or more on the mean"
            )
        numbers = np.full(len(labels), -1)
        numbers[~blank] = number.reshape(-1)
        return cls(column, tuple(names.tolist()), numbers, recognised)

    def __str__(self) -> str:
        sizes = np.bincount(self.number[self.number >= 0])
        without = int((self.number < 0).sum())
        rest = f"; {without:,} prompts have none" if without else ""
        if self.recognised and len(self.names) > MOST_RECOGNISED:
            rest += f"; only the {MOST_RECOGNISED:,} largest are recognised"
        return f"{len(self.names):,} by {self.column!r}, of {sizes.min():,} to {sizes.max():,} prompts{rest}"
