"""`p2l score`: millions of prompts, from files into files."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from p2l_sdk.cli.common import (
    COSTS,
    JSON,
    MODEL,
    MODELS,
    OBJECTIVE,
    OPPONENTS,
    PROMPT_COLUMN,
    given,
    listed,
    load_options,
    number_type,
    print_json,
    say,
    whole_type,
)

if TYPE_CHECKING:
    from p2l_sdk.bulk import Summary
    from p2l_sdk.leaderboards.leaderboard import Leaderboard

_TOLD, _CATEGORIES = 5, 20  # faulty rows and categories that are printed


def _address(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """The address of a Ray cluster; a file that follows a bare --ray is none."""
    if value is None or value in ("local", "auto") or re.fullmatch(r"(ray://)?[\w.-]+:\d+", value):
        return value
    raise click.BadParameter(f"{value!r} is no address of a Ray cluster; write --ray=local, =auto, =host:port", context)


@click.command(short_help="Score millions of prompts: files in, Parquet out.")
@click.argument("files", nargs=-1, required=True)
@click.option("--output", metavar="DIR", required=True, help="Folder of the results: a new one, or one to go on with.")
@MODEL
@COSTS
@PROMPT_COLUMN
@click.option("--id", "id_column", metavar="NAME", help="The column that names a row.  [id, if there is one]")
@click.option("--by", metavar="NAME", help="A column of categories: statistics for each.")
@click.option("--columns", metavar="A,B,...", callback=listed, help="More columns to write beside the results.")
@click.option("--top", metavar="K", type=whole_type(0), help="Write the K best LLMs of each prompt.  [5]")
@click.option("--coefficients", is_flag=True, help="Write the coefficients of all LLMs, a column for each.")
@click.option("--route", metavar="KIND", help="Write the LLM to call; a budget is joint or per-prompt.  [joint]")
@click.option("--cost", metavar="USD", type=number_type(), help="Budget: mean USD per response.")
@click.option("--budget", metavar="USD", type=number_type(), help="Instead: USD for all prompts together.")
@MODELS
@OPPONENTS
@OBJECTIVE
@click.option("--aggregate", metavar="KIND", help="Prompts of the aggregate: sample, all or none.  [sample]")
@click.option("--seed", metavar="N", type=whole_type(0), default=0, show_default=True, help="Of sample and draws.")
@click.option(
    "--processes", metavar="N", type=whole_type(1, 1024), help="Worker processes.  [one per core; 1 with torch]"
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    is_flag=False,
    flag_value="local",
    callback=_address,
    help="Score on a Ray cluster, in --processes actors: --ray=auto, =HOST:PORT, =ray://HOST:10001; bare, on one here.",
)
@click.option(
    "--part-rows",
    metavar="N",
    type=whole_type(1),
    help="Rows of a part, the unit of resuming.  [20000; transformers 2000]",
)
@JSON
def score(
    files: tuple[str, ...],
    output: str,
    model: str | None,
    column: str | None,
    id_column: str | None,
    by: str | None,
    columns: list[str] | None,
    top: int | None,
    coefficients: bool,
    budget: float | None,
    models: list[str] | None,
    processes: int | None,
    part_rows: int | None,
    ray: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Score the prompts in FILES, and write the results to a folder of Parquet files.

    FILES are tables (.parquet, .jsonl, .csv, ..., also .gz), patterns of them in quotes, folders, texts with a prompt
    per line, or Hub data sets. A run that was stopped goes on when the same command is given again.
    """
    from p2l_sdk.bulk import Columns, Settings, score_files

    top = (0 if coefficients else None) if top is None else top
    chosen = given(top=top, total=budget, models=None if models is None else tuple(models), **options)
    settings = Settings(model=model, coefficients=coefficients, **load_options(), **chosen)
    read = Columns(prompt=column, id=id_column, by=by, keep=tuple(columns or ()))
    sizes = given(processes=processes, part_rows=part_rows, ray=ray)
    with _progress(as_json) as progress:
        found = score_files(files, output, settings, columns=read, progress=progress, **sizes)
    if found.totals is None and as_json:
        print_json(found.to_dict())
    elif as_json:
        print_json({**found.to_dict(), **_boards(found)})
    else:
        _print(found, output)


def _boards(found: Summary) -> dict[str, Any]:
    assert found.totals is not None
    board, boards = found.totals.board(), found.totals.boards()
    whole = {} if board is None else board.to_dict()
    return {"aggregate": whole, "categories": {name: board.to_dict() for name, board in boards.items()}}


def _print(found: Summary, output: str) -> None:
    went_on = f" ({found.resumed:,} of them before)" if found.resumed else ""
    files = f"{found.n_parts:,} file{'' if found.n_parts == 1 else 's'}"
    say(f"{found.n_scored:,} prompt{'' if found.n_scored == 1 else 's'}{went_on}, in {files} in {output}")
    if found.n_bad:
        say(f"p2l: left out: {found.n_bad:,} of {found.n_rows:,} rows, in bad-rows.jsonl:", err=True)
        for line in found.first_bad[:_TOLD]:
            say(f"p2l:   {line}", err=True)
        if found.n_bad > _TOLD:
            say(f"p2l:   and {found.n_bad - _TOLD:,} more", err=True)
    if found.mean_cost is not None:
        from p2l_sdk.routing.route import usd

        price = f"; the price of money is {found.multiplier:.4g} in score per USD" if found.multiplier else ""
        say(f"routes: {usd(found.mean_cost)} per response on average{price}")
    if found.totals is None or (board := found.totals.board()) is None:
        return
    from p2l_sdk.cli.leaderboard_tables import print_leaderboard

    n = len(board.models)
    print_leaderboard(board, board.costs or {}, board.rows()[:10] if n > 15 else None, n)
    if board.n_prompts < found.n_scored:
        say(f"of a random sample of {board.n_prompts:,} of the {found.n_scored:,} prompts (--aggregate all: of all)")
    if boards := found.totals.boards():
        _print_categories(boards, found)


def _print_categories(boards: dict[str, Leaderboard], found: Summary) -> None:
    from rich.console import Console
    from rich.text import Text

    from p2l_sdk.cli.analysis_tables import table_of

    assert found.totals is not None
    table = table_of(
        "By category", ("category", "text"), ("prompts", "number"), ("best LLM", "wide"), ("rating", "number"),
        ("second", "wide"), ("rating", "number"),
    )  # fmt: skip
    for name, board in list(boards.items())[:_CATEGORIES]:
        first, second = board.rows()[:2]
        table.add_row(
            Text(name), f"{found.totals.n_prompts[name]:,}", Text(first["model"]), f"{first['rating']:.0f}",
            Text(second["model"]), f"{second['rating']:.0f}",
        )  # fmt: skip
    console = Console()
    console.print(table)
    if len(boards) > _CATEGORIES:
        console.print(Text(f"and {len(boards) - _CATEGORIES} more categories, in statistics.safetensors", style="dim"))


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    """A bar with prompts per second and the time left, on a terminal; elsewhere, as in a log of the night, a line now
    and then; None with --json."""
    if quiet:
        yield None
        return
    from p2l_sdk.cli import terminal

    if not sys.stderr.isatty():
        yield terminal.rate_lines("prompts", lambda line: say(f"p2l: {line}", err=True))
        return
    with terminal.rate_of("prompts") as progress:
        yield progress
