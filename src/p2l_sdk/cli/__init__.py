"""The command line, `p2l`: one module for each kind of command.

Commands print tables, or one JSON object on stdout with --json. An error is one line on stderr (more
where faulty rows are listed) and exit status 2; a bug says how to report it, with status 70 (`cli.failures`). Heavy
imports are inside the commands, so that --help and errors are instant.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import click

from p2l_sdk.cli.analyze import analyze
from p2l_sdk.cli.ask import aggregate, leaderboard, route
from p2l_sdk.cli.build import build
from p2l_sdk.cli.convert import convert
from p2l_sdk.cli.costs import costs
from p2l_sdk.cli.edit_model import add_model, remove_model, rename_model
from p2l_sdk.cli.evaluate import evaluate
from p2l_sdk.cli.export import export
from p2l_sdk.cli.failures import message_of, printable
from p2l_sdk.cli.frontier import frontier
from p2l_sdk.cli.inspect import inspect
from p2l_sdk.cli.judging import collect, judge
from p2l_sdk.cli.keys import keys
from p2l_sdk.cli.mpg import mpg
from p2l_sdk.cli.once import Once
from p2l_sdk.cli.personal import personal
from p2l_sdk.cli.plan import plan
from p2l_sdk.cli.push import push
from p2l_sdk.cli.reading_line import reading_shown
from p2l_sdk.cli.score import score
from p2l_sdk.cli.serve import serve
from p2l_sdk.cli.train import merge, train
from p2l_sdk.errors import P2LWarning


@click.group(cls=Once, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="p2l-sdk", prog_name="p2l")
def cli() -> None:
    """Which LLM answers this prompt best? Prompt-to-Leaderboard on the command line."""


for _command in (
    leaderboard, aggregate, route, score, frontier, costs, evaluate, build, train, merge, convert, export, push,
    add_model, remove_model, rename_model, collect, judge, plan, mpg, analyze, personal, serve, keys, inspect,
):  # fmt: skip
    cli.add_command(_command)


def main() -> NoReturn:
    """The entry point of the `p2l` command."""
    sys.exit(run(lambda: cli(prog_name="p2l", standalone_mode=False)))


def run(command: Callable[[], Any]) -> int:
    """Run a click command and return its exit status (see `cli.failures`): an error is one line on stderr, and so is a
    `P2LWarning`. With P2L_DEBUG in the environment, the traceback comes first."""
    plain = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *args: Any, **options: Any) -> None:
        if issubclass(category, P2LWarning):
            click.echo(f"p2l: warning: {printable(str(message))}", err=True)
        else:
            plain(message, category, *args, **options)

    try:
        with warnings.catch_warnings(), reading_shown():
            warnings.simplefilter("always", P2LWarning)
            warnings.showwarning = show
            command()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except (click.Abort, KeyboardInterrupt) as stop:
        cause = stop.__cause__ if isinstance(stop, click.Abort) else stop  # click turns KeyboardInterrupt into Abort
        advice = f"; {cause}" if isinstance(cause, KeyboardInterrupt) and cause.args else ""
        click.echo(f"p2l: interrupted{advice}", err=True)
        return 130
    except BrokenPipeError:  # the reader, for instance `head`, has exited
        sys.stderr.close()
        return 0
    except Exception as error:
        message, status = message_of(error)
        if os.environ.get("P2L_DEBUG"):
            click.echo("".join(traceback.format_exception(error)), err=True)
        click.echo(f"p2l: {printable(message)}", err=True)
        return status
    return 0
