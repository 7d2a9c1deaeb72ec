"""`p2l leaderboard | aggregate | route`: ask a model about prompts."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from p2l_sdk.cli.common import (
    COSTS,
    JSON,
    MODEL,
    MODELS,
    OBJECTIVE,
    OPPONENTS,
    PROMPT_COLUMN,
    counting,
    given,
    load,
    number_type,
    print_json,
    say,
    say_matched,
    whole_type,
)  # fmt: skip
from p2l_sdk.cli.repeats import Repeats
from p2l_sdk.errors import PromptError

if TYPE_CHECKING:
    from p2l_sdk.leaderboards.leaderboard import Leaderboard
    from p2l_sdk.p2l import P2L

_FILE_NAME = re.compile(r"[^\s?!]{1,200}\.(?:txt|md|csv|tsv|jsonl?|ndjson|xlsx|parquet)(?:\.gz)?")
_LONGEST_PATH = 200  # characters of a prompt that may be the name of a file
Command = TypeVar("Command", bound=Callable[..., Any])


def TABLE(command: Command) -> Command:  # noqa: N802 - used as a decorator, like JSON
    """The options of a table of LLMs, passed to the command as one keyword each: models, opponents, top, everything,
    kinds."""
    top = click.option("--top", metavar="K", type=whole_type(1), help="Show the K best LLMs only.")
    everything = click.option("--all", "everything", is_flag=True, help="Show all LLMs, however many there are.")
    kinds = click.option("--kinds", is_flag=True, help="Show every kind of prompt that was recognised, however faint.")
    return MODELS(OPPONENTS(top(everything(kinds(command)))))


@click.command(short_help="The leaderboard of LLMs for one prompt.")
@click.argument("prompt")
@MODEL
@COSTS
@TABLE
@JSON
def leaderboard(prompt: str, model: str | None, as_json: bool, **table: Any) -> None:
    """Show the leaderboard of LLMs for PROMPT ("-" reads it from standard input).

    Of more than 15 LLMs, the table shows the ten best, and the cheapest of those that no other one beats in rating and
    cost. With --opponents it tells how often an answer is preferred to theirs.
    """
    p2l = load(model)
    _show(p2l.leaderboard(_read(prompt)), p2l, as_json, **table)


@click.command(short_help="One leaderboard for a file of prompts, or by category.")
@click.argument("file")
@MODEL
@COSTS
@TABLE
@PROMPT_COLUMN
@click.option("--by", metavar="COLUMN", help="One leaderboard for each category, as the column tells it.")
@click.option("--seed", metavar="N", type=whole_type(0), default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--output", metavar="FILE", help="Draw the leaderboard, or those by category: a .png, .pdf or .svg file.")
@JSON
def aggregate(
    file: str,
    model: str | None,
    column: str | None,
    by: str | None,
    seed: int,
    output: str | None,
    as_json: bool,
    **table: Any,
) -> None:
    """Show one leaderboard, with intervals, for all prompts in FILE.

    FILE is a text file with one prompt per line, or a table (.csv, .jsonl, ...) with a column "prompt"; "-" reads
    standard input, with one prompt per line or JSON lines.

    With --by COLUMN, the table shows the best LLMs of each category; with --models or --top K, these LLMs in each.
    """
    from p2l_sdk.votes.prompts import read_prompts

    if output is not None:
        from p2l_sdk.pictures import check_picture

        check_picture(output)
    if by is not None:
        from p2l_sdk.cli.categories import aggregate_by

        aggregate_by(load(model), file, by, column, seed, output, as_json, **table)
        return
    p2l, repeats = load(model), Repeats()
    with counting(as_json) as progress:
        board = p2l.aggregate(repeats.watched(read_prompts(file, column)), seed=seed, progress=progress)
    repeats.say(board.n_prompts)
    if output is not None:
        from p2l_sdk import pictures

        pictures.save(board.plot().figure, output)
    _show(board, p2l, as_json, **table)


@click.command(short_help="The LLM to call for a prompt within a budget.")
@click.argument("prompt")
@MODEL
@COSTS
@click.option("--cost", metavar="USD", type=number_type(), help="Budget: mean USD per response. No limit if not given.")
@MODELS
@OPPONENTS
@click.option("--policy", metavar="NAME", help="How to choose: optimal, strict or best.  [optimal]")
@OBJECTIVE
@click.option("--seed", metavar="N", type=whole_type(), help="Seed of the draw from the mixture.")
@JSON
def route(prompt: str, model: str | None, cost: float | None, seed: int | None, as_json: bool, **options: Any) -> None:
    """Choose the LLM to call for PROMPT within a budget ("-" reads it from standard input)."""
    result = load(model).route(_read(prompt), cost, seed=seed, **given(**options))
    say_matched(result.matched)
    if as_json:
        print_json(result.to_dict())
    else:
        from p2l_sdk.cli.leaderboard_tables import print_route

        print_route(result)


def _show(
    board: Leaderboard,
    p2l: P2L,
    as_json: bool,
    *,
    models: list[str] | None,
    opponents: dict[str, float] | None,
    top: int | None,
    everything: bool,
    kinds: bool,
) -> None:
    """Print the rows that the options of `TABLE` select."""
    from p2l_sdk.leaderboards.shown import rows_to_show

    router = p2l.router(**given(models=models, opponents=opponents))
    say_matched(router.matched)
    own = list(dict.fromkeys(router.matched.get(name, name) for name in router.names))
    whole = everything or as_json
    rows = rows_to_show(
        board,
        top=len(own) if whole and top is None else top,
        models=None if models is None else set(own),
        costs=p2l.costs,
    )
    if opponents is not None:
        from p2l_sdk.names import places

        rates = p2l.router(opponents=opponents).scores(board.coefs)
        rows = [{**row, "win_rate": float(rates[places(p2l.models)[row["model"]]])} for row in rows]
    if as_json:
        print_json({**board.to_dict(), "leaderboard": rows, "costs": dict(p2l.costs)})
    else:
        from p2l_sdk.cli.leaderboard_tables import print_kinds, print_leaderboard

        print_leaderboard(board, p2l.costs, rows, len(own))
        if kinds:
            print_kinds(board.kinds)


def _read(prompt: str) -> str:
    if _names_a_file(prompt):
        name = shlex.quote(prompt)
        text = "the prompt is the name of a file, and is read as it stands"
        say(f"p2l: warning: {text}; what is in it: - < {name}, or line by line: p2l aggregate {name}", err=True)
    elif _FILE_NAME.fullmatch(prompt):
        say(f"p2l: warning: there is no file {prompt!r}; it is read as the prompt itself", err=True)
    try:
        return sys.stdin.read() if prompt == "-" else prompt
    except UnicodeDecodeError as error:
        raise PromptError(f"standard input is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _names_a_file(prompt: str) -> bool:
    try:
        return len(prompt) < _LONGEST_PATH and Path(prompt).is_file()
    except (OSError, ValueError):  # no name at all
        return False
