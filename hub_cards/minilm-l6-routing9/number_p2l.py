"""One reader of the numbers that people write, in a config, a table, an option or a request.

Python's own `float` also reads `1_0`, digits of any script, `infinity` and bytes, none of which is surely what its
writer meant. This file needs only the standard library.
"""

from __future__ import annotations

import math
import re
from typing import Any

_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")


def to_number(value: Any) -> float:
    """The finite number that a value is, or that a text spells: ASCII digits with a point and an exponent, `-1.5e-3`,
    and blanks around them. NaN if there is none; a bool, bytes or an array is no number."""
    if isinstance(value, str):
        text = value.strip()
        if not _DECIMAL.fullmatch(text):
            return math.nan
        value = text
    elif isinstance(value, bool | bytes | bytearray) or getattr(value, "ndim", False) or type(value).__name__ == "bool":
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):  # an integer may have more digits than a float holds
        return math.nan
    return number if math.isfinite(number) else math.nan


def to_whole(text: str) -> int | None:
    """The whole number that a text spells in at most 40 ASCII digits, None if it does not."""
    return int(text) if _WHOLE.fullmatch(text.strip()) else None
