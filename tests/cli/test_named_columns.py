"""The options that name columns: --llms, --not-llms, --columns, and of the harness --metric and --filter."""

from __future__ import annotations

import json
import random

import pytest
from command_line import ok, p2l, refused

from p2l_sdk.cli import cli
from p2l_sdk.errors import P2LError, P2LWarning
from p2l_sdk.training.config import TrainingConfig

pytestmark = pytest.mark.filterwarnings("ignore::p2l_sdk.errors.P2LWarning")


@pytest.fixture
def scores(tmp_path) -> str:
    """Scores as a spreadsheet has them: an index, an identifier and a flag beside two LLMs."""
    draw = random.Random(0)
    lines = [f"{i},question {i} on {'code' if i % 2 else 'verse'},{7 * i + 3},{i % 2},{{}},{{}}" for i in range(40)]
    rows = [line.format(round(draw.random(), 2), round(draw.random(), 2)) for line in lines]
    file = tmp_path / "scores.csv"
    file.write_text("\n".join([",prompt,id,is_code,alpha,beta", *rows]))
    return str(file)


def run(*arguments: str) -> None:
    cli(list(arguments), standalone_mode=False)


@pytest.mark.parametrize("named", [("--llms", "alpha,beta"), ("--not-llms", "id,is_code")])
def test_train_and_evaluate_are_told_which_columns_are_llms(named, scores, tmp_path, capsys):
    folder = str(tmp_path / "model")
    options = ("--votes", scores, "--feedback", "bt", "--output", folder)
    with pytest.raises(P2LError, match="the column 'id' looks like an identifier, 'is_code' like a flag, not like an"):
        run("train", *options)
    run("train", *options, *named, "--quiet")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert "alpha" in json.dumps(config)
    assert "is_code" not in json.dumps(config)
    with pytest.raises(P2LError, match=r"name the LLMs \(--llms alpha,beta;"):
        run("evaluate", "--model", folder, "--votes", scores)
    capsys.readouterr()
    run("evaluate", "--model", folder, "--votes", scores, *named, "--json")
    assert json.loads(capsys.readouterr().out)["model"] == folder


def test_settings_name_columns_as_text_or_as_a_list():
    for value in ("alpha, beta", ["alpha", "beta"]):
        config = TrainingConfig(votes="v", output="o", llms=value, not_llms=value)
        assert config.llm_columns == {"models": ["alpha", "beta"], "not_llms": ["alpha", "beta"]}
    for value in ("", "a,,b", [], [3]):
        with pytest.raises(P2LError, match=r"llms is .*; it must be names of columns, by commas or as a list"):
            TrainingConfig(votes="v", output="o", llms=value)


def goodness(capsys, *arguments: str) -> list[str]:
    capsys.readouterr()
    run("mpg", "report", *arguments, "--draws", "200")
    return [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.strip()[:1].isdigit()][:2]


@pytest.mark.long
def test_report_is_told_which_columns_are_benchmarks(tmp_path, capsys):
    file = tmp_path / "r.csv"
    file.write_text(",model,math,code\n0,good,90,80\n1,poor,50,40\n")
    with pytest.warns(P2LWarning, match="the column '' was left out: row numbers"):
        assert goodness(capsys, "--results", str(file), "--percent") == ["good", "poor"]
    file.write_text("params_b,model,maker,math,code\n7,good,x,90.5,80.1\n70,poor,y,50.2,40.3\n")
    with pytest.raises(P2LError, match=r"beside others, name them: columns=\[...\], --columns A,B"):
        goodness(capsys, "--results", str(file), "--percent")
    assert goodness(capsys, "--results", str(file), "--percent", "--columns", "math,code") == ["good", "poor"]


@pytest.mark.long
def test_report_is_told_the_filter(tmp_path, capsys):
    for model, strict, flexible in (("a", 0.9, 0.1), ("b", 0.2, 0.8)):
        (tmp_path / model).mkdir()
        values = {"exact_match,flexible-extract": flexible, "exact_match,strict-match": strict}
        file = tmp_path / model / "results_2025-01-01T00-00-00.json"
        file.write_text(json.dumps({"results": {"gsm8k": values}, "model_name": model}))
    assert goodness(capsys, "--results", str(tmp_path)) == ["a", "b"]
    assert goodness(capsys, "--results", str(tmp_path), "--filter", "flexible-extract") == ["b", "a"]
    with pytest.raises(P2LError, match="has no 'acc'; it has: exact_match"):
        goodness(capsys, "--results", str(tmp_path), "--metric", "acc")


@pytest.mark.long
def test_the_column_is_said_of_the_prompts_of_a_plan_and_of_a_measurement(tmp_path):
    asked, votes = tmp_path / "fragen.csv", tmp_path / "votes.csv"
    asked.write_text("Aufgabe;Quelle\nSchreibe ein Gedicht;a\nWas ist 17 mal 23?;b\n")
    votes.write_text("prompt,model_a,model_b,winner\nhi,gpt-4o-mini,llama-3.1-8b,model_a\n")
    llms = "gpt-4o-mini,llama-3.1-8b"
    column = ("--column", "prompt=Aufgabe")
    planned = ok("plan", "--prompts", asked, *column, "--models", llms, "-n", "2")
    assert "Schreibe ein Gedicht" in planned
    measured = ok("evaluate", "--robustness", "--prompts", asked, *column, "--model", "routing9", "--json")
    assert json.loads(measured)["n_prompts"] == 2
    # of two files, it is said of those that have it
    text = ("prompt,kind\nhello,a\nWrite a poem,b\n", "Question,kind\nhello,a\nWrite a poem,b\n")
    for written in text:
        asked.write_text(written)
        votes.write_text("Question,model_a,model_b,winner\nhi,gpt-4o-mini,llama-3.1-8b,model_a\n")
        given = ("--votes", votes, "--column", "prompt=Question")
        done = p2l("plan", "--prompts", asked, *given, "--models", llms, "-n", "2")
        assert b"hello" in done.stdout
    unknown = refused("plan", "--prompts", asked, "--column", "prompt=Frage", "--models", llms)
    assert "no column 'Frage' (for prompt)" in unknown
