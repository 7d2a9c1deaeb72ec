"""The fast ways of counting votes against the slow ones: tables of all cells, columns side by side, one group."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pandas
import pyarrow
import pytest

from p2l_sdk.errors import VotesError
from p2l_sdk.tables import vote_codes
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


def _sorted_only(cls, models, a, b, winner, weight, sort=False):
    order = np.array(sorted(range(len(models)), key=models.__getitem__))
    return cls._of_sorted(tuple(models[i] for i in order), np.argsort(order), a, b, winner, weight)


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
    made: list[int] = []
    side_by_side = vote_codes._made_side_by_side
    monkeypatch.setattr(vote_codes, "_LONG", 1)
    monkeypatch.setattr(
        vote_codes, "_made_side_by_side", lambda *given: made.append(len(side_by_side(*given))) or side_by_side(*given)
    )
    same(VoteCounts.of(table), in_turn)
    assert made[0] == 3


def test_rows_that_lack_a_value_are_named_in_long_columns_too(monkeypatch):
    monkeypatch.setattr(vote_codes, "_LONG", 1)
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
