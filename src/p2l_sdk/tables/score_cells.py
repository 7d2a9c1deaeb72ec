"""Scores as people write them: "63 %", "pass" and "fail", True and False; and which columns of a table of scores are
read as LLMs, which as labels, and which not at all.

Read without asking: a column of percentages, as hundredths; and columns of outcomes, as 1 and 0, where all columns of
scores are such, or beside several of 0 and 1. Whatever else looks like scores is named (`Roles`), never left out in
silence.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from p2l_sdk.tables.columns import (
    GROUPED,
    is_index,
    is_long,
    is_missing,
    is_no_number,
    is_numeric,
    is_own,
    may_be_scores,
    number_of,
)
from p2l_sdk.tables.headers import guess, names_of_sides
from p2l_sdk.tables.identifiers import is_flag
from p2l_sdk.tables.sources import Chunk

PERCENT, OUTCOMES = "in percent", "right or wrong"
_PERCENT = re.compile(r"\s*([+-]?\d+(?:[.,]\d+)?)\s*%\s*")
_OUTCOMES = {
    "true": 1.0, "false": 0.0, "pass": 1.0, "fail": 0.0, "passed": 1.0, "failed": 0.0, "correct": 1.0,
    "incorrect": 0.0, "right": 1.0, "wrong": 0.0,
}  # fmt: skip
_SPELT = re.compile(r"\s*[+-]?\d+([.,]\d+)?\s*(%|/\s*\d+([.,]\d+)?|points?|pts?\.?|punkte?)\s*", re.I)
_VERDICTS = {*_OUTCOMES, "yes", "no", "y", "n", "ja", "nein", "ok", "error", "timeout"}
_SOME = 0.2  # share of cells that look like scores, from which a column is no label
_NAMED = 12  # columns in a line


def spelling(values: Iterable[Any]) -> str | None:
    """How a column spells scores that are certain: `PERCENT`, `OUTCOMES`, or None."""
    cells = [value for value in values if not is_no_number(value)]
    if cells and all(isinstance(value, str) and is_percent(value) for value in cells):
        return PERCENT
    words = {value if isinstance(value, bool) else str(value).strip().lower() for value in cells}
    if words and words != {"failed"} and all(isinstance(word, bool) or word in _OUTCOMES for word in words):
        return OUTCOMES
    return None


def is_percent(text: str) -> bool:
    """Whether a text is a percentage: "63 %"."""
    return _PERCENT.fullmatch(text) is not None


def as_number(value: Any) -> Any:
    """The number that a cell of a column with a `spelling` stands for; any other value as it is."""
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return value
    percent = _PERCENT.fullmatch(value)
    if percent is not None:
        number = percent[1].replace(",", ".")
        whole, _, digits = number.partition(".")
        return float(f"{whole}{digits}e-{len(digits) + 2}")  # 63.5 % is 0.635, not 0.635 and a rounding error
    return _OUTCOMES.get(value.strip().lower(), value)


def as_numbers(values: Sequence[Any]) -> list[Any]:
    """A column with a `spelling` as numbers; the column itself if it has none."""
    return [as_number(value) for value in values] if spelling(values) else list(values)


def written_scores(table: Chunk, untyped: bool, without: Iterable[str] = ()) -> dict[str, str]:
    """The columns that hold scores for certain, though no numbers -> how they are spelt.

    Args:
        table: the columns.
        untyped: whether all values are strings, even numbers.
        without: columns that hold no scores.
    """
    left = set(without)
    rest = {n: v for n, v in table.items() if n not in left and not is_own(n) and not is_index(n)}
    numbers = [values for values in rest.values() if is_numeric(values, untyped)]
    found = {name: how for name, values in rest.items() if (how := spelling(values)) and not is_flag(name)}
    outcomes = [name for name, how in found.items() if how == OUTCOMES]
    binary = all(number_of(v) in (0.0, 1.0) for values in numbers for v in values if not is_no_number(v))
    alone = not numbers and len(outcomes) > 1
    if PERCENT in found.values() or not (alone or (binary and len(numbers) > 1)):  # one beside one may be any flag
        found = {name: how for name, how in found.items() if how == PERCENT}
    return found


def details_of_llms(table: Chunk) -> set[str]:
    """The columns that say more of an LLM's answers, beside its scores: of "gpt-4" such as "gpt-4|total_cost"."""
    names = {name for name in table if isinstance(name, str)}
    return {name for name in names if "|" in name and name.rpartition("|")[0] in names}


def spells_numbers(table: Chunk, untyped: bool) -> bool:
    """Whether the values of a table are texts, even numbers: of a file that has no types, or of one in memory where
    everything is a string (`pd.read_csv(..., dtype=str)`)."""
    if untyped:
        return True
    rest = [values for name, values in table.items() if not is_own(name)]
    kinds = {type(value) for values in rest for value in values if not is_missing(value)}
    return kinds == {str} and any(is_numeric(values, True) for values in rest)


def is_scores(chunk: Chunk, untyped: bool, named: bool = False) -> bool:
    """Whether this is a table of scores: it has prompts and columns of scores, and none of the columns of votes; nor
    two columns that name the sides of votes, unless the LLMs are `named`."""
    if not may_be_scores(chunk) or (not named and names_of_sides(chunk)):
        return False
    if is_long(chunk, untyped):
        return True
    if not {"prompt", "conversation_a"} & set(chunk):
        return False
    untyped = spells_numbers(chunk, untyped)
    others = ((name, values) for name, values in chunk.items() if not is_own(name) and not is_index(name))
    if any(is_numeric(values, untyped) for name, values in others):
        return True
    written = written_scores(chunk, untyped)
    if not written and "model" in chunk:
        written = {name: how for name, values in chunk.items() if (how := spelling(values)) and not is_own(name)}
    return bool(written) and "model_a" not in guess(chunk, ("model_a", "model_b"), list(written))


@dataclass(frozen=True)
class Roles:
    """What the columns of a table of scores were read as, where nobody named them.

    Attributes:
        llms: the LLMs.
        written: those of them whose scores are no numbers -> how they are spelt.
        labels: the columns that label prompts.
        texts: the other columns of texts.
        unread: columns that look like scores, but were not read -> an example of a cell.
    """

    llms: tuple[str, ...]
    written: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        table: Chunk,
        llms: Sequence[str],
        written: Mapping[str, str],
        labels: Iterable[str],
        without: Iterable[str],
    ) -> Roles:
        """The roles of all columns.

        Args:
            table: the columns.
            llms: those that are LLMs.
            written: as in the class.
            labels: those that may be labels.
            without: those that the user says are no LLMs.
        """
        known = {*llms, *without}
        rest = {n: v for n, v in table.items() if n not in known and not is_own(n) and n != "model"}
        rest = {name: values for name, values in rest.items() if not is_index(name)}
        unread = {name: sample for name, values in rest.items() if (sample := _like_scores(name, values)) is not None}
        given = set(labels)
        kept = tuple(name for name in rest if name in given and name not in unread)
        texts = tuple(name for name in rest if name not in given and name not in unread)
        return cls(tuple(llms), dict(written), kept, texts, unread)

    def __str__(self) -> str:
        """All of them in one line."""
        llms = [f"{name} ({self.written[name]})" if name in self.written else name for name in self.llms]
        text = f"read as LLMs: {_listed(llms)}"
        if self.labels:
            text += f"; as labels: {_listed(self.labels)}"
        others = [f"{name} ({sample})" for name, sample in self.unread.items()] + list(self.texts)
        return text + (f"; not read: {_listed(others)}" if others else "")

    @property
    def warning(self) -> str | None:
        """What to warn of; None if every column is certain."""
        if not self.unread and OUTCOMES not in self.written.values():
            return None
        if not self.unread:
            return f"{self} (if one is none: --not-llms, not_llms=[...])"
        names = shlex.quote(",".join(self.unread))
        return (
            f"{self}; scores must be numbers, percentages (63 %), or pass and fail: mend what is an LLM's, or name all "
            f"LLMs (--llms A,B; models=[...]); of what is none say so: --not-llms {names} (not_llms=[...])"
        )


def _like_scores(name: str, values: Sequence[Any]) -> str | None:
    """An example of a cell of a column that looks like scores, or is empty; None for any other column."""
    cells = [value for value in values if not is_no_number(value)]
    if not cells:
        return "empty"
    if is_flag(name):
        return None
    number = [_is_like_a_score(value) for value in cells]
    if sum(number) < _SOME * len(cells):
        return None
    odd = next((value for value in cells if isinstance(value, str)), cells[0])
    return repr(odd)


def _is_like_a_score(value: Any) -> bool:
    if isinstance(value, str):
        return (
            value.strip().lower() in _VERDICTS
            or _SPELT.fullmatch(value) is not None
            or GROUPED.fullmatch(value.strip()) is not None
            or number_of(value) == number_of(value)
        )
    return isinstance(value, int | float)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
