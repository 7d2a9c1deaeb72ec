"""Checks of the values in a settings file: each error names the setting, its value and what it must be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from p2l_sdk.errors import P2LError, did_you_mean
from p2l_sdk.modeling.number_p2l import to_number

_RANGE, _COUNT = "range", "count"  # what `check_fields` finds in the metadata of a field


def number(default: float | None, least: float, most: float = math.inf) -> Any:
    """A field of a dataclass of settings that is a number in [least, most]; `check_fields` checks it."""
    return dataclasses.field(default=default, metadata={_RANGE: (least, most)})


def count(default: int | None) -> Any:
    """A field of a dataclass of settings that is an integer > 0; `check_fields` checks it."""
    return dataclasses.field(default=default, metadata={_COUNT: True})


def check_fields(config: Any) -> None:
    """Raise P2LError for the first field declared with `number` or `count` whose value is illegal."""
    for field in dataclasses.fields(config):
        if _RANGE in field.metadata:
            least, most = field.metadata[_RANGE]
            check_number(config, field.name, least=least, most=most)
        if _COUNT in field.metadata:
            check_count(config, field.name)


def check_keys(values: Mapping[str, Any], kind: Any, source: str, hidden: tuple[str, ...] = ()) -> None:
    """Raise P2LError for a key that is not a field of the dataclass, suggesting the nearest one that is."""
    known = [f.name for f in dataclasses.fields(kind) if f.name not in hidden]
    for key in values:
        if key not in known:
            raise P2LError(f"{source}: {key!r} is no setting; {did_you_mean(key, known)}")


def check_text(config: Any, name: str) -> None:
    """Raise P2LError unless a field is a non-empty string; None is legal if it is the default."""
    value = getattr(config, name)
    if not (isinstance(value, str) and value.strip()) and not _left_out(config, name):
        raise P2LError(f"{name} is {value!r}; it must be a text")


def check_number(config: Any, name: str, *, least: float, most: float = math.inf) -> None:
    """Raise P2LError unless a field is a finite number in [least, most]; None is legal if it is the default."""
    value = getattr(config, name)
    if isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        number = to_number(value)
        if not math.isnan(number):
            object.__setattr__(config, name, number)
        value = getattr(config, name)
    legal = isinstance(value, int | float) and not math.isnan(to_number(value))
    if not (legal and least <= value <= most) and not _left_out(config, name):
        legal_range = f">= {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise P2LError(f"{name} is {value!r}; it must be a number {legal_range}")


def check_count(config: Any, name: str) -> None:
    """Raise P2LError unless a field is an integer > 0; None is legal if it is the default."""
    value = getattr(config, name)
    if not (isinstance(value, int) and not isinstance(value, bool) and value > 0) and not _left_out(config, name):
        raise P2LError(f"{name} is {value!r}; it must be an integer > 0")


def _left_out(config: Any, name: str) -> bool:
    return getattr(config, name) is None and getattr(type(config), name, ...) is None  # the class has the default
