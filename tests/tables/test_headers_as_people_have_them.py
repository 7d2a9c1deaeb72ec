"""Where a table begins, what its columns are, and which rows are none: titles, sheets, headers, winner and loser."""

from __future__ import annotations

import json
import random
import sys

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2l_sdk.errors import TableError, VotesError
from p2l_sdk.modeling.feedback_p2l import Winner
from p2l_sdk.tables.columns import checked_prompt, turns_of
from p2l_sdk.tables.files import read_rows
from p2l_sdk.votes.counts import VoteCounts
from p2l_sdk.votes.prompts import read_prompts
from p2l_sdk.votes.votes import Scores, Votes

NAMES = ("gpt-4o-mini", "claude-3-5-haiku", "llama-3.1-8b")
ROWS = [
    {"prompt": f"Write poem {i}", "model_a": NAMES[i % 3], "model_b": NAMES[(i + 1) % 3],
     "winner": ("model_a", "model_b", "tie")[i % 3]}
    for i in range(12)
]  # fmt: skip
HEADER = ["prompt", "model_a", "model_b", "winner"]


def same(votes):
    expected = Votes.read(ROWS)
    assert (votes.prompts, votes.models) == (expected.prompts, expected.models)
    assert votes.winner.tolist() == expected.winner.tolist()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(",;\t|"), st.booleans(), st.integers(1, 3), st.booleans())
def test_titles_above_the_header_are_left_out_and_it_is_said(tmp_path_factory, mark, padded, n, blank):
    path = tmp_path_factory.mktemp("t") / "v.csv"
    ends = mark * 3 if padded else ""
    lines = [f"Votes of June part {i}{ends}" for i in range(n)] + [ends] * blank
    lines += [mark.join(HEADER), *(mark.join(row.values()) for row in ROWS)]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.warns(match=rf"line {n + blank + 1} is read as the header"):
        same(Votes.read(path))


@pytest.mark.parametrize(
    "text", ["prompt\nHello, you, there\nBye, you, too\n", "prompt;gpt\nx;0,5,7\n", "prompt;;;\nhi;0.5;0.7;1\n"]
)
def test_a_header_is_no_title(tmp_path, text):
    (tmp_path / "v.csv").write_text(text, encoding="utf-8")
    with pytest.raises(TableError):
        Votes.read(tmp_path / "v.csv")


def test_more_fields_than_the_header_has_a_remedy(tmp_path):
    (tmp_path / "v.csv").write_text("prompt,a,b\nhi, you,1,0\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"line 2 has more fields .* put a text that holds one of them into double"):
        list(read_rows(tmp_path / "v.csv"))


def test_sheets(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "Readme"
    book.active.append(["Votes of June"])
    votes = book.create_sheet("My votes")
    for row in (["", "Votes of June"], [], ["", *HEADER], *(["", *row.values()] for row in ROWS)):
        votes.append(row)
    book.save(tmp_path / "v.xlsx")
    with pytest.warns(match=r"2 sheets; 'My votes', the only one that begins as a table does, is read"), \
         pytest.warns(match="line 3 is read as the header"):  # fmt: skip
        same(Votes.read(tmp_path / "v.xlsx"))
    for name in ("My votes", "my VOTES"):
        with pytest.warns(match="line 3 is read as the header"):
            same(Votes.read(f"{tmp_path}/v.xlsx:{name}"))
    with pytest.raises(TableError, match=r"has no sheet 'Vote'; its sheets: Readme, My votes"):
        Votes.read(f"{tmp_path}/v.xlsx:Vote")


def test_a_missing_file_is_missing_whatever_is_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in ("v.xlsx", "v.parquet", "v.xlsx:Votes"):
        with pytest.raises(TableError, match="no such file"):
            Votes.read(tmp_path / name)


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(1, 11), min_size=1), st.booleans())
def test_the_header_again_is_a_faulty_row(tmp_path_factory, places, capitals):
    path = tmp_path_factory.mktemp("t") / "v.csv"
    header = ",".join(map(str.title, HEADER) if capitals else HEADER)
    lines = [header]
    for i, row in enumerate(ROWS):
        lines += [header] * (i in places) + [",".join(row.values())]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(VotesError, match=r"line \d+: it is the header again; delete it"):
        Votes.read(path)
    votes = Votes.read(path, skip_invalid=True)
    same(votes)
    assert votes.findings.skipped.n == len(places)


def test_winner_and_loser():
    expected = [("x", "y"), ("y", "z"), ("x", "z")]
    for names in (("winner", "loser"), ("Winner", "Loser"), ("chosen_model", "rejected_model"), ("Winning LLM",
                  "Losing LLM")):  # fmt: skip
        rows = [{"prompt": f"p{i}", **dict(zip(names, pair, strict=True))} for i, pair in enumerate(expected)]
        for votes in (
            Votes.read(rows),
            Votes.read(rows, columns=dict(zip(("model_a", "model_b"), names, strict=True))),
        ):
            assert [(votes.models[a], votes.models[b]) for a, b in zip(votes.a, votes.b, strict=True)] == expected
            assert set(votes.winner) == {Winner.A}
        assert VoteCounts.of(pandas.DataFrame(rows)).number.sum() == 3
    rows = [{"prompt": "p", "winner": "x", "loser": "y", "is_tie": True}, {"prompt": "q", "winner": "x", "loser": "y"}]
    with pytest.raises(VotesError, match="has no columns 'model_a', 'model_b'"):
        Votes.read(rows)
    with pytest.raises(VotesError, match="row 2: model_b is missing"):
        Votes.read([{"prompt": "p", "winner": "x", "loser": "y"}, {"prompt": "q", "winner": "x", "loser": None}])


def test_answers_for_dpo_are_named_as_such():
    rows = [{"prompt": f"p{i}", "chosen": f"{i} " * 200, "rejected": f"{i} x" * 200} for i in range(30)]
    with pytest.raises(VotesError, match=r"'chosen' and 'rejected' are answers, as files for DPO have them") as caught:
        Votes.read(rows)
    assert len(str(caught.value)) < 500


def test_no_column_is_proposed_as_prompts_that_holds_none():
    rows = [{"question_id": 81 + i, "model_1": "x", "model_2": "y", "g1_winner": "model_1", "g2_winner": "model_2",
             "judge": ["gpt-4", "pair-v2"], "tstamp": "2024-01-01 10:00:00"} for i in range(9)]  # fmt: skip
    with pytest.raises(VotesError, match="there is no column of prompts") as caught:
        Votes.read(rows)
    assert "--column prompt=NAME" in str(caught.value)
    assert "g1_winner)" not in str(caught.value).partition("\n")[2]
    frage = [{"Frage": row["prompt"], **{n: row[n] for n in HEADER[1:]}} for row in ROWS]
    with pytest.raises(VotesError, match=r"add: --column prompt=Frage \(in Python: columns=\{'prompt': 'Frage'\}\)"):
        Votes.read(frage)
    same(Votes.read(frage, columns={"prompt": "Frage"}))


@pytest.mark.parametrize("orient", ["split", "records", "index", "columns", "table"])
def test_every_layout_of_pandas(tmp_path, orient):
    pandas.DataFrame(ROWS).to_json(tmp_path / "v.json", orient=orient)
    same(Votes.read(tmp_path / "v.json"))
    pandas.DataFrame(ROWS).to_json(tmp_path / "v.json", orient="values")
    with pytest.raises(TableError, match="row 1 is no JSON object"):
        Votes.read(tmp_path / "v.json")


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_blanks_around_names_are_trimmed_and_it_is_said(rng: random.Random):
    around = ["", " ", "\xa0", "\u200b", "\t", "  ", "\ufeff"]

    def spaced(name):
        return rng.choice(around) + name + rng.choice(around)

    votes = Votes.read([{**row, "model_a": spaced(row["model_a"]), "model_b": spaced(row["model_b"])} for row in ROWS])
    same(votes)
    assert set(votes.findings.trimmed) <= set(NAMES)


def test_reprs_are_one_line():
    assert repr(Votes.read(ROWS)) == "Votes(12 votes on 12 prompts, 3 LLMs)"
    assert repr(Scores.read([{"prompt": "p", "x": 1.0, "y": 0.5}])) == "Scores(2 LLMs on 1 prompts)"


@pytest.mark.parametrize("name", ["prompt", "Prompt", "PROMPT", "Question", "text", "instruction"])
def test_files_of_prompts_have_the_names_of_votes(tmp_path, name):
    (tmp_path / "p.csv").write_text(f"nr,{name},answer\n1,Write a poem,ok\n2,Sum it,no\n", encoding="utf-8")
    assert list(read_prompts(tmp_path / "p.csv")) == ["Write a poem", "Sum it"]


def test_other_files_of_prompts(tmp_path):
    (tmp_path / "p.csv").write_text("nr,Aufgabe\n1,Write a poem\n2,Sum it up\n", encoding="utf-8")
    with pytest.raises(VotesError, match=r"p.csv.*has no column 'prompt' .*--column prompt=Aufgabe"):
        list(read_prompts(tmp_path / "p.csv"))
    assert list(read_prompts(tmp_path / "p.csv", "Aufgabe")) == ["Write a poem", "Sum it up"]
    for value in (["Write a poem", "Sum it"], [["a", "b"], ["c"]]):
        (tmp_path / "p.json").write_text(json.dumps(value), encoding="utf-8")
        assert [turns_of(prompt) for prompt in read_prompts(tmp_path / "p.json")] == [
            turns_of(checked_prompt(item)) for item in value
        ]
    (tmp_path / "p.json").write_text('["a", ""]', encoding="utf-8")
    with pytest.raises(VotesError, match=r"p.json.*row 2: the prompt is empty"):
        list(read_prompts(tmp_path / "p.json"))
