"""Checks that votes contain enough to learn from, made before torch is imported."""

from __future__ import annotations

import warnings

from p2l_sdk.errors import P2LWarning, VotesError
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner
from p2l_sdk.votes.votes import Votes

_FEW = 0.01  # share of the votes below which an outcome says too little


def choose_feedback(votes: Votes) -> tuple[Feedback, str]:
    """The feedback model that votes can be fitted with and that uses most of them, and why, in words: `grk` if enough
    of them are "both bad", `rk` if there are ties, else `bt`."""
    both_bad, ties = _share(votes, Winner.BOTH_BAD), _share(votes, Winner.TIE)
    if both_bad >= _FEW:
        return Feedback.GRK, f"{both_bad:.1%} of the votes are 'tie (bothbad)', {ties:.1%} are ties"
    few = f"only {both_bad:.2%} of the votes are 'tie (bothbad)'" if both_bad else "no vote is 'tie (bothbad)'"
    return Feedback(_without_ground(votes)), f"{few}, {f'{ties:.1%} are ties' if ties else 'none is a tie'}"


def check_prompts(votes: Votes) -> None:
    """Raise VotesError if all votes are on one prompt."""
    if len(votes.prompts) < 2:
        raise VotesError("all votes are on one prompt; a model that tells prompts apart needs at least two")


def check_ground(votes: Votes, feedback: Feedback) -> None:
    """Raise VotesError if the feedback model has the outcome "both bad", and no vote has it."""
    if Winner.BOTH_BAD in feedback.outcomes and _share(votes, Winner.BOTH_BAD) == 0:
        other = _without_ground(votes)
        raise VotesError(
            f"no vote is 'tie (bothbad)', so nothing says when an answer is usable, and {feedback} cannot be "
            f"fitted; use the feedback model {other!r} (--feedback {other})"
        )


def warn_of_thin_ground(votes: Votes, feedback: Feedback) -> None:
    """Warn where the votes hardly say what the feedback model is about.

    Warns:
        P2LWarning: hardly any vote is "both bad", or the feedback model has ties, and no vote is one.
    """
    both_bad = _share(votes, Winner.BOTH_BAD)
    if Winner.BOTH_BAD in feedback.outcomes:
        if both_bad < _FEW:
            other = _without_ground(votes)
            warnings.warn(
                f"only {both_bad:.1%} of the votes are 'tie (bothbad)', on which `usable` and the zero of the "
                f"coefficients rest; with so few, use the feedback model {other!r} (--feedback {other})",
                P2LWarning,
                stacklevel=3,
            )
    elif feedback.has_eta and both_bad == 0 and _share(votes, Winner.TIE) == 0:
        warnings.warn(
            f"no vote is a tie, so {feedback} learns that ties never happen; 'bt' needs no ties (--feedback bt)",
            P2LWarning,
            stacklevel=3,
        )


def _share(votes: Votes, winner: Winner) -> float:
    return float((votes.winner == winner).mean())


def _without_ground(votes: Votes) -> str:
    """The feedback model for these votes that needs no "both bad"."""
    return "rk" if _share(votes, Winner.TIE) else "bt"
