"""Scores as people write them: read where that is certain, and named where they are not."""

from __future__ import annotations

import csv
import json
import warnings

import numpy as np
import pytest

from p2l_sdk.errors import P2LError, P2LWarning, ScoresError
from p2l_sdk.mpg import Results
from p2l_sdk.tables.figures import decimals, figures
from p2l_sdk.tables.notation import require_one_notation
from p2l_sdk.votes.votes import Scores, Votes

RNG = np.random.default_rng(4)
N = 20
GRADED = {name: [round(float(x), 2) for x in RNG.uniform(0.05, 0.95, N)] for name in ("claude", "llama")}
PROMPT = {"prompt": [f"p{i}" for i in range(N)]}


def files(table, tmp_path):
    """The table in memory, as CSV and as JSON lines."""
    with (tmp_path / "s.csv").open("w", newline="") as file:
        csv.writer(file).writerows([table, *zip(*table.values(), strict=True)])
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return table, tmp_path / "s.csv", tmp_path / "s.jsonl"


@pytest.mark.parametrize("spelt", ["{} %", "{}%", " {} % "])
def test_a_column_of_percentages_is_hundredths(spelt, tmp_path):
    shares = [round(float(x), 2) for x in RNG.uniform(0, 1, N)]
    table = {**PROMPT, **GRADED, "gpt": [spelt.format(round(100 * x)) for x in shares]}
    for source in files(table, tmp_path):
        found = Scores.read(source)
        assert found.models == ("claude", "gpt", "llama")
        assert found.scores[:, 1].tolist() == shares
        assert found.findings.facts["scores"] == "read as LLMs: claude, gpt (in percent), llama"
        assert Scores.read(source, ["gpt", "llama"]).scores[:, 0].tolist() == shares
    assert Votes.read({**PROMPT, "a": table["gpt"], "b": table["gpt"][::-1]}).models == ("a", "b")


@pytest.mark.parametrize("words", [(True, False), ("True", "False"), ("pass", "fail"), ("Correct", "Incorrect")])
@pytest.mark.parametrize("beside", [False, True])
def test_outcomes_are_1_and_0_where_all_scores_are(words, beside, tmp_path):
    right = [[i % 3 == 0 for i in range(N)], [i % 5 < 2 for i in range(N)]]
    columns = {name: [words[0] if x else words[1] for x in column] for name, column in zip("ab", right, strict=True)}
    if beside:
        columns |= {name: [int(x) for x in right[0][::-1]] for name in ("c", "d")}
    for source in files({**PROMPT, **columns}, tmp_path):
        with pytest.warns(P2LWarning, match=r"read as LLMs: a \(right or wrong\), b \(right or wrong\).*--not-llms"):
            found = Scores.read(source)
        assert found.models == tuple(columns)
        assert found.scores[:, :2].T.astype(bool).tolist() == right
        with pytest.warns(P2LWarning):
            assert Votes.read(source).models == tuple(columns)


@pytest.mark.parametrize(
    ("cells", "sample"),
    [
        (["63/100"] * N, "'63/100'"),
        (["pass", "fail"] * (N // 2), "'pass'"),
        (["True", "False"] * (N // 2), "'True'"),
        ([True, False] * (N // 2), ""),
        ([None] * N, "empty"),
        ([0.5] * 7 + ["error: timeout"] * (N - 7), "'error: timeout'"),
        (["63 %"] * 9 + ["0.63"] * (N - 9), ""),
    ],
)
def test_what_looks_like_scores_and_is_not_read_is_named(cells, sample, tmp_path):
    table = {**PROMPT, **GRADED, "gpt": cells, "task": ["math", "code"] * (N // 2)}
    sources = files(table, tmp_path)
    for source in sources:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                assert Scores.read(source).models == ("claude", "llama")
                text = str(said[0].message)
                assert "read as LLMs: claude, llama; as labels: task; not read: gpt (" in text
                assert "--not-llms gpt" in text
            except P2LError as error:  # most cells are numbers, so that the others are faults
                text = str(error)
        assert sample in text or source == sources[1]
        assert "gpt" in text
        assert Scores.read(source, not_llms=["gpt"]).models == ("claude", "llama")


def test_labels_and_texts_are_no_noise(recwarn):
    texts = [f"a long answer, number {i}" for i in range(N)]
    found = Scores.read({**PROMPT, **GRADED, "subject": ["law"] * N, "comment": texts, "is_code": [True] * N})
    assert not recwarn
    assert found.findings.roles == "read as LLMs: claude, llama; as labels: subject, comment, is_code"


def test_a_frame_of_texts_is_read_as_a_csv_file_is():
    table = {**PROMPT, **{name: [str(x) for x in column] for name, column in GRADED.items()}}
    assert Scores.read(table).scores.tolist() == Scores.read({**PROMPT, **GRADED}).scores.tolist()
    assert Votes.read(table).models == ("claude", "llama")


def test_an_llm_in_percent_beside_shares_is_asked_for():
    for column in ([63.5] * N, [10 * (i % 10) for i in range(N)]):
        table = {**PROMPT, **GRADED, "gpt": column}
        with pytest.raises(ScoresError, match=r"outside \[0, 1\] are those of 'gpt' \(.* to .*\): if these are"):
            Scores.read(table)
        signed = {**table, "gpt": [f"{x} %" for x in column]}  # the remedy
        assert Scores.read(signed).scores[:, 1] == pytest.approx(np.array(column) / 100)
        assert "all of them 'gpt's" in str(Scores.read(table, ["gpt", "llama"]).outside).replace("''s", "'s")
    for answer in ([i % 4 for i in range(N)], [0, 1, 1, 3] * (N // 4)):
        with pytest.raises(ScoresError, match=r"'answer' looks like (another scale|an identifier).*--not-llms answer"):
            Scores.read({**PROMPT, **GRADED, "answer": answer})


def test_an_llm_of_0_and_1_beside_graded_ones_can_be_kept():
    table = {**PROMPT, "gpt": [i % 2 for i in range(N)], **GRADED}
    with pytest.raises(ScoresError, match="if all are LLMs: --llms gpt,claude,llama"):
        Scores.read(table)
    assert Scores.read(table, ["gpt", "claude", "llama"]).scores.shape == (N, 3)


def test_rows_of_one_llm_whose_columns_have_other_names():
    table = {"Question": ["x", "x"], "LLM": ["a", "b"], "Rating": [0.5, 1.0]}
    with pytest.raises(P2LError, match="--column prompt=Question --column model=LLM --column score=Rating"):
        Votes.read(table)
    named = {"prompt": "Question", "model": "LLM", "score": "Rating"}
    assert Votes.read(table, columns=named).models == ("a", "b")
    with pytest.raises(P2LError, match="--column score=correct"):
        Votes.read({"prompt": ["x", "x"], "model": ["a", "b"], "correct": [True, False]})


@pytest.mark.parametrize("what", ["mean", "sum", "max"])
@pytest.mark.parametrize("n", [3, 40])
def test_a_figure_of_the_others_is_known_by_its_values(what, n):
    rng = np.random.default_rng(9)
    for digits in (2, 3):
        others = np.round(rng.uniform(0.1, 0.9, (n, 3)), digits)
        cells = np.column_stack([others, np.round(getattr(np, what)(others, 1), digits)])
        assert list(figures(cells, [digits] * 4)) == [3]
        assert figures(others, [digits] * 3) == {}
    table = {"prompt": [f"p{i}" for i in range(n)], **dict(zip(["a", "b", "c", "Typ"], cells.T.tolist(), strict=True))}
    with pytest.raises(ScoresError, match=r"'Typ' looks like the \w+ of the others.*--not-llms Typ"):
        Scores.read(table)


@pytest.mark.long
def test_llms_are_no_figures_by_chance():
    rng = np.random.default_rng(3)
    for _ in range(200):
        n, k = rng.integers(3, 12), rng.integers(3, 6)
        for cells, digits in ((rng.integers(0, 2, (n, k)), 0), (np.round(rng.random((n, k)), 2), 2)):
            assert figures(cells.astype(float), [digits] * k) == {}
    assert (decimals(["0,25", "1"]), decimals([0.5, 0.125]), decimals(["7"])) == (2, 3, 0)


def test_points_of_two_meanings(tmp_path):
    for values in (["1.060", "930"], ["930", "1.060"], ["1.234,5", "1.000"]):
        with pytest.raises(P2LError, match="if the point separates thousands, write"):
            require_one_notation("rating", values)
    for values in (["1.060", "930.000"], ["1.06", "930"], ["0.125", "100"], ["1.060", "2.5"], [1.06, 930]):
        require_one_notation("rating", values)
    with pytest.raises(P2LError, match=r"row 1: GSM is '1[.]060'"):
        Results.read({"model": ["a", "b"], "GSM": ["1.060", "930"]}, percent=True)


def test_what_tables_write_in_place_of_a_number_is_a_missing_score(tmp_path, recwarn):
    file = tmp_path / "scores.csv"
    empty = ("n/a", "-", "\u2013", "k.A.", "", "NA", "None", "nan")
    file.write_text(
        "prompt,claude,llama\n" + "".join(f"p{i},0.5,{word}\np{i}!,0.4,0.7\n" for i, word in enumerate(empty))
    )
    found = Scores.read(file, allow_missing=True)
    assert np.isnan(found.scores[::2, 1]).all()
    assert found.scores[1::2, 1].tolist() == [0.7] * len(empty)
    assert not recwarn
    with pytest.raises(ScoresError, match="the score of 'llama' is 'n/a'"):
        Scores.read(file)
    file.write_text("prompt,claude,llama\n" + "".join(f"p{i},0.5,{'failed' if i < 2 else 0.2}\n" for i in range(9)))
    with pytest.raises(ScoresError, match="the score of 'llama' is 'failed'"):  # it may mean 0
        Scores.read(file, allow_missing=True)


def test_separated_thousands_are_named_and_never_left_out_in_silence(tmp_path):
    for text in ("1,234.5", "1,234", "1.234,5", "12'345"):
        with pytest.warns(P2LWarning, match=f"not read: gpt .'?\"?{text}"):
            Scores.read({**PROMPT, **GRADED, "gpt": [text] * N})
    file = tmp_path / "scores.csv"
    file.write_text("prompt,a,b\n" + "".join(f'p{i},"1,23{i}",0.{i}5\n' for i in range(8)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(ScoresError, match=r"is '1,230'; it must be .*, without separators of thousands"):
            Scores.read(file)


def test_many_rows_with_one_fault_are_one_line():
    scores = [0.5, "bad", 0.5, *["bad"] * 4, "worse", 0.2]
    with pytest.raises(ScoresError) as caught:
        Scores.read({"prompt": list("abcdefghi"), "claude": scores}, ["claude"])
    assert str(caught.value).splitlines()[:3] == [
        "row 2: the score of 'claude' is 'bad'; it must be a finite number",
        "  likewise row 4, row 5, row 6, row 7",
        "  row 8: the score of 'claude' is 'worse'",
    ]
