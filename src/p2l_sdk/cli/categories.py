"""`p2l aggregate --by` and `p2l analyze categories`: leaderboards by category of prompts."""

from __future__ import annotations

import itertools
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
    counting,
    given,
    load,
    number_type,
    print_json,
    say,
    say_matched,
    whole_type,
)
from p2l_sdk.cli.repeats import Repeats

if TYPE_CHECKING:
    from p2l_sdk.analysis import Categories
    from p2l_sdk.p2l import P2L


def read_categories(p2l: P2L, file: str, by: str, column: str | None, seed: int, quiet: bool) -> Categories:
    """The leaderboards by category of a file's prompts."""
    from p2l_sdk.analysis import by_category
    from p2l_sdk.votes.prompts import read_labelled_prompts

    rows, labelled = itertools.tee(read_labelled_prompts(file, by, column))  # read together, a batch at a time
    repeats = Repeats()
    with counting(quiet) as progress:
        prompts = repeats.watched(prompt for prompt, _ in rows)
        found = by_category(p2l, prompts, (label for _, label in labelled), seed=seed, progress=progress)
    repeats.say(found.n_prompts)
    if found.left_out:
        some = f"{found.left_out:,} of {found.left_out + found.n_prompts:,} prompts"
        say(f"p2l: left out: {some}, without a category (an empty cell in {by})", err=True)
    return found


def aggregate_by(
    p2l: P2L,
    file: str,
    by: str,
    column: str | None,
    seed: int,
    output: str | None,
    as_json: bool,
    *,
    models: list[str] | None,
    opponents: dict[str, float] | None,
    top: int | None,
    everything: bool,
    kinds: bool,
) -> None:
    """`p2l aggregate FILE --by COLUMN`."""
    from p2l_sdk.names import find_models, matched

    if opponents is not None or kinds:
        raise click.UsageError(f"{'--opponents' if opponents is not None else '--kinds'}: not with --by")
    if models is not None:
        read = find_models(models, p2l.models, "--models")
        say_matched(matched(read))
        models = list(dict.fromkeys(read.values()))
    found = read_categories(p2l, file, by, column, seed, as_json)
    llms = None
    if models is not None or top is not None or everything:
        llms = found.overall.ranking if models is None else [m for m in found.overall.ranking if m in models]
        llms = llms[:top]
    if output is not None:
        from p2l_sdk import pictures

        pictures.save((found.plot() if llms is None else found.plot(llms=llms)).figure, output)
    if as_json:
        print_json({"by": by, **found.to_dict(), "costs": dict(p2l.costs)})
        return
    from p2l_sdk.cli import category_tables

    if llms is None:
        category_tables.print_best(found)
    else:
        category_tables.print_llms(found, llms)


@click.command(short_help="Who is better in which category; whom a router calls.")
@click.argument("file")
@MODEL
@COSTS
@PROMPT_COLUMN
@click.option("--by", metavar="COLUMN", required=True, help="The column of categories.")
@click.option("--llm", metavar="NAME", help="This LLM alone, in each category.")
@click.option("--versus", metavar="CATEGORY,CATEGORY", help="Compare these two categories, not each with all others.")
@click.option(
    "--cost", "budgets", metavar="USD", type=number_type(), multiple=True,
    help="Show whom a router calls under this budget, USD per response; may be given several times.",
)  # fmt: skip
@click.option("--best", is_flag=True, help="Show whom a router calls if money is no object.")
@click.option("--policy", metavar="NAME", help="Of the router: optimal (one mean budget) or strict.  [optimal]")
@MODELS
@OPPONENTS
@OBJECTIVE
@click.option("--seed", metavar="N", type=whole_type(0), default=0, show_default=True, help="Of everything.")
@click.option("--output", metavar="FILE", help="Draw what is shown: a .png, .pdf or .svg file.")
@JSON
def categories(
    file: str,
    model: str | None,
    column: str | None,
    by: str,
    llm: str | None,
    versus: str | None,
    budgets: tuple[float, ...],
    best: bool,
    seed: int,
    output: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show by how much LLMs are better or worse in a category of the prompts in FILE than in the others.

    FILE is a table as in `p2l aggregate`. Differences are rating points relative to the mean LLM, with 95 % intervals.
    With --cost, it shows instead how often a router calls each LLM in each category.
    """
    routed = given(**options)
    if routed and not (budgets or best):
        raise click.UsageError(f"{', '.join(f'--{name}' for name in routed)}: of a router; give --cost USD too")
    if (budgets or best) and (llm or versus):
        raise click.UsageError("--cost and --best are of a router, --llm and --versus of differences; give one kind")
    if output is not None:
        from p2l_sdk.pictures import check_picture

        check_picture(output)
    p2l = load(model)
    if llm is not None:
        from p2l_sdk.names import find_model

        llm = find_model(llm, p2l.models, "--llm")
    router = p2l.router(**routed)
    if budgets:
        router.require_budgets(budgets)
    found = read_categories(p2l, file, by, column, seed, as_json)
    from p2l_sdk.cli import category_tables

    shown: Any
    if budgets or best:
        say_matched(router.matched)
        wanted: list[float | None] = [*budgets, *([None] if best else [])]
        shown = found.choices(router, wanted)
    else:
        shown = found.differences if versus is None else found.between(*_two(versus))
    if output is not None:
        from p2l_sdk import pictures

        drawn = shown.plot()
        pictures.save(getattr(drawn, "figure", None) or drawn, output)
    if as_json:
        print_json({"by": by, "left_out": found.left_out, **shown.to_dict()})
    elif budgets or best:
        category_tables.print_choices(shown)
    elif llm is not None:
        category_tables.print_llm(found, shown, llm)
    else:
        category_tables.print_differences(shown)


def _two(versus: str) -> tuple[str, str]:
    names = [name.strip() for name in versus.split(",")]
    if len(names) != 2:
        raise click.UsageError(f"--versus {versus!r} names {len(names)} categories; it takes two: CATEGORY,CATEGORY")
    return names[0], names[1]
