"""`p2l evaluate`: its JSON, tables, pictures and refusals."""

from __future__ import annotations

import json
import os
import warnings

import numpy as np
import pytest
from command_line import p2l
from drawn_votes import votes_of
from forks import python

from p2l_sdk.evaluation import evaluate
from p2l_sdk.votes.votes import Votes


def p2l_evaluate(*arguments, **env):
    command = ("-m", "p2l_sdk", "evaluate", "--model", "routing9", *arguments)
    return python(*command, env={**os.environ, **env}, text=True)


@pytest.fixture(scope="module")
def vote_files(tmp_path_factory, routing9):
    """held.jsonl and train.jsonl: votes drawn from routing9 on 40 prompts each; alone.jsonl: one vote."""
    folder, random = tmp_path_factory.mktemp("votes"), np.random.default_rng(1)
    for name, start in (("held", 0), ("train", 40)):
        prompts = [f"{'What is' if i % 2 else 'Write a poem about'} {i}?" for i in range(start, start + 40)]
        scored = routing9.coefficients(prompts)
        votes = votes_of(scored.coefs, scored.eta, random, 10, routing9.models)
        words = ["model_a", "model_b", "tie", "tie (bothbad)"]
        rows = [
            {"prompt": prompts[p], "model_a": routing9.models[a], "model_b": routing9.models[b], "winner": words[w]}
            for p, a, b, w in zip(votes.prompt, votes.a, votes.b, votes.winner, strict=True)
        ]
        for file, part in ((name, rows), ("alone", rows[:1])):
            (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


@pytest.mark.long
def test_the_command_shows_and_draws_everything(vote_files, tmp_path, routing9):
    files = ["--votes", vote_files / "held.jsonl", "--baseline-votes", vote_files / "train.jsonl"]
    more = ["--subsets", "5,20", "--trials", "3", "--seed", "7"]
    result = p2l_evaluate(*files, *more, "--json", "--plot", tmp_path / "p.png")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "p.png").stat().st_size > 5000
    report = json.loads(result.stdout)
    votes = Votes.read(vote_files / "held.jsonl", routing9.models)
    train = Votes.read(vote_files / "train.jsonl", routing9.models)
    expected = evaluate(routing9, votes, baseline_votes=train, subsets=(5, 20), trials=3, seed=7)
    assert report == {"model": "routing9", **json.loads(json.dumps(expected.to_dict()))}
    for width in (80, 64):
        result = p2l_evaluate(*files, *more, COLUMNS=str(width))
        assert result.returncode == 0, result.stderr
        assert max(map(len, result.stdout.splitlines())) <= width
    loss, averaged = expected.metrics["bt_log_loss"], expected.baseline.metrics["bt_log_loss"]
    row = next(line for line in result.stdout.splitlines() if "BT log-loss" in line)
    assert row.split()[2:5] == [f"{loss.value:.4f}", f"{loss.standard_error:.4f}", f"{averaged.value:.4f}"]
    plain = p2l_evaluate(*files, *more, PYTHONIOENCODING="ascii", COLUMNS="80")
    assert plain.returncode == 0, plain.stderr


def test_the_command_on_one_vote(vote_files):
    result = p2l_evaluate("--votes", vote_files / "alone.jsonl")
    assert result.returncode == 0, result.stderr
    assert "no leaderboard to compare the aggregate with" in " ".join(result.stdout.split())
    files = ("--votes", vote_files / "held.jsonl", "--baseline-votes", vote_files / "alone.jsonl")
    result = p2l_evaluate(*files, "--json")  # with a baseline of one vote: a note, no warning on stderr
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["notes"][0].startswith("baseline votes: the votes do not determine")


def test_what_is_said_of_the_prompts_is_said_once_and_not_of_the_baseline(vote_files, tmp_path):
    votes = map(json.loads, (vote_files / "held.jsonl").read_text().splitlines())
    long = tmp_path / "long.jsonl"
    long.write_text("".join(json.dumps({**row, "prompt": f"{row['prompt']} {'word ' * 9000}"}) + "\n" for row in votes))
    result = p2l_evaluate("--votes", long, "--baseline-votes", vote_files / "held.jsonl", "--json")
    cut = [note for note in json.loads(result.stdout)["notes"] if "tokens" in note]
    assert len(cut) == 1
    assert cut[0].startswith("40 of 40 prompts have more than")


@pytest.mark.long
def test_what_votes_and_scores_both_cause_is_said_once(vote_files, tmp_path, routing9):
    """As many of the votes' prompts are too long as of the scores', so that both say the same."""
    votes = map(json.loads, (vote_files / "held.jsonl").read_text().splitlines())
    long = [{**row, "prompt": f"{row['prompt']} {'word ' * 9000}"} for row in votes]
    prompts = dict.fromkeys(row["prompt"] for row in long)
    rated = [{"prompt": text, **dict.fromkeys(routing9.models, 0.5)} for text in prompts]
    for name, rows in (("votes", long), ("scores", rated)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = p2l_evaluate("--votes", tmp_path / "votes.jsonl", "--scores", tmp_path / "scores.jsonl", "--json")
    assert result.returncode == 0, result.stderr
    cut = [note for note in json.loads(result.stdout)["notes"] if "tokens" in note]
    assert len(cut) == 1
    assert cut[0].startswith("40 of 40 prompts have more than")


def test_warnings_of_libraries_are_no_notes_on_the_baseline(vote_files, monkeypatch, capsys):
    from p2l_sdk.cli import cli

    def warned(*arguments, **options):
        warnings.warn("something is old", RuntimeWarning, stacklevel=2)
        return evaluate(*arguments, **options)

    monkeypatch.setattr("p2l_sdk.evaluation.evaluate", warned)
    with pytest.warns(RuntimeWarning, match="something is old"):
        cli(
            ["evaluate", "--model", "routing9", "--votes", str(vote_files / "alone.jsonl"), "--json"],
            standalone_mode=False,
        )
    assert "something is old" not in capsys.readouterr().out


def test_the_command_warns_of_prompts_that_the_baseline_has_too(vote_files):
    held = vote_files / "held.jsonl"
    result = p2l_evaluate("--votes", held, "--baseline-votes", held, "--json")
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("p2l: warning: 40 of the 40 prompts of held.jsonl are in the training votes;")
    assert json.loads(result.stdout)["n_prompts"] == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scores", "s.jsonl", "--subsets", "5"), "--subsets says something of votes"),
        (("--votes", "held.jsonl", "--model", "arena", "--model", "arena"), "--model is given 3 times; two models can"),
        (
            ("--votes", "held.jsonl", "--model", "arena", "--by", "x", "--baseline-votes", "v.jsonl"),
            "--by, --baseline-votes: of one model only; leave it out where two are compared",
        ),
        (("--scores", "s.jsonl", "--scores-outside", "cut"), "'cut' is not one of 'clip', 'rescale', 'drop'"),
        (("--scores", "s.jsonl", "--by", "task"), "--by says something of votes; give --votes FILE too"),
        (("--votes", "held.jsonl", "--by", "kind"), "the votes have no category column 'kind'"),
        (("--votes", "held.jsonl", "--subsets", "ten"), "'ten' is no list of whole numbers such as 10,25,50"),
        (("--votes", "held.jsonl", "--subsets", "10,50"), "subsets of 50 prompts cannot be drawn from 40"),
        (("--votes", "held.jsonl", "--plot", "x.bmp"), "'x.bmp' is no name of a picture"),
    ],
)
def test_what_the_command_refuses(arguments, message, vote_files, monkeypatch):
    monkeypatch.chdir(vote_files)
    result = p2l_evaluate(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_without_a_decisive_vote_all_but_the_picture_is_shown(vote_files, tmp_path):
    row = json.loads((vote_files / "alone.jsonl").read_text())
    (tmp_path / "tie.jsonl").write_text(json.dumps({**row, "winner": "tie"}) + "\n")
    result = p2l_evaluate("--votes", tmp_path / "tie.jsonl", "--json", "--plot", tmp_path / "p.png")
    assert result.returncode == 2
    assert json.loads(result.stdout)["n_votes"] == 1
    assert "no vote is decisive, so there is no calibration to draw" in result.stderr
    assert not (tmp_path / "p.png").exists()


def test_votes_may_name_llms_as_people_write_them(tmp_path):
    rows = [
        {"prompt": f"prompt {i}", "model_a": "gpt-4o-mini", "model_b": "anthropic/claude-3-5-haiku", "winner": winner}
        for i, winner in enumerate(("model_a", "model_b", "tie"))
    ]
    votes = tmp_path / "votes.jsonl"
    votes.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = p2l("evaluate", "--votes", votes, "--json")
    assert json.loads(done.stdout)["n_votes"] == 3
    assert b"gpt-4o-mini is read as gpt-4o-mini-2024-07-18" in done.stderr or b"gpt-4o-mini as" in done.stderr
