"""The command line, `p2l`: one module for each kind of command.

Commands print tables, or one JSON object on stdout with --json. An error is one line on stderr (more
where faulty rows are listed) and exit status 2. Heavy imports are inside the commands, so that --help and errors are
instant.
"""

from __future__ import annotations

import re
import sys
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
from p2l_sdk.cli.frontier import frontier
from p2l_sdk.cli.inspect import inspect
from p2l_sdk.cli.judging import collect, judge
from p2l_sdk.cli.keys import keys
from p2l_sdk.cli.mpg import mpg
from p2l_sdk.cli.once import Once
from p2l_sdk.cli.personal import personal
from p2l_sdk.cli.plan import plan
from p2l_sdk.cli.push import push
from p2l_sdk.cli.serve import serve
from p2l_sdk.cli.train import merge, train
from p2l_sdk.errors import NEW_LINE, P2LError, P2LWarning


@click.group(cls=Once, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="p2l-sdk", prog_name="p2l")
def cli() -> None:
    """Which LLM answers this prompt best? Prompt-to-Leaderboard on the command line."""


for _command in (
    leaderboard, aggregate, route, frontier, costs, evaluate, build, train, merge, convert, push, add_model,
    remove_model, rename_model, collect, judge, plan, mpg, analyze, personal, serve, keys, inspect,
):  # fmt: skip
    cli.add_command(_command)


def _file_option(command: click.Command, message: str) -> str:
    """How to name a file that was given without its option; "" if the command has none for it."""
    found = re.search(r"extra arguments? \((\S+)", message)
    option = next((o for p in command.params if p.name in ("votes", "results") for o in p.opts), None)
    return f"a file is named by its option: {option} {found[1].rstrip(')')}; " if found and option else ""


def main() -> NoReturn:
    """The entry point of the `p2l` command."""
    sys.exit(run(lambda: cli(prog_name="p2l", standalone_mode=False)))


def run(command: Callable[[], Any]) -> int:
    """Run a click command and return its exit status: 2, with one line on stderr, for an expected error; 130 if
    interrupted. A `P2LWarning` is one line on stderr, too."""
    plain = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *args: Any, **options: Any) -> None:
        if issubclass(category, P2LWarning):
            click.echo(f"p2l: warning: {message}", err=True)
        else:
            plain(message, category, *args, **options)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", P2LWarning)
            warnings.showwarning = show
            command()
    except P2LError as error:
        message = str(error)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "p2l"
        hint = f"see {path} --help"
        takes_prompt = error.ctx is not None and any(p.name == "prompt" for p in error.ctx.command.params)
        if takes_prompt and isinstance(error, click.NoSuchOption):
            hint = f"a prompt that starts with a dash goes behind --: {path} -- PROMPT; {hint}"
        elif takes_prompt and "extra argument" in error.message:
            hint = f"put quotes around the prompt; {hint}"
        elif "extra argument" in error.message and error.ctx is not None:
            hint = f"{_file_option(error.ctx.command, error.message)}{hint}"
        message = f"{error.format_message()} ({hint})"
    except (click.Abort, KeyboardInterrupt) as stop:
        cause = stop.__cause__ if isinstance(stop, click.Abort) else stop  # click turns KeyboardInterrupt into Abort
        advice = f"; {cause}" if isinstance(cause, KeyboardInterrupt) and cause.args else ""
        click.echo(f"p2l: interrupted{advice}", err=True)
        return 130
    except BrokenPipeError:  # the reader, for instance `head`, has exited
        sys.stderr.close()
        return 0
    except OSError as error:  # for instance, the disk is full
        message = f"cannot write the output: {error.strerror}"
    except UnicodeEncodeError as error:
        message = f"this terminal ({error.encoding}) cannot show {error.object[error.start]!a}; use UTF-8, or --json"
    else:
        return 0
    lines = [" ".join(line.split()) for line in message.split(NEW_LINE)]  # one, but where rows are listed
    click.echo("p2l: " + NEW_LINE.join(lines).encode("utf-8", "backslashreplace").decode("utf-8"), err=True)
    return 2
