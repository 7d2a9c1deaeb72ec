"""Heads that recognise categories of prompts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.training.choice import Choice
from p2l_sdk.training.data import ByPrompt
from p2l_sdk.training.group_error import group_error
from p2l_sdk.training.static_choice import _Candidate, _category_gain, _steadiest, cross_validate, recognised_of
from p2l_sdk.training.static_folds import Folds
from p2l_sdk.training.static_heads import Scales, as_outputs
from p2l_sdk.training.static_recipe import StaticRecipe
from p2l_sdk.training.verdict import Verdict
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.votes import Votes

TRUTH = np.array([[1.0, 0.0, -1.0], [-1.0, 0.5, 0.5], [0.0, -1.0, 1.0]])  # a row of coefficients for each category
N, WIDTH, PER_PROMPT = 600, 20, 6


def prepared(apart: float = 3.0) -> tuple[Folds, torch.Tensor, list[np.ndarray]]:
    """Prompts of three categories, whose vectors lie around three centres; the averaged leaderboards; the members."""
    random = np.random.default_rng(0)
    category = random.integers(0, 3, N)
    centres = random.normal(size=(3, WIDTH)) * apart / np.sqrt(WIDTH)
    vectors = torch.as_tensor(centres[category] + random.normal(size=(N, WIDTH)), dtype=torch.float32)
    prompt = np.repeat(np.arange(N), PER_PROMPT)
    a, b = np.array([(0, 1), (0, 2), (1, 2)])[random.integers(0, 3, len(prompt))].T
    theta = TRUTH[category[prompt]]
    rows = np.arange(len(prompt))
    wins = random.random(len(prompt)) < 1.0 / (1.0 + np.exp(theta[rows, b] - theta[rows, a]))
    names = tuple(str(i) for i in range(N))
    votes = Votes(names, ("x", "y", "z"), prompt, a, b, np.where(wins, 0, 1), np.ones(len(prompt)))
    folds = Folds.of(vectors, votes, ByPrompt.of_votes(votes, Feedback.BT), Feedback.BT, seed=0)
    folds = replace(folds, category=category)
    members = folds.members()
    base = folds.averaged(members)
    assert base is not None
    return folds, base, members


def test_prompts_that_were_left_out_get_the_leaderboard_of_their_category():
    folds, base, members = prepared(apart=8.0)
    heads = folds.recognise(base, members, 0, lambda: None)
    outputs = folds.left_out(heads).numpy()
    outputs -= outputs.mean(1, keepdims=True)
    for category, truth in enumerate(TRUTH):
        found = outputs[folds.category == category].mean(0)
        np.testing.assert_allclose(found, truth - truth.mean(), atol=0.2)  # three standard errors of 1,200 votes


def test_categories_that_cannot_be_told_apart_get_the_averaged_leaderboard():
    folds, base, members = prepared(apart=0.0)
    outputs = folds.left_out(folds.recognise(base, members, 0, lambda: None))
    assert float((outputs - base[folds.fold, 0]).square().mean().sqrt()) < 0.2 * float(np.sqrt(np.square(TRUTH).mean()))


@pytest.mark.long
def test_a_head_knows_no_vote_of_its_own_fold():
    folds, base, members = prepared()
    heads = folds.recognise(base, members, 0, lambda: None)
    own = folds.fold[folds.votes.prompt] == 2
    votes = replace(folds.votes, winner=np.where(own, 1 - folds.votes.winner, folds.votes.winner))
    other = replace(folds, votes=votes, lessons=ByPrompt.of_votes(votes, Feedback.BT))
    changed = other.recognise(base, members, 0, lambda: None)
    for before, after in zip(heads.weights, changed.weights, strict=True):
        assert torch.equal(before[2], after[2])
        assert not torch.equal(before[1], after[1])


@pytest.mark.long
def test_prompts_without_a_category_are_not_learned_as_one():
    folds, base, members = prepared(apart=8.0)
    some = np.where(np.arange(N) % 3 == 0, -1, folds.category)
    heads = replace(folds, category=some).recognise(base, members, 0, lambda: None)
    outputs, whole = (folds.left_out(x) for x in (heads, folds.recognise(base, members, 0, lambda: None)))
    assert float((outputs - whole).abs().mean()) < 0.1


@pytest.mark.long
def test_heads_side_by_side_give_their_weighted_mean():
    folds, base, members = prepared()
    first = folds.recognise(base, members, 0, lambda: None)
    second = folds.recognise(base, members, 1, lambda: None)
    one, other = folds.left_out(first), folds.left_out(second)
    torch.testing.assert_close(folds.left_out(first.beside(second, Scales(0.25, 0.25, 3))), 0.75 * one + 0.25 * other)
    apart = folds.left_out(first.beside(second, Scales(0.75, 0.0, 3)))
    torch.testing.assert_close(apart.mean(1), one.mean(1))
    mean = 0.25 * one + 0.75 * other
    torch.testing.assert_close(apart - apart.mean(1, keepdim=True), mean - mean.mean(1, keepdim=True))


@pytest.mark.long
def test_models_of_fewer_prompts_and_without_a_group_know_the_categories_of_no_others():
    folds, _, _ = prepared()
    asked: list[tuple[np.ndarray, np.ndarray]] = []

    def retold(category: np.ndarray, fold: np.ndarray) -> Folds:
        asked.append((category, fold))
        return replace(folds, category=category, fold=fold)

    told = replace(folds, retold=retold)
    how, averaged = (
        replace(StaticRecipe().lengths(N)[0], steps=5),
        as_outputs([fit_leaderboard(folds.votes, Feedback.BT)], told.feedback),
    )
    found = cross_validate([replace(folds, category=None), told], [how], 8, 1.0, averaged, lambda: None)
    assert found is not None
    assert [n for n, _ in found[0].curve] == [150, 300, 600]
    assert [int((category >= 0).sum()) for category, _ in asked] == [150, 300]
    assert all((fold == folds.fold).all() for _, fold in asked)
    group_error(told, how, 8, Scales(1.0, 1.0, 3), Scales(0.5, 0.5, 3))
    category, fold = asked[2]
    assert (category == folds.category).all()
    assert not (fold == folds.fold).all()


def candidates(folds: Folds, losses: dict[tuple[float, float], float]) -> list[_Candidate]:
    """With these losses by their shares."""
    how = StaticRecipe().lengths(N)[0]
    heads = folds.recognise(*prepared_base(folds), 0, lambda: None)
    return [
        _Candidate(folds, how, heads, Scales(*shares, 3) if shares[0] else None, np.array([[loss, 0.0]]))
        for shares, loss in losses.items()
    ]


def prepared_base(folds: Folds) -> tuple[torch.Tensor, list[np.ndarray]]:
    members = folds.members()
    base = folds.averaged(members)
    assert base is not None
    return base, members


@pytest.mark.long
def test_as_much_is_recognised_as_costs_a_hundredth_of_the_gain():
    folds, _, _ = prepared()
    losses = {(0.0, 0.0): 80.0, (0.25, 0.0): 79.9, (0.5, 0.0): 80.05, (0.5, 0.5): 80.3, (0.75, 0.0): 80.2}
    averaged = np.array([60.0, 40.0])
    found = [candidate.recognised for candidate in _steadiest(candidates(folds, losses), averaged)]
    assert found == [Scales(0.5, 0.0, 3), Scales(0.5, 0.5, 3)]
    two = candidates(folds, {(0.0, 0.0): 80.0, (0.25, 0.25): 81.0})
    assert [c.recognised for c in _steadiest(two, averaged)] == [None]
    assert [c.recognised for c in _steadiest(two, averaged / 2)] == [None]  # nothing is gained


@pytest.mark.long
def test_a_hundredth_of_the_gain_is_to_spare_whether_shares_are_chosen_or_given():
    folds, _, _ = prepared()
    plain, told = candidates(folds, {(0.0, 0.0): 80.0, (0.5, 0.0): 80.1})
    gain = _category_gain([plain], [told], np.array([60.0, 40.0]), np.array([60.0, 40.0]))
    assert gain.spare == pytest.approx(0.01 * 0.2)
    assert gain.difference.value == pytest.approx(0.001)


def test_the_choice_says_of_what_how_much_is_recognised():
    verdict = Verdict.of_losses(np.ones(9), np.full(9, 2.0), np.arange(9), np.ones(9), measured="here", keep=1.0)
    choice = Choice(steps=9, epochs=2.0, keep=1.0, level=1.0, verdict=verdict, recognised=0.5)
    assert choice.words[0] == (
        "chosen: keep 1; 50% of what tells LLMs apart from categories that are recognised; 2 epochs"
    )
    assert "50% of it from" in replace(choice, recognised_level=0.5).words[0]
    assert "; 50% of the latter from" in replace(choice, recognised_level=0.5, keep=0.0).words[0]
    assert "recognised" not in replace(choice, keep=0.0).words[0]
    assert "50% of both from" in replace(choice, recognised_level=0.5, level=0.4).words[0]
    assert recognised_of(choice, 3) == Scales(0.5, 0.0, 3)
    assert recognised_of(replace(choice, recognised=0.0), 3) is None
