"""Checks that votes contain enough to learn from, made before torch is imported."""

from __future__ import annotations

from p2l_sdk.errors import VotesError
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner
from p2l_sdk.votes import Votes


def check_ground(votes: Votes, feedback: Feedback) -> None:
    """Raise VotesError if the feedback model has the outcome "both bad" and no vote has it."""
    if Winner.BOTH_BAD in feedback.outcomes and not (votes.winner == Winner.BOTH_BAD).any():
        raise VotesError(
            f"no vote is 'tie (bothbad)', so nothing says when an answer is usable, and {feedback} cannot be fitted; "
            "use feedback 'rk' (or 'bt_tie', 'bt')"
        )
