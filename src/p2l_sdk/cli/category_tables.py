"""What `p2l aggregate --by` and `p2l analyze categories` print."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2l_sdk.analysis import Categories, Choices, Differences
from p2l_sdk.analysis.choices import budget_text
from p2l_sdk.cli.analysis_tables import table_of
from p2l_sdk.cli.terminal import Console, Text, print_whole

_SCALE = "rating: 400 points are odds of 10 to 1"
_DIFFERENCE = (
    "rating points relative to the mean LLM, told if their 95 % interval does not hold 0 (each by itself: of 20 told "
    "about nothing, one would be)"
)


def print_best(found: Categories) -> None:
    """Print the two best LLMs of each category."""
    console = Console()
    console.print(Text(found.caption, style="bold"))
    table = table_of(
        "", ("category", "text"), ("prompts", "number"), ("best LLM", "wide"), ("rating", "number"),
        ("second", "wide"), ("rating", "number"),
    )  # fmt: skip
    for name, board in found.boards.items():
        first, second = found.best(name)
        table.add_row(
            Text(name), f"{board.n_prompts:,}", Text(first["model"]), f"{first['rating']:.0f}",
            Text(second["model"]), f"{second['rating']:.0f}",
        )  # fmt: skip
    console.print(table)
    console.print(Text(f"{_SCALE}; --models NAME shows an LLM in each category, --top K the best K", style="dim"))


def print_llms(found: Categories, llms: Sequence[str]) -> None:
    """Print the ratings of some LLMs in each category; of one LLM, with limits."""
    console = Console()
    if len(llms) == 1:
        print_llm(found, found.differences, llms[0])
        return
    console.print(Text(found.caption, style="bold"))
    table = table_of("", ("category", "text"), ("prompts", "number"), *((name, "score") for name in llms))
    columns = [found.models.index(name) for name in llms]
    for name, board in {**found.boards, "all": found.overall}.items():
        ratings = board.ratings[columns]
        best = int(ratings.argmax())
        cells = [Text(f"{rating:.0f}", style="bold" if j == best else "") for j, rating in enumerate(ratings)]
        table.add_row(Text(name), f"{board.n_prompts:,}", *cells)
    console.print(table)
    console.print(Text(f"{_SCALE}; bold: the best of these", style="dim"))


def print_llm(found: Categories, differences: Differences, llm: str) -> None:
    """Print one LLM in each category: rating, rank, and how far it stands from its strength elsewhere."""
    console = Console()
    column = found.models.index(llm)
    console.print(Text(f"{llm} by category, and its difference to {differences.against}", style="bold"))
    table = table_of(
        "", ("category", "text"), ("prompts", "number"),
        ("rank", "number"), ("rating", "number"), ("95 %", "number"), ("difference", "number"), ("95 %", "number"),
    )  # fmt: skip
    for k, (name, n) in enumerate(differences.categories):
        board = found.boards[name]
        limits = None if board.rating_intervals is None else board.rating_intervals[column]
        value, margin = differences.values[k, column], differences.margins[k, column]
        known = np.isfinite(margin)
        table.add_row(
            Text(name), f"{n:,}", str(board.ranks[column]), f"{board.ratings[column]:.0f}",
            "?" if limits is None else f"{limits[0]:.0f} to {limits[1]:.0f}",
            Text(f"{value:+.0f}", style="bold" if differences.clear[k, column] else ""),
            f"{value - margin:+.0f} to {value + margin:+.0f}" if known else "?",
        )  # fmt: skip
    console.print(table)
    note = f"{_SCALE}; difference: {_DIFFERENCE.partition(', told')[0]}, bold if its 95 % interval does not hold 0"
    console.print(Text(note, style="dim"))


def print_differences(found: Differences) -> None:
    """Print the LLMs that are clearly better or worse in each category."""
    console = Console()
    console.print(Text(found.caption, style="bold"))  # the table may be narrow
    table = table_of("", ("prompts", "number"), ("category", "text"), ("better", "text"), ("worse", "text"))
    for k, (name, n) in enumerate(found.categories):
        better, worse = found.told(k)
        table.add_row(f"{n:,}", Text(name), Text(", ".join(better)), Text(", ".join(worse)))
    print_whole(console, table, "category")
    if not found.clear.any():
        console.print(Text("no clear difference in any category: there is none, or the prompts are too few to tell"))
    console.print(Text(_DIFFERENCE, style="dim"))


def print_choices(found: Choices) -> None:
    """Print how often a router calls each LLM in each category."""
    console = Console()
    console.print(Text(found.caption, style="bold"))
    for b, budget in enumerate(found.budgets):
        console.print(Text(budget_text(budget), style="bold"))
        table = table_of("", ("prompts", "number"), ("category", "text"), ("$ per 1k", "number"), ("called", "text"))
        for k, name in enumerate(found.categories):
            cost = found.costs[b, k]
            spent = f"{1000 * cost:.2f}" if np.isfinite(cost) else "?"
            table.add_row(f"{found.sizes[k]:,}", Text(name), spent, Text(found.told(b, k)))
        print_whole(console, table, "category")
