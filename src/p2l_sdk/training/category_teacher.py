"""A teacher that the votes bring along: the averaged leaderboard of each category of prompts.

Where people have said what a prompt is about (a subject, a task, a language), the votes on all prompts of its category
tell more of it than its own few do. Their averaged leaderboard is taught as any teacher's is, so the model learns to
recognise the category from the prompt alone: new prompts need no label.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from p2l_sdk.errors import ConvergenceError, P2LWarning, VotesError
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.training.categories import Categories
from p2l_sdk.training.listener import Listener, tracked
from p2l_sdk.training.teacher import MOST_PAIRS, chances, taught
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.votes import Votes

_OTHERS = 20.0  # prompts: what all other categories together count for in the leaderboard of one


def category_lessons(
    votes: Votes,
    column: str,
    feedback: Feedback,
    weight: float,
    groups: np.ndarray | None = None,
    *,
    pairs: int = MOST_PAIRS,
    seed: int = 0,
    listener: Listener | None = None,
) -> Votes:
    """The outcome probabilities of each prompt's category, as votes with fractional weights; see `teacher.lessons`.

    The leaderboard of a category is fitted to its votes and, together as heavy as 20 prompts, those of all others: a
    category of few prompts is close to the averaged leaderboard of all.

    Args:
        votes: the votes that a model is trained on.
        column: the column of `votes.categories` that holds the labels; a prompt with several has that of its first
            vote, and one without a label is taught nothing.
        feedback: the feedback model of the student.
        weight: as in `teacher.lessons`.
        groups: `(n_prompts,)` the group of each prompt. What is taught on a prompt rests on votes of its own group
            alone, so that a model can be measured on one group after it learned from the others.
        pairs, seed: as in `teacher.lessons`.
        listener: is told of the progress.

    Returns:
        Votes with the prompts and the LLMs of `votes`, in their order.

    Raises:
        VotesError: there is no such column, or it has fewer than 2 or more than 1,000 categories, or more than half as
            many as prompts.
    """
    category = Categories.of(votes, column).number
    groups = np.zeros(len(votes.prompts), dtype=np.int64) if groups is None else np.asarray(groups)
    cells, cell = np.unique(np.stack([groups, category], 1), axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    boards = [
        _board(votes, groups == group, (groups == group) & (category == label), feedback) if label >= 0 else None
        for group, label in tracked(cells.tolist(), "fitting the categories", listener or Listener())
    ]
    known = np.array([board is not None for board in boards])
    blank = np.zeros(len(votes.models))
    found = Coefficients(
        np.stack([blank if board is None else board.coefs for board in boards]),
        _scalars(boards, "eta") if feedback.has_eta else None,
        _scalars(boards, "gamma") if feedback.has_gamma else None,
    )

    def say(rows: slice, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        said = chances(feedback, found[cell[rows]], a, b)
        return said * known[cell[rows], None, None]

    return taught(votes, say, weight, pairs=pairs, seed=seed, listener=listener)


def _board(votes: Votes, group: np.ndarray, members: np.ndarray, feedback: Feedback) -> Leaderboard | None:
    """The leaderboard of the member prompts, with a little of the rest of their group; None if it cannot be fitted."""
    inside = members[votes.prompt]
    rows = group[votes.prompt]
    rest = votes.weight[rows & ~inside].sum()
    share = min(1.0, _OTHERS * votes.weight[rows].sum() / (group.sum() * rest)) if rest > 0 else 0.0
    mixed = replace(votes, weight=np.where(inside, 1.0, share) * votes.weight).subset(group)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", P2LWarning)  # what all votes leave open is told once, elsewhere
            return fit_leaderboard(mixed, feedback, intervals=None)
    except (VotesError, ConvergenceError):
        return None


def _scalars(boards: list[Leaderboard | None], name: str) -> np.ndarray:
    values = [None if board is None else getattr(board, name) for board in boards]
    return np.array([[0.0 if value is None else float(np.asarray(value).item())] for value in values])
