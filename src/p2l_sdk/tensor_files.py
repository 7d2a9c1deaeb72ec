"""Some tensors of a safetensors file replaced, all others copied byte for byte: no torch, no memory for the weights.

A file is the length of its header (8 bytes, little-endian), the header (JSON: dtype, shape and place of each tensor),
and the tensors' bytes without gaps.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import ModelFormatError

_ALIGNMENT, _CHUNK = 8, 1 << 24


def replace_tensors(source: Path, target: Path, changed: Mapping[str, np.ndarray]) -> None:
    """Copy a safetensors file with some tensors changed; their shapes may differ, their types stay.

    Args:
        changed: tensors by name, float arrays; those that the file does not hold are left out.

    Raises:
        ModelFormatError: a tensor to be changed is of no floating type that numpy or this function can write.
    """
    with source.open("rb") as old, target.open("wb") as new:
        (size,) = struct.unpack("<Q", old.read(8))
        header: dict[str, Any] = json.loads(old.read(size))
        start, place = 8 + size, 0
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        by_place = sorted(entries, key=lambda name: entries[name]["data_offsets"])
        bytes_of = {name: _bytes(name, changed[name], entries[name]["dtype"]) for name in by_place if name in changed}
        written = {}
        for name in by_place:
            first, last = entries[name]["data_offsets"]
            length = len(bytes_of[name]) if name in changed else last - first
            shape = list(changed[name].shape) if name in changed else entries[name]["shape"]
            written[name] = {**entries[name], "shape": shape, "data_offsets": [place, place + length]}
            place += length
        metadata = {"__metadata__": header["__metadata__"]} if "__metadata__" in header else {}
        text = json.dumps({**metadata, **written}, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        new.write(struct.pack("<Q", len(text)) + text)
        for name in by_place:
            if name in changed:
                new.write(bytes_of[name])
                continue
            first, last = entries[name]["data_offsets"]
            old.seek(start + first)
            for done in range(0, last - first, _CHUNK):
                new.write(old.read(min(_CHUNK, last - first - done)))


def tensor_names(path: Path) -> list[str]:
    """Names of the tensors of a safetensors file."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        return [name for name in json.loads(file.read(size)) if name != "__metadata__"]


def _bytes(name: str, values: np.ndarray, dtype: str) -> bytes:
    if dtype in ("F64", "F32", "F16"):
        return values.astype(f"<f{int(dtype[1:]) // 8}").tobytes()
    if dtype == "BF16":  # the upper half of a float32, rounded to the nearest, ties to even
        bits = values.astype("<f4").view("<u4")
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
    raise ModelFormatError(f"tensor {name!r} is of type {dtype}; only F64, F32, F16 and BF16 can be edited")
