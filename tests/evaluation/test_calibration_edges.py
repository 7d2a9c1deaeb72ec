"""Calibration at the ends of [0, 1] and beyond: right, or refused."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from p2l_sdk.errors import P2LError
from p2l_sdk.evaluation.metrics.calibration import reliability
from p2l_sdk.training.config import TrainingConfig


def test_certain_predictions_are_right_or_wrong_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right = reliability(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0]))
        wrong = reliability(np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0, 0.0]))
        one = reliability(np.array([1.0]), np.array([1.0]))
    assert right.ece == 0.0
    assert right.probability.tolist() == [0.0, 1.0]
    assert wrong.ece == 1.0
    assert one.ece == 0.0
    assert one.ece_by_chance is None


def test_what_rounding_puts_outside_is_brought_back():
    found = reliability(np.array([1.0 + 1e-8, -1e-8]), np.array([1.0, 0.0]))
    assert found.probability.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.01, 1.01, 1e308])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_no_share_is_refused(value, place):
    arguments = [np.array([0.5, 0.5]), np.array([1.0, 0.0])]
    arguments[place][1] = value
    name = ("probabilities", "outcomes")[place]
    with pytest.raises(P2LError, match=rf"{name} must be numbers in \[0, 1\], one for each case; one is"):
        reliability(*arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_weights_are_checked(value):
    with pytest.raises(P2LError, match="weights must be numbers >= 0; one is"):
        reliability(np.array([0.5]), np.array([1.0]), weights=np.array([value]))


def test_lengths_must_agree():
    with pytest.raises(P2LError, match="are 2, 1 and 2 numbers; give one of each"):
        reliability(np.array([0.5, 0.5]), np.array([1.0]))


@pytest.mark.parametrize("name", ["keep", "validation", "label_smoothing", "average", "head_dropout", "warmup"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e-9, 1.3])
def test_shares_of_a_training_out_of_range_are_refused(name, value):
    with pytest.raises(P2LError, match=name):
        TrainingConfig(votes="v.csv", output="o", **{name: value})


@pytest.mark.parametrize(("name", "value"), [("keep", 0.0), ("keep", 1.0), ("validation", 0.0), ("warmup", 1.0)])
def test_the_ends_themselves_are_taken(name, value):
    assert getattr(TrainingConfig(votes="v.csv", output="o", **{name: value}), name) == value
