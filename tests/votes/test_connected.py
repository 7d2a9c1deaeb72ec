"""What votes leave open: groups of LLMs, thresholds; the ridge that then sets it, and the warning."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from drawn_votes import simulated, widths
from vote_tables import A, B, C, D, columns

from p2l_sdk import fit_leaderboard
from p2l_sdk.errors import P2LWarning
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.votes.connected import undetermined
from p2l_sdk.votes.counts import VoteCounts
from p2l_sdk.votes.votes import Votes


def warning_of(votes, feedback="bt", **options) -> tuple[str, Leaderboard]:
    with pytest.warns(P2LWarning) as caught:
        board = fit_leaderboard(votes, feedback, **options)
    assert caught[0].filename == __file__
    assert np.isfinite(board.coefs).all()
    assert np.isfinite(board.intervals).all()
    return str(caught[0].message), board


@pytest.mark.parametrize("kind", ["sandwich", "hessian", "bootstrap"])
def test_groups_that_never_meet_are_named(kind):
    both = [(x, y, w) for x, y in ((A, B), (C, D)) for w in ("model_a", "model_a", "model_b")]
    message, board = warning_of(columns(*both, times=50), intervals=kind)
    assert f"2 groups that are never compared, not even through others: [{A}, {B}], [{D}, {C}]" in message
    assert "never lost" not in message
    assert abs(board.win_probability(A, B) - 2 / 3) < 1e-3  # within a group the ridge has hardly any effect
    assert (widths(board) > 10).all()  # between groups nothing is known


def test_llms_that_only_win_or_lose_are_named_best_first():
    votes = [(A, B, "model_a"), (B, C, "model_a"), (B, C, "model_b"), (C, D, "model_a")]
    message, board = warning_of(columns(*votes, times=20))
    assert "3 groups whose members never lost (or never won) against the others" in message
    assert f"best first: [{A}], [{B}, {C}], [{D}]" in message
    assert board.ranking[0] == A
    assert board.ranking[-1] == D
    assert abs(board.win_probability(B, C) - 0.5) < 3e-3


def test_a_tie_connects_where_ties_count():
    votes = columns((A, B, "model_a"), (A, B, "tie"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_leaderboard(votes, "bt_tie")
        fit_leaderboard(votes, "rk")
    assert f"best first: [{A}], [{B}]" in warning_of(votes, "bt")[0]


@pytest.mark.parametrize("kind", ["sandwich", "hessian", "bootstrap"])
@pytest.mark.parametrize("feedback", ["rk", "rk_reparam"])
def test_ties_alone_leave_the_threshold_open(feedback, kind):
    """Any difference of two LLMs explains six ties, if the threshold is high enough."""
    message, board = warning_of(columns((A, B, "tie"), times=6), feedback, intervals=kind, replicates=50)
    assert (
        "LLMs: no vote is decisive, which leaves the threshold of a tie, and the scale of the coefficients" in message
    )
    assert "groups" not in message
    np.testing.assert_allclose(board.coefs, 0, atol=1e-4)
    assert (widths(board) > 10).all()
    decided = columns((A, B, "model_a"), (A, B, "model_b"), *[(A, B, "tie")] * 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (widths(fit_leaderboard(decided, feedback, intervals=kind, replicates=50)) < 10).all()


@pytest.mark.parametrize(
    ("feedback", "coef", "limits"),
    [
        ("rk", -0.20256491861, (-0.52169140991, 0.11656157269)),
        ("rk_reparam", 0.45131457952, (0.09193112145, 0.81069803758)),
        ("ba", 0.34269315781, (0.02400598796, 0.66138032768)),
    ],
)
def test_votes_that_determine_everything_need_no_ridge(feedback, coef, limits):
    """To the digits that were there before ties alone were told."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        board = fit_leaderboard(simulated(Feedback(feedback), 300, np.random.default_rng(7)), feedback)
    assert board.coefs[0] == pytest.approx(coef, abs=1e-9)
    assert board.intervals[0] == pytest.approx(limits, abs=1e-9)


def test_the_ground_is_a_contestant():
    """Without a "both bad" nothing holds the coefficients down; with some, groups that never meet are comparable."""
    message, _ = warning_of(columns((A, B, "model_a"), (A, B, "model_b")), "grk")
    assert "no vote is 'tie (bothbad)', which leaves the threshold of a usable answer open" in message
    assert "groups" not in message
    message, _ = warning_of(columns((A, B, "model_a"), (C, D, "model_a"), (C, D, "model_b")), "grk")
    assert "no vote is 'tie (bothbad)'" in message
    assert "2 groups that are never compared" in message
    votes = [(x, y, w) for x, y in ((A, B), (C, D)) for w in ("model_a", "model_b", "tie", "both_bad")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        board = fit_leaderboard(columns(*votes), "grk")
    np.testing.assert_allclose(board.coefs, board.coefs[0], atol=1e-6)


def test_an_llm_of_the_list_that_has_no_vote_is_named():
    rows = [{"prompt": "x", "model_a": A, "model_b": B, "winner": w} for w in ("model_a", "model_b")]
    message, board = warning_of(Votes.from_rows(rows, [A, B, C]))
    assert f"[{A}, {B}], [{C}]" in message
    assert board.models == (A, B, C)


def test_long_lists_are_cut():
    votes = [(f"m{i:02}", f"m{i + 1:02}", "model_a") for i in range(0, 40, 2)]
    message, _ = warning_of(columns(*votes))
    assert "and 12 more" in message
    assert len(message) < 1_000


def test_extreme_votes_still_converge():
    for feedback in Feedback:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for votes in (
                columns((A, B, "model_a")),
                columns((A, B, "model_a"), (B, C, "model_a"), times=10_000),
                {**columns((A, B, "model_a"), (A, B, "model_b")), "weight": [1e9, 1.0]},
                columns((A, B, "model_a"), (C, D, "both_bad"), (C, B, "tie")),
            ):
                assert np.isfinite(fit_leaderboard(votes, feedback).intervals).all()


def test_limits_of_the_threshold():
    """No tie: Rao-Kupper is Bradley-Terry. Ties alone: all are equal."""
    votes = columns((A, B, "model_a"), (A, B, "model_b"), (B, C, "model_a"), (C, A, "model_a"), (A, C, "model_a"))
    plain = fit_leaderboard(votes, "bt")
    for feedback in ("rk", "rk_reparam"):
        board = fit_leaderboard(votes, feedback)
        np.testing.assert_allclose(board.coefs - board.coefs.mean(), plain.coefs, atol=1e-5)
        np.testing.assert_allclose(board.rating_intervals, plain.rating_intervals, rtol=1e-3)
    _, ties = warning_of(columns((A, B, "tie"), (B, C, "tie")), "rk")
    np.testing.assert_allclose(ties.coefs, 0, atol=1e-4)


def test_llms_without_a_vote_are_counted_not_listed():
    rows = [{"prompt": "q", "model_a": "x", "model_b": "y", "winner": side} for side in ("model_a", "model_b")]
    others = [f"llm-{i:02}" for i in range(20)]
    found = undetermined(VoteCounts.of(Votes.read(rows, ["x", "y", *others])), Feedback.BT)
    listed = ", ".join(others[:8])
    assert found.endswith(f"of all LLMs: 20 of 22 LLMs are in no vote ({listed} and 12 more)")
    rows += [{**row, "model_a": "v", "model_b": "w"} for row in rows]
    found = undetermined(VoteCounts.of(Votes.read(rows, ["v", "w", "x", "y", *others])), Feedback.BT)
    assert "12 more); they fall into 2 groups that are never compared" in found
