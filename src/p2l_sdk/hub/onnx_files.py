"""ONNX files, which may be a stranger's: what they hold, told without onnx and without loading a tensor.

An ONNX file is a protocol buffer. `inspect_onnx` walks over its fields (names and numbers from ONNX's own `onnx.proto`)
and skips the weights. Refused are graphs that need more than the runtime's own operators, loops and branches (which may
never end), and weights in files outside the folder.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.hub.files import leads_elsewhere
from p2l_sdk.modeling.limits_p2l import shown

ONNX_FILE, ONNX_REPORT = "model.onnx", "onnx.json"
ONNX_DATA = f"{ONNX_FILE}.data"  # weights that do not fit into a protocol buffer of 2 GB
ONNX_FILES = (ONNX_FILE, ONNX_DATA, ONNX_REPORT)
_DOMAINS = ("", "ai.onnx")  # of operators
_CONTROL = frozenset({"Loop", "Scan", "If", "SequenceMap"})
_MOST_BYTES, _MOST_NODES, _DEEPEST = 64 << 30, 200_000, 8
# numbers of fields
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_TENSOR, _GRAPH_SPARSE = 1, 5, 15
_NODE_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE = (22, 23)
_TENSOR_EXTERNAL, _PAIR_KEY, _PAIR_VALUE = 13, 1, 2
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
        ModelFormatError: it is damaged or very large; needs operators that are not ONNX's own; has a loop or a branch;
            or has weights outside its folder.
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
        if name != ONNX_DATA or leads_elsewhere(other, path.parent) or not other.is_file():
            raise ModelFormatError(
                f"{str(path)!r} is refused: it has weights in {shown(name)}, and only {ONNX_DATA!r} in its own folder "
                "is legal"
            )
    return OnnxFacts(operators=frozenset(walk.operators), nodes=walk.nodes, files=frozenset(walk.files))


class _RefusedError(Exception):
    """A graph that is not run here."""


class _Walk:
    """Collects operators and names of files."""

    def __init__(self) -> None:
        self.nodes, self.operators, self.files = 0, set[str](), set[str]()

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
        for number, value in _fields(view):
            if number == _GRAPH_NODE:
                self._node(value, depth)
            elif number == _GRAPH_TENSOR:
                self._tensor(value)
            elif number == _GRAPH_SPARSE:
                raise _RefusedError("it has sparse weights")

    def _node(self, view: memoryview, depth: int) -> None:
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise _RefusedError(f"it has more than {_MOST_NODES:,} operators")
        kind = domain = ""
        for number, value in _fields(view):
            if number == _NODE_TYPE:
                kind = str(value, "utf-8", "replace")
            elif number == _NODE_DOMAIN:
                domain = str(value, "utf-8", "replace")
            elif number == _NODE_ATTRIBUTE:
                self._attribute(value, depth)
        if domain not in _DOMAINS:
            raise _RefusedError(f"it needs the operator {shown(kind)} of {shown(domain)}, which is not ONNX's own")
        if kind in _CONTROL:
            raise _RefusedError(f"it has the operator {kind!r}, which may never end")
        self.operators.add(kind)

    def _attribute(self, view: memoryview, depth: int) -> None:
        for number, value in _fields(view):
            if number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                self._tensor(value)
            elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                self._graph(value, depth + 1)
            elif number in _ATTRIBUTE_SPARSE:
                raise _RefusedError("it has sparse weights")

    def _tensor(self, view: memoryview) -> None:
        for number, value in _fields(view):
            if number == _TENSOR_EXTERNAL:
                pair = {key: str(text, "utf-8", "replace") for key, text in _fields(value)}
                if pair.get(_PAIR_KEY, "").lower() == "location":
                    self.files.add(pair.get(_PAIR_VALUE, ""))


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of a message that are messages or texts: number and bytes; numbers are passed over.

    Raises:
        ValueError: this is no message.
    """
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
            _, place = _varint(view, place)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            place += 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {wire}")
        if place > end:
            raise ValueError("a number ends behind its message")


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
