"""Data in memory as the Arena's sets have it: conversations with parts, nested in arrays; the same votes as by path."""

from __future__ import annotations

import datasets
import numpy as np
import pandas
import pyarrow
import pytest
from pyarrow import parquet

from p2l_sdk.kinds.prompts import KindPrompts
from p2l_sdk.tables.plain import all_plain, plain
from p2l_sdk.votes.counts import VoteCounts
from p2l_sdk.votes.votes import Scores, Votes


def conversation(text, answer):
    parts = [{"type": "text", "text": text, "image": None}, {"type": "image", "text": None, "image": "a.png"}]
    reply = [{"type": "text", "text": answer, "image": None}]
    return [{"role": "user", "content": parts, "num_tokens": 3}, {"role": "assistant", "content": reply}]


ROWS = [
    {
        "id": f"u{i}",
        "model_a": "ab"[i % 2],
        "model_b": "cde"[i % 3],
        "winner": ["model_a", "model_b", "tie", "both_bad"][i % 4],
        "conversation_a": conversation(f"question {i // 2}", "yes"),
        "conversation_b": conversation(f"question {i // 2}", "no"),
        "is_code": bool(i % 2),
        "turns": i % 3,
        "conv_metadata": {"sum": i, "list": [1, 2]},
    }
    for i in range(12)
]
TABLE = pyarrow.Table.from_pylist(ROWS)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("arena") / "v.parquet"
    parquet.write_table(TABLE, file)
    return file


def scalars(row):
    """A row with numpy's own strings, numbers and bools."""
    kinds = {str: np.str_, int: np.int64, bool: np.bool_}
    return {name: kinds[type(value)](value) if type(value) in kinds else value for name, value in row.items()}


FORMS = {
    "frame": lambda frame: frame,
    "records": lambda frame: frame.to_dict("records"),
    "lists": lambda frame: frame.to_dict("list"),
    "series": lambda frame: frame.to_dict("series"),
    "arrays": lambda frame: {name: frame[name].to_numpy() for name in frame},
    "array of rows": lambda frame: np.array(frame.to_dict("records"), dtype=object),
    "generator": lambda frame: (row for row in frame.to_dict("records")),
    "numpy scalars": lambda frame: [scalars(row) for row in frame.to_dict("records")],
    "categories": lambda frame: frame.astype({"model_a": "category", "winner": "category"}),
    "arrow types": lambda frame: TABLE.to_pandas(types_mapper=pandas.ArrowDtype),
    "table": lambda frame: TABLE,
    "chunks": lambda frame: pyarrow.concat_tables([TABLE.slice(0, 5), TABLE.slice(5)]),
    "batches": lambda frame: TABLE.to_reader(),
    "columns of arrow": lambda frame: {name: TABLE.column(name) for name in TABLE.column_names},
    "scalars of arrow": lambda frame: [{name: TABLE.column(name)[i] for name in TABLE.column_names} for i in range(12)],
    "python": lambda frame: TABLE.to_pylist(),
    "data set": lambda frame: datasets.Dataset(TABLE),
    "data set as numpy": lambda frame: datasets.Dataset(TABLE).with_format("numpy")[:],
    "data set as columns": lambda frame: datasets.Dataset(TABLE)[:],
    "stream": lambda frame: datasets.Dataset(TABLE).to_iterable_dataset(),
    "polars": lambda frame: pytest.importorskip("polars").from_arrow(TABLE),
    "dictionaries of polars": lambda frame: pytest.importorskip("polars").from_arrow(TABLE).to_dicts(),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_in_memory_gives_the_votes_of_its_file(form, path):
    frame = pandas.read_parquet(path)
    assert isinstance(frame.conversation_a[0], np.ndarray)
    assert isinstance(frame.conversation_a[0][0]["content"], np.ndarray)
    votes, expected = Votes.read(FORMS[form](frame)), Votes.read(path)
    assert votes.prompts == expected.prompts
    assert votes.models == expected.models
    for name in ("prompt", "a", "b", "winner", "weight"):
        assert getattr(votes, name).tolist() == getattr(expected, name).tolist()
    assert {name: column.tolist() for name, column in votes.categories.items()} == {
        name: column.tolist() for name, column in expected.categories.items()
    }
    assert VoteCounts.of(FORMS[form](frame)).number.tolist() == VoteCounts.of(path).number.tolist()


def test_scores_and_prompts_of_known_kind_in_nested_arrays(path):
    talks = pandas.read_parquet(path).conversation_a[:4].tolist()
    scores = pandas.DataFrame({"prompt": talks, "a": [0.5, 0.25, 1.0, 0.0], "b": [1.0, 0.0, 0.5, 0.75]})
    kinds = pandas.DataFrame({"prompt": talks, "category": [np.array(["x", "y"], dtype=object)] * 4})
    for form in ("frame", "records", "lists"):
        assert Scores.read(FORMS[form](scores)).prompts == [row["conversation_a"] for row in TABLE.to_pylist()[:4]]
        assert KindPrompts.read(FORMS[form](kinds), ["x", "y"]).member.all()


def test_plain_values_are_kept_as_they_are():
    values = ["x", 1, 0.5, None, True]
    assert all_plain(values) is values
    assert plain({"a": np.array([{"b": (np.int64(1), np.str_("c"))}], dtype=object)}) == {"a": [{"b": [1, "c"]}]}
    assert type(all_plain([np.str_("x")])[0]) is str
