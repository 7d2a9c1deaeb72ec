"""Prompts in cells of text: conversations as JSON, as Python prints them, and prompts that merely look like lists."""

from __future__ import annotations

import csv
import functools
import io
import json
import random
import re
import warnings
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2l_sdk.errors import ScoresError, VotesError
from p2l_sdk.kinds.prompts import KindPrompts
from p2l_sdk.tables.prompt_cells import PromptCells
from p2l_sdk.tables.vote_codes import VoteCodes
from p2l_sdk.votes.prompts import read_prompts
from p2l_sdk.votes.votes import Scores, Votes, shared_prompts, turns_of

REST = {"model_a": "a", "model_b": "b", "winner": "model_a"}


def talk(*turns: str, answer: str = "an answer") -> list[dict[str, str]]:
    return [m for turn in turns for m in ({"role": "user", "content": turn}, {"role": "assistant", "content": answer})]


def as_csv(path: Path, cells: list[str], column: str = "prompt") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([column, *REST])
        writer.writerows([cell, *REST.values()] for cell in cells)
    return path


def as_jsonl(path: Path, cells: list, column: str = "prompt") -> Path:
    path.write_text("".join(json.dumps({column: cell, **REST}) + "\n" for cell in cells), encoding="utf-8")
    return path


def turns(source) -> list[tuple[str, ...]]:
    votes = Votes.read(source)
    prompts = [turns_of(prompt) for prompt in votes.prompts]
    return [prompts[i] for i in votes.prompt]


@pytest.mark.parametrize("column", ["prompt", "conversation_a"])
def test_a_conversation_as_json_text_is_the_conversation(tmp_path, column):
    call = [{"role": "assistant", "tool_calls": [{"id": "c"}]}, {"role": "tool", "content": None}]
    parts = [{"type": "text", "text": "draw", "image": None}, {"type": "image", "text": None, "image": "a.png"}]
    talks = [talk("Hi"), talk("one", "two"), [{"role": "user", "content": parts}, *call], talk("Hi", answer="other")]
    expected = [("Hi",), ("one", "two"), ("draw",), ("Hi",)]
    lists = as_jsonl(tmp_path / "a.jsonl", talks, column)
    texts = as_csv(
        tmp_path / "a.csv", [json.dumps(t, indent=i) for i, t in zip((None, 2, 0, 1), talks, strict=True)], column
    )
    strings = as_jsonl(tmp_path / "b.jsonl", list(map(json.dumps, talks)), column)
    frame = pandas.read_csv(texts)
    for source in (lists, texts, strings, frame):
        assert turns(source) == expected
    assert shared_prompts(Votes.read(lists), Votes.read(texts)) == 3
    assert shared_prompts(Votes.read(texts), Votes.read(lists)) == 3
    assert [turns_of(prompt) for prompt in read_prompts(texts)] == expected


def test_kaggles_lists_of_turns(tmp_path):
    """A turn may be null; a lone surrogate is refused by its row."""
    lists = [["turn 1", "turn 2"], ["Hi"], [None, "null", 'the "end"\n'], ["turn 1", "turn 2"]]
    expected = [("turn 1", "turn 2"), ("Hi",), ("null", 'the "end"\n'), ("turn 1", "turn 2")]
    texts = as_csv(tmp_path / "a.csv", list(map(json.dumps, lists)))
    assert turns(texts) == turns(as_jsonl(tmp_path / "a.jsonl", lists)) == expected
    for cells, message in (
        (['["Hi"]', "[null]"], "line 3: the prompt is empty"),
        (['["Hi"]', '["\\ud83d"]'], "line 3: the prompt has a lone surrogate .* escape in JSON"),
    ):
        with pytest.raises(VotesError, match=message):
            Votes.read(as_csv(tmp_path / "b.csv", cells))


PLAIN = [
    "[INST] write code [/INST]",
    "[1, 2, 3] sort this",
    '["a", "b"]',
    '["a", "b"] sort this',
    "['a', 'b']",
    "[]",
    "[",
    '["never closed',
    '[{"name": "Conan", "role": "warrior"}]',
    '[{"role": "user", "content": "hi"}] is this legal?',
    "[{'role': 'admin'}]",
    '{"role": "admin"}',
    '{"messages": 3}',
    '"["',
    "(1, 2)",
    "('a' and 'b') is what?",
    "[f(role) for role in content]",
    "array([1, 2])",
    "[[1, 2], [3, 4]]",
    "[" * 5000,
    "[" + "9" * 5000 + "]",
    "null",
]


def test_what_merely_begins_like_a_list_is_a_prompt(tmp_path):
    cells = [*PLAIN, "write a poem"]
    for order in range(5):
        random.Random(order).shuffle(cells)
        for source in (as_csv(tmp_path / "a.csv", cells), as_jsonl(tmp_path / "a.jsonl", cells)):
            assert turns(source) == [(cell,) for cell in cells]
            assert list(read_prompts(source)) == cells
    for alone in set(PLAIN) - {'["a", "b"]', "['a', 'b']", "[]", '["never closed'}:
        assert turns(as_csv(tmp_path / "a.csv", [alone])) == [(alone,)]


def test_one_conversation_among_plain_prompts_is_what_somebody_asked_about(tmp_path):
    cells = ["write a poem", json.dumps(talk("Hi")), "sum"]
    assert turns(as_csv(tmp_path / "a.csv", cells)) == [(cell,) for cell in cells]
    assert turns(as_jsonl(tmp_path / "a.jsonl", [talk("Hi"), '["a"]'])) == [("Hi",), ('["a"]',)]


HI = talk("Hi", "Hello")
PRINTED = [
    str(HI),
    str(np.array(HI, dtype=object)),
    repr(np.array(HI, dtype=object)),
    str([{"content": m["content"], "role": m["role"]} for m in HI]),
    str(HI[0]),
    str([{"role": "user", "content": np.array([{"type": "text", "text": "Hi"}], dtype=object)}]),
    repr(np.array(["turn 1", "turn 2"], dtype=object)),
    "[ChatMessage(role='user', content='Hi'), ChatMessage(role='assistant', content='Hello')]",
    "[OrderedDict([('role', 'user'), ('content', 'Hi')])]",
    str(HI)[:70],
]


@pytest.mark.parametrize("cell", PRINTED)
def test_a_conversation_as_python_prints_it_is_refused(tmp_path, cell):
    for before in (["write a poem"], ["write a poem"] * 20, []):
        remedy = "write the column as JSON .* or the table as JSON lines or Parquet"
        with pytest.raises(
            VotesError, match=rf"a\.csv': line {len(before) + 2}: the prompt is .*Python prints.*{remedy}"
        ):
            Votes.read(as_csv(tmp_path / "a.csv", [*before, cell]))
    with pytest.raises(VotesError, match=r"line 2: the conversation is text that is no JSON list of messages.*as JSON"):
        Votes.read(as_csv(tmp_path / "a.csv", [cell], "conversation_a"))


ARRAY = functools.partial(np.array, dtype=object)
STRINGS = [["a", "b"], ["c"]], [["it's"], ["b"]], [['say "it\'s"\nso'], ["\\n"]]


@pytest.mark.parametrize("lists", STRINGS)
def test_what_to_csv_writes_of_lists_of_strings_is_read(tmp_path, lists):
    pandas.DataFrame([{"prompt": turns, **REST} for turns in lists]).to_csv(tmp_path / "a.csv", index=False)
    read = Votes.read(tmp_path / "a.csv").prompts
    assert [[turn["content"] for turn in prompt] for prompt in read] == lists


@pytest.mark.parametrize(
    ("lists", "nested"), [(STRINGS[0], ARRAY), *(([talk("Hi"), talk("one", "two")], kind) for kind in (list, ARRAY))]
)
def test_what_to_csv_writes_of_other_lists_is_refused(tmp_path, lists, nested):
    frame = pandas.DataFrame([{"prompt": nested(turns), **REST} for turns in lists])
    frame.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(VotesError, match=r"line [23]: (the )?prompt is .*; write the column as JSON"):
        Votes.read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([json.dumps(talk("a")), json.dumps(talk("b")), "plain"], "line 4: prompt is no JSON list of .*'plain'"),
        ([json.dumps(talk("a")), json.dumps(talk("b"))[:-9]], "line 3: prompt is no JSON list"),  # as Excel cuts it off
        (['["a", "b"]', '["a", "b'], "line 3: prompt is no JSON list"),
        (['["a"]', '["b", "c"]', "a note below the table"], "line 4: prompt is no JSON list"),
        (['[["Hi", "Hello"]]', '[["a", null]]'], "line 2: prompt is no JSON list"),
        (['[{"from": "human", "value": "Hi"}]'], "line 2: prompt is no JSON list"),
        (
            [json.dumps({"answers": talk("a")}), json.dumps(talk("a")), json.dumps(talk("b"))],
            "line 2: prompt is no JSON",
        ),
        ([json.dumps(json.dumps(talk("a")))], "line 2: prompt is no JSON list"),
        ([json.dumps(talk("a")), json.dumps(talk("a")[0])], "line 3: prompt is no JSON list"),
        (["('a', 'b')"], "line 2: prompt is no JSON list"),
        ([json.dumps([{"role": "human", "content": "Hi"}])], "line 2: message 0 has the role 'human'; legal roles"),
        ([json.dumps(talk("a")), '[{"role": "user"}]'], "line 3: message 0 is not a chat message"),
        ([json.dumps(talk("a")), ""], "line 3: the prompt is empty"),
    ],
)
def test_what_is_no_list_in_a_column_of_lists_is_refused(tmp_path, cells, message):
    with pytest.raises(VotesError, match=message):
        Votes.read(as_csv(tmp_path / "a.csv", cells))


@pytest.mark.parametrize("cell", ["Hi", '["Hi", "Hello"]', "Human: Hi\n\nAssistant: Hello", '[{"from": "human"}]'])
def test_a_conversation_that_does_not_say_who_speaks_is_refused(tmp_path, cell):
    with pytest.raises(VotesError, match=r"line 2: the conversation is text that is no JSON list of messages \('"):
        Votes.read(as_csv(tmp_path / "a.csv", [cell], "conversation_a"))
    with pytest.raises(VotesError, match="row 1: the conversation is a list of strings, which does not say who wrote"):
        Votes.read([{"conversation_a": ["Hi", "Hello"], **REST}])


def test_scores_and_prompts_of_known_kind_read_cells_alike(tmp_path):
    cells = list(map(json.dumps, [talk("Hi"), talk("one", "two")]))
    frame = pandas.DataFrame({"prompt": cells, "a": [0.5, 1.0], "b": [0.0, 0.1], "category": "math"})
    for source in (frame, frame.to_dict("records")):
        assert [turns_of(p) for p in Scores.read(source).prompts] == [("Hi",), ("one", "two")]
        assert [turns_of(p) for p in KindPrompts.read(source, ["math"]).prompts] == [("Hi",), ("one", "two")]
    long = [{"prompt": cell, "model": m, "score": 1.0} for cell in cells for m in "ab"]
    assert [turns_of(p) for p in Scores.read(long).prompts] == [("Hi",), ("one", "two")]
    with pytest.raises(ScoresError, match="row 1: the prompt is a list of turns as Python prints it"):
        Scores.read([{"prompt": str(HI), "a": 0.5, "b": 1.0}])


def test_the_first_chunk_decides_for_the_whole_column():
    def votes(*chunks: list[str]) -> list[tuple[str, ...]]:
        codes = VoteCodes()
        for cells in chunks:
            codes.add({"prompt": cells, **{name: [value] * len(cells) for name, value in REST.items()}})
        return [turns_of(prompt) for prompt in codes.encoded().prompts]

    assert votes(["plain"], ['["a"]']) == [("plain",), ('["a"]',)]
    assert votes(['["a"]'], ['["b", "c"]']) == [("a",), ("b", "c")]
    with pytest.raises(Exception, match="row 2: prompt is no JSON list"):
        votes(['["a"]'], ["plain"])
    cells = PromptCells()
    assert cells({"prompt": [None]}, [None]) == [None]  # nothing is decided yet
    assert cells({"prompt": ['["a"]']}, ['["a"]']) == [["a"]]


TURNS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
TALKS = st.lists(
    st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), TURNS), max_size=3).map(
        lambda rest: [{"role": role, "content": text} for role, text in [("user", "so: "), *rest]]
    )
    | st.lists(TURNS | st.none(), max_size=3).map(lambda rest: ["so: ", *rest]),
    min_size=1,
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(talks=TALKS, indent=st.none() | st.integers(0, 3), ascii=st.booleans())
def test_the_same_table_as_lists_and_as_text_gives_the_same_votes(talks, indent, ascii):
    texts = [json.dumps(talk, indent=indent, ensure_ascii=ascii) for talk in talks]
    file = io.StringIO(newline="")
    csv.writer(file).writerows([[text] for text in texts])
    file.seek(0)
    read = [cells[0] for cells in csv.reader(file)]
    assert turns([{"prompt": t, **REST} for t in read]) == turns([{"prompt": t, **REST} for t in talks])


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(TURNS.map(lambda text: "[" + text) | TURNS, min_size=1, max_size=6))
def test_other_text_stays_as_it_is(texts):
    rows = [{"prompt": text, **REST} for text in ["a prompt", *texts] if text.strip()]
    assert turns(rows) == [(row["prompt"],) for row in rows]


def test_the_message_shows_the_start_of_a_long_cell(tmp_path):
    with pytest.raises(VotesError, match=re.escape("(\"[{'role': 'user', 'content': '" + "x" * 9)) as caught:
        Votes.read(as_csv(tmp_path / "a.csv", [str(talk("x" * 900))]))
    assert len(str(caught.value).partition("; or leave")[0]) < 350


def test_the_body_of_a_request_is_the_conversation_in_it(tmp_path):
    bodies = [json.dumps({"model": "gpt-4o-mini", "messages": talk(text)}) for text in ("a", "b")]
    lists = [json.dumps(talk(text)) for text in ("a", "b")]
    read = [Votes.read(as_csv(tmp_path / "a.csv", cells)).prompts for cells in (bodies, lists)]
    assert read[0] == read[1] == [talk("a"), talk("b")]


def test_text_that_python_would_warn_of_is_text_without_a_word(tmp_path):
    """A list with an escape that Python does not know is no list that Python printed."""
    cell = r"['what does \d match?', 'and \w?']"
    (tmp_path / "a.csv").write_text(f'prompt\n"{cell}"\nhello\n')
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert list(read_prompts(tmp_path / "a.csv")) == [cell, "hello"]
    assert [str(warning.message) for warning in said] == []
