"""Files of prompts that are not what they seem: Markdown, a table without a header, a data set in place of a column."""

from __future__ import annotations

import warnings

import datasets
import pytest

from p2l_sdk import P2L
from p2l_sdk.errors import P2LWarning, PromptError, VotesError
from p2l_sdk.votes.prompts import read_prompts
from p2l_sdk.votes.scores import Scores


@pytest.mark.parametrize("line", ["# My prompts", "```", "---", "| a | b |"])
def test_a_line_of_markdown_is_said_once(tmp_path, line):
    file = tmp_path / "prompts.md"
    file.write_text(f"Write a poem\n{line}\n{line}\nWhat is -1 + 2 | 3?\n")
    with pytest.warns(P2LWarning, match="line 2 .* looks like Markdown") as met:
        assert list(read_prompts(file)) == ["Write a poem", line, line, "What is -1 + 2 | 3?"]
    assert len(met) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prompt\nWrite a poem\n", r"the first line \('prompt'\) looks like the name of a column"),
        ("1. Write a poem\n2. Sum a list\n3. 1. is what?\n", "the lines are numbered"),
        ("0\tWrite a poem\n1\tSum a list\n", "the lines are numbered"),
        ("- Write a poem\n- Sum a list\n", "the lines all begin with a bullet"),
        ('"Write a poem"\n"Sum, a list"\n', "the lines all stand in quotes"),
        ("   prompt   kind\n0  Write a poem  x\n1  Sum a list  y\n", "like a table as pandas prints it"),
        ("Write a poem\nSum a list\n\nTotal: 2\n", "line 4: the last prompt is 'Total: 2', which looks like a total"),
    ],
)
def test_what_is_hardly_a_prompt_is_read_and_said(tmp_path, text, said):
    file = tmp_path / "prompts.txt"
    file.write_text(text)
    with pytest.warns(P2LWarning, match=said) as met:
        assert list(read_prompts(file)) == [line for line in text.split("\n") if line]
    assert len(met) == 1


def test_a_total_below_a_column_of_prompts_is_said(tmp_path):
    file = tmp_path / "prompts.csv"
    file.write_text("prompt,n\nWrite a poem,4\nSum a list,3\nTotal,7\n")
    with pytest.warns(P2LWarning, match="line 4: the last prompt is 'Total'"):
        assert len(list(read_prompts(file))) == 3
    file.write_text("prompt,a,b\nWrite a poem,0.4,0.3\nSum a list,0.3,0.9\nMean,0.35,0.6\n")
    with pytest.warns(P2LWarning, match="line 4: the last prompt is 'Mean'"):
        assert Scores.read(file).models == ("a", "b")


@pytest.mark.parametrize(
    "text",
    [
        "Total\n",
        "prompt\n",
        "1. Write a poem\nSum a list\n",
        "Mean value of 3, 4?\nIs the total: 4\n",
        '"a" or "b"\n"c"?\n',
    ],
)
def test_usual_prompts_pass_without_a_word(tmp_path, text):
    file = tmp_path / "prompts.txt"
    file.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "\n".join(read_prompts(file)) + "\n" == text


def test_a_text_has_no_columns(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("#hashtag ideas\n--help is what?\n")
    with pytest.warns(P2LWarning, match="a text of one prompt per line, and has no columns"):
        assert len(list(read_prompts(file, "Question"))) == 2


def test_a_table_without_a_header_does_not_lose_its_first_prompt(tmp_path):
    file = tmp_path / "prompts.csv"
    file.write_text("Write a poem\nWhat is 2 + 2?\n")
    with pytest.raises(
        VotesError, match=r"the first line \('Write a poem'\).* may be a prompt itself: write prompt above"
    ):
        list(read_prompts(file))


def test_a_data_set_is_not_a_list_of_prompts():
    data = datasets.Dataset.from_list([{"prompt": "Write a poem"}])
    p2l = P2L.from_pretrained("routing9")
    for table in (data, data.to_iterable_dataset()):
        with pytest.raises(PromptError, match=r"not (Iterable)?Dataset; pass its column, data\['prompt'\]"):
            p2l.aggregate(table)
    assert p2l.aggregate(data["prompt"]).models == p2l.models
