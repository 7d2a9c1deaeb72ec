"""How well Goodness from LiveBench's tables agrees with Chatbot Arena, compared with plain averages and categories.

For each LiveBench table (2024-11-25, 2025-04-02) and each Arena rating (plain, with style control): Pearson, Spearman
and Kendall over the LLMs in both, with 95 % bootstrap intervals over the LLMs, and the difference to the raw overall
average on the same LLMs.

    python benchmarks/mpg_arena.py [--data ../shared/data] [--confident] [--json]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from p2l_sdk.mpg import Results, Tree, correlations, goodness
from p2l_sdk.mpg.correlation import COEFFICIENTS, Correlation

DATES = ("2024-11-25", "2025-04-02")
REFERENCES = {"Arena": "arena_rating", "Arena, style control": "arena_rating_style_control"}


def ratings(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Name -> LLM -> number: the raw average, the variants of Goodness and each category."""
    frame = table.rename(columns={"task": "benchmark"})[["model", "benchmark", "score"]]
    results = Results.read(frame, percent=True)
    tree = Tree.read("livebench").only(results.benchmarks)
    found = {}
    scores = dict(zip(results.benchmarks, 100 * results.means.T, strict=True))

    def plain(node: str) -> np.ndarray:
        """Mean over the children, ignoring those without a result of the LLM."""
        return np.nanmean([plain(child) if child in tree.nodes else scores[child] for child in tree.nodes[node]], 0)

    found["raw overall average"] = dict(zip(results.models, plain(tree.root), strict=True))
    found["Goodness, tree"] = goodness(results, tree, draws=2000).values()
    found["Goodness, tree, plain weights"] = goodness(results, tree, weighting="plain", draws=2000).values()
    found["Goodness, one-factor"] = goodness(results, tree, method="one_factor", draws=2000).values()
    for category in tree.domains:
        found[f"category {category}"] = dict(zip(results.models, plain(category), strict=True))
    return found


def study(data: Path, confident: bool) -> dict[tuple[str, str], list[Correlation]]:
    """(date, reference) -> agreement of every rating."""
    scores = pd.read_parquet(data / "livebench" / "scores.parquet")
    overlap = pd.read_parquet(data / "livebench" / "overlap.parquet")
    if confident:
        overlap = overlap[overlap.confidence != "close"]
    found = {}
    for date in DATES:
        rated = ratings(scores[scores.date == date])
        names = overlap[overlap.date == date].set_index("livebench_model")
        for label, column in REFERENCES.items():
            found[date, label] = correlations(rated, names[column].to_dict())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--confident", action="store_true", help="without pairs of names that are only close")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = study(options.data, options.confident)
    if options.json:
        print(json.dumps({" / ".join(key): [row.to_dict() for row in rows] for key, rows in found.items()}, indent=1))
        return
    for (date, label), rows in found.items():
        print(f"\nLiveBench {date}, {label}, {rows[0].n} LLMs\n")
        print("| | Pearson | Spearman | Kendall | Pearson, difference to raw |\n|---|---|---|---|---|")
        for row in rows:
            cells = [str(row.coefficients[key]) for key in COEFFICIENTS]
            gap = row.differences.get("pearson")
            change = "" if gap is None else f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
            print(f"| {row.name} | {' | '.join(cells)} | {change} |")


if __name__ == "__main__":
    main()
