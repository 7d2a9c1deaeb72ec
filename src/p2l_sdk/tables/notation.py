"""Points that separate thousands in one row and decimals in another: "1.060" beside "930" is 1060, not 1.06."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from p2l_sdk.tables.columns import number_of
from p2l_sdk.tables.places import RowError

_POINTS = re.compile(r"\s*[+-]?[1-9]\d{0,2}\.\d{3}\s*")
_BOTH = re.compile(r"\s*[+-]?[1-9]\d{0,2}(\.\d{3})+,\d+\s*")
_LARGE = 100.0  # from here, a number beside which thousands are likely


def require_one_notation(name: str, values: Sequence[Any], row_of: Callable[[int], int] = lambda row: row) -> None:
    """Refuse a column of texts in which a point may separate thousands.

    That is so where a text has exactly three digits after its point, and another is a large number without a point, or
    has points and a comma. A file of a program that prints three decimals has them everywhere.

    Args:
        name: of the column.
        values: its cells.
        row_of: the row of the table, from 0, of each cell.

    Raises:
        RowError: names the row with the point, and both readings.
    """
    at = next((i for i, value in enumerate(values) if isinstance(value, str) and _POINTS.fullmatch(value)), None)
    if at is None:
        return
    other = next((value for value in values if _is_large(value)), None)
    if other is not None:
        text = values[at].strip()
        raise RowError(
            row_of(at),
            f": {name} is {text!r}, and {str(other).strip()!r} in another row; if the point separates thousands, write "
            f"{text.replace('.', '')}, and if it is a decimal point, {text}0",
        )


def _is_large(value: Any) -> bool:
    if not isinstance(value, str) or "." in value:
        return isinstance(value, str) and _BOTH.fullmatch(value) is not None
    number = number_of(value)
    return not math.isnan(number) and abs(number) >= _LARGE
