"""Prompts inside cells, as logs of requests have them, and conversations with two LLMs at once."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from p2l_sdk import Votes
from p2l_sdk.bulk import Columns, Settings, score_files
from p2l_sdk.errors import P2LWarning, VotesError
from p2l_sdk.modeling.prompt_p2l import user_turns
from p2l_sdk.tables.inside import prompt_inside
from p2l_sdk.votes.prompts import read_prompts

ASKED = ["What is 17 * 23?", "Write a haiku"]


def messages(text):
    return [{"role": "system", "content": "Be brief"}, {"role": "user", "content": text}]


def answered(text):
    return {"choices": [{"message": {"role": "assistant", "content": text}}], "messages": messages("no")}


LOGS = {
    "body.messages": [
        {"custom_id": str(i), "body": {"model": "m", "messages": messages(t)}} for i, t in enumerate(ASKED)
    ],
    "request_body.messages": [{"request_body": {"messages": messages(t)}, "response_body": answered(t)} for t in ASKED],
    "inputs.question": [{"inputs": {"question": t}, "outputs": {"answer": "391"}, "metadata": {"n": 1}} for t in ASKED],
    "log.request.messages": [{"log": {"request": {"messages": messages(t)}}} for t in ASKED],
}


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("where", LOGS)
def test_the_only_prompts_inside_cells_are_found_and_said(tmp_path, where):
    file = lines(tmp_path / "log.jsonl", LOGS[where])
    with pytest.warns(P2LWarning, match=f"prompts are read from '{where}'"):
        assert [user_turns(prompt)[-1] for prompt in read_prompts(file)] == ASKED
    assert [user_turns(prompt)[-1] for prompt in read_prompts(file, where)] == ASKED
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(LOGS[where]), tmp_path / "log.parquet")
    assert [user_turns(prompt)[-1] for prompt in read_prompts(tmp_path / "log.parquet", where)] == ASKED
    for name in ("log.jsonl", "log.parquet"):
        columns = Columns(prompt=where if name == "log.jsonl" else None)
        out = tmp_path / f"{name}.out"
        found = score_files([str(tmp_path / name)], out, Settings(model="routing9"), columns=columns, processes=1)
        assert found.totals.n_prompts.total() == len(ASKED)


def test_two_places_are_not_chosen_from(tmp_path):
    file = lines(tmp_path / "log.jsonl", [{"first": {"question": t}, "second": {"question": t}} for t in ASKED])
    with pytest.raises(VotesError, match="has no column 'prompt'"):
        list(read_prompts(file))
    with pytest.raises(VotesError, match=r"no column 'first.questoin' .for prompt.; did you mean 'first'"):
        list(read_prompts(file, "first.questoin"))


def test_a_conversation_with_two_llms_is_its_users_turns():
    def turn(text):
        sides = {side: {"role": "assistant", "content": "..."} for side in ("model_side_a", "model_side_b")}
        return {"user": {"role": "user", "content": [{"type": "text", "text": text}]}, **sides}

    rows = [
        {"model_a": "x", "model_b": "y", "winner": "model_a", "full_conversation": [turn("one"), turn("two")]},
        {"model_a": "y", "model_b": "x", "winner": "tie", "full_conversation": [turn("one")]},
    ]
    assert [user_turns(prompt) for prompt in Votes.read(rows).prompts] == [["one", "two"], ["one"]]


def test_a_column_of_texts_is_not_read_to_its_end():
    """Of millions of votes, the first cell of a column mostly says that there is nothing inside."""
    read = []

    class Cells(list):
        def __iter__(self):
            for cell in super().__iter__():
                read.append(cell)
                yield cell

    assert prompt_inside({"model_a": Cells(["x"] * 1000), "body": Cells([None, "y"] * 500)}) is None
    assert len(read) <= 3
