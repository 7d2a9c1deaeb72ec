"""Chat templates, laid over a prompt within limits: a template is a program of whoever made the model.

Jinja's sandbox keeps it from files and from Python; here, in addition, it may take so many steps (turns of its loops,
calls, filters) and write so many characters, and a template that wants more is refused. The result is the same as that
of `apply_chat_template` of transformers.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors_p2l import ModelFormatError, PromptError
from .limits_p2l import shown

_MOST_SOURCE = 1_000_000  # characters of a template
_MOST_STEPS = 200_000
_MOST_GROWTH = 1_000_000  # characters that a template may add to those of the prompt
_MOST_NUMBER = 1_000_000  # as an argument: a width, a count
_PER_STEP = 1_000  # characters that one step reads
# filters and methods that write at length or search for long, and that no chat template needs
_NO_FILTERS = ("wordwrap", "urlize", "striptags", "xmlattr", "pprint", "random")
_NO_METHODS = ("translate", "maketrans", "expandtabs")
_LONG_WIDTH = re.compile(r"[\d*]{6}|\*")  # in a format


class _LimitError(Exception):
    """A template has reached a limit; not Jinja's own kind of error, which a template cannot catch either."""


class _Steps:
    """What one rendering has left.

    Args:
        characters: that a text may have.
    """

    def __init__(self, characters: int) -> None:
        self.left, self.longest = _MOST_STEPS, characters

    def take(self, n: int = 1) -> None:
        self.left -= n
        if self.left < 0:
            raise _LimitError(f"it takes more than {_MOST_STEPS:,} steps")

    def check(self, length: int) -> None:
        if length > self.longest:
            raise _LimitError(f"it writes more than {self.longest:,} characters")


_steps: ContextVar[_Steps] = ContextVar("steps")


class _Generation(Extension):
    """The tag {% generation %}, which marks answers in training; here it is only read over."""

    tags = {"generation"}  # noqa: RUF012  # as Jinja declares it

    def parse(self, parser: Any) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class _Limited(ImmutableSandboxedEnvironment):
    """A sandbox that counts."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in _NO_METHODS and super().is_safe_attribute(obj, attr, value)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  # as in Jinja
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps `format`
        _check_call(getattr(method, "__self__", None), getattr(__obj, "__name__", ""), args, kwargs)
        return _checked(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _check_operator(operator, left, right)
        return _checked(super().call_binop(context, operator, left, right))


@functools.lru_cache(maxsize=16)
def renderer(source: str) -> Callable[[list[str]], str]:
    """What lays a chat template over the user turns of a prompt.

    Args:
        source: the template.

    Returns:
        The texts of the user turns -> the text of the prompt. It raises PromptError if the template refuses the
        conversation or fails on it, and ModelFormatError if it reaches a limit.

    Raises:
        ModelFormatError: this is no template, or a very long one.
    """
    if len(source) > _MOST_SOURCE:
        raise ModelFormatError(f"the chat template has {len(source):,} characters; {_MOST_SOURCE:,} are legal")
    environment = _Limited(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], finalize=_weighed
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _refuse,
        "strftime_now": _now,
    }
    environment.globals.pop("lipsum", None)  # it writes at length
    for name in _NO_FILTERS:
        del environment.filters[name]
    for known in (environment.filters, environment.tests):
        for name, plain in list(known.items()):
            known[name] = _counted(name, plain)
    environment.filters |= {"p2l_turns": _turns, "p2l_joined": _joined, "p2l_read": _read}
    try:
        template = environment.from_string(_instrumented(environment.parse(source)))
    except (TemplateError, RecursionError, ValueError, SyntaxError, MemoryError) as error:
        raise ModelFormatError(f"the chat template is damaged: {shown(error)}") from None

    def render(turns: list[str], **variables: Any) -> str:
        longest = 4 * sum(map(len, turns)) + _MOST_GROWTH
        kept = _steps.set(_Steps(longest))
        try:
            messages = [{"role": "user", "content": turn} for turn in turns]
            parts, length = [], 0
            for part in template.generate(
                messages=messages, tools=None, documents=None, add_generation_prompt=False, **variables
            ):
                length += len(part)
                _steps.get().check(length)
                parts.append(part)
            return "".join(parts)
        except (_LimitError, RecursionError, MemoryError) as error:
            raise ModelFormatError(f"the model's chat template was stopped: {error or 'out of memory'}") from None
        except Exception as error:  # a template may do anything that fails
            raise PromptError(f"the model's chat template cannot take the prompt: {shown(error)}") from None
        finally:
            _steps.reset(kept)

    return render


def limited_renderer(tokenizer: Any) -> Callable[[list[str]], str] | None:
    """The renderer of a transformers tokenizer's chat template; None if it has none."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        return None
    if not isinstance(template, str):
        raise ModelFormatError(f"the chat template is {shown(template)}; it must be text")
    render, tokens = renderer(template), dict(tokenizer.special_tokens_map)
    return lambda turns: render(turns, **tokens)


def _instrumented(tree: nodes.Template) -> nodes.Template:
    """The tree with a counter in every loop, every comparison and every slice, and with every `~` as a filter."""
    for loop in tree.find_all(nodes.For):
        loop.iter = nodes.Filter(loop.iter, "p2l_turns", [], [], None, None)
    for comparison in list(tree.find_all(nodes.Compare)):
        parts: list[Any] = [comparison, *comparison.ops]
        for part in parts:
            part.expr = nodes.Filter(part.expr, "p2l_read", [], [], None, None)
    for item in list(tree.find_all(nodes.Getitem)):
        if isinstance(item.arg, nodes.Slice):
            item.node = nodes.Filter(item.node, "p2l_read", [], [], None, None)
    for node in [tree, *tree.find_all(nodes.Node)]:
        for name, value in node.iter_fields():
            if isinstance(value, nodes.Concat):
                setattr(node, name, _as_filter(value))
            elif isinstance(value, list):
                value[:] = [_as_filter(item) if isinstance(item, nodes.Concat) else item for item in value]
    assert tree.environment is not None
    tree.set_environment(tree.environment)
    return tree


def _as_filter(node: nodes.Concat) -> nodes.Filter:
    return nodes.Filter(nodes.List(node.nodes), "p2l_joined", [], [], None, None)


def _turns(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _steps.get().take()
        yield item


def _read(value: Any) -> Any:
    """A value that is read as a whole, once."""
    _steps.get().take(_size(value))
    return value


def _size(value: Any) -> int:
    """The steps that it takes to read a value."""
    if isinstance(value, str):
        return len(value) // _PER_STEP
    return len(value) if isinstance(value, list | tuple | dict | range) else 0


def _joined(parts: list[Any]) -> str:
    texts = [str(_weighed(part)) for part in parts]
    _steps.get().take(sum(map(_size, texts)))
    _steps.get().check(sum(map(len, texts)))
    return "".join(texts)


def _counted(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that counts as a step; those to which Jinja passes its context, too."""
    passes = getattr(plain, "jinja_pass_arg", None)

    def counted(*args: Any, **kwargs: Any) -> Any:
        given = args[1:] if passes is not None else args
        _check_call(given[0] if given else None, name, given[1:], kwargs)
        return _checked(plain(*args, **kwargs))

    if passes is not None:
        counted.jinja_pass_arg = passes  # type: ignore[attr-defined]
    return counted


def _check_call(subject: Any, name: str, args: Any, kwargs: dict[str, Any]) -> None:
    steps = _steps.get()
    steps.take()
    given = [*args, *kwargs.values()]
    for value in (subject, *given):
        _weighed(value)
        steps.take(_size(value))
    for value in given:
        if isinstance(value, int | float) and abs(value) > _MOST_NUMBER:
            raise _LimitError(f"it calls {name} with {shown(value)}")
    if isinstance(subject, str):
        if name in ("format", "format_map") and _LONG_WIDTH.search(subject):
            raise _LimitError("it formats with a great width")
        texts = [len(value) for value in given if isinstance(value, str)]
        if name == "replace" and len(texts) > 1:
            steps.check((len(subject) // max(1, texts[0]) + 1) * texts[1])
        if name == "indent":
            widths = [len(value) if isinstance(value, str) else int(value) for value in given[:1]]
            steps.check((subject.count("\n") + 1) * max(widths, default=0))
        if name == "join":
            items = sum(len(value) for value in given if isinstance(value, list | tuple))
            steps.check(len(subject) * items)
    elif name == "join" and isinstance(subject, list | tuple):
        steps.check(len(subject) * sum(len(value) for value in given if isinstance(value, str)))


def _check_operator(operator: str, left: Any, right: Any) -> None:
    steps = _steps.get()
    steps.take(1 + _size(left) + _size(right))
    if operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
        steps.check(len(left) + len(right))
    elif operator == "*":
        for one, other in ((left, right), (right, left)):
            if isinstance(one, str | list | tuple) and isinstance(other, int):
                steps.check(len(one) * other)
                steps.take(len(one) * max(other, 0) // _PER_STEP)
    elif operator == "%" and isinstance(left, str) and _LONG_WIDTH.search(left):
        raise _LimitError("it formats with a great width")
    elif operator == "**" and isinstance(right, int | float) and abs(right) > 64:
        raise _LimitError(f"it raises to the power {shown(right)}")


def _weighed(value: Any) -> Any:
    """A value of which a text may be made: lists that stand in lists many times over make a long one."""
    if isinstance(value, str):
        _steps.get().check(len(value))
    elif isinstance(value, list | tuple | dict):
        steps, weight, left = _steps.get(), 0, [value]
        while left:
            item = left.pop()
            weight += len(item) if isinstance(item, str | list | tuple | dict) else 1
            steps.check(weight)
            if isinstance(item, dict):
                left += [*item.keys(), *item.values()]
            elif isinstance(item, list | tuple):
                left += item
    return value


def _checked(value: Any) -> Any:
    """A result that is not too large."""
    if isinstance(value, str | list | tuple | dict):
        _steps.get().check(len(value))
    elif isinstance(value, int) and value.bit_length() > 256:
        raise _LimitError("it computes with great numbers")
    return value


def _now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _refuse(message: str) -> Any:
    raise TemplateError(message)


def _to_json(
    x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
