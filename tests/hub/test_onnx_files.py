"""ONNX files of strangers: what is refused before onnxruntime sees them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.hub.onnx_files import inspect_onnx

onnx = pytest.importorskip("onnx", reason="needs the extra onnx-export")


def graph(nodes, weights=()):
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy")
    return helper.make_graph(nodes, "g", [x], [y], initializer=list(weights))


def saved(path: Path, nodes, weights=(), **fields) -> Path:
    model = onnx.helper.make_model(graph(nodes, weights), **fields)
    path.write_bytes(model.SerializeToString())
    return path


def elsewhere(name: str):
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[2], data_location=1)
    tensor.external_data.add(key="location", value=name)
    tensor.external_data.add(key="offset", value="0")
    return tensor


def test_what_a_file_holds(tmp_path):
    weights = onnx.numpy_helper.from_array(np.arange(2, dtype=np.float32), "w")
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    found = inspect_onnx(saved(tmp_path / "model.onnx", [node], [weights]))
    assert (found.operators, found.nodes, found.files) == ({"Add"}, 1, frozenset())


def test_operators_that_are_not_onnx_s_own_and_loops_are_refused(tmp_path):
    foreign = onnx.helper.make_node("Evil", ["x"], ["y"], domain="org.evil")
    with pytest.raises(ModelFormatError, match=r"is refused: it needs the operator 'Evil' of 'org\.evil'"):
        inspect_onnx(saved(tmp_path / "foreign.onnx", [foreign]))
    body = graph([onnx.helper.make_node("Relu", ["x"], ["y"])])
    loop = onnx.helper.make_node("Loop", ["", "", "x"], ["y"], body=body)
    with pytest.raises(ModelFormatError, match="is refused: it has the operator 'Loop', which may never end"):
        inspect_onnx(saved(tmp_path / "loop.onnx", [loop]))
    function = onnx.helper.make_function("own", "f", ["a"], ["b"], [onnx.helper.make_node("Relu", ["a"], ["b"])], [])
    with pytest.raises(ModelFormatError, match="is refused: it defines operators of its own"):
        inspect_onnx(saved(tmp_path / "own.onnx", [onnx.helper.make_node("Relu", ["x"], ["y"])], functions=[function]))


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "other.data", "model.onnx.data", ""])
def test_weights_outside_the_folder_are_refused(name, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(8))
    (folder := tmp_path / "model").mkdir()
    (folder / "other.data").write_bytes(bytes(8))
    (folder / "model.onnx.data").symlink_to(tmp_path / "secret")
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    with pytest.raises(ModelFormatError, match=r"is refused: it has weights in .*, and only 'model\.onnx\.data'"):
        inspect_onnx(saved(folder / "model.onnx", [node], [elsewhere(name)]))
    hidden = onnx.helper.make_node("Constant", [], ["w"], value=elsewhere(name))
    with pytest.raises(ModelFormatError, match="is refused: it has weights in"):
        inspect_onnx(saved(folder / "model.onnx", [hidden, node]))


def test_weights_beside_it_are_legal(tmp_path):
    (tmp_path / "model.onnx.data").write_bytes(bytes(8))
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    assert inspect_onnx(saved(tmp_path / "model.onnx", [node], [elsewhere("model.onnx.data")])).files


def test_whatever_is_no_onnx_file_is_named(tmp_path, rng):
    whole = saved(tmp_path / "whole.onnx", [onnx.helper.make_node("Relu", ["x"], ["y"])]).read_bytes()
    path = tmp_path / "model.onnx"
    for content in (b"", b"PK\x03\x04 a zip", bytes(100), whole[:-3], b"\xff" * 50, b"\x3a\xff\xff\xff\xff\x0f"):
        path.write_bytes(content)
        with pytest.raises(ModelFormatError, match="is damaged"):
            inspect_onnx(path)
    for _ in range(300):  # damaged in any way: refused, or read
        flipped = bytearray(whole)
        flipped[rng.integers(len(flipped))] = rng.integers(256)
        path.write_bytes(flipped)
        with contextlib.suppress(ModelFormatError):
            inspect_onnx(path)
