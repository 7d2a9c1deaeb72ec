"""Scores, and the votes that are made of them."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pandas
import pytest
from conftest import shared
from vote_tables import COLUMNS, SCORES, A, B, C, as_csv, seen

from p2l_sdk.errors import P2LWarning, VotesError
from p2l_sdk.votes.votes import WINNERS, Scores, Votes


def test_scores_become_votes(tmp_path):
    by_hand = [
        ("write a poem", A, B, "model_b", "poems"),
        ("write a poem", A, C, "both_bad", "poems"),  # they differ by 1e-7
        ("write a poem", B, C, "model_a", "poems"),
        ("sum list", A, B, "tie", "code"),  # both 0.5
        ("sum list", A, C, "model_b", "code"),
        ("sum list", B, C, "model_b", "code"),
    ]
    expected = Votes.read([dict(zip((*COLUMNS[:4], "task"), row, strict=True)) for row in by_hand])
    for source in (SCORES, as_csv(SCORES, tmp_path / "s.csv"), pandas.DataFrame(SCORES)):
        votes = Votes.read(source)
        assert seen(votes) == seen(expected)
        assert votes.models == (A, B, C)
        assert votes.prompts == ["write a poem", "sum list"]
    named = Votes.read(SCORES, [C, B])
    assert named.models == (C, B)
    assert named.a.tolist() == [0, 0]  # the first in models is side a
    assert named.winner.tolist() == [WINNERS["model_b"], WINNERS["model_a"]]


def test_a_missing_score_gives_no_vote():
    rows = [{**SCORES[0], B: None}, SCORES[1], {"prompt": "alone", "task": "code", A: float("nan"), C: 1.0}]
    votes = Votes.read(rows)
    assert votes.prompts == ["write a poem", "sum list"]  # nothing to compare on the third
    assert len(votes) == 4
    with pytest.raises(VotesError, match="row 1: the score of 'beta-13b' is None; it must be a finite number"):
        Scores.read(rows[:2])
    with pytest.raises(VotesError, match="row 3 has no column 'beta-13b'"):
        Scores.read([*SCORES, {"prompt": "alone", A: 0.5, C: 1.0}])
    scores = Scores.read(rows, allow_missing=True)
    assert np.isnan(scores.scores).sum() == 3
    assert seen(Votes.from_scores(scores)) == seen(votes)
    with pytest.raises(VotesError, match="no prompt has the scores of two LLMs"):
        Votes.read([{**SCORES[0], A: None, B: None}], [A, B])


@pytest.mark.parametrize("backend", ["numpy_nullable", "pyarrow"])
def test_a_score_that_is_missing_in_a_frame_of_nullable_numbers(backend):
    table = {"prompt": ["x", "y", "z"], A: [0.1, 0.2, 0.3], B: [None, 0.5, 0.75], C: [0.5, None, 1.0]}
    frame = pandas.DataFrame(table).convert_dtypes(dtype_backend=backend)
    with pytest.raises(VotesError, match="row 1: the score of 'beta-13b' is None; it must be a finite number"):
        Scores.read(frame)
    scores = Scores.read(frame, allow_missing=True)
    assert scores.models == (A, B, C)
    np.testing.assert_array_equal(scores.scores.T, [table[A], [np.nan, 0.5, 0.75], [0.5, np.nan, 1.0]])


def test_scores_that_are_no_shares():
    rows = [{"prompt": "x", A: 7, B: 3}, {"prompt": "y", A: 0, B: 0}]
    with pytest.warns(P2LWarning, match=r"outside \[0, 1\], so there is no threshold .*: equal scores are ties"):
        votes = Votes.read(rows)
    assert votes.winner.tolist() == [WINNERS["model_a"], WINNERS["tie"]]


@pytest.mark.parametrize(
    ("rows", "models", "message"),
    [
        ([], None, "the scores file is empty"),
        (
            [{"prompt": "x", "task": "y"}],
            None,
            r"no numeric column; it needs one for each LLM \(it has: prompt, task\)",
        ),
        ([{"prompt": "x", A: 1.0}], [A, B], "the scores file has no column 'beta-13b'"),
        ([{"prompt": " ", A: 1.0}], None, "row 1: the prompt is empty"),
        ([{A: 1.0}], None, "row 1 has no column 'prompt'"),
        ([SCORES[0], {**SCORES[1], A: math.inf}], None, "row 2: the score of 'alpha-7b' is inf"),
        ([SCORES[0], {**SCORES[1], A: "failed"}], None, "row 2: the score of 'alpha-7b' is 'failed'"),
    ],
)
def test_scores_that_break_the_contract(rows, models, message):
    for allow_missing in (False, True):
        with pytest.raises(VotesError, match=message):
            Scores.read(rows, models, allow_missing=allow_missing)


def test_one_llm_has_no_votes_and_bools_are_labels_unless_named():
    rows = [{"prompt": "x", A: 1.0, "right": True}, {"prompt": "y", A: 0.0, "right": True}]
    with pytest.raises(VotesError, match=r"of one LLM only \(alpha-7b\)"):
        Votes.read(rows)
    assert Scores.read(rows).categories["right"].tolist() == [True, True]
    assert Votes.read(rows, [A, "right"]).winner.tolist() == [WINNERS["tie"], WINNERS["model_b"]]


def test_votes_without_winner_are_no_scores():
    with pytest.raises(VotesError, match="row 1 has no column 'winner'"):
        Votes.read([{"prompt": "x", "model_a": A, "model_b": B, "tokens": 3}])


def test_real_scores_give_the_votes_that_were_made_of_them():
    """routing9: votes_val was derived elsewhere, in random order and on random sides."""
    scores = Scores.read(shared("data/routing9/scores_val.parquet"))
    votes = Votes.read(shared("data/routing9/votes_val.parquet"))

    def from_one_side(votes):
        swap = votes.a > votes.b
        winner = np.where(swap & (votes.winner < 2), 1 - votes.winner, votes.winner)
        pair = zip(np.minimum(votes.a, votes.b), np.maximum(votes.a, votes.b), winner, strict=True)
        return Counter((votes.prompts[p], *map(int, x)) for p, x in zip(votes.prompt, pair, strict=True))

    derived = Votes.read(shared("data/routing9/scores_val.parquet"))
    assert derived.models == votes.models == scores.models
    assert len(derived) == 36 * 450
    assert from_one_side(derived) == from_one_side(votes)
    assert derived.n_duplicates == votes.n_duplicates == 0
    assert len(set(derived.categories["task"])) == len(set(scores.categories["task"])) > 1
