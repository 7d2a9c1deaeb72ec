"""What matters of a large chat completion, found without parsing all of it.

Python parses JSON in one go and lets no other thread run meanwhile, so that a thread alone would not keep 60 MB (an
image, the log-probabilities of a long answer) from holding up everyone else. `outline` goes through the bytes in short
steps of numpy, which takes about a second for such a reply, whatever is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_DEPTH = 4  # reply, choices, choice, message: lists and objects in these are not looked at
_LONG = 1024  # bytes of a string; longer ones are not looked at
_MOST_MARKS = 500_000  # brackets and quotes down to that depth; an n of 1024 has about 50,000
_STEP = 128 * 1024  # bytes at a time, about 2 ms
_QUOTE, _BACKSLASH = 0x22, 0x5C
_DELTA = np.zeros(256, np.int8)  # what a byte does to the depth
_DELTA[[0x5B, 0x7B]] = 1
_DELTA[[0x5D, 0x7D]] = -1


@dataclass(frozen=True)
class Outline:
    """A short JSON text with the same structure down to the messages.

    Attributes:
        content: the text; long strings are "...", and lists and objects in messages are empty.
        cut: bytes of the long strings.
    """

    content: bytes
    cut: int


def outline(content: bytes | bytearray) -> Outline | None:
    """The outline of a JSON text; None if brackets or quotes are left open, or it would be no short one. What is left
    out is not checked."""
    kept: list[bytes | bytearray] = []
    cut = done = marks = depth = 0
    string = deep = -1  # where the string, or what is too deep, begins that is being read
    for at, byte, depth in _marks(content):
        marks += 1
        if depth < 0 or marks > _MOST_MARKS:
            return None
        if byte == _QUOTE and string < 0:
            string = at
        elif byte == _QUOTE:
            if at - string > _LONG:
                kept += (content[done:string], b'"..."')
                cut += at - string - 1
                done = at + 1
            string = -1
        elif depth > _DEPTH:
            deep = at
        elif deep >= 0:
            kept += (content[done : deep + 1], content[at : at + 1])
            deep, done = -1, at + 1
    if depth or string >= 0 or deep >= 0 or marks == 0:
        return None
    kept.append(content[done:].strip())
    return Outline(b"".join(kept), cut)


def _marks(content: bytes | bytearray) -> Iterator[tuple[int, int, int]]:
    """Where the quotes and brackets that count stand, which they are, and the depth behind each."""
    inside, depth, escaped = 0, 0, False  # at the beginning of the step
    for begin in range(0, len(content), _STEP):
        end = min(begin + _STEP, len(content))
        if inside and content[end - 1] != _BACKSLASH and content.find(b'"', begin, end) < 0:
            escaped = False
            continue  # in the middle of a long string
        step = content[begin:end]
        if escaped:
            step = b"_" + step[1:]
        step = step.replace(rb"\\", b"__").replace(rb"\"", b"__")  # escaped quotes do not count
        escaped = step[-1] == _BACKSLASH
        part = np.frombuffer(step, np.uint8)
        quotes = part == _QUOTE
        within = (np.cumsum(quotes, dtype=np.int32) + inside) & 1
        change = np.where(within, 0, _DELTA[part])
        depths = np.cumsum(change, dtype=np.int32) + depth
        down_to = np.where(change > 0, _DEPTH + 1, _DEPTH)
        places = np.flatnonzero((quotes | (change != 0)) & (depths <= down_to))
        yield from zip((places + begin).tolist(), part[places].tolist(), depths[places].tolist(), strict=True)
        inside, depth = int(within[-1]), int(depths[-1])
