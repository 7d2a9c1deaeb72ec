"""Reading Parquet: record batches that are small in memory, however far the file is packed.

A Parquet file keeps a value once for all rows that repeat it, and rows without values in no space at all. What it holds
is therefore read from its metadata and its dictionaries, before a batch is unpacked.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from p2l_sdk.errors import MissingExtraError, P2LError, TableError
from p2l_sdk.tables.grids import require_few_columns
from p2l_sdk.tables.limits import LONGEST_ROW
from p2l_sdk.tables.text import open_bytes

_ROWS = 4096  # of a batch; larger ones are no faster
_JOINED = 20_000  # of a table
_BATCH = 1 << 26  # bytes of a batch, unpacked
_MOST_VALUES = 1 << 26  # of a column in a row group, those in lists included
_MOST_PIECES = 1 << 18  # columns times row groups


def parquet_rows(path: Path) -> int:
    """The number of rows that a Parquet file says it has; errors as in `arrow_batches`."""
    with _opened(path) as open_:
        return int(open_().metadata.num_rows)


def parquet_names(path: Path) -> list[str]:
    """The names of a Parquet file's columns; errors as in `arrow_batches`."""
    with _opened(path) as open_:
        return list(open_().schema_arrow.names)


def arrow_batches(path: Path, columns: list[str] | None = None) -> Iterator[Any]:
    """The rows of a Parquet file, as tables (`pyarrow.Table`) of 20,000 rows or so, fewer where they are large; only
    these columns, if some are named.

    Raises:
        TableError: it is no whole Parquet file, has too many columns, or rows that are too large to be honest.
        MissingExtraError: pyarrow is not installed.
    """
    with _opened(path) as open_:
        file = open_()
        _check(file.metadata, path)
        texts = [field.name for field in file.schema_arrow if _is_text(field.type)]
        peeked = open_(read_dictionary=texts, metadata=file.metadata) if texts else None
        for group in range(file.metadata.num_row_groups):
            first = peeked and next(peeked.iter_batches(batch_size=1, row_groups=[group], columns=texts), None)
            size = _batch_size(file.metadata.row_group(group), first)
            yield from _joined(pieces(file.iter_batches(batch_size=size, row_groups=[group], columns=columns), path))


@contextlib.contextmanager
def parquet_values(path: Path) -> Iterator[None]:
    """Context manager: a value that Python does not have, such as a date, is a `TableError`."""
    try:
        yield
    except P2LError:
        raise
    except (ValueError, OverflowError) as error:
        raise TableError(f"{str(path)!r} has a value that cannot be read: {error}") from None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A function that opens the file as `pyarrow.parquet.ParquetFile`, with its keywords."""
    with open_bytes(path) as file:
        try:
            from pyarrow import ArrowException, parquet
        except ImportError:
            raise MissingExtraError("Parquet", "pyarrow", "data") from None
        if not file.seekable():
            raise TableError(f"{str(path)!r} is compressed by gzip; unpack it first (gunzip)")
        try:
            yield functools.partial(parquet.ParquetFile, file)
        except (ArrowException, OSError) as error:
            raise TableError(f"{str(path)!r} is no whole Parquet file: {error}") from None


def _check(metadata: Any, path: Path) -> None:
    name = repr(str(path))
    require_few_columns(metadata.num_columns, name)
    if metadata.num_columns * metadata.num_row_groups > _MOST_PIECES:
        raise TableError(f"{name} is in {metadata.num_row_groups:,} row groups; write it again with fewer")
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in range(metadata.num_columns):
            n = group.column(column).num_values
            if n > _MOST_VALUES:
                what = f"{n:,} values of {group.column(column).path_in_schema!r} in one row group"
                raise TableError(f"{name} has {what}; write it again with row groups of at most a million rows")


def _batch_size(group: Any, first: Any) -> int:
    """Rows of a batch: as many as fit if each has the longest text of every dictionary.

    Args:
        group: metadata of the row group.
        first: its first row, with the dictionaries of its columns of texts; None if there is none.
    """
    from pyarrow import compute, types

    longest = group.total_byte_size // max(group.num_rows, 1)
    for column in first.columns if first else ():
        if types.is_dictionary(column.type) and len(column.dictionary):
            longest += compute.max(compute.binary_length(column.dictionary)).as_py() or 0
    return int(max(1, min(_ROWS, _BATCH // max(longest, 1))))


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_binary(kind))


def pieces(batches: Iterable[Any], path: Path) -> Iterator[Any]:
    """The batches, divided where they are large in memory; `TableError` for a row that no table has."""
    for batch in batches:
        if batch.num_rows == 1 and batch.nbytes > LONGEST_ROW:
            raise TableError(f"{str(path)!r} has a row of {batch.nbytes >> 20:,} MB, as no table does")
        if batch.num_rows > 1 and batch.nbytes > _BATCH:
            half = batch.num_rows // 2
            yield from pieces((batch.slice(0, half), batch.slice(half)), path)
        else:
            yield batch


def _joined(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches in tables, for what is done once per table."""
    from pyarrow import Table

    found: list[Any] = []
    for batch in batches:
        found.append(batch)
        if sum(b.num_rows for b in found) >= _JOINED or sum(b.nbytes for b in found) >= _BATCH // 4:
            yield Table.from_batches(found)
            found = []
    if found:
        yield Table.from_batches(found)
