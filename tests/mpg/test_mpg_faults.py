"""A bad file of results, prices, questions or a harness's output is an error of results, whatever is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2l_sdk.errors import ResultsError
from p2l_sdk.mpg import Results
from p2l_sdk.mpg.harness import read_harness
from p2l_sdk.mpg.livebench import read_livebench
from p2l_sdk.mpg.measure.questions import read_questions
from p2l_sdk.mpg.prices import read_prices

TABLE = b"model,task\na,50\n"  # of LiveBench
GOOD = {
    Results.read: {
        "results.csv": b"model,benchmark,score\na,x,0.5\n",
        "results.jsonl": b'{"model": "a", "benchmark": "x", "correct": 1, "total": 2}\n',
        "wide.csv": b"model,x,y\na,0.5,\nb,1,1\n",
    },
    read_livebench: {"table.csv": TABLE},
    read_harness: {
        "samples_x_2024-01-01T00.jsonl": b'{"doc_id": 1, "acc": 1.0}\n',
        "results_1.json": b'{"results": {"x": {"acc,none": 0.5}}}',
    },
    read_prices: {
        "prices.csv": b"model,input_price,output_price\na,1,2\n",
        "prices.json": b'[{"model": "a", "input_price": 1, "output_price": 2}]',
    },
    read_questions: {
        "questions.jsonl": b'{"question_id": 1, "prompt": "x", "answer": "y"}\n',
        "questions.csv": b"question_id,prompt,answer\n1,x,y\n",
    },
}
READERS = [(read, name) for read, files in GOOD.items() for name in files]


def refused(read, *sources) -> str:
    with pytest.raises(ResultsError) as caught:  # no `VotesError` is one
        read(*sources)
    return str(caught.value)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("read", "name"), READERS)
def test_a_file_that_cannot_be_read(read, name, tmp_path):
    path = tmp_path / name
    assert repr(str(path)) in refused(read, path)
    path.write_bytes(GOOD[read][name])
    if read is not read_livebench:  # whose tree has no such task
        read(path)
    assert repr(str(path)) in refused(read, written(path, GOOD[read][name] + b"\xff\xfe\n"))
    assert "parquet" in refused(read, written(tmp_path / "samples_x.parquet", b"PAR1 nothing"))
    assert "x.doc" in refused(read, written(tmp_path / "x.doc", b"x"))


@pytest.mark.parametrize(("read", "name"), READERS)
@pytest.mark.parametrize(
    "content",
    [b'{"a": \n1\n', b"[1, 2\n3\n", b"[" * 100_000 + b"\n1\n", b"1,2\n3,4,5\n", b"a;b\n1;2\n", b"a,a\n1,2\n"],
    ids=range(6),
)
def test_a_damaged_file(read, name, content, tmp_path):
    refused(read, written(tmp_path / name, content))


FAULTS = {
    (Results.read, "r.csv"): {
        b"model,score\na,0.5,1\n": "line 2 has more fields than the header",
        b"benchmark,score\nx,0.5\n": "the results have the columns benchmark, score; they need",
        b"model,benchmark,score\na,x,good\n": "line 2: score is 'good'; it must be a number in",
        b"model,benchmark,score\n,x,0.5\n": "line 2 has no model",
    },
    (Results.read, "r.jsonl"): {
        b'{"model": "a", "benchmark": "x", "score": [1]}\n': r"line 1: score is \[1\]; it mu",
        b'{"model": "a", "x": 0.5}\n{"model": "b", "x": "0,500,1"}\n': "line 2: x is '0,500,1'; it",
    },
    (read_livebench, "t.csv"): {
        b"name,task\na,50\n": "is no table of LiveBench: it has no column 'model'",
        b"model,task\na,many\n": r"line 2: task is 'many'; it must be a number in \[0, 100\]",
    },
    (read_livebench, "t.jsonl"): {
        b'{"model": "a", "x": 1}\n{"model": "b", "x": -1}\n': "line 2: x is -1",
        b'{"model": "a", "x": 1}\n{"x": 1}\n': "line 2 has no model",
    },
    (read_harness, "results_1.json"): {
        b"[]": "is no result file of lm-eval",
        b'{"results": {"x": 3}}': "the results of 'x' are no table",
        b'{"results": {"x": {"acc": 7}}}': "results_1.json', task 'x' of .*: acc is 7; it must be a number",
        b'{"results": {"x": {"acc": ["1,000"]}}}': r"task 'x' of .*: acc is \['1,000'\]; it",
        b'{"n-samples": 3, "results": {"x": {"acc": 2}}}': "task 'x' of .*: acc is 2; it",
    },
    (read_harness, "samples_x.jsonl"): {
        b'{"doc_id": 1, "points": 1}\n': "row 1 has no known metric; it has",
        b'{"doc_id": 1, "acc": ["a"]}\n': r"line 1: acc is \['a'\]; it must be a n",
        b'{"doc_id": 1, "acc": []}\n': r"line 1: acc is \[\]; it must be a number",
    },
    (read_prices, "p.csv"): {
        b"model,input_price\na,1\n": "line 2 has no output_price",
        b"model,input_price,output_price\na,1,cheap\n": "line 2: the prices of 'a' must be",
    },
    (read_prices, "p.json"): {
        b"3": "is no table: it holds neither an array of objects",
        b'[{"model": ["a"], "input_price": 1, "output_price": 1}]': "row 1 has no model",
    },
    (read_questions, "q.csv"): {
        b"question_id,prompt\n1,x\n": "line 2 has no answer; questions have question_id",
    },
    (read_questions, "q.jsonl"): {
        b'{"question_id": 1, "prompt": 2, "answer": 3}\n': "line 1: the prompt must be",
    },
}


@pytest.mark.parametrize(
    ("read", "name", "content", "message"),
    [(*key, *fault) for key, faults in FAULTS.items() for fault in faults.items()],
)
def test_a_table_that_breaks_its_contract(read, name, content, message, tmp_path):
    path = written(tmp_path / name, content)
    with pytest.raises(ResultsError, match=message):
        read(path)


OTHERS = {
    "not from int": 3,
    "the columns differ in length": {"model": ["a"], "x": [0.5, 0.6]},
    "row 1 is no dictionary but int": [3],
    "the table of results is empty": [],
    "'org/none' is not in the cache and the Hub was not asked": "org/none",  # offline
    "no such file: 'no.results'; known: a file .json, ": "no.results",
}


@pytest.mark.parametrize("message", OTHERS)
def test_other_sources_of_results(message):
    assert message in refused(Results.read, OTHERS[message])


def test_categories_of_livebench(tmp_path):
    table = written(tmp_path / "t.csv", TABLE)
    path = tmp_path / "categories.json"
    assert "no such file" in refused(read_livebench, table, path)
    for content, message in (
        (b"\xff", "line 1 is not UTF-8 text (byte 0 is 0xff)"),
        (b"{", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[]", "must hold an object, category: [tasks]"),
        (b'{"x": 3}', "the tree needs the key 'nodes'"),
    ):
        assert message in refused(read_livebench, table, written(path, content))
    path.write_text(json.dumps({"x": ["task"]}))
    results, tree = read_livebench(table, path)
    assert results.means.tolist() == [[0.5]]
    assert "x" in tree.nodes


@pytest.mark.parametrize("option", ["--results", "--reference"])
def test_the_command_blames_results_for_a_damaged_table(option, tmp_path):
    """Not votes, whichever reader the options choose."""
    from p2l_sdk.cli import cli

    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("model,math,code\na,0.5,0.6\nb,0.4,0.7\n", encoding="utf-8")
    bad.write_bytes(b"model,rating\n\xff,3\n")
    options = {"--results": good, "--reference": good} | {option: bad}
    extra = ["--benchmark-column", "benchmark"] if option == "--results" else []
    with pytest.raises(ResultsError, match="is not UTF-8 text"):
        cli(["mpg", "report", *(str(x) for pair in options.items() for x in pair), *extra], standalone_mode=False)
