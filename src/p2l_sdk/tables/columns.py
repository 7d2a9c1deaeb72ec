"""The contract of a row of votes or scores: what is a legal prompt, LLM, winner, weight or category, and the message
for what is not.

There is one check per kind of cell. A column goes through it value by value (`checked`; of votes, see `vote_codes`).
Errors name the row.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from p2l_sdk.errors import PromptError, TableError
from p2l_sdk.modeling.number_p2l import to_number
from p2l_sdk.modeling.prompt_p2l import Prompt, user_turns
from p2l_sdk.tables.limits import MOST_CELLS
from p2l_sdk.tables.places import RowError
from p2l_sdk.tables.prompt_cells import PromptCells, prompt_of_cell
from p2l_sdk.tables.sources import ABSENT, Chunk

# what tables write where there is no number
_NOTHING = frozenset(
    ("", "nan", "n/a", "na", "#n/a", "n.a.", "k.a.", "none", "null", "<na>", "-", "--", "\u2013", "\u2014")
)
_NO_VALUE = {*_NOTHING, "?", "missing", "error", "failed", "timeout"}  # or where it may be 0
_INVISIBLE = " \t\r\n\v\f\ufeff\u200b\u200c\u200d\u2060\u2009\u202f\u3000"  # blanks, and marks that nobody sees
_COMMA = re.compile(r"\s*([+-]?[0-9]+),([0-9]+(?:[eE][+-]?[0-9]+)?)\s*")  # a decimal comma
_INFINITE = {"inf": math.inf, "+inf": math.inf, "-inf": -math.inf, "infinity": math.inf, "-infinity": -math.inf}
_THOUSANDS = re.compile(r"\s*[+-]?[1-9][0-9]{0,2},[0-9]{3}\s*")  # or a separator of thousands
# 1,234.5 or 1.234,5
GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:[,.'\u2019\u00a0\u202f ][0-9]{3})+(?:[.,][0-9]+)?")
LONGEST_LABEL = 200  # characters; a longer string is a text, not the name of a category

# columns that are neither a category nor an LLM; `_INDEX` are names that programs give to row numbers
_OWN = {"prompt", "model_a", "model_b", "winner", "weight", "timestamp", "conversation_a", "conversation_b"}
_INDEX = re.compile(
    r"\s*|unnamed: ?\d+(_level_\d+)?(\.\d+)*|index(\.\d+)?|level_\d+|__index_level_\d+__|row\.?names?|\.\.\.\d+|#", re.I
)

T = TypeVar("T")


# --- one cell --------------------------------------------------------------------------------------------------------


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: absent, None, NaN, pandas' NA, or an empty string, as CSV writes it."""
    if value is None or value is ABSENT or (isinstance(value, str) and not value):
        return True
    return (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in ("NAType", "NaTType")


def is_no_number(value: Any) -> bool:
    """Whether a cell of a column of numbers is empty; blanks and what tables write in place of a number, such as "n/a"
    and "-", spell that too."""
    return is_missing(value) or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def number_of(value: Any) -> float:
    """The number that a cell contains or spells, with a point or a comma; NaN if there is none, or if it is not certain
    which ("1,234")."""
    if isinstance(value, str):
        number = _INFINITE.get(value.strip().lower(), math.nan) if math.isnan(to_number(value)) else to_number(value)
        if not math.isnan(number):
            return number
    else:
        try:
            return math.nan if isinstance(value, bytes) else float(value)
        except (TypeError, ValueError, OverflowError):
            return math.nan
    comma = _COMMA.fullmatch(value)
    return math.nan if comma is None or _THOUSANDS.fullmatch(value) else to_number(f"{comma[1]}.{comma[2]}")


def thousands_in(value: Any) -> str:
    """What to do with a text that may separate thousands, and is no number therefore; else ""."""
    if not isinstance(value, str) or not GROUPED.fullmatch(value.strip()):
        return ""
    return ", without separators of thousands, and with a point before the decimals"


def llm_name(column: str, value: Any) -> str:
    """Validate the name of an LLM in this column, and return it without blanks around it."""
    if not isinstance(value, str) or not trimmed(value):
        raise TableError(f"{column} is {shown(value)}; it must be the name of an LLM")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise TableError(f"{column} is {value!a}, which ends or begins within a character; correct the name") from None
    return trimmed(value)


def trimmed(name: str) -> str:
    """The name of an LLM without blanks and invisible marks around it; a blank that does not break a line is one."""
    return name.replace("\xa0", " ").strip(_INVISIBLE) if name.isascii() is False else name.strip()


def weight_of(value: Any) -> float:
    """The weight in a cell, 1 if the row has no such column."""
    weight = 1.0 if value is ABSENT else number_of(value)
    if 0.0 <= weight < math.inf:
        return weight
    what = "missing" if is_no_number(value) else shown(value) if math.isnan(weight) else weight
    raise TableError(f"weight is {what}; it must be a finite number >= 0")


def checked_prompt(value: Any) -> Prompt:
    """The prompt in a cell: a string, or chat messages (a list of strings is a list of user turns)."""
    value = prompt_of_cell(value)
    if not (isinstance(value, str) and value.strip()) and not (isinstance(value, list) and value):
        raise TableError("the prompt is empty, or neither a string nor a list of user turns")
    try:
        user_turns(value)
    except PromptError as error:
        raise TableError(str(error)) from None
    return value


def shown(value: Any) -> str:
    """A value in a message."""
    return "missing" if is_missing(value) else repr(value)


# --- a column --------------------------------------------------------------------------------------------------------


def required(chunk: Chunk, name: str, start: int) -> list[Any]:
    """A column that must be present in every row; errors count rows from `start` + 1."""
    values = chunk.get(name, [ABSENT])
    at = next((i for i, value in enumerate(values) if value is ABSENT), None)
    if at is not None:
        raise _no_column(chunk, name, at, start)
    return values


def _no_column(chunk: Mapping[str, Any], name: str, at: int, start: int) -> TableError:
    """The error for row `at` of a chunk, which lacks a column."""
    has = [str(other) for other, column in chunk.items() if column[at] is not ABSENT]
    return RowError(start + at, f" has no column {name!r} (it has: {', '.join(has)})")


def prompt_column(chunk: Chunk, start: int, cells: PromptCells | None = None) -> list[Any]:
    """The prompts of a chunk: `prompt`, or `conversation_a` in rows without one; `cells` is one for all chunks of a
    table."""
    return (cells or PromptCells())(chunk, _prompt_cells(chunk, start))


def _prompt_cells(chunk: Chunk, start: int) -> list[Any]:
    if "conversation_a" not in chunk:
        return required(chunk, "prompt", start)
    if "prompt" not in chunk:
        return required(chunk, "conversation_a", start)
    both = zip(chunk["prompt"], chunk["conversation_a"], strict=True)
    return required({**chunk, "prompt": [b if a is ABSENT else a for a, b in both]}, "prompt", start)


def checked(values: Iterable[Any], check: Callable[[Any], T], start: int) -> list[T]:
    """Apply `check` to each value of a column; its `TableError` is raised with the row, counted from `start` + 1."""
    made: list[T] = []
    try:
        for value in values:
            made.append(check(value))
    except TableError as error:
        raise RowError(start + len(made), f": {error}") from None
    return made


# --- prompts and votes -----------------------------------------------------------------------------------------------


def turns_of(prompt: Prompt) -> tuple[str, ...]:
    """The identity of a prompt: the exact texts of its user turns."""
    return tuple(user_turns(prompt))


class PromptIndex:
    """Numbers distinct prompts in order of first appearance; prompts with the same user turns are the same prompt."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        self._numbers: dict[tuple[str, ...], int] = {}
        self._strings: dict[str, int] = {}

    def __call__(self, value: Any) -> int:
        """The number of a prompt, validated if it is new; the `TableError` does not name the row."""
        if not isinstance(value, str):
            return self.number(checked_prompt(value))
        if value not in self._strings:
            self._strings[value] = self.number(checked_prompt(value))
        return self._strings[value]

    def number(self, prompt: Prompt) -> int:
        """The number of a prompt that is already validated."""
        number = self._numbers.setdefault(turns_of(prompt), len(self.prompts))
        if number == len(self.prompts):
            self.prompts.append(prompt)
        return number


# --- categories and scores -------------------------------------------------------------------------------------------


def is_own(name: Any) -> bool:
    """Whether a column has a meaning in the contract."""
    return name in _OWN


def is_index(name: Any) -> bool:
    """Whether a column is named as programs name row numbers: not at all, `Unnamed: 0`, `index`, ..."""
    return _INDEX.fullmatch(str(name)) is not None


class Categories:
    """Collects the columns that label rows: strings (of at most `LONGEST_LABEL` characters), bools and integers.

    Args:
        without: names of columns to leave out.
    """

    def __init__(self, without: Iterable[str] = ()) -> None:
        self._columns: dict[str, list[Any]] = {}
        self._refused = set(without)
        self._same: dict[str, str] = {}  # keeps one object per distinct string
        self._n_rows = 0
        self._n_padded = 0  # cells of rows that lack a column

    def add(self, chunk: Chunk, n_rows: int) -> None:
        """Add the next rows."""
        for name, values in chunk.items():
            if not is_own(name) and not is_index(name) and name not in self._refused:
                if _are_labels(values):
                    column = self._columns.get(name)
                    if column is None:
                        column = self._columns[name] = [None] * self._n_rows
                        self._n_padded += self._n_rows
                    column += (self._same.setdefault(v, v) if isinstance(v, str) else v for v in values)
                else:
                    self._refused.add(name)
                    self._columns.pop(name, None)
        self._n_rows += n_rows
        for column in self._columns.values():
            self._n_padded += self._n_rows - len(column)
            column += [None] * (self._n_rows - len(column))
        if self._n_padded > MOST_CELLS:
            raise TableError(
                f"the rows name {len(self._columns):,} columns, which most of them lack; leave out what nobody needs"
            )

    def arrays(self, keep: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The columns, `(n_rows,)` each: bool or int64 if all values are, otherwise strings ('' for a missing one).

        Args:
            keep: `(n_rows,)` booleans, the rows to keep; by default all.
        """
        found = {}
        for name, column in self._columns.items():
            column = column if keep is None else list(itertools.compress(column, keep))
            kinds = {type(value) for value in column if value is not None and value is not ABSENT}
            if kinds:
                found[name] = _array(column, kinds)
        return found


def is_long(chunk: Chunk, untyped: bool) -> bool:
    """Whether this is a table of scores with a row for each prompt and LLM: columns `model`, names, and `score`."""
    return {"model", "score"} <= set(chunk) and not is_numeric(chunk["model"], untyped)


def may_be_scores(chunk: Chunk) -> bool:
    """Whether this may be a table of scores: it has none of the columns of votes (see `score_cells.is_scores`)."""
    return not {"model_a", "model_b", "winner"} & set(chunk)


def is_numeric(values: Iterable[Any], untyped: bool) -> bool:
    """Whether a column holds numbers (bools do not count), or spells them if the table is `untyped`, i.e. holds only
    strings: its first value is one, most values are, or all that are not stand for a missing one, such as "n/a". If
    some have a comma, all have to be numbers: "1,2" may also be a list."""
    numbers = texts = commas = 0
    for value in values:
        if is_no_number(value):
            continue
        if isinstance(value, bool):
            return False
        if untyped and isinstance(value, str) and _COMMA.fullmatch(value):
            commas += 1
        elif (untyped or not isinstance(value, str)) and not math.isnan(number_of(value)):
            if not texts and not commas:
                return True
            numbers += 1
        elif not (isinstance(value, str) and value.strip().lower() in _NO_VALUE):
            texts += 1
    return not texts if commas else numbers > texts


def _are_labels(values: list[Any]) -> bool:
    return all(
        len(value) <= LONGEST_LABEL if isinstance(value, str) else value is ABSENT or isinstance(value, int | None)
        for value in values
    )


def _array(column: list[Any], kinds: set[type]) -> np.ndarray:
    whole = all(value is not None and value is not ABSENT for value in column)
    if whole and kinds == {bool}:
        return np.array(column, dtype=bool)
    if whole and kinds == {int} and max(map(abs, column)) < 2**63:
        return np.array(column, dtype=np.int64)
    return np.array(["" if value is None or value is ABSENT else str(value) for value in column], dtype=object)
