"""Hostile tables: bombs of compression, rows, columns and single values; lies about sizes; text that is none."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Case, command

from p2l_sdk import Scores, Votes
from p2l_sdk.analysis.terms import words
from p2l_sdk.votes.prompts import read_prompts

HEAD = "prompt,model_a,model_b,winner\n"
ROW = {"prompt": "hello", "model_a": "a", "model_b": "b", "winner": "tie"}
MB = "x" * (1 << 20)
LINES = "\n" * 9_990  # a pattern that looks for the next speaker from each of them takes seconds
MARKUP = ["\\" * 1_990 + " word", "<!--" * 490]  # nor may one that looks for the end of a comment
Make = Callable[[Path], Any]


def _votes(name: str, make: Make, says: str | None, right: Callable[[Any], bool] | None = None, **options: Any) -> Case:
    """A case that reads votes from the file that `make` writes to the path it is given."""
    file, quick = options.pop("file", name), options.pop("quick", True)

    def run(folder: Path) -> Any:
        make(folder / file)
        return len(Votes.read(folder / file, **options))

    return Case(f"votes-{name}", run, says, right, quick)


def _text(text: str | bytes) -> Make:
    return lambda path: path.write_bytes(text.encode() if isinstance(text, str) else text)


def _packed(text: bytes, times: int = 1) -> Make:
    """The text so many times; as gzip allows, each time is a file of its own behind the others."""
    return lambda path: path.write_bytes(gzip.compress(text) * times)


def _jsonl(*rows: Any) -> Make:
    return _text("".join(json.dumps(row) + "\n" for row in rows))


def _wide_json(n: int, each: int) -> Make:
    """Rows that each name other columns."""
    return lambda path: path.write_text(
        "".join(json.dumps({**ROW, **{f"c{i * each + k}": 1 for k in range(each)}}) + "\n" for i in range(n))
    )


# --- Parquet ---------------------------------------------------------------------------------------------------------


def _parquet(columns: Callable[[], dict[str, Any]], **options: Any) -> Make:
    def make(path: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(columns()), path, **options)

    return make


def _same(n: int, **texts: str) -> dict[str, Any]:
    """Columns of one text each, which Parquet stores once."""
    import numpy as np
    import pyarrow

    codes = np.zeros(n, dtype=np.int8)
    return {name: pyarrow.DictionaryArray.from_arrays(codes, [text]) for name, text in texts.items()}


def _nulls(n: int) -> dict[str, Any]:
    import pyarrow

    return {name: pyarrow.nulls(n, pyarrow.string()) for name in ROW}


def _long_list(n: int) -> dict[str, Any]:
    import pyarrow

    turns = pyarrow.ListArray.from_arrays([0, n], pyarrow.nulls(n, pyarrow.int8()))
    return {"prompt": turns, "model_a": ["a"], "model_b": ["b"], "winner": ["tie"]}


def _damaged(path: Path, change: Callable[[bytearray], Any]) -> None:
    _parquet(lambda: _same(1000, **ROW))(path)
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(bytes(data))


def _lying_footer(path: Path, size: int) -> None:
    _damaged(path, lambda data: data.__setitem__(slice(-8, -4), size.to_bytes(4, "little")))


PARQUET = [
    _votes(
        "30-million-rows.parquet",
        _parquet(lambda: _same(30_000_000, **ROW)),
        r"30,000,000 rows, more than.*--max-r",
        quick=False,
    ),
    _votes(
        "11-million-rows.parquet",
        _parquet(lambda: _same(11_000_000, winner="tie")),
        r"11,000,000 rows, more than.*--max-r",
    ),
    _votes("11-million-nulls.parquet", _parquet(lambda: _nulls(11_000_000)), "11,000,000 rows, more than", quick=False),
    _votes(
        "5000-rows-of-1-MB.parquet", _parquet(lambda: _same(5000, **{**ROW, "prompt": MB})), None, {5000}.__contains__
    ),
    _votes(
        "2000-texts-of-1-MB.parquet",
        _parquet(lambda: _same(2000, **{**ROW, "prompt": MB}), store_schema=False),
        None,
        {2000}.__contains__,
        quick=False,
    ),
    _votes(
        "200-texts-of-10-MB.parquet",
        _parquet(
            lambda: _same(200, **{**ROW, "prompt": 10 * MB}), store_schema=False, dictionary_pagesize_limit=1 << 30
        ),
        None,
        {200}.__contains__,
        quick=False,
    ),
    _votes(
        "a-row-of-34-MB.parquet",
        _parquet(lambda: {n: [v if n != "prompt" else "x" * (34 << 20)] for n, v in ROW.items()}),
        "a row of 34 MB",
    ),
    _votes(
        "a-list-of-36-millions.parquet",
        _parquet(lambda: _long_list(36_000_000)),
        "a row of|neither a string",
        quick=False,
    ),
    _votes(
        "a-list-of-70-millions.parquet",
        _parquet(lambda: _long_list(70_000_000)),
        "70,000,000 values of 'prompt",
        quick=False,
    ),
    _votes("20000-columns.parquet", _parquet(lambda: {f"c{i}": [1] for i in range(20_000)}), "20,000 columns"),
    _votes(
        "50000-columns.parquet", _parquet(lambda: {f"c{i}": [1] for i in range(50_000)}), "50,000 columns", quick=False
    ),
    _votes(
        "2-million-honest.parquet",
        _parquet(lambda: _same(2_000_000, **ROW)),
        None,
        {2_000_000}.__contains__,
        quick=False,
    ),
    _votes("max-rows-is-met.parquet", _parquet(lambda: _same(11, **ROW)), "11 rows, more than 10 rows", max_rows=10),
    _votes("max-rows-is-enough.parquet", _parquet(lambda: _same(10, **ROW)), None, {10}.__contains__, max_rows=10),
    _votes("negative-footer.parquet", lambda path: _lying_footer(path, 0xFFFFFFFF), "no whole Parquet"),
    _votes("huge-footer.parquet", lambda path: _lying_footer(path, 0x7FFFFFFF), "no whole Parquet"),
    _votes("no-footer.parquet", lambda path: _lying_footer(path, 0), "no whole Parquet"),
    _votes("only-a-mark.parquet", _text(b"PAR1"), "no whole Parquet"),
    _votes("marks-alone.parquet", _text(b"PAR1" + b"\0" * 8 + b"PAR1"), "no whole Parquet"),
    _votes(
        "zeroed-pages.parquet", lambda path: _damaged(path, lambda d: d.__setitem__(slice(4, 60), bytes(56))), "Parquet"
    ),
    _votes("packed.parquet", lambda path: path.write_bytes(gzip.compress(b"PAR1" * 500)), "compressed by gzip"),
    _votes(
        "not-utf8.parquet",
        _parquet(lambda: {n: [v.encode() if n != "prompt" else b"\xff\xfe"] for n, v in ROW.items()}),
        "prompt|binary|bytes",
    ),
]


# --- gzip ------------------------------------------------------------------------------------------------------------


PACKED = [
    _votes("bomb-of-zeros.csv.gz", _packed(bytes(1 << 20), 16), "0 is 0|100 times"),
    _votes("bomb-of-one-line.csv.gz", _packed(HEAD.encode() + b"x" * (1 << 20), 16), "100 times|line of more"),
    _votes("bomb-of-blank-lines.csv.gz", _packed(b"\n" * (1 << 20), 16), "100 times", quick=False),
    _votes("bomb-of-blank-lines.jsonl.gz", _packed(b"\n" * (1 << 20), 16), "100 times"),
    _votes("bomb-of-rows.csv.gz", _packed(HEAD.encode() + b"x,a,b,tie\n" * 100_000, 64), "100 times", quick=False),
    _votes("bomb-of-rows.jsonl.gz", _packed((json.dumps(ROW) + "\n").encode() * 10_000, 20), "100 times"),
    _votes("bomb-of-an-array.json.gz", _packed(b"[" * (1 << 20), 16), "100 times"),
    _votes("bomb-of-blanks.json.gz", _packed(b" " * (1 << 20), 16), "100 times"),
    _votes("bomb-of-an-object.json.gz", _packed(b'{"a":1,' * (1 << 18), 64), "100 times|line of more"),
    _votes("2-GB-line.jsonl.gz", _packed(b'{"prompt": "' + b"x" * (1 << 20), 2048), "100 times", quick=False),
    _votes("honest.csv.gz", _packed((HEAD + "hello,a,b,tie\n" * 9999).encode()), None, {9999}.__contains__),
    _votes("twice-packed.csv.gz", lambda p: p.write_bytes(gzip.compress(gzip.compress(HEAD.encode()))), "UTF-8"),
    _votes("cut.csv.gz", lambda p: p.write_bytes(gzip.compress(HEAD.encode() * 99)[:-20]), "no whole gzip"),
    _votes("empty.csv.gz", _text(b""), "0 bytes"),
    _votes("bomb-in-gzip.xlsx", lambda p: p.write_bytes(gzip.compress(b"PK\3\4" + bytes(1 << 24))), "gzip|Excel"),
]


# --- text ------------------------------------------------------------------------------------------------------------


def _long(head: str, piece: str, n: int, end: str = "") -> Make:
    def make(path: Path) -> None:
        with path.open("w") as file:
            file.write(head)
            for _ in range(n):
                file.write(piece)
            file.write(end)

    return make


def _sparse(path: Path, head: bytes, size: int) -> None:
    """A file of that size, of which the beginning alone is on disk."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)


NESTED = "[" * 100_000 + "]" * 100_000
TEXT = [
    _votes("field-of-1-GB.csv", lambda p: _sparse(p, HEAD.encode() + b'"x', 1 << 30), "line of more|field"),
    _votes("field-of-40-MB.csv", _long(HEAD + '"', MB + "\n", 40, '",a,b,tie\n'), "a field has more than|quote"),
    _votes("line-of-40-MB.csv", _long(HEAD, MB, 40, ",a,b,tie\n"), "line of more than 32 MB"),
    _votes("quote-without-end.csv", _long(HEAD + '"', "x,a,b,tie\n", 500_000), "a quoted field has no end|a field has"),
    _votes(
        "million-columns.csv",
        _text(",".join(map(str, range(10**6))) + "\n" + "1," * (10**6 - 1) + "1\n"),
        "its first line",
    ),
    _votes("20000-columns.csv", _text(",".join(f"c{i}" for i in range(20_000)) + "\n"), "20,000 columns"),
    _votes("commas.csv", _text("," * 10**6 + "\n"), "column|empty|header|no votes|model_a"),
    _votes("million-fields.csv", _text(HEAD + "," * 10**6 + "\n"), "more fields than the header|holds no votes"),
    _votes("2-GB-line.jsonl", lambda p: _sparse(p, b'{"prompt": "' + b"x" * 5000, 2 << 30), "line of more than 32 MB"),
    _votes("40-MB-line.jsonl", _long('{"prompt": "', MB, 40, '"}\n'), "line of more than 32 MB"),
    _votes("nested-100000.jsonl", _text(f'{{"prompt": {NESTED}}}\n'), "line 1 is no JSON: it is nested too deeply"),
    _votes("nested-million.jsonl", _text('{"prompt": ' + "[" * 10**6 + "\n"), "nested too deeply"),
    _votes("nested-objects.jsonl", _text('{"a":' * 10**5 + "1" + "}" * 10**5), "nested too deeply"),
    _votes("nested-500.jsonl", _text(f'{{"prompt": {"[" * 500 + "]" * 500}}}\n'), "more than 100 levels"),
    _votes("nested-500.json", _text(f'[{{"prompt": {"[" * 500 + "]" * 500}}}]'), "more than 100 levels"),
    _votes("nested-million.json", _text("[" * 10**6), "nested too deeply"),
    _votes("digits-5000.jsonl", _text('{"prompt": ' + "9" * 5000 + "}\n"), "a number has 5,000 digits"),
    _votes("digits-million.jsonl", _text('{"prompt": "x", "winner": -' + "9" * 10**6 + "}\n"), "digits"),
    _votes("digits-400.json", _text('[{"winner": ' + "9" * 400 + "}]"), "a number has 400 digits"),
    _votes("key-stands-twice.jsonl", _text('{"a": 1, "a": 2}\n'), "'a' stands twice"),
    _votes(
        "100000-keys-one-twice.jsonl",
        _text("{" + "".join(f'"k{i}": 1, ' for i in range(10**5)) + '"z": 1, "z": 2}\n'),
        "'z' stands twice",
    ),
    _votes("other-columns-in-each-row.jsonl", _wide_json(4000, 10), r"columns; at most 16,384"),
    _votes("10000-columns-here-and-there.jsonl", _wide_json(10_000, 1), "which most of them lack", quick=False),
    _votes("a-row-of-200000-columns.jsonl", _wide_json(1, 50_000), "columns; at most"),
    _votes("half-characters.jsonl", _jsonl({**ROW, "prompt": "\ud800", "model_a": "\udfff"}), "half|character|UTF-8"),
    _votes("zeros.csv", lambda p: _sparse(p, b"", 1 << 30), "byte 0 is 0"),
    _votes(
        "zeros-behind.csv", lambda p: _sparse(p, (HEAD + "x,a,b,tie\n" * 1000).encode(), 1 << 30), "line of more|fewer"
    ),
    _votes("null-character.csv", _text(HEAD + "x\0,a,b,tie\n"), None, {1}.__contains__),
    _votes("utf-16-cut.csv", lambda p: p.write_bytes((HEAD + "x,a,b,tie\n").encode("utf-16")[:-1]), "UTF-16"),
    _votes("utf-32-wrong.csv", lambda p: p.write_bytes(b"\xff\xfe\0\0" + b"\xff" * 400), "UTF-32"),
    _votes("only-quotes.csv", _text('"' * 100_001), "quote|CSV|header|column"),
    _votes("only-returns.csv", _text("\r" * 100_000), "."),
    _votes("2000-bars.csv", _text("|;,\t" * 2000 + "\n" + "|;,\t" * 2000 + "\n"), "."),
    _votes("max-rows-is-met.csv", _text(HEAD + "x,a,b,tie\n" * 11), "more than 10 rows", max_rows=10),
    _votes("max-rows-is-enough.csv", _text(HEAD + "x,a,b,tie\n" * 10), None, {10}.__contains__, max_rows=10),
    *(
        Case(f"max-rows-{most}", lambda _, most=most: Votes.read([ROW], max_rows=most), "max_rows is")
        for most in (0, -1, 1.5, "9", True)
    ),
    _votes(
        "nearly-transcripts.jsonl",
        _jsonl(*({**ROW, "prompt": f"user:{LINES}{i}"} for i in range(50))),
        None,
        {50}.__contains__,
    ),
    Case("words-among-markup", lambda _: sum(len(words(text)) for text in MARKUP * 2000), None, {2000}.__contains__),
    Case("infinite-prompts", lambda _: sum(1 for _ in read_prompts("/dev/zero")), "byte 0 is 0"),
    Case(
        "10-million-rows-in-memory", lambda _: Votes.read((ROW for _ in range(100)), max_rows=99), "more than 99 rows"
    ),
]


def _scores(name: str, make: Make, says: str, quick: bool = True) -> Case:
    def run(folder: Path) -> Any:
        make(folder / name)
        return len(Scores.read(folder / name).prompts)

    return Case(f"scores-{name}", run, says, quick=quick)


def _sparse_scores(path: Path) -> None:
    path.write_text("".join(json.dumps({"prompt": f"p{i}", f"llm-{i % 9000}": 1}) + "\n" for i in range(9_000)))


TEXT += [
    _scores("sparse.jsonl", _sparse_scores, "more than 50,000,000 cells", quick=False),
    _scores("20000-llms.jsonl", _jsonl({"prompt": "x"} | {f"m{i}": 1 for i in range(20_000)}), "at most 16,384"),
]


# --- commands --------------------------------------------------------------------------------------------------------


def _train(folder: Path) -> str:
    _parquet(lambda: _same(11_000_000, winner="tie"))(folder / "v.parquet")
    return command("train", "--votes", str(folder / "v.parquet"), "--output", str(folder / "out"))


def _evaluate(folder: Path) -> str:
    with (folder / "v.csv").open("w", newline="") as file:
        csv.writer(file).writerows([ROW, *[ROW.values()] * 20])
    return command("evaluate", "--votes", str(folder / "v.csv"), "--max-rows", "19")


COMMANDS = [
    Case("train-11-million-rows", _train, "11,000,000 rows, more than 10,000,000 rows.*--max-rows"),
    Case("evaluate-with-max-rows", _evaluate, "more than 19 rows"),
]
CASES = [*PARQUET, *PACKED, *TEXT, *COMMANDS]
