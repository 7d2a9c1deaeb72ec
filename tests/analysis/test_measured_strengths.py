"""Strengths as votes measured them: the votes decide what is told, the model which prompts are alike."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from analysis.worlds import MODELS, TOPICS, TopicScorer, topic_prompts
from support.command_line import p2l, refused

from p2l_sdk import P2L, Votes, fit_leaderboard
from p2l_sdk.analysis import strengths
from p2l_sdk.analysis.report import POINTS
from p2l_sdk.votes.averaged import steps_of_prompts

PLANTED = np.zeros((len(TOPICS), len(MODELS)))
PLANTED[1, 4], PLANTED[3, 0] = 1.0, -1.0  # e writes poems, a is no lawyer
LLMS = tuple(f"mine-{name}" for name in MODELS)  # the model does not know them


def votes_of(strength: np.ndarray, n: int, seed: int = 0) -> Votes:
    """A vote on each prompt and pair of LLMs, of which `strength[topic]` is true."""
    random, pairs = np.random.default_rng([seed, 3]), np.triu_indices(len(MODELS), 1)
    theta = np.linspace(1, -1, len(MODELS)) + strength[np.arange(n) % len(TOPICS)]
    ahead = (theta[:, pairs[0]] - theta[:, pairs[1]]).ravel()
    a, b = (np.tile(side, n) for side in pairs)
    winner = (random.random(len(ahead)) > 1.0 / (1.0 + np.exp(-ahead))).astype(int)
    return Votes(topic_prompts(n), LLMS, np.repeat(np.arange(n), len(pairs[0])), a, b, winner, np.ones(len(ahead)))


def world(seed: int = 0) -> P2L:
    """A model of other LLMs, which says where clusters are."""
    return P2L(TopicScorer(PLANTED, seed))


@pytest.fixture(scope="module")
def found():
    return strengths(world(), votes_of(PLANTED, 1000))


def told(found) -> set[tuple[str, str]]:
    names = {k: next(t for t in TOPICS if t in cluster.terms) for k, cluster in enumerate(found.clusters)}
    return {(names[k], found.models[i]) for k, i in zip(*np.nonzero(found.found), strict=True)}


def test_what_the_votes_measured_is_told(found):
    assert found.models == LLMS
    assert {("poetry", "mine-e"), ("law", "mine-a")} == told(found)
    assert found.measured
    assert "measured by votes" in found.caption
    assert np.allclose(found.overall.mean(), 0.0)


def test_a_deviation_is_that_of_the_votes_on_the_prompts(found):
    votes = votes_of(PLANTED, 1000)
    cluster = found.assign(votes.prompts)
    everywhere = fit_leaderboard(votes, "bt", intervals=None).coefs
    for k in range(len(found.clusters)):
        away = fit_leaderboard(votes.subset(cluster == k), "bt", intervals=None).coefs - everywhere
        assert np.allclose(found.deviations[k], POINTS * away, atol=15)


@pytest.mark.long
def test_limits_hold_what_an_eighth_as_many_prompts_measure():
    """At 95 %: of 3 searches, 30 checks of each, 5 clusters and 8 LLMs."""
    held, bt = [], world().spec.feedback
    for seed in range(3):
        found = strengths(world(), votes_of(PLANTED, 1000, seed), clusters=5)
        for check in range(30):
            votes = votes_of(PLANTED, 125, 100 * (seed + 1) + check)
            cluster, (_, steps) = found.assign(votes.prompts), steps_of_prompts(votes, bt)
            away = POINTS * np.array([steps[cluster == k].mean(0) for k in range(5)])
            held.append(np.abs(away - found.deviations) <= found.margins)
    assert 0.93 <= np.mean(held) <= 0.975


def test_without_structure_in_the_votes_nothing_is_told_whatever_the_model_believes():
    assert not strengths(world(), votes_of(np.zeros_like(PLANTED), 400)).found.any()


@pytest.mark.slow
def test_whole_searches_without_structure_and_with():
    """At most 2 of 40 tell anything without structure; at least 38 of 40 tell what is planted."""
    nothing = np.zeros_like(PLANTED)
    false = [strengths(world(s), votes_of(nothing, 300, s)).found.any() for s in range(40)]
    assert np.mean(false) <= 0.05
    power = [strengths(world(s), votes_of(PLANTED, 1000, s)).found.sum() >= 2 for s in range(40)]
    assert np.mean(power) >= 0.95


def test_llms_without_a_vote_are_left_out():
    votes = votes_of(PLANTED, 300)
    some = (votes.a != 2) & (votes.b != 2)
    rows = {name: getattr(votes, name)[some] for name in ("prompt", "a", "b", "winner", "weight")}
    found = strengths(world(), dataclasses.replace(votes, **rows))
    assert found.models == tuple(name for name in LLMS if name != "mine-c")
    assert np.isfinite(found.deviations).all()


def test_steps_of_prompts_are_what_votes_on_them_add():
    """To first order the leaderboard of a group is the mean of its steps away; weights that all are double change
    nothing."""
    votes = votes_of(0.1 * PLANTED, 600)
    board, steps = steps_of_prompts(votes, world().spec.feedback)
    assert steps.shape == (600, len(LLMS))
    assert np.allclose(steps.mean(0), 0.0, atol=1e-9)
    group = np.arange(600) % 2 == 0
    of_group = fit_leaderboard(votes.subset(group), "bt", intervals=None).coefs
    assert np.allclose(steps[group].mean(0), of_group - board.coefs, atol=0.01)
    doubled = dataclasses.replace(votes, weight=2.0 * votes.weight)
    assert np.allclose(steps_of_prompts(doubled, world().spec.feedback)[1], steps)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path, random = tmp_path_factory.mktemp("votes") / "scores.jsonl", np.random.default_rng(0)
    words = ("sonnet about the sea", "integral of x squared", "recipe for a lentil soup")
    rows = [
        {"prompt": f"A {words[i % 3]}, number {i}", "one": int(random.random() < 0.9 - 0.8 * (i % 3 == 1)), "two": 0.5}
        for i in range(240)
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return str(path)


@pytest.mark.long
def test_the_command(file):
    ran = p2l("analyze", "strengths", file, "--model", "routing9", "--measured", "--clusters", "3")
    said = " ".join(ran.stdout.decode().split())
    assert "read as LLMs: one, two" in " ".join(ran.stderr.decode().split())
    assert "3 clusters of 240 prompts, and 2 LLMs in them, measured by votes" in said
    assert "limits: what an eighth as many prompts would measure" in said
    assert "no scores are read" in refused("analyze", "strengths", file, "--llms", "one,two")
