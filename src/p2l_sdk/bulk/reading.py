"""The input as a stream of blocks: prompts with what stands beside them, whatever kind of file they come from.

Only the columns that are wanted are kept, a faulty line of JSON is a faulty row, and a column that goes into the output
has the type that its first block shows.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2l_sdk.bulk.arrow import need_pyarrow
from p2l_sdk.bulk.batch import CATEGORY, ERROR, PROMPT
from p2l_sdk.bulk.chunks import opened, parquet_chunks
from p2l_sdk.bulk.files import files_of, identity, n_rows
from p2l_sdk.errors import P2LError, P2LWarning, TableError, did_you_mean
from p2l_sdk.tables.columns import LONGEST_LABEL, is_missing
from p2l_sdk.tables.files import kind_of
from p2l_sdk.tables.grids import column_key
from p2l_sdk.tables.headers import guess, known_columns
from p2l_sdk.tables.inside import cells_inside, prompt_inside
from p2l_sdk.tables.parquet import parquet_names
from p2l_sdk.tables.places import Place
from p2l_sdk.tables.prompt_cells import PromptCells
from p2l_sdk.tables.sources import ABSENT, Chunk, Source, hub_repository, table_errors
from p2l_sdk.tables.text import expanded

if TYPE_CHECKING:
    import pyarrow

FILE, ROW, ID = "file", "row", "id"
_PEEK = 100  # lines of a file that are looked at before the work


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of the input are read.

    Args:
        prompt: the column of prompts, where it is not certain.
        id: that of the rows' names, `id` in the output; by default a column `id`, if there is one.
        by: that of the categories.
        keep: columns that go into the output as they are.
    """

    prompt: str | None = None
    id: str | None = None
    by: str | None = None
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        taken = {PROMPT, FILE, ROW, ID, CATEGORY, ERROR}
        for name in self.keep:
            if name in taken:
                raise P2LError(f"the column {name!r} cannot be kept: its name is taken ({', '.join(sorted(taken))})")
            taken.add(name)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"prompt": self.prompt, "id": self.id, "by": self.by, "keep": list(self.keep)}


@dataclass
class Block:
    """Rows of one file.

    Attributes:
        file: its name.
        start: the first row's place in the file, from 0.
        prompts: the cells of the prompts.
        carried: output column -> cells.
        faults: place in the block -> what is wrong with the row.
    """

    file: str
    start: int
    prompts: list[Any]
    carried: dict[str, list[Any]]
    faults: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prompts)

    def cut(self, first: int, last: int) -> Block:
        """Its rows from `first` to before `last`."""
        return Block(
            self.file,
            self.start + first,
            self.prompts[first:last],
            {name: cells[first:last] for name, cells in self.carried.items()},
            {i - first: text for i, text in self.faults.items() if first <= i < last},
        )


class Input:
    """The rows of files, in their order.

    Args:
        names: files, patterns of files ("logs/*.parquet"), folders and Hub data sets.
        columns: which columns are read.
        but: a folder whose files are no input: that of the results.

    Attributes:
        files: the names, patterns and folders resolved.
        places: file -> where its rows stand ("line 7"), for those read so far.

    Raises:
        TableError: no file is named like a pattern, or a folder holds none; or there is no name.
    """

    def __init__(self, names: Sequence[str | Path], columns: Columns, but: Path | None = None) -> None:
        self.columns = columns
        self.files = list(itertools.chain.from_iterable(files_of(str(name), but) for name in names))
        if not self.files:
            raise TableError("there is no input; name a file")
        named = set[str]()
        for name in self.files:
            path = expanded(name)
            real = os.path.realpath(path) if os.path.exists(path) else name  # ./a.jsonl, and links, are the same file
            if real in named:
                raise TableError(f"{name!r} is named twice, and its prompts would count twice; name it once")
            named.add(real)
        self.places: dict[str, Place] = {}
        self._types = Types()

    def identity(self) -> list[list[Any]]:
        """What each file is recognised by, to go on with a run of the same input."""
        return [identity(name) for name in self.files]

    def require_columns(self) -> None:
        """Look at the beginning of each file, so that one that cannot be read, or has no such column, is no surprise
        after hours.

        Raises:
            TableError: as `blocks`, for what the first rows tell.
        """
        sound = set[tuple[str, ...]]()  # names of columns that a file has been found with
        for name in self.files:
            if not os.path.isdir(expanded(name)) and hub_repository(name) is None:
                with table_errors(TableError, name), warnings.catch_warnings():
                    warnings.simplefilter("ignore", P2LWarning)  # of odd headers, which the work says
                    self._require_columns(name, sound)

    def _require_columns(self, name: str, sound: set[tuple[str, ...]]) -> None:
        path, names = expanded(name), tuple[str, ...]()
        if kind_of(name) == ".parquet" and path.is_file():
            names = tuple(parquet_names(path))
        else:
            with contextlib.suppress(TableError):  # its first lines may be bad, and others not
                names = tuple(opened(name, {}, _PEEK).peek()[0])
        wanted = {self.columns.prompt or PROMPT, self.columns.id, self.columns.by, *self.columns.keep} - {None}
        if names in sound or wanted <= set(names):
            return
        first, source = opened(name, {}).peek()  # whether they are there by other names
        if first:
            self._wanted(first, source.untyped)
        sound.add(names)

    def n_rows(self) -> int | None:
        """About how many rows there are; None if that is not known before they are read."""
        counts = [n_rows(name) for name in self.files]
        return None if None in counts else sum(n for n in counts if n is not None)

    def parts(self, size: int) -> Iterator[dict[str, Any]]:
        """The rows in parts of so many, the last one of fewer: columns for `BatchScorer.score`, and `faults`, what is
        wrong with rows already."""
        held: list[Block] = []
        n = 0
        for block in itertools.chain.from_iterable(map(self.blocks, self.files)):
            first = 0
            while n + len(block) - first >= size:
                last = first + size - n
                held.append(block.cut(first, last))
                yield self._part(held)
                held, n, first = [], 0, last
            if first < len(block):
                held.append(block.cut(first, len(block)) if first else block)
                n += len(block) - first
        if held:
            yield self._part(held)

    def blocks(self, name: str) -> Iterator[Block]:
        """The rows of one file, block by block; TableError if it cannot be read."""
        start = 0
        with table_errors(TableError, name):
            faults: dict[int, str] = {}
            source = opened(name, faults)
            self.places[name] = source.place
            first, source = source.peek()
            if not first:
                return
            wanted = self._wanted(first, source.untyped)
            own = list(dict.fromkeys(their if their in first else their.partition(".")[0] for their in wanted.values()))
            if kind_of(name) == ".parquet" and len(own) < len(first):  # its other columns may be far larger
                source = Source(name, parquet_chunks(expanded(name), own), place=source.place)
            cells = PromptCells()
            theirs = "prompt" if PROMPT in wanted else "conversation_a"
            for chunk in source.chunks:
                n = len(next(iter(chunk.values())))
                read = {our: _cells(chunk, their, n) for our, their in wanted.items()}
                column = read.pop(theirs)
                wrong = {row - start: faults.pop(row) for row in list(faults) if row < start + n}
                yield Block(name, start, cells({theirs: column}, column), read, wrong)
                start += n

    def _wanted(self, first: Chunk, untyped: bool) -> dict[str, str]:
        """Output column -> column of the table; `prompt` or `conversation_a` is among them."""
        found: dict[str, str] = {}
        if self.columns.prompt is not None:
            found[PROMPT] = _named(first, self.columns.prompt)
        else:
            known: dict[str, str] = {name: name for name in _PROMPTS if name in first}
            known |= {our: their for our, their in known_columns(first, untyped, {}).items() if our in _PROMPTS}
            if not known and (path := prompt_inside(first)):
                known = {PROMPT: path}
            if not known:
                near = guess(first, ["prompt"], []).get("prompt", "NAME")
                raise TableError(
                    f"there is no column 'prompt' (there is: {', '.join(map(str, first))}); if it has another name: "
                    f"--column {shlex.quote(f'prompt={near}')}"
                )
            our = "prompt" if "prompt" in known else "conversation_a"
            found[our] = known[our]
        if self.columns.id is not None:
            found[ID] = _named(first, self.columns.id)
        elif ID in first:
            found[ID] = ID
        if self.columns.by is not None:
            found[CATEGORY] = _named(first, self.columns.by)
        return found | {name: _named(first, name) for name in self.columns.keep}

    def _part(self, blocks: Sequence[Block]) -> dict[str, Any]:
        """Columns of a part: Arrow arrays, but for the prompts and categories."""
        pa = need_pyarrow()
        faults: dict[int, str] = {}
        starts = list(itertools.accumulate((len(block) for block in blocks), initial=0))
        for start, block in zip(starts, blocks, strict=False):
            faults |= {start + i: text for i, text in block.faults.items()}
        names = pa.array([block.file for block in blocks], pa.string())
        repeats = pa.array(list(itertools.chain.from_iterable([i] * len(b) for i, b in enumerate(blocks))), pa.int32())
        part: dict[str, Any] = {
            PROMPT: list(itertools.chain.from_iterable(block.prompts for block in blocks)),
            FILE: names.take(repeats),
            ROW: pa.array(
                list(itertools.chain.from_iterable(range(b.start + 1, b.start + len(b) + 1) for b in blocks))
            ),
        }
        for name in dict.fromkeys(itertools.chain.from_iterable(block.carried for block in blocks)):
            values = list(itertools.chain.from_iterable(b.carried.get(name, [None] * len(b)) for b in blocks))
            if name == CATEGORY:
                part[name] = _labels(values, faults)
            else:
                part[name] = self._types.array(name, values, faults)
        return {**part, "faults": faults}


_PROMPTS: tuple[str, ...] = ("prompt", "conversation_a")
_NO_VALUE = (TypeError, ValueError, OverflowError, NotImplementedError)  # so are those of pyarrow


class Types:
    """Arrow types of the columns that go into the output: that of the first values that a column shows."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def array(self, name: str, values: list[Any], faults: dict[int, str]) -> pyarrow.Array:
        """A column; a value that is not of its type is null, and a fault of its row."""
        pa = need_pyarrow()
        values = [json.dumps(v, default=str) if isinstance(v, list | dict) else v for v in values]
        if name not in self._known:
            self._known[name] = _type_of(values)
        kind = self._known[name]
        if pa.types.is_string(kind):
            values = [v if v is None or isinstance(v, str) else str(v) for v in values]
        try:
            return pa.array(values, kind)
        except _NO_VALUE:
            pass
        made: list[Any] = []
        for i, value in enumerate(values):
            try:  # CSV spells numbers as text
                made.append(pa.scalar(value).cast(kind) if isinstance(value, str) else pa.scalar(value, kind))
            except _NO_VALUE:
                made.append(pa.scalar(None, kind))
                faults.setdefault(i, f"{name} is {value!r}, which is no {kind} as in the rows before")
        return pa.array([value.as_py() for value in made], kind)


def _type_of(values: Sequence[Any]) -> Any:
    pa = need_pyarrow()
    try:
        kind = pa.infer_type(values)
    except _NO_VALUE:
        return pa.string()
    return pa.string() if pa.types.is_null(kind) else kind


def _labels(values: Iterable[Any], faults: dict[int, str]) -> list[str | None]:
    """The categories; what cannot be one is a fault of its row."""
    found: list[str | None] = []
    for i, value in enumerate(values):
        label = None if is_missing(value) else str(int(value) if _is_whole(value) else value).strip()
        if isinstance(value, list | dict) or len(label or "") > LONGEST_LABEL:
            faults.setdefault(i, "the category is a text or a list, and no label")
            label = None
        found.append(label or None)
    return found


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _named(chunk: Chunk, name: str) -> str:
    near = [n for n in chunk if n == name] or [n for n in chunk if column_key(n) == column_key(name)]
    if len(near) == 1:
        return near[0]
    if cells_inside(chunk, name) is not None:
        return name
    raise TableError(f"there is no column {name!r}; {did_you_mean(name, map(str, chunk))}")


def _cells(chunk: Chunk, name: str, n: int) -> list[Any]:
    column = chunk.get(name) or cells_inside(chunk, name)
    if column is None:
        return [None] * n
    return [None if value is ABSENT else value for value in column] if ABSENT in column else column
