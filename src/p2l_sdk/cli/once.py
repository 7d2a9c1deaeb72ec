"""The options of a command line before click reads them: one that is given twice, of which click would keep the last in
silence, and one that goes by another name."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

import click

_PROMPT_COLUMN = "--prompt-column"


class Once(click.Group):
    """A group whose commands refuse an option that is given twice, unless it may be (`multiple`) or is a flag."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command as click does, and look at its options before they are read."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and any("--column" in parameter.opts for parameter in command.params):
            rest = list(_with_columns(rest))
        if command is not None and not isinstance(command, click.Group):
            _refuse_repeated(click.Context(command, info_name=name, parent=ctx), command, list(rest))
        return name, command, rest


def _with_columns(args: list[str]) -> Iterator[str]:
    """The arguments with `--column prompt=NAME` for `--prompt-column NAME`, as other tools call it."""
    words = iter(args)
    for word in words:
        option, equals, name = word.partition("=")
        if word == "--":
            yield word
            break
        if option != _PROMPT_COLUMN:
            yield word
        elif equals or (following := next(words, None)) is not None:
            yield from ("--column", f"prompt={name if equals else following}")
        else:
            yield "--column"  # whose value is missing
    yield from words


def _refuse_repeated(ctx: click.Context, command: click.Command, args: list[str]) -> None:
    met: list[click.Parameter] = []
    with contextlib.suppress(click.UsageError):  # which click raises when it reads the options
        met = command.make_parser(ctx).parse_args(args)[2]
    for option, n in Counter(option for option in met if isinstance(option, click.Option)).items():
        if n > 1 and not (option.multiple or option.is_flag or option.count):
            raise click.UsageError(f"{option.opts[0]} is given {n} times; give it once", ctx)
