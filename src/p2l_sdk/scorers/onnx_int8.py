"""Quantising an exported graph: weights of matrix products in int8 per channel, their inputs while the graph runs.

An input has one scale for all its channels, so a channel far larger than the others leaves little to them. Therefore
each channel of the input is first divided by s, and that row of the weights multiplied by it, which leaves the product
as it is (Xiao et al. 2023, "SmoothQuant"): s = sqrt(largest |input| / largest |weight|), from prompts run through the
graph. The head stays in float32, as all that is no matrix product does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.hub.onnx_files import ONNX_DATA, ONNX_FILE
from p2l_sdk.scorers.onnx_scorer import INPUTS, open_session

_HEAD = re.compile(r"(?:^|\.)head\.")
_LEAST = 1e-5
_SUFFIX = ".largest"  # of the names of outputs that tell the largest inputs


def quantise(graph: Path, target: Path, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> Path:
    """Write the same graph with int8 weights.

    Args:
        graph: the ONNX file, in float32.
        target: a folder to make for the new one.
        batches: `input_ids` and `attention_mask` of prompts.

    Returns:
        The new file.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target.mkdir()
    model = onnx.load(graph)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    matrices = {name for name, tensor in weights.items() if len(tensor.dims) == 2 and not _HEAD.search(name)}
    products = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in matrices]
    largest = _largest_inputs(graph, target / "probe", {node.input[0] for node in products}, batches)
    _smooth(model.graph, products, largest)
    large = (graph.parent / ONNX_DATA).is_file()
    onnx.save(model, smooth := target / "smooth.onnx", save_as_external_data=large)
    quantize_dynamic(
        smooth,
        target / ONNX_FILE,
        nodes_to_quantize=[node.name for node in products],
        per_channel=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=large,
        extra_options={"MatMulConstBOnly": True},
    )
    return target / ONNX_FILE


def _largest_inputs(
    graph: Path, place: Path, names: set[str], batches: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """For each of these tensors, the largest absolute value of each channel over all batches."""
    import onnx

    place.mkdir()
    model = onnx.load(graph)
    axes = onnx.numpy_helper.from_array(np.array([0, 1]), "axes_of_tokens")
    model.graph.initializer.append(axes)
    for name in names:
        value = onnx.helper.make_node("Abs", [name], [f"{name}.abs"])
        most = onnx.helper.make_node("ReduceMax", [f"{name}.abs", axes.name], [name + _SUFFIX], keepdims=0)
        model.graph.node.extend([value, most])
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name + _SUFFIX))
    onnx.save(model, place / ONNX_FILE, save_as_external_data=(graph.parent / ONNX_DATA).is_file(), location=ONNX_DATA)
    session, asked = open_session(place / ONNX_FILE), sorted(names)
    found = {name: np.zeros(0, dtype=np.float32) for name in asked}
    for batch in batches:
        values = session.run([name + _SUFFIX for name in asked], dict(zip(INPUTS, batch, strict=True)))
        found = {n: np.maximum(found[n], v) if found[n].size else v for n, v in zip(asked, values, strict=True)}
    return found


def _smooth(graph: Any, products: list[Any], largest: dict[str, np.ndarray]) -> None:
    """Divide the channels of each input by s, and multiply the rows of the weights behind it by s."""
    from onnx import helper, numpy_helper

    by_name = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in products:
        readers.setdefault(node.input[0], []).append(node)
    first = {node.name: place for place, node in enumerate(graph.node)}
    added = []
    for name, nodes in readers.items():
        matrices = [numpy_helper.to_array(by_name[node.input[1]]) for node in nodes]
        rows = np.max([np.abs(matrix).max(1) for matrix in matrices], axis=0)
        s = np.sqrt(largest[name].clip(_LEAST) / rows.clip(_LEAST)).clip(_LEAST).astype(np.float32)
        s /= np.exp(np.log(s).mean())
        graph.initializer.append(numpy_helper.from_array(1.0 / s, f"{name}.smoothing"))
        place = min(first[node.name] for node in nodes)
        multiply = helper.make_node("Mul", [name, f"{name}.smoothing"], [f"{name}.smooth"], f"{name}.smooth")
        added.append((place, multiply))
        for node, matrix in zip(nodes, matrices, strict=True):
            weight = f"{node.input[1]}.smooth.{node.name}"
            graph.initializer.append(numpy_helper.from_array(matrix * s[:, None], weight))
            node.input[0], node.input[1] = multiply.output[0], weight
    for place, node in sorted(added, key=lambda pair: -pair[0]):
        graph.node.insert(place, node)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
