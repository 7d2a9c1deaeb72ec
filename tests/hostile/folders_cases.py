"""Hostile folders: weights that lie, files that are not what they seem, code beside the weights."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile import Case, command
from hostile_models import ask, copy_of, edited, is_a_board, safetensors


def _static(name: str, damage: Callable[[Path], Any], says: str | None = None, **more: Any) -> Case:
    def run(place: Path) -> Any:
        folder = copy_of("static", place)
        damage(folder)
        return ask(folder)

    return Case(name, run, says=says, **({} if says else {"right": is_a_board}), **more)


def _tensor(name: str, change: Callable[[np.ndarray], np.ndarray | None], says: str) -> Case:
    def damage(folder: Path) -> None:
        from safetensors.numpy import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        tensor = change(tensors.pop(name))
        save_file(
            tensors | ({} if tensor is None else {name: np.ascontiguousarray(tensor)}), folder / "model.safetensors"
        )

    return _static(f"{name}-{len(says)}-{says[:12].replace(' ', '_')}", damage, says)


def _weights(name: str, content: bytes) -> Case:
    return _static(
        f"weights-{name}",
        lambda folder: (folder / "model.safetensors").write_bytes(content),
        "damaged|cannot be read as JSON|is no JSON",
    )


class _Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Bomb()))


def _inspected(damage: Callable[[Path], Any]) -> Callable[[Path], list[str]]:
    def run(place: Path) -> list[str]:
        folder = copy_of("static", place)
        damage(folder)
        return json.loads(command("inspect", str(folder), "--json"))["odd"]

    return run


def _says(text: str) -> Callable[[list[str]], bool]:
    return lambda odd: any(text in sentence for sentence in odd)


def _added(**tensors: np.ndarray) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        from safetensors.numpy import load_file, save_file

        old = load_file(folder / "model.safetensors")
        save_file(old | tensors, folder / "model.safetensors")

    return damage


def _edit_of_a_liar(place: Path) -> Any:
    """A header that is wrong only for the code that copies weights byte for byte."""
    from p2l_sdk.hub.tensors import tensor_names

    (place / "x.safetensors").write_bytes(
        safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 80]}}, b"x" * 80)
    )
    return tensor_names(place / "x.safetensors")


def _folder_is_a_file(place: Path) -> Any:
    (place / "model").write_text("{}")
    return ask(place / "model")


F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADERS = {
    "empty": b"",
    "short": b"\x01\x02",
    "no-header": safetensors(b""),
    "text": b"hello, I am no tensor at all",
    "longer-than-file": safetensors({}, length=10**6),
    "longest": safetensors({}, length=2**64 - 1),
    "negative": safetensors({}, length=2**63),
    "not-json": safetensors(b"{]"),
    "list": safetensors([]),
    "deep": safetensors(b"[" * 10**5),
    "digits": safetensors(b'{"a": ' + b"9" * 5000 + b"}"),
    "shape-below-zero": safetensors({"a": {**F32, "shape": [-1, -1], "data_offsets": [0, 4]}}, b"1234"),
    "shape-of-fractions": safetensors({"a": {**F32, "shape": [1.0], "data_offsets": [0, 4]}}, b"1234"),
    "shape-of-5000-axes": safetensors({"a": {**F32, "shape": [1] * 5000, "data_offsets": [0, 4]}}, b"1234"),
    "metadata-of-numbers": safetensors({"a": {**F32, "data_offsets": [0, 4]}, "__metadata__": {"a": 5}}, b"1234"),
    "beyond": safetensors({"a": {**F32, "data_offsets": [0, 10**12]}}, b"1234"),
    "below": safetensors({"a": {**F32, "data_offsets": [-4, 0]}}, b"1234"),
    "backwards": safetensors({"a": {**F32, "data_offsets": [4, 0]}}, b"1234"),
    "overlap": safetensors({"a": F32, "b": F32}, b"1234"),
    "hole": safetensors({"a": F32, "b": {**F32, "data_offsets": [8, 12]}}, b"1" * 12),
    "left-over": safetensors({"a": F32}, b"1" * 400),
    "shape": safetensors({"a": {**F32, "shape": [10**9, 10**9]}}, b"1234"),
    "negative-shape": safetensors({"a": {**F32, "shape": [-1]}}, b"1234"),
    "type": safetensors({"a": {**F32, "dtype": "F99"}}, b"1234"),
    "no-type": safetensors({"a": {"shape": [1]}}, b"1234"),
    "two-names": safetensors(
        b'{"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b"1234",
    ),
    "html": b"<!DOCTYPE html><html>404</html>" * 10,
    "pickle": pickle.dumps(_Bomb()),
    "zeros": b"\x00" * 1000,
}
CASES = [
    *(_weights(key, content) for key, content in HEADERS.items()),
    *(
        _static(f"no-{name}", lambda folder, name=name: (folder / name).unlink(), f"has no {name}")
        for name in ("config.json", "model.safetensors", "tokenizer.json")
    ),
    *(
        _static(
            f"{name}-is-a-folder",
            lambda folder, name=name: ((folder / name).unlink(), (folder / name).mkdir()),
            f"has no {name}",
        )
        for name in ("config.json", "model.safetensors", "tokenizer.json")
    ),
    _static("weights-only-pickled", _pickled, "has no model.safetensors"),
    _static("code-beside-the-weights", lambda folder: (folder / "handler.py").write_text("raise SystemExit")),
    _tensor("backbone.table", lambda x: x.astype(np.float64)[:, :2], "shape"),
    _tensor("backbone.table", lambda x: x.astype(np.int64), "must be floating"),
    _tensor("backbone.table", lambda x: x.astype(np.uint8), "is of type uint8"),
    _tensor("backbone.table", lambda x: x * np.nan, "NaN or infinite"),
    _tensor("backbone.table", lambda x: x * 3e38, "holds NaN or infinite|coefficients"),
    _tensor("backbone.table", lambda x: x[:0], "has the shape"),
    _tensor("backbone.log_weight", lambda x: x + 1e5, "must lie within -40"),
    _tensor("backbone.log_weight", lambda x: x - 1e5, "log_weight' must lie"),
    _tensor("backbone.log_weight", lambda x: x[:, None], "the config asks for"),
    _tensor("backbone.words.idf", lambda x: -x, "idf' must lie within 0"),
    _tensor("backbone.words.idf", lambda x: x * 1e6, "must lie within 0"),
    _tensor("backbone.words.table", lambda x: x * 3e38, "holds NaN or infinite|coefficients"),
    _tensor("backbone.words.table", lambda x: None, "it is missing"),
    _tensor("head.coefs.weight", lambda x: None, "it is missing"),
    _tensor("head.coefs.weight", lambda x: x * np.inf, "damaged"),
    _tensor("head.coefs.weight", lambda x: x.astype(bool), "type bool"),
    _tensor("head.coefs.weight", lambda x: np.sign(x) * np.float32(3e38), "gives NaN or infinite coefficients"),
    _tensor("head.coefs.bias", lambda x: x[:2], "head.coefs.bias"),
    _static("one-tensor-more", _added(extra=np.ones(3, np.float32)), "no such tensor"),
    _static("a-tensor-of-eta", _added(**{"head.eta.bias": np.ones(1, np.float32)}), "no such tensor"),
    Case("names-of-a-lying-header", _edit_of_a_liar, says="does not fill its place"),
    Case("folder-is-a-file", _folder_is_a_file, says="there is no folder"),
    Case(
        "inspect-no-weights",
        _inspected(lambda f: (f / "model.safetensors").unlink()),
        right=_says("no weights (*.safetensors), so it cannot be loaded"),
    ),
    Case("inspect-pickle", _inspected(lambda f: (f / "x.pkl").write_bytes(b"")), right=_says("may be a pickle")),
    Case("inspect-code", _inspected(lambda f: (f / "evil.py").write_text("")), right=_says("never run here")),
    Case(
        "inspect-old-code",
        _inspected(lambda f: (f / "spec_p2l.py").write_text("")),
        right=_says("differs from this version's, in 1 of"),
    ),
    Case("inspect-library", _inspected(lambda f: (f / "k.so").write_bytes(b"")), right=_says("is a program")),
    Case(
        "inspect-link",
        _inspected(lambda f: (f / "x").symlink_to("/etc/hostname")),
        right=_says("a link to a file elsewhere"),
    ),
    Case(
        "inspect-weights", _inspected(lambda f: (f / "model.safetensors").write_bytes(b"x")), right=_says("no header")
    ),
    Case(
        "inspect-auto-map",
        _inspected(
            lambda f: (f / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["x.Y", null]}}')
        ),
        right=_says("which is never run"),
    ),
    Case("inspect-nothing-odd", _inspected(lambda f: None), right=lambda odd: odd == []),
    Case(
        "inspect-quantized",
        _inspected(lambda f: edited(f / "config.json", lambda c: c | {"quantization_config": {"a": 1}})),
        right=_says("asks transformers for other code"),
    ),
]
