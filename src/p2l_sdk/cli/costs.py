"""`p2l costs`: the cost of a response of each LLM, and its source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from p2l_sdk.cli.common import JSON, MODEL, load, number_type, print_json

if TYPE_CHECKING:
    from p2l_sdk.cli.terminal import Text
    from p2l_sdk.routing.costs import Costs
    from p2l_sdk.routing.prices import PriceMatch


@click.command(short_help="What a response of each LLM costs, and its source.")
@MODEL
@click.option("--costs", "source", metavar="SOURCE", help="As in `p2l route`.  [what is stored with the model]")
@click.option(
    "--input-tokens",
    metavar="N",
    type=number_type(),
    default=500,
    show_default=True,
    help="Tokens of a prompt, for token prices.",
)
@click.option(
    "--output-tokens",
    metavar="N",
    type=number_type(),
    default=500,
    show_default=True,
    help="Tokens of an answer, likewise.",
)
@click.option("--output", metavar="FILE", help="Write the costs that are known to a .json file, for --costs.")
@JSON
def costs(
    model: str | None, source: str | None, input_tokens: float, output_tokens: float, output: str | None, as_json: bool
) -> None:
    """Show the cost of each LLM in USD per 1,000 responses, its source, and which costs are unknown.

    \b
    SOURCE is a file of costs or token prices (.json, .yaml, or a table: .csv, .xlsx, ...), or the genai-prices package:
      p2l costs --costs genai-prices
      p2l costs --costs genai-prices:together,openrouter
    """
    from p2l_sdk.outputs.files import require_file, write_file
    from p2l_sdk.routing.costs import load_costs

    if output is not None:
        require_file(output)
    p2l = load(model)
    tokens = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    found = p2l.costs if source is None else load_costs(source, p2l.models, **tokens)
    if output is not None:
        write_file(output, json.dumps(dict(found), indent=1) + "\n")
    if as_json:
        print_json({"source": found.source, **tokens, "costs": dict(found), "llms": found.rows()})
    else:
        _print(found)


def _print(found: Costs) -> None:
    from rich.table import Table

    from p2l_sdk.cli.terminal import Console, Text

    console = Console()
    table = Table(box=None, pad_edge=False)
    whole = max(map(len, found.models)) <= console.width // 2  # fold the matches rather than the names
    table.add_column("LLM", overflow="fold", no_wrap=whole)
    table.add_column("$ per 1k", justify="right", no_wrap=True)
    if found.matches:
        for label in ("in", "out"):
            table.add_column(label, justify="right", no_wrap=True)
        table.add_column("matched", overflow="fold")
    for name in found.models:
        cost = f"{1000 * found[name]:.4g}" if name in found else "?"
        table.add_row(Text(name), cost, *(_matched(found.matches[name]) if found.matches else []))
    console.print(Text(f"Costs of {len(found)} of {len(found.models)} LLMs: {found.source}", style="bold"))
    console.print(table)
    for note in _notes(found):
        console.print(Text(note, style="dim"))


def _matched(match: PriceMatch) -> list[Text]:
    """Cells: input price, output price, and the matched provider and name, or why there is no match."""
    from p2l_sdk.cli.terminal import Text

    price = match.price
    if price is not None:
        name = "" if price.model == match.name else f": {price.model}"
        return [Text(f"{price.input_price:g}"), Text(f"{price.output_price:g}"), Text(f"{price.provider}{name}")]
    shown = "; ".join(str(price) for price in match.candidates[:3])
    more = f"; {len(match.candidates) - 3} more" if len(match.candidates) > 3 else ""
    return [Text(""), Text(""), Text(f"{match.how}{': ' if shown else ''}{shown}{more}")]


def _notes(found: Costs) -> Iterator[str]:
    if found.matches:
        yield "in, out, and in brackets: USD per million tokens; --json says how each name was matched"
    if found.missing:
        remedy = "give its cost in a file (--costs FILE)"
        if found.matches:
            remedy = f"name a provider (--costs genai-prices:together) or {remedy}"
        yield f"?: not known, so a budget is refused while it may be chosen; {remedy}"
