"""Columns of votes that a table lacks: an error with the options that read it, found by trying them on the whole table."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence

from p2l_sdk.errors import TableError
from p2l_sdk.tables.faults import NEW_LINE
from p2l_sdk.tables.headers import VOTES, guess
from p2l_sdk.tables.reading import COLUMNS, Reading
from p2l_sdk.tables.sources import Chunk, Source, whole_table
from p2l_sdk.tables.vote_codes import VoteCodes, winner_options


def require_columns(source: Source, reading: Reading, with_prompts: bool = True) -> Source:
    """The source, which has the columns of votes.

    Args:
        source: the table, with the contract's columns as far as they are known.
        reading: how it is read.
        with_prompts: whether the votes have to be on prompts.

    Raises:
        TableError: a column is missing; the message has the options that name it, the winners, and faulty rows.
    """
    first, source = source.peek()
    needed = VOTES if with_prompts and "conversation_a" not in first else VOTES[1:]
    missing = [name for name in needed if name not in first]
    if not first or not missing:
        return source
    table = whole_table(source.chunks)
    has = f"(it has: {', '.join(map(str, first))})"
    names = ", ".join(map(repr, missing))
    text = f"{source.place(0)} has no column{'s' if len(missing) > 1 else ''} {names} {has}"
    found = guess(table, missing, [name for name in first if name in COLUMNS])
    if not found:
        raise TableError(f"{text}; if it has another name: --column {missing[0]}=NAME (columns={{...}})")
    options = [f"--column {shlex.quote(f'{ours}={found[ours]}')}" for ours in missing if ours in found]
    options += [f"--column {ours}=NAME" for ours in missing if ours not in found]
    lines = [text]
    if len(found) == len(missing):
        more, about = _trial(source, table, found, reading, with_prompts)
        options += more
        lines += about
    lines.append(f"if that is right, add: {' '.join(options)} (in Python: columns={{...}}, winners={{...}}, ...)")
    raise TableError(NEW_LINE.join(lines))


def _trial(
    source: Source, table: Chunk, found: Mapping[str, str], reading: Reading, with_prompts: bool
) -> tuple[Sequence[str], Sequence[str]]:
    """What else the table needs if these are its columns: options, and lines about its winners and faulty rows."""
    theirs = {name: ours for ours, name in found.items()}
    codes = VoteCodes(with_prompts, dataclasses.replace(reading, skip_invalid=True), source.place)
    codes.add({theirs.get(name, name): column for name, column in table.items() if name not in found})
    read = codes.winners_of()
    options = winner_options(read) if read.asked else []
    lines = [f"spellings of winner: {read.found}"] if read.found else []
    faulty = codes.faults.skipped(codes.n_rows)
    mapped = sum(read.unread.values()) if read.asked else 0
    if faulty.n > mapped:
        options += [] if reading.skip_invalid else ["--skip-invalid"]
        lines += [f"{faulty.n - mapped:,} of {faulty.n_rows:,} rows are faulty: {faulty.why}", *codes.faults.lines()]
    return options, lines
