"""`p2l analyze scaling`: what more votes would bring."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2l_sdk.cli.common import (
    JSON,
    LLMS,
    READING,
    SCORES_OUTSIDE,
    given,
    listed,
    number_type,
    print_json,
    reading,
    say,
    say_findings,
    whole_type,
)  # fmt: skip

if TYPE_CHECKING:
    from p2l_sdk.votes.votes import Votes


def _numbers(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int | None, ...] | None:
    """Parse comma-separated whole numbers of 1 or more, and "all" (None)."""
    if value is None:
        return None
    numbers: list[int | None] = []
    for part in value.split(","):
        try:
            numbers.append(None if part.strip() == "all" else int(part))
        except ValueError:
            raise click.BadParameter(f"{part.strip()!r} is no whole number, and not 'all'") from None
    return tuple(numbers)


def _widths(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Parse comma-separated widths."""
    numbers = _numbers(context, option, value)
    if numbers is not None and None in numbers:
        raise click.BadParameter("'all' is no width")
    return None if numbers is None else tuple(n for n in numbers if n is not None)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int, int], None] | None]:
    """A bar with the time left on a terminal; None if it is not one."""
    if not sys.stderr.isatty():
        yield None
        return
    from p2l_sdk.cli import terminal

    with terminal.bar_of("trainings") as progress:
        yield progress


@click.command(short_help="What more votes would bring: loss over prompts.")
@click.option("--votes", metavar="FILE", required=True, help="Votes to learn from, or scores; as in p2l train.")
@click.option("--output", metavar="DIR", required=True, help="Folder of the results; the same call goes on from there.")
@click.option("--sizes", metavar="N,N,...", callback=_numbers, help="Numbers of prompts; 'all'.  [all, a half, ...]")
@click.option("--per-prompt", metavar="N,...", callback=_numbers, help="Most votes on a prompt, a curve each.  [all]")
@click.option("--widths", metavar="N,...", callback=_widths, help="Hidden units of static models, a curve each.  [256]")
@click.option(
    "--bases", metavar="A,B,...", callback=listed, help="static, its folders, text backbones: a curve each.  [static]"
)
@click.option("--seeds", metavar="N", type=whole_type(), help="Draws of each size.  [5]")
@click.option("--eval-votes", metavar="FILE", help="Held-out votes to measure on.")
@click.option("--eval-scores", metavar="FILE", help="Held-out scores to measure on, as votes.")
@click.option("--validation", metavar="SHARE", type=number_type(), help="Else: the share that is held out.  [0.1]")
@click.option("--feedback", metavar="NAME", help="Feedback model, as in p2l train.  [by the votes]")
@click.option("--epochs", metavar="N", type=number_type(), help="Passes over the prompts.  [by their number; text: 3]")
@click.option(
    "--keep", metavar="SHARE", type=number_type(), help="Of the departure from the averaged leaderboard.  [1]"
)
@SCORES_OUTSIDE
@LLMS
@READING
@JSON
def scaling(
    votes: str,
    eval_votes: str | None,
    eval_scores: str | None,
    scores_outside: str | None,
    llms: list[str] | None,
    not_llms: list[str] | None,
    output: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Train models on random parts of the votes, measure them on held-out votes, and fit a power law to the losses.

    \b
    DIR holds when it is done:
      points.jsonl   every training, written as it is done; a call with the same settings does what is missing
      scaling.json   losses, laws, forecasts for ten times the prompts, each with 95 % limits
      scaling.png    their picture
    """
    from p2l_sdk import pictures
    from p2l_sdk.analysis.scaling import scaling as study
    from p2l_sdk.errors import P2LError
    from p2l_sdk.outputs.faults import real_path
    from p2l_sdk.votes.votes import Votes

    if eval_votes is not None and eval_scores is not None:
        raise P2LError("--eval-votes and --eval-scores are both given; the loss is measured on one of them")
    pictures.require_pyplot()
    real_path(output)
    columns: dict[str, Any] = {"models": llms, "not_llms": not_llms or (), "scores_outside": scores_outside}
    data = Votes.read(votes, **columns, **reading())
    say_findings(data.findings)
    file = eval_votes if eval_votes is not None else eval_scores
    held_out: Votes | None = None
    if file is not None:
        held_out = Votes.read(file, data.models, scores_outside=scores_outside, **reading())
    folder = Path(output).expanduser()
    try:
        with _bar() as progress:
            found = study(data, held_out, output=folder, progress=progress, **given(**options))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"finished trainings are in {output!r}; the same call goes on from there") from None
    from p2l_sdk.cli.scaling_tables import print_scaling, write_scaling

    write_scaling(found, folder)
    if as_json:
        print_json(found.to_dict())
        return
    print_scaling(found)
    say(f"wrote {folder / 'scaling.json'} and {folder / 'scaling.png'}")
