"""Small tables of votes and scores, and what writes rows to a file or a folder."""

from __future__ import annotations

import csv
import json
from collections import Counter

import datasets
from conftest import MODELS

A, B, C, D = MODELS
COLUMNS = ("prompt", "model_a", "model_b", "winner", "weight", "task", "is_code", "turns", "timestamp", "judge_p")
TABLE = [
    ("write a poem", A, B, "model_a", 1.0, "poems", False, 1, 17, 0.5),
    ("write a poem", B, C, "model_b", 1.0, "poems", False, 1, 18, 0.5),
    ("sum list", C, A, "tie", 0.5, "code", True, 2, 19, 0.25),
    ("python code", D, A, "tie (bothbad)", 2.0, "code", True, 1, 20, 0.125),
    ("python code", A, D, "both_bad", 1.0, "", True, 3, 21, 0.125),
]
ROWS = [dict(zip(COLUMNS, row, strict=True)) for row in TABLE]
SCORES = [
    {"prompt": "write a poem", "task": "poems", B: 1.0, A: 0.25, C: 0.25 + 1e-7},
    {"prompt": "sum list", "task": "code", B: 0.5, A: 0.5, C: 1},
]


def as_jsonl(rows, path):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def as_csv(rows, path):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_saved(data, path):
    data.save_to_disk(str(path))
    return path


def a_split(rows, name="train"):
    return datasets.DatasetDict({name: datasets.Dataset.from_list(rows)})


def columns_of(rows):
    """Rows with the same columns, as a mapping of columns."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def columns(*votes: tuple[str, str, str], times: int = 1) -> dict[str, list[str]]:
    """Votes (model_a, model_b, winner) without prompts, as a mapping of columns."""
    return dict(zip(("model_a", "model_b", "winner"), map(list, zip(*votes * times, strict=True)), strict=True))


def seen(votes):
    """The votes in words, regardless of order; they need a category "task"."""
    fields = (votes.prompt, votes.a, votes.b, votes.winner, votes.weight, votes.categories["task"])
    rows = zip(*fields, strict=True)
    return Counter((votes.prompts[p], votes.models[a], votes.models[b], int(w), x, t) for p, a, b, w, x, t in rows)
