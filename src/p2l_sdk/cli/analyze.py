"""`p2l analyze`: what leaderboards of many prompts tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from p2l_sdk.cli.categories import categories
from p2l_sdk.cli.common import (
    COSTS,
    JSON,
    LLMS,
    MODEL,
    PROMPT_COLUMN,
    READING,
    load,
    number_type,
    print_json,
    telling,
    whole_numbers,
    whole_type,
)  # fmt: skip
from p2l_sdk.cli.once import Once
from p2l_sdk.cli.scaling import scaling
from p2l_sdk.modeling.prompt_p2l import Prompt

if TYPE_CHECKING:
    from p2l_sdk.analysis import Strengths
    from p2l_sdk.votes.votes import Votes


@click.group(cls=Once, short_help="What many prompts tell: strengths, categories, scaling.")
def analyze() -> None:
    """What the leaderboards of many prompts tell about LLMs."""


analyze.add_command(categories)
analyze.add_command(scaling)


@analyze.command(short_help="How close the aggregate is to that of real votes.")
@click.argument("votes")
@MODEL
@LLMS
@READING
@click.option(
    "--sizes", metavar="N,...", callback=whole_numbers, help="Numbers of prompts.  [10,25,50,100,... to half]"
)
@click.option("--trials", metavar="N", type=whole_type(1), default=20, show_default=True, help="Subsets of each size.")
@click.option("--seed", metavar="N", type=whole_type(0), default=0, show_default=True, help="Of the subsets.")
@click.option("--output", metavar="FILE", help="Draw it: a .png, .pdf or .svg file.")
@JSON
def aggregation(
    votes: str,
    model: str | None,
    llms: list[str] | None,
    not_llms: list[str] | None,
    sizes: tuple[int, ...] | None,
    trials: int,
    seed: int,
    output: str | None,
    as_json: bool,
) -> None:
    """Compare the model's aggregate over random subsets of the prompts in VOTES with the leaderboard of all votes, and
    with the votes of the subset alone (also of a table of scores, which are read as votes)."""
    from p2l_sdk.cli.evaluate import read_votes
    from p2l_sdk.cli.evaluation_tables import print_subsets
    from p2l_sdk.evaluation import subset_study

    if output is not None:
        from p2l_sdk.pictures import check_picture

        check_picture(output)
    p2l = load(model)
    columns = {"models": llms, "not_llms": not_llms or ()}
    found = subset_study(p2l, read_votes(votes, p2l.models, columns), sizes, trials=trials, seed=seed)
    if output is not None:
        from p2l_sdk import pictures

        pictures.save(found.plot().figure, output)
    if as_json:
        print_json(found.to_dict())
    else:
        print_subsets(found)


@dataclass(frozen=True)
class PromptFile:
    """The prompts of a file, read anew each time."""

    path: str
    column: str | None

    def __iter__(self) -> Iterator[Prompt]:
        from p2l_sdk.votes.prompts import read_prompts

        return read_prompts(self.path, self.column)


def prompts_of(path: str, column: str | None) -> PromptFile | list[Prompt]:
    """The prompts of a file, which can be read again; those of standard input are kept."""
    return list(PromptFile(path, column)) if path == "-" else PromptFile(path, column)


@analyze.command(short_help="Where each LLM is stronger and weaker than overall.")
@click.argument("file")
@MODEL
@COSTS
@PROMPT_COLUMN
@click.option("--measured", is_flag=True, help="Tell what the votes or scores in FILE measured, on any LLMs.")
@LLMS
@click.option("--llm", metavar="NAME", help="A report on this LLM alone; the test is less strict for one.")
@click.option("--versus", metavar="NAME", help="With --llm: by how much it is ahead of this one, cluster by cluster.")
@click.option("--clusters", metavar="N", type=whole_type(1), help="How many clusters to show.  [chosen]")
@click.option(
    "--least",
    metavar="POINTS",
    type=number_type(),
    help="Deviations of fewer rating points are not told.  [60; 0 with --measured]",
)
@click.option("--seed", metavar="N", type=whole_type(0), default=0, show_default=True, help="Of everything.")
@click.option("--namer", metavar="MODEL@URL", help="An LLM that names the clusters; its key is in P2L_NAMER_KEY.")
@click.option("--output", metavar="FILE", help="Draw the map of clusters and LLMs: a .png, .pdf or .svg file.")
@JSON
def strengths(
    file: str,
    model: str | None,
    column: str | None,
    measured: bool,
    llms: list[str] | None,
    not_llms: list[str] | None,
    llm: str | None,
    versus: str | None,
    output: str | None,
    as_json: bool,
    namer: str | None,
    **options: Any,
) -> None:
    """Find clusters of the prompts in FILE, and the LLMs that stand above or below their overall rating in each.

    FILE is as in `p2l aggregate`, with 40 prompts or more. Clusters are of prompts that say alike; what is told of an
    LLM is beyond what chance brings anywhere in the search, and beyond the model's own error if it knows that (95 %).
    With --measured, FILE is as in `p2l train --votes`, the model only says which prompts are alike, and what is told
    shows again in a check on an eighth as many prompts (95 %).
    """
    from p2l_sdk import analysis
    from p2l_sdk.cli.common import given
    from p2l_sdk.errors import P2LError

    if versus is not None and llm is None:
        raise P2LError("--versus NAME needs --llm NAME, the LLM to compare with it")
    if (llms or not_llms) and not measured:
        raise P2LError("--llms and --not-llms say which columns are scores; without --measured, no scores are read")
    if output is not None:
        from p2l_sdk.pictures import check_picture

        check_picture(output)
    p2l = load(model)
    prompts = _votes(file, column, llms, not_llms) if measured else prompts_of(file, column)
    if versus is not None:
        from p2l_sdk.names import find_model

        versus = find_model(versus, getattr(prompts, "models", p2l.models), "--versus")
    named = None if namer is None else analysis.LLMNamer.of(namer)
    with telling(as_json) as progress:
        found = analysis.strengths(p2l, prompts, llm, namer=named, progress=progress, **given(**options))
    if output is not None:
        from p2l_sdk import pictures

        pictures.save(found.plot().figure, output)
    if as_json:
        print_json(found.to_dict())
        return
    _print(found, llm, versus)


def _votes(file: str, column: str | None, llms: list[str] | None, not_llms: list[str] | None) -> Votes:
    """The votes or scores of a file."""
    from p2l_sdk.cli.common import say_findings
    from p2l_sdk.votes.votes import Votes

    votes = Votes.read(file, llms, not_llms=not_llms or (), columns={"prompt": column} if column else None)
    say_findings(votes.findings)
    return votes


def _print(found: Strengths, llm: str | None, versus: str | None) -> None:
    from p2l_sdk.cli.analysis_tables import print_comparison, print_report, print_strengths

    if llm is None:
        print_strengths(found)
    elif versus is None:
        print_report(found, llm)
    else:
        print_comparison(found, llm, versus)
