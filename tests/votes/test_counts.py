"""Votes as counts: every kind of table counts alike; tables that are refused."""

from __future__ import annotations

import csv

import numpy as np
import pandas
import pyarrow
import pytest
from drawn_votes import simulated
from vote_tables import A, B, C, columns

from p2l_sdk import fit_leaderboard
from p2l_sdk.errors import VotesError
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner
from p2l_sdk.votes.counts import VoteCounts
from p2l_sdk.votes.votes import Votes


def test_all_kinds_of_tables_count_alike(tmp_path, rng):
    votes = {**simulated(Feedback.GRK, 300, rng), "weight": rng.uniform(size=300)}
    lists = {name: column.tolist() for name, column in votes.items()}
    frame = pandas.DataFrame(lists)
    arrow = pyarrow.table(lists)
    with (tmp_path / "votes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", *votes])
        writer.writerows(zip(["x"] * 300, *lists.values(), strict=True))
    rows = [{"prompt": "x", **dict(zip(lists, row, strict=True))} for row in zip(*lists.values(), strict=True)]
    encoded = {name: arrow[name].dictionary_encode() if name != "weight" else arrow[name] for name in lists}
    kinds = [
        lists,
        {name: np.array(column, dtype=object if name != "weight" else None) for name, column in lists.items()},
        frame,
        frame.astype(dict.fromkeys(("model_a", "model_b", "winner"), object)),
        frame.astype(dict.fromkeys(("model_a", "model_b", "winner"), "category")),
        arrow,
        arrow.slice(0, 300),
        pyarrow.concat_tables([arrow.slice(0, 100), arrow.slice(100)]),
        pyarrow.table(encoded),
        pyarrow.concat_tables([pyarrow.table(encoded).slice(0, 7), pyarrow.table(encoded).slice(7)]),
        tmp_path / "votes.csv",
        str(tmp_path / "votes.csv"),
        Votes.from_rows(rows),
    ]
    expected = VoteCounts.of(votes)
    assert expected.number.sum() == 300
    assert expected.square.sum() == pytest.approx(np.square(votes["weight"]).sum())
    for kind in kinds:
        counts = VoteCounts.of(kind)
        assert counts.models == expected.models
        for name in ("number", "weight", "square"):
            np.testing.assert_allclose(getattr(counts, name), getattr(expected, name), rtol=1e-12)


def test_counts_by_hand():
    counts = VoteCounts.of({**columns((B, A, "model_a"), (A, B, "Model_A "), (A, B, "both_bad")), "weight": [2, 3, 0]})
    assert counts.models == (A, B)
    assert counts.number.tolist() == [[1, 1, 0, 0]]
    assert counts.weight.tolist() == [[3, 2, 0, 0]]
    assert counts.square.tolist() == [[9, 4, 0, 0]]


def test_values_of_a_dictionary_that_do_not_occur_are_no_llms():
    column = pandas.Categorical([A, A], categories=[A, B, C])
    votes = {"model_a": pandas.Series(column), "model_b": [B, B], "winner": ["model_a", "model_b"]}
    assert fit_leaderboard(votes).models == (A, B)


def test_ties_do_not_count_in_bradley_terry():
    votes = columns((A, B, "model_a"), (A, B, "model_b"), (A, B, "tie"))
    assert fit_leaderboard(votes, "bt").n_votes == 2
    board = fit_leaderboard(votes, "bt_tie")
    assert board.n_votes == 3
    assert "on 3 votes (bt_tie)" in repr(board)
    assert "on 3 votes (bt_tie)" in board._repr_html_()
    assert board.to_dict()["n_votes"] == 3
    assert "n_prompts" not in board.to_dict()


GOOD = columns((A, B, "model_a"), (B, A, "model_a"), (A, C, "tie"))


@pytest.mark.parametrize("kind", ["lists", "arrays", "pandas", "categories", "arrow"])
@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("winner", 2, "model_c", "row 3: winner is 'model_c'; legal values: model_a, model_b, tie"),
        ("winner", 1, None, "row 2: winner is missing"),
        ("model_a", 1, None, "row 2: model_a is missing"),
        ("model_b", 0, "", "row 1: model_b is missing; it must be the name of an LLM"),
        ("model_b", 0, A, f"row 1: '{A}' is compared with itself"),
    ],
)
def test_bad_rows_are_named(kind, column, row, value, message):
    votes = {name: list(values) for name, values in GOOD.items()}
    votes[column][row] = value
    make = {
        "lists": lambda: votes,
        "arrays": lambda: {name: np.array(values, dtype=object) for name, values in votes.items()},
        "pandas": lambda: pandas.DataFrame(votes),
        "categories": lambda: pandas.DataFrame(votes, dtype="category"),
        "arrow": lambda: pyarrow.table(votes),
    }
    with pytest.raises(VotesError, match=message):
        fit_leaderboard(make[kind]())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": [1, -1, 1]}, "row 2: weight is -1.0; it must be a finite number >= 0"),
        ({"weight": [1, 1, float("nan")]}, "row 3: weight is missing; it must be a finite number >= 0"),
        ({"weight": [float("inf"), 1, 1]}, "row 1: weight is inf"),
        ({"weight": ["x", 1, 1]}, "row 1: weight is 'x'; it must be a finite number >= 0"),
        ({"weight": [0, 0, 0]}, "no vote counts: all weights are 0"),
        ({"weight": [1, 1]}, "columns differ in length: model_a 3, model_b 3, winner 3, weight 2"),
        ({"model_a": [A]}, "columns differ in length: model_a 1, model_b 3, winner 3"),
        ({"model_a": [A, 7, A]}, "row 2: model_a is 7; it must be the name of an LLM"),
        ({"model_a": [A, [B], A]}, rf"row 2: model_a is \['{B}'\]; it must be the name of an LLM"),
        ({"model_a": [], "model_b": [], "winner": []}, "the table holds no votes"),
        ({"winner": ["tie"] * 3}, "all are ties, which say nothing in bt"),
    ],
)
def test_bad_tables_are_refused(change, message):
    with pytest.raises(VotesError, match=message):
        fit_leaderboard({**GOOD, **change})


def test_what_is_no_table_of_votes_is_refused():
    with pytest.raises(VotesError, match=r"row 1 has no column 'winner' \(it has: model_a, model_b\)"):
        fit_leaderboard({name: GOOD[name] for name in ("model_a", "model_b")})
    with pytest.raises(VotesError, match=r"votes and scores are read from .*; not from int"):
        fit_leaderboard(3)
    with pytest.raises(VotesError, match=r"no such file: 'nothing\.csv'"):
        fit_leaderboard("nothing.csv")
    by_hand = Votes(["x"], (A, B), *(np.array([x]) for x in (0, 0, 5, Winner.A)), np.ones(1))
    with pytest.raises(VotesError, match="row 1: model_b is no number from 0 to 1"):
        fit_leaderboard(by_hand)
