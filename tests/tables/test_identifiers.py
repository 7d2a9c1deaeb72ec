"""A column that holds no scores becomes neither an LLM nor a benchmark: left out, or asked for by name."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2l_sdk.errors import P2LError, P2LWarning, ScoresError
from p2l_sdk.mpg import Results
from p2l_sdk.mpg.livebench import read_livebench
from p2l_sdk.votes.votes import Scores, Votes

INDEX = (
    "",
    " ",
    "Unnamed: 0",
    "Unnamed: 0.1",
    "unnamed: 3",
    "index",
    "Index",
    "level_0",
    "__index_level_0__",
    "row.names",
)


def as_csv(columns: dict[str, list], path) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    path.write_text(text.getvalue(), encoding="utf-8")
    return str(path)


def quietly(read, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(*args, **options)


@st.composite
def tables(draw, key: str, names: tuple[str, ...], high: int):
    """A table of scores, and the same with an index column anywhere and its rows and columns in any order."""
    n = draw(st.integers(1, 12))
    graded = st.integers(1, 999).map(lambda x: x * high / 1000)
    score = draw(st.sampled_from([st.integers(0, high), graded]))
    columns = {key: [f"{key} {i}" for i in range(n)]}
    columns |= {name: draw(st.lists(score, min_size=n, max_size=n)) for name in names}
    index = draw(st.one_of(st.just(range(n)), st.just(range(1, n + 1)), st.just(range(7, 70 * n, 61))))
    other = {**columns, draw(st.sampled_from(INDEX)): list(index)[:n]}
    rows = draw(st.permutations(range(n)))
    order = draw(st.permutations(list(other)))
    return columns, {name: [other[name][row] for row in rows] for name in order}, rows


FIGURE = re.compile(r"looks like (the (mean|sum|maximum|minimum) of the others|a difference of two others), not like")
LLM_NAMES, BENCHMARK_NAMES = ("alpha", "beta-13b", "gamma"), ("mmlu", "xcopa_id", "word_count")


@pytest.mark.long
@given(tables("prompt", LLM_NAMES, 1), st.booleans())
@settings(max_examples=150, deadline=None)
def test_an_index_column_anywhere_changes_no_score(tmp_path_factory, table, as_file):
    plain, other, rows = table
    expected = quietly(Scores.read, plain, LLM_NAMES)
    source = as_csv(other, tmp_path_factory.mktemp("t") / "s.csv") if as_file else other
    try:
        found = quietly(Scores.read, source, not_llms=())
    except ScoresError as error:  # by chance, scores may be a figure of the others: asked for, with the index or not
        if not FIGURE.search(str(error)):
            raise
        with pytest.raises(ScoresError, match=FIGURE):
            quietly(Scores.read, plain, not_llms=())
        found = quietly(Scores.read, source, LLM_NAMES)
    assert found.models == LLM_NAMES
    assert not set(found.categories) & set(INDEX)
    np.testing.assert_array_equal(found.scores, expected.scores[list(rows)])


@pytest.mark.long
@given(tables("model", BENCHMARK_NAMES, 100), st.booleans())
@settings(max_examples=150, deadline=None, derandomize=True)  # a random table may hold a mean by chance
def test_an_index_column_anywhere_changes_no_benchmark(tmp_path_factory, table, as_file):
    plain, other, _ = table
    expected = quietly(Results.read, plain, percent=BENCHMARK_NAMES, columns=BENCHMARK_NAMES)
    source = as_csv(other, tmp_path_factory.mktemp("t") / "r.csv") if as_file else other
    try:
        found = quietly(Results.read, source, percent=True)
    except P2LError as error:  # scores that count the rows, beside others that do not, are asked for
        if "--columns" not in str(error):
            raise
        found = quietly(Results.read, source, percent=BENCHMARK_NAMES, columns=BENCHMARK_NAMES)
    assert set(found.benchmarks) == set(BENCHMARK_NAMES)
    at = [found.models.index(name) for name in expected.models], [found.benchmarks.index(n) for n in BENCHMARK_NAMES]
    np.testing.assert_array_equal(found.means[np.ix_(*at)], expected.means)


@given(st.permutations(range(9)), st.integers(0, 1), st.sampled_from(["nr", "lfd", "case", "id", "rank", "X"]))
@settings(max_examples=60, deadline=None)
def test_numbers_that_count_the_rows_are_left_out_whatever_their_name(order, first, name):
    rng = np.random.default_rng(0)
    table = {"prompt": [f"p{i}" for i in range(9)], "a": rng.random(9).tolist(), "b": rng.random(9).tolist()}
    with pytest.warns(P2LWarning, match=f"^the column '{name}' was left out: row numbers, not an LLM's scores$"):
        assert Scores.read({**table, name: [first + i for i in order]}).models == ("a", "b")


def test_the_reported_table_of_benchmarks(tmp_path):
    """An index averaged in as a benchmark reversed the ranking."""
    file = tmp_path / "r.csv"
    file.write_text(",model,math,code\n0,good,0.9,0.8\n1,poor,0.5,0.4\n")
    with pytest.warns(P2LWarning, match="the column '' was left out: row numbers, not a benchmark's scores"):
        found = Results.read(file)
    assert (found.benchmarks, found.means.tolist()) == (("math", "code"), [[0.9, 0.8], [0.5, 0.4]])
    file.write_text(",model,AMPS_Hard,typos\n0,x,50,20\n1,y,75,40\n")
    with pytest.warns(P2LWarning, match="the column ''"):
        assert read_livebench(file)[0].benchmarks == ("AMPS_Hard", "typos")


def scores(n: int = 6, **columns) -> dict[str, list]:
    rng = np.random.default_rng(1)
    return {"prompt": [f"p{i}" for i in range(n)], "a": rng.random(n).tolist(), "b": rng.random(n).tolist(), **columns}


def binary(n: int = 6, **columns) -> dict[str, list]:
    rng = np.random.default_rng(2)
    return {**scores(n), **{name: rng.integers(0, 2, n).tolist() for name in "ab"}, **columns}


NO_LLM = {
    "an identifier": [("id", [5, 9, 7, 11, 30, 2]), ("question_id", [3] * 6), ("questionId", [3, 1, 2, 2, 1, 1])],
    "a flag": [("is_code", [0, 1] * 3), ("code", [1, 0] * 3), ("has image", [0] * 6)],
    "a count or measure": [("n_tokens", [9, 12] * 3), ("year", [2024] * 6), ("c|total_cost", [1e-4] * 6)],
    "an identifier or a count": [("nummer", [17, 3, 99, 4, 8, 5]), ("level", [2, 5, 3, 4, 2, 2]), ("t", [1.7e9] * 6)],
    "a figure of the others": [("average", [0.5] * 6), ("overall", [0.5] * 6)],
}


@pytest.mark.parametrize(("what", "name", "values"), [(k, *case) for k, cases in NO_LLM.items() for case in cases])
@pytest.mark.parametrize("table", [scores, binary])
def test_what_is_plainly_no_llm_is_asked_for(what, name, values, table, tmp_path):
    if table is binary and name == "code":
        return  # 0 or 1 where all LLMs are 0 or 1: nothing tells that it is none
    named = table(**{name: values})
    for source in (named, as_csv(named, tmp_path / "s.csv")):
        with pytest.raises(ScoresError) as caught:
            Scores.read(source)
        assert f"the column {name!r} looks like {what}, not like an LLM's scores: name the LLMs (--llms a,b;" in str(
            caught.value
        )
        assert f"(--not-llms {shlex.quote(name)};" in str(caught.value)
        assert Scores.read(source, not_llms=[name]).models == ("a", "b")
        assert Votes.read(source, ["b", "a"]).models == ("b", "a")


TRUE_LLMS = {
    "one row": {"prompt": ["x"], "a": [1], "b": [0], "id-llm": [1]},
    "two rows": {"prompt": ["x", "y"], "a": [0, 1], "b": [1, 0]},
    "all right": {**binary(), "c": [1] * 6, "d": [1.0] * 6, "e": [0] * 6},
    "all right beside graded scores": scores(c=[1.0] * 6, d=[0] * 6),
    "right or wrong, and graded on some": binary(c=[0.5, 0, 1, 1, 0, 1]),
    "graded, and right or wrong": {**scores(), "a": [0, 1, 1, 0, 0, 1]},
    "from 1 to 10": {**scores(), "a": [7, 8, 3, 10, 1, 1], "b": [2, 2, 3, 9, 9, 8]},
    "1 to 3": {"prompt": ["x", "y", "z"], "a": [1, 2, 3], "b": [2, 2, 1]},
    "percent": {**scores(), "a": [55, 61, 70, 12, 3, 4], "b": [5, 6, 7, 8, 30, 10]},
}


@pytest.mark.parametrize("case", TRUE_LLMS)
def test_scores_of_llms_are_never_refused(case, tmp_path):
    table = TRUE_LLMS[case]
    for source in (table, as_csv(table, tmp_path / "s.csv")):
        assert set(Scores.read(source).models) == set(table) - {"prompt"}


@pytest.mark.parametrize("first", ["n/a", "N/A", "error", "-", "timeout"])
def test_a_text_in_the_first_row_does_not_hide_an_llm(first, tmp_path):
    rows = [{"prompt": "x", "a": first, "b": 1.0}, {"prompt": "y", "a": 1.0, "b": 0.0}]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for source in (rows, tmp_path / "s.jsonl", as_csv({k: [r[k] for r in rows] for k in rows[0]}, tmp_path / "s.csv")):
        with pytest.raises(ScoresError, match=f"[12]: the score of 'a' is '{first}'; it must be a finite number"):
            Scores.read(source, allow_missing=first in ("error", "timeout"))
        if first not in ("error", "timeout"):
            assert Scores.read(source, allow_missing=True).scores[1].tolist() == [1.0, 0.0]
    assert Scores.read([{**row, "kind": "n/a"} for row in rows[1:]]).categories["kind"].tolist() == ["n/a"]


def test_a_label_with_an_underscore_is_no_number(tmp_path):
    table = {"prompt": ["x", "y"], "a": [0.5, 0.25], "b": [1, 0], "month": ["2024_01", "2024_02"]}
    found = Scores.read(as_csv(table, tmp_path / "s.csv"))
    assert (found.models, found.categories["month"].tolist()) == (("a", "b"), table["month"])


def test_bools_that_are_named_are_scores_in_a_csv_file_too(tmp_path):
    table = {"prompt": ["x", "y"], "a": [True, False], "b": [False, False]}
    one = {"prompt": ["x", "y"], "a": [True, False]}
    for source in (one, as_csv(one, tmp_path / "one.csv")):
        with pytest.raises(ScoresError, match=r"if a column of bools is an LLM, name all LLMs: --llms A,B"):
            Scores.read(source)
    for source in (table, as_csv(table, tmp_path / "s.csv")):
        with pytest.warns(P2LWarning, match=r"^read as LLMs: a \(right or wrong\), b \(right or wrong\)"):
            assert Scores.read(source).scores.tolist() == [[1.0, 0.0], [0.0, 0.0]]
        assert Scores.read(source, ["a", "b"]).scores.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_an_index_is_no_category_of_votes():
    vote = {"prompt": "x", "model_a": "a", "model_b": "b", "winner": "tie", "task": "t"}
    votes = Votes.read([{**vote, "Unnamed: 0": i, "": i, "index": i} for i in range(3)])
    assert list(votes.categories) == ["task"]


def test_benchmarks_can_be_named(tmp_path):
    table = {"model": ["x", "y"], "org": ["o", "p"], "open": [True, False], "params_b": [7, 70], "math": [0.5, 0.6]}
    assert Results.read(table, columns=["math"]).means.tolist() == [[0.5], [0.6]]
    with pytest.raises(P2LError, match=r"beside others, name them: columns=\[...\], --columns A,B"):
        Results.read(table)
    del table["org"]
    with pytest.raises(P2LError, match="the column 'open' looks like a flag, not like a benchmark's scores"):
        Results.read(table)
    with pytest.raises(P2LError, match="there is no column 'maths'"):
        Results.read(table, columns=["maths"])
    named = {"": ["x", "y"], "math": [0.5, 0.6]}
    with pytest.raises(P2LError, match="if the column '' names the LLMs, call it model"):
        Results.read(as_csv(named, tmp_path / "r.csv"))
