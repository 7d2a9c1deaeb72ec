"""One leaderboard for each category in a data set of prompts, and a plot of them all.

    python examples/aggregate_dataset.py [PROMPTS] [--by category] [--output ratings.png] [--model FOLDER_OR_HUB_ID]

PROMPTS is a table (.jsonl, .csv, ...) with a column `prompt` and a category column; by default, `prompts.jsonl`
next to this program. The plot and Parquet files need pip install "p2l-sdk[data]".
"""

import argparse
from collections import defaultdict
from pathlib import Path

from matplotlib import pyplot

from p2l_sdk import P2L
from p2l_sdk.tables.files import read_rows

ROWS = 12  # of the picture

parser = argparse.ArgumentParser()
parser.add_argument("prompts", nargs="?", type=Path, default=Path(__file__).with_name("prompts.jsonl"))
parser.add_argument("--by", default="category")
parser.add_argument("--output", default="ratings.png")
parser.add_argument("--model", help="a folder or a Hub id; the embedded default if not given")
arguments = parser.parse_args()

p2l = P2L.from_pretrained(arguments.model)
groups = defaultdict(list)
for row in read_rows(arguments.prompts):
    groups[row[arguments.by]].append(row["prompt"])

# An aggregate is not the mean of the prompts' leaderboards: it is the one leaderboard that best predicts the votes on
# all of them. Its 95 % intervals show how much it would change with other prompts of the same kind.
everything = p2l.aggregate(prompt for prompts in groups.values() for prompt in prompts)
boards = {name: p2l.aggregate(prompts) for name, prompts in groups.items()}
print(everything)
for name, board in boards.items():
    low, high = board.rating_intervals[board.order[0]]
    print(f"{name} ({len(groups[name])} prompts): {board.best}, {low:.0f} to {high:.0f}")

# a row for each of the best LLMs, the first on all prompts at the top; a column for each category
columns = {"all prompts": everything, **boards}
order = everything.order[:ROWS]
_, ax = pyplot.subplots(figsize=(2.5 + 1.2 * len(columns), 0.9 + 0.4 * len(order)), layout="constrained")
ratings = [[board.ratings[i] for board in columns.values()] for i in order]
ax.imshow(ratings, cmap="Blues", aspect="auto")
middle = (min(map(min, ratings)) + max(map(max, ratings))) / 2
for y, row in enumerate(ratings):
    for x, rating in enumerate(row):
        ax.text(x, y, f"{rating:.0f}", ha="center", va="center", color="white" if rating > middle else "black")
ax.set_xticks(range(len(columns)), columns)
ax.set_yticks(range(len(order)), [everything.models[i] for i in order])
ax.set_title("Rating by category")
ax.figure.savefig(arguments.output, dpi=120)
print(f"picture: {arguments.output}")
