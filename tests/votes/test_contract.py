"""One contract of a row, whichever way it is read: `Votes.read` and `fit_leaderboard` say the same of the same rows."""

from __future__ import annotations

import math
import re
from pathlib import Path

import datasets
import numpy as np
import pandas
import pyarrow
import pytest
from pyarrow import parquet
from vote_tables import A, B, C, as_csv, as_jsonl, columns_of

from p2l_sdk import fit_leaderboard
from p2l_sdk.errors import VotesError
from p2l_sdk.tables import sources
from p2l_sdk.votes.counts import VoteCounts
from p2l_sdk.votes.votes import Votes

NAN = math.nan
COLUMNS = ("prompt", "model_a", "model_b", "winner", "weight")
TABLE = [
    ("write a poem", A, B, "model_a", 1.0),
    ("write a poem", B, C, "model_b", 2.0),
    ("sum list", C, A, "tie", 0.5),
    ("sum list", A, B, "tie (bothbad)", 1.0),
    ("sum list", B, A, "model_a", 1.0),
]
ROWS = [dict(zip(COLUMNS, row, strict=True)) for row in TABLE]
WORDS = ("model_a", "model_b", "winner")


def as_parquet(rows, path):
    parquet.write_table(pyarrow.table(columns_of(rows)), path)
    return path


FORMS = {
    "list": lambda rows, tmp: rows,
    "iterator": lambda rows, tmp: iter(rows),
    "columns": lambda rows, tmp: columns_of(rows),
    "arrays": lambda rows, tmp: {k: np.array(v, dtype=object) for k, v in columns_of(rows).items()},
    "frame": lambda rows, tmp: pandas.DataFrame(rows),
    "objects": lambda rows, tmp: pandas.DataFrame(rows, dtype=object),
    "categories": lambda rows, tmp: pandas.DataFrame(rows).astype(
        {name: "category" for name in WORDS if name in rows[0]}
    ),
    "arrow": lambda rows, tmp: pyarrow.table(columns_of(rows)),
    "batches": lambda rows, tmp: pyarrow.table(columns_of(rows)).to_reader(2),
    "dataset": lambda rows, tmp: datasets.Dataset.from_dict(columns_of(rows)),
    "csv": lambda rows, tmp: as_csv(rows, tmp / "v.csv"),
    "jsonl": lambda rows, tmp: as_jsonl(rows, tmp / "v.jsonl"),
    "parquet": lambda rows, tmp: as_parquet(rows, tmp / "v.parquet"),
}
TYPED = ("arrow", "batches", "dataset", "parquet", "frame", "categories")  # a column of these has values of one type


def can_hold(kind, column, value):
    """Whether the value can stand in this form beside those of ROWS."""
    if value is None or isinstance(value, str if column in WORDS else int | float):
        return True
    if kind in ("frame", "categories") and isinstance(value, float):  # NaN, as pandas writes a missing string
        return True
    return kind not in TYPED and (kind != "csv" or isinstance(value, str))


@pytest.fixture(params=list(FORMS))
def form(request, tmp_path, monkeypatch):
    """Writes rows in one of the forms; a reader in chunks reads them two at a time."""
    monkeypatch.setattr(sources, "_ROWS", 2)
    make = FORMS[request.param]
    return lambda rows: make(rows, tmp_path), request.param


def place(kind, row):
    """The place of a row, from 1, as the file counts it: a CSV file has a header."""
    return f"line {row + (kind == 'csv')}" if kind in ("csv", "jsonl") else f"row {row}"


def counted(votes):
    counts = VoteCounts.of(votes)
    return counts.models, counts.number.tolist(), counts.weight.tolist(), counts.square.tolist()


def without(rows, *names):
    return [{name: value for name, value in row.items() if name not in names} for row in rows]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"winner": " Model_A "},
        {"winner": "TIE"},
        {"winner": "Both_Bad"},
        {"weight": 0.0},
        {"model_a": "nan"},
        {"model_b": " gamma"},
    ],
)
def test_good_rows_count_alike(form, change):
    make, _ = form
    rows = [*ROWS[:3], {**ROWS[3], **change}, ROWS[4]]
    expected = counted(Votes.read(rows))
    assert counted(Votes.read(make(rows))) == expected
    assert counted(make(rows)) == expected
    assert counted(make(without(rows, "prompt"))) == expected


def test_a_column_of_weights_may_be_left_out_and_its_numbers_spelled(form):
    make, _ = form
    expected = counted(Votes.read(without(ROWS, "weight")))
    assert counted(Votes.read(make(without(ROWS, "weight")))) == expected == counted(make(without(ROWS, "weight")))
    for spelled in ([int(2 * row["weight"]) for row in ROWS], [str(2 * row["weight"]) for row in ROWS]):
        rows = [{**row, "weight": weight} for row, weight in zip(ROWS, spelled, strict=True)]
        votes = Votes.read(make(rows))
        assert votes.weight.tolist() == [2 * row["weight"] for row in ROWS]
        assert counted(make(rows)) == counted(votes)


LEGAL = "legal values: model_a, model_b, tie, tie (bothbad), both_bad"
WEIGHT = "it must be a finite number >= 0"


BAD = [
    ({"winner": "model_c"}, f"row 4: winner is 'model_c'; {LEGAL}"),
    ({"winner": ""}, f"row 4: winner is missing; {LEGAL}"),
    ({"winner": None}, f"row 4: winner is missing; {LEGAL}"),
    ({"winner": 1}, f"row 4: winner is 1; {LEGAL}"),
    ({"winner": ["tie"]}, f"row 4: winner is ['tie']; {LEGAL}"),
    ({"model_a": ""}, "row 4: model_a is missing; it must be the name of an LLM"),
    ({"model_b": None}, "row 4: model_b is missing; it must be the name of an LLM"),
    ({"model_b": NAN}, "row 4: model_b is missing; it must be the name of an LLM"),
    ({"model_b": "  "}, "row 4: model_b is '  '; it must be the name of an LLM"),
    ({"model_a": 7}, "row 4: model_a is 7; it must be the name of an LLM"),
    ({"model_a": [A]}, f"row 4: model_a is ['{A}']; it must be the name of an LLM"),
    ({"model_a": A, "model_b": A}, f"row 4: '{A}' is compared with itself"),
    ({"weight": None}, f"row 4: weight is missing; {WEIGHT}"),
    ({"weight": ""}, f"row 4: weight is missing; {WEIGHT}"),
    ({"weight": NAN}, f"row 4: weight is missing; {WEIGHT}"),
    ({"weight": "much"}, f"row 4: weight is 'much'; {WEIGHT}"),
    ({"weight": [1]}, f"row 4: weight is [1]; {WEIGHT}"),
    ({"weight": -0.5}, f"row 4: weight is -0.5; {WEIGHT}"),
    ({"weight": -1}, f"row 4: weight is -1.0; {WEIGHT}"),
    ({"weight": math.inf}, f"row 4: weight is inf; {WEIGHT}"),
]


@pytest.mark.parametrize(
    ("form", "change", "message"),
    [(kind, *bad) for kind in FORMS for bad in BAD if all(can_hold(kind, *cell) for cell in bad[0].items())],
    indirect=["form"],
)
def test_bad_rows_are_named_alike(form, change, message):
    make, kind = form
    rows = [*ROWS[:3], {**ROWS[3], **change}, {**ROWS[4], **change}]
    for read, source_rows in ((Votes.read, rows), (fit_leaderboard, rows), (fit_leaderboard, without(rows, "prompt"))):
        source = make(source_rows)
        named = f"'{source}': " if isinstance(source, Path) else ""
        with pytest.raises(VotesError) as caught:
            read(source)
        assert type(caught.value) is VotesError
        first, second, summary, *_ = str(caught.value).splitlines()
        fault = message.removeprefix("row 4: ")
        assert first == f"{named}{place(kind, 4)}: {fault}"
        assert second == f"  {place(kind, 5)}: {fault.partition(';')[0]}"
        assert re.match(r"  2 of 5 rows are faulty \(2 x .*\); mend them, or leave them out: --skip-invalid", summary)


@pytest.mark.parametrize("column", WORDS)
def test_missing_columns_are_named_alike(form, column):
    make, kind = form
    rows, first = without(ROWS, column), place(kind, 1)
    for read, source_rows in ((Votes.read, rows), (fit_leaderboard, rows), (fit_leaderboard, without(rows, "prompt"))):
        has = ", ".join(source_rows[0])
        with pytest.raises(VotesError, match=rf"{first} has no column '{column}' \(it has: {re.escape(has)}\)(;|\n|$)"):
            read(make(source_rows))


def test_only_votes_on_prompts_need_prompts(form):
    make, kind = form
    with pytest.raises(VotesError, match=f"{place(kind, 1)} has no column 'prompt'"):
        Votes.read(make(without(ROWS, "prompt")))
    board = fit_leaderboard(make(without(ROWS, "prompt")), "grk")
    assert board.coefs.tolist() == fit_leaderboard(Votes.read(ROWS), "grk").coefs.tolist()


@pytest.mark.parametrize("read", [Votes.read, fit_leaderboard])
def test_rows_with_other_columns(read, tmp_path):
    """Only rows that say their columns themselves can lack one: without a weight, a vote counts once."""
    rows = [ROWS[0], *without(ROWS[1:2], "weight"), *ROWS[2:]]
    bad = [*rows[:3], *without(ROWS[3:4], "winner"), ROWS[4]]
    for make in (list, iter, lambda rows: as_jsonl(rows, tmp_path / "v.jsonl")):
        assert VoteCounts.of(make(rows) if read is fit_leaderboard else Votes.read(make(rows))).weight.sum() == 4.5
        with pytest.raises(
            VotesError, match=r"(row|line) 4 has no column 'winner' \(it has: prompt, model_a, model_b, weight"
        ):
            read(make(bad))


@pytest.mark.parametrize("read", [Votes.read, fit_leaderboard])
def test_no_votes_and_no_table(read):
    for source in ([], {name: [] for name in COLUMNS}, pandas.DataFrame(columns=list(COLUMNS)), iter([])):
        with pytest.raises(VotesError, match=r"^the table holds no votes$"):
            read(source)
    with pytest.raises(VotesError, match=r"the columns differ in length: .*winner 1"):
        read({"prompt": ["x", "y"], "model_a": [A, B], "model_b": [B, A], "winner": ["tie"]})
    with pytest.raises(VotesError, match="the column 'model_b' is str, not a list or an array"):
        read({"prompt": ["x"], "model_a": [A], "model_b": B, "winner": ["tie"]})
    with pytest.raises(VotesError, match="or a list of dictionaries; not from int"):
        read(3)


def test_the_first_bad_row_is_named_whatever_the_order_of_the_labels():
    """The categories of pandas are sorted: the bad label that comes first is of the later row."""
    votes = pandas.DataFrame({**columns_of(ROWS), "winner": ["tie", "tie", "tie", "zebra", "ape"]})
    for kind in ("str", object, "category"):
        with pytest.raises(VotesError, match="row 4: winner is 'zebra'"):
            fit_leaderboard(votes.astype({"winner": kind}))
