"""The command line: `p2l leaderboard | aggregate | route | evaluate`.

Tables on a terminal, one JSON object on stdout with --json. An error is one line on stderr and exit status 2.
Heavy imports stand within the commands, so that --help and errors are instant.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from p2l_sdk.errors import P2LError

if TYPE_CHECKING:
    from p2l_sdk.facade import P2L

_MODEL = click.option(
    "--model", metavar="PATH", help="A saved P2L model or a Hub id; the embedded default if not given."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="p2l-sdk", prog_name="p2l")
def cli() -> None:
    """Which LLM answers this prompt best? Prompt-to-Leaderboard on the command line."""


@cli.command()
@click.argument("prompt")
@_MODEL
@click.option("--top", metavar="K", type=click.IntRange(min=1), help="Show the K best LLMs only.")
@_JSON
def leaderboard(prompt: str, model: str | None, top: int | None, as_json: bool) -> None:
    """The leaderboard of LLMs for PROMPT ("-" reads it from standard input)."""
    p2l = _load(model)
    board = p2l.leaderboard(_read(prompt))
    if as_json:
        result = board.to_dict()
        _print_json({**result, "leaderboard": result["leaderboard"][:top]})
    else:
        from p2l_sdk import terminal

        terminal.print_leaderboard(board, p2l.costs, top)


@cli.command()
@click.argument("file")
@_MODEL
@click.option("--top", metavar="K", type=click.IntRange(min=1), help="Show the K best LLMs only.")
@click.option(
    "--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the bootstrap."
)
@_JSON
def aggregate(file: str, model: str | None, top: int | None, seed: int, as_json: bool) -> None:
    """One leaderboard, with intervals, for all prompts in FILE.

    A text file with one prompt per line, or a .jsonl, .csv or .parquet file with a column "prompt"; "-" is standard
    input, one prompt per line or JSON lines.
    """
    from p2l_sdk.votes import read_prompts

    p2l = _load(model)
    if as_json or not sys.stderr.isatty():
        board = p2l.aggregate(read_prompts(file), seed=seed)
    else:
        from p2l_sdk import terminal

        with terminal.counting("prompts") as progress:
            board = p2l.aggregate(read_prompts(file), seed=seed, progress=progress)
    if as_json:
        result = board.to_dict()
        _print_json({**result, "leaderboard": result["leaderboard"][:top]})
    else:
        from p2l_sdk import terminal

        terminal.print_leaderboard(board, p2l.costs, top)


@cli.command()
@click.argument("prompt")
@_MODEL
@click.option("--cost", metavar="USD", type=float, help="Budget: mean USD per response. No limit if not given.")
@click.option("--seed", metavar="N", type=int, help="Seed of the draw from the mixture.")
@_JSON
def route(prompt: str, model: str | None, cost: float | None, seed: int | None, as_json: bool) -> None:
    """The LLM to call for PROMPT within a budget ("-" reads it from standard input)."""
    result = _load(model).route(_read(prompt), cost, seed=seed)
    if as_json:
        _print_json(result.to_dict())
    else:
        from p2l_sdk import terminal

        terminal.print_route(result)


@cli.command()
@click.option("--votes", metavar="FILE", help="Votes to predict: .jsonl, .csv or .parquet.")
@click.option("--scores", metavar="FILE", help="Scores to route for: a column 'prompt' and one per LLM.")
@_MODEL
@_JSON
def evaluate(votes: str | None, scores: str | None, model: str | None, as_json: bool) -> None:
    """How well a model predicts votes, and routes prompts, that it was not trained on."""
    if votes is None and scores is None:
        raise click.UsageError("there is nothing to evaluate on; give --votes FILE, --scores FILE or both")
    from p2l_sdk.evaluation import Estimate, evaluate_scores, evaluate_votes
    from p2l_sdk.votes import Scores, Votes

    p2l = _load(model)
    report: dict[str, Any] = {"model": model or "embedded default", "feedback": str(p2l.spec.feedback)}
    metrics: dict[str, Any] = {}
    if votes is not None:
        table = Votes.read(votes, p2l.models)
        report |= {"n_votes": len(table), "n_prompts": len(table.prompts)}
        metrics |= evaluate_votes(p2l, table)
    if scores is not None:
        ratings = Scores.read(scores, p2l.models)
        report["n_scored_prompts"] = len(ratings.prompts)
        metrics |= evaluate_scores(p2l, ratings)
    if as_json:
        plain = {name: m.to_dict() if isinstance(m, Estimate) else m for name, m in metrics.items()}
        _print_json({**report, "metrics": plain})
    else:
        from p2l_sdk import terminal

        labels = {"n_votes": "votes", "n_prompts": "prompts", "n_scored_prompts": "scored prompts"}
        counts = ", ".join(
            f"{report[key]:,} {label if report[key] != 1 else label[:-1]}"
            for key, label in labels.items()
            if key in report
        )
        terminal.print_evaluation(f"{report['model']} ({report['feedback']}) on {counts}", metrics)


def _load(model: str | None) -> P2L:
    from p2l_sdk.facade import P2L

    return P2L.from_pretrained(model)


def _read(prompt: str) -> str:
    return sys.stdin.read() if prompt == "-" else prompt


def _print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, indent=2, allow_nan=False, default=str))


def main() -> NoReturn:
    """The entry point of the `p2l` command."""
    sys.exit(run(lambda: cli(prog_name="p2l", standalone_mode=False)))


def run(command: Callable[[], Any]) -> int:
    """Run a click command; its exit status. An expected error is one line on stderr and status 2."""
    try:
        command()
    except P2LError as error:
        message = str(error)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "p2l"
        hint = f"see {path} --help"
        if isinstance(error, click.NoSuchOption):
            hint = f"a prompt that starts with a dash goes behind --: {path} -- PROMPT; {hint}"
        elif "extra argument" in error.message:
            hint = f"put quotes around the prompt; {hint}"
        message = f"{error.format_message()} ({hint})"
    except (click.Abort, KeyboardInterrupt):
        click.echo("p2l: interrupted", err=True)
        return 130
    except BrokenPipeError:  # the reader, `head` say, has gone
        sys.stderr.close()
        return 0
    except OSError as error:  # the disk is full, say
        message = f"cannot write the output: {error.strerror}"
    except UnicodeEncodeError as error:
        message = f"this terminal ({error.encoding}) cannot show {error.object[error.start]!a}; use UTF-8, or --json"
    else:
        return 0
    one_line = " ".join(message.split()).encode("utf-8", "backslashreplace").decode("utf-8")
    click.echo(f"p2l: {one_line}", err=True)
    return 2
