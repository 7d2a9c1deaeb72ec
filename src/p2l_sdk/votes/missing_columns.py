"""Columns of votes that a table lacks: an error with the options that read it, found by trying them on all rows."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence

from p2l_sdk.errors import NEW_LINE, TableError
from p2l_sdk.tables.columns import is_index, is_numeric, is_own
from p2l_sdk.tables.grids import column_key
from p2l_sdk.tables.headers import VOTES, answers_of_pairs, guess, names_of_sides, pair_of_sides
from p2l_sdk.tables.reading import COLUMNS, Reading
from p2l_sdk.tables.shapes import other_shape, turned
from p2l_sdk.tables.sources import Chunk, Source, whole_table
from p2l_sdk.tables.vote_codes import OUTCOMES, VoteCodes, is_open, winner_guesses, winner_options
from p2l_sdk.tables.winners import number_in

_OF_LLMS = ("model", "llm", "model_name", "llm_name", "modell")  # columns of LLMs in a table to be turned


def require_columns(
    source: Source, reading: Reading, columns: Mapping[str, str], *, with_prompts: bool = True
) -> Source:
    """The source, which has the columns of votes.

    Args:
        source: the table, with the contract's columns as far as they are known.
        reading: how it is read.
        columns: those of the contract's columns that have another name in the file -> that name.
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
    has = ", ".join(str(columns.get(str(name), name)) for name in first)
    names = ", ".join(map(repr, missing))
    lines = [f"{source.place(0)} has no column{'s' if len(missing) > 1 else ''} {names} (it has: {has})"]
    if columns:
        lines.append(f"read already: {', '.join(f'{ours} is {theirs!r}' for ours, theirs in columns.items())}")
    answers = answers_of_pairs(first)
    if answers is not None and "model_a" in missing:
        lines.append(
            f"{answers[0]!r} and {answers[1]!r} are answers, as files for DPO have them, and no column says which LLMs "
            "gave them; votes need the names of both: add columns such as chosen_model and rejected_model"
        )
        raise TableError(NEW_LINE.join(lines))
    logged = {"doc_id", "doc", "resps"} <= first.keys()
    if logged or {"results", "configs", "versions"} <= first.keys():
        what = "a sample log" if logged else "a summary"
        lines[0] = f"{source.place(0)} is {what} of lm-evaluation-harness, which holds no votes"
        lines.append("to compare the LLMs on its tasks: p2l mpg report --results FOLDER")
        lines.append(
            "to train on it: a table with the columns prompt, model and score, one row for each sample (doc has the "
            "question, model is the folder's name)"
        )
        raise TableError(NEW_LINE.join(lines))
    rated = _rated_sides(table, source.untyped) if "winner" in missing else None
    found = guess(table, missing, [*(name for name in first if name in COLUMNS), *(rated or ())])
    if "model_a" in missing and "model_a" not in found:
        found.pop("winner", None)  # of what?
    no_prompts = ["there is no column of prompts: none looks like it"] if {"prompt"} & {*missing} - {*found} else []
    if rated is not None:
        lines.append(
            f"{rated[0]!r} and {rated[1]!r} look like a rating of each side: write who won into a column winner "
            "(model_a where the first is higher, model_b, or tie)"
        )
        lines.append(f"if they are LLMs, with scores: --llms {shlex.quote(','.join(rated))} (models=[...])")
    shape = other_shape(table)
    if not shape and "prompt" in missing and any(column_key(name) in _OF_LLMS for name in table):
        shape = turned(table, rows="LLMs", columns="prompts", first="prompt")
    if shape:
        raise TableError(NEW_LINE.join([*lines, shape]))
    if not found:
        lines += no_prompts
        lines.append(f"if it has another name, add: --column {missing[0]}=NAME (columns={{...}})")
        raise TableError(NEW_LINE.join(lines))
    options = [f"--column {shlex.quote(f'{ours}={found[ours]}')}" for ours in missing if ours in found]
    options += [f"--column {ours}=NAME" for ours in missing if ours not in found]
    named = {ours: found.get(ours, "NAME") for ours in missing}
    python = [f"columns={named}"]
    if len(found) == len(missing):
        more, about, others = _trial(source, table, found, reading, {**columns, **found}, with_prompts)
        options += more
        python += others
        lines += about
    lines += no_prompts
    if "model_a" not in found and "prompt" in found and "model_a" in missing:
        lines.append(
            "if it is a table of scores, with a column of numbers for each LLM, name the prompt's column alone"
        )
    lines.append(f"if that is right, add: {' '.join(options)} (in Python: {', '.join(python)})")
    raise TableError(NEW_LINE.join(lines))


def _rated_sides(table: Chunk, untyped: bool) -> tuple[str, str] | None:
    """Two columns of numbers that are named as two sides are, where others name the LLMs of these sides."""
    numbers = [str(n) for n, v in table.items() if not is_own(n) and not is_index(n) and is_numeric(v, untyped)]
    return pair_of_sides(numbers) if names_of_sides(table) else None


def _trial(
    source: Source,
    table: Chunk,
    found: Mapping[str, str],
    reading: Reading,
    columns: Mapping[str, str],
    with_prompts: bool,
) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """What else the table needs if these are its columns: options, lines about its winners and faulty rows, and the
    options in Python."""
    theirs = {name: ours for ours, name in found.items()}
    codes = VoteCodes(with_prompts, dataclasses.replace(reading, skip_invalid=True), source.place, columns)
    codes.add({theirs.get(name, name): column for name, column in table.items() if name not in found})
    read = codes.winners_of()
    options = winner_options(read) if read.asked else []
    python = [f"winners={winner_guesses(read)}"] if read.asked else []
    lines = [f"spellings of winner: {read.found}"] if read.found else []
    if codes.faults:
        options += [] if reading.skip_invalid else ["--skip-invalid"]
        python += [] if reading.skip_invalid else ["skip_invalid=True"]
        lines += [*codes.faults.lines(), codes.faults.summary(codes.n_rows)]
    if read.asked and any(number_in(text) is not None for text in read.unread):
        lines.append("numbers alone do not say which LLM they stand for: make sure of it")
    if any(map(is_open, options)):
        lines.append(f"for each ? write an outcome ({OUTCOMES})")
    return options, lines, python
