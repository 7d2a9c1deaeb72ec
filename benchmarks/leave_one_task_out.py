"""How well does the default recipe generalise to kinds of prompts that it has never seen?

For each task of routing9: train on the votes of all other tasks, measure on the prompts of this one. The baselines are
the averaged ("marginal") leaderboard of the same training votes, whose first LLM is also the best single one on the
other tasks, and the best LLM for each prompt (oracle). Only the training split is used.

    python benchmarks/leave_one_task_out.py --data ../shared/data/routing9 --encoder PATH --threads 2 --write FILE.md
"""

from __future__ import annotations

from threads import THREADS, parse

# isort: split
import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from p2l_sdk import P2L, Scores, Votes, fit_leaderboard
from p2l_sdk.evaluation import evaluate_scores, evaluate_votes
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.tables.files import read_rows
from p2l_sdk.training.static import StaticRecipe, train_static, write_static
from p2l_sdk.training.token_table import TokenTable, distil

COLUMNS = ("bt_log_loss", "cross_entropy", "routed_score")


def select(votes: Votes, keep: np.ndarray) -> Votes:
    """The votes on some prompts; `keep` is a mask over the prompts."""
    used, number = keep[votes.prompt], np.cumsum(keep) - 1
    return Votes(
        [p for p, kept in zip(votes.prompts, keep, strict=True) if kept],
        votes.models,
        number[votes.prompt[used]],
        *(x[used] for x in (votes.a, votes.b, votes.winner, votes.weight)),
    )


class SameForAll:
    """A scorer that returns the same leaderboard for every prompt."""

    def __init__(self, p2l: P2L, votes: Votes) -> None:
        self.spec = p2l.spec
        self._board = fit_leaderboard(votes, p2l.spec.feedback)

    def score(self, prompts: list) -> Coefficients:
        """The same coefficients for every prompt."""
        n = len(prompts)
        return Coefficients(np.tile(self._board.coefs, (n, 1)), np.full((n, 1), self._board.eta), None)


def left_out(
    votes: Votes, scores: Scores, tasks: np.ndarray, table: TokenTable, recipe: StaticRecipe
) -> Iterator[dict]:
    for task in track(sorted(set(tasks)), "leaving tasks out"):
        here = tasks == task
        rest, held = select(votes, ~here), select(votes, here)
        part = Scores([p for p, x in zip(scores.prompts, here, strict=True) if x], scores.models, scores.scores[here])
        with tempfile.TemporaryDirectory() as folder:
            write_static(train_static(rest, table, recipe), table.tokenizer, Path(folder))
            model = P2L.from_pretrained(folder)
        marginal = P2L(SameForAll(model, rest))
        row = {"task": task, "n": len(part.prompts), "oracle": float(part.scores.max(1).mean())}
        for name, p2l in (("model", model), ("marginal", marginal)):
            metrics = evaluate_votes(p2l, held) | evaluate_scores(p2l, part)
            row |= {(name, column): metrics[column].value for column in COLUMNS}
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder routing9")
    parser.add_argument("--encoder", required=True, help="all-MiniLM-L6-v2: folder or Hub id")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="Markdown file for the result")
    arguments = parse(parser)
    votes = Votes.read(arguments.data / "votes_train.parquet")
    place = {prompt: i for i, prompt in enumerate(votes.prompts)}
    scores = Scores.read(arguments.data / "scores_train.parquet", votes.models)
    tasks = np.empty(len(place), dtype=object)
    table = np.empty_like(scores.scores)
    for row, values in zip(read_rows(arguments.data / "scores_train.parquet"), scores.scores, strict=True):
        tasks[place[row["prompt"]]], table[place[row["prompt"]]] = row["task"], values
    scores = Scores(votes.prompts, votes.models, table)
    torch.set_num_threads(THREADS)
    token_table = distil(arguments.encoder)
    runs = [
        list(left_out(votes, scores, tasks, token_table, StaticRecipe(seed=seed, steps=224, keep=0.9)))
        for seed in range(arguments.seeds)
    ]
    text = report(runs)
    print(text)
    if arguments.write:
        arguments.write.write_text(text + "\n", encoding="utf-8")


def report(runs: list[list[dict]]) -> str:
    """Markdown: the mean over seeds for each task, and the mean over tasks with its standard error."""
    keys = [(name, column) for column in COLUMNS for name in ("model", "marginal")]
    values = np.array([[[row[key] for key in keys] for row in run] for run in runs]).mean(0)
    oracle = np.array([row["oracle"] for row in runs[0]])
    gaps = values[:, 0::2] - values[:, 1::2]
    means, errors = gaps.mean(0), gaps.std(0, ddof=1) / np.sqrt(len(gaps))
    better = [(gaps[:, 0] < 0).sum(), (gaps[:, 1] < 0).sum(), (gaps[:, 2] > 0).sum()]
    lines = [
        "| left-out task | n | BT log-loss | marginal | cross-entropy | marginal | routed score | marginal | oracle |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row, line, best in zip(runs[0], values, oracle, strict=True):
        cells = " | ".join(f"{x:.3f}" for x in [*line, best])
        lines.append(f"| {row['task']} | {row['n']} | {cells} |")
    cells = " | ".join(f"{x:.3f}" for x in [*values.mean(0), oracle.mean()])
    lines += [f"| **mean of {len(gaps)} tasks** | | {cells} |", ""]
    names = ("BT log-loss", "cross-entropy", "routed score")
    lines += [
        f"Model minus marginal, mean of {len(gaps)} tasks and standard error over tasks: "
        + "; ".join(
            f"{name} {mean:+.3f} ± {error:.3f} (better in {n})"
            for name, mean, error, n in zip(names, means, errors, better, strict=True)
        )
        + f". Mean of {len(runs)} seeds; the marginal's first is also the best single LLM of the remaining tasks."
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
