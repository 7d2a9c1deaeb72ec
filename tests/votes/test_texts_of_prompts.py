"""Files of prompts that are not what they seem: Markdown, a table without a header, a data set in place of a column."""

from __future__ import annotations

import datasets
import pytest

from p2l_sdk import P2L
from p2l_sdk.errors import P2LWarning, PromptError, VotesError
from p2l_sdk.votes.prompts import read_prompts


@pytest.mark.parametrize("line", ["# My prompts", "```", "---", "| a | b |"])
def test_a_line_of_markdown_is_said_once(tmp_path, line):
    file = tmp_path / "prompts.md"
    file.write_text(f"Write a poem\n{line}\n{line}\nWhat is -1 + 2 | 3?\n")
    with pytest.warns(P2LWarning, match="line 2 .* looks like Markdown") as met:
        assert list(read_prompts(file)) == ["Write a poem", line, line, "What is -1 + 2 | 3?"]
    assert len(met) == 1


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
