"""How much larger a JSON schema becomes where its choices are written out, as proxies do for vendors that know no lists
of types.

LiteLLM makes an `anyOf` of `"type": ["object", "array"]` for Google's LLMs, with all that belongs to an object or an
array in each entry, and then the same in there: a kilobyte becomes a megabyte. What describes an `anyOf` goes into each
of its entries, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from p2l_sdk.serve.gateway.longest import indentation, longest, name_tokens, rewritten

LARGEST = 300_000  # tokens that are added to a schema
REFERENCES = ("$ref", "ref")  # the second is Google's
_MOST_STEPS, _MOST_TEXT = 100_000, 20_000  # of one request: about a tenth of a second
_PER_ENTRY = 16  # tokens of an entry that says its type alone
CHOICES = ("anyOf", "oneOf", "allOf")
_LABELS = ("title", "description")
_NESTED = ("object", "array")
_OF_NESTED = (
    "properties", "required", "additionalProperties", "items", "minItems", "maxItems", "minProperties",
    "maxProperties",
)  # fmt: skip
_USUAL = re.compile(r"[A-Za-z ,.:;()_-]*")
_HAS_CHOICES = re.compile(r'"type"\s*:\s*\[|"(?:any|one|all)Of"|\\u')  # the last: any letter may be written so


class TooMuchError(Exception):
    """It becomes too large, or cannot be said soon."""


class Work:
    """How much more may be looked at for a request, so that no number of its fields takes long.

    Args:
        size: characters of the request.
    """

    def __init__(self, size: int) -> None:
        self._steps, self._text = _MOST_STEPS, _MOST_TEXT + 2 * size

    def step(self, number: int = 1) -> None:
        """Look at so many objects and lists; `TooMuchError` if they are too many."""
        self._steps -= number
        if self._steps < 0:
            raise TooMuchError

    def read(self, characters: int) -> None:
        """Look at so much text once more; `TooMuchError` if it is too much."""
        self._text -= characters
        if self._text < 0:
            raise TooMuchError


def chosen_out(text: str, value: Any, work: Work | None = None, labels: int = 0) -> int:
    """The most tokens that writing out all choices adds to JSON; `LARGEST` if it is that many or more, or cannot be
    said soon, as for references in what is written more than once.

    Args:
        text: the JSON, as it came.
        value: what it means.
        work: what may be looked at; by default, as much as for a request of this field alone.
        labels: tokens of those that it is given, as an entry of choices.
    """
    try:
        return min(LARGEST, Spread(work or Work(len(text))).added(value, 0, labels)) if _HAS_CHOICES.search(text) else 0
    except (TooMuchError, RecursionError):
        return LARGEST


class Spread:
    """What writing out choices adds to JSON."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def given(self, node: dict[str, Any], labels: int) -> int:
        """The tokens of the labels that an object gives to each entry of its choices, with those that it is given; 0 if
        it has no choices."""
        return self._labels(node, 0, labels) if any(_entries(node, name) for name in CHOICES) else 0

    def added(self, value: Any, above: int, labels: int = 0) -> int:
        """Tokens that are added to a value which stands that deep, and is given labels of so many tokens."""
        if isinstance(value, list):
            return sum(self.added(inner, above + 1) for inner in value)
        if not isinstance(value, dict) or not any(isinstance(inner, dict | list) for inner in value.values()):
            return 0
        kinds = value.get("type")
        kinds = kinds if isinstance(kinds, list) and len(kinds) > 1 else []
        choices = [name for name in CHOICES if _entries(value, name)]
        if kinds or choices:
            labels = self._labels(value, above, labels)
        found = (_PER_ENTRY + labels) * len(kinds)
        inside = {}
        for name, inner in value.items():
            if name in choices:
                inside[name] = sum(labels + self.added(entry, above + 2, labels) for entry in inner)
            elif isinstance(inner, dict | list):
                inside[name] = self.added(inner, above + 1)
        found += sum(inside.values())
        copies = sum(isinstance(kind, str) and kind.lower() in _NESTED for kind in kinds) - 1  # one is no more than was
        for name in filter(value.__contains__, _OF_NESTED if copies > 0 else ()):
            if any(_references(value[name])):
                raise TooMuchError
            found += copies * (self._tokens(value[name], above) + inside.get(name, 0) + len(name) + _PER_ENTRY)
        if found >= LARGEST:
            raise TooMuchError
        return found

    def _labels(self, node: dict[str, Any], above: int, given: int) -> int:
        """Tokens of an object's labels, and of those that it is given."""
        own = filter(node.__contains__, _LABELS)
        return given + sum(len(name) + _PER_ENTRY + self._tokens(node[name], above) for name in own)

    def _tokens(self, value: Any, above: int) -> int:
        """The most tokens of a value where it is written once more."""
        if isinstance(value, str) and _USUAL.fullmatch(value):  # which nobody writes in another way
            self._work.read(len(value))
            return len(value) + 2
        text = json.dumps(value, ensure_ascii=False)
        self._work.read(len(text))
        return longest(text) + rewritten(text, value) + indentation(text, value, above + 2) + name_tokens(value)


def _references(value: Any) -> Iterator[str]:
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            yield from (name for key in REFERENCES if isinstance(name := one.get(key), str))
        left += one if isinstance(one, list) else one.values() if isinstance(one, dict) else ()


def _entries(node: dict[str, Any], name: str) -> list[Any]:
    entries = node.get(name)
    return entries if isinstance(entries, list) else []
