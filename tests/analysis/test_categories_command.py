"""`p2l aggregate --by` and `p2l analyze categories`, on real files in real processes."""

from __future__ import annotations

import json

import pytest
from support.command_line import ok, p2l, refused

from p2l_sdk.errors import VotesError
from p2l_sdk.votes.prompts import read_labelled_prompts

ROWS = [
    {"Question": f"{text} {i}", "Topic": topic, "n": i}
    for i in range(6)
    for text, topic in (
        ("Which organ pumps blood? Case", "biology"),
        ("Write a loop that runs k times, k:", "coding"),
    )
]
MODEL = ("--model", "routing9")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("categories")
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    lines = [f'"{row["Question"]}",{row["Topic"]}' for row in ROWS]
    (folder / "p.csv").write_text("\n".join(["prompt,topic", *lines, "What is a heart?,", ""]))
    (folder / "p.txt").write_text("one\ntwo\n")
    (folder / "p.json").write_text('["one", "two"]')
    return folder


def test_aggregate_by_shows_the_best_of_each_category(folder):
    out = ok("aggregate", folder / "p.jsonl", "--by", "topic", *MODEL)
    assert "2 categories of 12 prompts, 9 LLMs" in out
    assert "biology" in out
    found = json.loads(ok("aggregate", folder / "p.jsonl", "--by", "Topic", *MODEL, "--json"))
    assert list(found["categories"]) == ["biology", "coding"]
    best = found["categories"]["coding"]["leaderboard"][0]["model"]
    assert f"coding          6  {best}" in out
    assert {row["category"] for row in found["differences"]["rows"]} == {"biology", "coding"}


def test_llms_in_each_category(folder):
    out = ok("aggregate", folder / "p.jsonl", "--by", "topic", *MODEL, "--top", "2")
    assert "all" in out.split()
    assert "bold: the best of these" in out
    one = ok("aggregate", folder / "p.jsonl", "--by", "topic", *MODEL, "--models", "mistral-7b-instruct-v0.3")
    assert "mistral-7b-instruct-v0.3 by category, and its difference to all others" in one


def test_empty_cells_are_left_out_and_said(folder):
    result = p2l("aggregate", folder / "p.csv", "--by", "topic", *MODEL)
    assert result.returncode == 0
    assert b"p2l: left out: 1 of 13 prompts, without a category (an empty cell in topic)" in result.stderr


@pytest.mark.long
def test_differences_choices_and_pictures(folder, tmp_path):
    file = folder / "p.jsonl"
    out = ok("analyze", "categories", file, "--by", "topic", *MODEL, "--output", tmp_path / "d.png")
    assert "2 categories of prompts against all others: 9 LLMs" in out
    out = ok("analyze", "categories", file, "--by", "topic", *MODEL, "--versus", "coding,biology")
    assert "Category coding against biology" in out
    out = ok(
        "analyze", "categories", file, "--by", "topic", *MODEL, "--cost", "0.0003", "--cost", "0.0006", "--best",
        "--output", tmp_path / "c.svg",
    )  # fmt: skip
    assert "$0.3 per 1,000 responses" in out
    assert "at any cost" in out
    found = json.loads(ok("analyze", "categories", file, "--by", "topic", *MODEL, "--cost", "0.0003", "--json"))
    shares: dict[str, float] = {}
    for row in found["rows"]:
        shares[row["category"]] = shares.get(row["category"], 0.0) + row["share"]
    assert shares == pytest.approx({"biology": 1.0, "coding": 1.0})
    ok("aggregate", file, "--by", "topic", *MODEL, "--output", tmp_path / "b.png")
    ok("aggregate", file, *MODEL, "--output", tmp_path / "a.png")
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("a.png", "b.png", "c.svg", "d.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("p.jsonl", "--by", "topics"), "there is no column 'topics'; did you mean 'Topic'?"),
        (("p.txt", "--by", "topic"), "is a text of one prompt per line, so there is no column 'topic'"),
        (("p.json", "--by", "topic"), "this JSON array holds prompts alone"),
        (("p.jsonl", "--by", "topic", "--kinds"), "--kinds: not with --by"),
        (("p.jsonl", "--by", "topic", "--models", "gpt"), "gpt"),
    ],
)
def test_aggregate_refuses(folder, arguments, message):
    assert message in refused("aggregate", folder / arguments[0], *arguments[1:], *MODEL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--by", "topic", "--cost", "0.00001"), "no LLM fits the budget of $0.00001 per response"),
        (("--by", "topic", "--policy", "strict"), "--policy: of a router; give --cost USD too"),
        (("--by", "topic", "--cost", "0.001", "--llm", "a"), "give one kind"),
        (("--by", "topic", "--versus", "coding"), "names 1 categories; it takes two"),
        (("--by", "topic", "--versus", "coding,biologie"), "there is no category 'biologie'; did you mean 'biology'?"),
        ((), "--by"),
    ],
)
def test_analyze_categories_refuses(folder, arguments, message):
    assert message in refused("analyze", "categories", folder / "p.jsonl", *arguments, *MODEL)


def test_prompts_with_a_column_beside_them(folder):
    assert list(read_labelled_prompts(folder / "p.jsonl", "topic"))[:2] == [
        ("Which organ pumps blood? Case 0", "biology"), ("Write a loop that runs k times, k: 0", "coding"),
    ]  # fmt: skip
    assert [n for _, n in read_labelled_prompts(folder / "p.jsonl", "n")] == [i for i in range(6) for _ in range(2)]
    with pytest.raises(VotesError, match="there is no column 'x'"):
        list(read_labelled_prompts(folder / "p.jsonl", "x"))
