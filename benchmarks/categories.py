"""How often the intervals of category differences hold the differences that true answers show.

A model's `by_category` on held-out prompts of a table of scores, against the averaged leaderboards of the scores of all
prompts (train and val), category by category.

python benchmarks/categories.py --model FOLDER --data ../shared/data/mmlu_pro --by category
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas

from p2l_sdk import P2L, Votes
from p2l_sdk.analysis import by_category
from p2l_sdk.analysis.report import POINTS
from p2l_sdk.votes.averaged import fit_leaderboard


def relative(votes: Votes, rows: np.ndarray, p2l: P2L) -> np.ndarray:
    """The averaged leaderboard of some votes, relative to the mean LLM, in rating points."""
    coefs = fit_leaderboard(votes.subset(np.unique(votes.prompt[rows])), p2l.spec.feedback, intervals=None).coefs
    return np.asarray(POINTS * (coefs - coefs.mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="trained on scores_train of the data")
    parser.add_argument("--data", type=Path, required=True, help="a folder with scores_train and scores_val")
    parser.add_argument("--by", default="category", help="the column of categories")
    arguments = parser.parse_args()
    p2l = P2L.from_pretrained(arguments.model)
    parts = [pandas.read_parquet(arguments.data / f"scores_{part}.parquet") for part in ("val", "train")]
    found = by_category(p2l, parts[0]["prompt"].tolist(), parts[0][arguments.by].tolist()).differences
    votes = Votes.read(pandas.concat(parts), p2l.models)
    labels = votes.categories[arguments.by].astype(str)
    away, right = [], []
    for k, (name, _) in enumerate(found.categories):
        true = relative(votes, labels == name, p2l) - relative(votes, labels != name, p2l)
        away.append(np.abs(found.values[k] - true) <= found.margins[k])
        right.append(np.sign(found.values[k])[found.clear[k]] == np.sign(true)[found.clear[k]])
    clear = np.concatenate(right)
    print(f"{np.mean(away):.0%} of {np.size(away)} intervals hold the difference that the answers show")
    print(f"{len(clear)} differences are clear; {clear.mean():.0%} of them have the right sign")


if __name__ == "__main__":
    main()
