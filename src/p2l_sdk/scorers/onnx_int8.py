"""An exported graph with its matrix products in 8 bits: a first look at a prompt, which float32 corrects where needed.

Weights are rounded per output channel, one input channel after the other: what rounding a channel changes in the
product is taken back by the channels that follow, as far as the inputs seen on prompts go together (GPTQ, Frantar et
al. 2022). Inputs are rounded in steps that are fixed on the same prompts, so that what a prompt gets does not depend on
those beside it; before that, large channels are made smaller and their weights larger (SmoothQuant, Xiao et al. 2022).
Only ONNX's own operators are written; onnxruntime joins them to its own fast ones.

The best LLM may change only where two are close. `near_enough` says how close: such prompts are scored in float32.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.scorers.onnx_graphs import read_graph, save_graph
from p2l_sdk.scorers.onnx_scorer import INPUTS, lead
from p2l_sdk.scorers.transformer import TransformerScorer

_HEAD = re.compile(r"(?:^|\.)head\.")
_LARGEST = 127  # of an int8 weight
_LEVELS = 255  # between the lowest and the highest input
_EVENED = 0.5  # the power of a channel's size that goes from the inputs to the weights
_DAMPING = 0.01  # share of the mean second moment that is added to each
_BLOCK = 128  # input channels between two updates of all that follow
_MOST_PROMPTS = 336  # that inputs are taken from
_LEFT = 0.005  # share of prompts whose best LLM may differ, after those that are near have been scored again


@dataclass(frozen=True)
class Seen:
    """What a linear layer has got on prompts.

    Attributes:
        moments: sums over tokens of the products of two inputs, `(n_inputs, n_inputs)` float32.
        low, high: the lowest and the highest of each input, `(n_inputs,)`.
    """

    moments: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def divided(self, sizes: np.ndarray) -> Seen:
        """The same of inputs that are divided by `sizes`."""
        return Seen(self.moments / np.outer(sizes, sizes), self.low / sizes, self.high / sizes)

    def sizes(self) -> np.ndarray:
        """What evens the channels out, float32 `(n_inputs,)`, positive, 1 for that in the middle."""
        reach = np.maximum(self.high, -self.low).astype(np.float64)
        middle = np.median(reach)
        if not np.isfinite(reach).all() or not middle > 0:
            return np.ones(len(reach), dtype=np.float32)
        sizes: np.ndarray = np.maximum(reach / middle, 1e-3) ** _EVENED
        return sizes.astype(np.float32)

    def steps(self) -> tuple[np.float32, np.uint8]:
        """The step of all inputs, and the number that stands for 0."""
        low, high = min(float(self.low.min()), 0.0), max(float(self.high.max()), 0.0)
        step = np.float32((high - low) / _LEVELS) if low < high and np.isfinite(high - low) else np.float32(1)
        return step, np.uint8(round(-low / float(step)) if np.isfinite(low) else 0)


def seen_inputs(scorer: TransformerScorer, prompts: Sequence[Prompt]) -> dict[str, Seen]:
    """What the linear layers of the backbone get.

    Args:
        scorer: the model in torch.
        prompts: of which up to 336 are used, spread over all.

    Returns:
        For each layer, by `weight_key` of its weight.
    """
    found: dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def note(key: str) -> Any:
        def hook(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            rows = inputs[0].detach().flatten(0, -2).float()
            if key not in found:
                found[key] = rows.T @ rows, rows.amin(0), rows.amax(0)
                return
            moments, low, high = found[key]
            moments.addmm_(rows.T, rows)  # in place: new memory for each prompt takes longer than the product
            torch.minimum(low, rows.amin(0), out=low)
            torch.maximum(high, rows.amax(0), out=high)

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
    return {key: Seen(*(value.cpu().numpy() for value in values)) for key, values in found.items()}


def near_enough(rough: np.ndarray, exact: np.ndarray) -> float:
    """How far the best LLM must be ahead for the rough coefficients to decide.

    Args:
        rough, exact: coefficients of the same prompts, `(n_prompts, n_models)`.

    Returns:
        The least lead, in logits, from which on so few prompts have another best LLM as is legal: where each prompt's
        lead and each prompt's error of the difference between its best two meet, for these prompts' own few changes
        say little; but of them, too, no more may be left.
    """
    if rough.shape[1] < 2:
        return 0.0
    rows, leads = np.arange(len(rough)), lead(rough)
    first, second = np.argsort(rough, axis=1)[:, :-3:-1].T
    errors = np.sort(np.abs(leads - (exact[rows, first] - exact[rows, second])))
    leads.sort()
    changed = (1 - np.searchsorted(errors, leads, side="right") / len(errors)) / 2  # as often to one side as the other
    left = np.append(np.cumsum(changed[::-1])[::-1], 0.0) / len(leads)  # if all prompts from the i-th on stay
    i = int(np.argmax(left <= _LEFT))
    near = float(leads[i] if i < len(leads) else np.nextafter(leads[-1], np.inf)) if i else 0.0
    seen_changed = np.sort(lead(rough)[rough.argmax(1) != exact.argmax(1)])[::-1]
    legal = int(_LEFT * len(rough))
    return max(near, float(np.nextafter(seen_changed[legal], np.inf))) if len(seen_changed) > legal else near


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


def write_int8(source: Path, target: Path, seen: Mapping[str, Seen]) -> int:
    """Write a graph with the products of its backbone in 8 bits; all else, the head too, stays as it is.

    Args:
        source: the graph in float32.
        target: where the other one is written.
        seen: from `seen_inputs`; a product of which nothing was seen stays as it is, too.

    Returns:
        The number of products in 8 bits.
    """
    model = read_graph(source)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    new = _Products(weights, seen)
    for node in model.graph.node:
        whole = node.op_type != "MatMul" or node.input[1] not in weights or any(map(_HEAD.search, node.input))
        if whole or not new.add(node):
            new.nodes.append(node)
    save_graph(model, target, new.nodes, new.weights)
    return new.count


class _Products:
    """The operators of a new graph, and the weights that are new in it."""

    def __init__(self, weights: Mapping[str, Any], seen: Mapping[str, Seen]) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.count = 0
        self._old, self._seen = weights, seen
        self._inputs: dict[str, tuple[str, str, str]] = {}  # that several products may share
        self._one = ""

    def add(self, node: Any) -> bool:
        """A product in 8 bits in place of a MatMul; False if nothing was seen of it."""
        from onnx import numpy_helper

        weight = numpy_helper.to_array(self._old[node.input[1]])
        seen = self._seen.get(weight_key(weight))
        if seen is None:
            return False
        sizes, name = seen.sizes(), node.output[0]
        seen = seen.divided(sizes)
        numbers, unit = rounded(weight * sizes[:, None], seen.moments)
        whole, step, zero = self._rounded_input(node.input[0], seen, sizes)
        self._node("MatMulInteger", [whole, self._weight(f"{name}_int8", numbers), zero], f"{name}_sum")
        self._node("Cast", [f"{name}_sum"], f"{name}_float", to=1)  # float32
        self._node("Mul", [step, self._weight(f"{name}_unit", unit)], f"{name}_step")
        self._node("Mul", [f"{name}_float", f"{name}_step"], name)
        self.count += 1
        return True

    def _rounded_input(self, name: str, seen: Seen, sizes: np.ndarray) -> tuple[str, str, str]:
        """Numbers, step and zero of an input that is divided by `sizes`."""
        if name not in self._inputs:
            step, zero = seen.steps()
            even = self._node("Mul", [name, self._weight(f"{name}_evening", 1 / sizes)], f"{name}_even")
            size, zero_name = self._weight(f"{name}_size", step), self._weight(f"{name}_zero", zero)
            number = self._node("QuantizeLinear", [even, size, zero_name], f"{name}_number")
            self._inputs[name] = number, self._node("Mul", [self._unfolded(), size], f"{name}_step"), zero_name
        return self._inputs[name]

    def _unfolded(self) -> str:
        """One, as the largest of the mask: onnxruntime joins the operators of a product only if its step is computed
        while the graph runs."""
        if not self._one:
            self._node("ReduceMax", [INPUTS[1]], "int8_some_token", keepdims=0)
            self._one = self._node("Cast", ["int8_some_token"], "int8_one", to=1)
        return self._one

    def _weight(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output
