"""What the weights of a folder are, told from the headers of their files; their numbers are read in blocks, and only to
see whether all of them are numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.hub.config import is_native
from p2l_sdk.hub.tensors import read_header
from p2l_sdk.modeling.limits_p2l import read_json, shown
from p2l_sdk.modeling.spec_p2l import ADAPTER_CONFIG

WEIGHTS, ADAPTER, HEAD = "model.safetensors", "adapter_model.safetensors", "head.safetensors"
INDEX = f"{WEIGHTS}.index.json"
_BLOCK = 1 << 24  # bytes
# of each floating type: the integers that hold it, and the bits of the exponent, all of which are set in NaN and inf
_EXPONENT = {
    "F64": ("<u8", 0x7FF << 52),
    "F32": ("<u4", 0xFF << 23),
    "F16": ("<u2", 0x1F << 10),
    "BF16": ("<u2", 0xFF << 7),
    "F8_E5M2": ("u1", 0x1F << 2),
    "F8_E4M3": ("u1", 0x7F),  # of this type, NaN has all bits set, and there is no infinity
}
FLOATING = frozenset({"F64", "F32", "F16", "BF16"})  # what models compute with


@dataclass(frozen=True)
class Stored:
    """A tensor in a file.

    Attributes:
        dtype: as safetensors names it, such as "F32".
        shape: its shape.
        file: where it stands.
        place: of its first byte in the file.
    """

    dtype: str
    shape: tuple[int, ...]
    file: Path
    place: int

    @property
    def size(self) -> int:
        """Its numbers."""
        return math.prod(self.shape)


def weight_files(folder: Path, config: Mapping[str, Any]) -> list[Path]:
    """The files from which the weights of a model are read; others beside them are not.

    Raises:
        ModelFormatError: an index of split weights is damaged.
    """
    if (folder / HEAD).is_file() and is_native(dict(config)):  # of an embedded model, which shares its text model
        return [folder / HEAD]
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        places = read_json(folder / INDEX, dict).get("weight_map")
        names = sorted(set(map(str, places.values()))) if isinstance(places, dict) else []
        return [folder / name for name in names if "/" not in name and (folder / name).is_file()]
    if (folder / ADAPTER_CONFIG).is_file() and (folder / ADAPTER).is_file():
        return [folder / ADAPTER]
    return []


def stored(files: list[Path]) -> dict[str, Stored]:
    """The tensors of safetensors files by name, from their headers.

    Raises:
        ModelFormatError: a header is damaged.
    """
    found: dict[str, Stored] = {}
    for path in files:
        try:
            with path.open("rb") as file:
                header, start = read_header(file, path)
        except OSError as error:
            raise ModelFormatError(f"{str(path)!r} cannot be read: {error.strerror}") from None
        for name, entry in header.items():
            if name != "__metadata__":
                found[name] = Stored(entry["dtype"], tuple(entry["shape"]), path, start + entry["data_offsets"][0])
    return found


def is_finite(tensor: Stored) -> bool:
    """Whether a tensor is without NaN and infinite values; it is read in blocks."""
    kind, exponent = _EXPONENT.get(tensor.dtype, ("", 0))
    if not kind:
        return True
    dtype = np.dtype(kind)
    mask, left = dtype.type(exponent), tensor.size
    with tensor.file.open("rb") as file:
        file.seek(tensor.place)
        while left:
            values = np.frombuffer(file.read(min(_BLOCK, left * dtype.itemsize)), dtype)
            if not len(values):  # the file was cut meanwhile
                return False
            left -= len(values)
            if ((values & mask) == mask).any():
                return False
    return True


def differences(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """What of the shapes of tensors is not as `config.json` asks for, a sentence each."""
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            yield f"the weights have no tensor {shown(name)}, which config.json asks for"
        elif name not in expected:
            yield f"the weights have a tensor {shown(name)}, of which config.json knows nothing"
        elif found[name] != expected[name]:
            yield (
                f"tensor {shown(name)} has the shape {shown(found[name])}, and config.json asks for "
                f"{shown(expected[name])}"
            )
