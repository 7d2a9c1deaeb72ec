"""`score_files`: kinds of input, faulty rows, budgets, and what may stand in the output folder."""

from __future__ import annotations

import csv
import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from bulk_prompts import digests, write_lines
from pyarrow import parquet

from p2l_sdk.bulk import Columns, Settings, score_files
from p2l_sdk.errors import BudgetError, P2LError, P2LWarning, TableError
from p2l_sdk.votes.prompts import read_prompts

SMALL = Settings(model="routing9", top=2)


def results(folder):
    """The results of all parts as one table."""
    return pa.concat_tables([parquet.read_table(path) for path in sorted(folder.glob("part-*.parquet"))])


def run(files, folder, settings=SMALL, **options):
    return score_files(files, folder, settings, **{"processes": 1, **options})


@pytest.fixture
def lines(tmp_path):
    return write_lines(tmp_path / "log.jsonl", 700)


def test_a_file_is_scored_row_by_row(tmp_path, lines, routing9):
    seen = []
    found = run(lines, tmp_path / "out", part_rows=300, progress=lambda done, total: seen.append((done, total)))
    prompts = list(read_prompts(lines))
    table = results(tmp_path / "out")
    assert table["best"].to_pylist() == [board.ranking[:2] for board in routing9.leaderboards(prompts)]
    assert table["id"].to_pylist() == list(range(700))
    assert table["row"].to_pylist() == list(range(1, 701))
    assert set(table["file"].to_pylist()) == {str(lines)}
    assert (found.n_rows, found.n_scored, found.n_bad, found.n_parts) == (700, 700, 0, 3)
    assert seen == [(300, 700), (600, 700), (700, 700)]
    np.testing.assert_allclose(found.totals.board().coefs, routing9.aggregate(prompts).coefs, atol=1e-9)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "part-00000.parquet", "part-00001.parquet", "part-00002.parquet", "statistics.safetensors", "summary.json",
    ]  # fmt: skip


@pytest.mark.long
def test_neither_processes_nor_their_number_change_a_byte(tmp_path, lines):
    for name, processes in (("one", 1), ("two", 2)):
        run(lines, tmp_path / name, columns=Columns(by="lang"), part_rows=150, processes=processes)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


@pytest.mark.parametrize("processes", [1, 2])
def test_prompts_that_are_cut_are_counted_over_processes_and_parts(tmp_path, processes):
    prompts = [" ".join(["word"] * (513 if i % 4 == 0 else 512)) for i in range(60)]
    rows = [{"id": i, "prompt": prompt} for i, prompt in enumerate(prompts)] + [{"id": 60, "prompt": ""}]
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = "15 of 60 prompts have more than 512 tokens: this model reads the last 512 of each"
    for _ in range(2):  # the second call finds the run finished
        with pytest.warns(P2LWarning, match=said) as caught:
            found = run(file, tmp_path / "out", part_rows=10, processes=processes)
        assert (found.n_cut, len(caught)) == (15, 1)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["n_cut"] == 15


def test_every_kind_of_file_gives_the_same(tmp_path, lines):
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()][:40]
    small = tmp_path / "in"
    small.mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (small / "a.jsonl").write_text(text, encoding="utf-8")
    (small / "b.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (small / "c.json").write_text(json.dumps(rows), encoding="utf-8")
    parquet.write_table(pa.Table.from_pylist([{**row, "answer": "long " * 50} for row in rows]), small / "d.parquet")
    with (small / "e.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (small / "f.txt").write_text("".join(row["prompt"].strip() + "\n" for row in rows), encoding="utf-8")
    conversations = [
        {
            "id": row["id"],
            "messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": "?"}],
        }
        for row in rows
    ]
    parquet.write_table(pa.Table.from_pylist(conversations), small / "g.parquet")
    found = run(str(small / "*"), tmp_path / "out")
    assert found.n_scored == 280
    table = results(tmp_path / "out")
    best = table["best_coefs"].to_pylist()
    assert all(best[i : i + 40] == best[:40] for i in range(0, 280, 40))
    assert table["file"].to_pylist()[::40] == [str(path) for path in sorted(small.iterdir())]


def test_columns_are_named_and_kept(tmp_path):
    table = pa.table({"Frage": ["a b", "c"], "key": ["x", "y"], "n": [1.5, None], "when": [1, 2], "kind": ["p", "q"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    wanted = Columns(prompt="frage", id="key", by="kind", keep=("n", "when"))
    found = run(tmp_path / "t.parquet", tmp_path / "out", columns=wanted)
    kept = results(tmp_path / "out").select(["id", "n", "when", "category"]).to_pydict()
    assert kept == {"id": ["x", "y"], "n": [1.5, None], "when": [1, 2], "category": ["p", "q"]}
    assert set(found.totals.boards()) == {"p", "q"}
    with pytest.raises(TableError, match=r"no column 'prompt' \(there is: .*--column .*prompt="):
        run(tmp_path / "t.parquet", tmp_path / "other")
    with pytest.raises(TableError, match="there is no column 'kez'"):
        run(tmp_path / "t.parquet", tmp_path / "other", columns=Columns(prompt="frage", id="kez"))
    with pytest.raises(P2LError, match="cannot be kept"):
        Columns(keep=("id",))
    with pytest.raises(TableError, match="is named twice"):
        run([tmp_path / "t.parquet", tmp_path / "*.parquet"], tmp_path / "other")


def test_faulty_rows_are_left_out_named_and_written(tmp_path):
    good = [json.dumps({"id": i, "prompt": f"question {i}"}) for i in range(5)]
    bad = [
        '{"id": 5, "prompt": "cut o',
        '{"id": 6, "prompt": ""}',
        '{"id": "six", "prompt": "x"}',
        '["a"]',
        '{"id": 9}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join([*good[:3], "", *bad, *good[3:]]) + "\n", encoding="utf-8")
    found = run(tmp_path / "log.jsonl", tmp_path / "out", part_rows=4)
    assert (found.n_rows, found.n_scored, found.n_bad) == (10, 5, 5)
    assert results(tmp_path / "out")["id"].to_pylist() == list(range(5))
    report = [json.loads(line) for line in (tmp_path / "out" / "bad-rows.jsonl").read_text().splitlines()]
    assert [row["place"] for row in report] == [f"line {n}" for n in (5, 6, 7, 8, 9)]
    assert [row["row"] for row in report] == [4, 5, 6, 7, 8]
    assert ["no JSON object" in row["error"] for row in report] == [True, False, False, True, False]
    assert "no int64" in report[2]["error"]
    assert found.first_bad[1].endswith("line 6: the prompt is empty, or neither a string nor a list of user turns")


def test_a_joint_budget_is_that_of_route_many(tmp_path, lines, routing9):
    prompts = list(read_prompts(lines))
    for cost in (0.0002, 0.00031, 0.0009, 5.0):
        folder = tmp_path / str(cost)
        found = run(lines, folder, Settings(model="routing9", cost=cost, seed=4), part_rows=256)
        routes = routing9.route_many(prompts, cost, seed=4)
        table = results(folder)
        assert table["route"].to_pylist() == [route.model for route in routes]
        np.testing.assert_allclose(table["route_cost"], [route.expected_cost for route in routes], rtol=1e-9)
        np.testing.assert_allclose(table["route_score"], [route.expected_score for route in routes], rtol=1e-9)
        assert found.mean_cost <= cost * (1 + 1e-11)
        assert table.column_names == ["file", "row", "id", "route", "route_cost", "route_score", "best", "best_coefs"]
        assert (found.multiplier == 0.0) == (cost > 0.0009 or found.mean_cost < cost * 0.999)


def test_prompts_of_one_rate_share_what_money_is_left(tmp_path, routing9):
    (tmp_path / "same.txt").write_text("the same question\n" * 90, encoding="utf-8")
    found = run(tmp_path / "same.txt", tmp_path / "out", Settings(model="routing9", cost=0.00015), part_rows=20)
    assert found.mean_cost == pytest.approx(0.00015)
    routes = routing9.route_many(["the same question"] * 90, 0.00015, seed=0)
    assert results(tmp_path / "out")["route"].to_pylist() == [route.model for route in routes]


def test_a_total_budget_is_a_mean_one(tmp_path, lines):
    total = run(lines, tmp_path / "total", Settings(model="routing9", total=0.21))
    mean = run(lines, tmp_path / "mean", Settings(model="routing9", cost=0.21 / 700))
    assert total.mean_cost == mean.mean_cost == pytest.approx(0.0003)
    with pytest.raises(BudgetError, match="cheapest feasible budget"):
        run(lines, tmp_path / "poor", Settings(model="routing9", total=0.0001))


def test_the_same_run_again_is_finished_already_and_another_is_refused(tmp_path, lines):
    first = run(lines, tmp_path / "out")
    before = digests(tmp_path / "out")
    again = run(lines, tmp_path / "out")
    assert again.to_dict() == first.to_dict()
    assert again.resumed == 700
    assert digests(tmp_path / "out") == before
    with pytest.raises(P2LError, match=r"holds another finished run"):
        run(lines, tmp_path / "out", Settings(model="routing9", top=3))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(P2LError, match="exists already; name a new or an empty folder"):
        run(lines, tmp_path / "mine")
    (tmp_path / "file").touch()
    with pytest.raises(P2LError, match=r"exists already|cannot be written"):
        run(lines, tmp_path / "file")


def test_no_input_is_an_error_and_leaves_nothing_that_is_in_the_way(tmp_path, lines):
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(P2LError, match="no rows"):
        run(tmp_path / "empty.jsonl", tmp_path / "out")
    with pytest.raises(TableError, match="no file is named like"):
        run(str(tmp_path / "*.nothing"), tmp_path / "out")
    with pytest.raises(P2LError, match="no such file"):
        run(tmp_path / "lgo.jsonl", tmp_path / "out2")
    (tmp_path / "bad.txt").write_text("\ud800".encode("utf-8", "surrogatepass").decode("latin-1") or "x", "latin-1")
    with pytest.raises(P2LError, match="not UTF-8"):
        run(tmp_path / "bad.txt", tmp_path / "out3")
