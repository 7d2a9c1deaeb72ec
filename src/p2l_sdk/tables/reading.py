"""How a table as people have it becomes one with the contract's columns: names of columns, spellings of winners, LLMs
to rename, and whether faulty rows are left out. Every reader of votes and scores goes through `Reading.apply`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2l_sdk.errors import P2LError, TableError, did_you_mean, nearest
from p2l_sdk.modeling.feedback_p2l import Winner
from p2l_sdk.tables.documents import read_yaml
from p2l_sdk.tables.faults import Skipped
from p2l_sdk.tables.files import read_json, read_rows
from p2l_sdk.tables.grids import column_key
from p2l_sdk.tables.headers import beaten, known_columns, one_hot, winner_of
from p2l_sdk.tables.inside import cells_inside, prompt_inside
from p2l_sdk.tables.limits import MOST_ROWS, too_many_rows
from p2l_sdk.tables.near_names import NearNames
from p2l_sdk.tables.prompt_cells import HOLDERS
from p2l_sdk.tables.sources import ABSENT, Chunk, Source
from p2l_sdk.tables.text import path_of
from p2l_sdk.tables.warn import warn_caller
from p2l_sdk.tables.winners import checked_winners

_MOST = 5  # names in a message
COLUMNS = ("prompt", "model_a", "model_b", "winner", "weight", "conversation_a", "model", "score")
_NAMING = ("model_a", "model_b", "model")
_OF_LLMS = ("model_a", "model_b", "winner", "model")  # columns whose values are renamed


@dataclass(frozen=True)
class Findings:
    """What was noticed in a table, and done about it, when it was read.

    Attributes:
        skipped: the faulty rows that were left out; None if there was none.
        columns: the contract's columns that have another name in the table -> that name.
        winners: spellings of the winner other than the contract's -> what they were read as.
        renamed: names of LLMs that were replaced -> the new names.
        near: names that are probably one LLM.
        trimmed: LLMs whose names had blanks around them in some rows.
        roles: what the columns of a table of scores were read as, where nobody named the LLMs.
    """

    skipped: Skipped | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    winners: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    near: tuple[NearNames, ...] = ()
    trimmed: tuple[str, ...] = ()
    roles: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """What to say of them in a summary: label -> text."""
        said: dict[str, str] = {}
        if self.columns:
            said["columns"] = ", ".join(f"{ours} is {theirs!r}" for ours, theirs in self.columns.items())
        if self.winners:
            said["winners"] = ", ".join(f"{spelling!r} is {meaning}" for spelling, meaning in self.winners.items())
        if self.roles:
            said["scores"] = self.roles
        if self.renamed:
            said["renamed"] = ", ".join(f"{old} to {new}" for old, new in self.renamed.items())
        if self.trimmed:
            more = f" and {len(self.trimmed) - _MOST} more" if len(self.trimmed) > _MOST else ""
            said["trimmed"] = f"blanks around {', '.join(self.trimmed[:_MOST])}{more}"
        if self.skipped is not None:
            said["left out"] = f"{self.skipped.n:,} of {self.skipped.n_rows:,} rows: {self.skipped.why}"
        if self.near:
            said["near names"] = "; ".join(map(str, self.near))
        return said

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "skipped": None if self.skipped is None else self.skipped.to_dict(),
            "columns": dict(self.columns),
            "winners": dict(self.winners),
            "renamed": dict(self.renamed),
            "trimmed": list(self.trimmed),
            "near": [dataclasses.asdict(pair) for pair in self.near],
            "roles": self.roles,
        }


@dataclass(frozen=True)
class Reading:
    """How a table of votes or scores is read.

    Attributes:
        columns: the contract's column -> its name in the table.
        winners: spelling of a winner -> outcome, None for rows to leave out.
        rename: LLM as the table names it -> its new name.
        skip_invalid: whether faulty rows are left out.
        max_rows: the most rows that are read; a table with more is an error.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    winners: Mapping[str, Winner | None] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    skip_invalid: bool = False
    max_rows: int = MOST_ROWS

    @classmethod
    def of(
        cls,
        columns: Mapping[str, str] | None = None,
        winners: Mapping[Any, str] | None = None,
        rename: Mapping[str, str] | str | Path | None = None,
        skip_invalid: bool = False,
        max_rows: int | None = None,
    ) -> Reading:
        """The settings, checked.

        Args:
            columns: {"prompt": "Question", "winner": "Which is better?"}.
            winners: {"Model A": "model_a"}; "skip" leaves rows with this spelling out.
            rename: {"GPT-4o-mini": "gpt-4o-mini"}, or a file of it (see `read_renames`).
            skip_invalid: whether faulty rows are left out.
            max_rows: the most rows that are read; by default `limits.MOST_ROWS`.

        Raises:
            P2LError: a column or an outcome is none of the contract's, a column is named twice, or a rename has no end.
        """
        columns, winners = _mapping(columns, "columns"), _mapping(winners, "winners")
        for ours in columns:
            if ours not in COLUMNS:
                raise P2LError(f"columns: {ours!r} is no column of votes or scores; {did_you_mean(ours, COLUMNS)}")
        theirs = [str(name) for name in columns.values()]
        twice = next((name for name in theirs if theirs.count(name) > 1), None)
        if twice is not None:
            raise P2LError(f"columns: {twice!r} is named for two columns; name each once")
        if not isinstance(skip_invalid, bool):
            raise P2LError(f"skip_invalid is {skip_invalid!r}; it must be true or false")
        if max_rows is not None and (not isinstance(max_rows, int) or isinstance(max_rows, bool) or max_rows < 1):
            raise P2LError(f"max_rows is {max_rows!r}; it must be an integer > 0")
        renames = read_renames(rename) if isinstance(rename, str | Path) else _mapping(rename, "rename")
        return cls(
            {ours: str(name) for ours, name in columns.items()},
            checked_winners(winners),
            _checked_renames(renames),
            skip_invalid,
            MOST_ROWS if max_rows is None else max_rows,
        )

    def apply(self, source: Source) -> tuple[Source, Applied]:
        """The source with the contract's columns and the new names, and what was done, known once it is read."""
        applied = Applied(self, source.untyped)
        if source.n_rows is not None and source.n_rows > self.max_rows:
            raise TableError(f"it has {source.n_rows:,} rows, {too_many_rows(self.max_rows)}")
        return dataclasses.replace(source, chunks=applied.chunks(source.chunks)), applied


def read_renames(path: str | Path) -> dict[str, str]:
    """New names of LLMs from a file: {old: new} as .yaml, .yml or .json, or a table (.csv, ...) of columns old, new.

    Raises:
        P2LError: it cannot be read, or holds anything else.
    """
    file = path_of(path)
    suffix = file.suffix.lower()
    if suffix in (".yaml", ".yml", ".json"):
        found = read_json(file) if suffix == ".json" else read_yaml(file)
        if not isinstance(found, dict):
            raise P2LError(f"{str(path)!r}: a file of new names holds a mapping, one 'old: new' for each LLM")
        return found
    rows = list(read_rows(file))
    if any(not {"old", "new"} <= row.keys() for row in rows):
        raise P2LError(f"{str(path)!r}: a table of new names has the columns old and new")
    return {str(row["old"]): str(row["new"]) for row in rows}


class Applied:
    """Gives chunks the contract's columns, and notes what it did.

    Attributes:
        columns: as in `Findings`.
        renamed: likewise.
    """

    def __init__(self, reading: Reading, untyped: bool) -> None:
        self.columns: dict[str, str] = {}
        self.renamed: dict[str, str] = {}
        self._reading = reading
        self._untyped = untyped
        self._outcomes: dict[str, str] = {}
        self._begun = self._beaten = False
        self._llms: dict[str, None] = {}  # as the table names them; where some are renamed

    def chunks(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """The chunks likewise; after the last, a warning names the renames that met no LLM."""
        n_rows = 0
        for chunk in chunks:
            n_rows += len(next(iter(chunk.values()), ()))
            if n_rows > self._reading.max_rows:
                raise TableError(f"it has {too_many_rows(self._reading.max_rows)}")
            yield self.chunk(chunk)
        if unmet := [old for old in self._reading.rename if old not in self.renamed]:
            warn_caller(f"rename: {not_there(unmet, self._llms, 'an LLM of the table')}")

    def chunk(self, chunk: Chunk) -> Chunk:
        """The chunk with the contract's columns."""
        if not chunk:
            return chunk
        self._find_columns(chunk)
        theirs = {name: ours for ours, name in self.columns.items()}
        hidden = {ours for ours in self.columns if ours not in theirs} | self._outcomes.keys()
        named = {theirs.get(name, name): column for name, column in chunk.items() if name not in hidden}
        for ours, name in self.columns.items():
            if name not in chunk and (inside := cells_inside(chunk, name)) is not None:
                named[ours] = inside
        if self._outcomes and "winner" not in named:
            words = list(self._outcomes.values())
            rows = zip(*(chunk.get(name, _absent(chunk)) for name in self._outcomes), strict=True)
            named["winner"] = [winner_of(row, words) for row in rows]
        if self._beaten and "winner" not in named:
            named["winner"] = ["model_a"] * len(next(iter(chunk.values())))
        return self._with_new_names(named) if self._reading.rename else named

    def _find_columns(self, chunk: Chunk) -> None:
        given = self._reading.columns
        if not self._begun:
            self._begun = True
            for ours, name in given.items():
                near = [n for n in chunk if isinstance(n, str) and column_key(n) == column_key(name)]
                if name in chunk or len(near) == 1:
                    self.columns[ours] = name if name in chunk else near[0]
                elif cells_inside(chunk, name) is not None:
                    self.columns[ours] = name
                else:
                    raise TableError(f"there is no column {name!r} (for {ours}); {did_you_mean(name, map(str, chunk))}")
            pair = beaten(chunk, self._untyped, self.columns)
            if pair is not None:
                self._beaten = True
                self.columns |= dict(zip(("model_a", "model_b"), pair, strict=True))
        self.columns = {
            ours: name
            for ours, name in known_columns(chunk, self._untyped, self.columns).items()
            if ours != name or ours in given
        }
        self._outcomes = self._outcomes or one_hot(chunk, self.columns)
        if not {"prompt", "conversation_a"} & (chunk.keys() | self.columns.keys()):
            path = prompt_inside(chunk)
            if path is not None:
                self.columns["conversation_a" if path.endswith(HOLDERS) else "prompt"] = path

    def _with_new_names(self, chunk: Chunk) -> Chunk:
        new = self._reading.rename
        named: Chunk = {}
        for name, column in chunk.items():
            key = new.get(name, name) if name not in COLUMNS else name
            if key in named or (key != name and key in chunk):
                raise TableError(f"the columns {name!r} and {key!r} become one LLM; a prompt has one score of each LLM")
            if key != name:
                self.renamed[name] = key
            named[key] = [self._new(value) for value in column] if name in _OF_LLMS else column
            self._llms |= dict.fromkeys(v for v in column if isinstance(v, str)) if name in _NAMING else {name: None}
        return named

    def _new(self, value: Any) -> Any:
        new = self._reading.rename.get(value.strip()) if isinstance(value, str) else None
        if new is None:
            return value
        self.renamed[value.strip()] = new
        return new


def not_there(given: Sequence[str], there: Iterable[str], what: str) -> str:
    """The message for names that were given, but do not occur: each with the nearest that does."""
    there = list(there)
    near = {name: nearest(name, there) for name in given[:_MOST]}
    said = [f"{name!r}" + (f" (did you mean {close!r}?)" if close else "") for name, close in near.items()]
    more = f" and {len(given) - _MOST} more" if len(given) > _MOST else ""
    return f"{', '.join(said)}{more} {'is' if len(given) == 1 else 'are'} not {what}, so nothing was done"


def _absent(chunk: Chunk) -> list[Any]:
    return [ABSENT] * len(next(iter(chunk.values())))


def _mapping(value: Any, name: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise P2LError(f"{name} is {value!r}; it must be a mapping, such as {{name: name}}")
    return value


def _checked_renames(renames: Mapping[Any, Any]) -> dict[str, str]:
    found = {str(old).strip(): str(new).strip() for old, new in renames.items()}
    for old, new in found.items():
        if not old or not new:
            raise P2LError(f"rename: {old!r} to {new!r} names no LLM; write old=new")
        if new in found and found[new] != new:
            raise P2LError(f"rename: {old!r} becomes {new!r}, which is renamed too; name the last name for both")
    return found
