"""Weights and inputs in 8 bits: how exact the products are, and which prompts are left to float32."""

import numpy as np
import pytest

from p2l_sdk.scorers.onnx_int8 import Seen, near_enough, rounded, weight_key, write_int8
from p2l_sdk.scorers.onnx_scorer import lead

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


@pytest.fixture
def layer():
    """Inputs that go together, as those of a transformer do, and a weight."""
    chance = np.random.default_rng(0)
    inputs = chance.normal(size=(2000, 8)) @ chance.normal(size=(8, 160)) + 0.3 * chance.normal(size=(2000, 160))
    return inputs.astype(np.float32), chance.normal(size=(160, 24)).astype(np.float32)


def error(inputs, weight, pair):
    return np.sqrt(np.mean((inputs @ (pair[0] * pair[1] - weight)) ** 2))


def test_rounding_by_the_inputs_is_nearer_than_rounding_to_the_nearest(layer):
    inputs, weight = layer
    seen, new = inputs[:1000], inputs[1000:]
    nearest, fitted = rounded(weight, None), rounded(weight, seen.T @ seen)
    assert nearest[0].dtype == fitted[0].dtype == np.int8
    assert np.abs(fitted[0]).max() <= 127
    np.testing.assert_array_less(np.abs(nearest[0] * nearest[1] - weight), nearest[1] * 0.5001 * np.ones_like(weight))
    assert error(new, weight, fitted) < 0.6 * error(new, weight, nearest)


@pytest.mark.parametrize("moments", [np.zeros((160, 160)), np.full((160, 160), np.nan)])
def test_without_moments_it_is_the_nearest(layer, moments):
    for found, expected in zip(rounded(layer[1], moments), rounded(layer[1], None), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_inputs_and_outputs_that_are_zero(layer):
    inputs, weight = layer[0].copy(), layer[1].copy()
    inputs[:, :100], weight[:, 3] = 0, 0
    numbers, unit = rounded(weight, inputs.T @ inputs)
    assert not numbers[:, 3].any()
    assert (unit > 0).all()
    assert error(inputs, weight, (numbers, unit)) < 0.05


def seen(inputs):
    return Seen(inputs.T @ inputs, inputs.min(0), inputs.max(0))


@pytest.fixture
def product(tmp_path):
    """From inputs, a weight and what was seen to the product in 8 bits; None if it stays as it is."""

    def run(inputs, weight, known):
        names = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
        mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, None)
        node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
        graph = helper.make_graph([node], "g", [names[0], mask], names[1:], [numpy_helper.from_array(weight, "w")])
        whole, file = tmp_path / "whole.onnx", tmp_path / "int8.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)]), whole)
        if not write_int8(whole, file, {} if known is None else {weight_key(weight): known}):
            return None
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        feed = {"x": inputs, "attention_mask": np.ones((1, len(inputs)), np.int64)}
        return session.run(None, feed)[0]

    return run


def relative(found, exact):
    return np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2))


def test_a_product_is_nearly_exact_on_new_inputs(layer, product):
    inputs, weight = layer
    found = product(inputs[1000:], weight, seen(inputs[:1000]))
    assert 0 < relative(found, inputs[1000:] @ weight) < 0.02


def test_what_a_row_gets_does_not_depend_on_the_others(layer, product):
    inputs, weight = layer
    with_others = product(np.vstack([inputs[:5], 50 * inputs[5:10]]), weight, seen(inputs))[:5]
    np.testing.assert_array_equal(with_others, product(inputs[:5], weight, seen(inputs)))


def test_large_channels_do_not_take_the_bits_of_the_others(layer, product):
    inputs, weight = layer[0].copy(), layer[1].copy()
    inputs[:, :4] *= 100
    weight[:4] /= 100  # with the root of 100 on both sides, steps are a tenth as large
    flat = seen(inputs)
    flat = Seen(flat.moments, np.full_like(flat.low, flat.low.min()), np.full_like(flat.high, flat.high.max()))
    error, uneven = (relative(product(inputs, weight, known), inputs @ weight) for known in (seen(inputs), flat))
    assert 0.05 * uneven < error < 0.2 * uneven


def test_a_product_of_which_nothing_was_seen_stays(layer, product):
    assert product(*layer, None) is None


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_steps_are_positive_whatever_was_seen(layer, value):
    odd = seen(np.full((3, 160), value, dtype=np.float32))
    step, zero = odd.divided(odd.sizes()).steps()
    assert (step, zero) == (1, 0)


def test_prompts_that_are_near_are_as_many_as_errors_ask_for():
    """Errors of +-0.05 in the lead: half of the prompts whose lead is below 0.05 change, a twentieth of all."""
    chance = np.random.default_rng(1)
    exact = np.zeros((40_000, 3))
    exact[:, 2] = -9
    exact[:, 0] = chance.uniform(-1, 1, len(exact))
    rough = exact + np.array([0.05, 0, 0]) * chance.choice([-1, 1], len(exact))[:, None]
    near = near_enough(rough, exact)
    # leads are spread evenly over [0, 1]: half of those between `near` and 0.05 change, 0.5 % of all
    assert near == pytest.approx(0.04, abs=0.002)
    stays = lead(rough) >= near
    assert 0 < np.mean(stays & (rough.argmax(1) != exact.argmax(1))) < 0.01


def test_no_prompt_is_near_without_errors_or_with_one_llm():
    exact = np.random.default_rng(2).normal(size=(50, 3))
    assert near_enough(exact, exact) == 0
    assert near_enough(exact[:, :1], exact[:, :1]) == 0
    np.testing.assert_array_equal(lead(exact[:, :1]), np.inf)


def test_changes_that_were_seen_count_even_where_few_errors_are_large():
    exact = np.tile([0.0, 1.0], (1000, 1))
    rough = exact.copy()
    rough[:8] = np.outer(np.arange(1, 9) / 10, [1.0, 0.0])  # 5 of 1,000 may stay: those with a lead of 0.4 and more
    assert 0.3 < near_enough(rough, exact) < 0.301


def test_if_errors_are_larger_than_all_leads_every_prompt_is_near():
    exact = np.tile([0.0, 5.0, -5.0], (50, 1))
    rough = np.random.default_rng(3).uniform(size=(50, 1)) * [1.0, 0.0, -1.0]
    assert (lead(rough) < near_enough(rough, exact)).all()
