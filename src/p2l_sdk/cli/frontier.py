"""`p2l frontier`: what each budget buys on a set of prompts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2l_sdk.cli.common import (
    COSTS,
    JSON,
    MODELS,
    MODELS_TO_COMPARE,
    OBJECTIVE,
    OPPONENTS,
    PROMPT_COLUMN,
    given,
    load,
    print_json,
    say,
    say_findings,
    say_matched,
    whole_type,
)
from p2l_sdk.modeling.number_p2l import to_number

if TYPE_CHECKING:
    import numpy as np

    from p2l_sdk.cli.terminal import Console
    from p2l_sdk.modeling.prompt_p2l import Prompt
    from p2l_sdk.p2l import P2L
    from p2l_sdk.routing.frontier import Frontier
    from p2l_sdk.routing.router import Router
    from p2l_sdk.votes.scores import Scores

_ROWS = 8  # budgets of a table, unless they are given
_POINTS = 40  # of a picture
_FEW = 3  # budgets of a table by category


def _budgets(context: click.Context, option: click.Parameter, value: str | None) -> list[float] | None:
    """Parse comma-separated amounts of USD."""
    budgets = None if value is None else sorted(to_number(part) for part in value.split(","))
    if any(map(math.isnan, budgets or ())):
        raise click.BadParameter(f"{value!r} is no list of USD per response such as 0.0002,0.001")
    return budgets


@click.command(short_help="What each budget buys, on the prompts of a file.")
@click.argument("file")
@MODELS_TO_COMPARE
@COSTS
@MODELS
@OPPONENTS
@OBJECTIVE
@PROMPT_COLUMN
@click.option(
    "--scores", is_flag=True, help="Measure on the scores in FILE: a column for each LLM, as in p2l evaluate."
)
@click.option("--by", metavar="COLUMN", help="Also for each category of prompts, as the column tells it.")
@click.option(
    "--budgets",
    metavar="USD,...",
    callback=_budgets,
    help="Mean USD per response.  [8, from the cheapest LLM to the dearest]",
)
@click.option("--seed", metavar="N", type=whole_type(0), default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--output", metavar="FILE", help="Draw the frontier: a .png, .pdf or .svg file.")
@JSON
def frontier(
    file: str,
    model: tuple[str, ...],
    column: str | None,
    scores: bool,
    by: str | None,
    budgets: list[float] | None,
    seed: int,
    output: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show what each budget buys on the prompts in FILE, with the router and with the best single LLM.

    FILE is as in `p2l aggregate`. LLMs without a cost are left out, unless --models names them. Scores are what the
    model expects: the mean chance to be preferred to an opponent's answer, or that the answer is usable; with --scores
    they are those in FILE. With --model given twice, the two models are compared on them.
    """
    if len(model) > 2:
        raise click.UsageError(f"--model is given {len(model)} times; two models can be compared")
    if len(model) == 2 and by is not None:
        raise click.UsageError("--by: of one model; give --model once")
    if len(model) == 2 and not scores:
        raise click.UsageError("two models compare on true scores (what each expects of itself does not); add --scores")
    if output is not None:
        from p2l_sdk.pictures import check_picture

        check_picture(output)
    loaded = [load(name) for name in model or (None,)]
    p2l = loaded[0]
    asked, left_out = _candidates(loaded, options["models"])
    outcomes: Scores | None = None
    if scores:
        prompts, outcomes, asked, labels = _measured(file, column, by, p2l, asked)
    else:
        prompts, labels = _prompts(file, column, by)
    options["models"] = asked
    routers = [p2l.router(**given(**options))]
    for other in loaded[1:]:  # at the same prices
        prices = {name: cost for name, cost in p2l.costs.items() if name in other.models}
        routers.append(other.router(costs=prices, **given(**options)))
    say_matched(routers[0].matched)
    coefs = [other.coefficients(prompts).coefs for other in loaded]

    from p2l_sdk.routing.route import idle_budget
    from p2l_sdk.routing.sweep import spread_budgets

    def sweep(n: int) -> list[Frontier]:
        at = spread_budgets(routers[0].prices, n).tolist() if budgets is None else budgets
        pairs = zip(routers, coefs, strict=True)
        return [router.frontier(rows, at, outcomes, prompts=prompts, seed=seed) for router, rows in pairs]

    if by is not None:
        rows = _rows_by(labels)
        _show_by(routers[0], coefs[0], outcomes, rows, budgets, seed, output, as_json)
        return
    found = sweep(_ROWS)
    if budgets and (said := idle_budget(budgets[0], float(routers[0].prices.max()))):
        say(f"p2l: warning: {said}", err=True)
    if left_out:
        say(f"p2l: {left_out} LLMs without a cost are left out (p2l costs lists them)", err=True)
    if output is not None:
        _draw(sweep(_POINTS), model, output)
    if as_json:
        more = {"other": found[1].to_dict()} if len(found) == 2 else {}
        print_json({**found[0].to_dict(), **more, "matched": routers[0].matched})
    else:
        _print(found, len(p2l.models), model)


def _candidates(loaded: list[P2L], models: list[str] | None) -> tuple[list[str] | None, int]:
    """The LLMs that may be chosen, and how many have no cost and are left out; None for all."""
    from p2l_sdk.errors import CostError

    first, *others = loaded
    if models is not None:
        return models, 0
    if not first.costs:
        raise CostError("no cost is known for any LLM of this model; give --costs FILE (see p2l costs)")
    common = [name for name in first.models if all(name in other.models for other in others)]
    priced = [name for name in common if name in first.costs]
    return (None if len(priced) == len(first.models) else priced), len(common) - len(priced)


def _prompts(file: str, column: str | None, by: str | None) -> tuple[list[Prompt], list[Any]]:
    """The prompts of a file, and with `by` their categories."""
    from p2l_sdk.votes.prompts import read_labelled_prompts, read_prompts

    if by is None:
        return list(read_prompts(file, column)), []
    pairs = list(read_labelled_prompts(file, by, column))
    return [prompt for prompt, _ in pairs], [label for _, label in pairs]


def _measured(
    file: str, column: str | None, by: str | None, p2l: P2L, asked: list[str] | None
) -> tuple[list[Prompt], Scores, list[str], list[Any]]:
    """The prompts of a file of scores, the scores, the LLMs that have some, and with `by` the categories."""
    import numpy as np

    from p2l_sdk.errors import ScoresError
    from p2l_sdk.names import find_models
    from p2l_sdk.votes.scores import Scores

    models = p2l.models
    columns = None if column is None else {"prompt": column}
    read = Scores.read(file, among=models, allow_missing=True, columns=columns)
    say_findings(read.findings)
    wanted = list(models) if asked is None else list(find_models(asked, models, "--models").values())
    there = [name for name in wanted if name in read.models]
    if not there:
        raise ScoresError(
            f"{file!r} has no column of scores of an LLM that may be chosen: {', '.join(wanted[:5])}, ..."
        )
    if len(there) < len(wanted):
        say(f"p2l: {len(wanted) - len(there)} LLMs without scores in the file are left out", err=True)
    values = read.scores[:, [read.models.index(name) for name in there]]
    known = np.isfinite(values).all(1)
    if not known.all():
        n = len(known) - int(known.sum())
        say(f"p2l: {n:,} of {len(known):,} prompts are left out: a score is missing", err=True)
    if not known.any():
        raise ScoresError("no prompt has the scores of all LLMs that may be chosen; name fewer with --models")
    prompts = [prompt for prompt, keep in zip(read.prompts, known, strict=True) if keep]
    return prompts, Scores(prompts, tuple(there), values[known]), there, _labels(read, by)[known].tolist()


def _labels(read: Scores, by: str | None) -> np.ndarray:
    """The column of categories in a table of scores."""
    import numpy as np

    from p2l_sdk.errors import ScoresError, did_you_mean

    if by is None:
        return np.zeros(len(read.prompts))
    near = [name for name in read.categories if name == by] or [
        name for name in read.categories if name.casefold() == by.casefold()
    ]
    if len(near) != 1:
        raise ScoresError(f"there is no column of categories {by!r}; {did_you_mean(by, read.categories)}")
    return np.asarray(read.categories[near[0]])


def _rows_by(labels: list[Any]) -> dict[str, list[int]]:
    """The places of the prompts of each category, the largest first; those without one are in none."""
    from p2l_sdk.analysis.categories import MOST, label_of
    from p2l_sdk.errors import P2LError

    rows: dict[str, list[int]] = {}
    for i, label in enumerate(labels):
        if (name := label_of(label)) is not None:
            rows.setdefault(name, []).append(i)
    if len(rows) < 2:
        found = f"all prompts are of one category, {next(iter(rows))!r}" if rows else "no prompt has a category"
        raise P2LError(f"--by: {found}; it takes a column of 2 to {MOST}")
    if len(rows) > MOST:
        raise P2LError(f"--by: there are {len(rows):,} categories; it takes a column of 2 to {MOST}")
    return dict(sorted(rows.items(), key=lambda pair: -len(pair[1])))


def _show_by(
    router: Router,
    coefs: np.ndarray,
    outcomes: Scores | None,
    rows: dict[str, list[int]],
    budgets: list[float] | None,
    seed: int,
    output: str | None,
    as_json: bool,
) -> None:
    """The frontier of each category."""
    from p2l_sdk.routing.frontier import draw_panels
    from p2l_sdk.routing.sweep import spread_budgets

    def sweep(n: int) -> dict[str, Frontier]:
        at = spread_budgets(router.prices, n).tolist() if budgets is None else budgets
        found = {}
        for name, places in rows.items():
            truth = None
            if outcomes is not None:
                prompts = [outcomes.prompts[i] for i in places]
                truth = replace(outcomes, prompts=prompts, scores=outcomes.scores[places])
            found[name] = router.frontier(coefs[places], at, truth, seed=seed)
        return found

    found = sweep(_FEW)
    if output is not None:
        from p2l_sdk import pictures

        pictures.save(draw_panels(sweep(_POINTS)), output)
    if as_json:
        print_json({"categories": {name: frontier.to_dict() for name, frontier in found.items()}})
        return
    _print_by(found)


def _draw(found: list[Frontier], model: tuple[str, ...], output: str) -> None:
    from p2l_sdk import pictures

    names = [Path(name).name for name in model]
    if len(found) == 2 and names[0] == names[1]:
        names = list(model)
    first = found[0]
    ax = first.plot(others={names[1]: found[1]}, name=names[0]) if len(found) == 2 else first.plot()
    pictures.save(ax.figure, output)


def _print(found: list[Frontier], n_models: int, model: tuple[str, ...]) -> None:
    from rich.table import Table

    from p2l_sdk.cli.terminal import Console, Text, print_table
    from p2l_sdk.routing.frontier import budget_text

    console, first = Console(), found[0]
    prompts = f"{first.n_prompts:,} prompt{'' if first.n_prompts == 1 else 's'}"
    console.print(Text(f"What a budget buys: {len(first.models)} of {n_models} LLMs on {prompts}", style="bold"))
    table = Table(box=None, pad_edge=False)
    columns = ["budget", "$ per 1k"]
    columns += ["spent", "router"] if len(found) == 1 else ["first", "second"]
    columns += ["95 %"] if first.limits and len(found) == 1 else []
    columns += ["per prompt", "strict"] if len(found) == 1 else []
    columns += ["oracle"] if first.oracle_scores is not None else []
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("best single LLM", overflow="fold")
    table.add_column("alone", justify="right", no_wrap=True)
    second = found[1].rows() if len(found) == 2 else [None] * len(first.budgets)
    for row, other in zip(first.rows(), second, strict=True):
        cells = [budget_text(row["budget"]), f"{1000 * row['budget']:.4g}"]
        if other is not None:
            cells += [f"{row['router']:.1%}", f"{other['router']:.1%}"]
        else:
            cells += [f"{1000 * row['cost']:.4g}", f"{row['router']:.1%}"]
            cells += [f"{100 * row['low']:.0f} to {100 * row['high']:.0f}"] if "low" in row else []
            cells += [f"{row['prompt']:.1%}", f"{row['strict']:.1%}"]
        cells += [f"{row['oracle']:.1%}"] if "oracle" in row else []
        table.add_row(*cells, Text(row["best_single"]), f"{row['single']:.1%}")
    print_table(console, table, ["spent", "strict", "per prompt", "95 %", "oracle", "$ per 1k"])
    if len(found) == 1:
        _print_calls(console, first)
    console.print(Text(_note(first, model), style="dim"))


def _print_calls(console: Console, found: Frontier) -> None:
    """Whom the router calls within each budget."""
    from rich.table import Table

    from p2l_sdk.cli.terminal import Text
    from p2l_sdk.routing.frontier import NAMED, budget_text
    from p2l_sdk.routing.route import mixture_text

    calls = Table(box=None, pad_edge=False)
    calls.add_column("budget", justify="right", no_wrap=True)
    calls.add_column("the router calls", overflow="fold")
    for i, budget in enumerate(found.budgets.tolist()):
        calls.add_row(budget_text(budget), Text(mixture_text(found.calls(i), NAMED)))
    console.print(calls)


def _note(found: Frontier, model: tuple[str, ...]) -> str:
    from p2l_sdk.routing.frontier import BUDGET

    what = "an answer is usable" if found.objective == "usable" else "an answer is preferred to an opponent's"
    score = "mean score in the file" if found.measured else f"chance that {what}"
    if len(model) == 2:
        routers = f"first, second: {score} with {model[0]} and with {model[1]}, one mean budget for all prompts"
    else:
        routers = f"router: {score}, with one mean budget for all prompts" + (
            "; per prompt: the same budget for each; strict: no LLM dearer than it"
        )
    oracle = "; oracle: if the scores were known" if found.oracle_scores is not None else ""
    limits = "; 95 %: over prompts" if found.limits and len(model) < 2 else ""
    spent = "" if len(model) == 2 else "; spent: of it, USD per 1,000 responses"
    return f"budget: {BUDGET}; $ per 1k: the same for 1,000 responses{spent}; {routers}{oracle}{limits}"


def _print_by(found: dict[str, Frontier]) -> None:
    from rich.table import Table

    from p2l_sdk.cli.terminal import Console, Text, print_table
    from p2l_sdk.routing.frontier import BUDGET, budget_text

    console, first = Console(), next(iter(found.values()))
    console.print(Text(f"What a budget buys by category: {len(first.models)} LLMs, {first.what}", style="bold"))
    table = Table(box=None, pad_edge=False)
    table.add_column("category", overflow="fold")
    table.add_column("prompts", justify="right", no_wrap=True)
    for budget in first.budgets.tolist():
        table.add_column(budget_text(budget), justify="right", no_wrap=True)
    for title in (["oracle"] if first.oracle_scores is not None else []) + ["alone"]:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("best single LLM", overflow="fold")
    for name, frontier in found.items():
        rows = frontier.rows()
        oracle = [f"{rows[-1]['oracle']:.1%}"] if frontier.oracle_scores is not None else []
        cells = [*(f"{row['router']:.1%}" for row in rows), *oracle, f"{rows[-1]['single']:.1%}"]
        table.add_row(Text(name), f"{frontier.n_prompts:,}", *cells, Text(rows[-1]["best_single"]))
    print_table(console, table, ["prompts", "best single LLM", "oracle"])
    note = f"$: the router with this budget for the category, {BUDGET}; oracle, alone: with the last one"
    console.print(Text(note, style="dim"))
