"""Reading, changing and writing an exported graph, with the package onnx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    back again, onnxruntime takes a quarter less time for it."""
    from onnx import helper

    model = read_graph(file)
    nodes = list(model.graph.node)
    maker = {output: node for node in nodes for output in node.output}
    users: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            users.setdefault(name, []).append(node)
    heads = {
        value.name: dims[1].dim_value
        for value in model.graph.value_info
        if len(dims := value.type.tensor_type.shape.dim) == 4
    }
    replaced: dict[int, Any] = {}
    for node in nodes:
        sources = [_before(name, maker) for name in node.input[:3]] if node.op_type == "Attention" else []
        target = _after(node.output[0], users) if all(sources) and len(node.output) == 1 else None
        numbers = [heads.get(name, 0) for name in node.input[:2]]
        if not sources or target is None or not all(numbers):
            continue
        joined = helper.make_node("Attention", [*sources, *node.input[3:]], [target], name=node.name)
        joined.attribute.extend(node.attribute)
        joined.attribute.extend(map(helper.make_attribute, ("q_num_heads", "kv_num_heads"), numbers))
        replaced[id(node)] = joined
    if replaced:
        made = {name for node in replaced.values() for name in node.output}
        kept = [replaced.get(id(node), node) for node in nodes if not made.intersection(node.output)]
        save_graph(model, file, _needed(kept, [output.name for output in model.graph.output]))


def _before(name: str, maker: Mapping[str, Any]) -> str | None:
    """What was cut into heads, which were moved to the front, to make a value."""
    moved = maker.get(name)
    cut = maker.get(moved.input[0]) if moved is not None and _moves_heads(moved) else None
    return str(cut.input[0]) if cut is not None and cut.op_type == "Reshape" else None


def _after(name: str, users: Mapping[str, Sequence[Any]]) -> str | None:
    """What is made of a value, and only that, by moving the heads back and joining them."""
    (moved, *more) = users.get(name, [None])
    if moved is None or more or not _moves_heads(moved):
        return None
    (joined, *more) = users.get(moved.output[0], [None])
    return str(joined.output[0]) if joined is not None and not more and joined.op_type == "Reshape" else None


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
