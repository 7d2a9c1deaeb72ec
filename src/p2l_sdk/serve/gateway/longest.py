"""The most tokens that a text can be: one for each byte of it in UTF-8, in the form that makes it longest.

Tokenizers bring a text into a normal form first: Qwen's into NFC, those of T5 and XLM-R into NFKC, which turns the
three bytes of U+FDFA into 33. Templates write tools with a line, and an indentation, for each entry, and write JSON
anew: 9e15 becomes 9000000000000000.0. A text is looked at in short steps of numpy, so that one of many megabytes keeps
nobody waiting, and no longer than it takes to read it.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from typing import Any

import numpy as np
import numpy.typing as npt

_CODES = 0x30000  # characters above have no other form, and are no marks
_SURROGATES = range(0xD800, 0xE000)
_STEP = 64 * 1024  # characters at a time, about half a millisecond
_ESCAPE = 6  # bytes of \\uXXXX
_DELETE = "\x7f"  # ASCII, and escaped by Python all the same
_BACKSLASH, _U = 0x5C, 0x75
_SPACES_PER_TOKEN = 16  # of an indentation, at least
_INDENT = 4  # spaces for each level, in the templates of Llama
_KINDS = bytes.maketrans(b"123456789E", b"000000000e")
_EXPONENT = re.compile(rb"[0-9][eE][+-]?([0-9]+)(?=[\s,\]}]|$)")
_DIGITS = 330  # characters that a number with an exponent grows by, at most: no float is beyond 1e308 or 1e-324
_FRACTION = 2  # of a number that some write as 1.0
_LISTS = frozenset(("enum", "required", "anyOf", "oneOf", "allOf", "examples"))  # keywords of a schema that are lists
_JOINED = 5  # tokens, at most, that a template writes between two entries of a list: `" | "`
_IN_HTML, _ESCAPED = "<>&'", 5  # what some templates escape, for HTML, and by how many characters it grows
_HEX = np.zeros(256, np.uint16)
for _i, _digit in enumerate("0123456789abcdef"):
    _HEX[[ord(_digit), ord(_digit.upper())]] = _i


@functools.cache
def growth() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """By character, how many bytes longer than it is its longest form is; and how much longer than its escape. It takes
    some 50 ms, once."""
    plain, as_escape = np.zeros(_CODES, np.uint8), np.zeros(_CODES, np.uint8)
    for code in range(0x80, _CODES):
        character = chr(code)
        if code in _SURROGATES:
            continue
        if unicodedata.combining(character):
            plain[code] = 1  # it may take the place of another mark, which then is a character of its own
        if unicodedata.decomposition(character):
            longest = max(len(unicodedata.normalize(form, character).encode()) for form in ("NFC", "NFKC"))
            plain[code] += max(0, longest - len(character.encode()))
            as_escape[code] = max(0, longest - _ESCAPE)
    return plain, as_escape


def longest(text: str) -> int:
    """The most tokens that a text can be, whether it is plain or JSON."""
    escapes = "\\u" in text
    if text.isascii() and not escapes:
        return len(text)
    plain, as_escape = growth()
    size = 0
    for begin in range(0, len(text), _STEP):
        step = text[begin : begin + _STEP]
        size += len(step.encode("utf-8", "surrogatepass"))
        if not step.isascii():
            codes = np.frombuffer(step.encode("utf-32-le", "surrogatepass"), np.uint32)
            size += int(plain[np.minimum(codes, _CODES - 1)].sum(dtype=np.int64))
        if escapes:
            size += _of_escapes(text[begin : begin + _STEP + _ESCAPE - 1], as_escape)
    return size


def _of_escapes(step: str, as_escape: npt.NDArray[np.uint8]) -> int:
    """How much longer the longest forms of the escaped characters are than their escapes. What only looks like an
    escape, behind a backslash that is one itself, counts too."""
    part = np.frombuffer(step.encode("ascii", "replace"), np.uint8)
    if len(part) < _ESCAPE:
        return 0
    last = len(part) - _ESCAPE + 1
    at = np.flatnonzero((part[:last] == _BACKSLASH) & (part[1 : last + 1] == _U))
    digits = [_HEX[part[at + i]] for i in range(2, 6)]
    codes = (digits[0] << 12) | (digits[1] << 8) | (digits[2] << 4) | digits[3]
    return int(as_escape[codes].sum(dtype=np.int64))


def rewritten(text: str, value: Any) -> int:
    """The most tokens that JSON grows by where it is read and written again, without spaces behind commas and colons.

    Args:
        text: the JSON, as it came.
        value: what it means.

    Raises:
        RecursionError: it is too deep.
    """
    plain = text.encode("utf-8", "surrogatepass")
    grown = escaped(text) + text.count("/") + (_ESCAPE - 1) * text.count(_DELETE) + _of_numbers(plain)
    if text.isascii():
        return grown
    return grown + max(0, len(json.dumps(value)) - len(plain))


def _of_numbers(plain: bytes) -> int:
    """How much longer numbers in JSON are in full, with a fraction: llama.cpp and minijinja write all digits of 1e300.
    What looks like one in a string counts too."""
    kinds = plain.translate(_KINDS, b" \t\r\n")
    ends = sum(kinds.count(end) for end in (b"0,", b"0]", b"0}"))
    found = _EXPONENT.finditer(plain) if b"0e" in kinds else ()
    return sum(_digits(match[1].lstrip(b"0")) for match in found) + _FRACTION * ends


def _digits(exponent: bytes) -> int:
    """The digits that an exponent stands for, at most."""
    return min(int(exponent or b"0"), _DIGITS) if len(exponent) <= 3 else _DIGITS


def escaped(text: str) -> int:
    """The tokens that a text grows by where a template writes it as a string in JSON that HTML may hold."""
    return _ESCAPED * sum(text.count(character) for character in _IN_HTML)


def indentation(text: str, value: Any, above: int = 0) -> int:
    """The most tokens that a template adds to JSON where it writes each entry on a line of its own.

    Args:
        text: the JSON, as it came.
        value: what it means.
        above: how deep it stands in other JSON.
    """
    brackets = text.count("{") + text.count("[")
    per_line = 2 + _INDENT * (above + depth(value)) // _SPACES_PER_TOKEN
    return (text.count(",") + 2 * brackets) * per_line + text.count(":")


def entries(value: Any) -> int:
    """How many entries the lists and objects in a value have, at any depth."""
    found, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, dict | list):
            found += len(one)
            left += one.values() if isinstance(one, dict) else one
    return found


def name_tokens(value: Any) -> int:
    """The tokens of the names in JSON, at most: a template that writes entries as XML (that of Qwen3-Coder) writes each
    name once more, at the end of its entry."""
    found, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            names = "".join(one)
            plain = names.isascii() and "\\" not in names  # as nearly all are, and then one look is enough
            found += len(names) if plain else sum(map(longest, one))
            left += one.values()
        elif isinstance(one, list):
            left += one
    return found


def joined(value: Any) -> int:
    """The most tokens that a template adds to texts in a schema that stand where lists belong: it takes each letter for
    an entry, and writes something between two."""
    found, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            for name in _LISTS.intersection(one):
                found += _JOINED * len(one[name]) if isinstance(one[name], str) else 0
            left += one.values()
        elif isinstance(one, list):
            left += one
    return found


def depth(value: Any) -> int:
    """How deep lists and objects are nested."""
    found, level = -1, [value]
    while level:
        found, inner = found + 1, list[Any]()
        for one in level:
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
        level = inner
    return found
