"""Sources by name and by kind: splits, the Hub, and one line for what cannot be read."""

from __future__ import annotations

import re
import sys

import datasets
import huggingface_hub
import pandas
import pyarrow
import pytest
from vote_tables import ROWS, A, B, D, a_split, as_jsonl, as_saved

from p2l_sdk.errors import MissingExtraError, UnknownModelError, VotesError
from p2l_sdk.tables.sources import hub_repository
from p2l_sdk.votes.votes import Scores, Votes


def test_splits_are_named(tmp_path):
    data = datasets.DatasetDict({name: datasets.Dataset.from_list(ROWS) for name in ("held", "rest")})
    message = "has no split 'train', its splits: held, rest; name one"
    with pytest.raises(VotesError, match=f"the data set {message}"):
        Votes.read(data)
    folder = as_saved(data, tmp_path / "v")
    with pytest.raises(VotesError, match=f"{folder}' {message}"):
        Votes.read(folder)
    with pytest.raises(VotesError, match=r"no split 'held2', its splits: held, rest$"):
        Votes.read(f"{folder}:held2")
    assert len(Votes.read(f"{folder}:held")) == len(ROWS)
    with pytest.raises(VotesError, match="without splits; leave out ':held'"):
        Votes.read(f"{as_saved(datasets.Dataset.from_list(ROWS), tmp_path / 'one')}:held")


@pytest.mark.parametrize(
    ("name", "revision", "split"),
    [
        ("org/votes", None, "train"),
        ("org/votes:held", None, "held"),
        ("org/votes@v1.0", "v1.0", "train"),
        ("org/votes@refs/pr/1:held", "refs/pr/1", "held"),
    ],
)
def test_hub_data_sets(name, revision, split, monkeypatch, tmp_path):
    """Offline, from the client's cache, which is replaced here; tests/votes/test_hub_votes.py asks a Hub."""
    asked = []

    def snapshot_download(name, *, repo_type, revision, local_files_only):
        assert (repo_type, local_files_only) == ("dataset", True)
        asked.append((name, revision))
        return str(tmp_path)

    (tmp_path / "data").mkdir()
    as_jsonl(ROWS, tmp_path / "data" / f"{split}-00000-of-00001.jsonl")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert len(Votes.read(name)) == len(ROWS)
    assert asked == [("org/votes", revision)]


def test_the_repository_of_a_source(tmp_path, monkeypatch):
    names = {"org/votes": "org/votes", "org/votes@v1:test": "org/votes", "data/votes.jsonl": None, "/org/votes": None}
    assert {name: hub_repository(name) for name in names} == names
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "votes").mkdir(parents=True)
    assert hub_repository("org/votes") is None


def test_what_cannot_be_had_is_one_line(tmp_path, monkeypatch):
    """Offline (tests/conftest.py sets the flag), with the true client."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    with pytest.raises(VotesError, match=r"'org/none' is not in the cache and the Hub was not asked") as error:
        Votes.read("org/none")
    assert "\n" not in str(error.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VotesError, match="empty' cannot be loaded: "):
        Votes.read(tmp_path / "empty")
    (tmp_path / "votes.ods").touch()
    kinds = r"known: a file .json, .jsonl, .ndjson, .csv, .tsv, .xlsx, .parquet \(.* also with .gz\), a folder saved by"
    with pytest.raises(VotesError, match=rf"votes.ods' is of no known kind; save it as .xlsx or .csv; {kinds}"):
        Votes.read(tmp_path / "votes.ods")
    with pytest.raises(VotesError, match=r"or a list of dictionaries; not from int"):
        Votes.read(3)
    with pytest.raises(VotesError, match="row 2 is no dictionary but str"):
        Votes.read([ROWS[0], "x"])
    with pytest.raises(VotesError, match="differ in length: prompt 1, winner 2"):
        Votes.read({"prompt": ["x"], "winner": ["tie", "tie"]})
    with pytest.raises(VotesError, match="'prompt' is str, not a list or an array"):
        Votes.read({"prompt": "x"})
    twice = pandas.DataFrame([["x", A, B]], columns=["prompt", "model_a", "model_a"])
    (tmp_path / "twice.csv").write_text("prompt,model_a,model_a\nx,a,b\n")
    for source in (twice, tmp_path / "twice.csv", pyarrow.table([["x"], ["y"]], names=["model_a"] * 2)):
        with pytest.raises(VotesError, match="two columns are named 'model_a'"):
            Votes.read(source)


def test_errors_name_the_file_once(tmp_path):
    empty, bad, ragged = tmp_path / "empty.jsonl", tmp_path / "bad.jsonl", tmp_path / "ragged.csv"
    empty.write_text("")
    as_jsonl([{"prompt": "x", A: "n/a", B: 1}], bad)
    ragged.write_text("prompt,model_a\nx,a,b\n")
    for read, file, message in (
        (Votes.read, empty, f"'{empty}': the table holds no votes"),
        (Scores.read, empty, f"'{empty}': the scores file is empty"),
        (
            lambda file: Scores.read(file, [A, B]),
            bad,
            f"'{bad}': line 1: the score of 'alpha-7b' is 'n/a'; it must be a",
        ),
        (
            Votes.read,
            ragged,
            f"'{ragged}', line 2 has more fields than the header: 3, not 2 (they are separated by",
        ),
        (Votes.read, f"{as_saved(a_split(ROWS), tmp_path / 'v')}:held", "has no split 'held'"),
    ):
        with pytest.raises(VotesError) as caught:
            read(file)
        assert message in str(caught.value)
        assert str(caught.value).count(str(tmp_path)) == 1
    unknown = (
        f"'{as_jsonl(ROWS, bad)}': the votes file names 'gamma-70b', which is not one of the model's LLMs (--model"
    )
    with pytest.raises(UnknownModelError, match=re.escape(unknown)):
        Votes.read(bad, [A, B, D])


def test_missing_packages_answer_with_the_pip_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r'needs datasets, .*: pip install "p2l-sdk\[train\]"'):
        Votes.read("org/votes")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    parquet = tmp_path / "v.parquet"
    parquet.write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError, match=r'needs pyarrow, .*: pip install "p2l-sdk\[data\]"'):
        Votes.read(parquet)
    assert len(Votes.read(as_jsonl(ROWS, tmp_path / "v.jsonl"))) == len(ROWS)
