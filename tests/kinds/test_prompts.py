"""Prompts of known kind: what is read, and what is refused by name."""

from __future__ import annotations

import json

import numpy as np
import pandas
import pytest
from mpg_results import refusal

from p2l_sdk.kinds import KindPrompts

KINDS = ("code", "food")
CHAT = [{"role": "user", "content": "sort a list"}, {"role": "assistant", "content": "sorted(x)"}]


def read(rows, **options) -> KindPrompts:
    return KindPrompts.read(rows, KINDS, **options)


def row(prompt, category=None, **more) -> dict:
    return {"prompt": prompt, "category": category, **more}


def test_a_prompt_is_of_all_kinds_of_its_rows():
    found = read([row("a", "code"), row("b", ["code", "food"]), row("a", "food"), row("c"), row("d", ""), row("e", [])])
    assert found.prompts == ["a", "b", "c", "d", "e"]
    assert found.member.tolist() == [[True, True], [True, True], [False] * 2, [False] * 2, [False] * 2]
    assert not found.unsure.any()
    assert found.kinds == KINDS


def test_the_column_may_be_called_categories_and_prompts_be_conversations():
    found = read([{"prompt": CHAT, "categories": ["code"]}, {"prompt": "soup", "categories": ["food"]}])
    assert found.prompts[0] == CHAT
    assert found.member.tolist() == [[True, False], [False, True]]


def test_what_is_left_open():
    rows = [row("a", "code", unsure=["food"]), row("b", "food"), row("a", "food"), row("c", None, unsure="code")]
    found = read(rows)
    assert found.unsure.tolist() == [[False, False], [False, False], [True, False]]  # what is known is not open


def test_every_kind_of_table_is_the_same(tmp_path):
    rows = [row("sort, a list", "code"), row("soup", "food"), row("hello", None)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    (tmp_path / "p.csv").write_text('prompt,category\n"sort, a list",code\nsoup,food\nhello,\n')
    frame = pandas.DataFrame(rows)
    frame.to_parquet(tmp_path / "p.parquet")
    lists = pandas.DataFrame({"prompt": frame["prompt"], "category": [["code"], ["food"], []]})
    lists.to_parquet(tmp_path / "lists.parquet")
    sources = [tmp_path / name for name in ("p.jsonl", "p.csv", "p.parquet", "lists.parquet")]
    for source in (*sources, frame, lists, frame.to_dict("list")):
        found = read(source)
        assert found.prompts == ["sort, a list", "soup", "hello"]
        np.testing.assert_array_equal(found.member, [[True, False], [False, True], [False, False]])


def test_further_categories_do_not_count():
    found = read([row("a", ["code", "law"]), row("b", "food"), row("c", "law")], ignored=("law",))
    assert found.member.tolist() == [[True, False], [False, True], [False, False]]


GOOD = [row("a", "code"), row("b", "food")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*GOOD, row("c", "coding")], "row 3 is of the category 'coding', which has no ratings; did you mean 'code'"),
        (
            [*GOOD, row("c", ["code", "golf"])],
            "row 3 is of the category 'golf', which has no ratings; known: code, food",
        ),
        ([*GOOD, row("c", None, unsure=["golf"])], "row 3 is of the category 'golf'"),
        (GOOD[:1], "no prompt is of the kind 'food', so it cannot be recognised; give prompts of it, or leave it out"),
        ([], "there are no prompts; give rows with the columns prompt and category"),
        ([{"prompt": "a", "kind": "code"}], "the prompts have the columns prompt, kind; they need prompt and category"),
        ([{"text": "a", "category": "code"}], "no column 'prompt'"),
        ([*GOOD, row("c", 7)], "row 3: the category is 7; it must be a name, a list of names, or empty"),
        ([*GOOD, row("c", ["code", 7])], "row 3: the category is ['code', 7]"),
        ([*GOOD, row("", "code")], "row 3"),
        ([*GOOD, row(5, "code")], "row 3"),
    ],
)
def test_refusals(rows, message):
    assert message in refusal(read, rows)


def test_the_file_is_named(tmp_path):
    (tmp_path / "p.jsonl").write_text(json.dumps(row("a", "golf")) + "\n")
    assert refusal(read, tmp_path / "p.jsonl").startswith(f"'{tmp_path / 'p.jsonl'}': line 1 is of the category 'golf'")
    (tmp_path / "none.csv").write_text("prompt,category\n")
    assert refusal(read, tmp_path / "none.csv").startswith(f"'{tmp_path / 'none.csv'}'")
