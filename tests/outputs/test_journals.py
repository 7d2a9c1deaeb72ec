"""Files of JSON lines that a paid run appends to, on a disk that fills up: what was written stays, and counts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from mounts import longest_file

from p2l_sdk.errors import P2LError
from p2l_sdk.judging.judge import write_rows
from p2l_sdk.judging.spending import Ledger
from p2l_sdk.mpg.measure.journal import Journal, Layout

LAYOUT = Layout("row", "rows", "key", frozenset({"key", "text"}), lambda row: row["key"])


def journal(path: Path) -> Journal:
    return Journal(path, LAYOUT, lambda _: {})


def test_a_journal_goes_on_from_its_whole_lines(tmp_path):
    path = tmp_path / "answers.jsonl"
    with longest_file(200), journal(path) as opened:
        opened.write({"key": 1, "text": "a", "run": {}})
        with pytest.raises(P2LError, match=r"answers\.jsonl' cannot be written: File too large; its lines so far are"):
            opened.write({"key": 2, "text": "b" * 300, "run": {}})
    with journal(path) as opened:
        assert [row["key"] for row in opened.rows] == [1]
        opened.write({"key": 2, "text": "b" * 300, "run": {}})
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == [1, 2]


def test_a_run_without_a_row_leaves_nothing_behind(tmp_path):
    path = tmp_path / "runs" / "today" / "answers.jsonl"
    with pytest.raises(KeyError), journal(path):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs").mkdir()
    path.parent.with_name("empty.jsonl").touch()
    for other in (path, path.parent.with_name("empty.jsonl")):
        with journal(other):
            pass
    assert [file.name for file in tmp_path.rglob("*")] == ["runs", "empty.jsonl"]  # as they were
    with journal(path) as opened:
        opened.write({"key": 1, "text": "a", "run": {}})
    assert path.is_file()


def test_a_ledger_says_that_it_cannot_be_written(tmp_path):
    ledger = Ledger(tmp_path / "answers.jsonl", 0.0, None)
    says = r"spending' cannot be written: File too large; the same run goes on"
    with longest_file(20), ledger, pytest.raises(P2LError, match=says):
        asyncio.run(ledger.reserve(1.0))


@pytest.mark.parametrize("place", ["file/answers.jsonl", "m" * 300])
def test_a_place_that_takes_no_journal(place, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(P2LError, match=r"cannot be written: (Not a directory|File exists|File name too long)"):
        journal(tmp_path / place)


def test_votes_replace_the_old_ones_whole_or_not_at_all(tmp_path):
    path = tmp_path / "votes.jsonl"
    write_rows(path, [{"winner": "tie"}])
    with longest_file(100), pytest.raises(P2LError, match="cannot be written: File too large"):
        write_rows(path, [{"winner": "tie"}] * 10)
    assert path.read_text() == '{"winner": "tie"}\n'
    assert list(tmp_path.iterdir()) == [path]
