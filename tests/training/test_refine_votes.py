"""`p2l train --base` a model of kinds: own votes on top of public knowledge."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from command_line import ok
from conftest import MODELS, WORDS
from fine_tuning import write_jsonl

from p2l_sdk import P2L
from p2l_sdk.errors import P2LError
from p2l_sdk.training import Listener, TrainingConfig, train
from p2l_sdk.training.plan import Plan

KINDS = ("code", "poem", "proof")


@pytest.fixture
def base(saved):
    return saved("static", "bt", head_hidden_size=8, kinds=KINDS)


def rows(base, n, seed=0, names=MODELS[:3], extra=()):
    """Votes drawn from the base at twice its scale with every level changed; some are ties."""
    rng, model = np.random.default_rng(seed), P2L.from_pretrained(base)
    texts = [" ".join(rng.choice(WORDS, 6)) for _ in range(n)]
    coefs = dict(zip(model.models, model.coefficients(texts).coefs.T, strict=True))
    shift = {name: 0.7 * (-1) ** i for i, name in enumerate(MODELS)}
    made = []
    for i, text in enumerate(texts):
        a, b = rng.choice([*names, *extra], 2, replace=False)
        strength = [2 * coefs[x][i] + shift[x] if x in coefs else 0.0 for x in (a, b)]
        winner = "model_a" if rng.random() < 1 / (1 + np.exp(strength[1] - strength[0])) else "model_b"
        if rng.random() < 0.3:
            winner = rng.choice(["tie", "tie (bothbad)"])
        made.append({"prompt": text, "model_a": str(a), "model_b": str(b), "winner": str(winner)})
    return made


class Heard(Listener):
    def __init__(self):
        self.refinement = self.reports = None

    def refined(self, refined):
        self.refinement = refined

    def measured(self, reports):
        self.reports = reports


def test_votes_refine_a_model_of_kinds_into_a_folder_with_card(base, tmp_path):
    votes = write_jsonl(tmp_path / "votes.jsonl", rows(base, 300, extra=["new-1b"]))
    held_out = write_jsonl(tmp_path / "held.jsonl", rows(base, 200, seed=1, extra=["new-1b"]))
    heard = Heard()
    config = TrainingConfig(votes=votes, base=str(base), output=tmp_path / "out", eval_votes=str(held_out))
    model = train(config, listener=heard)
    assert model.models == (*MODELS, "new-1b")
    assert str(model.spec.feedback) == "bt"  # the base's
    assert model.spec.kinds == KINDS
    assert heard.refinement is model.refined
    loss = model.refined.held_out_loss
    assert loss["refined"] < min(loss["base"], loss["averaged"] + 0.02)  # the tiny base's kinds say next to nothing
    report = next(iter(heard.reports.values()))
    assert report.metrics["cross_entropy"].value < report.baseline.metrics["cross_entropy"].value + 0.05
    again = P2L.from_pretrained(tmp_path / "out")
    np.testing.assert_array_equal(again.coefficients(["prove a"]).coefs, model.coefficients(["prove a"]).coefs)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    loss = model.refined.held_out_loss
    assert f"| {loss['refined']:.4f} | {loss['base']:.4f} | {loss['averaged']:.4f} |" in card
    for text in (
        f"{model.refined.n_votes} votes on {model.refined.n_prompts} prompts, on 4 of the LLMs. New to it: new-1b.",
        "code, poem, proof",
        "cross_entropy",
    ):
        assert text in card
    assert "Edited after training" not in card
    assert str(tmp_path) not in card


def test_the_command_says_whether_it_is_better(base, tmp_path):
    votes = write_jsonl(tmp_path / "votes.jsonl", rows(base, 200))
    out = ok("train", "--votes", votes, "--base", base, "--output", tmp_path / "out")
    assert re.search(
        r"refined with \d+ votes on \d+ prompts \(bt\): loss per vote, predicted from the votes on other prompts:", out
    )
    assert "averaged leaderboard" in out
    assert "of the base's differences between LLMs" in out
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert (config["models"], config["feedback"]) == (list(MODELS), "bt")


def test_a_feedback_model_that_is_given_is_kept(base, tmp_path):
    votes = write_jsonl(tmp_path / "votes.jsonl", rows(base, 60))
    model = train(TrainingConfig(votes=votes, base=str(base), output=tmp_path / "out", feedback="rk"))
    assert str(model.spec.feedback) == "rk"


@pytest.mark.parametrize("setting", [{"epochs": 3.0}, {"seed": 1}, {"learning_rate": 1e-3}, {"static_from": "x"}])
def test_settings_without_effect_are_refused(setting, base, tmp_path):
    (name,) = setting
    with pytest.raises(P2LError, match=f"{name}: of no effect where votes refine a model of kinds"):
        train(TrainingConfig(votes="no.jsonl", base=str(base), output=tmp_path / "out", **setting))
    assert not (tmp_path / "out").exists()


def test_other_bases_are_trained_as_before(saved, tmp_path):
    for name in ("static", str(saved("static", "bt")), "org/backbone", "no-such-name"):
        plan = Plan.of(TrainingConfig(votes="x", base=name, output=tmp_path / "out"), resume=False)
        assert plan.refined is None


def test_scores_of_single_answers_refine_nothing(base):
    with pytest.raises(P2LError, match="feedback bernoulli trains text backbones"):
        Plan.of(TrainingConfig(votes="x", base=str(base), output="y", feedback="bernoulli"), resume=False)


def test_votes_and_held_out_votes_may_name_llms_as_people_write_them(tmp_path):
    rows = [
        {"prompt": f"{text} {i}", "model_a": "gpt-4o-mini", "model_b": "claude-3.5-haiku", "winner": winner}
        for i in range(10)
        for text, winner in (("Write a poem about", "model_b"), ("Sum the list 1, 2,", "model_a"))
    ]
    votes, held = (write_jsonl(tmp_path / f"{name}.jsonl", part) for name, part in (("v", rows[:14]), ("h", rows[14:])))
    out = ok("train", "--votes", votes, "--eval-votes", held, "--base", "arena", "--output", tmp_path / "out")
    assert "read: claude-3.5-haiku as claude-3-5-haiku-20241022, gpt-4o-mini as gpt-4o-mini-2024-07-18" in out
    assert "new to the base" not in out
    assert "h.jsonl" in out  # was measured
    assert P2L.from_pretrained(tmp_path / "out").models == P2L.from_pretrained("arena").models
