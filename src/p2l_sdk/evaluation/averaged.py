"""The averaged leaderboard of the training votes: the one leaderboard for all prompts that a model has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.votes.averaged import fit_bt, fit_leaderboard
from p2l_sdk.votes.counts import VoteCounts
from p2l_sdk.votes.votes import Votes


@dataclass(frozen=True, eq=False)
class Averaged:
    """The averaged leaderboard, fitted twice.

    The coefficients of a feedback model with ties are not those that predict decisive votes best: those are of a
    Bradley-Terry fit, which is the fair baseline for the metrics of sigmoid(coef_a - coef_b).

    Attributes:
        board: the fit in the feedback model of the model that is measured.
        bt: the Bradley-Terry fit; None if no vote is decisive, or if only `board` is known.
    """

    board: Leaderboard
    bt: Leaderboard | None = None

    @classmethod
    def of(cls, source: Votes | VoteCounts | Leaderboard | Averaged, feedback: Feedback) -> Averaged:
        """Fit both to votes or their counts; of a leaderboard, which is taken as it is, there is no other fit.

        Raises:
            VotesError: no vote counts in this feedback model.

        Warns:
            P2LWarning: the votes do not determine the leaderboard.
        """
        if isinstance(source, Averaged):
            return source
        if isinstance(source, Leaderboard):
            return cls(source, source if source.feedback is Feedback.BT else None)
        counts = VoteCounts.of(source) if isinstance(source, Votes) else source
        board = fit_leaderboard(counts, feedback, intervals=None)
        return cls(board, fit_bt(counts, board))


AveragedSource = Votes | VoteCounts | Leaderboard | Averaged
