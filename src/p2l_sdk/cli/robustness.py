"""`p2l evaluate --robustness`: does the model stay put when a prompt changes and its question does not?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from p2l_sdk.cli.common import load, number_type, print_json, prompts_beside, reading
from p2l_sdk.cli.terminal import Console, Text

if TYPE_CHECKING:
    from p2l_sdk.evaluation import Robustness, Stability
    from p2l_sdk.modeling.prompt_p2l import Prompt


def robustness_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of this measurement."""
    for option in (
        click.option(
            "--budget", metavar="USD", type=number_type(), help="With --robustness: also the route within a budget."
        ),
        click.option("--prompts", metavar="FILE", help="With --robustness: more prompts, as in `p2l aggregate`."),
        click.option(
            "--robustness",
            is_flag=True,
            help="Only this: how often the best LLM stays under changes that do not change the question.",
        ),
    ):
        command = option(command)
    return command


def measure_robustness(
    model: str | None,
    asked: bool,
    votes: str | None,
    scores: str | None,
    prompts: str | None,
    budget: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Measure and print it, on the prompts of all these files, each once."""
    if not asked:
        name = "prompts" if prompts is not None else "budget"
        raise click.UsageError(f"--{name} belongs to --robustness; give both")
    if not (votes or scores or prompts):
        raise click.UsageError("--robustness needs prompts; give --votes, --scores or --prompts FILE")
    from p2l_sdk import evaluation
    from p2l_sdk.modeling.prompt_p2l import user_turns
    from p2l_sdk.votes.votes import Scores, Votes

    p2l = load(model)
    ratings = None if scores is None else Scores.read(scores, p2l.models, **reading(scores=True))
    texts: list[Prompt] = [] if ratings is None else list(ratings.prompts)
    texts += [] if votes is None else Votes.read(votes, **reading()).prompts
    texts += [] if prompts is None else list(prompts_beside(prompts, shared=bool(votes or scores)))
    distinct = list({tuple(user_turns(prompt)): prompt for prompt in texts}.values())
    found = evaluation.robustness(p2l, distinct, budget=budget, scores=ratings, seed=seed)
    if as_json:
        print_json({"model": model or "embedded default", **found.to_dict()})
    else:
        print_robustness(found, model or "embedded default")


def print_robustness(found: Robustness, model: str) -> None:
    """Print one row for each kind of change, and below what makes sense of them."""
    from p2l_sdk.routing.route import usd

    table = Table(box=None, pad_edge=False)
    table.add_column("change", overflow="fold")
    for heading in ("the best LLM stays", "95 %", *(["the route stays"] if found.overall.route else []), "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, part in (*found.changes.items(), ("all", found.overall)):
        table.add_row(name.replace("_", " "), *_cells(part))
    console = Console()
    console.print(Text(f"{model} on {found.n_prompts:,} prompts and their changed copies", style="bold"))
    console.print(table)
    lines = [f"{len(found.best_llms)} different best LLMs; were they shuffled, {found.by_chance:.3f} would stay"]
    if found.routing:
        routed, single = found.routing["routed_score"], found.routing["best_single_score"]
        lines.append(
            f"routed score {routed.value:.4f} (s.e. {_number(routed.standard_error)}), best single LLM "
            f"{single.value:.4f}"
        )
    if found.budget is not None:
        lines.append(f"the route: within {usd(found.budget)} per response, the chance that the same LLM is called")
    for line in (*lines, *found.notes):
        console.print(Text(line, style="dim"))


def _cells(part: Stability) -> list[str]:
    best, route = part.best, part.route
    half = None if best.standard_error is None else 1.96 * best.standard_error
    cells = [f"{best.value:.3f}", "-" if half is None else f"± {half:.3f}"]
    return [*cells, *([] if route is None else [f"{route.value:.3f}"]), f"{best.n:,}"]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
