"""Scores of LLMs on prompts: a table with a `prompt` column and one numeric column per LLM, or a long one with a row
for each prompt and LLM."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import P2LWarning, ScoresError, did_you_mean, member
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.tables.columns import (
    Categories,
    checked,
    checked_prompt,
    is_long,
    is_no_number,
    is_numeric,
    is_own,
    prompt_column,
    required,
    thousands_in,
)
from p2l_sdk.tables.identifiers import LLMS, score_columns
from p2l_sdk.tables.near_names import near_names, warning_of
from p2l_sdk.tables.notation import require_one_notation
from p2l_sdk.tables.places import RowError, placed
from p2l_sdk.tables.reading import Applied, Findings, Reading
from p2l_sdk.tables.score_cells import Roles, as_numbers, details_of_llms, spelling, spells_numbers, written_scores
from p2l_sdk.tables.sources import Chunk, Source, open_source, table_errors, whole_table
from p2l_sdk.votes.long_scores import ask_for_long, wide_table
from p2l_sdk.votes.odd_lines import warn_of_total
from p2l_sdk.votes.score_rows import score_of, sound_rows
from p2l_sdk.votes.scores_outside import Outside, OutsideScores


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores as arrays.

    Attributes:
        prompts: `n_prompts` prompts, one for each row of the table.
        models: names of the LLMs.
        scores: `(n_prompts, n_models)`, higher is better; NaN for a missing score, if missing scores are allowed.
        categories: the other columns that label prompts (such as a task), `(n_prompts,)` each.
        outside: the scores that were outside [0, 1] when the table was read, and what was done; None if none was.
        findings: what else was noticed, and done, when the table was read.
    """

    prompts: list[Prompt]
    models: tuple[str, ...]
    scores: np.ndarray
    categories: Mapping[str, np.ndarray] = field(default_factory=dict)
    outside: OutsideScores | None = None
    findings: Findings = field(default_factory=Findings)

    def __repr__(self) -> str:
        return f"Scores({len(self.models):,} LLMs on {len(self.prompts):,} prompts)"

    @classmethod
    def read(
        cls,
        source: Any,
        models: Sequence[str] | None = None,
        *,
        not_llms: Sequence[str] = (),
        among: Sequence[str] | None = None,
        allow_missing: bool = False,
        outside: Outside | str | None = None,
        columns: Mapping[str, str] | None = None,
        rename: Mapping[str, str] | str | Path | None = None,
        skip_invalid: bool = False,
        max_rows: int | None = None,
    ) -> Scores:
        """Read a table with a `prompt` column and one column per LLM, or with the columns `prompt`, `model`, `score`.

        In the second form, rows without a score (a failed query of `p2l mpg measure`) are missing scores, and so are
        prompts that an LLM has no row for.

        Args:
            source: anything that `Votes.read` accepts; several files of one kind by a pattern ("answers-*.jsonl").
            models: the LLMs, in this order; by default all columns of numbers or percentages, sorted, without those
                of row numbers; and columns of outcomes (True and False, pass and fail), if all scores are such.
            not_llms: columns that are no LLMs, if `models` is not given.
            among: if `models` is not given, the LLMs are the columns with these names, whichever there are.
            allow_missing: whether a score may be missing (NaN, null, an empty cell of a CSV file).
            outside: what to do with scores outside [0, 1]: "clip" them, "rescale" all scores to [0, 1], or "drop" them
                (they become missing, whatever `allow_missing`). By default they are kept.
            columns, rename, skip_invalid, max_rows: as in `Votes.read`.

        Raises:
            ScoresError: a column is missing, there are no rows, a prompt is invalid, a score is not a finite number, or
                a numeric column is plainly no LLM's scores (`tables.identifiers`), or numbers of a column have points
                of two meanings.
            P2LError: `outside` is unknown.

        Warns:
            P2LWarning: scores were clipped, rescaled or dropped; it names the first and says how many. Columns of row
                numbers were left out. If nobody named the LLMs: columns that look like scores were not read, or were
                read though they are no numbers.
        """
        reading = Reading.of(columns, None, rename, skip_invalid, max_rows)
        with table_errors(ScoresError, source):
            named, applied = reading.apply(open_source(source))
            return cls.of_source(
                named,
                models,
                not_llms=not_llms,
                among=among,
                allow_missing=allow_missing,
                outside=outside,
                reading=reading,
                applied=applied,
            )

    @classmethod
    @table_errors(ScoresError)
    def of_source(
        cls,
        source: Source,
        models: Sequence[str] | None = None,
        *,
        not_llms: Sequence[str] = (),
        among: Sequence[str] | None = None,
        allow_missing: bool = False,
        outside: Outside | str | None = None,
        reading: Reading | None = None,
        applied: Applied | None = None,
    ) -> Scores:
        """Like `read`, for a source that is already open, and has the contract's columns (`Reading.apply`)."""
        wanted = as_outside(outside)
        table = whole_table(source.chunks)
        if not table:
            raise ScoresError("the scores file is empty")
        table, untyped = (
            {_trimmed(name): values for name, values in table.items()},
            spells_numbers(table, source.untyped),
        )
        details = details_of_llms(table) - {*(models or ()), *(among or ())}
        table = {name: values for name, values in table.items() if name not in details}
        long = is_long(table, untyped)
        if not long and not {"prompt", "conversation_a"} & table.keys():
            has = ", ".join(map(str, table))
            raise ScoresError(
                f"{source.place(0)} has no column 'prompt' (it has: {has}); if it has another name: "
                "--column prompt=NAME (columns={'prompt': NAME})"
            )
        taken = not long and models is None and among is None  # nobody named it
        if taken:
            ask_for_long(table, untyped, applied.columns if applied else {})
        written = written_scores(table, untyped, not_llms) if taken else {}
        spelt = spelling(table["score"]) if long else None
        table = {
            n: as_numbers(v) if n in written or n in {"score", *(models or among or ())} else v
            for n, v in table.items()
        }
        names = () if long else cls._columns(table, untyped, models, among, not_llms, written)
        hint = " (if it is no LLM: --not-llms, not_llms=[...])" if taken else ""
        table, at, skipped = sound_rows(
            table,
            ["score"] if long else names,
            long=long,
            allow_missing=allow_missing,
            hint=hint,
            place=source.place,
            skip=reading is not None and reading.skip_invalid,
        )
        with placed(lambda row: source.place(int(at[row]))):
            table, rows = wide_table(table) if long else (table, {})
        if long:
            names = cls._columns(table, untyped, models, among, not_llms, rows=rows)
        prompts = checked(prompt_column(table, 0), checked_prompt, 0)
        if len(prompts) > 1:
            warn_of_total(prompts[-1], source.place(int(at[-1])))

        def row_of(index: int, name: str) -> int:
            return int(at[rows.get(name, {}).get(index, index)])

        with placed(source.place):
            for name in names:
                require_one_notation(name, table[name], functools.partial(row_of, name=name))
            columns = [_column(table, name, allow_missing, row_of, hint) for name in names]
        numbers = set(rows) if long else {name for name in table if is_numeric(table[name], untyped)}
        categories = Categories(without=(numbers - set(not_llms)) | set(names))
        categories.add(table, len(prompts))
        read = np.stack(columns, 1)
        found = OutsideScores.of(read, names, row_of, source.place)
        if found is not None and wanted is not None:
            read, found = found.apply(read, wanted), replace(found, done=wanted)
            warnings.warn(found.outcome, P2LWarning, stacklevel=4)  # the caller of `read`
        near = near_names(dict(zip(names, np.isfinite(read).sum(0).tolist(), strict=True)))
        if near:
            warnings.warn(warning_of(near, "scores"), P2LWarning, stacklevel=4)
        done = applied or Applied(Reading(), source.untyped)
        roles = Roles.of(table, names, written, categories.arrays(), numbers | set(not_llms)) if taken else None
        if roles is not None and roles.warning is not None:
            warnings.warn(roles.warning, P2LWarning, stacklevel=4)
        if roles is not None and details:
            roles = replace(roles, texts=(*roles.texts, *sorted(details)))
        said = str(roles or (f"read as LLMs: {', '.join(names)}; scores are {spelt}" if spelt else ""))
        findings = Findings(skipped, done.columns, renamed=done.renamed, near=near, roles=said)
        return cls(prompts, names, read, categories.arrays(), found, findings)

    @staticmethod
    def _columns(
        table: Chunk,
        untyped: bool,
        models: Sequence[str] | None,
        among: Sequence[str] | None,
        not_llms: Sequence[str],
        written: Collection[str] = (),
        *,
        rows: Mapping[str, Mapping[int, int]] | None = None,
    ) -> tuple[str, ...]:
        """The LLMs' columns of a table, of which `written` were no numbers; `rows` are the LLMs of a long one, with
        their rows."""
        if models is not None:
            names = tuple(models)
        elif among is not None:
            names = tuple(name for name in among if name in table)
        elif rows is not None:
            names = tuple(sorted(name for name, of_prompts in rows.items() if of_prompts and name not in not_llms))
        else:
            names = tuple(sorted(score_columns(table, untyped, LLMS, without=not_llms)))
        for name in names:
            if name not in table:
                near = did_you_mean(name, [other for other in map(str, table) if not is_own(other)])
                raise ScoresError(
                    f"the scores file has no column {name!r}; it needs one for each LLM of the model; {near}"
                )
        if not names:
            has = ", ".join(map(str, table))
            raise ScoresError(
                f"the scores file has no numeric column; it needs one for each LLM (it has: {has}); "
                "if a column of bools is an LLM, name all LLMs: --llms A,B (models=[...])"
            )
        return names


def _trimmed(name: Any) -> Any:
    return name.strip() if isinstance(name, str) else name


def as_outside(name: Outside | str | None) -> Outside | None:
    """What to do with scores outside [0, 1], by its name; raises `P2LError` listing the legal names."""
    return None if name is None else member(Outside, "scores_outside", name)


def _column(table: Chunk, name: str, allow_missing: bool, row_of: Callable[[int, str], int], hint: str) -> np.ndarray:
    values = table[name] if allow_missing else required(table, name, 0)
    numbers = np.array([score_of(value) for value in values])
    for row in np.flatnonzero(~np.isfinite(numbers)):
        value = values[int(row)]
        if not (allow_missing and is_no_number(value)):
            fault = f": the score of {name!r} is {value!r}; it must be a finite number{thousands_in(value)}{hint}"
            raise RowError(row_of(int(row), name), fault)
    return numbers
