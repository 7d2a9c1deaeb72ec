"""Hostile exported graphs, written byte by byte: what hides from the look at a file before a runtime reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hostile import Case

from p2l_sdk.hub.onnx_files import inspect_onnx

DAMAGED, OUTSIDE = "is no ONNX file", "is refused: it has weights in"


def _varint(value: int) -> bytes:
    head = b""
    while value > 0x7F:
        head += bytes([value & 0x7F | 0x80])
        value >>= 7
    return head + bytes([value])


def _field(number: int, payload: bytes | str | int, beyond: int = 0) -> bytes:
    """A field; `beyond` are bits of its tag above the 32 that readers of protocol buffers use."""
    if isinstance(payload, int):
        return _varint(number << 3) + _varint(payload)
    content = payload.encode() if isinstance(payload, str) else payload
    return _varint((number << 3 | 2) + (beyond << 32)) + _varint(len(content)) + content


def _node(kind: str, *attributes: bytes, domain: str = "", takes: str = "x", gives: str = "y") -> bytes:
    names = [*(_field(1, name) for name in takes.split()), _field(2, gives)]
    parts = [*names, _field(4, kind), *(_field(5, each) for each in attributes)]
    return b"".join(parts) + (_field(7, domain) if domain else b"")


def _tensor(location: str = "../secret", key: str = "location", beyond: int = 0) -> bytes:
    """Weights in another file."""
    pair = _field(1, key) + _field(2, location)
    return _field(1, 2) + _field(2, 1) + _field(8, "w") + _field(13, pair, beyond) + _field(14, 1)


def _graph(*more: bytes) -> bytes:
    return _field(1, _node("Relu")) + b"".join(more)


def _model(graph: bytes, *more: bytes) -> bytes:
    return _field(1, 10) + _field(7, graph) + b"".join(more)


def _case(name: str, content: bytes, says: str | None) -> Case:
    def run(place: Path) -> Any:
        (place / "secret").write_bytes(bytes(8))
        (place / "model").mkdir()
        (place / "model" / "other.data").write_bytes(bytes(8))
        (place / "model" / "model.onnx").write_bytes(content)
        return inspect_onnx(place / "model" / "model.onnx").nodes

    return Case(name, run, says, None if says else (1).__eq__)


def _made(*nodes: tuple[str, str, str], more: tuple[bytes, ...] = ()) -> bytes:
    """A model of operators (type, what each takes, what it gives) with one weight, `w`."""
    weight = _field(1, 2) + _field(2, 7) + _field(8, "w") + _field(9, bytes(16))
    found = [_field(1, _node(kind, takes=takes, gives=gives)) for kind, takes, gives in nodes]
    return _model(b"".join([*found, _field(5, weight), *more]))


def _sized(*sizes: int, packed: bool = False) -> bytes:
    """Weights of this shape, of 8 bytes."""
    shape = _field(1, b"".join(map(_varint, sizes))) if packed else b"".join(_field(1, size) for size in sizes)
    return _field(5, shape + _field(2, 1) + _field(8, "v") + _field(9, bytes(8)))


def _case_of(name: str, nodes: list[tuple[str, str, str]], says: str | None) -> Case:
    made = _case(name, _made(*nodes), says)
    return made if says else Case(name, made.run, None, len(nodes).__eq__)


def _sparse(values: bytes) -> bytes:
    return _field(1, values) + _field(3, 4)


ELSEWHERE = ["../secret", "/etc/passwd", "other.data", "model.onnx", "./model.onnx.data", "model.onnx.data\x00", ""]
ELSEWHERE += ["*/_ORT_MEM_ADDR_/*", "..\\secret", "file:///etc/passwd"]
BODY = _field(6, _graph(_field(5, _tensor())))
BY_TOKENS = "depends on the tokens of a prompt"
SIZED = {
    "ConstantOfShape": "x",
    "DFT": "w x",
    "Expand": "w x",
    "OneHot": "w x w",
    "Pad": "w x",
    "Range": "w x w",
    "Tile": "w x",
}
CASES = [
    _case("whole", _model(_graph()), None),
    _case("weights-here", _model(_graph(_field(5, _field(1, 2) + _field(2, 1) + _field(9, bytes(8))))), None),
    *(
        _case(f"outside-{i}", _model(_graph(_field(5, _tensor(location)))), OUTSIDE)
        for i, location in enumerate(ELSEWHERE)
    ),
    _case("key-in-capitals", _model(_graph(_field(5, _tensor(key="LOCATION")))), OUTSIDE),
    *(
        _case(f"tag-of-more-bits-{bits}", _model(_graph(_field(5, _tensor(beyond=bits)))), DAMAGED)
        for bits in (1, 2, 4, 7, 8, 1 << 20)
    ),
    *(_case(f"weights-of-more-bits-{bits}", _model(_graph(_field(5, _tensor(), bits))), DAMAGED) for bits in (1, 7)),
    _case("graph-of-more-bits", _model(_graph()) + _field(7, _graph(_field(5, _tensor())), 1), DAMAGED),
    _case("field-0", _model(_graph(_field(0, b"x"))), DAMAGED),
    _case("two-graphs", _model(_graph(), _field(7, _field(5, _tensor()))), OUTSIDE),
    _case("group", _model(_graph(_varint(5 << 3 | 3), _tensor(), _varint(5 << 3 | 4))), DAMAGED),
    _case("sparse", _model(_graph(_field(15, _sparse(_tensor())))), "it has sparse weights"),
    _case("sparse-of-a-node", _model(_field(1, _node("Constant", _field(22, _sparse(_tensor()))))), "sparse weights"),
    _case("sparse-ones", _model(_field(1, _node("Constant", _field(23, _sparse(_tensor()))))), "sparse weights"),
    _case("weights-of-a-node", _model(_field(1, _node("Constant", _field(5, _tensor())))), OUTSIDE),
    _case("list-of-weights", _model(_field(1, _node("Constant", _field(10, _tensor())))), OUTSIDE),
    _case("weights-of-a-body", _model(_field(1, _node("Relu", BODY))), OUTSIDE),
    _case("list-of-bodies", _model(_field(1, _node("Relu", _field(11, _graph(_field(5, _tensor())))))), OUTSIDE),
    _case("training", _model(_graph(), _field(20, _field(2, _field(5, _tensor())))), "it says how to train it"),
    _case("functions", _model(_graph(), _field(25, _field(7, _node("Relu")))), "operators of its own"),
    *(
        _case(f"control-{kind}", _model(_field(1, _node(kind))), "which may never end")
        for kind in ("Loop", "Scan", "If", "SequenceMap")
    ),
    *(
        _case(f"domain-{domain!r}", _model(_field(1, _node("Relu", domain=domain))), "not ONNX's own")
        for domain in ("com.microsoft", "ai.onnx.ml", "ai.onnx.training", "AI.ONNX", " ", "org.pytorch.aten", "\x00")
    ),
    *(
        _case(f"operator-{kind}", _model(_field(1, _node(kind))), "which no export of a P2L model needs")
        for kind in (
            "Resize",
            "RandomNormal",
            "NonZero",
            "Unique",
            "Compress",
            "LSTM",
            "StringConcat",
            "RegexFullMatch",
        )
    ),
    *(
        _case(f"operator-{kind!r}", _model(_field(1, _node(kind))), "which no export of a P2L model needs")
        for kind in ("RELU", "Relu\x00", "", "Own")
    ),
    *(_case_of(f"tokens-size-{kind}", [(kind, takes, "y")], BY_TOKENS) for kind, takes in SIZED.items()),
    _case_of("tokens-size-later", [("Cast", "x", "a"), ("Concat", "w a", "b"), ("Expand", "w b", "y")], BY_TOKENS),
    _case_of("tokens-size-disguised", [("Shape", "x", "a"), ("Mul", "a x", "a2"), ("Expand", "w a2", "y")], BY_TOKENS),
    _case_of("tokens-size-found", [("ArgMax", "x", "a"), ("Range", "w a w", "y")], BY_TOKENS),
    _case_of("tokens-size-not-zero", [("Shape", "x", "a"), ("Equal", "a w", "b"), ("Expand", "w b", "y")], BY_TOKENS),
    _case_of("tokens-size-before-its-source", [("Expand", "w a", "y"), ("Shape", "x", "a")], BY_TOKENS),
    _case_of("tokens-size-of-a-shadow", [("Cast", "x", "w"), ("Expand", "x w", "y")], BY_TOKENS),
    _case_of("size-of-a-shape", [("Shape", "x", "a"), ("Concat", "a w", "b"), ("Expand", "x b", "y")], None),
    _case_of("size-of-a-shape-of-values", [("Mul", "x x", "a"), ("Shape", "a", "b"), ("Expand", "w b", "y")], None),
    _case("shape-larger-than-the-file", _model(_graph(_sized(10**6, 10**6))), "weights have 1,000,000,000,000 numbers"),
    _case("shape-packed", _model(_graph(_sized(10**6, 10**6, packed=True))), "numbers, and it has"),
    _case("shape-of-63-bits", _model(_graph(_sized(2**63 - 1))), "numbers, and it has"),
    _case("shape-negative", _model(_graph(_sized(2**64 - 1))), "numbers, and it has"),
    _case("shape-of-two-negatives", _model(_graph(_sized(2**64 - 1, 2**64 - 1))), "numbers, and it has"),
    _case("shape-of-many-axes", _model(_graph(_sized(*[2] * 64))), "weights with 64 axes"),
    _case("shape-of-many-axes-packed", _model(_graph(_sized(*[1] * 100_000, packed=True))), "axes; 32 are legal"),
    _case("shape-that-fits", _model(_graph(_sized(2))), None),
    _case("shape-many-small", _model(_graph(*[_sized(400)] * 100)), "numbers, and it has"),
    _case("length-beyond", _model(_graph(_varint(5 << 3 | 2) + _varint(1 << 62))), DAMAGED),
    _case("number-without-end", _model(_graph(_varint(5 << 3) + b"\xff" * 40)), DAMAGED),
    _case("million-operators", _model(_graph(_field(1, _node("Relu")) * 200_001)), "more than 200,000 operators"),
]
