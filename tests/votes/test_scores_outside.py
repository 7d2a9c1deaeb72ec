"""Scores outside [0, 1]: named by row, LLM and value, then clipped, rescaled or dropped as the user says."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from p2l_sdk.errors import P2LError, P2LWarning
from p2l_sdk.votes.scores_outside import Outside, OutsideScores
from p2l_sdk.votes.votes import WINNERS, Scores, Votes

WIDE = [
    {"prompt": "x", "good": 1.0, "poor": 0.25},
    {"prompt": "y", "good": 0.5, "poor": -0.033},
    {"prompt": "z", "good": 0.0, "poor": 0.0},
]
NAMED = r"row 2: the score of 'poor' is -0\.033, the only one of 6 scores outside \[0, 1\]"


@pytest.mark.parametrize(
    ("outside", "said", "expected"),
    [
        ("clip", "; it was clipped to the nearer end", [[1.0, 0.25], [0.5, 0.0], [0.0, 0.0]]),
        (
            "Rescale",
            r"; all scores were rescaled from \[-0\.033, 1\] to \[0, 1\]",
            [[1.0, 0.283 / 1.033], [0.533 / 1.033, 0.0], [0.033 / 1.033, 0.033 / 1.033]],
        ),
        (Outside.DROP, "; it was dropped, as if missing", [[1.0, 0.25], [0.5, math.nan], [0.0, 0.0]]),
    ],
)
def test_what_is_done_is_what_was_asked_for_and_is_said(outside, said, expected):
    with pytest.warns(P2LWarning, match=NAMED + said):
        scores = Scores.read(WIDE, ["good", "poor"], outside=outside)
    np.testing.assert_allclose(scores.scores, expected)
    assert scores.outside == OutsideScores(1, 6, 2, "poor", -0.033, -0.033, 1.0, Outside(str(outside).lower()))
    with pytest.warns(P2LWarning, match=NAMED + said):
        votes = Votes.read(WIDE, ["good", "poor"], scores_outside=outside)
    equal = "tie (bothbad)"  # 0 and 0: there is a threshold again
    rescaled_or_clipped = [WINNERS["model_a"], WINNERS["model_a"], WINNERS[equal]]
    assert votes.winner.tolist() == ([WINNERS["model_a"], WINNERS[equal]] if "drop" in said else rescaled_or_clipped)


def test_what_was_not_asked_for_is_not_done_but_named():
    scores = Scores.read(WIDE)
    assert scores.scores[1].tolist() == [0.5, -0.033]
    assert (scores.outside.n, scores.outside.row, scores.outside.model, scores.outside.done) == (1, 2, "poor", None)
    assert scores.outside.outcome.endswith("it was kept: clip, rescale or drop such scores with scores_outside "
                                           "(--scores-outside)")  # fmt: skip
    with pytest.warns(P2LWarning, match=NAMED + r", so there is no threshold .*\(--scores-outside\)"):
        votes = Votes.read(WIDE)
    assert votes.winner[-1] == WINNERS["tie"]
    assert Scores.read(WIDE[::2], outside="clip").outside is None
    json.dumps(scores.outside.to_dict())


def test_ratings_from_one_to_ten_are_rescaled_by_their_highest():
    rows = [{"prompt": "x", "a": 10, "b": 5}, {"prompt": "y", "a": 1, "b": 2}]
    with pytest.warns(P2LWarning, match=r"'a' is 10, and 3 of 4 scores are outside .* rescaled from \[0, 10\]"):
        scores = Scores.read(rows, outside="rescale")
    np.testing.assert_allclose(scores.scores, [[1.0, 0.5], [0.1, 0.2]])


def test_a_long_table_names_its_own_row(tmp_path):
    rows = [
        {"prompt": "x", "model": "a", "score": 0.5},
        {"prompt": "x", "model": "b", "score": 0.5},
        {"prompt": "y", "model": "a", "score": 1.0},
        {"prompt": "y", "model": "b", "score": 1.5},
    ]
    file = tmp_path / "scores.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.warns(P2LWarning, match="line 4: the score of 'b' is 1.5, the only one of 4"):
        assert Scores.read(file, outside="clip").scores[1].tolist() == [1.0, 1.0]


def test_an_unknown_choice_is_refused_before_anything_is_read():
    for read in (lambda: Scores.read(WIDE, outside="cut"), lambda: Votes.read(WIDE, scores_outside="cut")):
        with pytest.raises(P2LError, match="unknown scores_outside 'cut'; known: clip, rescale, drop"):
            read()
