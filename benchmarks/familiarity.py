"""What does a model say of prompts unlike those that it learned from, and is it right to?

For each task (or subject) of a table of scores: static training on the votes of all other tasks (its length and what it
keeps are chosen by cross-validation unless they are given); then, on the prompts of this one, the familiarity, the
cross-entropy of the model and of the averaged leaderboard of the training votes, and whether the LLMs' measured
coefficients (fitted to the task's own votes) lie within the 95 % interval of the model's aggregate: with the bootstrap
over prompts alone, and with the model's own error. Held-out prompts of the trained tasks, Chinese questions and random
letters are asked too. Nothing is chosen by these figures.

    python benchmarks/familiarity.py --data ../shared/data/routing9 --by task [--steps N --keep SHARE] [--json]
"""

from __future__ import annotations

from threads import THREADS, parse

# isort: split
import argparse
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import print_json

from p2l_sdk import P2L, Scores, Votes, fit_leaderboard
from p2l_sdk.hub.folders import STATIC_MODEL
from p2l_sdk.leaderboards.aggregate import aggregate
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.familiarity_p2l import damping
from p2l_sdk.modeling.feedback_p2l import log_probabilities, vote_log_likelihood
from p2l_sdk.training.static import StaticRecipe, train_static, write_static
from p2l_sdk.training.token_table import table_of

SEED = 0
OPEN = 6.0  # logits; a coefficient beyond is one that the votes of a task leave open (an LLM that is never right)
CHINESE = (
    "请用中文解释量子力学的基本原理",
    "写一首关于春天的诗",
    "什么是机器学习",
    "如何做红烧肉",
    "中国的首都是哪里",
    "帮我写一封辞职信",
    "请把下面的句子翻译成英文",
    "解释一下相对论和经典力学的区别",
    "给我推荐几本好看的小说",
    "怎样学好数学",
)
BINS = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0001)


def letters(n: int) -> list[str]:
    """Random letters, in words of random length."""
    random = np.random.default_rng(SEED)
    return ["".join(random.choice(list("bcdfghjklmnpqrstvwxz    "), 60)) for _ in range(n)]


def losses(scored: Coefficients, votes: Votes, p2l: P2L) -> np.ndarray:
    """`(n_prompts,)` mean cross-entropy of the votes on each prompt, in nats per vote."""
    theta, rows = torch.from_numpy(scored.coefs.astype(np.float64)), votes.prompt
    eta = None if scored.eta is None else torch.from_numpy(scored.eta[rows, 0].astype(np.float64))
    log_probs = log_probabilities(p2l.spec.feedback, theta[rows, votes.a], theta[rows, votes.b], eta, None)
    values, weights = vote_log_likelihood(p2l.spec.feedback, log_probs, torch.from_numpy(votes.winner.astype(np.int64)))
    n = len(votes.prompts)
    return -np.bincount(rows, (values * weights).numpy(), n) / np.bincount(rows, weights.numpy(), n)


def undamped(p2l: P2L, scored: Coefficients) -> Coefficients:
    """The coefficients without the damping of unfamiliar prompts."""
    level = p2l._scorer.rows[:, -1]
    return replace(scored, coefs=level + (scored.coefs - level) / damping(scored.familiarity)[:, None])


def left_out(
    scores: Scores, labels: np.ndarray, fresh: Scores, fresh_labels: np.ndarray, recipe: StaticRecipe
) -> Iterator[dict[str, Any]]:
    table = table_of(STATIC_MODEL)
    for label in sorted(set(labels)):
        here = labels == label
        votes, held = (Votes.from_scores(part(scores, rows)) for rows in (~here, here))
        averaged = fit_leaderboard(votes, "grk", intervals=None)
        with tempfile.TemporaryDirectory() as folder:
            write_static(train_static(votes, table, recipe, averaged=averaged), table.tokenizer, Path(folder))
            p2l = P2L.from_pretrained(folder)
        scored, n = p2l.coefficients(held.prompts), len(held.prompts)
        same = Coefficients(np.tile(averaged.coefs, (n, 1)), np.full((n, 1), averaged.eta), None)
        measured = fit_leaderboard(held, "grk", intervals=None).coefs
        known = np.abs(measured) < OPEN
        boards = aggregate([scored], p2l.spec.feedback, p2l.models), p2l.aggregate(held.prompts)
        usual = p2l.coefficients([p for p, x in zip(fresh.prompts, fresh_labels, strict=True) if x != label])
        yield {
            "left out": str(label),
            "n": n,
            "familiarity": scored.familiarity,
            "loss": losses(scored, held, p2l),
            "undamped": losses(undamped(p2l, scored), held, p2l),
            "averaged": losses(same, held, p2l),
            "covered": [
                int(((b.intervals[:, 0] <= measured) & (measured <= b.intervals[:, 1]))[known].sum()) for b in boards
            ],
            "width": [float(np.diff(b.intervals, axis=1).mean()) for b in boards],
            "models": int(known.sum()),
            "usual": usual.familiarity,
            "chinese": p2l.coefficients(CHINESE).familiarity,
            "letters": p2l.coefficients(letters(10)).familiarity,
            "error": p2l.group_error.tolist(),
        }


def part(scores: Scores, rows: np.ndarray) -> Scores:
    """The scores on some prompts."""
    return Scores([p for p, x in zip(scores.prompts, rows, strict=True) if x], scores.models, scores.scores[rows])


def report(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| left out | n | median familiarity | cross-entropy | without damping | averaged | covered by the bootstrap "
        "| with the model's error | widths, logits |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{np.median(row['familiarity']):.2f}"]
        cells += [f"{row[name].mean():.3f}" for name in ("loss", "undamped", "averaged")]
        cells += [f"{c} of {row['models']}" for c in row["covered"]] + [" / ".join(f"{w:.2f}" for w in row["width"])]
        lines.append(f"| {row['left out']} | {row['n']} | {' | '.join(cells)} |")
    total = sum(row["models"] for row in rows)
    gaps = np.array([row["loss"].mean() - row["averaged"].mean() for row in rows])
    shares = [sum(row["covered"][i] for row in rows) / total for i in (0, 1)]
    gap, error = gaps.mean(), gaps.std(ddof=1) / len(gaps) ** 0.5
    lines.append(f"\nModel minus averaged, mean: {gap:+.3f} ± {error:.3f}; covered: {shares[0]:.1%}")
    lines.append(f"by the bootstrap alone, {shares[1]:.1%} with the model's error ({total} cases).\n")
    familiar, loss, bare, averaged = (
        np.concatenate([row[name] for row in rows]) for name in ("familiarity", "loss", "undamped", "averaged")
    )
    lines += ["| familiarity | prompts left out | model - averaged, nats | without damping |", "|---|---|---|---|"]
    for low, high in itertools.pairwise(BINS):
        inside = (familiar >= low) & (familiar < high)
        if inside.sum() > 1:
            gap = (loss - averaged)[inside]
            error = gap.std(ddof=1) / inside.sum() ** 0.5
            cells = f"{gap.mean():+.3f} ± {error:.3f} | {(bare - averaged)[inside].mean():+.3f}"
            lines.append(f"| {low:.2f} to {min(high, 1.0):.2f} | {inside.sum()} | {cells} |")
    lines.append("")
    for name in ("usual", "chinese", "letters"):
        values = np.concatenate([row[name] for row in rows])
        levels = ", ".join(f"{q:.2g}" for q in np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]))
        lines.append(f"{name}: 5, 25, 50, 75, 95 % quantiles of familiarity {levels}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder with scores_train and scores_val")
    parser.add_argument("--by", required=True, help="the column to leave out by")
    parser.add_argument("--steps", type=int, help="of the training; chosen by cross-validation if not given")
    parser.add_argument("--keep", type=float, help="share kept of what is learned; chosen likewise")
    parser.add_argument("--json", action="store_true")
    arguments = parse(parser)
    torch.set_num_threads(THREADS)
    scores, fresh = (Scores.read(arguments.data / f"scores_{side}.parquet") for side in ("train", "val"))
    labels, fresh_labels = (table.categories[arguments.by] for table in (scores, fresh))
    recipe = StaticRecipe(steps=arguments.steps, keep=arguments.keep, seed=SEED)
    rows = list(left_out(scores, labels, fresh, fresh_labels, recipe))
    if arguments.json:
        plain = [{k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in row.items()} for row in rows]
        print_json(rows=plain)
    else:
        print(report(rows))


if __name__ == "__main__":
    main()
