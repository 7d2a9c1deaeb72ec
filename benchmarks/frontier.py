"""The measured cost-quality frontier of the embedded default on routing9's held-out prompts, as a picture.

python benchmarks/frontier.py --data ../shared/data/routing9 [--write docs/images/frontier.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

from p2l_sdk import P2L
from p2l_sdk.votes import Scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder routing9")
    parser.add_argument("--write", type=Path, help="PNG file")
    arguments = parser.parse_args()
    matplotlib.use("agg")
    p2l = P2L.from_pretrained()
    scores = Scores.read(arguments.data / "scores_val.parquet", p2l.models)
    frontier = p2l.frontier(scores.prompts, outcomes=scores.scores, objective="usable")
    print("| budget, USD per 1,000 | one mean budget: cost | score | budget per prompt: cost | score |")
    print("|---|---|---|---|---|")
    columns = (frontier.router_costs, frontier.router_scores, frontier.prompt_costs, frontier.prompt_scores)
    for budget, *row in list(zip(frontier.budgets, *columns, strict=True))[::5]:
        print(f"| {1e3 * budget:.2f} | {1e3 * row[0]:.2f} | {row[1]:.3f} | {1e3 * row[2]:.2f} | {row[3]:.3f} |")
    if arguments.write:
        ax = frontier.plot()
        ax.set_title(f"Embedded default on {len(scores.prompts)} held-out prompts of routing9", loc="left", fontsize=10)
        ax.figure.savefig(arguments.write, dpi=130)


if __name__ == "__main__":
    main()
