"""Is the default training ever worse than the averaged leaderboard, however little data there is?

Training sets are drawn from the training votes of mmlu_pro, routing9 and alpaca58: 30 to 1,000 random prompts, with 1
or 3 random votes each (pairs of all LLMs; alpaca58, where every vote has the same LLM on one side, has only 566
prompts). Each is written to a file and trained on as `p2l train` does, with nothing but defaults (votes that the
default feedback model refuses are trained with the one that the error message names). The model is measured on the
validation prompts beside the averaged leaderboard of the same votes, on the LLMs that occur in these.

    cross-entropy     of the held-out votes, in nats: model minus averaged leaderboard; below 0 is better
    routed            mean score of the LLM with the highest coefficient: model minus averaged leaderboard; above 0 is
                      better. alpaca58 has no scores: there, log-loss of the winner of decisive votes, below 0 is better
    worse             draws in which the model is worse by more than 3 standard errors (over the validation prompts,
                      paired), in cross-entropy and in the other column
    seconds           of training, reading the file and writing the model included; CPU seconds are those of all
                      threads, which a busy machine does not change

Means over the draws, with the standard error over the draws. Each draw is appended to the file --out as it is done,
and a later call with the same file goes on from there.

    python benchmarks/little_data.py --out FILE.jsonl [--data ../shared/data] [--sets ...] [--sizes ...]
        [--draws 10] [--first 0]
"""

from __future__ import annotations

from threads import THREADS, parse

# isort: split
import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import machine
from rich.progress import track
from training_draws import VoteSet, draw, feedback_for, losses, mean_and_error, of_models, read_set, rows_to_write

from p2l_sdk import P2L, Votes, fit_leaderboard
from p2l_sdk.errors import P2LWarning
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.training import TrainingConfig, train

SETS, SIZES, PER_PROMPT = ("mmlu_pro", "routing9", "alpaca58"), (30, 100, 300, 1000), (1, 3)
_NUMBERS = {name: i for i, name in enumerate(SETS)}  # part of the seed
_FAR = 3.0  # standard errors
_SAME = 1e-5  # nats: a model that returns the averaged leaderboard differs from it by rounding


def trained(votes: Votes, seed: int) -> tuple[P2L, float, float]:
    """What `p2l train` makes of a file of these votes; the seconds that it takes, and those of all its threads."""
    feedback = feedback_for(votes)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "votes.jsonl"
        file.write_text("\n".join(json.dumps(row) for row in rows_to_write(votes)) + "\n", encoding="utf-8")
        start, used = time.perf_counter(), time.process_time()
        p2l = train(
            TrainingConfig(
                votes=str(file),
                output=str(Path(folder) / "model"),
                feedback=None if feedback is Feedback.GRK else str(feedback),
                seed=seed,
            )
        )
        assert p2l is not None  # there is one process
        return p2l, time.perf_counter() - start, time.process_time() - used


def same_for_all(board: Leaderboard, n: int) -> Coefficients:
    """The coefficients of a leaderboard for each of `n` prompts."""
    eta, gamma = (None if x is None else np.full((n, 1), x) for x in (board.eta, board.gamma))
    return Coefficients(np.tile(board.coefs, (n, 1)), eta, gamma)


def one_draw(data: VoteSet, n: int, per_prompt: int, seed: int) -> dict[str, Any]:
    """Train on one draw and measure: differences to the averaged leaderboard with their standard errors."""
    votes, _ = draw(data.train, n, per_prompt, np.random.default_rng([_NUMBERS[data.name], n, per_prompt, seed]))
    p2l, seconds, used = trained(votes, seed)
    assert p2l.models == votes.models
    known = np.array([data.train.models.index(name) for name in votes.models])
    held_out, feedback = of_models(data.held_out, known), p2l.spec.feedback
    scores = None if data.scores is None else data.scores[:, known]
    board = fit_leaderboard(votes, feedback, intervals=None)
    model = losses(p2l.coefficients(held_out.prompts), feedback, held_out, scores)
    averaged = losses(same_for_all(board, len(held_out.prompts)), feedback, held_out, scores)
    pairs = {
        "cross_entropy": mean_and_error(model.entropy - averaged.entropy, model.n),
        "winner_log_loss": mean_and_error(model.winner - averaged.winner, model.decisive),
    }
    levels = {"averaged_cross_entropy": float(averaged.entropy.sum() / averaged.n.sum())}
    if scores is not None:
        pairs["routed"] = mean_and_error(model.routed - averaged.routed)
        levels["averaged_routed"] = float(averaged.routed.mean())
    return {
        "set": data.name,
        "prompts": n,
        "per_prompt": per_prompt,
        "draw": seed,
        "feedback": str(feedback),
        "llms": len(known),
        "seconds": seconds,
        "cpu_seconds": used,
        **pairs,
        **levels,
    }


def read_results(file: Path) -> list[dict[str, Any]]:
    """The finished draws; a last line that was cut off is left out."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Do the draws that the file does not have yet; all that were asked for are returned."""
    out = Path(args.out)
    done = {(x["set"], x["prompts"], x["per_prompt"], x["draw"]): x for x in read_results(out)}
    draws = range(args.first, args.first + args.draws)
    cells = [(s, n, v, d) for d in draws for s in args.sets for n in args.sizes for v in args.votes]
    data = {name: read_set(name, Path(args.data)) for name in args.sets}
    cells = [cell for cell in cells if cell[1] <= len(data[cell[0]].train.prompts)]
    with out.open("a", encoding="utf-8") as file:
        for name, n, per_prompt, seed in track([cell for cell in cells if cell not in done], "training"):
            row = one_draw(data[name], n, per_prompt, seed)
            done[name, n, per_prompt, seed] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
    return [done[cell] for cell in cells]


def show(rows: list[dict[str, Any]]) -> None:
    """A Markdown table: a line for each set, number of prompts and of votes."""
    print(
        "| data | prompts x votes | draws | cross-entropy | routed (alpaca58: winner) | worse | seconds | CPU seconds |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for key in dict.fromkeys((row["set"], row["prompts"], row["per_prompt"]) for row in rows):
        cell = [row for row in rows if (row["set"], row["prompts"], row["per_prompt"]) == key]
        other = "routed" if "routed" in cell[0] else "winner_log_loss"
        parts, worse = [], []
        for metric in ("cross_entropy", other):
            values, errors = np.array([row[metric] for row in cell]).T
            error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
            parts.append(f"{values.mean():+.4f} ± {error:.4f}")
            lost = -values if metric == "routed" else values
            worse.append(str(int((lost > np.maximum(_FAR * errors, _SAME)).sum())))
        seconds = np.mean([row["seconds"] for row in cell])
        used = np.mean([row.get("cpu_seconds", np.nan) for row in cell])
        print(f"| {key[0]} | {key[1]:,} x {key[2]} | {len(cell)} | {' | '.join(parts)} | ", end="")
        print(f"{', '.join(worse)} | {seconds:.1f} | {used:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="../shared/data", help="folder of the data sets")
    parser.add_argument("--out", required=True, help="JSONL file of the finished draws; is continued")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of prompts")
    parser.add_argument("--votes", type=int, nargs="+", default=list(PER_PROMPT), help="votes a prompt")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first draw, which is its seed")
    args = parse(parser)
    torch.set_num_threads(THREADS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", P2LWarning)  # few votes leave much open
        rows = run(args)
    show(rows)
    print(f"\n{machine(f'{THREADS} threads')}")


if __name__ == "__main__":
    main()
