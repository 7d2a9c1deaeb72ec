"""What a response of each of the Arena's LLMs costs: 500 tokens in, 500 out, in USD.

    python examples/arena/costs.py --data ../shared/data --output costs.json [--report]

Two sources: the list prices of the Arena's catalog (entered by hand on various dates; only those per million tokens),
and genai-prices, for LLMs that the catalog has no price of. Nothing is guessed: an LLM in neither has no cost. Where
both have one and they differ, the catalog's is used, because the package's often turn out to be those of another
provider or region; the exceptions are listed in `PACKAGE_WINS`. LLMs that nobody sells any more keep their last price.

LLMs that reason before they answer cost more than this: they write far more than 500 tokens.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from p2l_sdk.routing.costs import response_cost
from p2l_sdk.routing.prices import PriceMatch, match_prices

TOKENS = 500
PACKAGE_WINS = {
    "amazon-nova-micro-v1.0": "the catalog's price is rounded",
    "o3-2025-04-16": "the price fell in June 2025; the catalog has the old one",
}
NOT_THE_SAME = {
    "command-r": "the Arena's is the first of March 2024; the package's price is that of August 2024",
    "command-r-plus": "the Arena's is the first of April 2024; the package's price is that of August 2024",
    "gemini-pro": "the package's price was one per million characters",
    "mistral-medium": "the Arena's is the first of 2023; today's of that name is mistral-medium-3-1",
}
"""LLMs with an undated name that the package uses for another one, or prices in another unit."""

Prices = tuple[float, float]
"""USD per million input and output tokens."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What was found.

    Attributes:
        costs: USD per response, by LLM.
        sources: where each of these costs is from: "catalog", or the match in genai-prices.
        differing: LLMs for which both have a price, and not the same: (the catalog's, the package's match).
        missing: LLMs without a cost, and why.
    """

    costs: dict[str, float]
    sources: dict[str, str]
    differing: dict[str, tuple[Prices, PriceMatch]]
    missing: dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the sources")
    parser.add_argument("--output", type=Path, help="where to write {LLM: USD per response} (.json)")
    parser.add_argument("--report", action="store_true", help="print what was matched, and what was not")
    arguments = parser.parse_args()
    found = read(arguments.data)
    if arguments.output:
        arguments.output.write_text(json.dumps(found.costs, indent=1) + "\n", encoding="utf-8")
    if arguments.report:
        print(report(found))
    from_catalog = sum(source == "catalog" for source in found.sources.values())
    print(
        f"{len(found.costs)} of {len(found.costs) + len(found.missing)} LLMs have a cost: {from_catalog} from the "
        f"catalog, {len(found.costs) - from_catalog} from genai-prices"
    )


def read(data: Path) -> Costs:
    """The costs of all LLMs of the leaderboard."""
    folder = data / "arena_leaderboard"
    models = sorted(set(pq.read_table(folder / "leaderboard.parquet", columns=["model"])["model"].to_pylist()))
    catalog = _catalog(folder / "prices.parquet")
    matches = match_prices(models, input_tokens=TOKENS)
    costs, sources, missing = {}, {}, {}
    differing = {}
    for name in models:
        match, listed = matches[name], catalog.get(name)
        packaged = None if match.price is None else (match.price.input_price, match.price.output_price)
        if name in NOT_THE_SAME:
            packaged = None
        if listed and packaged and listed != packaged:
            differing[name] = listed, match
        prices = packaged if name in PACKAGE_WINS and packaged else listed or packaged
        if prices is None:
            missing[name] = NOT_THE_SAME.get(name, str(match.how))
            continue
        costs[name] = round(response_cost(*prices, TOKENS, TOKENS), 9)
        sources[name] = "catalog" if prices == listed else f"{match.price}, {match.how}"
    return Costs(costs=costs, sources=sources, differing=differing, missing=missing)


def report(found: Costs) -> str:
    """What was matched, as text."""
    lines = ["From genai-prices (USD per million tokens, input / output):"]
    lines += [f"  {name:40} {source}" for name, source in found.sources.items() if source != "catalog"]
    lines += ["", "Two prices:"]
    for name, ((price_in, price_out), match) in found.differing.items():
        used = f"genai-prices ({PACKAGE_WINS[name]})" if name in PACKAGE_WINS else "catalog"
        lines.append(f"  {name:40} catalog ({price_in:g} / {price_out:g}), {match.price}; used: {used}")
    lines += ["", "No cost:", *(f"  {name:40} {why}" for name, why in found.missing.items())]
    return "\n".join([*lines, ""])


def _catalog(path: Path) -> dict[str, Prices]:
    rows = pq.read_table(path, columns=["model", "input_price", "output_price", "price_unit"]).to_pylist()
    return {
        row["model"]: (row["input_price"], row["output_price"])
        for row in rows
        if row["price_unit"] == "USD per 1M tokens"
        and all(row[key] is not None and math.isfinite(row[key]) for key in ("input_price", "output_price"))
    }


if __name__ == "__main__":
    main()
