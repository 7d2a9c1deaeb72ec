"""How much larger a JSON schema becomes where its references are written out, as proxies do for vendors that know none.

A kilobyte of definitions that refer to each other several times becomes megabytes. A reference is taken to be each
definition that it may mean: the one at its place, seen from any object around it, and one of its last name. One that
stands in itself is written out once for each mention, and not in there again. What refers in another way than by a
plain pointer is not followed here; `strange_keyword` names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from p2l_sdk.serve.gateway.choices import CHOICES, LARGEST, REFERENCES, Spread, TooMuchError, Work, chosen_out
from p2l_sdk.serve.gateway.longest import depth, indentation, longest, rewritten

_AT_LEAST = 16  # tokens for which each reference counts
_CHARACTERS_PER_STEP = 20
_DEFINITIONS = ("$defs", "definitions", "defs")
_NAMED = (*_DEFINITIONS, "properties", "patternProperties", "dependentSchemas")  # whose names are no keywords
_POINTER = re.compile(r"#(/[^/%\s]+)*")
_Around = tuple[dict[str, Any], Any]  # an object, and the objects around it, as links of a chain


def written_out(text: str, value: Any, work: Work | None = None) -> int:
    """The most tokens that writing out all references adds to JSON; `LARGEST` if it is that many or more, or cannot be
    said soon.

    Args:
        text: the JSON, as it came.
        value: what it means.
        work: what may be looked at; by default, as much as for a request of this field alone.
    """
    return _Search(work or Work(len(text))).added(value) if "ref" in text or "\\u" in text else 0


def strange_keyword(text: str, value: Any, allow: Collection[str] = ()) -> str | None:
    """A keyword of JSON Schema, if there is one, that refers to elsewhere in a way that is not counted by
    `written_out`: `$id`, `$anchor`, `$dynamicRef`, and a `$ref` that is no plain pointer into the same JSON.

    Args:
        text: the JSON, as it came.
        value: what it means.
        allow: keywords that are let pass.
    """
    left = [(value, False)] if "$" in text or "\\u0024" in text else []
    while left:
        one, named = left.pop()
        if isinstance(one, list):
            left += [(inner, False) for inner in one]
        elif isinstance(one, dict):
            for name, inner in one.items():
                a_property = named and isinstance(inner, dict | bool)
                if name.startswith("$") and not (a_property or name in allow or _is_plain(name, inner)):
                    return str(name)
                left.append((inner, name in _NAMED and not named))
    return None


def _is_plain(name: str, value: Any) -> bool:
    if name == "$defs":
        return isinstance(value, dict)
    if not isinstance(value, str):
        return False
    return name in ("$schema", "$comment") or (name == "$ref" and _POINTER.fullmatch(value) is not None)


class _Search:
    def __init__(self, work: Work) -> None:
        self._work, self._spread = work, Spread(work)
        self._texts: dict[tuple[int, int], tuple[str, int, int]] = {}  # of definitions, with labels

    def added(self, value: Any) -> int:
        """Tokens that are added to a value."""
        tokens = 0
        places: list[tuple[Any, _Around | None, frozenset[int], int, int]] = [
            (value, None, frozenset(), depth(value), 0)
        ]
        try:
            while places:
                whole, outer, within, above, given = places.pop()
                for name, around, labels in self._references(whole, outer, given):
                    again = 0  # of what it stands in, it means one
                    for target, beside in self._targets(name, around):
                        text, levels, size = self._text(target, labels)
                        grown = max(_AT_LEAST, size + indentation(text, target, above))
                        if id(target) in within or _around(target, around):
                            again = max(again, grown)
                            continue
                        tokens += grown
                        places.append((target, beside, within | {id(target)}, above + levels, labels))
                        if tokens >= LARGEST:
                            raise TooMuchError
                    tokens += again
                    if tokens >= LARGEST:
                        raise TooMuchError
        except (TooMuchError, RecursionError):
            return LARGEST
        return tokens

    def _text(self, target: Any, labels: int) -> tuple[str, int, int]:
        """The JSON of a definition, how deep it is, and its tokens where it is given labels of so many tokens."""
        if (id(target), labels) not in self._texts:
            text = json.dumps(target, ensure_ascii=False)
            self._work.step(len(text) // _CHARACTERS_PER_STEP)
            once = longest(text) + rewritten(text, target) + chosen_out(text, target, self._work, labels)
            self._texts[id(target), labels] = text, depth(target), once
        found = self._texts[id(target), labels]
        self._work.step(len(found[0]) // _CHARACTERS_PER_STEP)  # for its lines
        return found

    def _references(self, value: Any, around: _Around | None, labels: int) -> Iterator[tuple[str, _Around, int]]:
        """The references in a value, the objects around each, and the tokens of the labels that it is given."""
        left: list[tuple[Any, Any, int]] = [(value, around, labels)]
        while left:
            self._work.step()
            one, outer, given = left.pop()
            if isinstance(one, list):
                left += [(inner, outer, 0) for inner in one]
            elif isinstance(one, dict):
                outer = (one, outer)
                yield from ((name, outer, given) for key in REFERENCES if isinstance(name := one.get(key), str))
                each = self._spread.given(one, given)
                for key, inner in one.items():
                    chosen = each and key in CHOICES and isinstance(inner, list)
                    left += [(entry, outer, each) for entry in inner] if chosen else [(inner, outer, 0)]

    def _targets(self, name: str, around: _Around) -> list[tuple[Any, _Around]]:
        """The definitions that a name may mean, with the objects around each."""
        parts = [part for part in name.lstrip("#").split("/") if part]
        names = [part.replace("~1", "/").replace("~0", "~") for part in parts]
        last = {*names[-1:], *parts[-1:], name.rpartition("/")[2]}  # some take a name as it is written
        found = dict[int, tuple[Any, _Around]]()
        link: _Around | None = around
        while link is not None:
            self._work.step(1 + len(parts))
            one, outer = link
            held = [_at(one, names)]
            lists = [*(one.get(key) for key in _DEFINITIONS), _at(one, ["components", "schemas"])]
            held += [found_in.get(end) for found_in in lists if isinstance(found_in, dict) for end in last]
            found |= {id(target): (target, link) for target in held if isinstance(target, dict | list | str)}
            link = outer
        return list(found.values())


def _around(target: Any, around: _Around | None) -> bool:
    """Whether a reference with these objects around it stands in the target."""
    while around is not None:
        one, around = around
        if one is target:
            return True
    return False


def _at(value: Any, names: list[str]) -> Any:
    for name in names:
        if isinstance(value, list) and name.isdecimal() and len(name) < 9 and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict):
            value = value.get(name)
        else:
            return None
    return value
