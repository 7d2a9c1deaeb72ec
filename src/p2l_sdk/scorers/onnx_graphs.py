"""Reading, changing and writing an exported graph, with the package onnx."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2l_sdk.hub.onnx_files import data_of

MOST_BYTES = 1_900_000_000  # bytes of weights in one protocol buffer, which holds 2 GiB
_HEADS_FIRST = [0, 2, 1, 3]


def read_graph(file: Path) -> Any:
    """A model in memory, with weights that lie beside it, too."""
    import onnx

    return onnx.load(file)


def save_graph(model: Any, file: Path, nodes: Sequence[Any], new: Sequence[Any] = ()) -> None:
    """Write a model with other operators.

    Args:
        model: which is changed, too.
        file: where it is written; large weights go to a file beside it.
        nodes: its operators, in their order.
        new: further weights; those that no operator needs any more are left out.
    """
    import onnx

    used = {name for node in nodes for name in node.input}
    weights = [*(tensor for tensor in model.graph.initializer if tensor.name in used), *new]
    for field, values in (("node", list(nodes)), ("initializer", weights), ("value_info", [])):
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(values)
    large = sum(tensor.ByteSize() for tensor in weights) > MOST_BYTES
    data_of(file).unlink(missing_ok=True)  # onnx would add to it
    onnx.save(model, file, save_as_external_data=large, location=data_of(file).name if large else None)


def join_heads(file: Path) -> None:
    """Let attention take its heads side by side, as the products before it give them: without moving them first, and
    back again, onnxruntime takes a quarter less time for it. Rotary positions turn them side by side, too, and keys and
    values that several heads share are not repeated for each."""
    from onnx import helper

    model = read_graph(file)
    nodes, heads = list(model.graph.node), _Heads(model.graph)
    replaced: dict[int, list[Any]] = {}
    for node in nodes:
        sides = [heads.before(name) for name in node.input[:3]] if node.op_type == "Attention" else []
        target = heads.after(node.output[0]) if len(node.output) == 1 else None
        found = [side for side in sides if side is not None]
        if len(found) < 3 or target is None:
            continue
        turns = [side.turn(f"{node.name}_turned_{i}") for i, side in enumerate(found)]
        sources = [side.source if turn is None else turn.output[0] for side, turn in zip(found, turns, strict=True)]
        joined = helper.make_node("Attention", [*sources, *node.input[3:]], [target], name=node.name)
        joined.attribute.extend(node.attribute)
        numbers = (side.number for side in found)
        joined.attribute.extend(map(helper.make_attribute, ("q_num_heads", "kv_num_heads"), numbers))
        replaced[id(node)] = [*(turn for turn in turns if turn is not None), joined]
    if replaced:
        made = {new[-1].output[0] for new in replaced.values()}
        left = (node for node in nodes if not made.intersection(node.output))
        kept = [new for node in left for new in replaced.get(id(node), [node])]
        save_graph(model, file, _needed(kept, [output.name for output in model.graph.output]))


@dataclass(frozen=True)
class _Side:
    """What attention takes, queries, keys or values, before it was cut into heads.

    Attributes:
        source: the value with all heads side by side.
        number: of its heads.
        rotary: the operator that turns the heads by their position; None without.
    """

    source: str
    number: int
    rotary: Any | None

    def turn(self, output: str) -> Any | None:
        """The operator that turns them side by side."""
        from onnx import helper

        if self.rotary is None:
            return None
        turn = helper.make_node("RotaryEmbedding", [self.source, *self.rotary.input[1:]], [output], name=output)
        turn.attribute.extend(part for part in self.rotary.attribute if part.name != "num_heads")
        turn.attribute.append(helper.make_attribute("num_heads", self.number))
        return turn


class _Heads:
    """How the values of a graph were cut into heads, and joined."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self._maker = {output: node for node in graph.node for output in node.output}
        self._axes = {
            tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in graph.initializer if tensor.dims == [1]
        }
        self._users: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._numbers = {
            value.name: dims[1].dim_value
            for value in graph.value_info
            if len(dims := value.type.tensor_type.shape.dim) == 4
        }

    def before(self, name: str) -> _Side | None:
        """What was cut into heads, which were moved to the front, to make a value."""
        name = self._once(name)
        rotary = self._made_by("RotaryEmbedding", name)
        first = name if rotary is None else rotary.input[0]
        moved = self._made_by("Transpose", first)
        cut = self._made_by("Reshape", moved.input[0]) if moved is not None and _moves_heads(moved) else None
        number = self._numbers.get(first, 0)
        return _Side(str(cut.input[0]), number, rotary) if cut is not None and number else None

    def after(self, name: str) -> str | None:
        """What is made of a value, and only that, by moving the heads back and joining them."""
        (moved, *more) = self._users.get(name, [None])
        if moved is None or more or not _moves_heads(moved):
            return None
        (joined, *more) = self._users.get(moved.output[0], [None])
        return str(joined.output[0]) if joined is not None and not more and joined.op_type == "Reshape" else None

    def _once(self, name: str) -> str:
        """The value whose heads were repeated, each so many times in a row, to make a value; else itself.

        Of the axes, batch, head, token and number, Expand can lengthen none but that put in after the heads, and
        Reshape joins the two if the number of heads has grown."""
        joined = self._made_by("Reshape", name)
        repeated = None if joined is None else self._made_by("Expand", joined.input[0])
        apart = None if repeated is None else self._made_by("Unsqueeze", repeated.input[0])
        if apart is None or self._axes.get(apart.input[1]) != [2]:
            return name
        source = str(apart.input[0])
        return source if 0 < self._numbers.get(source, 0) < self._numbers.get(name, 0) else name

    def _made_by(self, kind: str, name: str) -> Any | None:
        node = self._maker.get(name)
        return node if node is not None and node.op_type == kind else None


def _moves_heads(node: Any) -> bool:
    return node.op_type == "Transpose" and any(list(part.ints) == _HEADS_FIRST for part in node.attribute)


def _needed(nodes: Sequence[Any], outputs: Sequence[str]) -> list[Any]:
    """The operators that outputs need."""
    wanted, found = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            found.append(node)
            wanted.update(node.input)
    return found[::-1]
