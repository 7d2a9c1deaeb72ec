"""Checks that votes contain enough to learn from, made before torch is imported."""

from __future__ import annotations

import warnings

from p2l_sdk.errors import P2LWarning, VotesError
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner
from p2l_sdk.votes.votes import Votes

_FEW = 0.01  # share of the votes below which an outcome says too little


def check_ground(votes: Votes, feedback: Feedback) -> None:
    """Check that the votes have the outcomes that the feedback model is about.

    Raises:
        VotesError: the feedback model has the outcome "both bad", and no vote has it.

    Warns:
        P2LWarning: hardly any vote is "both bad", or the feedback model has ties, and no vote is one.
    """
    both_bad, tied = float((votes.winner == Winner.BOTH_BAD).mean()), bool((votes.winner == Winner.TIE).any())
    other = "rk" if tied else "bt"
    if Winner.BOTH_BAD in feedback.outcomes:
        if both_bad == 0:
            raise VotesError(
                f"no vote is 'tie (bothbad)', so nothing says when an answer is usable, and {feedback} cannot be "
                f"fitted; use the feedback model {other!r} (--feedback {other})"
            )
        if both_bad < _FEW:
            warnings.warn(
                f"only {both_bad:.1%} of the votes are 'tie (bothbad)', on which `usable` and the zero of the "
                f"coefficients rest; with so few, use the feedback model {other!r} (--feedback {other})",
                P2LWarning,
                stacklevel=3,
            )
    elif feedback.has_eta and not tied and both_bad == 0:
        warnings.warn(
            f"no vote is a tie, so {feedback} learns that ties never happen; 'bt' needs no ties (--feedback bt)",
            P2LWarning,
            stacklevel=3,
        )
