"""What names of input stand for, which rows of CSV are faulty, and what is refused before the work."""

from __future__ import annotations

import json
import os
import shutil

import pyarrow as pa
import pytest
from bulk_prompts import write_lines
from pyarrow import parquet

from p2l_sdk.bulk import Columns, Settings, score_files
from p2l_sdk.errors import P2LError, P2LWarning, TableError, VotesError
from p2l_sdk.votes.prompts import read_prompts

SMALL = Settings(model="routing9", top=1, aggregate="none")


def run(files, folder, **options):
    return score_files(files, folder, SMALL, **{"processes": 1, **options})


def results(folder):
    """The results of all parts as one table."""
    return pa.concat_tables([parquet.read_table(path) for path in sorted(folder.glob("part-*.parquet"))])


@pytest.fixture
def logs(tmp_path):
    """A folder of logs: three kinds of table in two folders, and what other programs keep there."""
    folder = tmp_path / "logs"
    (folder / "day=2").mkdir(parents=True)
    (folder / "_delta_log").mkdir()
    write_lines(folder / "a.jsonl", 3)
    (folder / "b.csv").write_text("id,prompt\n3,why\n4,how\n")
    parquet.write_table(pa.table({"id": [5], "prompt": ["who"]}), folder / "day=2" / "c.parquet")
    write_lines(folder / "_delta_log" / "0.jsonl", 9)
    (folder / "README.md").write_text("what this is\n")
    return folder


@pytest.mark.parametrize("how", ["folder", "pattern", "within"])
def test_a_folder_stands_for_all_tables_in_it_but_those_of_the_results(tmp_path, logs, how):
    if how == "pattern":
        (logs / "README.md").unlink()  # which a pattern names
        shutil.rmtree(logs / "_delta_log")
    out = logs / "scored" if how == "within" else tmp_path / "out"
    for _ in range(2):  # the second call finds the run finished, wherever its results are
        assert run(str(logs / "*") if how == "pattern" else logs, out).n_scored == 6
    table = results(out)
    assert table["id"].to_pylist() == [0, 1, 2, 3, 4, 5]
    names = [str(logs / name) for name in ("a.jsonl", "b.csv", "day=2/c.parquet")]
    assert list(dict.fromkeys(table["file"].to_pylist())) == names
    assert table["row"].to_pylist() == [1, 2, 3, 1, 2, 1]


def test_data_in_a_folder_that_cannot_be_read_is_not_left_out_in_silence(tmp_path, logs):
    (logs / "d.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    with pytest.raises(TableError, match=r"d.jsonl.zst' is of no known kind; unpack it, or compress it with gzip"):
        run(logs, tmp_path / "out")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("hello\n")
    with pytest.raises(TableError, match=r"texts' holds no table: .*; files of text are named by a pattern"):
        run(tmp_path / "texts", tmp_path / "out")
    assert run(str(tmp_path / "texts" / "*.txt"), tmp_path / "out").n_scored == 1


@pytest.mark.parametrize("command", ["", "."])
def test_an_output_that_holds_the_input_is_refused_for_what_it_is(logs, command, monkeypatch):
    monkeypatch.chdir(logs)
    with pytest.raises(P2LError, match="exists already; name a new or an empty folder"):
        run("." if command else "*.csv", ".")


def test_one_file_by_two_names_is_refused(tmp_path, logs, monkeypatch):
    monkeypatch.chdir(logs)
    (logs / "link.csv").symlink_to("b.csv")
    for other in ("./b.csv", "link.csv", str(logs / "b.csv"), "*.csv", "."):
        with pytest.raises(TableError, match="is named twice, and its prompts would count twice"):
            run(["b.csv", other], tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "columns", "said"),
    [
        ('{"q": "x"}\n', {}, r"'.*third.jsonl': there is no column 'prompt' \(there is: q\)"),
        ('{"prompt": "x"}\n', {"by": "lang"}, "'.*third.jsonl': there is no column 'lang'"),
        ('{"prompt": "x"}\n', {"keep": ("lang",)}, "'.*third.jsonl': there is no column 'lang'"),
    ],
)
def test_a_column_that_the_third_file_lacks_is_told_before_the_first_is_scored(tmp_path, text, columns, said):
    files = [write_lines(tmp_path / name, 30) for name in ("first.jsonl", "second.jsonl")]
    (tmp_path / "third.jsonl").write_text(text)
    seen = []
    with pytest.raises(TableError, match=said):
        run(
            [*files, tmp_path / "third.jsonl"],
            tmp_path / "out",
            columns=Columns(**columns),
            part_rows=10,
            progress=lambda done, total: seen.append(done),
        )
    assert seen == []
    assert not (tmp_path / "out").exists()


def test_what_is_looked_at_before_the_work_is_no_stricter_than_the_work(tmp_path):
    broken = "{no json\n" * 150 + '{"prompt": "x"}\n'  # more than what is looked at first
    late = '{"id": 1}\n' * 150 + '{"Prompt": "y"}\n'
    (tmp_path / "a.jsonl").write_text(broken)
    (tmp_path / "b.jsonl").write_text(late)
    (tmp_path / "c.jsonl").touch()
    found = run([tmp_path / f"{name}.jsonl" for name in "abc"], tmp_path / "out")
    assert (found.n_rows, found.n_scored) == (302, 2)


def test_a_row_of_csv_that_is_none_is_a_faulty_row(tmp_path):
    lines = [
        "id,prompt,kind", "0,ok,a", "1,one,too,many", "2", '3,"he said "no", again",b', '4,"two', 'lines",b',
        '5,"open', '6,x,"y" z', "7,good,b",
    ]  # fmt: skip
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    found = run(tmp_path / "log.csv", tmp_path / "out", columns=Columns(by="kind"))
    assert results(tmp_path / "out")["id"].to_pylist() == ["0", "4", "7"]
    report = [json.loads(line) for line in (tmp_path / "out" / "bad-rows.jsonl").read_text().splitlines()]
    assert [(row["place"], row["row"]) for row in report] == [
        ("line 3", 2),
        ("line 4", 3),
        ("line 5", 4),
        ("line 8", 6),
    ]
    assert [row["error"].partition(":")[0] for row in report] == [
        "it has more fields than the header",
        "it has fewer fields than the header",
        "it is no row of CSV",
        "it is no row of CSV",
    ]
    assert (found.n_rows, found.n_scored) == (7, 3)
    (tmp_path / "none.csv").write_text("id,prompt\n" + "0,a,b\n" * 9)
    with pytest.raises(TableError, match="none of its first 9 rows is one of its table: line 2: it has more fields"):
        run(tmp_path / "none.csv", tmp_path / "other")


def test_a_file_that_changed_at_its_ends_is_another_one_though_it_has_its_size(tmp_path):
    file = write_lines(tmp_path / "log.jsonl", 40)
    run(file, tmp_path / "out")
    text = file.read_text(encoding="utf-8")
    for changed in (text.replace("Prove", "Solve", 1), text[:-100] + text[-100:].replace('"en"', '"de"')):
        assert changed != text
        file.write_text(changed, encoding="utf-8")
        with pytest.raises(
            P2LError, match=r"holds another finished run .*: its input has 1 file changed \('.*log.jsonl'"
        ):
            run(file, tmp_path / "out")
    file.write_text(text, encoding="utf-8")
    os.utime(file, (1, 1))  # as a copy has it
    assert run(file, tmp_path / "out").resumed == 40


def test_json_lines_by_another_name_are_no_texts(tmp_path):
    for name in ("log", "log.txt"):
        file = write_lines(tmp_path / name, 4)
        with pytest.raises(TableError, match=rf"{name}': line 1 is a JSON object with a prompt, .* end with .jsonl"):
            run(file, tmp_path / "out")
        with pytest.raises(VotesError, match=r"line 1 is a JSON object with a prompt, .* end with .jsonl"):
            list(read_prompts(file))
    (tmp_path / "own.txt").write_text('{"a": 1}\nwhat does the line above mean?\n')
    assert run(tmp_path / "own.txt", tmp_path / "out").n_scored == len(list(read_prompts(tmp_path / "own.txt"))) == 2


@pytest.mark.parametrize("before", [0, 1, 9, 30])
def test_a_quote_at_a_wrong_place_is_a_faulty_row_wherever_it_stands(tmp_path, before):
    (tmp_path / "log.csv").write_text("prompt\n" + "hello\n" * before + '"bro"ken\nbye\n')
    found = run(tmp_path / "log.csv", tmp_path / "out")
    assert (found.n_scored, found.n_bad) == (before + 1, 1)
    assert f"line {before + 2}: it is no row of CSV" in found.first_bad[0]


def test_a_header_that_is_no_row_of_csv_is_refused(tmp_path):
    (tmp_path / "log.csv").write_text('"pro"mpt\nhello\nbye\n')
    with pytest.raises(TableError, match="line 1, at the header or above it, is no row of CSV"):
        run(tmp_path / "log.csv", tmp_path / "out")


@pytest.mark.parametrize(("name", "remedy"), [("a.parquet.gz", "unpack it; known"), ("a.csv.bz2", "unpack it, or")])
def test_what_is_packed_in_a_way_that_is_not_read_is_to_be_unpacked(tmp_path, name, remedy):
    (tmp_path / name).write_bytes(b"packed")
    with pytest.raises(TableError, match=f"is of no known kind; {remedy}"):
        run(tmp_path / name, tmp_path / "out")


def test_what_is_odd_about_a_file_is_said_once(tmp_path):
    (tmp_path / "a.csv").write_text("Prompts of May\nprompt,kind,n\nwhy,a,1\nhow,b,2\n")
    with pytest.warns(P2LWarning, match="line 2 is read as the header") as caught:
        run(tmp_path / "a.csv", tmp_path / "out", columns=Columns(by="kind"))
    assert len(caught) == 1


def test_another_finished_run_is_told_by_what_differs(tmp_path):
    one, two = (write_lines(tmp_path / f"{name}.jsonl", 4) for name in ("one", "two"))
    run([one, two], tmp_path / "out")
    for files, said in (
        ([two, one], "its files come in another order"),
        ([one], r"its input has 1 file fewer \('.*two.jsonl'\)"),
        ([one, two, write_lines(tmp_path / "three.jsonl", 4)], r"its input has 1 file more \('.*three.jsonl'\)"),
    ):
        with pytest.raises(P2LError, match=said):
            run(files, tmp_path / "out")
    with pytest.raises(P2LError, match="part_rows was 20000, and is 3"):
        run([one, two], tmp_path / "out", part_rows=3)


def test_addresses_are_no_files_and_no_folders_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write_lines(tmp_path / "log.jsonl", 4)
    with pytest.raises(TableError, match="is an address; download the file"):
        run("s3://bucket/log.parquet", tmp_path / "out")
    with pytest.raises(P2LError, match="the output 's3://bucket/scored' is an address; name a path on this machine"):
        run(file, "s3://bucket/scored")
    assert os.listdir(tmp_path) == ["log.jsonl"]


def test_prompts_that_were_scored_before_are_counted_without_faulty_rows(tmp_path):
    file = write_lines(tmp_path / "log.jsonl", 6)
    with file.open("a") as opened:
        opened.write("{broken\n")
    assert run(file, tmp_path / "out").resumed == 0
    again = run(file, tmp_path / "out")
    assert (again.n_rows, again.n_scored, again.resumed) == (7, 6, 6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cost": 0.1, "total": 3}, "--cost or --budget"),
        ({"total": 3, "route": "per-prompt"}, "--route joint"),
        ({"models": ("a",)}, "--cost, --budget or --route joint"),
    ],
)
def test_settings_that_exclude_each_other_are_told_with_their_options(settings, said):
    with pytest.raises(P2LError, match=said):
        Settings(**settings)
