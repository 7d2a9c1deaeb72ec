"""Weights and inputs in 8 bits: how exact the products are."""

import numpy as np
import pytest

from p2l_sdk.scorers.onnx_int8 import rounded, weight_key, write_int8

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


def test_two_terms_leave_only_the_error_of_the_weight(layer, tmp_path):
    inputs, weight = layer
    inputs[0] *= 30  # one row far larger than the others takes their bits away
    names = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    graph = helper.make_graph([node], "g", names[:1], names[1:], [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)]), tmp_path / "whole.onnx")
    moments = {weight_key(weight): inputs.T @ inputs}
    numbers, unit = rounded(weight, moments[weight_key(weight)])
    exact, errors = inputs @ (numbers * unit), {}
    for terms in (1, 2):
        write_int8(tmp_path / "whole.onnx", file := tmp_path / f"{terms}.onnx", moments, terms=terms)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        errors[terms] = np.abs(session.run(None, {"x": inputs})[0] - exact)[1:].max() / np.abs(exact[1:]).max()
    assert errors[1] > 0.01
    assert errors[2] < 0.001
