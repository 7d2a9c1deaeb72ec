"""`p2l leaderboard | aggregate | route`: ask a model about prompts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from p2l_sdk.cli.common import COSTS, JSON, MODEL, load, print_json
from p2l_sdk.errors import PromptError
from p2l_sdk.modeling.prompt_p2l import Prompt

if TYPE_CHECKING:
    from p2l_sdk.leaderboards.leaderboard import Leaderboard

TOP = click.option("--top", metavar="K", type=click.IntRange(min=1), help="Show the K best LLMs only.")
_REMEMBERED = 100_000  # prompts in which repeated ones are noticed: a file of any size takes constant memory


@click.command(short_help="The leaderboard of LLMs for one prompt.")
@click.argument("prompt")
@MODEL
@COSTS
@TOP
@JSON
def leaderboard(prompt: str, model: str | None, top: int | None, as_json: bool) -> None:
    """Show the leaderboard of LLMs for PROMPT ("-" reads it from standard input)."""
    p2l = load(model)
    _show(p2l.leaderboard(_read(prompt)), p2l.costs, top, as_json)


@click.command(short_help="One leaderboard for all prompts of a file.")
@click.argument("file")
@MODEL
@COSTS
@TOP
@click.option(
    "--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the bootstrap."
)
@JSON
def aggregate(file: str, model: str | None, top: int | None, seed: int, as_json: bool) -> None:
    """Show one leaderboard, with intervals, for all prompts in FILE.

    FILE is a text file with one prompt per line, or a .jsonl, .csv or .parquet file with a column "prompt"; "-" reads
    standard input, with one prompt per line or JSON lines.
    """
    from p2l_sdk.votes.prompts import read_prompts

    p2l = load(model)
    seen: set[int] = set()
    n_repeated = 0

    def prompts() -> Iterator[Prompt]:
        nonlocal n_repeated
        for prompt in read_prompts(file):
            key = hash(prompt if isinstance(prompt, str) else json.dumps(prompt))
            if key in seen:
                n_repeated += 1
            elif len(seen) < _REMEMBERED:
                seen.add(key)
            yield prompt

    if as_json or not sys.stderr.isatty():
        board = p2l.aggregate(prompts(), seed=seed)
    else:
        from p2l_sdk.cli import terminal

        with terminal.counting("prompts") as progress:
            board = p2l.aggregate(prompts(), seed=seed, progress=progress)
    if n_repeated:
        repeated = f"{n_repeated:,} of {board.n_prompts:,} prompts repeat another one"
        click.echo(f"p2l: {repeated}, and the intervals count them as independent", err=True)
    _show(board, p2l.costs, top, as_json)


@click.command(short_help="The LLM to call for a prompt within a budget.")
@click.argument("prompt")
@MODEL
@COSTS
@click.option("--cost", metavar="USD", type=float, help="Budget: mean USD per response. No limit if not given.")
@click.option("--seed", metavar="N", type=int, help="Seed of the draw from the mixture.")
@JSON
def route(prompt: str, model: str | None, cost: float | None, seed: int | None, as_json: bool) -> None:
    """Choose the LLM to call for PROMPT within a budget ("-" reads it from standard input)."""
    result = load(model).route(_read(prompt), cost, seed=seed)
    if as_json:
        print_json(result.to_dict())
    else:
        from p2l_sdk.cli.leaderboard_tables import print_route

        print_route(result)


def _show(board: Leaderboard, costs: Mapping[str, float], top: int | None, as_json: bool) -> None:
    if as_json:
        result = board.to_dict()
        print_json({**result, "leaderboard": result["leaderboard"][:top], "costs": dict(costs)})
    else:
        from p2l_sdk.cli.leaderboard_tables import print_leaderboard

        print_leaderboard(board, costs, top)


def _read(prompt: str) -> str:
    try:
        return sys.stdin.read() if prompt == "-" else prompt
    except UnicodeDecodeError as error:
        raise PromptError(f"standard input is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
