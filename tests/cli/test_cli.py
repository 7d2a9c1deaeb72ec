"""The command line as a user runs it, in a separate process: its output and its errors."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from command_line import ok, p2l, refused
from conftest import MODELS

from p2l_sdk.errors import P2LWarning

PROMPT = "Prove that the square root of two is irrational"


def as_json(board, p2l) -> dict:
    """A leaderboard as printed with --json."""
    return {**board.to_dict(), "costs": dict(p2l.costs)}


def named(table: str) -> list[str]:
    """The LLMs of a table."""
    return [line.split()[1] for line in table.splitlines() if line.strip()[:1].isdigit()]


@pytest.mark.long
@pytest.mark.parametrize("name", [None, "routing9"])
def test_leaderboard(name, default, routing9):
    model, options = (default, ()) if name is None else (routing9, ("--model", name))
    board = model.leaderboard(PROMPT)
    table = named(ok("leaderboard", PROMPT, *options))
    if name is None:  # the best ten of 282, and the frontier's cheapest
        assert table[:10] == board.ranking[:10]
        assert 10 < len(table) <= 15
        assert table == [llm for llm in board.ranking if llm in table]
        assert named(ok("leaderboard", PROMPT, "--all")) == board.ranking
    else:
        assert table == board.ranking
    top = named(ok("leaderboard", PROMPT, *options, "--top", 2))
    assert top == board.ranking[:2]
    assert json.loads(ok("leaderboard", PROMPT, *options, "--json")) == as_json(board, model)
    assert len(json.loads(ok("leaderboard", PROMPT, *options, "--json", "--top", 3))["leaderboard"]) == 3
    assert json.loads(ok("leaderboard", "-", *options, "--json", stdin=PROMPT)) == as_json(board, model)


def test_another_model(saved):
    result = json.loads(ok("leaderboard", "write a poem", "--model", saved("quantized"), "--json"))
    assert sorted(row["model"] for row in result["leaderboard"]) == sorted(MODELS)


@pytest.mark.long
@pytest.mark.parametrize("name", ["arena", "routing9"])
def test_route(name, default, routing9):
    model = default if name == "arena" else routing9
    options = () if name == "arena" else ("--model", name)
    result = json.loads(ok("route", PROMPT, *options, "--cost", "0.0005", "--seed", "3", "--json"))
    expected = model.route(PROMPT, cost=0.0005, seed=3)
    assert result["model"] == expected.model
    assert result["left_out"] == [llm for llm in model.models if llm not in model.costs]
    assert result["mixture"] == pytest.approx(dict(expected.mixture))
    assert result["expected_cost"] <= 0.0005
    text = ok("route", PROMPT, *options, "--cost", "0.0005", "--seed", "3")
    assert text.splitlines()[0].split() == ["call", expected.model]
    assert ("LLMs whose cost is not known" in text) == (name == "arena")
    assert model.route(PROMPT).model in ok("route", PROMPT, *options)


def test_aggregate_of_many_llms(default):
    """As in this process, but for the order in which several threads add up."""
    prompts = [PROMPT, "Write a haiku about the sea", "Schreibe ein Gedicht über das Meer"]
    found, expected = json.loads(ok("aggregate", "-", "--json", stdin="\n".join(prompts))), default.aggregate(prompts)
    rows = {row["model"]: row for row in found["leaderboard"]}
    assert len(rows) == len(found["leaderboard"]) == len(default.models)
    for row in expected.rows():
        numbers = ("coef", "rating", "low", "high")
        assert row.keys() == rows[row["model"]].keys() >= {*numbers}
        assert [rows[row["model"]][key] for key in numbers] == pytest.approx([row[key] for key in numbers], abs=1e-6)
    assert found["kinds"] == pytest.approx(expected.kinds, abs=1e-6)
    assert found["costs"] == dict(default.costs)
    table = ok("aggregate", "-", stdin="\n".join(prompts))
    assert named(table)[:10] == expected.ranking[:10]
    assert "more LLMs (--all shows all" in table


@pytest.mark.long
def test_aggregate(routing9, tmp_path):
    small = ("--model", "routing9")
    prompts = [PROMPT, "Write a haiku about the sea", "What is the capital of France?"]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts))
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in prompts))
    expected = as_json(routing9.aggregate(prompts), routing9)
    for source in ("prompts.txt", "prompts.jsonl"):
        assert json.loads(ok("aggregate", tmp_path / source, *small, "--json")) == expected
    assert json.loads(ok("aggregate", "-", *small, "--json", stdin="\n".join(prompts))) == expected
    twice = p2l("aggregate", "-", *small, "--json", stdin="\n".join([*prompts, PROMPT]))
    assert b"p2l: 1 of 4 prompts repeat another one, and the intervals count them as independent" in twice.stderr
    table = ok("aggregate", tmp_path / "prompts.txt", *small, "--top", 4)
    assert "on 3 prompts" in table
    assert "95 % interval" in table


def test_evaluate(default, tmp_path):
    a, b = default.models[:2]
    votes = [{"prompt": PROMPT, "model_a": a, "model_b": b, "winner": w} for w in ("model_a", "tie", "model_b")]
    scores = [{"prompt": p, **{m: i % 3 for i, m in enumerate(default.models)}} for p in (PROMPT, "hello")]
    for name, rows in (("votes", votes), ("scores", scores)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ("--votes", tmp_path / "votes.jsonl", "--scores", tmp_path / "scores.jsonl")
    report = json.loads(ok("evaluate", *files, "--json"))
    assert report["n_votes"] == 3
    assert set(report["metrics"]) >= {"bt_log_loss", "cross_entropy", "pair_accuracy", "routed_score", "oracle_score"}
    assert report["metrics"]["bt_log_loss"]["standard_error"] is None  # one prompt has none, and JSON no NaN
    assert "BT log-loss" in ok("evaluate", *files)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("leaderboard", ""), "the prompt is empty"),
        (("leaderboard", "  \n\t"), "the prompt is empty"),
        (("leaderboard", "\x07\x08"), "no character that the tokenizer knows"),
        (("leaderboard", b"caf\xe9".decode("utf-8", "surrogateescape")), "lone surrogate at character 3"),
        (("leaderboard", "x", "--model", "no/such/folder"), "there is no folder 'no/such/folder'"),
        (("leaderboard", "x", "--top", "0"), "0 is not in the range"),
        (("leaderboard",), "Missing argument 'PROMPT'"),
        (("leaderboard", "x", "--colour"), "No such option"),
        (("score", "x", "--llms", "a"), "No such option '--llms'. Did you mean '--models'? (see p2l score --help)"),
        (
            ("frontier", "x", "--cost", "1"),
            "No such option '--cost'. Did you mean '--budgets'? (see p2l frontier --help)",
        ),
        (
            ("aggregate", "x", "--cost", "0.1"),
            "No such option '--cost'. A budget is for a command that chooses LLMs, as p2l route --cost USD; what LLMs "
            "cost is --costs SOURCE (see p2l aggregate --help)",
        ),
        (("leaderboard", "x", "--budget", "1"), "A budget is for a command that chooses LLMs"),
        (("route", "x", "--costs", "0.1"), "'0.1' is no source of costs; give a file"),
        (("route", "x", "--costs", "0.1"), "a budget is another option: --cost 0.1 (cost=0.1)"),
        (("train", "--llm", "a"), "Did you mean '--llms'? ("),
        (("score", "x", "--text-column", "a"), "Did you mean '--column'? ("),
        (("serve", "--llms", "a"), "No such option '--llms'. (see"),
        (("route", "x", "--cost", "0.00001", "--model", "routing9"), "the cheapest feasible budget is $0.0001"),
        (("route", "x", "--cost", "-1"), "the cheapest feasible budget is $"),
        (("route", "x", "--cost", "nan"), "'nan' is no finite number"),
        (("route", "x", "--cost", "cheap"), "'cheap' is no finite number"),
        (("aggregate", "no-such-file.txt"), "no such file: 'no-such-file.txt'"),
        (("aggregate", "What is 2 + 2?"), "no such file: 'What is 2 + 2?'"),
        (("aggregate", "prompts.ods"), "no such file: 'prompts.ods'"),
        (("aggregate", "prompts.txt", "--seed", "-1"), "-1 is not in the range"),
        (("leaderboard", "-5 + 3 = ?"), "goes behind --"),
        (("leaderboard", "who", "is", "it"), "put quotes around the prompt"),
        (("evaluate",), "nothing to evaluate on"),
        (("evaluate", "--votes", "votes.xlsx"), "no such file: 'votes.xlsx'"),
        (("evaluate", "--votes", "votes.jsonl"), "no such file: 'votes.jsonl'"),
        (("rank", "x"), "No such command 'rank'"),
    ],
)
def test_an_error_is_one_line_and_status_2(arguments, message):
    assert message in refused(*arguments)


@pytest.mark.long
def test_long_and_strange_prompts_have_an_answer(default):
    long = "What is 2 + 2? " * 70_000  # 1 MB
    shown = p2l("leaderboard", "-", "--json", stdin=long)
    assert b"the prompt has more than 512 tokens: this model reads its last 512" in shown.stderr
    with pytest.warns(P2LWarning, match="512 tokens"):
        assert json.loads(shown.stdout) == as_json(default.leaderboard(long), default)
    for strange in ("a\x00b\x1b[31m", "[CLS] [SEP] [MASK]", "<|im_end|>", "日本語のなぞなぞ", "🦜" * 50, "x" * 5000):
        board = json.loads(ok("leaderboard", "-", "--json", stdin=strange))
        assert board == as_json(default.leaderboard(strange), default)


@pytest.mark.long
def test_tables_fit_narrow_and_plain_terminals(tmp_path):
    (tmp_path / "prompts.txt").write_text("hello\nthere\n")
    for model, columns in (("routing9", {"usable"}), ("arena", {"interval"})):
        for command in (("leaderboard", "hello"), ("aggregate", tmp_path / "prompts.txt")):
            for width in ("80", "64"):
                lines = ok(*command, "--model", model, env={"COLUMNS": width}).splitlines()
                assert {"rank", "LLM", "rating", *columns} <= set(" ".join(lines[1:3]).split())
                assert all(len(line) <= int(width) for line in lines)
            assert "rating" in ok(*command, "--model", model, env={"PYTHONIOENCODING": "ascii"})


def test_names_are_no_markup(saved):
    names = ["gamma[preview]", "x[/bold]y", "plain"]
    folder = saved("static", models=names, costs={})
    table = ok("leaderboard", "write", "--model", folder)
    assert all(name in table for name in names)
    assert any(name in ok("route", "write", "--model", folder) for name in names)


@pytest.mark.long
def test_text_that_is_not_utf8_and_marks_that_are(tmp_path):
    (tmp_path / "latin.txt").write_bytes("Où est le café ?".encode("latin-1"))
    assert "is not UTF-8 text" in refused("aggregate", tmp_path / "latin.txt")
    (tmp_path / "excel.csv").write_bytes("\ufeffprompt,x\r\nhello,1\r\n".encode())
    expected = ok("aggregate", "-", "--json", stdin="hello\n")
    assert ok("aggregate", tmp_path / "excel.csv", "--json") == expected
    assert ok("aggregate", "-", "--json", stdin='{"prompt": "hello"}\n') == expected


def test_a_prompt_on_standard_input_that_is_not_utf8():
    for command in ("leaderboard", "route"):
        error = refused(command, "-", stdin=b"caf\xe9", env={"PYTHONIOENCODING": "utf-8"})
        assert "standard input is not UTF-8 text (byte 3); save it as UTF-8" in error


def test_convert_says_what_is_not_installed(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "p2l", "backbone_config": {"model_type": "llama"}}')
    bare = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from p2l_sdk.cli import main; main()"
    )  # fmt: skip
    command = [sys.executable, "-c", bare, "convert", str(tmp_path), str(tmp_path / "new")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    expected = 'p2l: a llama backbone needs torch, which is not installed: pip install "p2l-sdk[torch]"\n'
    assert (result.returncode, result.stderr) == (2, expected)


def test_an_empty_file_of_prompts(tmp_path):
    (tmp_path / "none.txt").write_text("\n \n")
    assert "none.txt' holds no prompts; give at least one" in refused("aggregate", tmp_path / "none.txt")


def test_a_reader_that_leaves_early_is_no_error():
    command = f'{sys.executable} -m p2l_sdk leaderboard "{PROMPT}" --json | head -c 5'
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert result.stdout == '{\n  "'
    assert result.stderr == ""


@pytest.mark.long
def test_help_and_version():
    from p2l_sdk.cli import cli

    for group in (cli, cli.commands["mpg"], cli.commands["analyze"]):
        assert all(command.short_help and len(command.short_help) <= 55 for command in group.commands.values())
    assert "..." not in ok("--help").split("Commands:")[1]
    assert "leaderboard" in ok("--help")
    assert "PROMPT" in ok("leaderboard", "--help")
    assert ok("--version").startswith("p2l, version 0.")
    assert "Commands:" in ok()


def test_a_hint_about_prompts_is_for_commands_that_take_one(capsys):
    from p2l_sdk.cli import cli, run

    for command, hinted in (("leaderboard", True), ("train", False)):
        assert run(lambda command=command: cli([command, "--vote", "x"], standalone_mode=False)) == 2
        assert ("a prompt that starts with a dash" in capsys.readouterr().err) == hinted
