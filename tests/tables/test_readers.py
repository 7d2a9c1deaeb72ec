"""Every reader on generated files: the rows that were written, or a `TableError`; no traceback, no other values."""

from __future__ import annotations

import csv
import gzip
import io
import json
import warnings

import openpyxl
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from p2l_sdk.errors import P2LError, TableError
from p2l_sdk.tables.files import read_rows
from p2l_sdk.votes.counts import VoteCounts

MANY = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TEXT = st.text(
    st.sampled_from(list("ab1, ;\t|\"'\n=#.é漢😀\u2028\\{}[]"))
    | st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe\uffff"),
    max_size=8,
).filter(lambda text: not text.startswith(("=", "#")))  # which a sheet may take for a formula or an error
WORDS = {
    "prompt": TEXT.map(lambda text: f"q{text}"),
    "model_a": st.sampled_from(["gpt, new", "llama|3", 'say "hi"']),
    "model_b": st.sampled_from(["o1;mini", "日本", "NA"]),
    "winner": st.sampled_from(["model_a", "model_b", "tie", "tie (bothbad)"]),
}
EXTRA = {"task": TEXT, "x, y": TEXT, "a;b": TEXT, 'the "best"|': TEXT, "two\nlines": TEXT}
CELLS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | TEXT


@st.composite
def tables(draw, extra=EXTRA, max_size=5):
    """Votes with further columns, all in any order."""
    names = [*WORDS, *draw(st.lists(st.sampled_from(list(extra)), unique=True, max_size=3))]
    columns = {**WORDS, **extra}
    rows = draw(st.lists(st.fixed_dictionaries({name: columns[name] for name in names}), max_size=max_size))
    rows += rows[: draw(st.integers(0, 1))]  # duplicates
    order = draw(st.permutations(names))
    return order, [{name: row[name] for name in order} for row in rows]


TYPED = tables(extra=dict.fromkeys(EXTRA, CELLS))


def found(path):
    """The rows of a file; None if it is refused, by its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return [dict(row) for row in read_rows(path)]
        except P2LError as error:
            refused = error
    assert type(refused) is TableError
    assert repr(str(path)) in str(refused)
    return None


def same_votes(path, rows):
    """The votes are counted as those of the rows in memory."""
    if rows:
        a, b = VoteCounts.of(path), VoteCounts.of(rows)
        assert a.models == b.models
        assert a.number.tolist() == b.number.tolist()


def written(path, data, packed=False):
    path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    return path


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.long
@MANY
@given(
    table=tables(),
    separator=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    suffix=st.sampled_from([".csv", ".CSV", ".tsv", ".csv.gz", ".Csv.Gz"]),
    blank=st.sampled_from(["", "\n", "\r\n\r\n", "separators"]),
)
def test_csv(table, separator, quoting, end, encoding, suffix, blank, tmp_path):
    names, rows = table
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=end)
    writer.writerows([names, *([row[name] for name in names] for row in rows)])
    text = file.getvalue() + (separator * (len(names) - 1) + "\n" if blank == "separators" else blank)
    path = written(tmp_path / f"v{suffix}", text.encode(encoding), suffix.lower().endswith("gz"))
    read = found(path)
    if read is None:  # a header that may be separated by several marks is refused
        with pytest.raises(TableError, match="its header may be separated by"):
            list(read_rows(path))
        assert sum(mark in "".join(names) for mark in ",;|") or suffix == ".tsv"
    else:
        assert read == rows
        same_votes(path, rows)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_name_of_two_lines_is_no_title_above_the_header(separator, suffix, tmp_path):
    names = ['"two\nlines"', *(f'"{name}"' for name in WORDS)]
    path = written(tmp_path / f"v{suffix}", (separator.join(names) + "\n").encode())
    assert list(read_rows(path)) == []
    written(path, "\n".join([separator.join(names), separator.join(["x", "p", "a", "b", "tie"])]).encode())
    assert found(path) == [{"two\nlines": "x", **dict(zip(WORDS, ["p", "a", "b", "tie"], strict=True))}]


@pytest.mark.long
@MANY
@given(table=TYPED, absent=st.booleans(), suffix=st.sampled_from([".jsonl", ".ndjson.gz", ".json"]), data=st.data())
def test_json_lines(table, absent, suffix, data, tmp_path):
    _, rows = table
    rows = [{name: value for name, value in row.items() if not (absent and value is None)} for row in rows]
    lines = [json.dumps(row, ensure_ascii=data.draw(st.booleans())) for row in rows]
    gaps = data.draw(
        st.lists(st.sampled_from(["\n", "\r\n", "\n\n", "\n \r\n"]), min_size=len(rows), max_size=len(rows))
    )
    text = "".join(line + gap for line, gap in zip(lines, gaps, strict=True)).encode()
    path = written(tmp_path / f"v{suffix}", text, suffix.endswith("gz"))
    if rows or suffix != ".json":
        assert found(path) == rows
        same_votes(path, rows)


JSON = {
    "array": lambda names, rows: rows,
    "columns": lambda names, rows: {name: [row[name] for row in rows] for name in names},
    "pandas": lambda names, rows: {name: {str(i): row[name] for i, row in enumerate(rows)} for name in names},
    "index": lambda names, rows: {str(i): row for i, row in enumerate(rows)},
}


@pytest.mark.long
@MANY
@given(table=TYPED, shape=st.sampled_from(list(JSON)), indent=st.none() | st.just(2), packed=st.booleans())
def test_json(table, shape, indent, packed, tmp_path):
    names, rows = table
    text = json.dumps(JSON[shape](names, rows), indent=indent)
    path = written(tmp_path / ("v.json.gz" if packed else "v.json"), text.encode(), packed)
    if rows or shape in ("array", "columns"):
        assert found(path) == rows
        same_votes(path, rows)


# --- sheets and Parquet ----------------------------------------------------------------------------------------------


def as_xlsx(path, names, rows, *, above=0, below=0):
    book = openpyxl.Workbook()
    sheet = book.active
    for cells in [*[[]] * above, names, *([row[name] for name in names] for row in rows), *[[None]] * below]:
        sheet.append(cells)
    book.save(path)
    return path


SHORT = st.integers(-(10**12), 10**12).map(lambda number: number / 1000)  # a sheet keeps 15 digits
SHEETS = tables(extra=dict.fromkeys(EXTRA, st.none() | st.booleans() | st.integers(-(10**9), 10**9) | SHORT | TEXT))


@pytest.mark.long
@MANY
@given(table=SHEETS, above=st.integers(0, 1), below=st.integers(0, 2))
def test_excel(table, above, below, tmp_path):
    names, rows = table
    path = as_xlsx(tmp_path / "v.xlsx", names, rows, above=above, below=below)
    expected = [{name: None if value == "" else value for name, value in row.items()} for row in rows]
    assert found(path) == expected
    same_votes(path, expected)


@pytest.mark.long
@MANY
@given(table=tables(), group=st.integers(1, 3))
def test_parquet(table, group, tmp_path):
    names, rows = table
    columns = {name: pyarrow.array([row[name] for row in rows], pyarrow.string()) for name in names}
    parquet.write_table(pyarrow.table(columns), tmp_path / "v.parquet", row_group_size=group)
    assert found(tmp_path / "v.parquet") == rows
    same_votes(tmp_path / "v.parquet", rows)


# --- damage ----------------------------------------------------------------------------------------------------------


def a_file(kind, rows, path):
    names = list(rows[0])
    if kind == ".xlsx":
        return as_xlsx(path, names, rows)
    if kind == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    if kind.startswith(".csv"):
        file = io.StringIO(newline="")
        csv.writer(file).writerows([names, *(row.values() for row in rows)])
        text = file.getvalue()
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows) if "lines" in kind else json.dumps(rows)
    return written(path, text.encode(), kind.endswith(".gz"))


VOTES = [
    {"prompt": f"prompt {i}, {'x' * (i % 7)}", "model_a": "a", "model_b": "b", "winner": "tie" if i % 3 else "model_b"}
    for i in range(40)
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a file of each kind, made once: a sheet holds the time."""
    folder = tmp_path_factory.mktemp("whole")
    kinds = (".csv.gz", ".json.gz", ".xlsx", ".parquet", ".json", ".lines")
    return {kind: a_file(kind, VOTES, folder / f"v{kind}").read_bytes() for kind in kinds}


@pytest.mark.parametrize("kind", [".csv.gz", ".json.gz", ".xlsx", ".parquet", ".json"])
@MANY
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(whole, kind, share, tmp_path):
    part = whole[kind][: int(share * len(whole[kind]))]
    assert found(written(tmp_path / f"v{kind}", part)) is None


@pytest.mark.parametrize("kind", [".csv.gz", ".xlsx"])
@MANY
@given(data=st.data())
def test_a_damaged_file_is_refused_or_still_holds_its_rows(whole, kind, data, tmp_path):
    damaged = bytearray(whole[kind])
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    assert found(written(tmp_path / f"v{kind}", bytes(damaged))) in (None, VOTES)


@MANY
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_lines_are_the_first_rows_or_refused(whole, share, tmp_path):
    lines = whole[".lines"]
    read = found(written(tmp_path / "v.jsonl", lines[: int(share * len(lines))]))
    assert read is None or read == VOTES[: len(read)]


@MANY
@given(data=st.binary(max_size=60), kind=st.sampled_from([".csv", ".tsv.gz", ".json", ".jsonl", ".xlsx", ".parquet"]))
def test_any_bytes_are_rows_or_refused(data, kind, tmp_path):
    found(written(tmp_path / f"v{kind}", data))
