"""The feedback model that is chosen from the votes where none is given, and how that is said."""

from __future__ import annotations

import pytest
from fine_tuning import run, vote_rows, write_jsonl

from p2l_sdk.cli.training_tables import print_vote_summary
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.training.checks import choose_feedback
from p2l_sdk.training.config import TrainingConfig
from p2l_sdk.training.inputs import Inputs
from p2l_sdk.training.plan import Plan
from p2l_sdk.votes.votes import Votes


def rows(**numbers: int) -> list[dict]:
    names = {"won": "model_a", "lost": "model_b", "tie": "tie", "bad": "tie (bothbad)"}
    return [
        {"prompt": f"prompt {i % 3}", "model_a": "x", "model_b": "y", "winner": names[kind]}
        for kind, number in numbers.items()
        for i in range(number)
    ]


@pytest.mark.parametrize(
    ("numbers", "feedback", "why"),
    [
        ({"won": 5, "lost": 3, "tie": 1, "bad": 1}, "grk", "10.0% of the votes are 'tie (bothbad)', 10.0% are ties"),
        ({"won": 5, "lost": 3, "tie": 2}, "rk", "no vote is 'tie (bothbad)', 20.0% are ties"),
        ({"won": 5, "lost": 3}, "bt", "no vote is 'tie (bothbad)', none is a tie"),
        # too few for a threshold of a usable answer: as `warn_of_thin_ground` would say of grk
        ({"won": 300, "lost": 199, "bad": 1}, "bt", "only 0.20% of the votes are 'tie (bothbad)', none is a tie"),
        ({"won": 300, "lost": 198, "tie": 1, "bad": 1}, "rk", "only 0.20% of the votes are 'tie (bothbad)', 0.2% are"),
    ],
)
def test_the_votes_choose(numbers, feedback, why, tmp_path):
    chosen, reason = choose_feedback(Votes.from_rows(rows(**numbers)))
    assert chosen is Feedback(feedback)
    assert reason.startswith(why)
    votes = write_jsonl(tmp_path / "votes.jsonl", rows(**numbers))
    config = TrainingConfig(votes=votes, output=tmp_path / "m", base="no/such-base")
    read = Inputs.read(config, Plan.of(config, resume=False))
    assert read.feedback is Feedback(feedback)
    assert read.summary.why_feedback == reason
    assert read.averaged.feedback is Feedback(feedback)


def test_it_is_said_in_the_summary_and_in_the_card(tmp_path, capsys):
    votes = write_jsonl(tmp_path / "votes.jsonl", vote_rows("rk", 20, 4))
    p2l = run(votes, tmp_path / "m", base="static", precision="auto", epochs=1)
    assert p2l.spec.feedback is Feedback.RK
    card = (tmp_path / "m" / "README.md").read_text()
    assert "The feedback model `rk` was chosen from these votes: no vote is 'tie (bothbad)', " in card
    config = TrainingConfig(votes=votes, output=tmp_path / "n", base="no/such-base")
    print_vote_summary(Inputs.read(config, Plan.of(config, resume=False)).summary, "votes.jsonl")
    assert "rk, chosen from the votes: no vote is 'tie (bothbad)'" in " ".join(capsys.readouterr().out.split())


def test_what_was_given_is_taken_and_not_said(tmp_path):
    votes = write_jsonl(tmp_path / "votes.jsonl", vote_rows("grk", 20, 4))
    config = TrainingConfig(votes=votes, output=tmp_path / "m", feedback="bt", base="no/such-base")
    read = Inputs.read(config, Plan.of(config, resume=False))
    assert (read.feedback, read.summary.why_feedback) == (Feedback.BT, "")


def test_scores_outside_are_clipped_in_training_and_in_held_out_data(tmp_path):
    table = [{"prompt": f"p {i}", "x": (i % 3) / 2, "y": -0.033 if i == 4 else (i % 2)} for i in range(12)]
    scores = write_jsonl(tmp_path / "scores.jsonl", table)
    held = write_jsonl(tmp_path / "held.jsonl", [{"prompt": "new", "x": 1.5, "y": None}])
    settings = {"votes": scores, "output": tmp_path / "m", "eval_scores": held, "scores_outside": "clip"}
    config = TrainingConfig(**settings, base="no/such-base")
    assert config.to_dict()["scores_outside"] == "clip"
    with pytest.warns(match=r"the only one of (24|1) scores outside \[0, 1\]; it was clipped") as told:
        read = Inputs.read(config, Plan.of(config, resume=False))
    assert len([warning for warning in told if "clipped" in str(warning.message)]) == 2
    assert read.held_out[0][1].scores[0, 0] == 1.0
    assert (read.data.winner == 3).any()  # two bad answers: with a score outside [0, 1], all would be ties
