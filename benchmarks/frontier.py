"""The measured cost-quality frontier of the embedded model routing9 on held-out prompts of its data, with a plot.

The baseline is a router that reads no prompt, based on the LLMs' Goodness on the training prompts.

python benchmarks/frontier.py --data ../shared/data/routing9 [--write docs/images/frontier.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np

from p2l_sdk import P2L, Router, Scores
from p2l_sdk.mpg import Results, Tree, goodness
from p2l_sdk.routing.frontier import Frontier


def without_prompts(data: Path, p2l: P2L, scores: Scores, budgets: np.ndarray) -> Frontier:
    """The frontier with the same LLMs, prices and prompts, but one leaderboard for all prompts: Goodness."""
    results = Results.of_scores(Scores.read(data / "scores_train.parquet"), "task")
    tree = Tree.read(Path(__file__).parents[1] / "examples" / "routing9_tree.yaml")
    board = goodness(results, tree).leaderboard()
    coefs = board.coefs[[board.models.index(name) for name in p2l.models]]
    router = Router(p2l.models, board.feedback, p2l.costs)
    return router.frontier(np.tile(coefs, (len(scores.prompts), 1)), budgets, scores.scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder routing9")
    parser.add_argument("--write", type=Path, help="PNG file")
    arguments = parser.parse_args()
    matplotlib.use("agg")
    p2l = P2L.from_pretrained("routing9")
    scores = Scores.read(arguments.data / "scores_val.parquet", p2l.models)
    frontier = p2l.frontier(scores.prompts, outcomes=scores.scores, objective="usable")
    blind = without_prompts(arguments.data, p2l, scores, frontier.budgets)
    print(
        "| budget, USD per 1,000 | one mean budget: cost | score | budget per prompt: cost | score | no prompt: score |"
    )
    print("|---|---|---|---|---|---|")
    columns = (frontier.router_costs, frontier.router_scores, frontier.prompt_costs, frontier.prompt_scores)
    for budget, *row in list(zip(frontier.budgets, *columns, blind.router_scores, strict=True))[::5]:
        row[0], row[2] = 1e3 * row[0], 1e3 * row[2]
        print(f"| {1e3 * budget:.2f} | {row[0]:.2f} | {row[1]:.3f} | {row[2]:.2f} | {row[3]:.3f} | {row[4]:.3f} |")
    if arguments.write:
        ax = frontier.plot()
        ax.set_title(f"routing9, held out: {ax.get_title(loc='left')}", loc="left", fontsize=10)
        ax.figure.savefig(arguments.write, dpi=130)


if __name__ == "__main__":
    main()
