"""Folders saved by `datasets` (`save_to_disk`), read as what they are: Arrow streams, named by two small JSON files.

Arrow trusts its files: an offset that points beyond a buffer crashes the process, a compressed buffer unpacks to
whatever it says, and a list of nulls takes no space for any number of them. So each message is looked at before it is
read, and each batch is validated before a value is taken from it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2l_sdk.errors import MissingExtraError, ModelFormatError, TableError
from p2l_sdk.modeling.limits_p2l import read_json, shown
from p2l_sdk.tables.grids import require_few_columns
from p2l_sdk.tables.limits import PACKED_TIMES, is_bomb
from p2l_sdk.tables.parquet import pieces

_SPLITS, _STATE = "dataset_dict.json", "state.json"
_MOST_VALUES = 1 << 24  # of a column in a batch, those in lists included
_DEEPEST = 32  # types within one another
_RECORDS, _DICTIONARY = 3, 2  # kinds of message
_ROWS = 20_000  # of a chunk


def is_saved(folder: Path) -> bool:
    """Whether a folder was saved by `datasets`."""
    return any((folder / file).exists() for file in (_SPLITS, _STATE))


@dataclass(frozen=True)
class SavedTable:
    """A saved data set, or one split of it.

    Attributes:
        files: its Arrow files.
        split: its name; None if it has none.
    """

    files: tuple[Path, ...]
    split: str | None

    def batches(self) -> Iterator[Any]:
        """The rows as `pyarrow.RecordBatch`es of at most 20,000.

        Raises:
            TableError: a file is damaged, or holds what no table does.
            MissingExtraError: pyarrow is not installed.
        """
        for path in self.files:
            yield from _batches(path)


def open_saved(folder: Path) -> SavedTable | dict[str, SavedTable]:
    """The table in a folder, or those of its splits by name.

    Raises:
        TableError: the folder is not as `datasets` saves one.
    """
    try:
        if not (folder / _SPLITS).exists():
            return _table(folder)
        names = read_json(folder / _SPLITS, dict).get("splits")
        if not isinstance(names, list) or not all(isinstance(name, str) and _is_name(name) for name in names):
            raise TableError(f"the folder {str(folder)!r} cannot be loaded: its splits are {shown(names)}")
        return {name: _table(folder / name) for name in names}
    except ModelFormatError as error:
        raise TableError(f"the folder {str(folder)!r} cannot be loaded: {error}") from None


def _table(folder: Path) -> SavedTable:
    state = read_json(folder / _STATE, dict)
    named, what = state.get("_data_files"), f"the folder {str(folder)!r} cannot be loaded"
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise TableError(f"{what}: it selects rows of other files; save it again with a new version of datasets")
    files = (
        [file.get("filename") if isinstance(file, dict) else None for file in named] if isinstance(named, list) else []
    )
    if not files or not all(isinstance(file, str) and _is_name(file) for file in files):
        raise TableError(f"{what}: its files are {shown(named)}")
    split = state.get("_split")
    return SavedTable(tuple(folder / str(file) for file in files), split if isinstance(split, str) else None)


def _is_name(text: str) -> bool:
    """Whether a text names something in the folder itself."""
    return bool(text) and text not in (".", "..") and not any(mark in text for mark in "/\\\0:")


# --- Arrow -----------------------------------------------------------------------------------------------------------


def _batches(path: Path) -> Iterator[Any]:
    try:
        import pyarrow
        from pyarrow import ipc
    except ImportError:
        raise MissingExtraError("a folder saved by datasets", "pyarrow", "data") from None
    try:
        if not path.is_file():
            raise TableError(f"{str(path)!r} cannot be loaded: there is no such file")
        with pyarrow.memory_map(str(path)) as file:
            _check(ipc, file, path)
            file.seek(0)
            reader = ipc.open_stream(file)
            require_few_columns(len(reader.schema), repr(str(path)))
            for field in reader.schema:
                _check_type(field.type, field.name, path)
            for batch in reader:
                batch.validate(full=True)
                slices = (batch.slice(start, _ROWS) for start in range(0, batch.num_rows, _ROWS))
                yield from pieces(slices, path)
    except (pyarrow.ArrowException, OSError, ValueError, struct.error, IndexError) as error:
        if isinstance(error, MemoryError):
            raise
        raise TableError(f"{str(path)!r} is no whole Arrow stream: {shown(str(error))}") from None


def _check(ipc: Any, file: Any, path: Path) -> None:
    """Refuse messages that would grow beyond what tables hold."""
    for message in ipc.MessageReader.open_stream(file):
        header = message.metadata.to_pybytes()
        kind, start = _header(header)
        if kind == _DICTIONARY:
            start = _offset(header, start, 1)
        elif kind != _RECORDS:
            continue
        values = max(_lengths(header, start), default=0)
        if values > _MOST_VALUES:
            raise TableError(
                f"{str(path)!r} has {values:,} values in one batch; save it again in batches of at most a million"
            )
        if _offset(header, start, 3, optional=True):
            packed = message.body
            unpacked = sum(_unpacked(packed, *buffer) for buffer in _buffers(header, start))
            if is_bomb(unpacked, packed.size):
                raise TableError(f"{str(path)!r} unpacks to more than {PACKED_TIMES} times its size, as no table does")


def _check_type(kind: Any, name: str, path: Path, depth: int = 0) -> None:
    """Refuse types in which a value may stand many times over, or deep within others."""
    from pyarrow import types

    if depth > _DEEPEST:
        raise TableError(f"{str(path)!r}: the column {shown(name)} is nested more than {_DEEPEST} levels deep")
    known = (
        types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_temporal,
        types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_fixed_size_binary,
        types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_map, types.is_struct,
    )  # fmt: skip
    if not any(is_kind(kind) for is_kind in known):
        raise TableError(f"{str(path)!r}: the column {shown(name)} is of the type {shown(str(kind))}; write it as text")
    for i in range(kind.num_fields):
        _check_type(kind.field(i).type, name, path, depth + 1)


# --- the metadata of a message, a flatbuffer: https://arrow.apache.org/docs/format/Columnar.html ---------------------


def _header(data: bytes) -> tuple[int, int]:
    """The kind of a message, and where its header begins."""
    (start,) = struct.unpack_from("<I", data, 0)
    return data[_place(data, start, 1) or 0], _offset(data, start, 2)


def _place(data: bytes, table: int, slot: int) -> int | None:
    """Where a field of a table lies; None if it has its default."""
    (back,) = struct.unpack_from("<i", data, table)
    (size,) = struct.unpack_from("<H", data, table - back)
    at = 4 + 2 * slot
    (offset,) = struct.unpack_from("<H", data, table - back + at) if at < size else (0,)
    return table + offset if offset else None


def _offset(data: bytes, table: int, slot: int, *, optional: bool = False) -> int:
    """Where the table or vector lies that a field refers to; 0 if it refers to none."""
    place = _place(data, table, slot)
    if place is None:
        if optional:
            return 0
        raise ValueError("a message has no data")
    return int(place + struct.unpack_from("<I", data, place)[0])


def _lengths(data: bytes, table: int) -> list[int]:
    """Numbers of rows of a record batch, and of values of its columns, those within lists included."""
    rows = _place(data, table, 0)
    found = [0 if rows is None else int(struct.unpack_from("<q", data, rows)[0])]
    return found + [length for length, _ in _pairs(data, table, 1)]


def _buffers(data: bytes, table: int) -> list[tuple[int, int]]:
    return _pairs(data, table, 2)


def _pairs(data: bytes, table: int, slot: int) -> list[tuple[int, int]]:
    start = _offset(data, table, slot, optional=True)
    if not start:
        return []
    (n,) = struct.unpack_from("<I", data, start)
    return [struct.unpack_from("<qq", data, start + 4 + 16 * i) for i in range(n)]


def _unpacked(body: Any, offset: int, length: int) -> int:
    """Bytes of a buffer once it is unpacked, as it says itself."""
    if length < 8:
        return 0
    (size,) = struct.unpack_from("<q", body, offset)
    return length if size < 0 else int(size)
