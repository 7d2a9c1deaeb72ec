"""What a listener is told while files are read: rows, shares, and the end."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest

from p2l_sdk.errors import TableError
from p2l_sdk.tables.files import read_rows
from p2l_sdk.tables.progress import ReadingListener, told
from p2l_sdk.tables.sources import open_source
from p2l_sdk.votes.votes import Votes

N = 45_000


class Heard(ReadingListener):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, int, float | None]] = []
        self.ended: list[str] = []

    def read(self, name, rows, share):
        self.said.append((name, rows, share))

    def done(self, name):
        self.ended.append(name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same votes in every kind of file."""
    folder = tmp_path_factory.mktemp("long")
    rows = [{"prompt": f"What is {i}?", "model_a": "x", "model_b": "y", "winner": "model_a"} for i in range(N)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    table = "prompt,model_a,model_b,winner\n" + "".join(",".join(row.values()) + "\n" for row in rows)
    (folder / "v.jsonl").write_text(lines)
    (folder / "v.csv").write_text(table)
    (folder / "v.csv.gz").write_bytes(gzip.compress(table.encode()))
    (folder / "v.json").write_text(json.dumps(rows))
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame(rows).to_parquet(folder / "v.parquet")
    return folder


@pytest.mark.parametrize("name", ["v.jsonl", "v.csv", "v.csv.gz", "v.json", "v.parquet"])
def test_rows_and_shares_grow_to_the_end(folder, name):
    heard, path = Heard(), str(folder / name)
    with told(heard):
        assert len(Votes.read(path).prompts) == N
    assert {said for said, _, _ in heard.said} == {path}
    rows = [n for _, n, _ in heard.said]
    assert rows == sorted(rows)
    assert rows[-1] == N
    assert heard.ended == [path]
    shares = [share for _, _, share in heard.said]
    if name == "v.json":  # read whole before its rows are looked at
        assert shares == [None] * len(shares)
    else:
        assert shares == sorted(shares)
        assert shares[0] < 0.6
        assert shares[-1] == pytest.approx(1.0, abs=0.05)
    assert not heard.positions


def test_nobody_is_told_by_default_and_short_files_say_only_their_end(folder, tmp_path):
    short = tmp_path / "costs.csv"
    short.write_text("model,cost\nx,1\n")
    heard = Heard()
    with told(heard):
        assert len(list(read_rows(short))) == 1
    assert heard.said == []
    assert heard.ended == [str(short)]
    assert len(list(read_rows(folder / "v.csv"))) == N
    assert heard.said == []


def test_the_end_is_told_of_a_file_that_is_damaged_or_not_read_to_its_end(folder, tmp_path):
    damaged = tmp_path / "v.jsonl"
    damaged.write_text('{"a": 1}\n' * 2500 + "{\n")
    heard = Heard()
    with told(heard), pytest.raises(TableError, match="line 2501"):
        list(read_rows(damaged))
    assert [rows for _, rows, _ in heard.said] == [1000, 2000]
    with told(heard):
        source = open_source(str(folder / "v.csv"))
        next(source.chunks)
        source.chunks.close()
        del source
    assert heard.ended == [str(damaged), str(folder / "v.csv")]


@pytest.mark.long
def test_a_table_of_too_many_rows_is_refused_with_the_remedy_in_constant_memory(folder):
    tracemalloc.start()
    with pytest.raises(TableError, match=r"more than 20,000 rows; if that is right, allow more: --max-rows N"):
        Votes.read(str(folder / "v.csv"), max_rows=20_000)
    assert tracemalloc.get_traced_memory()[1] < 80e6
    tracemalloc.stop()
