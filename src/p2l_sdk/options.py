"""Keyword options that functions share: typed once, shown in every signature, a wrong one told the right name.

A function takes them as `**options: Unpack[SomeOptions]`, with `SomeOptions` a `TypedDict`. Type checkers and editors
read that; `named_options` adds what they do not do at run time.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from p2l_sdk.errors import P2LError, UnknownOptionError, did_you_mean
from p2l_sdk.modeling.limits_p2l import shown

P = ParamSpec("P")
T = TypeVar("T")


def whole_number(name: str, value: Any, *, least: int | None = 0) -> int:
    """The value of an option that is an integer, such as a seed or a number of draws; numpy's are integers too.

    Args:
        name: of the option.
        value: what was given.
        least: the smallest that is legal; None for any.

    Raises:
        P2LError: it is no integer, or below `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or (least is not None and number < least):
        bound = "" if least is None else f" >= {least}"
        raise P2LError(f"{name} is {shown(value)}; it must be an integer{bound}")
    return number


def named_options(
    options: Any = None, defaults: Mapping[str, Any] | None = None
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator of a function, which may end in `**options: Unpack[options]`.

    `inspect.signature`, and so `help()` and notebooks, show each option by name, and a keyword that is none of them
    raises `UnknownOptionError` naming the nearest one.

    Args:
        options: the `TypedDict` of these options; None if the function names all of its own.
        defaults: the defaults to show; None for those not given.
    """
    shown = {
        name: inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=(defaults or {}).get(name),
            annotation=getattr(kind, "__forward_arg__", kind),
        )
        for name, kind in getattr(options, "__annotations__", {}).items()
    }

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        called = function.__qualname__.removesuffix(".__init__")
        known = {p.name for p in own} | shown.keys()

        @functools.wraps(function)
        def call(*args: P.args, **keywords: P.kwargs) -> T:
            if not keywords.keys() <= known:
                name = next(iter(keywords.keys() - known))
                near = did_you_mean(name, sorted(known - {"self", "cls"}))
                raise UnknownOptionError(f"{called}() has no option {name!r}; {near}")
            return function(*args, **keywords)

        call.__signature__ = signature.replace(parameters=[*own, *shown.values()])  # type: ignore[attr-defined]
        return call

    return decorate
