"""Tables in every form give the same votes and scores, and name the same row."""

from __future__ import annotations

import json
import re
from pathlib import Path

import datasets
import numpy as np
import pandas
import pyarrow
import pytest
from conftest import MODELS
from vote_tables import ROWS, SCORES, A, B, C, a_split, as_csv, as_jsonl, as_saved

from p2l_sdk.errors import VotesError
from p2l_sdk.tables import sources
from p2l_sdk.votes.votes import WINNERS, Scores, Votes


def as_parquet(rows, path):
    pandas.DataFrame(rows).to_parquet(path)
    return path


def a_folder_of_files(rows, path):
    path.mkdir()
    as_jsonl(rows, path / "train.jsonl")
    return path


FORMS = {
    "jsonl": lambda rows, tmp: as_jsonl(rows, tmp / "v.jsonl"),
    "jsonl, as a string": lambda rows, tmp: str(as_jsonl(rows, tmp / "v.JSONL")),
    "csv": lambda rows, tmp: as_csv(rows, tmp / "v.csv"),
    "parquet": lambda rows, tmp: as_parquet(rows, tmp / "v.parquet"),
    "dataset": lambda rows, tmp: datasets.Dataset.from_list(rows),
    "stream": lambda rows, tmp: datasets.Dataset.from_list(rows).to_iterable_dataset(),
    "splits": lambda rows, tmp: a_split(rows),
    "saved dataset": lambda rows, tmp: as_saved(datasets.Dataset.from_list(rows), tmp / "v"),
    "saved splits": lambda rows, tmp: as_saved(a_split(rows), tmp / "v"),
    "a named split": lambda rows, tmp: f"{as_saved(a_split(rows, 'held'), tmp / 'v')}:held",
    "folder of files": lambda rows, tmp: a_folder_of_files(rows, tmp / "v"),
    "frame": lambda rows, tmp: pandas.DataFrame(rows),
    "frame with an index": lambda rows, tmp: pandas.DataFrame(rows, index=range(7, 7 + len(rows))),
    "arrow": lambda rows, tmp: pyarrow.Table.from_pylist(rows),
    "batches": lambda rows, tmp: pyarrow.Table.from_pylist(rows).to_reader(),
    "columns": lambda rows, tmp: {name: np.array([row[name] for row in rows], dtype=object) for name in rows[0]},
    "list": lambda rows, tmp: rows,
    "generator": lambda rows, tmp: iter(rows),
}


@pytest.fixture(params=list(FORMS))
def form(request, tmp_path, monkeypatch):
    """Writes rows in one of the forms; all readers read them two at a time."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(sources, "_ROWS", 2)
    make = FORMS[request.param]
    return lambda rows: make(rows, tmp_path), request.param


def test_every_form_gives_the_same_votes(form):
    make, kind = form
    votes = Votes.read(make(ROWS))
    assert votes.prompts == ["write a poem", "sum list", "python code"]
    assert votes.models == tuple(sorted(MODELS))
    assert [votes.models[i] for i in votes.a] == [row["model_a"] for row in ROWS]
    assert [votes.models[i] for i in votes.b] == [row["model_b"] for row in ROWS]
    assert votes.prompt.tolist() == [0, 0, 1, 2, 2]
    assert votes.winner.tolist() == [WINNERS[row["winner"]] for row in ROWS]
    assert votes.weight.tolist() == [1, 1, 0.5, 2, 1]
    assert votes.n_duplicates == 1
    labels = {name: column.tolist() for name, column in votes.categories.items()}
    numbers = {"is_code": [False, False, True, True, True], "turns": [1, 1, 2, 1, 3]}
    if kind == "csv":
        assert labels.pop("judge_p") == ["0.5", "0.5", "0.25", "0.125", "0.125"]
        numbers = {name: [str(value) for value in column] for name, column in numbers.items()}
    assert labels == {"task": ["poems", "poems", "code", "code", ""], **numbers}


def test_every_form_gives_the_same_scores(form):
    make, _ = form
    source = list(SCORES)
    scores = Scores.read(make(source))
    assert scores.models == (A, B, C)
    assert scores.prompts == ["write a poem", "sum list"]
    assert scores.scores.tolist() == [[0.25, 1.0, 0.25 + 1e-7], [0.5, 0.5, 1.0]]
    assert {name: column.tolist() for name, column in scores.categories.items()} == {"task": ["poems", "code"]}


def test_every_form_names_the_row_that_is_wrong(form):
    make, kind = form
    bad = [*ROWS[:4], {**ROWS[4], "winner": "model_c"}]
    source = make(bad)
    named = re.escape(f"'{source}': ") if isinstance(source, str | Path) else ""
    place = "line 6" if kind == "csv" else "line 5" if kind.startswith(("jsonl", "folder of")) else "row 5"
    with pytest.raises(VotesError, match=rf"^{named}{place}: winner is 'model_c'; legal values: model_a, model_b, tie"):
        Votes.read(source)


def test_conversations_from_parquet_and_frames(tmp_path):
    messages = [{"role": "user", "content": "write"}, {"role": "assistant", "content": "no"}]
    other = [{"role": "user", "content": "write"}, {"role": "assistant", "content": "yes"}]
    rows = [{k: v for k, v in ROWS[0].items() if k != "prompt"} | {"conversation_a": c} for c in (messages, other)]
    for source in (rows, pandas.DataFrame(rows), as_parquet(rows, tmp_path / "v.parquet")):
        votes = Votes.read(source)
        assert votes.prompts == [messages]  # prompts are identified by their user turns
        assert votes.prompt.tolist() == [0, 0]
        assert "conversation_a" not in votes.categories
    turns = [{**ROWS[0], "prompt": ["write", "a poem"]}]
    assert Votes.read(as_parquet(turns, tmp_path / "t.parquet")).prompts == Votes.read(turns).prompts
    mixed = [{**ROWS[0], "prompt": "write"}, rows[0], {**ROWS[0], "prompt": json.dumps(messages)}]
    assert Votes.read(mixed).prompt.tolist() == [0, 0, 1]  # text that looks like messages is text
