"""JSON and YAML as a user gives them: settings, costs, trees, names. One reader for each, within `limits`."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from p2l_sdk.errors import P2LError
from p2l_sdk.modeling.limits_p2l import DEEPEST, MOST_DIGITS, is_too_deep
from p2l_sdk.tables.limits import LARGEST_DOCUMENT, MOST_NODES
from p2l_sdk.tables.text import read_text

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")  # in YAML
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # in JSON, maybe half of a character


class DocumentError(ValueError):
    """What is wrong with a document, without its name."""


# --- JSON ------------------------------------------------------------------------------------------------------------


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise DocumentError(f"{_twice([key for key, _ in pairs])!r} stands twice in one object; keep one")
    return found


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise DocumentError(f"a number has {len(text):,} digits; write it as text, in quotes")
    return int(text)


_decode = json.JSONDecoder(object_pairs_hook=_distinct, parse_int=_integer).decode


def json_value(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON (`json.JSONDecodeError`), or a `DocumentError`: a key stands twice in an object, a
            number is too long, values are nested too deeply, or half a character is written.
    """
    try:
        value = _decode(text)
    except RecursionError:
        raise DocumentError("it is nested too deeply") from None
    if text.count("[") + text.count("{") > DEEPEST and is_too_deep(value):
        raise DocumentError(f"it is nested too deeply (more than {DEEPEST} levels)")
    return value


def whole_text(text: str, value: Any) -> None:
    """Raise `DocumentError` if the value of a JSON text holds half a character, which nothing can write."""
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise DocumentError(f"{error.object[error.start]!a} is half a character; correct it") from None


# --- YAML ------------------------------------------------------------------------------------------------------------


def read_yaml(path: str | Path) -> Any:
    """The values of a YAML file; errors as in `yaml_value`."""
    return yaml_value(read_text(path, most=LARGEST_DOCUMENT), repr(str(path)))


def yaml_value(text: str, name: str, kind: type[P2LError] = P2LError) -> Any:
    """The values of a YAML text.

    Args:
        text: one document.
        name: its name in messages, such as a path in quotes.
        kind: the kind of error to raise.

    Raises:
        P2LError: of this kind: it is no YAML, a key occurs twice (YAML would keep the last), values are nested too
            deeply, references to other values make it too large, or a value cannot be represented.
    """
    import yaml

    try:
        if len(text) > LARGEST_DOCUMENT:
            raise DocumentError(f"it has {len(text):,} characters; at most {LARGEST_DOCUMENT:,} are read")
        _check_size(text)
        return yaml.load(text, _loader())
    except P2LError:
        raise
    except DocumentError as error:
        raise kind(f"{name}: {error}") from None
    except Exception as error:  # of a tag with a wrong value, PyYAML raises errors of many kinds
        raise kind(f"{name} cannot be read as YAML: {' '.join(str(error).split())}") from None


def _check_size(text: str) -> None:
    """Refuse what grows beyond its text, before values are made of it."""
    import yaml

    n, open_ = 0, list[tuple[str | None, int]]()
    sizes: dict[str | None, int] = {}  # anchor -> values below it, each as often as it is referred to
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_):
                raise DocumentError(f"*{event.anchor} refers to what it stands in")
            n += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, n))
            if len(open_) > DEEPEST:
                line = event.start_mark.line + 1
                raise DocumentError(f"it is nested too deeply (more than {DEEPEST} levels, line {line})")
            n += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor is not None:
                sizes[anchor] = n - before
        elif isinstance(event, yaml.ScalarEvent):
            n += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if n > MOST_NODES:
            raise DocumentError(f"it holds more than {MOST_NODES:,} values, each as often as *name refers to it")


@functools.cache
def _loader() -> Any:
    """PyYAML's safe loader (libyaml's, where it is there: five times as fast), with this module's rules."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            if isinstance(node, yaml.MappingNode):
                keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
                if len(set(keys)) < len(keys):
                    raise DocumentError(
                        f"{_twice(keys)!r} stands twice in the section at line {node.start_mark.line + 1}"
                    )
            return super().construct_mapping(node, deep)

        def construct_yaml_int(self, node: Any) -> int:
            digits = str(self.construct_scalar(node))
            value = None if len(digits) > MOST_DIGITS else super().construct_yaml_int(node)
            if value is None or abs(value) >= 1 << 1023:
                line = node.start_mark.line + 1
                raise DocumentError(f"line {line}: a number has {len(digits)} digits; write it as text, in quotes")
            if not _INTEGER.fullmatch(digits):
                raise _unusual(node, digits)
            return int(value)

        def construct_yaml_float(self, node: Any) -> float:
            text = str(self.construct_scalar(node))
            if "_" in text or ":" in text:
                raise _unusual(node, text)
            return float(super().construct_yaml_float(node))

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_yaml_float)
    return Loader


def _unusual(node: Any, text: str) -> DocumentError:
    """For 1_0, 017 (which is 15), 0x10 (16) and 1:30 (90): hardly anyone who writes them means that."""
    return DocumentError(
        f"line {node.start_mark.line + 1}: YAML takes {text[:40]} for a number of another notation; write it in "
        "decimal digits, or in quotes"
    )


def _twice(keys: list[str]) -> str:
    return next(key for key, n in Counter(keys).items() if n > 1)
