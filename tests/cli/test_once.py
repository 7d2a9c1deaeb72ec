"""Options given twice, files given without their option, and names that are misspelt."""

from __future__ import annotations

import click
import pytest

from p2l_sdk.cli import cli, run
from p2l_sdk.errors import nearest


def refused(capsys, *arguments):
    assert run(lambda: cli(list(arguments), prog_name="p2l", standalone_mode=False)) == 2
    return capsys.readouterr().err


def singles(group, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from singles(command, (*path, name))
            continue
        for option in command.params:
            if isinstance(option, click.Option) and not (option.multiple or option.is_flag):
                yield (*path, name), option.opts[0], option.nargs


@pytest.mark.parametrize(("path", "option", "n"), [*singles(cli)], ids=str)
def test_no_option_is_given_twice(capsys, path, option, n):
    text = refused(capsys, *path, *[option, *["1"] * n] * 2)
    assert f"{option} is given 2 times; give it once" in text


def test_a_file_without_its_option(capsys):
    for command in ("train", "evaluate"):
        assert "a file is named by its option: --votes base.csv" in refused(capsys, command, "base.csv")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gpt-4o-mni", "gpt-4o-mini-2024-07-18"),
        ("llama-3.1-8", "llama-3.1-8b-instruct"),
        ("llama-3.1-8b-instrct", "llama-3.1-8b-instruct"),
        ("openai/gpt-4o-mni", "gpt-4o-mini-2024-07-18"),
        ("claude-sonet-4", "claude-sonnet-4-20250514"),
        ("nothing like it", None),
    ],
)
def test_the_nearest_llm_without_dates(name, found):
    models = ("gpt-5-mini-high", "gpt-4o-mini-2024-07-18", "llama-3.1-tulu-3-8b", "llama-3.1-405b-instruct-fp8",
              "llama-3.1-8b-instruct", "gpt-4o-2024-08-06", "claude-sonnet-4-20250514")  # fmt: skip
    assert nearest(name, models) == found


def test_votes_on_a_new_llm_name_the_others_as_people_do(capsys, tmp_path):
    votes = [f"prompt {i},gpt-4o-mini,new,{'model_a' if i % 3 else 'model_b'}" for i in range(30)]
    (tmp_path / "v.csv").write_text("\n".join(["prompt,model_a,model_b,winner", *votes]), encoding="utf-8")
    arguments = ["add-model", "new", "--votes", str(tmp_path / "v.csv"), "--output", str(tmp_path / "m")]
    assert run(lambda: cli(arguments, prog_name="p2l", standalone_mode=False)) == 0
    assert "gpt-4o-mini is read as gpt-4o-mini-2024-07-18" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("aggregate",), ("score", "--output", "out"), ("frontier",)])
def test_the_column_of_prompts_goes_by_two_names(capsys, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("Frage,n\nWas ist 1+1?,1\n")
    for option in (("--column", "prompt=Farge"), ("--prompt-column", "Farge"), ("--prompt-column=Farge",)):
        assert "there is no column 'Farge'" in refused(capsys, *command, "table.csv", *option)
    assert "requires an argument" in refused(capsys, *command, "table.csv", "--prompt-column")
    assert "is given 2 times" in refused(capsys, *command, "table.csv", "--prompt-column", "a", "--column", "b")
