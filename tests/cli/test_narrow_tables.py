"""Tables in narrow terminals: columns are left out, numbers are never cut."""

from __future__ import annotations

import io

import pytest
from command_line import ok, refused
from rich.table import Table

from p2l_sdk import pictures
from p2l_sdk.cli.terminal import Console, Text, print_table, print_whole


def printed(width: int, spare: list[str]) -> str:
    table = Table(title="numbers", box=None, pad_edge=False)
    for title in ("budget", "cost", "95 %"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("LLM", overflow="fold")
    table.add_row("0.1369", "0.1234", "59 to 62", Text("数学-instruct-0123456789"), style="bold")
    file = io.StringIO()
    print_table(Console(file=file, width=width), table, spare)
    return file.getvalue()


def test_the_first_columns_that_can_be_spared_go_first():
    assert "no room" not in printed(80, ["95 %", "cost"])
    narrow = printed(34, ["95 %", "cost"])
    assert "no room for: 95 %\n" in narrow
    assert "numbers" in narrow
    assert "0.1369  0.1234  数学" in narrow
    narrower = printed(20, ["95 %", "no such column", "cost"])
    assert "no room for: 95 %, cost" in " ".join(narrower.split())
    assert "0.1369  数学" in narrower


def test_a_table_whose_words_have_no_room_is_lines():
    table = Table(title="numbers", box=None, pad_edge=False)
    table.add_column("ahead", justify="right", no_wrap=True)
    table.add_column("cluster", overflow="fold")
    table.add_column("better", overflow="fold")
    table.add_row("+12", Text("metamorphosis of plants"), Text("gpt-4o-mini +7"))
    table.add_row("-3", Text("law"), Text(""))
    wide, narrow = io.StringIO(), io.StringIO()
    print_whole(Console(file=narrow, width=30), table, "cluster")
    assert " ".join(narrow.getvalue().split()) == (
        "numbers metamorphosis of plants: ahead +12; better gpt-4o-mini +7 law: ahead -3"
    )
    print_whole(Console(file=wide, width=35), table, "cluster")
    assert [line.split() for line in wide.getvalue().splitlines()[1:4]] == [
        ["ahead", "cluster", "better"],
        ["+12", "metamorphosis", "gpt-4o-mini"],
        ["of", "plants", "+7"],
    ]


def test_a_name_wider_than_the_terminal_is_broken_at_its_joints():
    file = io.StringIO()
    console = Console(file=file, width=40)
    console.print(Text("use llama-3.3-nemotron-super-49b-v1-and-much-more-of-it for law", style="bold"))
    console.print(Text(50 * "x"))
    assert file.getvalue().splitlines() == [
        "use llama-3.3-nemotron-super-49b-v1-and-", "much-more-of-it for law", 40 * "x", 10 * "x"
    ]  # fmt: skip


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.csv"
    file.write_text("prompt,kind\n" + "".join(f"write poem {i},{'שירה' if i % 2 else '数学'}\n" for i in range(8)))
    return file


@pytest.mark.parametrize("more", [(), ("--by", "kind")])
def test_no_number_is_cut_in_forty_columns(prompts, more):
    shown = ok("frontier", prompts, "--model", "routing9", *more, env={"COLUMNS": "40"})
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 40
    assert ("שירה" in shown) == bool(more)


def test_one_category_is_named(prompts, tmp_path):
    (tmp_path / "one.csv").write_text("prompt,kind\na,x\nb,x\n")
    says = refused("frontier", tmp_path / "one.csv", "--by", "kind", "--model", "routing9")
    assert "all prompts are of one category, 'x'; it takes" in says


def test_long_names_of_llms_lose_their_middle_where_they_still_differ():
    long = [f"organisation/a-very-long-name-of-an-llm-{i}-instruct-2026" for i in range(3)]
    short = pictures.llm_names(["gpt-4o", *long])
    assert short[0] == "gpt-4o"
    assert len({*short}) == 4
    assert all(len(name) == 36 and name.endswith("-instruct-2026") and "…" in name for name in short[1:])
    alike = [f"organisation/model-{i}-of-a-family-with-a-long-name-instruct-2026" for i in range(2)]
    assert pictures.llm_names(alike) == alike
    assert pictures.with_sizes(["a", "b"], [1200, 1]) == ["a  (1,200 prompts)", "b  (1)"]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (40, ["claude-opus-4-5-20251101-thinking-32k"]),
        (18, ["claude-opus-4-5-", "20251101-thinking-", "32k"]),
        (9, ["claude-", "opus-4-5-", "20251101-", "thinking-", "32k"]),
        (8, ["claude-o", "pus-4-5-", "20251101", "-thinkin", "g-32k"]),  # no room for words
    ],
)
def test_a_long_name_is_broken_behind_a_hyphen(width, lines):
    console = Console(width=width, file=io.StringIO())
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(overflow="fold")
    table.add_row(Text("claude-opus-4-5-20251101-thinking-32k"))
    console.print(table)
    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == lines


def test_names_of_llms_can_be_read_in_forty_columns():
    narrow = ok("leaderboard", "Write a poem", "--top", "3", env={"COLUMNS": "40"})
    assert max(map(len, narrow.splitlines())) <= 40
    assert "gemini-3-pro" in narrow
    assert "no room for: 95 % interval\n" in narrow
    assert "no room" not in ok("leaderboard", "Write a poem", "--top", "3", env={"COLUMNS": "80"})
