"""Sources of votes and scores: files, `datasets` folders, the Hub and tables in memory, all read as chunks of columns.

A chunk is a dictionary of columns, each a list of plain Python values, all of the same length, so that a table of any
size is processed piece by piece. A row without a value for a column (JSON lines, dictionaries) has `ABSENT` there.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from p2l_sdk.errors import MissingExtraError, P2LError, TableError, UnknownModelError
from p2l_sdk.tables.files import KINDS, UNTYPED, Row, is_data, kind_of, no_table, read_rows
from p2l_sdk.tables.grids import column_key, require_distinct, require_few_cells, require_few_columns
from p2l_sdk.tables.limits import CELLS_PER_CHUNK
from p2l_sdk.tables.markdown import markdown_rows
from p2l_sdk.tables.numbered import numbered_columns
from p2l_sdk.tables.parquet import arrow_batches, parquet_names, parquet_rows, parquet_values
from p2l_sdk.tables.places import JoinedPlaces, Place, Places
from p2l_sdk.tables.plain import all_plain, plain_values
from p2l_sdk.tables.progress import counted
from p2l_sdk.tables.repositories import files_of_folder, files_of_repository
from p2l_sdk.tables.saved import is_saved, open_saved
from p2l_sdk.tables.text import expanded, path_of

Chunk = dict[str, list[Any]]

ABSENT: Any = object()

_PATTERN = re.compile(r"[*?]")
_ROWS = 20_000  # per chunk
_HUB_ID = re.compile(r"(?P<name>\w[\w.-]*/[\w.-]+)(@(?P<revision>[^:@]+))?(:(?P<split>[^:@/]+))?")
_SPLIT = re.compile(r"(?P<folder>.+):(?P<split>[^:@/\\]+)", re.DOTALL)
_FORMS = (
    f"a file {KINDS}, a folder saved by `datasets`, a Hub data set ('org/name', 'org/name:split', 'org/name@revision')"
)


@dataclass(frozen=True)
class Source:
    """A table as chunks, which can be read once.

    Attributes:
        name: name of the file or data set, for messages.
        chunks: the chunks.
        n_rows: how many rows it says it has; None if that is known only once they are read.
        untyped: whether strings may spell numbers (CSV, where all do; sheets, where some cells hold numbers as text).
        place: where a row stands, for messages: `place(5)`, the sixth row of the source, is "row 6", in a text file or
            a spreadsheet "line 7" (blank lines, a header and fields of several lines counted), and of several files
            "'votes-2.csv', line 7". Rows are counted from 0 over all chunks; it knows those that have been read.
    """

    name: str
    chunks: Iterator[Chunk]
    untyped: bool = False
    place: Place = field(default_factory=Places)
    n_rows: int | None = None

    def peek(self) -> tuple[Chunk, Source]:
        """The first chunk (empty if there is none), and the source with all its chunks."""
        first = next(self.chunks, None)
        chunks = itertools.chain([] if first is None else [first], self.chunks)
        return first or {}, replace(self, chunks=chunks)


def whole_table(chunks: Iterable[Chunk]) -> Chunk:
    """Join all chunks into one; values that a chunk lacks are `ABSENT`. Empty if there are no rows."""
    table: Chunk = {}
    n_rows = 0
    for chunk in chunks:
        more = _length(chunk)
        require_few_cells(n_rows + more, len(table.keys() | chunk.keys()))
        for name in chunk:
            table.setdefault(name, [ABSENT] * n_rows)
        for name, column in table.items():
            column += chunk.get(name, [ABSENT] * more)
        n_rows += more
    return table if n_rows else {}


def open_source(source: Any) -> Source:
    """Open a path, a Hub data set id, a `datasets` object, a pandas frame, a pyarrow table (or any other object with an
    Arrow stream), a mapping of columns, or an iterable of dictionaries. A `Source` is returned as it is.

    Raises:
        TableError: it is none of these, cannot be read or fetched, or has no such split.
        MissingExtraError: the package that reads it is not installed.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, str | Path):
        return _of_path(str(source))
    package, name = type(source).__module__.split(".")[0], type(source).__name__
    if package == "datasets":
        return Source("the data set", _of_dataset(source, None, "the data set"))
    if package == "pandas" and hasattr(source, "columns"):
        return Source("the frame", _of_frame(source))
    if hasattr(source, "__arrow_c_stream__"):
        return Source("the table", _of_arrow_stream(source))
    if isinstance(source, Mapping):
        return Source("the table", _of_columns(source))
    if _is_column(source):
        raise TableError(_no_frame(name))
    if isinstance(source, Iterable) and not isinstance(source, bytes) and _is_iterable(source):
        return Source("the table", of_rows(source))
    raise TableError(
        f"votes and scores are read from {_FORMS}, a pandas frame, a datasets.Dataset, a pyarrow table or a list of "
        f"dictionaries; not from {name}"
    )


def open_columns(source: Any, needed: Sequence[str], optional: Sequence[str] = ()) -> Source:
    """Open a source for the sake of some columns.

    A table in memory (a pandas frame, a pyarrow table, a mapping) that has them is one chunk with these columns alone:
    those that are needed `Numbered`, unless their values cannot be compared, and the others as they are, a `Series`, a
    `ChunkedArray`, an array or a list. A Parquet file has several such chunks. Everything else is as in `open_source`,
    and so is a table with an optional column by another spelling ("Weight").
    """
    file = _parquet_file(source)
    names = _names_in_memory(source) if file is None else parquet_names(file)
    there = [name for name in names if name in (*needed, *optional) or column_key(name) in optional]
    if not set(needed) <= set(there) <= {*needed, *optional}:
        return open_source(source)
    require_distinct(names, "the table")
    if file is not None:
        n_rows = parquet_rows(file)
        chunks = (numbered_columns(chunk, needed) for chunk in _parquet_columns(file, there))
        return Source(str(source), counted(chunks, file, n_rows, _length), n_rows=n_rows)
    columns = {name: _column(name, source[name]) for name in there}
    require_equal_lengths(columns)
    return Source("the table", iter([numbered_columns(columns, needed)]))


def _parquet_file(source: Any) -> Path | None:
    path = path_of(str(source)) if isinstance(source, str | Path) else None
    return path if path is not None and path.is_file() and kind_of(path) == ".parquet" else None


def _names_in_memory(source: Any) -> list[Any]:
    """The names of the columns of a table in memory, each of which it gives as a whole; none if it is another one."""
    package = type(source).__module__.split(".")[0]
    if package == "pandas" and hasattr(source, "columns"):
        return list(source.columns)
    if package == "pyarrow" and hasattr(source, "column"):
        return list(source.schema.names)
    return list(source) if package != "datasets" and isinstance(source, Mapping) else []


@contextlib.contextmanager
def table_errors(kind: type[P2LError], source: Any = None) -> Iterator[None]:
    """Context manager (or decorator) of a reader: an error about its table is raised as an error of this kind.

    Args:
        kind: the kind of error.
        source: if it is a file, a folder or a Hub data set, its name is added to the message, unless it is there.
    """
    try:
        yield
    except (TableError, UnknownModelError) as error:
        raised = kind if isinstance(error, TableError) and not isinstance(error, kind) else type(error)
        text = str(error) if _is_named(error, source) else f"{str(source)!r}: {error}"
        if (raised, text) == (type(error), str(error)):
            raise
        raise raised(text) from error.__cause__


def _is_named(error: P2LError, source: Any) -> bool:
    """Whether a message has the name of the source, or the source has none."""
    if not isinstance(source, str | Path):
        return True
    name = str(source)
    own = (name, str(expanded(name)), _SPLIT.sub(r"\g<folder>", name), _HUB_ID.sub(r"\g<name>", name))
    return any(repr(said) in str(error) for said in own)


def hub_repository(name: str) -> str | None:
    """The repository of a Hub data set (e.g. "org/name:split"); None if the source is something else."""
    found = _HUB_ID.fullmatch(name)
    return found["name"] if found and not is_data(name) and not Path(name).exists() else None


def of_rows(rows: Iterable[Row]) -> Iterator[Chunk]:
    """Yield dictionaries as chunks; `TableError` for a row that is not a dictionary."""
    if isinstance(rows, str) or not isinstance(rows, Iterable):
        raise TableError(f"the rows are a {type(rows).__name__}; give a list of dictionaries")
    for batch in _batches(map(_dictionary, itertools.count(1), rows)):
        yield {name: all_plain(column) for name, column in _columns(batch).items()}


def _dictionary(number: int, row: Any) -> Row:
    if not isinstance(row, Mapping):
        more = "; a table is a frame, a mapping of columns, or a list of dictionaries" if number == 1 else ""
        raise TableError(f"row {number} is no dictionary but {type(row).__name__}{more}")
    return row


def _of_plain_rows(rows: Iterable[Row]) -> Iterator[Chunk]:
    """As `of_rows`, for the rows of a file."""
    yield from map(_columns, _batches(iter(rows)))


def _columns(batch: Sequence[Row]) -> Chunk:
    names = dict.fromkeys(itertools.chain.from_iterable(batch))
    return {name: [row.get(name, ABSENT) for row in batch] for name in names}


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """The rows in lists, short ones where rows name many columns: a chunk has a cell for each row and column."""
    while batch := list(itertools.islice(rows, _ROWS)):
        names = set(itertools.chain.from_iterable(batch))
        require_few_columns(len(names), "the table")
        size = max(1, CELLS_PER_CHUNK // max(len(names), 1))
        for start in range(0, len(batch), size):
            yield batch[start : start + size]


# --- sources by name -------------------------------------------------------------------------------------------------


def _of_path(name: str) -> Source:
    path = path_of(name)
    if _PATTERN.search(name) and not path.exists():
        return _of_pattern(name)
    if path.is_dir():
        return _of_folder(path, None, name)
    kind = kind_of(path)
    if kind == ".parquet":
        n_rows = parquet_rows(path)
        return Source(name, counted(_of_parquet(path), path, n_rows, _length), n_rows=n_rows)
    if kind is not None:
        rows = read_rows(path, most=None)
        return Source(name, _of_plain_rows(rows), kind in UNTYPED, rows.place)
    if path.suffix.lower() == ".md" and path.is_file():  # as prompts, such a file is text
        places = Places()
        return Source(name, _of_plain_rows(markdown_rows(path, places)), True, places)
    parts = _SPLIT.fullmatch(name)
    if parts and expanded(parts["folder"]).is_dir():
        return _of_folder(expanded(parts["folder"]), parts["split"], parts["folder"])
    hub = _HUB_ID.fullmatch(name)
    if hub and not is_data(name) and not path.exists():
        found = files_of_repository(hub["name"], hub["revision"])
        return _of_files(name, _split_of(found, hub["split"], repr(hub["name"])).fetch())
    raise TableError(no_table(name, _FORMS))


def _of_pattern(pattern: str) -> Source:
    """The files that a pattern names, in the order of their names, as one table."""
    names = sorted(glob.glob(str(expanded(pattern)), recursive=True))
    if not names:
        raise TableError(f"no file is named like {pattern!r}")
    return _of_files(pattern, names)


def _of_files(name: str, files: Sequence[str | Path]) -> Source:
    """Several files as one table."""
    if len(files) == 1:
        return replace(_of_path(str(files[0])), name=name)
    sources = [_of_path(str(file)) for file in files]
    if len({source.untyped for source in sources}) > 1:
        raise TableError(f"{name!r} names CSV files and others ({', '.join(map(str, files))}); name files of one kind")
    places = JoinedPlaces()
    n_rows = sum(source.n_rows or 0 for source in sources) or None
    return Source(name, _joined(sources, places), sources[0].untyped, places, n_rows)


def _joined(sources: Iterable[Source], places: JoinedPlaces) -> Iterator[Chunk]:
    start = 0
    for source in sources:
        places.begin(start, source.name, source.place)
        for chunk in source.chunks:
            yield chunk
            start += _length(chunk)


def _length(chunk: Chunk) -> int:
    """The number of rows."""
    return len(next(iter(chunk.values()), []))


def _of_folder(folder: Path, split: str | None, name: str) -> Source:
    if is_saved(folder):
        table = _split_of(open_saved(folder), split, repr(name))
        return Source(name, map(_of_batch, table.batches()))
    return _of_files(name, _split_of(files_of_folder(folder), split, repr(name)).fetch())


# --- tables as chunks ------------------------------------------------------------------------------------------------


def _of_dataset(dataset: Any, split: str | None, name: str) -> Iterator[Chunk]:
    """Chunks of a Dataset, or of a split of a DatasetDict."""
    dataset = _split_of(dataset, split, name)
    if not hasattr(dataset, "num_rows"):  # a stream of rows
        return of_rows(dataset)
    return map(_of_batch, dataset.with_format("arrow").iter(_ROWS))


def _split_of(dataset: Any, split: str | None, name: str) -> Any:
    """A split of a data set that has some ("train" if none is named), or the data set itself."""
    if isinstance(dataset, Mapping):
        wanted = split or "train"
        if wanted not in dataset:
            remedy = "" if split else "; name one: 'NAME:SPLIT', or dataset['SPLIT']"
            raise TableError(f"{name} has no split {wanted!r}, its splits: {', '.join(dataset)}{remedy}")
        return dataset[wanted]
    if split is not None and str(dataset.split or "") != split:
        raise TableError(f"{name} is a single table without splits; leave out ':{split}'")
    return dataset


def _of_batch(batch: Any) -> Chunk:
    """A pyarrow RecordBatch or Table as a chunk."""
    names = batch.schema.names
    require_distinct(names, "the table")
    require_few_columns(len(names), "the table")
    return {name: plain_values(batch.column(i)) for i, name in enumerate(names)}


def _of_parquet(path: Path) -> Iterator[Chunk]:
    with parquet_values(path):
        yield from map(_of_batch, arrow_batches(path))


def _parquet_columns(path: Path, names: list[str]) -> Iterator[dict[str, Any]]:
    """Some columns of a file as pyarrow has them, as chunks."""
    with parquet_values(path):
        for table in arrow_batches(path, names):
            yield {name: table.column(name) for name in names}


def _of_arrow_stream(table: Any) -> Iterator[Chunk]:
    try:
        from pyarrow import ArrowException, RecordBatchReader
    except ImportError:
        raise MissingExtraError("a table of Arrow's kind", "pyarrow", "data") from None
    try:
        reader = RecordBatchReader.from_stream(table)
    except (ArrowException, TypeError):  # a stream of values
        raise TableError(_no_frame(type(table).__name__)) from None
    return map(_of_batch, reader)


def _is_column(source: Any) -> bool:
    """Whether an object is an array of values, not a table: numpy's without names, pandas' `Index`, pyarrow's."""
    package = type(source).__module__.split(".")[0]
    if package == "numpy" and str(getattr(source, "dtype", "")) == "object":
        return False  # maybe dictionaries
    return package in ("numpy", "pandas", "pyarrow", "polars") and not hasattr(source, "columns")


def _is_iterable(source: Any) -> bool:
    """Whether an object that says that it can be iterated over really can."""
    try:
        iter(source)
    except TypeError:
        return False
    return True


def _no_frame(name: str) -> str:
    return (
        f"{name} is no table, but values without the names of columns; give the whole frame (with model_a, model_b "
        "and winner, or a column for each LLM), not one column of it"
    )


def _of_frame(frame: Any) -> Iterator[Chunk]:
    require_distinct(map(str, frame.columns), "the frame")
    for start in range(0, len(frame), _ROWS):
        part = frame.iloc[start : start + _ROWS]
        yield {str(name): plain_values(part[name]) for name in frame.columns}


def _of_columns(columns: Mapping[str, Any]) -> Iterator[Chunk]:
    lists = {name: plain_values(_column(name, column)) for name, column in columns.items()}
    require_equal_lengths(lists)
    return iter([lists] if lists else [])


def _column(name: str, column: Any) -> Any:
    """A column of a mapping, whose length is known; `TableError` if it is no column."""
    if isinstance(column, str | bytes) or not isinstance(column, Iterable):
        raise TableError(f"the column {name!r} is {type(column).__name__}, not a list or an array of values")
    return column if hasattr(column, "__len__") else list(column)


def require_equal_lengths(columns: Mapping[str, Any]) -> None:
    """Raise `TableError` if two columns differ in length."""
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(column):,}" for name, column in columns.items())
        raise TableError(f"the columns differ in length: {lengths}")
