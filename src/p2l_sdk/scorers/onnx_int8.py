"""An exported graph with its matrix products in 8 bits.

Weights are rounded per output channel, one input channel after the other: what rounding a channel changes in the
product is taken back by the channels that follow, as far as the inputs seen on prompts go together (GPTQ, Frantar et
al. 2022). Inputs are rounded while the graph runs, in one term (fast) or in two (exact to 16 bits): the second is what
the first leaves over. Only ONNX's own operators are written; onnxruntime joins them to its own fast ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p2l_sdk.hub.onnx_files import ONNX_DATA
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.scorers.transformer import TransformerScorer

_HEAD = re.compile(r"(?:^|\.)head\.")
_LARGEST = 127  # of an int8 weight
_DAMPING = 0.01  # share of the mean second moment that is added to each
_BLOCK = 128  # input channels between two updates of all that follow
_MOST_PROMPTS = 336  # that second moments are taken from


def second_moments(scorer: TransformerScorer, prompts: Sequence[Prompt]) -> dict[str, np.ndarray]:
    """What the linear layers of the backbone see on prompts.

    Args:
        scorer: the model in torch.
        prompts: of which up to 336 are used, spread over all.

    Returns:
        For each layer, by `weight_key` of its weight: sums over tokens of the products of two inputs,
        `(n_inputs, n_inputs)` float32.
    """
    found: dict[str, torch.Tensor] = {}

    def note(key: str) -> Any:
        def hook(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            rows = inputs[0].detach().flatten(0, -2).float()
            product = rows.T @ rows
            found[key] = found[key] + product if key in found else product

        return hook

    handles = [
        layer.register_forward_pre_hook(note(weight_key(layer.weight.detach().float().cpu().numpy().T)))
        for layer in scorer.model.backbone.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    try:
        for prompt in prompts[:: -(-len(prompts) // _MOST_PROMPTS)]:
            scorer.score([prompt])  # alone, for no token is padding
    finally:
        for handle in handles:
            handle.remove()
    return {key: moments.cpu().numpy() for key, moments in found.items()}


def weight_key(weight: np.ndarray) -> str:
    """What tells a weight `(n_inputs, n_outputs)` from others: names are lost in the export, numbers are not."""
    return hashlib.sha256(np.ascontiguousarray(weight, dtype=np.float32).tobytes()).hexdigest()


def rounded(weight: np.ndarray, moments: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """A weight in 8 bits.

    Args:
        weight: `(n_inputs, n_outputs)`, finite.
        moments: second moments of its inputs, `(n_inputs, n_inputs)`; None to round to the nearest.

    Returns:
        int8 `(n_inputs, n_outputs)` in [-127, 127], and their unit per output, float32 `(n_outputs,)`, positive.
    """
    left = weight.astype(np.float64)
    unit = np.abs(left).max(0) / _LARGEST
    unit = np.where(unit > 0, unit, 1.0)
    if moments is None or not np.isfinite(moments).all() or not np.trace(moments) > 0:
        return np.rint(left / unit).astype(np.int8), unit.astype(np.float32)
    order = np.argsort(-np.diag(moments), kind="stable")  # those that matter most are rounded first
    left, known = left[order], moments.astype(np.float64)[np.ix_(order, order)]
    known += np.eye(len(known)) * np.diag(known).mean() * _DAMPING
    follow = np.linalg.cholesky(np.linalg.inv(known)).T  # row i: how those after i take back an error of i
    numbers = np.empty_like(left)
    for start in range(0, len(left), _BLOCK):
        end = min(start + _BLOCK, len(left))
        errors = np.empty((end - start, left.shape[1]))
        for i in range(start, end):
            numbers[i] = np.clip(np.rint(left[i] / unit), -_LARGEST, _LARGEST)
            errors[i - start] = (left[i] - numbers[i] * unit) / follow[i, i]
            left[i + 1 : end] -= follow[i, i + 1 : end, None] * errors[i - start]
        left[end:] -= follow[start:end, end:].T @ errors
    return numbers[np.argsort(order)].astype(np.int8), unit.astype(np.float32)


def write_int8(source: Path, target: Path, moments: Mapping[str, np.ndarray], *, terms: int) -> None:
    """Write a graph with the products of its backbone in 8 bits; all else, the head too, stays as it is.

    Args:
        source: the graph in float32.
        target: where the other one is written; a file `model.onnx.data` beside it, too, if the source has one.
        moments: from `second_moments`.
        terms: of the inputs, 1 or 2; those that come from attention have 1.
    """
    import onnx

    model = onnx.load(source)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    new, heads = _Products(weights, moments), set[str]()
    for node in model.graph.node:
        inputs = list(node.input)
        if node.op_type == "Reshape":
            heads.update(node.output)
        if node.op_type == "MatMul" and inputs[1] in weights and not any(map(_HEAD.search, inputs)):
            # attention's heads, side by side, are means of many values: none is so large that one term is too coarse
            new.add(node, 1 if inputs[0] in heads else terms)
        else:
            new.nodes.append(node)
    used = {name for node in new.nodes for name in node.input}
    kept = [tensor for tensor in weights.values() if tensor.name in used]
    for field, values in (("node", new.nodes), ("initializer", kept + new.weights), ("value_info", [])):
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(values)
    large = (source.parent / ONNX_DATA).is_file()
    onnx.save(model, target, save_as_external_data=large, location=ONNX_DATA if large else None)


class _Products:
    """The operators of a new graph, and the weights that are new in it."""

    def __init__(self, weights: Mapping[str, Any], moments: Mapping[str, np.ndarray]) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._old, self._moments = weights, moments
        self._terms: dict[str, list[tuple[str, str, str]]] = {}  # of inputs, which several products may share
        self._rounded: dict[str, tuple[str, str]] = {}

    def add(self, node: Any, n_terms: int) -> None:
        """A product in 8 bits in place of a MatMul: the sum of the products of its input's terms."""
        numbers, unit = self._weight(node.input[1])
        parts = []
        for i, (rounded_input, step, zero) in enumerate(self._split(node.input[0], n_terms)):
            name = f"{node.output[0]}_int8_{i}"
            self._node("MatMulInteger", [rounded_input, numbers, zero], f"{name}_sum")
            self._node("Cast", [f"{name}_sum"], f"{name}_float", to=1)  # float32
            self._node("Mul", [step, unit], f"{name}_step")
            parts.append(self._node("Mul", [f"{name}_float", f"{name}_step"], name))
        if len(parts) == 1:
            self.nodes[-1].output[0] = node.output[0]
        else:
            self._node("Add", parts, node.output[0])

    def _split(self, name: str, n_terms: int) -> list[tuple[str, str, str]]:
        """The terms of an input: numbers, step and zero of each."""
        if name not in self._terms:
            terms: list[tuple[str, str, str]] = []
            left = name
            for i in range(n_terms):
                if i:
                    whole = self._node("DequantizeLinear", list(terms[-1]), f"{left}_near")
                    left = self._node("Sub", [left, whole], f"{left}_left")
                terms.append((f"{left}_number", f"{left}_step", f"{left}_zero"))
                self._node("DynamicQuantizeLinear", [left], *terms[-1])
            self._terms[name] = terms
        return self._terms[name]

    def _weight(self, name: str) -> tuple[str, str]:
        from onnx import numpy_helper

        if name not in self._rounded:
            weight = numpy_helper.to_array(self._old[name])
            pair = rounded(weight, self._moments.get(weight_key(weight)))
            self._rounded[name] = (f"{name}_int8", f"{name}_unit")
            self.weights += [numpy_helper.from_array(*both) for both in zip(pair, self._rounded[name], strict=True)]
        return self._rounded[name]

    def _node(self, kind: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]
