"""Static training chooses for itself: no harm on noise, gains where there is signal, nothing measured on what was
trained on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import word_tokenizer

from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.training.data import ByPrompt
from p2l_sdk.training.static import StaticRecipe, fit_static
from p2l_sdk.training.static_choice import _choose
from p2l_sdk.training.static_folds import FOLDS, Folds
from p2l_sdk.training.static_heads import Scales
from p2l_sdk.training.token_table import TokenTable
from p2l_sdk.votes.votes import Votes

WORDS = ("python", "code", "list", "write", "poem", "about", "the")
RECIPE = StaticRecipe(feedback=Feedback.BT, hidden_size=8, batch_size=32, learning_rate=2e-2, length_scale=0.0)


def table() -> TokenTable:
    tokenizer = word_tokenizer()
    vectors = np.random.default_rng(1).normal(size=(tokenizer.get_vocab_size(), 16)).astype(np.float32)
    return TokenTable(tokenizer, vectors)


def votes(signal: bool, n: int = 60) -> Votes:
    """One LLM wins on prompts with code, the other on the rest; or a coin decides, 2 to 1 for one of them."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(n):
        words = [*random.choice(WORDS[2:], 4), *(["python", "code"] if i % 2 else ["poem", "write"]), *["the"] * i]
        wins = bool(i % 2) if signal else random.random() < 2 / 3
        winner = "model_a" if wins else "model_b"
        rows.append({"prompt": " ".join(words), "model_a": "x", "model_b": "y", "winner": winner})
    return Votes.from_rows(rows)


def test_on_noise_the_model_is_the_averaged_leaderboard_and_says_so():
    fit = fit_static(votes(signal=False), table(), RECIPE)
    assert fit.choice is not None
    assert fit.choice.keep == 0.0
    assert fit.choice.verdict.sentence == (
        "no better than the averaged leaderboard on these votes: the model returns it for every prompt"
    )
    assert not fit.model.head.coefs.weight.any()
    np.testing.assert_allclose(fit.model.head.coefs.bias.detach(), fit.averaged.coefs, atol=1e-6)


def test_where_there_is_signal_it_gains_and_the_same_seed_gives_the_same_model():
    first, second = (fit_static(votes(signal=True), table(), RECIPE) for _ in range(2))
    assert first.choice is not None
    assert first.choice.keep > 0.0
    difference = first.choice.verdict.difference
    assert difference.value < -2.0 * (difference.standard_error or 0.0)
    assert [n for n, _ in first.choice.curve] == [15, 30, 60]
    np.testing.assert_array_equal(first.model.head.coefs.weight.detach(), second.model.head.coefs.weight.detach())
    assert first.choice == second.choice


def outcomes(n: int, seed: int, hard: bool) -> Votes:
    """Votes among three equally good LLMs, one a prompt: all outcomes are equally likely or, if `hard`, "both bad" is
    nearly sure on the prompts with code and rare on the rest."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        words = [*random.choice(WORDS[2:], 4), *(["python", "code"] if i % 2 else ["poem", "write"])]
        bad = (0.85 if i % 2 else 0.05) if hard else 0.25
        a, b = random.choice(3, 2, replace=False)
        winner = random.choice(("model_a", "model_b", "tie", "tie (bothbad)"), p=[*[(1.0 - bad) / 3.0] * 3, bad])
        prompt = " ".join([*words, *["the"] * (i % 60)])
        rows.append({"prompt": prompt, "model_a": f"llm {a}", "model_b": f"llm {b}", "winner": winner})
    return Votes.from_rows(rows)


@pytest.mark.long
def test_thirty_votes_of_pure_noise_never_do_more_than_tiny_harm():
    held_out = outcomes(600, 1000, hard=False)
    harm = []
    for seed in range(8):
        recipe = dataclasses.replace(RECIPE, feedback=Feedback.GRK, seed=seed)
        fit = fit_static(outcomes(30, seed, hard=False), table(), recipe, held_out=held_out)
        assert fit.held_out is not None
        harm.append(fit.held_out.difference.value)
    assert max(harm) < 0.02
    assert sum(value != 0.0 for value in harm) <= 1


@pytest.mark.long
def test_what_is_common_to_all_llms_does_not_pay_for_what_tells_them_apart():
    fit = fit_static(outcomes(120, 0, hard=True), table(), dataclasses.replace(RECIPE, feedback=Feedback.GRK))
    assert fit.choice is not None
    assert (fit.choice.keep, fit.choice.level > 0.0) == (0.0, True)
    assert fit.choice.verdict.better
    weight = fit.model.head.coefs.weight.detach()
    np.testing.assert_allclose(weight, weight.mean(0, keepdim=True).expand_as(weight), atol=1e-6)


def test_no_head_and_no_leaderboard_sees_the_prompts_that_it_is_measured_on():
    data = votes(signal=True)
    grouped = ByPrompt.of_votes(data, Feedback.BT)
    import torch

    folds = Folds.of(torch.zeros(len(data.prompts), 3), data, grouped, Feedback.BT, seed=0)
    assert sorted(np.bincount(folds.fold)) == [12] * FOLDS
    for share in (0.5, 1.0):
        for i, rows in enumerate(folds.members(share)):
            assert not (folds.fold[rows] == i).any()
    # a leak: in fold 0 every vote is turned round; its own averaged leaderboard must not notice
    inside = folds.fold[data.prompt] == 0
    turned = dataclasses.replace(data, winner=np.where(inside, 1 - data.winner, data.winner))
    before = folds.averaged(folds.members())
    after = dataclasses.replace(folds, votes=turned).averaged(folds.members())
    assert before is not None
    assert after is not None
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1:], after[1:])


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_given_settings_are_taken_as_they_are(keep):
    recipe = dataclasses.replace(RECIPE, steps=3, keep=keep)
    fit = fit_static(votes(signal=True), table(), recipe)
    assert fit.choice is None
    assert (fit.recipe.steps, fit.recipe.keep) == (3, keep)
    assert bool(fit.model.head.coefs.weight.any()) is bool(keep)
    only_keep = fit_static(votes(signal=True), table(), dataclasses.replace(RECIPE, keep=keep))
    assert only_keep.choice is not None
    assert only_keep.choice.keep == keep


@pytest.mark.parametrize(("n_prompts", "kept"), [(30, 0.0), (300, 0.5)])
def test_a_gain_of_a_few_votes_that_all_went_one_way_is_not_sure(n_prompts, kept):
    """Its standard error is 0: only the two nats that a sure gain must exceed keep it out."""
    grid = [Scales(keep, keep, 3) for keep in (0.0, 0.5)]
    losses = np.repeat([[1.0], [0.99]], n_prompts, axis=1)
    assert _choose([losses], grid, np.ones(n_prompts))[1].keep == kept


@pytest.mark.parametrize(("n_prompts", "kept"), [(60, 0.0), (3000, 0.5)])
def test_with_few_prompts_a_gain_has_to_be_surer(n_prompts, kept):
    """A gain of 2.5 standard errors, and of more than two nats: enough of many prompts, too little of few."""
    grid = [Scales(0.0, 0.0, 2), Scales(0.5, 0.5, 2)]
    spread = np.tile([-1.0, 1.0], n_prompts // 2) * 10.0
    losses = np.stack([np.zeros(n_prompts), spread - 2.5 * spread.std(ddof=1) / n_prompts**0.5])
    assert -losses[1].sum() - 2.0 * spread.std(ddof=1) * n_prompts**0.5 > 2.0  # two standard errors would do
    assert _choose([losses], grid, np.ones(n_prompts))[1].keep == kept


@pytest.mark.parametrize(("errors", "kept"), [(2.5, 0.0), (3.5, 0.5)])
def test_routes_change_only_where_that_is_sure_by_three_standard_errors(errors, kept):
    """Two are enough for what is common to all LLMs, which changes no route."""
    grid, n_prompts = [Scales(0.0, 0.0, 2), Scales(0.0, 0.5, 2), Scales(0.5, 0.5, 2)], 3000
    spread = np.tile([-1.0, 1.0], n_prompts // 2)
    level = np.full(n_prompts, -1.0)
    losses = np.stack([0.0 * level, level, level + spread - errors * spread.std(ddof=1) / n_prompts**0.5])
    chosen = _choose([losses], grid, np.ones(n_prompts))[1]
    assert (chosen.keep, chosen.level) == (kept, 0.5)


@pytest.mark.long
def test_with_copies_the_heads_learn_other_things_and_what_is_measured_are_the_prompts_themselves():
    data = votes(signal=True, n=120)
    plain, taught = (fit_static(data, table(), dataclasses.replace(RECIPE, copies=n)) for n in (None, 4))
    assert plain.averaged.coefs.tolist() == taught.averaged.coefs.tolist()
    for fit in (plain, taught):
        assert fit.choice is not None
        assert fit.choice.verdict.n_prompts == 120
        assert fit.choice.verdict.better
    assert plain.choice is not None
    assert taught.choice is not None
    assert plain.choice.verdict.averaged == taught.choice.verdict.averaged
    assert not np.array_equal(plain.model.head.coefs.weight.detach(), taught.model.head.coefs.weight.detach())
