"""`p2l build`: a model from leaderboards by kind of prompt, without a vote."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2l_sdk.cli.common import COLUMNS, JSON, listed, print_json, say, whole_type
from p2l_sdk.cli.mpg import PERCENT

if TYPE_CHECKING:
    from p2l_sdk.kinds.ratings import KindRatings


@click.command(short_help="A model from leaderboards by kind, without votes.")
@click.option("--ratings", metavar="FILE", help="Ratings by kind: model, category, rating and, if known, lower, upper.")
@click.option("--scale", metavar="NAME", help='Of the ratings: "elo" (400 points are odds of 10 to 1) or "logit".')
@click.option(
    "--scores", metavar="FILE", help="Instead of ratings: results on benchmarks, as for p2l mpg; a benchmark is a kind."
)
@PERCENT
@COLUMNS
@click.option("--prompts", metavar="FILE", required=True, help="Prompts of known kind: prompt, category.")
@click.option("--output", metavar="FOLDER", required=True, help="The new model's folder.")
@click.option("--kinds", metavar="A,B,...", callback=listed, help="The categories to use.  [all]")
@click.option("--overall", metavar="NAME", help="The category of all prompts.  [overall, full or all, if there is one]")
@click.option("--costs", metavar="SOURCE", help="USD per response: a file, or genai-prices[:PROVIDER,...].")
@click.option(
    "--base", metavar="PATH", help="Text model to build upon: folder, Hub id or .gguf.  [the embedded static one]"
)
@click.option("--seed", metavar="N", type=whole_type(0), default=0, show_default=True, help="Of the recogniser.")
@click.option("--title", metavar="TEXT", help="For the card.")
@click.option("--license", "licence", metavar="ID", help="For the card.")
@JSON
def build(
    ratings: str | None,
    scale: str | None,
    scores: str | None,
    percent: bool | list[str],
    columns: list[str] | None,
    prompts: str,
    output: str,
    kinds: list[str] | None,
    overall: str | None,
    costs: str | None,
    base: str | None,
    seed: int,
    title: str | None,
    licence: str | None,
    as_json: bool,
) -> None:
    """Build a P2L model from leaderboards by kind of prompt, and prompts of known kind.

    Its leaderboards, aggregated over the prompts of a kind, are that kind's leaderboard. A prompt may be of several
    kinds (several rows, or a list in category), or of none (empty): then the overall leaderboard is the answer.
    """
    from p2l_sdk.hub.markdown import code
    from p2l_sdk.kinds.build import build_model
    from p2l_sdk.kinds.card import BuildCard
    from p2l_sdk.kinds.prompts import KindPrompts
    from p2l_sdk.outputs.folders import require_new

    require_new(output)
    known, others = _leaderboards(ratings, scale, scores, percent, columns, kinds, overall)
    read = KindPrompts.read(prompts, known.kinds, others)
    source = Path(ratings or scores or "").name
    card = BuildCard(
        title=title,
        license=licence,
        ratings=f"Leaderboards of {len(known.models)} LLMs in {len(known.kinds)} kinds ({code(source)}).",
        prompts=f"{len(read.prompts):,} prompts of known kind ({code(Path(prompts).name)}).",
    )
    with _progress(quiet=as_json) as progress:
        built = build_model(known, read, output, base=base, costs=costs, seed=seed, card=card, progress=progress)
    if as_json:
        print_json(built.to_dict())
        return
    from p2l_sdk.cli.kinds_tables import print_built

    print_built(built)
    say(f"wrote {output}; its card: {Path(output) / 'README.md'}")
    say(f'try: p2l leaderboard "Write a haiku about the sea" --kinds --model {output}')


def _leaderboards(
    ratings: str | None,
    scale: str | None,
    scores: str | None,
    percent: bool | list[str],
    columns: list[str] | None,
    kinds: list[str] | None,
    overall: str | None,
) -> tuple[KindRatings, tuple[str, ...]]:
    """The leaderboards, and names of the categories that are in the table but not used."""
    from p2l_sdk.kinds.ratings import KindRatings, categories_of

    if (ratings is None) == (scores is None):
        raise click.UsageError("give --ratings or --scores, and not both")
    if ratings is not None:
        if percent:
            raise click.UsageError("--percent is for --scores; --scale says what ratings are")
        known = KindRatings.read(ratings, scale, overall=overall, kinds=kinds)
        return known, tuple(name for name in categories_of(ratings) if name not in known.kinds)
    if scale is not None:
        raise click.UsageError("--scale is for --ratings; scores are shares of right answers")
    from p2l_sdk.errors import ResultsError
    from p2l_sdk.mpg.results import Results
    from p2l_sdk.tables.sources import table_errors

    assert scores is not None
    with table_errors(ResultsError, scores):
        results = Results.read(scores, percent=percent, columns=columns)
    known = KindRatings.of_results(results, kinds=kinds, overall=overall)
    return known, tuple(name for name in results.benchmarks if name not in known.kinds)


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, int], None] | None]:
    """What is told of the two phases of a build: a bar on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from p2l_sdk.cli.terminal import Console

    columns = (SpinnerColumn(), TextColumn("{task.completed:,} {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        names = {"prompts": "prompts read", "networks": "networks trained"}
        tasks = {phase: progress.add_task(text, total=None) for phase, text in names.items()}
        yield lambda phase, done: progress.update(tasks[phase], completed=done)
