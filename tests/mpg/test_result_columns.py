"""Results as people have them: other names, several scales, percent signs, blanks in names, rows that are no LLM."""

from __future__ import annotations

from functools import partial

import pytest
from click.testing import CliRunner

from p2l_sdk.cli import cli
from p2l_sdk.errors import P2LError, P2LWarning
from p2l_sdk.kinds.ratings import KindRatings
from p2l_sdk.mpg import Results
from p2l_sdk.routing.costs import load_costs
from p2l_sdk.votes.votes import Scores

MIXED = {"model": ["a", "b"], "MMLU": [0.7, 0.6], "GSM8K": [80.0, 90.0], "ARC": [0.9, 0.8]}


@pytest.mark.parametrize("percent", [False, True])
def test_benchmarks_on_two_scales_are_asked_for(percent):
    text = r"MMLU and ARC are in \[0, 1\], GSM8K is in \[0, 100\]; name those in percent: --percent GSM8K"
    with pytest.raises(P2LError, match=text):
        Results.read(MIXED, percent=percent)
    found = Results.read(MIXED, percent=["GSM8K"])
    assert found.means.tolist() == [[0.7, 0.8, 0.9], [0.6, 0.9, 0.8]]
    long = [
        {"model": model, "benchmark": name, "score": MIXED[name][row]}
        for row, model in enumerate(MIXED["model"])
        for name in ("MMLU", "GSM8K", "ARC")
    ]
    with pytest.raises(P2LError, match=text):
        Results.read(long, percent=percent)
    assert Results.read(long, percent=["GSM8K"]).means.tolist() == found.means.tolist()
    with pytest.raises(P2LError, match="there is no benchmark 'GSM'"):
        Results.read(MIXED, percent=["GSM"])


@pytest.mark.parametrize("name", ["Model", "LLM", "model name", " MODEL "])
def test_names_of_columns_in_any_case(name):
    assert Results.read({name: ["a", "b"], "MMLU": [0.5, 0.6]}).models == ("a", "b")
    found = Results.read({name: ["a", "b"], "Task": ["t", "t"], "Accuracy": [0.5, 0.6]})
    assert (found.benchmarks, found.means.tolist()) == (("t",), [[0.5], [0.6]])
    named = Results.read({"Who": ["a", "b"], "MMLU": [0.5, 0.6]}, names={"model": "Who"})
    assert named.benchmarks == ("MMLU",)


def test_percent_signs():
    for percent in (False, True):
        found = Results.read({"model": ["a", "b"], "x": ["60,3 %", "47.4%"]}, percent=percent)
        assert found.means.ravel().tolist() == pytest.approx([0.603, 0.474])
    both = Results.read({"model": ["a", "b"], "x": ["60,3 %", "47.4%"], "y": [59.0, 40.0]}, percent=True)
    assert both.means[0].tolist() == pytest.approx([0.603, 0.59])


def test_one_llm_in_two_spellings():
    with pytest.raises(P2LError, match="are both of LLM 'a'; keep one"):
        Results.read({"model": ["a", "a "], "x": [0.5, 0.6]})
    with pytest.warns(P2LWarning, match=r"nearly the same.*'a' \(1\) beside 'A' \(1\)"):
        Results.read({"model": ["a", "A"], "x": [0.5, 0.6]})
    rows = [("Mid", "x", 1000), ("mid", "y", 900), ("b", "x", 1100), ("b", "y", 950), ("mid", "x", 3)]
    table = [{"Model": m, "Category": c, "Rating": r} for m, c, r in rows]
    with pytest.warns(P2LWarning, match="'Mid' .* beside 'mid'"):
        KindRatings.read(table, "elo")


def test_a_figure_of_the_llms_or_benchmarks_is_none_of_them():
    table = {"model": ["a", "b", "c"], "x": [0.81, 0.62, 0.33], "y": [0.72, 0.41, 0.25], "z": [0.55, 0.9, 0.1]}
    for name in ("Average", "Mittelwert", "Ø"):
        with pytest.raises(P2LError, match=f"is of {name!r}, which looks like a figure of the other LLMs"):
            Results.read({key: [*column, name if key == "model" else 0.5] for key, column in table.items()})
    mean = {key: [*column, "Schnitt" if key == "model" else round(sum(column) / 3, 3)] for key, column in table.items()}
    with pytest.warns(P2LWarning, match="the results of 'Schnitt' look like the mean of the others"):
        Results.read(mean)
    rows = list(zip(table["x"], table["y"], table["z"], strict=True))
    for name in ("overall", "Wert"):
        with pytest.raises(P2LError, match=f"{name!r} looks like the mean of the others.*--columns x,y,z"):
            Results.read({**table, name: [round(sum(row) / 3, 2) for row in rows]})


def test_thousands_in_ratings_and_costs(tmp_path):
    file = tmp_path / "r.csv"
    file.write_text("model;category;rating\nbig;x;1.060\nmid;x;930\nbig;y;1.000\nmid;y;940\n")
    with pytest.raises(P2LError, match=r"line 2: rating is '1[.]060', and '930' in another row"):
        KindRatings.read(file, "elo")
    file.write_text("Model;Cost\na;0,001\nb;0,002\n")
    assert dict(load_costs(str(file), ("a", "b"))) == {"a": 0.001, "b": 0.002}
    file.write_text("model;cost\na;1.060\nb;930\n")
    with pytest.raises(P2LError, match=r"line 2: cost is '1[.]060', and '930' in another row"):
        load_costs(str(file), ("a", "b"))


def test_a_table_of_scores_without_categories_is_told_what_it_needs():
    scores = Scores.read({"prompt": ["x", "y"], "a": [0.5, 0.6], "b": [0.1, 0.2]})
    with pytest.raises(P2LError, match=r"needs a column that says of which one each prompt is .*p2l evaluate --scores"):
        Results.of_scores(scores, "prompt")


def test_the_options_of_the_report(tmp_path):
    file = tmp_path / "r.csv"
    file.write_text("Who,MMLU,GSM8K (B)\na,0.7,80\nb,0.6,90\n")
    run = partial(CliRunner().invoke, cli)
    base = ["mpg", "report", "--results", str(file), "--draws", "100", "--column", "model=Who"]
    refused = run(base)
    assert "--percent 'GSM8K (B)'" in str(refused.exception or refused.output)
    found = run([*base, "--json", "--percent", "GSM8K (B)"])
    assert found.exit_code == 0, found.output
    whole = run([*base, "--columns", "GSM8K (B)", "--percent", "--json"])
    assert whole.exit_code == 0, whole.output
