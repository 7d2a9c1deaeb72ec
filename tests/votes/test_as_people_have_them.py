"""Tables with columns and rows as people have them: names of columns, one column for each outcome, faulty rows."""

from __future__ import annotations

import csv
import random
import re
import shlex

import pandas
import pytest
from forks import python
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import thorough
from vote_tables import as_csv

from p2l_sdk.errors import P2LError, VotesError
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.counts import VoteCounts
from p2l_sdk.votes.votes import Scores, Votes

COLUMNS = ("prompt", "model_a", "model_b", "winner")
OUTCOMES = ("model_a", "model_b", "tie", "both_bad")
ROWS = [
    {"prompt": f"What is {i}?", "model_a": "xyz"[i % 3], "model_b": "xyz"[(i + 1) % 3], "winner": OUTCOMES[i % 4]}
    for i in range(24)
]


def renamed(rows, **names):
    return [{names.get(name, name): value for name, value in row.items()} for row in rows]


def same(first: Votes, second: Votes) -> bool:
    arrays = ("prompt", "a", "b", "winner", "weight")
    return (first.prompts, first.models) == (second.prompts, second.models) and all(
        getattr(first, name).tolist() == getattr(second, name).tolist() for name in arrays
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_known_columns_in_any_case_with_any_blanks(data):
    def spelled(name):
        words = [data.draw(st.sampled_from([w, w.upper(), w.title()])) for w in name.split("_")]
        return data.draw(st.sampled_from(["_", "-", " ", "  "])).join(words)

    names = {name: spelled(name) for name in (*COLUMNS, "weight")}
    order = data.draw(st.permutations([*COLUMNS, "weight"]))
    rows = [{**row, "weight": 0.5} for row in ROWS]
    rows = [{names[name]: row[name] for name in order} for row in rows]
    assert same(Votes.read(rows), Votes.read([{**row, "weight": 0.5} for row in ROWS]))
    frame = pandas.DataFrame(rows)  # the weight counts here as well, though the columns are taken as they are
    assert VoteCounts.of(frame).weight.sum() == 12.0


@pytest.mark.parametrize(
    "names",
    [
        {"prompt": "Question", "model_a": "Model 1", "model_b": "Model 2"},
        {"prompt": "instruction", "model_a": "Left Model", "model_b": "Right Model", "winner": "WINNER"},
        {"prompt": "TEXT", "model_a": "model-left", "model_b": "model-right"},
        {"prompt": "User Prompt", "model_a": "LLM_A", "model_b": "LLM_B"},
    ],
)
def test_certain_columns_are_read_and_said(names):
    votes = Votes.read(renamed(ROWS, **names))
    assert same(votes, Votes.read(ROWS))
    assert votes.findings.columns == names
    assert "'Question'" in str(Votes.read(renamed(ROWS, prompt="Question")).findings.facts["columns"])


def test_what_is_not_certain_is_asked_for():
    two = [{**row, "text": "t", "question": row["prompt"]} for row in ROWS]
    two = [{name: value for name, value in row.items() if name != "prompt"} for row in two]
    with pytest.raises(VotesError, match=r"row 1 has no column 'prompt' [^$]* add: --column prompt=question"):
        Votes.read(two)
    assert same(Votes.read(two, columns={"prompt": "question"}), Votes.read(ROWS))
    swapped = Votes.read(ROWS, columns={"model_a": "model_b", "model_b": "model_a"})
    assert [swapped.models[i] for i in swapped.a] == [row["model_b"] for row in ROWS]
    for columns, message in (
        ({"prompt": "Qestion"}, r"there is no column 'Qestion' \(for prompt\); did you mean 'question'"),
        ({"promt": "question"}, "'promt' is no column of votes or scores; did you mean 'prompt'"),
        ({"prompt": "question", "winner": "question"}, "'question' is named for two columns"),
    ):
        with pytest.raises(P2LError, match=message):
            Votes.read(two, columns=columns)
    scores = [{"prompt": "p", "model-a": 1.0, "model-b": 0.5}]  # two LLMs of those names
    assert Scores.read(scores).models == ("model-a", "model-b")
    assert Votes.read(scores, ("model-a", "model-b")).winner.tolist() == [0]
    with pytest.raises(
        VotesError, match=r"'model-a' and 'model-b' may be two LLMs with scores .* or the sides of votes"
    ):
        Votes.read(scores)
    numbered = [{**row, "model_a": row["model_a"].translate({120: "1", 121: "2", 122: "3"})} for row in ROWS]
    with pytest.raises(VotesError, match="say which"):
        Votes.read([{"prompt": "p", "Model A": 1, "Model B": 2, "best": "A"}] * 3)
    assert len(Votes.read(numbered)) == 24


def test_one_column_for_each_outcome():
    def hot(row, one=1, nought=0):
        words = {"winner_model_a": "model_a", "winner_model_b": "model_b", "winner_tie": "tie"}
        flags = {name: one if row["winner"] == word else nought for name, word in words.items()}
        return {**{name: row[name] for name in COLUMNS[:3]}, **flags}

    rows = [row for row in ROWS if row["winner"] != "both_bad"]
    for one, nought in ((1, 0), ("1", "0"), (1.0, 0.0), (True, False), ("True", "False"), ("1.0", "")):
        assert same(Votes.read([hot(row, one, nought) for row in rows]), Votes.read(rows))
    bad = [*map(hot, rows), {**hot(rows[0]), "winner_tie": 1}, {**hot(rows[0]), "winner_model_a": 0.4}]
    bad += [{**hot(rows[0]), "winner_model_a": 0}]
    with pytest.raises(VotesError) as caught:
        Votes.read(bad)
    assert "row 19: winner is 'model_a and tie'" in str(caught.value)
    assert "row 20: winner is 'model_a 0.4, model_b 0, tie 0'" in str(caught.value)
    assert "row 21: winner is missing" in str(caught.value)


FAULTS = [
    {"prompt": ""}, {"prompt": None}, {"model_a": ""}, {"model_b": "  "}, {"winner": None}, {"winner": "who knows"},
    {"model_a": "y", "model_b": "y"}, {"weight": -1}, {"weight": "much"},
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.integers(0, 199), st.sampled_from(FAULTS), min_size=1, max_size=30))
def test_all_faulty_rows_are_listed_or_left_out(faults):
    good = [{**ROWS[i % 24], "weight": 1 + i % 3} for i in range(200)]
    rows = [{**row, **faults.get(i, {})} for i, row in enumerate(good)]
    with pytest.raises(VotesError) as caught:
        Votes.read(rows)
    named = re.findall(r"\brow (\d+)", str(caught.value))  # those of one fault may stand together in a line
    assert sorted(map(int, named)) == [i + 1 for i in sorted(faults)][:20]
    if len(faults) > 1:
        assert f"{len(faults)} of 200 rows are faulty" in str(caught.value)
    votes = Votes.read(rows, skip_invalid=True)
    assert same(votes, Votes.read([row for i, row in enumerate(good) if i not in faults]))
    assert votes.findings.skipped.n == len(faults)
    assert sum(votes.findings.skipped.reasons.values()) == len(faults)
    with pytest.raises(VotesError):
        fit_leaderboard([{**rows[min(faults)], "model_a": None}, *good])


def test_names_and_prompts_of_rows_that_are_left_out_are_gone(tmp_path):
    note = {"prompt": "note", "model_a": "see below", "model_b": "z", "winner": ""}
    rows = [*ROWS[:10], {**note, "kind": "b"}, *ROWS[10:]]
    rows = [{**row, "kind": row.get("kind", "a")} for row in rows]
    votes = Votes.read(as_csv(rows, tmp_path / "v.csv"), skip_invalid=True)
    assert votes.models == ("x", "y", "z")
    assert votes.prompts == [row["prompt"] for row in ROWS]
    assert votes.categories["kind"].tolist() == ["a"] * 24
    with pytest.raises(VotesError, match="no row is left"):
        Votes.read([note, note], skip_invalid=True)


def test_faulty_rows_of_scores_are_listed_or_left_out(tmp_path):
    rows = [{"prompt": f"p{i}", "b": 0.25 * (i % 5), "c": 0.5} for i in range(30)]
    rows[3]["prompt"], rows[7]["b"] = "", "broken"
    with pytest.raises(VotesError) as caught:
        Scores.read(as_csv(rows, tmp_path / "s.csv"))
    assert "line 5: the prompt is empty" in str(caught.value)
    assert "line 9: the score of 'b' is 'broken'" in str(caught.value)
    scores = Scores.read(as_csv(rows, tmp_path / "s.csv"), skip_invalid=True)
    kept = [row for i, row in enumerate(rows) if i not in (3, 7)]
    assert scores.prompts == [row["prompt"] for row in kept]
    assert scores.scores.tolist() == [[row["b"], row["c"]] for row in kept]
    assert scores.findings.skipped.n == 2
    long = [{"prompt": row["prompt"], "model": name, "score": row[name]} for row in rows for name in "bc"]
    with pytest.raises(VotesError, match=r"row 7: the prompt is empty.*\n  row 8: .*\n  row 15: the score of 'score'"):
        Scores.read(long, allow_missing=True)
    found = Scores.read(long, allow_missing=True, skip_invalid=True)
    assert found.scores[found.prompts.index("p9")].tolist() == [1.0, 0.5]
    assert found.findings.skipped.n == 3


def spreadsheet(path, style):
    """300 votes in a semicolon file as a spreadsheet writes it, with four rows that are no votes."""
    rng, best = random.Random(5), {"code": "gpt-4o-mini", "poem": "Claude 3.5 Haiku", "proof": "llama-3.1-8b"}
    rows = []
    for i in range(300):
        kind = rng.choice(list(best))
        a, b = rng.sample(list(best.values()), 2)
        won = 2 if rng.random() < 0.2 else int(b == best[kind] or (a != best[kind] and rng.random() < 0.5))
        words = {
            "sides": ("LEFT", "Right", "Tie"),
            "columns": ("Left Model", "Right Model", "TIE"),
            "names": (a, b, "Tie"),
        }
        rows.append([f"{kind} {i % 70}", a, b, words[style][won], rng.choice(["", "ok"])])
    rows[17][3] = rows[40][0] = rows[120][2] = ""
    rows[99] = ["Note: second rater from here", "", "", "", ""]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerows([["Question", "Left Model", "Right Model", "Which is better?", "Comment"], *rows])


def p2l(directory, command):
    return python("-m", "p2l_sdk", *shlex.split(command), cwd=directory, text=True)


@pytest.mark.long
@pytest.mark.parametrize("style", ["names", *thorough("sides", "columns")])
def test_a_spreadsheet_trains_in_two_commands(tmp_path, style):
    """The first command prints what has to be added for the second."""
    spreadsheet(tmp_path / "my votes.csv", style)
    command = "train --votes 'my votes.csv' --output model"
    first = p2l(tmp_path, command)
    assert first.returncode == 2
    assert "line 19: winner is missing" in first.stderr
    assert "4 of 300 rows are faulty" in first.stderr
    (options,) = re.findall(r"add: (--.*) \(in Python", first.stderr)
    second = p2l(tmp_path, f"{command} {options}")
    assert second.returncode == 0, second.stderr
    assert "296 on" in second.stdout
    assert "4 of 300 rows" in second.stdout
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "296 votes on" in card
    assert re.search(r"4 of 300 rows were left out: .*1 x winner is missing", card)


@pytest.mark.parametrize("name", ["train", "evaluate", "add-model", "plan", "push"])
def test_every_command_on_votes_has_the_same_options(name):
    from p2l_sdk.cli import cli

    options = {option for parameter in cli.commands[name].params for option in parameter.opts}
    assert {"--column", "--winner", "--rename", "--skip-invalid"} <= options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--column promt=Question", "'promt' is no column of votes or scores; did you mean 'prompt'"),
        ("--winner 'Model A=modl'", "the winner 'Model A' is mapped to 'modl'; legal values: model_a"),
        ("--winner tie", "'tie' is no pair; write SPELLING=OUTCOME"),
        ("--rename a=b --rename b=c", "'a' becomes 'b', which is renamed too"),
        ("--rename none.yaml", "none.yaml"),
    ],
)
def test_options_are_checked_before_any_file_is_read(tmp_path, options, message):
    refused = p2l(tmp_path, f"evaluate --votes nothing.csv {options}")
    assert refused.returncode == 2
    assert message in refused.stderr
    assert "nothing.csv" not in refused.stderr
