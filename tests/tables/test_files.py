"""Files as people have them: separators, encodings, gzip, sheets; where a row stands, and files that are not there."""

from __future__ import annotations

import gzip
import json
import sys

import openpyxl
import pandas
import pyarrow
import pytest
from pyarrow import parquet

from p2l_sdk.bulk import Columns
from p2l_sdk.bulk.reading import Input
from p2l_sdk.errors import CostError, MissingExtraError, P2LError, P2LWarning, TableError, VotesError
from p2l_sdk.routing.costs import load_costs
from p2l_sdk.tables.documents import read_yaml
from p2l_sdk.tables.files import KINDS, is_data, read_rows
from p2l_sdk.tables.sources import hub_repository, open_source
from p2l_sdk.votes.prompts import read_prompts
from p2l_sdk.votes.votes import Scores, Votes

HEADER = ["prompt", "model_a", "model_b", "winner"]
GOOD = [["a, b", "x", "y", "tie"], ["c; d", "y", "x", "model_a"]]
TEXT = "prompt,model_a,model_b,winner\nhi,x,y,tie\nho,y,x,model_a\n"
ROW = '{"prompt": "hi", "model_a": "x", "model_b": "y", "winner": "tie"}'


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def sheet(path, *sheets, hidden=()):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets:
        page = book.create_sheet(title)
        page.sheet_state = "hidden" if title in hidden else "visible"
        for row in rows:
            page.append(row)
    book.save(path)
    return path


def refusal(source, read=Votes.read):
    with pytest.raises(VotesError) as caught:
        read(source)
    return str(caught.value).splitlines()[0]


# --- separators and encodings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", ",;\t|")
@pytest.mark.parametrize("name", ["v.csv", "v.TSV", "v.csv.gz"])
def test_any_separator(separator, name, tmp_path):
    frame = pandas.DataFrame(GOOD, columns=HEADER)
    frame.to_csv(tmp_path / name, sep=separator, index=False)
    assert Votes.read(tmp_path / name).prompts == ["a, b", "c; d"]


def test_a_header_that_says_its_separator_and_one_that_does_not(tmp_path):
    said = write(tmp_path / "v.csv", "sep=;\r\n" + TEXT.replace(",", ";").replace("hi", "a,b"))
    assert Votes.read(said).prompts == ["a,b", "ho"]
    assert "line 4: model_a is missing" in refusal(write(said, "sep=;\n" + TEXT.replace(",", ";").replace("y;x", ";x")))
    rows_decide = write(tmp_path / "v.csv", "prompt;model_a;model_b;winner;x, y\nhi;x;y;tie;1\nho, so, ha;y;x;tie;2\n")
    assert Votes.read(rows_decide).prompts == ["hi", "ho, so, ha"]
    both = write(tmp_path / "v.csv", "prompt;a,b\n1,2;3\n")
    assert "its header may be separated by commas or semicolons; put quotes around" in refusal(both)


def test_decimal_commas(tmp_path):
    file = write(tmp_path / "s.csv", "prompt;gpt;llama;tags\nhi;0,5;1;1,2\nho;1;0,25;a\n")
    assert Scores.read(file).scores.tolist() == [[0.5, 1.0], [1.0, 0.25]]
    assert Scores.read(file).categories["tags"].tolist() == ["1,2", "a"]
    write(file, "prompt;gpt;llama\nhi;61,234;0,5\nho;71,234;0,5\n")  # or sixty thousand
    assert "line 2: the score of 'gpt' is '61,234'; it must be a finite number" in refusal(file, Scores.read)
    assert load_costs(write(tmp_path / "c.csv", "model;cost\nx;0,005\n"), ("x",)) == {"x": 0.005}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["v.csv", "v.csv.gz"])
def test_encodings_with_a_mark(encoding, name, tmp_path):
    data = TEXT.replace("hi", "é漢").encode(encoding)
    file = write(tmp_path / name, gzip.compress(data) if name.endswith("gz") else data)
    assert Votes.read(file).prompts == ["é漢", "ho"]


def test_other_encodings_are_refused_by_byte_and_line(tmp_path):
    file = tmp_path / "v.csv"
    for n in (1, 5000):
        text = TEXT + "hi,x,y,tie\n" * n + "café,x,y,tie\n"
        write(file, text.encode("latin-1"))
        expected = (
            f"line {n + 4} is not UTF-8 text (byte {text.index('é')} is 0xe9); save it as UTF-8 (Excel: 'CSV UTF-8')"
        )
        assert expected in refusal(file)
    lines = write(tmp_path / "p.txt", "hi\ncafé\n".encode("latin-1"))
    for read in (read_prompts, lambda path: list(Input([path], Columns()).parts(9))):
        with pytest.raises(P2LError, match=r"line 2 is not UTF-8 text \(byte 6 is 0xe9\); .*iconv"):
            list(read(lines))
    assert "it may be UTF-16 without a byte order mark" in refusal(write(file, TEXT.encode("utf-16-le")))
    assert "is no whole UTF-16 text" in refusal(write(file, TEXT.encode("utf-16")[:-1]))
    assert Votes.read(write(file, TEXT.replace("hi", "h\0"))).prompts == ["h\0", "ho"]


def test_contents_that_belie_the_name(tmp_path):
    packed = gzip.compress(TEXT.encode())
    assert (
        len(Votes.read(write(tmp_path / "v.csv", packed))) == len(Votes.read(write(tmp_path / "w.csv.gz", TEXT))) == 2
    )
    assert "is no whole gzip file: it has 0 bytes" in refusal(write(tmp_path / "v.csv.gz", b""))
    assert "is no whole gzip file" in refusal(write(tmp_path / "v.csv.gz", packed[:-9]))
    assert "is no text but an Excel or zip file: let its name end" in refusal(write(tmp_path / "v.csv", b"PK\x03\x04"))
    assert "is no text but a Parquet file" in refusal(write(tmp_path / "v.jsonl", b"PAR1"))
    assert "is no whole Excel file (.xlsx)" in refusal(write(tmp_path / "v.xlsx", TEXT))
    assert "holds one" not in refusal(write(tmp_path / "v.jsonl", f"[{ROW}]"))
    assert "a JSON array goes into a .json file" in refusal(tmp_path / "v.jsonl")
    assert "its rows may be in 'data': save that array alone" in refusal(write(tmp_path / "v.json", '{"data": [{}]}'))
    assert len(Votes.read(write(tmp_path / "v.json", f"{ROW}\n\n{ROW}\n"))) == 2


def test_what_would_be_another_prompt_is_refused(tmp_path):
    """A quote that is not doubled swallows the rows below it; of a key that stands twice, the last would count."""
    file = tmp_path / "v.csv"
    assert "line 3: a quoted field has no end" in refusal(write(file, TEXT.replace("ho", '"ho')))
    assert 'double the quotes within a field ("")' in refusal(write(file, TEXT.replace("ho", '"ho" he')))
    twice = write(tmp_path / "v.jsonl", ROW.replace('"model_a"', '"prompt": "y", "model_a"'))
    assert "line 1 is no JSON: 'prompt' stands twice in one object; keep one" in refusal(twice)


# --- rows ------------------------------------------------------------------------------------------------------------


def test_a_row_is_named_by_its_line(tmp_path):
    bad = "ho,,x,tie\n"
    csv = write(tmp_path / "v.csv", f'{TEXT}"two\nlines",x,y,tie\n\n,,,\n"a\nb\n",x,y,tie\n{bad}')
    assert refusal(csv).startswith(f"'{csv}': line 11: model_a is missing")
    lines = write(tmp_path / "v.jsonl", f"\n{ROW}\r\n\r\n \n{ROW.replace('tie', 'me')}\n")
    assert refusal(lines).startswith(f"'{lines}': line 5: winner is 'me'")
    array = write(tmp_path / "v.json", f"[{ROW},\n\n{ROW.replace('tie', 'me')}]")
    assert refusal(array).startswith(f"'{array}': row 2: winner is 'me'")
    pattern = f"{write(tmp_path / 'v-1.csv', TEXT).parent}/v-*.csv"
    second = write(tmp_path / "v-2.csv", TEXT + bad)
    assert refusal(pattern).startswith(f"'{pattern}': '{second}', line 4: model_a is missing")
    assert "line 3: the prompt is empty" in refusal(
        write(tmp_path / "p.csv", 'prompt,x\nhi,1\n"",2\n'), lambda file: list(read_prompts(file))
    )
    source = open_source(csv)
    rows = [row for chunk in source.chunks for row in chunk["prompt"]]
    assert [source.place(row) for row in range(len(rows))] == ["line 2", "line 3", "line 4", "line 8", "line 11"]


def test_blank_rows_and_columns_are_none(tmp_path):
    text = "prompt,model_a,model_b,winner,,\nhi,x,y,tie,,\n,,,,,\n  ,,,,,\n\n"
    file = write(tmp_path / "v.csv", text)
    assert [dict(row) for row in read_rows(file)] == [
        {"prompt": "hi", "model_a": "x", "model_b": "y", "winner": "tie", "": ""}
    ]
    assert "line 4 has 'note' in column 6, which has no name" in refusal(write(file, text[:46] + "\nhi,x,y,tie,,note"))


# --- sheets ----------------------------------------------------------------------------------------------------------


def test_the_first_sheet_is_read_and_it_is_said(tmp_path):
    file = sheet(tmp_path / "v.xlsx", ("old", [["x"]]), ("votes", [[], HEADER, *GOOD]), ("notes", []), hidden=["old"])
    with pytest.warns(P2LWarning, match="has 2 sheets; the first, 'votes', is read"):
        assert Votes.read(file).prompts == ["a, b", "c; d"]
    empty = sheet(tmp_path / "V.XLSX", ("v", [[], HEADER, [], GOOD[0], ["hi", None, "y", "tie"], [None, ""]]))
    assert "line 5: model_a is missing" in refusal(empty)


def test_numbers_errors_and_formulas_of_a_sheet(tmp_path):
    rows = [["prompt", "a", "b", "n"], ["hi", 1.0, 0.5, 3.0], ["ho", 0, 0.25, 2]]
    scores = Scores.read(sheet(tmp_path / "s.xlsx", ("s", rows)), ["a", "b"])
    assert scores.scores.tolist() == [[1.0, 0.5], [0.0, 0.25]]
    assert [row["n"] for row in read_rows(tmp_path / "s.xlsx")] == [3, 2]
    as_text = [["prompt", "a", "b"], ["hi", "1", 0.5], ["ho", "0,75", 0.25]]  # cells with a green corner
    assert Scores.read(sheet(tmp_path / "t.xlsx", ("s", as_text))).scores.tolist() == [[1.0, 0.5], [0.75, 0.25]]
    rows[1][2] = "#DIV/0!"
    assert "line 2: 'b' is #DIV/0!, an error in the sheet" in refusal(
        sheet(tmp_path / "s.xlsx", ("s", rows)), Scores.read
    )
    rows[1][2] = "=1/2"
    assert "has formulas without values; open it in Excel" in refusal(
        sheet(tmp_path / "s.xlsx", ("s", rows)), lambda file: Scores.read(file, allow_missing=True)
    )


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    file = sheet(tmp_path / "v.xlsx", ("v", [HEADER]))
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingExtraError, match=r'an Excel file needs openpyxl, .*: pip install "p2l-sdk\[excel\]"'):
        Votes.read(file)


# --- files that are not there ----------------------------------------------------------------------------------------


def test_a_missing_file_is_called_so_by_every_reader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "votes.csv", TEXT)
    for name in (
        "data/votes.csv",
        "data/votes.csv.gz",
        "data/votes.xlsx",
        "data/votes.jsnl",
        "data/votes.parqet",
        "d/v.xls",
    ):
        assert refusal(name).startswith(f"no such file: '{name}' (there is no folder 'd")
        assert hub_repository(name) is None
    assert refusal("vote.csv") == "no such file: 'vote.csv'; in its folder there is 'votes.csv'"
    assert refusal("https://x.org/votes.csv").endswith("is an address; download the file, and name that")
    assert refusal("votes").startswith("no such file: 'votes'")
    for read, kind in ((read_yaml, Exception), (lambda name: load_costs(name, ("x",)), CostError)):
        with pytest.raises(kind, match=r"^no such file: 'absent.yaml'$"):
            read("absent.yaml")
    for name in ("absent.csv", "absent.txt", "absent.ods", "absent"):
        assert refusal(name, lambda file: list(read_prompts(file))).startswith(f"no such file: '{name}'")
    assert not any(map(is_data, ("org/votes", "org/gpt-4.1", "org/data-v1.0", "org/model.js")))
    assert all(kind in KINDS for kind in (".json", ".ndjson", ".tsv", ".xlsx"))


def test_prompts_and_costs_are_read_from_every_kind(tmp_path):
    rows = [{"model": "x", "cost": 0.5, "prompt": "hi"}]
    frame = pandas.DataFrame(rows)
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    frame.to_csv(tmp_path / "t.csv.gz", sep=";", index=False, decimal=",")
    frame.to_parquet(tmp_path / "t.parquet")
    write(tmp_path / "t.json", json.dumps(rows))
    for name in ("t.xlsx", "t.csv.gz", "t.parquet", "t.json"):
        assert list(read_prompts(tmp_path / name)) == ["hi"]
        assert load_costs(tmp_path / name, ("x",)) == {"x": 0.5}


def test_half_a_character_in_the_name_of_an_llm_is_refused(tmp_path):
    """An escape in JSON that was cut: no terminal and no file can write it."""
    file = write(tmp_path / "v.jsonl", ROW.replace('"x"', '"x\\ud83d"'))
    assert r"line 1: model_a is 'x\ud83d', which ends or begins within a character; correct" in refusal(file)


@pytest.mark.parametrize("read", [Votes.read, lambda file: list(read_rows(file))])
def test_a_value_that_python_does_not_have_is_refused(read, tmp_path):
    dates = pyarrow.array([2**62], pyarrow.timestamp("us"))
    parquet.write_table(pyarrow.table({"prompt": ["hi"], "at": dates}), tmp_path / "v.parquet")
    with pytest.raises(TableError, match=r"v\.parquet' has a value that cannot be read: "):
        read(tmp_path / "v.parquet")
