"""Which columns of a table hold scores, where every numeric column may be an LLM's or a benchmark's.

A column of row numbers is left out, with a warning: one named as programs name it (`is_index`), or one that counts the
rows from 0 or 1, in any order. What is plainly something else is an error that asks the user to name the columns: an
identifier, a flag, a timestamp, a count, a price, or a mean of the others. Of values alone, only what no score can be
is refused: whole numbers far outside the range of the other columns, numbers above 1 where the others are shares, 0 or
1 beside graded scores, and what equals a figure of the others in every row (`figures`); where all columns are 0 or 1,
all of them are scores.
"""

from __future__ import annotations

import math
import re
import shlex
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from p2l_sdk.errors import P2LWarning, TableError, did_you_mean
from p2l_sdk.tables.columns import is_index, is_no_number, is_numeric, is_own, number_of
from p2l_sdk.tables.figures import decimals, figures

_ITEM = "(question|prompt|sample|doc|document|item|example|task|row|user|session|conversation|conv|turn|query|problem|"
_ITEM += "instance|request|message|record|case|test|entry|dataset|group|cluster|thread|trace|run) ?"
_IDENTIFIER = re.compile(f"({_ITEM})?(id|ids|idx|no|nr|num|number|index)|rownum|line|rank|position|qid|uid|uuid|seed")
_SOME_ID = re.compile(r".* (id|idx|index|hash|seed)")
_FLAG = re.compile(r"(is|has) .+|.* flag|flag")
_MEASURE = re.compile(
    r"(.* )?(tokens|seconds|latency|costs?|prices?|usd|timestamp|temperature|perplexity|difficulty)( .*)?|"
    r"(created|updated) at"
)
_COUNT = re.compile(
    r"(.* )?(count|counts|length|len|words|chars|characters|turns|time|date|datetime|year|params|parameters|size|elo|"
    r"duration|ms|votes|weight)|(n|num) .+|(size|params) b"
)
_FIGURES = (
    "mean|total|sum|median|std|stdev|min|max|oracle|mittelwert|durchschnitt|gesamt|summe|moyenne|promedio|media|ø|best"
)
_MEAN = re.compile(rf"(.* )?(average|avg)( .*)?|({_FIGURES})( (score|accuracy))?")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")

# rows from which whole numbers tell something, from which 0 and 1 do, and from which 1 to n are no scores
_FEW, _SOME, _MANY = 3, 5, 8
_LLMS = 2  # columns of graded scores beside which one of 0 and 1 is a flag
_MOST_ENDS = 0.25  # share of graded scores that are 0 or 1, at most
_FAR = 10.0  # times the range of the others, from where one or two rows are enough
_TENTHS = 10.0  # up to here, scores are hardly in percent
_NAMED = 6  # columns in a message


@dataclass(frozen=True)
class Sought:
    """What the columns of a table are, for messages.

    Attributes:
        one: what one column holds.
        remedy: how the user names the columns; `{names}` are those that remain, `{wrong}` those that are refused.
        every: how all of them are named, if those that look like something else are none; `{names}` are all.
        percent: what to do with a column in percent where the others are shares; None if the caller checks that.
        means: names that only a figure of the other columns has.
    """

    one: str
    remedy: str
    every: str
    percent: str | None = None
    means: tuple[str, ...] = ()


LLMS = Sought(
    "an LLM's scores",
    "name the LLMs (--llms {names}; models=[...]) or what is none (--not-llms {wrong}; not_llms=[...])",
    "if all are LLMs: --llms {names}",
    "divide them by 100 in the table, or write them with percent signs (63 %)",
    ("overall", "all"),  # of benchmarks, these are the results of all prompts, which `p2l build` needs
)
BENCHMARKS = Sought(
    "a benchmark's scores", "name the benchmarks (--columns {names}; columns=[...])", "if all are: --columns {names}"
)


def score_columns(
    table: Mapping[str, Sequence[Any]],
    untyped: bool,
    sought: Sought,
    *,
    without: Iterable[str] = (),
    own: Callable[[str], bool] = is_own,
) -> tuple[str, ...]:
    """Names of the columns that hold scores, in the table's order.

    Args:
        table: the columns.
        untyped: whether all values are strings, even numbers (CSV).
        sought: what a column is.
        without: columns that hold no scores.
        own: whether a name has a meaning of its own.

    Raises:
        TableError: a column is plainly something else, or one of `without` is not there.

    Warns:
        P2LWarning: columns of row numbers are left out.
    """
    left = set(without)
    for name in left - set(table):
        raise TableError(f"there is no column {name!r} to leave out; {did_you_mean(name, list(table))}")
    named = [name for name in table if name not in left and is_index(name) and not own(name) and any_value(table[name])]
    columns = [
        _Column.of(name, values)
        for name, values in table.items()
        if name not in left and not is_index(name) and not own(name) and is_numeric(values, untyped)
    ]
    running = [column for column in columns if _counts_rows(column, columns)]
    if named or running:
        dropped = [*named, *(column.name for column in running)]
        which = f"the column {dropped[0]!r} was" if len(dropped) == 1 else f"the columns {_listed(dropped)} were"
        warnings.warn(f"{which} left out: row numbers, not {sought.one}", P2LWarning, stacklevel=3)
    columns = [column for column in columns if column not in running]
    _refuse(columns, sought)
    return tuple(column.name for column in columns)


def is_flag(name: str) -> bool:
    """Whether a column is named as flags are: `is_code`, `has image`."""
    return _FLAG.fullmatch(_words(name)) is not None


def is_figure(name: str) -> bool:
    """Whether a name is that of a figure of others: `Average`, `Mittelwert`, `best`."""
    return re.fullmatch(f"average|avg|{_FIGURES}", _words(name)) is not None


def _words(name: str) -> str:
    return " ".join(_WORD.findall(name)).lower() or name.strip().lower()


def any_value(values: Iterable[Any]) -> bool:
    """Whether a column has a value at all; a comma at the end of every line of a CSV file makes one that has none."""
    return any(not is_no_number(value) for value in values)


@dataclass(frozen=True, eq=False)
class _Column:
    """A numeric column: its name, its words, its `(n_rows,)` cells (NaN for a missing one), the `(n,)` finite ones, and
    the digits after the point."""

    name: str
    words: str
    cells: np.ndarray
    numbers: np.ndarray
    digits: int

    @classmethod
    def of(cls, name: str, values: Sequence[Any]) -> _Column:
        try:
            numbers = np.array(values, dtype=np.float64)
        except (TypeError, ValueError):  # an empty string, a text
            numbers = np.array([number_of(value) for value in values])
        finite = np.isfinite(numbers)
        return cls(name, _words(name), np.where(finite, numbers, np.nan), numbers[finite], decimals(values))

    @property
    def full(self) -> bool:
        return len(self.numbers) == len(self.cells)

    @cached_property
    def top(self) -> float:
        return float(self.numbers.max(initial=-math.inf))

    @cached_property
    def share(self) -> bool:
        """Whether all values are in [0, 1]."""
        return bool(len(self.numbers)) and self.top <= 1.0 and float(self.numbers.min()) >= 0.0

    @cached_property
    def whole(self) -> bool:
        return bool((self.numbers == np.floor(self.numbers)).all())

    @cached_property
    def binary(self) -> bool:
        return bool(np.isin(self.numbers, (0.0, 1.0)).all())

    @cached_property
    def running(self) -> bool:
        """Whether the values are 0 to n - 1, or 1 to n, in any order."""
        n = len(self.numbers)
        if not (self.full and n and self.whole) or self.numbers.min() not in (0.0, 1.0):
            return False
        return bool((np.sort(self.numbers) == self.numbers.min() + np.arange(n)).all())

    @cached_property
    def graded(self) -> bool:
        """Whether nearly all values are neither 0 nor 1."""
        return bool(len(self.numbers)) and float(np.isin(self.numbers, (0.0, 1.0)).mean()) <= _MOST_ENDS

    @cached_property
    def fractional(self) -> bool:
        """Whether most values are no whole numbers."""
        return bool(len(self.numbers)) and float((self.numbers == np.floor(self.numbers)).mean()) < 0.5


def _counts_rows(column: _Column, columns: Sequence[_Column]) -> bool:
    """Whether a column is a running number. With a few rows, 1 to n may be scores too, if the others' are like it."""
    if not column.running:
        return False
    n = len(column.numbers)
    others = [other for other in columns if not other.running]
    if n >= _MANY or (n > 1 and _IDENTIFIER.fullmatch(column.words)):
        return True
    return n >= _FEW and bool(others) and column.top > _scale(others)


def _may_count_rows(column: _Column, columns: Sequence[_Column]) -> bool:
    """Whether a column counts a few rows and the others', which reach as far, are not like it."""
    others = [other for other in columns if not other.running]
    if not column.running or len(column.numbers) < _FEW or not others:
        return False
    return not all(other.whole for other in others) or min(o.numbers.min() for o in others) > column.numbers.min()


def _scale(columns: Iterable[_Column]) -> float:
    """The end of the range in which all these columns seem to be: 1, 10, 100, or the highest value."""
    top = max((column.top for column in columns), default=math.inf)
    return next((end for end in (1.0, 10.0, 100.0) if top <= end), top)


def _refuse(columns: list[_Column], sought: Sought) -> None:
    """Raise `TableError` for columns that are plainly no scores; it names all of them."""
    reasons: dict[str, str] = {}
    rest, by_values = columns, set[str]()
    while found := _by_name(rest, sought) or _by_values(rest, sought):
        by_values |= set() if _by_name(rest, sought) else found.keys()
        reasons |= found
        rest = [column for column in rest if column.name not in reasons]
    if not reasons:
        return
    order = [column.name for column in columns if column.name in reasons]
    what = ", ".join(
        f"{'the column ' if not i else ''}{name!r} {'looks ' if not i else ''}like {reasons[name]}"
        for i, name in enumerate(order[:_NAMED])
    )
    more = f" (and {len(order) - _NAMED} more columns)" if len(order) > _NAMED else ""
    remedy = sought.remedy.format(names=_option([c.name for c in rest]) if rest else "A,B", wrong=_option(order))
    if by_values:
        remedy += "; " + sought.every.format(names=_option([column.name for column in columns]))
    scaled = [c for c in _beyond_shares([*rest, *(c for c in columns if c.name in by_values)]) if c.top > _TENTHS]
    if sought.percent and scaled:
        whose = ", ".join(f"{column.name!r} ({_ends(column)})" for column in scaled[:_NAMED])
        remedy += f"; all scores outside [0, 1] are those of {whose}: if these are in percent, {sought.percent}"
    raise TableError(f"{what}, not like {sought.one}{more}: {remedy}")


def _option(names: Sequence[str]) -> str:
    """The names as the value of an option, for a shell."""
    return shlex.quote(",".join(names[:_NAMED])) + (",..." if len(names) > _NAMED else "")


def _by_name(columns: Sequence[_Column], sought: Sought) -> dict[str, str]:
    """Name -> what it is, of the columns whose names and values say so."""
    found = {}
    for column in columns:
        others = [other for other in columns if other is not column]
        odd = column.whole and _stands_out(column, others)
        if (column.whole and _IDENTIFIER.fullmatch(column.words)) or (odd and _SOME_ID.fullmatch(column.words)):
            found[column.name] = "an identifier"
        elif column.binary and _FLAG.fullmatch(column.words):
            found[column.name] = "a flag"
        elif _MEASURE.fullmatch(column.words) or (odd and _COUNT.fullmatch(column.words)):
            found[column.name] = "a count or measure"
        elif len(others) > 1 and (_MEAN.fullmatch(column.words) or column.words in sought.means):
            found[column.name] = "a figure of the others"
    return found


def _stands_out(column: _Column, others: Sequence[_Column]) -> bool:
    beside = [other for other in others if not other.running]
    return bool(beside) and (column.top > _scale(beside) or all(other.fractional for other in beside))


def _by_values(columns: Sequence[_Column], sought: Sought) -> dict[str, str]:
    """Likewise, whatever the name: numbers far outside the others' range, figures of the others, else 0 or 1 beside
    graded scores."""
    if columns:
        cells = np.stack([column.cells for column in columns], 1)
        computed = figures(cells, [column.digits for column in columns])
        if computed:
            return {columns[at].name: what for at, what in computed.items()}
    scaled = {
        column.name: f"another scale ({_ends(column)})"
        for column in _beyond_shares(columns, few=_FEW if sought.percent else 1)
    }
    far = [column.name for column in columns if _outside(column, columns)]
    outside = {name: "an identifier or a count" for name in far if sought.percent or name not in scaled}
    outside |= scaled if sought.percent and not outside else {}
    outside |= {column.name: "a running number" for column in columns if _may_count_rows(column, columns)}
    if outside:
        beside = [column for column in columns if column.name not in outside]
        if (
            len(outside) == len(beside) == 1 and beside[0].binary
        ):  # scores from 1 to 10 beside a flag, or a flag's scores
            outside[beside[0].name] = "a flag"
        return outside
    graded = [column for column in columns if not column.binary]
    if len(graded) < _LLMS or not all(column.graded for column in graded):  # one LLM beside a flag tells nothing
        return {}
    return {
        column.name: "a flag"
        for column in columns
        if column.binary and len(column.numbers) >= _SOME and len(np.unique(column.numbers)) == 2
    }


def _beyond_shares(columns: Sequence[_Column], few: int = _FEW) -> list[_Column]:
    """The columns up to 100, of at least `few` numbers, most of them or whole ones above 1, where all others are
    shares."""
    rest = [column for column in columns if not column.share and len(column.numbers) >= few]
    shares = [column for column in columns if column.share and not column.whole]
    if not shares or any(not column.share and column not in rest for column in columns):
        return []
    odd = [c for c in rest if c.numbers.min() >= 0.0 and c.top <= 100.0 and (c.whole or np.median(c.numbers) > 1.0)]
    return odd if len(odd) == len(rest) else []


def _ends(column: _Column) -> str:
    return f"{column.numbers.min():g} to {column.top:g}"


def _outside(column: _Column, columns: Sequence[_Column]) -> bool:
    others = [other for other in columns if other is not column]
    if not others or not len(column.numbers):
        return False
    scale, low = _scale(others), float(np.median(column.numbers))
    if low > 100 * _FAR * scale:  # a timestamp may be a fraction
        return True
    few = len(column.numbers) < _FEW
    return column.whole and low > (_FAR * scale if few else scale)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")
