"""Options that are given twice, of which click would keep the last in silence."""

from __future__ import annotations

import contextlib
from collections import Counter

import click


class Once(click.Group):
    """A group whose commands refuse an option that is given twice, unless it may be (`multiple`) or is a flag."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command as click does, and look at its options before they are read."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not isinstance(command, click.Group):
            _refuse_repeated(click.Context(command, info_name=name, parent=ctx), command, list(rest))
        return name, command, rest


def _refuse_repeated(ctx: click.Context, command: click.Command, args: list[str]) -> None:
    met: list[click.Parameter] = []
    with contextlib.suppress(click.UsageError):  # which click raises when it reads the options
        met = command.make_parser(ctx).parse_args(args)[2]
    for option, n in Counter(option for option in met if isinstance(option, click.Option)).items():
        if n > 1 and not (option.multiple or option.is_flag or option.count):
            raise click.UsageError(f"{option.opts[0]} is given {n} times; give it once", ctx)
