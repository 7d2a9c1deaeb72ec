"""`p2l frontier`: what each budget buys on a set of prompts."""

from __future__ import annotations

import math
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
    load,
    print_json,
    say_matched,
)
from p2l_sdk.modeling.number_p2l import to_number

if TYPE_CHECKING:
    from p2l_sdk.p2l import P2L
    from p2l_sdk.routing.frontier import Frontier
    from p2l_sdk.routing.router import Router

_ROWS = 8  # budgets of a table, unless they are given
_POINTS = 40  # of a picture


def _budgets(context: click.Context, option: click.Parameter, value: str | None) -> list[float] | None:
    """Parse comma-separated amounts of USD."""
    budgets = None if value is None else sorted(to_number(part) for part in value.split(","))
    if any(map(math.isnan, budgets or ())):
        raise click.BadParameter(f"{value!r} is no list of USD per response such as 0.0002,0.001")
    return budgets


@click.command(short_help="What each budget buys, on the prompts of a file.")
@click.argument("file")
@MODEL
@COSTS
@MODELS
@OPPONENTS
@OBJECTIVE
@PROMPT_COLUMN
@click.option(
    "--budgets",
    metavar="USD,...",
    callback=_budgets,
    help="Mean USD per response.  [8, from the cheapest LLM to the dearest]",
)
@click.option("--output", metavar="FILE", help="Draw the frontier: a .png, .pdf or .svg file.")
@JSON
def frontier(
    file: str,
    model: str | None,
    column: str | None,
    budgets: list[float] | None,
    output: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show what each budget buys on the prompts in FILE, with the router and with the best single LLM.

    FILE is as in `p2l aggregate`. LLMs without a cost are left out, unless --models names them. Scores are what the
    model expects: the mean chance to be preferred to an opponent's answer, or that the answer is usable.
    """
    from p2l_sdk.errors import CostError
    from p2l_sdk.votes.prompts import read_prompts

    if output is not None:
        from p2l_sdk.pictures import check_picture

        check_picture(output)
    p2l = load(model)
    left_out = len(p2l.costs.missing) if options["models"] is None else 0
    if left_out:
        if not p2l.costs:
            raise CostError("no cost is known for any LLM of this model; give --costs FILE (see p2l costs)")
        options["models"] = list(p2l.costs)
    router = p2l.router(**given(**options))
    say_matched(router.matched)
    coefs = p2l.coefficients(list(read_prompts(file, column))).coefs
    found = router.frontier(coefs, _spread(router, _ROWS) if budgets is None else budgets)
    if left_out:
        click.echo(f"p2l: {left_out} LLMs without a cost are left out (p2l costs lists them)", err=True)
    if output is not None:
        from p2l_sdk import pictures

        drawn = found if budgets is not None else router.frontier(coefs, _spread(router, _POINTS))
        pictures.save(drawn.plot().figure, output)
    if as_json:
        print_json({"n_prompts": len(coefs), **found.to_dict(), "matched": router.matched})
    else:
        _print(found, p2l, router, len(coefs))


def _spread(router: Router, n: int) -> list[float]:
    """Budgets from the cheapest LLM to the dearest, each so many times the one before where that is possible."""
    import numpy as np

    low, high = float(router.prices.min()), float(router.prices.max())
    if low == high:
        return [low]
    inner = np.geomspace(low, high, n) if low > 0 else np.linspace(low, high, n)
    return [low, *inner[1:-1].tolist(), high]


def _print(found: Frontier, p2l: P2L, router: Router, n_prompts: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    prompts = f"{n_prompts:,} prompt{'' if n_prompts == 1 else 's'}"
    console.print(Text(f"What a budget buys: {len(found.models)} of {len(p2l.models)} LLMs on {prompts}", style="bold"))
    table = Table(box=None, pad_edge=False)
    for title in ("budget", "cost", "router", "per prompt"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("best single LLM", overflow="fold")
    table.add_column("alone", justify="right", no_wrap=True)
    for i, budget in enumerate(found.budgets.tolist()):
        affordable = [k for k, cost in enumerate(found.model_costs.tolist()) if cost <= budget]
        best = max(affordable, key=lambda k: float(found.model_scores[k]))
        table.add_row(
            f"{1000 * budget:.4g}",
            f"{1000 * found.router_costs[i]:.4g}",
            f"{found.router_scores[i]:.1%}",
            f"{found.prompt_scores[i]:.1%}",
            Text(found.models[best]),
            f"{found.model_scores[best]:.1%}",
        )
    console.print(table)
    what = "an answer is usable" if found.objective == "usable" else "an answer is preferred to an opponent's"
    console.print(
        Text(
            f"budget, cost: USD per 1,000 responses; router: chance that {what}, with one mean budget for all prompts; "
            "per prompt: the same budget for each",
            style="dim",
        )
    )
