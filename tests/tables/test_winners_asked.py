"""Winners of marks and of texts, and mappings that a message proposes: never a wrong one, never a crash."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2l_sdk.errors import VotesError
from p2l_sdk.modeling.feedback_p2l import Winner
from p2l_sdk.tables.winners import likely
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.votes import Votes

A, B, TIE, BAD = Winner


def table(winners):
    n = len(winners)
    return {
        "prompt": [f"p{i}" for i in range(n)],
        "model_a": [("gpt", "claude")[i % 2] for i in range(n)],
        "model_b": [("llama", "gpt")[i % 2] for i in range(n)],
        "winner": winners,
    }


def proposed(message):
    return dict(option.rpartition("=")[::2] for option in shlex.split(message) if option.endswith(("?", "model_a",
                "model_b", "tie", "both_bad")) and "=" in option)  # fmt: skip


MARKS = [(">", "<", "="), (">>", "<<", "=="), ("+", "-", "="), ("!", "?", "."), ("A>B", "B>A", "A=B")]


@pytest.mark.parametrize("marks", MARKS)
@pytest.mark.parametrize("skip", [False, True])
def test_winners_of_marks_alone_are_asked_for(marks, skip):
    with pytest.raises(VotesError) as caught:
        Votes.read(table(list(marks) * 4), skip_invalid=skip)
    found = proposed(str(caught.value))
    right = dict(zip(marks, ("model_a", "model_b", "tie"), strict=True))
    assert found.keys() == right.keys()
    assert all(meaning in ("?", right[mark]) for mark, meaning in found.items())
    assert Votes.read(table(list(marks) * 4), winners=right).winner.tolist() == [A, B, TIE] * 4


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("<>=+-!?.#*/ ", max_size=3), min_size=1, max_size=8), st.booleans())
def test_no_winner_ends_in_a_traceback(winners, skip):
    with pytest.raises(VotesError):
        Votes.read(table(winners), skip_invalid=skip)


@pytest.mark.parametrize(
    "words",
    [
        ("100", "0", "50"), ("better", "worse", "equal"), ("yes", "no"), ("0", "1", "2"), ("1", "0"), ("-1", "1"),
        ("good", "bad"), ("A is worse", "not B"), ("left loses", "right lost"), ("->", "<-"), ("none", "all"),
        ("neither", "57"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_left_open(words):
    assert {likely(word, words) for word in words if word != "equal"} == {"?"}


def test_the_sum_below_a_table_is_a_faulty_row_and_no_tie():
    rows = table(["model_a", "model_b"] * 30)
    rows = {name: [*column, {"prompt": "Total", "winner": "57"}.get(name, "")] for name, column in rows.items()}
    with pytest.raises(VotesError) as caught:
        Votes.read(rows)
    assert "57=" not in str(caught.value)
    assert len(Votes.read(rows, skip_invalid=True)) == 60


def test_an_open_mapping_says_that_it_has_to_be_filled_in():
    with pytest.raises(VotesError, match=r"--winner '1=\?' --winner '0=\?' .*\n  for each \? write an outcome"):
        Votes.read(table(["1", "0"] * 5))


def test_long_texts_are_no_spellings_of_the_winner():
    answers = [f"Here is a poem about the number {i}, as you wanted it: " + "la " * 200 for i in range(20)]
    for columns in (table(answers), {**table(answers), "rejected": answers[::-1]}):
        with pytest.raises(VotesError, match=r"winner holds texts .*not outcomes: they may be answers") as caught:
            Votes.read(columns)
        assert len(str(caught.value)) < 600


def test_an_empty_winner_is_what_it_is_said_to_be():
    rows = table(["model_a", "", None, " ", "model_b", float("nan")])
    for key in ("", None):
        votes = Votes.read(rows, winners={key: "tie"})
        assert votes.winner.tolist() == [A, TIE, TIE, TIE, B, TIE]
    assert len(Votes.read(rows, winners={"": "skip"})) == 2
    with pytest.raises(VotesError, match="winner is missing"):
        Votes.read(rows)


def test_spellings_and_renames_that_do_not_occur_are_said():
    rows = table(["model_a", "Unklar", "tie"])
    with pytest.warns(match=r"winner: 'unklarr' \(did you mean 'Unklar'\?\) is not a spelling"):
        Votes.read(rows, winners={"Unklarr": "tie", "Unklar": "tie"})
    with pytest.warns(match=r"rename: 'claud' \(did you mean 'claude'\?\) is not an LLM of the table"):
        Votes.read(rows, rename={"claud": "x"}, skip_invalid=True)
    scores = [{"prompt": "p", "gpt": 1.0, "llama": 0.5}]
    with pytest.warns(match=r"rename: 'lama' \(did you mean 'llama'\?\)"):
        Votes.read(scores, rename={"lama": "x"})
    with pytest.raises(VotesError, match=r"no column 'gtp'.*did you mean 'gpt'"):
        Votes.read(scores, ["gtp", "llama"])


def test_a_column_alone_is_no_table():
    import numpy
    import pandas
    import pyarrow

    from p2l_sdk.mpg.results import Results
    from p2l_sdk.tables.sources import TableError
    from p2l_sdk.votes.votes import Scores

    frame = pandas.DataFrame(table(["model_a", "tie"]))
    columns = [frame.winner, frame.winner.array, frame.winner.to_numpy(), pyarrow.array(["a"]), frame.columns,
               pyarrow.chunked_array([["tie"]]), numpy.array([1.0, 2.0]), pandas.Series([1, 2]), frame.winner.str,
               frame.winner.astype("category"), ["model_a", "tie"],
               pandas.Series(pandas.Timestamp("2024-01-01"))]  # fmt: skip
    for column in columns:
        for read in (Votes.read, Scores.read, Results.read, fit_leaderboard):
            with pytest.raises(TableError, match=r"frame"):
                read(column)
