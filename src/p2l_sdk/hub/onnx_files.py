"""ONNX files, which may be a stranger's: what they hold, told without onnx and without loading a tensor.

An ONNX file is a protocol buffer. `inspect_onnx` walks over its fields (names and numbers from ONNX's own `onnx.proto`)
and skips the weights. Refused are graphs with operators that no export of a P2L model needs (`onnx_operators`), such as
loops and branches, which may never end; sizes that depend on more than the numbers of prompts and tokens; weights with
a larger shape than the file has numbers; and weights in files outside the folder.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.hub.files import leads_elsewhere
from p2l_sdk.hub.onnx_operators import OPERATORS, Node, sized_by_values
from p2l_sdk.modeling.limits_p2l import shown

ONNX_FILE, ONNX_INT8, ONNX_REPORT = "model.onnx", "model.int8.onnx", "onnx.json"
ONNX_GRAPHS = (ONNX_FILE, ONNX_INT8)
_DATA = ".data"  # after the name of a graph: weights that do not fit into a protocol buffer of 2 GB
ONNX_FILES = (*ONNX_GRAPHS, *(name + _DATA for name in ONNX_GRAPHS), ONNX_REPORT)
_DOMAINS = ("", "ai.onnx")  # of operators
_CONTROL = frozenset({"Loop", "Scan", "If", "SequenceMap"})
_MOST_BYTES, _MOST_NODES, _DEEPEST, _MOST_AXES = 64 << 30, 200_000, 8, 32
# numbers of fields
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_TENSOR, _GRAPH_SPARSE = 1, 5, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE = (22, 23)
_TENSOR_SIZE, _TENSOR_NAME, _TENSOR_EXTERNAL, _PAIR_KEY, _PAIR_VALUE = 1, 8, 13, 1, 2
_MOST_PER_BYTE = 2  # numbers: the smallest have 4 bits
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # wire types
_MOST_TAG = (1 << 32) - 1  # of a larger one, readers use the lower bits


@dataclass(frozen=True, kw_only=True)
class OnnxFacts:
    """What an ONNX file holds.

    Attributes:
        operators: the types of its operators, each once.
        nodes: number of operators.
        files: names of further files with weights.
    """

    operators: frozenset[str]
    nodes: int
    files: frozenset[str]


def inspect_onnx(path: Path) -> OnnxFacts:
    """What an ONNX file holds; nothing of it is loaded.

    Args:
        path: the file.

    Raises:
        ModelFormatError: it is damaged or very large; needs operators that are not ONNX's own, or that no export has,
            such as a loop or a branch; its sizes depend on the tokens; its weights have larger shapes than there are
            bytes, or lie outside its folder.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise ModelFormatError(f"{str(path)!r} has {size:,} bytes; {_MOST_BYTES:,} are legal")
    walk = _Walk()
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed when nothing refers to it any more
        walk.model(memoryview(mapped))
    except (ValueError, IndexError, OSError) as error:  # an empty file cannot be mapped
        raise ModelFormatError(f"{str(path)!r} is damaged: it is no ONNX file ({error})") from None
    except _RefusedError as error:
        raise ModelFormatError(f"{str(path)!r} is refused: {error}") from None
    if not walk.nodes:
        raise ModelFormatError(f"{str(path)!r} is damaged: it has no operators")
    for name in walk.files:
        other = path.parent / name
        if name != data_of(path).name or leads_elsewhere(other, path.parent) or not other.is_file():
            raise ModelFormatError(
                f"{str(path)!r} is refused: it has weights in {shown(name)}, and only {data_of(path).name!r} in its "
                "own folder is legal"
            )
        size += other.stat().st_size
    if walk.numbers > _MOST_PER_BYTE * size:
        raise ModelFormatError(
            f"{str(path)!r} is damaged: its weights have {walk.numbers:,} numbers, and it has {size:,} bytes"
        )
    return OnnxFacts(operators=frozenset(walk.operators), nodes=walk.nodes, files=frozenset(walk.files))


def data_of(graph: Path) -> Path:
    """The file beside a graph with its weights, where those do not fit into a protocol buffer of 2 GB."""
    return graph.with_name(graph.name + _DATA)


def graph_bytes(folder: Path) -> int:
    """Of the graphs in a folder, and of their weights."""
    files = (path for name in ONNX_GRAPHS for path in (folder / name, data_of(folder / name)))
    return sum(path.stat().st_size for path in files if path.is_file())


class _RefusedError(Exception):
    """A graph that is not run here."""


class _Walk:
    """Collects operators and names of files, and counts the numbers of the weights."""

    def __init__(self) -> None:
        self.nodes, self.operators, self.files = 0, set[str](), set[str]()
        self.numbers = 0

    def model(self, view: memoryview) -> None:
        for number, value in _fields(view):
            if number == _MODEL_FUNCTIONS:
                raise _RefusedError("it defines operators of its own")
            if number == _MODEL_TRAINING:
                raise _RefusedError("it says how to train it")
            if number == _MODEL_GRAPH:
                self._graph(value, 0)

    def _graph(self, view: memoryview, depth: int) -> None:
        if depth > _DEEPEST:
            raise _RefusedError(f"its graphs are nested deeper than {_DEEPEST}")
        nodes, weights = list[Node](), list[str]()
        for number, value in _fields(view):
            if number == _GRAPH_NODE:
                nodes.append(self._node(value, depth))
            elif number == _GRAPH_TENSOR:
                weights.append(self._tensor(value))
            elif number == _GRAPH_SPARSE:
                raise _RefusedError("it has sparse weights")
        for kind in sized_by_values(nodes, weights):
            raise _RefusedError(f"how much its operator {kind!r} makes depends on the tokens of a prompt")

    def _node(self, view: memoryview, depth: int) -> Node:
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise _RefusedError(f"it has more than {_MOST_NODES:,} operators")
        kind = domain = ""
        names: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: []}
        for number, value in _fields(view):
            if number in names:
                names[number].append(str(value, "utf-8", "replace"))
            elif number == _NODE_TYPE:
                kind = str(value, "utf-8", "replace")
            elif number == _NODE_DOMAIN:
                domain = str(value, "utf-8", "replace")
            elif number == _NODE_ATTRIBUTE:
                self._attribute(value, depth)
        if domain not in _DOMAINS:
            raise _RefusedError(f"it needs the operator {shown(kind)} of {shown(domain)}, which is not ONNX's own")
        if kind in _CONTROL:
            raise _RefusedError(f"it has the operator {kind!r}, which may never end")
        if kind not in OPERATORS:
            raise _RefusedError(f"it has the operator {shown(kind)}, which no export of a P2L model needs")
        self.operators.add(kind)
        return Node(kind, names[_NODE_INPUT], names[_NODE_OUTPUT])

    def _attribute(self, view: memoryview, depth: int) -> None:
        for number, value in _fields(view):
            if number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                self._tensor(value)
            elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                self._graph(value, depth + 1)
            elif number in _ATTRIBUTE_SPARSE:
                raise _RefusedError("it has sparse weights")

    def _tensor(self, view: memoryview) -> str:
        """Its name."""
        name, sizes = "", list[int]()
        for number, value in _values(view):
            if number == _TENSOR_SIZE:
                sizes += [value] if isinstance(value, int) else _packed(value)
            elif isinstance(value, int):
                continue
            elif number == _TENSOR_NAME:
                name = str(value, "utf-8", "replace")
            elif number == _TENSOR_EXTERNAL:
                pair = {key: str(text, "utf-8", "replace") for key, text in _fields(value)}
                if pair.get(_PAIR_KEY, "").lower() == "location":
                    self.files.add(pair.get(_PAIR_VALUE, ""))
        if len(sizes) > _MOST_AXES:
            raise _RefusedError(f"it has weights with {len(sizes)} axes; {_MOST_AXES} are legal")
        self.numbers += prod(sizes)  # negative ones are read as huge
        return name


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of a message that are messages or texts: number and bytes; numbers are passed over.

    Raises:
        ValueError: this is no message.
    """
    for number, value in _values(view):
        if not isinstance(value, int):
            yield number, value


def _values(view: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of a message but for those of fixed length; errors as in `_fields`."""
    place, end = 0, len(view)
    while place < end:
        tag, place = _varint(view, place)
        number, wire = tag >> 3, tag & 7
        if not 0 < number <= _MOST_TAG >> 3:
            raise ValueError(f"a field has the number {number}")
        if wire == _BYTES:
            length, place = _varint(view, place)
            if length > end - place:
                raise ValueError("a field ends behind its message")
            yield number, view[place : place + length]
            place += length
        elif wire == _VARINT:
            value, place = _varint(view, place)
            yield number, value
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            place += 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {wire}")
        if place > end:
            raise ValueError("a number ends behind its message")


def _packed(view: memoryview) -> list[int]:
    """Integers in one field."""
    found: list[int] = []
    place = 0
    while place < len(view) and len(found) <= _MOST_AXES:
        value, place = _varint(view, place)
        found.append(value)
    return found


def _varint(view: memoryview, place: int) -> tuple[int, int]:
    """An integer of variable length, and where it ends."""
    value = shift = 0
    while True:
        byte = view[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
