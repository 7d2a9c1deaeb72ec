"""A table with two columns that name the LLMs of votes is not read as scores of the numbers beside them."""

import pytest

from p2l_sdk import Votes
from p2l_sdk.errors import VotesError

ROWS = [
    {"prompt": f"Question {i}", "response_a_model": a, "response_b_model": b, "rating_a": i % 5, "rating_b": 2}
    for i, (a, b) in enumerate([("x", "y"), ("y", "z"), ("z", "x"), ("x", "z")] * 3)
]


def test_a_rating_of_each_side_is_no_llm() -> None:
    with pytest.raises(VotesError) as error:
        Votes.read(ROWS)
    assert "'rating_a' and 'rating_b' look like a rating of each side" in str(error.value)
    options = "--column model_a=response_a_model --column model_b=response_b_model --column winner=NAME"
    assert options in str(error.value)


def test_unless_the_user_says_so() -> None:
    assert Votes.read(ROWS, ["rating_a", "rating_b"]).models == ("rating_a", "rating_b")


def test_a_column_of_costs_does_not_hide_votes_and_the_total_below_them_is_a_fault(tmp_path) -> None:
    lines = ["Prompt;Modell A;Modell B;Sieger;Kosten"]
    lines += [f"Frage {i};x;y;{'AB'[i % 2]};0,5" for i in range(8)] + [f"Bitte {i};y;x;A;0,5" for i in range(4)]
    file = tmp_path / "sheet.csv"
    file.write_text("\n".join([*lines, "Gesamt;12;;;6,0"]))
    with pytest.raises(VotesError) as error:
        Votes.read(file)
    assert "--column 'model_a=Modell A' --column 'model_b=Modell B' --column winner=Sieger" in str(error.value)
    assert "line 14: model_b is missing" in str(error.value)
