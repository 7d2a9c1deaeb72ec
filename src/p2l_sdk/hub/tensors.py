"""Rewriting safetensors files without torch and without loading the weights: replacing some tensors, or splitting a
file into several; everything else is copied byte for byte.

A safetensors file consists of the header's length (8 bytes, little-endian), the header (JSON: dtype, shape and offsets
of each tensor), and the tensors' bytes without gaps.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.hub.files import plain_files
from p2l_sdk.modeling.limits_p2l import parse_json, read_json, shown

_ALIGNMENT, _CHUNK = 8, 1 << 24
_TABLE, _LAYERS = ("vocab_size", "hidden_size", "embedding_size"), ("num_hidden_layers", "intermediate_size")
_FACTOR = 4  # what a config asks for may be shared between layers
_LONGEST_HEADER = 100_000_000  # bytes, as in the safetensors library
_MOST_AXES = 32  # of a tensor
_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
}
_BITS |= {"U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64}


def replace_tensors(
    source: Path, target: Path, changed: Mapping[str, np.ndarray], added: Mapping[str, np.ndarray] | None = None
) -> None:
    """Copy a safetensors file, replacing some tensors; shapes may change, dtypes stay.

    Args:
        source: file to copy.
        target: file to write.
        changed: new values by tensor name, float arrays; names that the file does not contain are ignored.
        added: tensors that the file does not contain, to be written as F32 behind the others.

    Raises:
        ModelFormatError: the dtype of a tensor to replace is not F64, F32, F16 or BF16.
    """
    with source.open("rb") as old, target.open("wb") as new:
        header, start = read_header(old, source)
        place = 0
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        by_place = _by_place(entries)
        bytes_of = {name: _bytes(name, changed[name], entries[name]["dtype"]) for name in by_place if name in changed}
        written = {}
        for name in by_place:
            first, last = entries[name]["data_offsets"]
            length = len(bytes_of[name]) if name in changed else last - first
            shape = list(changed[name].shape) if name in changed else entries[name]["shape"]
            written[name] = {**entries[name], "shape": shape, "data_offsets": [place, place + length]}
            place += length
        for name, values in (added or {}).items():
            bytes_of[name] = _bytes(name, values, "F32")
            offsets = [place, place := place + len(bytes_of[name])]
            written[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": offsets}
        _write_header(new, header, written)
        for name in by_place:
            if name in changed:
                new.write(bytes_of[name])
                continue
            _copy(old, new, start, entries[name])
        for name in added or {}:
            new.write(bytes_of[name])


def split_tensors(source: Path, folder: Path, limit: int) -> list[Path]:
    """Split a safetensors file into shards, named and indexed as transformers expects.

    Args:
        source: file to split, e.g. `model.safetensors`.
        folder: folder for the shards and the index.
        limit: bytes of tensors per shard; a larger tensor gets a shard of its own.

    Returns:
        The files written, the index last.
    """
    with source.open("rb") as old:
        header, start = read_header(old, source)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        length = {name: last - first for name, (first, last) in ((n, e["data_offsets"]) for n, e in entries.items())}
        shards: list[list[str]] = [[]]
        for name in _by_place(entries):
            if shards[-1] and sum(length[other] for other in shards[-1]) + length[name] > limit:
                shards.append([])
            shards[-1].append(name)
        files: list[Path] = []
        place_of: dict[str, str] = {}
        for number, names in enumerate(shards, 1):
            files.append(folder / f"{source.stem}-{number:05}-of-{len(shards):05}{source.suffix}")
            ends = list(itertools.accumulate(length[name] for name in names))
            offsets = zip([0, *ends], ends, strict=False)
            with files[-1].open("wb") as new:
                written = {n: {**entries[n], "data_offsets": list(o)} for n, o in zip(names, offsets, strict=True)}
                _write_header(new, header, written)
                for name in names:
                    _copy(old, new, start, entries[name])
            place_of |= dict.fromkeys(names, files[-1].name)
    index = folder / f"{source.name}.index.json"
    total = {"total_size": sum(length.values())}
    index.write_text(json.dumps({"metadata": total, "weight_map": place_of}, indent=1) + "\n", encoding="utf-8")
    return [*files, index]


def _by_place(entries: Mapping[str, Any]) -> list[str]:
    return sorted(entries, key=lambda name: entries[name]["data_offsets"])


def _write_header(new: BinaryIO, header: Mapping[str, Any], entries: Mapping[str, Any]) -> None:
    metadata = {"__metadata__": header["__metadata__"]} if "__metadata__" in header else {}
    text = json.dumps({**metadata, **entries}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    new.write(struct.pack("<Q", len(text)) + text)


def _copy(old: BinaryIO, new: BinaryIO, start: int, entry: Mapping[str, Any]) -> None:
    first, last = entry["data_offsets"]
    old.seek(start + first)
    for done in range(0, last - first, _CHUNK):
        new.write(old.read(min(_CHUNK, last - first - done)))


def tensor_names(path: Path) -> list[str]:
    """Names of the tensors in a safetensors file."""
    with path.open("rb") as file:
        return [name for name in read_header(file, path)[0] if name != "__metadata__"]


def read_header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    """The header of an open safetensors file, and where its tensors begin.

    Args:
        file: at its beginning.
        path: of the file, for the message.

    Raises:
        ModelFormatError: there is none, it is too large, or it says what the file does not hold: tensors overlap, leave
            gaps, or do not have the bytes of their shape.
    """
    size = int.from_bytes(start := file.read(8), "little")
    whole = path.stat().st_size
    if len(start) < 8 or not 2 <= size <= min(whole - 8, _LONGEST_HEADER):
        raise ModelFormatError(f"{str(path)!r} is damaged: it has no header of a safetensors file")
    header = parse_json(file.read(size), f"the header of {str(path)!r}", dict)
    end = 0
    try:
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        for entry in sorted(entries, key=lambda entry: entry["data_offsets"]):
            (first, last), bits = entry["data_offsets"], _BITS[entry["dtype"]]
            if len(entry["shape"]) > _MOST_AXES or not all(type(n) is int and n >= 0 for n in entry["shape"]):
                raise ValueError(f"a tensor has the shape {shown(entry['shape'])}")
            if first != end or last < first or math.prod(entry["shape"], start=bits) != 8 * (last - first):
                raise ValueError(f"a tensor of shape {shown(entry['shape'])} does not fill its place")
            end = last
        if not all(type(text) is str for text in header.get("__metadata__", {}).values()):
            raise ValueError("its metadata are not all texts")
        if end != whole - 8 - size:
            raise ValueError("its tensors do not fill the file")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelFormatError(f"the header of {str(path)!r} is damaged: {shown(error)}") from None
    return header, 8 + size


def read_ending(folder: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Some tensors of a folder's safetensors files as float32, without reading the others.

    Args:
        folder: of a model, or of an adapter, whose tensors have a prefix in their names.
        names: what the tensors' names end with.

    Raises:
        ModelFormatError: one is missing, or is not of floating numbers.
    """
    found: dict[str, np.ndarray] = {}
    files = plain_files(folder, "*.safetensors")
    wanted = list(names)
    for path in files:
        with path.open("rb") as file:
            header, start = read_header(file, path)
            for key, entry in header.items():
                name = next((name for name in wanted if key == name or key.endswith(f".{name}")), None)
                if name is not None:
                    file.seek(start + entry["data_offsets"][0])
                    data = file.read(entry["data_offsets"][1] - entry["data_offsets"][0])
                    found[name] = _floats(name, data, entry["dtype"]).reshape(entry["shape"])
    for name in wanted:
        if name not in found:
            raise ModelFormatError(f"{str(folder)!r} is no whole P2L model: its weights have no tensor {name!r}")
    return found


def require_held(folder: Path) -> None:
    """Raise ModelFormatError if a folder's weights are damaged, or hold far fewer numbers than its `config.json` asks
    for: building the model would take the memory of the difference."""
    files = plain_files(folder, "model*.safetensors")
    if not files:
        return
    _check_index(folder)
    held = 0
    for file in files:
        with file.open("rb") as opened:
            header, _ = read_header(opened, file)
        held += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    config = read_json(folder / "config.json", dict)
    backbone = config.get("backbone_config") or {}
    stated = {name: backbone.get(name) for name in (*_TABLE, *_LAYERS)}
    sizes = {name: size for name, size in stated.items() if isinstance(size, int) and not isinstance(size, bool)}
    names = config.get("models")
    width = sizes.get("hidden_size", sizes.get("embedding_size", 1))
    asked = {
        "a table of vocab_size x hidden_size": sizes.get("vocab_size", 1) * width,
        "num_hidden_layers of hidden_size": sizes.get("num_hidden_layers", 1) * width,
        "intermediate_size x hidden_size": sizes.get("intermediate_size", 1) * width,
        "models x the width of the head": (len(names) if isinstance(names, list) else 1)
        * (config.get("head_hidden_size") or 1),
    }
    for what, numbers in asked.items():
        if numbers > _FACTOR * held:
            raise ModelFormatError(
                f"weights and config of {str(folder)!r} do not belong together: config.json asks for {what}, "
                f"{numbers:,} numbers, and the weights hold {held:,} in all"
            )


def _check_index(folder: Path) -> None:
    """Raise ModelFormatError if the index of split weights names anything but files of the folder."""
    path = folder / "model.safetensors.index.json"
    if not path.is_file():
        return
    places = read_json(path, dict).get("weight_map")
    names = set(map(str, places.values())) if isinstance(places, dict) else set()
    for name in sorted(names):
        if "/" in name or not name.endswith(".safetensors") or not (folder / name).is_file():
            raise ModelFormatError(f"{str(path)!r} names {shown(name)}, which is no .safetensors file of its folder")
    if not names:
        raise ModelFormatError(f"{str(path)!r} is no index of weights: it has no weight_map")


def _floats(name: str, data: bytes, dtype: str) -> np.ndarray:
    if dtype in ("F64", "F32", "F16"):
        return np.frombuffer(data, f"<f{int(dtype[1:]) // 8}").astype(np.float32)
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype(np.float32)
    raise ModelFormatError(f"tensor {name!r} is of type {dtype}; it must be floating")


def _bytes(name: str, values: np.ndarray, dtype: str) -> bytes:
    if dtype in ("F64", "F32", "F16"):
        return values.astype(f"<f{int(dtype[1:]) // 8}").tobytes()
    if dtype == "BF16":  # the upper half of a float32, rounded to the nearest, ties to even
        bits = values.astype("<f4").view("<u4")
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
    raise ModelFormatError(f"tensor {name!r} is of type {dtype}; only F64, F32, F16 and BF16 can be edited")
