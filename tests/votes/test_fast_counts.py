"""The fast ways of counting votes against the slow ones: tables of all cells, columns side by side, one group."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pandas
import pyarrow
import pytest
from pyarrow import parquet

from p2l_sdk.errors import P2LWarning, VotesError
from p2l_sdk.tables import numbered
from p2l_sdk.votes import connected, counts
from p2l_sdk.votes.counts import VoteCounts


def drawn(n_votes: int, n_llms: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    names = rng.permutation([f"llm-{i:03d}" for i in range(n_llms)]).astype(object)
    a = rng.integers(0, n_llms, n_votes)
    b = (a + rng.integers(1, n_llms, n_votes)) % n_llms
    winner = np.array(["model_a", "model_b", "tie", "tie (bothbad)"], dtype=object)[rng.integers(0, 4, n_votes)]
    return {"model_a": names[a], "model_b": names[b], "winner": winner}


def same(one: VoteCounts, other: VoteCounts) -> None:
    assert one.models == other.models
    for field in fields(VoteCounts)[1:]:
        np.testing.assert_allclose(getattr(one, field.name), getattr(other, field.name), rtol=1e-14)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n_votes", "n_llms"), [(1, 2), (50, 4), (3000, 9), (200, 60)])
def test_a_table_of_all_cells_counts_what_sorting_counts(n_votes, n_llms, weighted, monkeypatch):
    votes = drawn(n_votes, n_llms, n_votes)
    if weighted:
        votes["weight"] = np.random.default_rng(0).integers(0, 3, n_votes).astype(float)
    by_table = VoteCounts.of(votes)
    monkeypatch.setattr(counts, "_SMALL", -1)
    monkeypatch.setattr(VoteCounts, "_of_codes", classmethod(_sorted_only))
    same(by_table, VoteCounts.of(votes))


def _sorted_only(cls, models, a, b, winner, weight, times=None, sort=False):
    order = np.array(sorted(range(len(models)), key=models.__getitem__))
    return cls._of_sorted(tuple(models[i] for i in order), np.argsort(order), a, b, winner, weight, times)


@pytest.mark.parametrize("kind", ["pandas", "arrow", "chunks", "large"])
def test_columns_read_side_by_side_are_those_read_in_turn(kind, monkeypatch):
    columns = drawn(900, 7, 1)
    table: object = pandas.DataFrame(columns)
    if kind != "pandas":
        table = pyarrow.table({name: pyarrow.array(values.tolist()) for name, values in columns.items()})
    if kind == "chunks":
        table = pyarrow.concat_tables([table.slice(0, 500), table.slice(500)])
    if kind == "large":
        table = table.cast(pyarrow.schema([(name, pyarrow.large_string()) for name in columns]))
    in_turn = VoteCounts.of(table)
    monkeypatch.setattr(numbered, "_LONG", 1)
    same(VoteCounts.of(table), in_turn)


def test_rows_that_lack_a_value_are_named_in_long_columns_too(monkeypatch):
    monkeypatch.setattr(numbered, "_LONG", 1)
    columns = {name: values.tolist() for name, values in drawn(20, 3, 2).items()}
    columns["model_b"][11] = None
    with pytest.raises(VotesError, match="row 12: model_b is missing"):
        VoteCounts.of(pandas.DataFrame(columns))
    with pytest.raises(VotesError, match="row 12: model_b is missing"):
        VoteCounts.of(pyarrow.table(columns))


def test_one_group_is_found_without_a_search(monkeypatch):
    rng = np.random.default_rng(3)
    one = 0
    for n in range(1, 9):
        for _ in range(40):
            starts, ends = rng.integers(0, n, (2, int(rng.integers(0, 4 * n))))
            fast = connected._groups(n, starts, ends)
            with monkeypatch.context() as patch:
                patch.setattr(connected, "_FEW_NODES", 0)
                slow = connected._groups(n, starts, ends)
            assert [group.tolist() for group in fast] == [group.tolist() for group in slow]
            one += len(slow) == 1
    assert 40 < one < 280


def long_table(**change: list[object]) -> dict[str, list[object]]:
    """Votes with far more rows than kinds of rows, as plain lists."""
    return {name: values.tolist() for name, values in drawn(900, 4, 5).items()} | change


def in_form(form: str, columns: dict[str, list[object]]) -> object:
    if form == "lists":
        return columns
    if form == "arrow":
        return pyarrow.table(columns)
    if form == "dictionary":
        table = pyarrow.table(columns)
        return pyarrow.table({name: table[name].dictionary_encode() for name in columns})
    frame = pandas.DataFrame(columns)
    return frame.astype("category") if form == "categories" else frame


FORMS = ["lists", "arrow", "dictionary", "frame", "categories"]


@pytest.mark.parametrize("form", FORMS)
def test_distinct_rows_count_what_single_rows_count(form, monkeypatch):
    table = in_form(form, long_table())
    by_distinct = VoteCounts.of(table)
    monkeypatch.setattr(counts, "distinct_rows", lambda chunk: None)
    same(by_distinct, VoteCounts.of(table))
    assert by_distinct.number.sum() == 900


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("model_b", None, "row 701: model_b is missing"),
        ("winner", "nobody", "row 701: winner is 'nobody'"),
        ("model_a", " ", "row 701: model_a is ' '"),
    ],
)
def test_a_faulty_row_among_many_alike_keeps_its_number(form, column, value, says):
    columns = long_table()
    columns[column][700] = value
    with pytest.raises(VotesError, match=says):
        VoteCounts.of(in_form(form, columns))


@pytest.mark.parametrize("form", FORMS)
def test_a_rare_name_with_another_date_is_named_with_its_votes(form):
    columns = long_table()
    swap = {"llm-001": "gpt-4o-2024-05-13", "llm-002": "gpt-4o-2024-08-06"}
    for side in ("model_a", "model_b"):
        columns[side] = [swap["llm-001"] if name in swap else name for name in columns[side]]
    kept = [i for i in range(900) if columns["model_a"][i] != columns["model_b"][i]]
    columns = {name: [values[i] for i in kept] for name, values in columns.items()}
    row = columns["model_a"].index(swap["llm-001"])
    columns["model_a"][row] = swap["llm-002"]
    n = columns["model_a"].count(swap["llm-001"]) + columns["model_b"].count(swap["llm-001"])
    with pytest.warns(P2LWarning, match=rf"'gpt-4o-2024-08-06' \(1\) beside 'gpt-4o-2024-05-13' \({n}\)"):
        VoteCounts.of(in_form(form, columns))


@pytest.mark.parametrize("form", FORMS)
def test_a_table_without_rows_holds_no_votes(form):
    table = in_form(form, long_table())
    empty = {name: values[:0] for name, values in table.items()} if form == "lists" else table[:0]
    with pytest.raises(VotesError, match="the table holds no votes"):
        VoteCounts.of(empty)


def test_categories_that_no_row_has_are_no_llms():
    columns = long_table()
    frame = pandas.DataFrame(columns)
    frame["model_a"] = pandas.Categorical(frame["model_a"], categories=["nobody", *sorted(set(columns["model_a"]))])
    assert "nobody" not in VoteCounts.of(frame).models


@pytest.mark.parametrize("weighted", ["", "weight", "Weight"])
def test_a_parquet_file_counts_what_the_table_in_it_counts(weighted, tmp_path):
    columns = {name: values.tolist() for name, values in drawn(50_000, 6, 8).items()}
    columns |= {"prompt": ["hello"] * 50_000}
    columns |= {weighted: np.arange(50_000).astype(float).tolist()} if weighted else {}
    parquet.write_table(pyarrow.table(columns), tmp_path / "votes.parquet", row_group_size=30_000)
    found = VoteCounts.of(tmp_path / "votes.parquet")
    same(found, VoteCounts.of(columns))
    assert found.weight.sum() == (sum(range(50_000)) if weighted else 50_000)


@pytest.mark.parametrize("value", [None, " "])
def test_a_faulty_row_of_a_parquet_file_keeps_its_number(value, tmp_path):
    columns = {name: values.tolist() for name, values in drawn(50_000, 6, 8).items()}
    columns["model_b"][45_000] = value
    parquet.write_table(pyarrow.table(columns), tmp_path / "votes.parquet")
    with pytest.raises(VotesError, match=r"votes.parquet': row 45001: model_b is"):
        VoteCounts.of(tmp_path / "votes.parquet")
