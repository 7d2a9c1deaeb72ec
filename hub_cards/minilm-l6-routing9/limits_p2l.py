"""What a file of a stranger may hold: JSON within limits, names that can be shown. Needs only the standard library.

The files of a model's folder are read by these rules and by no others: JSON is small, not deep, without keys given
twice, without NaN and without numbers of thousands of digits; a name has no character that moves a terminal's cursor,
hides, or turns the direction of the text around it. Documents of users (`p2l_sdk.tables.documents`) have the same depth
and digits, and what is printed shows the same characters as escapes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .errors_p2l import ModelFormatError

MOST_JSON_BYTES = 64_000_000
# levels of lists and objects: a config has about five, an exported chat a dozen; Python's own stack ends at a thousand
DEEPEST = 100
MOST_DIGITS = 308  # of an integer: no double is longer, and Python takes quadratic time
MOST_NAMES = 100_000
LONGEST_NAME = 500  # characters
_SHOWN = 120  # characters of an illegal value in a message
# What a terminal obeys, what is not seen, and what turns the direction of text: controls, lone surrogates, line
# separators, blank letters, marks of direction, tags. Joiners of letters and emoji (U+200C, U+200D) are writing.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\ud800-\udfff\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def read_json(path: Path, kind: type | None = None) -> Any:
    """The value of a JSON file of a model's folder.

    Args:
        path: the file.
        kind: `dict` or `list`, if the value must be one.

    Raises:
        ModelFormatError: it cannot be read, breaks a limit of this module, or is of another kind.
    """
    try:
        size = path.stat().st_size
        if size > MOST_JSON_BYTES:
            raise ModelFormatError(
                f"{str(path)!r} cannot be read as JSON: it has {size:,} bytes, and {MOST_JSON_BYTES:,} are legal"
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFormatError(f"{str(path)!r} cannot be read as JSON: {shown(error)}") from None
    return parse_json(text, repr(str(path)), kind)


def parse_json(text: str | bytes, what: str, kind: type | None = None) -> Any:
    """The value of a JSON text within the limits; `what` names it in the message. Arguments and errors as in
    `read_json`."""
    try:
        value = json.loads(text, parse_int=_integer, parse_constant=_constant, object_pairs_hook=_object)
    except RecursionError:
        raise ModelFormatError(f"{what} cannot be read as JSON: {_TOO_DEEP}") from None
    except ValueError as error:
        raise ModelFormatError(f"{what} cannot be read as JSON: {error}") from None
    if is_too_deep(value):
        raise ModelFormatError(f"{what} cannot be read as JSON: {_TOO_DEEP}")
    if kind is not None and not isinstance(value, kind):
        raise ModelFormatError(f"{what} is no JSON {'object' if kind is dict else 'list'}")
    return value


_TOO_DEEP = f"it is nested deeper than {DEEPEST} levels"


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"it has an integer of {len(digits):,} digits, and {MOST_DIGITS} are legal")
    return int(digits)


def _constant(name: str) -> float:
    if name == "NaN":
        raise ValueError("it has a NaN, which is no number")
    return float(name)  # some architectures have no upper limit


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise ValueError(f"it gives {shown(twice)} twice")
    return found


def is_too_deep(value: object) -> bool:
    """Whether lists and objects lie more than `DEEPEST` within one another."""
    level = [value]
    for _ in range(DEEPEST + 1):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list):
                below += item
        if not below:
            return False
        level = below
    return True


def shown(value: Any) -> str:
    """A value of a stranger as a message shows it: short, with escapes for what a terminal would obey; an integer may
    have more digits than Python writes."""
    if type(value).__module__ == "numpy" and not getattr(value, "ndim", 0):
        value = value.item()
    try:
        plain = str(value)
    except ValueError:
        return "an integer of thousands of digits"
    text = ascii(value) if _HIDDEN.search(plain) else repr(value) if isinstance(value, str) else plain
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def odd_character(text: str) -> str | None:
    """The code point of the first character that cannot be shown safely, such as "U+001B"; None if there is none."""
    found = _HIDDEN.search(text)
    return None if found is None else f"U+{ord(found[0]):04X}"


def visible(text: str) -> str:
    """A text with an escape in place of each character that cannot be shown safely: what may be printed."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def checked_names(field: str, thing: str, given: Iterable[Any]) -> tuple[str, ...]:
    """Names of LLMs or kinds as a tuple.

    Args:
        field: where they stand, for the message.
        thing: what they name, for the message.
        given: the names.

    Raises:
        ModelFormatError: there are too many, one is not text, empty, too long, given twice, or cannot be shown.
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ModelFormatError(f"{field} must be a list of {thing} names, none of them empty")
    if len(given) > MOST_NAMES:
        raise ModelFormatError(f"{field} has {len(given):,} {thing} names, and {MOST_NAMES:,} are legal")
    if not all(isinstance(name, str) and name.strip() for name in given):
        raise ModelFormatError(f"{field} must be a list of {thing} names, none of them empty")
    for name in given:
        if len(name) > LONGEST_NAME:
            raise ModelFormatError(
                f"{field} has the {thing} name {shown(name)} of {len(name):,} characters; {LONGEST_NAME} are legal"
            )
        if (odd := odd_character(name)) is not None:
            raise ModelFormatError(
                f"{field} has the {thing} name {shown(name)} with the character {odd}, which cannot be shown; "
                "a name is one line of visible text"
            )
    names = tuple(given)
    repeated = sorted(name for name, n in Counter(names).items() if n > 1)
    if repeated:
        more = f" and {len(repeated) - 10} more" if len(repeated) > 10 else ""
        raise ModelFormatError(
            f"the list of {thing}s names {', '.join(repeated[:10])}{more} more than once; names must be unique"
        )
    return names
