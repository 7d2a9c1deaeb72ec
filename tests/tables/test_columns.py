"""What a cell may hold, and which columns label rows."""

from __future__ import annotations

import pandas
import pytest
from vote_tables import COLUMNS, ROWS, B

from p2l_sdk.errors import VotesError
from p2l_sdk.tables import sources
from p2l_sdk.votes.votes import Votes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"winner": "model_c"}, "row 2: winner is 'model_c'; legal values: model_a, model_b, tie, tie"),
        ({"winner": ["tie"]}, r"row 2: winner is \['tie'\]; legal values"),
        ({"model_b": B}, "row 2: 'beta-13b' is compared with itself"),
        ({"model_a": None}, "row 2: model_a is missing; it must be the name of an LLM"),
        ({"prompt": ""}, "row 2: the prompt is empty"),
        ({"prompt": []}, "row 2: the prompt is empty"),
        ({"prompt": ["", " "]}, "row 2: the prompt is empty; write"),
        ({"prompt": float("nan")}, "row 2: the prompt is empty, or neither"),
        ({"prompt": "a\ud800"}, "row 2: the prompt has a lone surrogate"),
        ({"prompt": [{"role": "poet", "content": "x"}]}, "row 2: message 0 has the role 'poet'"),
        ({"weight": -0.5}, "row 2: weight is -0.5; it must be a finite number >= 0"),
        ({"weight": float("inf")}, "row 2: weight is inf"),
        ({"weight": "much"}, "row 2: weight is 'much'"),
        ({"weight": None}, "row 2: weight is missing"),
    ],
)
def test_faults_name_the_row(change, message):
    rows = [ROWS[0], {**ROWS[1], **change}, *ROWS[2:]]
    with pytest.raises(VotesError, match=message):
        Votes.read(rows)


@pytest.mark.parametrize("column", ["prompt", "model_a", "model_b", "winner"])
def test_missing_columns_and_cells_are_named(column):
    without = [{k: v for k, v in row.items() if k != column} for row in ROWS]
    has = ", ".join(name for name in COLUMNS if name != column)
    with pytest.raises(VotesError, match=rf"^row 1 has no column '{column}' \(it has: {has}\)(;|\n|$)"):
        Votes.read(pandas.DataFrame(without))
    with pytest.raises(VotesError, match=rf"^row 3 has no column '{column}' \(it has: {has}\)\n  row 4 has.*\n  row 5"):
        Votes.read([*ROWS[:2], *without[2:]])


def test_categories_of_uneven_columns(monkeypatch):
    monkeypatch.setattr(sources, "_ROWS", 2)
    plain = [{name: row[name] for name in COLUMNS[:4]} for row in ROWS]
    extra = [
        {"late": None, "long": "short", "whole": 1, "some": True, "any": 1, "ratio": 1},
        {"late": None, "long": "x" * 201, "whole": 2, "any": "one", "ratio": 1},
        {"late": "now", "long": "short", "whole": 3, "some": None, "any": 2, "ratio": 1},
        {"late": "now", "long": "short", "whole": 4, "some": False, "any": 3, "ratio": 0.5},
        {"whole": 2**70, "any": 4, "ratio": 1, "list": ["x"], "__index_level_0__": 4},
    ]
    votes = Votes.read([{**row, **more} for row, more in zip(plain, extra, strict=True)])
    assert {name: column.tolist() for name, column in votes.categories.items()} == {
        "late": ["", "", "now", "now", ""],
        "whole": ["1", "2", "3", "4", str(2**70)],
        "some": ["True", "", "", "False", ""],
        "any": ["1", "one", "2", "3", "4"],
    }
    assert Votes.read(plain).categories == {}
