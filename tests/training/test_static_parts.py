"""Of thousands of LLMs, outputs are copied some prompts at a time: the same numbers as at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from test_static_choice import RECIPE, table, votes

from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.scorers import aggregate
from p2l_sdk.training import static_folds
from p2l_sdk.training.static import fit_static
from p2l_sdk.training.static_heads import Scales, kept


@pytest.mark.long
def test_a_training_in_parts_gives_the_same_model(monkeypatch):
    data = votes(signal=True, n=105)  # enough to know its prompts and its error for a group
    recipe = dataclasses.replace(RECIPE, steps=20)
    whole = fit_static(data, table(), recipe)
    monkeypatch.setattr(static_folds, "_MOST_OUTPUTS", 14)  # seven prompts
    monkeypatch.setattr(aggregate, "_MOST_COEFS", 14)
    parts = fit_static(data, table(), recipe)
    assert whole.choice is not None
    assert parts.choice is not None
    assert (parts.choice.keep, parts.choice.level, parts.choice.steps) == (
        whole.choice.keep,
        whole.choice.level,
        whole.choice.steps,
    )
    # losses are float32, whose last bits depend on how many are computed together
    np.testing.assert_allclose(np.array(parts.choice.curve), np.array(whole.choice.curve), rtol=1e-6)
    state = parts.model.state_dict()
    for name, tensor in whole.model.state_dict().items():
        np.testing.assert_allclose(state[name].double(), tensor.double(), rtol=1e-9, atol=1e-9, err_msg=name)
    assert whole.model.head.familiarity.error[1] > 0.0


@pytest.mark.parametrize("feedback", [Feedback.BT, Feedback.GRK])
def test_a_spread_in_parts_is_that_of_the_whole(feedback, monkeypatch):
    coefs = np.random.default_rng(0).normal(size=(101, 5)).astype(np.float32)
    values = coefs.astype(np.float64) - (coefs.astype(np.float64).mean(1, keepdims=True) if feedback.floating else 0.0)
    assert aggregate.spread_of(coefs, feedback) == pytest.approx(values.var(0).mean(), rel=1e-12)
    monkeypatch.setattr(aggregate, "_MOST_COEFS", 20)
    assert aggregate.spread_of(coefs, feedback) == pytest.approx(values.var(0).mean(), rel=1e-12)
    several = aggregate.spread_of_parts(np.array_split(coefs, 4), feedback)
    assert several == pytest.approx(values.var(0).mean(), rel=1e-12)


def test_shares_are_kept_in_place(monkeypatch):
    monkeypatch.setattr(static_folds, "_MOST_OUTPUTS", 8)
    fold = np.random.default_rng(1).integers(0, 5, 23)
    folds = static_folds.Folds(None, None, None, Feedback.BT, fold, None)  # type: ignore[arg-type]
    outputs, averaged, scales = torch.randn(23, 4), torch.randn(5, 1, 4), Scales(0.4, 0.8, 3)
    expected = kept(outputs.clone(), averaged[fold, 0], scales)
    torch.testing.assert_close(folds.keep_of(outputs, averaged, scales), expected, rtol=0.0, atol=0.0)
