"""Robustness: against a toy model whose figures are counted by hand, and of a constant one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command_line import ok, p2l

from p2l_sdk import P2L
from p2l_sdk.errors import P2LError
from p2l_sdk.evaluation import robustness
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.prompt_p2l import user_turns
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.votes.votes import Scores

PROMPTS = ["Who wrote it?", "Who sang this song?", "Sing a song for the king."]
COSTS = {"cheap": 0.001, "dear": 0.003}


class Toy:
    """Prefers `dear` where the rule says so, else `cheap`."""

    quick = True

    def __init__(self, dear):
        self.spec = ModelSpec(models=("cheap", "dear"), feedback=Feedback.BT, costs=COSTS)
        self.dear = dear

    def score(self, prompts):
        signs = np.array([1.0 if self.dear(user_turns(prompt)[-1]) else -1.0 for prompt in prompts])
        return Coefficients(np.stack([-signs, signs], 1), None, None)


def model(dear):
    return P2L(Toy(dear))


def test_shares_are_those_counted_by_hand():
    """Best is `dear` for prompts with a capital S or ?: the case of "Sing" matters, and a mark at the end may."""
    found = robustness(model(lambda text: "Sing" in text), PROMPTS, changes=["case", "white_space"])
    case = found.changes["case"].best  # all three begin with a capital; only the third has "Sing"
    assert (case.value, case.n) == (pytest.approx(2 / 3), 3)
    assert found.changes["white_space"].best.value == 1.0
    assert (found.overall.best.value, found.overall.best.n) == (pytest.approx(5 / 6), 6)
    # residuals of the three prompts: 1/3, 1/3, -2/3, times 3 / 2, over 6 copies
    assert found.overall.best.standard_error == pytest.approx(np.sqrt((1 / 9 + 1 / 9 + 4 / 9) * 3 / 2) / 6)
    assert found.best_llms == {"cheap": pytest.approx(2 / 3), "dear": pytest.approx(1 / 3)}
    assert found.by_chance == pytest.approx(5 / 9)
    assert found.notes == ()
    assert found.overall.route is None


@pytest.mark.parametrize(("budget", "same"), [(0.002, 0.5), (0.001, 1.0), (0.003, 0.0)])
def test_the_route_stays_as_far_as_the_mixtures_overlap(budget, same):
    """Within 0.002, `dear` is called with probability 1/2 where it is the best, and never where it is not."""
    found = robustness(model(lambda text: "Sing" in text), PROMPTS[2:], changes=["case"], budget=budget)
    assert found.overall.best.value == 0.0
    assert found.overall.route.value == pytest.approx(same)


def test_a_constant_model_stays_put_and_is_said_to_be_constant():
    found = robustness(model(lambda text: True), PROMPTS, budget=0.002)
    assert found.overall.best.value == found.overall.route.value == found.by_chance == 1.0
    assert len(found.best_llms) == 1
    (note,) = found.notes
    assert "dear is the best LLM of every prompt" in note


def test_scores_give_the_routed_score_beside_it():
    scores = Scores(PROMPTS, ("cheap", "dear"), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    found = robustness(model(lambda text: "Sing" in text), PROMPTS, scores=scores)
    assert found.routing["routed_score"].value == pytest.approx(2 / 3)


def test_the_seed_decides_and_other_prompts_do_not(routing9):
    whole, again = (robustness(routing9, PROMPTS, seed=3).to_dict() for _ in range(2))
    assert whole == again
    one = [robustness(routing9, [prompt], seed=3) for prompt in PROMPTS]
    for name, part in whole["changes"].items():
        shares = [each.changes[name].best for each in one if name in each.changes]
        assert part["best"]["value"] == pytest.approx(np.mean([share.value for share in shares]))


def test_what_cannot_be_measured_is_refused(routing9):
    with pytest.raises(P2LError, match=r"unknown kind of change 'typo'; did you mean 'typos'\?"):
        robustness(routing9, PROMPTS, changes=["typo"])
    with pytest.raises(P2LError, match="none of these prompts can be changed"):
        robustness(routing9, ["42"], changes=["case"])


def test_the_command(tmp_path, routing9):
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join([*PROMPTS, PROMPTS[0]]))
    asked = ["evaluate", "--model", "routing9", "--robustness", "--prompts", str(file), "--budget", "0.0003"]
    shown = json.loads(ok(*asked, "--json"))
    expected = robustness(routing9, PROMPTS, budget=0.0003).to_dict()
    assert {k: v for k, v in shown.items() if k != "model"} == json.loads(json.dumps(expected))
    table = ok(*asked)
    assert "the route stays" in table
    assert "different best LLMs" in table


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--robustness"], "--robustness needs prompts"),
        (["--budget", "1"], "--budget belongs to --robustness"),
        (["--prompts", "x.txt"], "--prompts belongs to --robustness"),
    ],
)
def test_the_command_says_what_is_missing(more, message):
    result = p2l("evaluate", *more)
    assert result.returncode == 2
    assert message in result.stderr.decode()
