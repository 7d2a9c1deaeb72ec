"""Seconds from the string columns of a table of votes to ratings, compared with arena-rank, evalica and choix.

In each round, all get the same pandas data frame (columns model_a, model_b, winner) and do the same job in turn; the
result is the median over the rounds after a warm-up round (in which arena-rank compiles). There are two jobs:

    bt    votes without ties, Bradley-Terry
    ties  votes with ties, a tie is half a win for each (`bt_tie` here; the default of arena-rank and evalica)

p2l-sdk and arena-rank also compute intervals, with the sandwich estimator. evalica only has a bootstrap over rows and
choix has no intervals: both are timed without. choix has no ties and takes a list of (winner, loser) pairs; building it
is included in its time. Two more rows are of its solver and ours alone, on counts that are ready. Since other programs
may keep the cores busy, the table has core-seconds too.

    python benchmarks/marginal.py [--rounds N] [--packages NAME ...] [--threads N] [--json]
"""

from __future__ import annotations

from threads import THREADS, parse

# isort: split
import importlib.metadata
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from measuring import machine, print_json, rounds_and_json
from scipy.special import expit

from p2l_sdk import fit_leaderboard
from p2l_sdk.votes.counts import VoteCounts

ARENA_UNIT = 400 / np.log(10)  # arena-rank's points per logit
Ratings = dict[str, float]  # centred coefficients in logits


def simulate(n_votes: int, n_models: int, ties: float, seed: int = 0) -> pd.DataFrame:
    """Votes drawn from known coefficients; a share `ties` of them, independent of the pair, is turned into ties."""
    rng = np.random.default_rng(seed)
    theta = np.sort(rng.normal(0, 0.7, n_models))
    a = rng.integers(0, n_models, n_votes)
    b = (a + rng.integers(1, n_models, n_votes)) % n_models
    names = np.array([f"organisation/model-{i:03d}-instruct" for i in range(n_models)], dtype=object)
    winner = np.where(rng.random(n_votes) < expit(theta[a] - theta[b]), 0, 1)
    winner[rng.random(n_votes) < ties] = 2
    words = np.array(["model_a", "model_b", "tie"], dtype=object)
    return pd.DataFrame({"model_a": names[a], "model_b": names[b], "winner": words[winner]})


def centred(names: object, coefs: object) -> Ratings:
    values = np.asarray(coefs, dtype=float)
    return dict(zip(names, values - values.mean(), strict=True))


def ours(votes: pd.DataFrame | VoteCounts, feedback: str = "bt") -> Ratings:
    board = fit_leaderboard(votes, feedback)
    assert board.intervals is not None
    return centred(board.models, board.coefs)


def arena_rank(frame: pd.DataFrame) -> Ratings:
    from arena_rank.models.bradley_terry import BradleyTerry
    from arena_rank.utils.data_utils import PairDataset

    dataset = PairDataset.from_pandas(frame)
    result = BradleyTerry(len(dataset.competitors)).compute_ratings_and_cis(dataset)
    np.asarray(result["rating_lower"])  # jax is asynchronous: wait for the result
    return centred(result["competitors"], np.asarray(result["ratings"]) / ARENA_UNIT)


def evalica(frame: pd.DataFrame) -> Ratings:
    from evalica import Winner, bradley_terry

    winners = frame["winner"].map({"model_a": Winner.X, "model_b": Winner.Y, "tie": Winner.Draw})
    scores = bradley_terry(frame["model_a"], frame["model_b"], winners.tolist()).scores
    return centred(scores.index, np.log(scores))


def choix(frame: pd.DataFrame) -> Ratings:
    from choix import opt_pairwise

    codes, names = pd.factorize(pd.concat([frame["model_a"], frame["model_b"]]), sort=True)
    a, b = codes[: len(frame)], codes[len(frame) :]
    won = (frame["winner"] == "model_a").to_numpy()
    pairs = list(zip(np.where(won, a, b).tolist(), np.where(won, b, a).tolist(), strict=True))
    return centred(names, opt_pairwise(len(names), pairs))


def wins_of(frame: pd.DataFrame) -> tuple[pd.Index, np.ndarray]:
    """The names, and how often each LLM won against each other one."""
    codes, names = pd.factorize(pd.concat([frame["model_a"], frame["model_b"]]), sort=True)
    a, b = codes[: len(frame)], codes[len(frame) :]
    won = (frame["winner"] == "model_a").to_numpy()
    cells = np.where(won, a, b) * len(names) + np.where(won, b, a)
    wins = np.bincount(cells, minlength=len(names) ** 2).reshape(len(names), len(names))
    return names, wins.astype(float)


def choix_dense(frame: pd.DataFrame) -> Ratings:
    return choix_ready(wins_of(frame))


def choix_ready(names_and_wins: tuple[pd.Index, np.ndarray]) -> Ratings:
    from choix import ilsr_pairwise_dense

    names, wins = names_and_wins
    return centred(names, ilsr_pairwise_dense(wins))


@dataclass(frozen=True)
class Contestant:
    """What a package is timed on: `call` of what `prepare` made of the frame, which is not timed."""

    call: Callable[[Any], Ratings]
    intervals: str = "no"
    prepare: Callable[[pd.DataFrame], Any] = lambda frame: frame


OTHERS = ("arena-rank", "evalica", "choix")
WITH = "yes, sandwich"
JOBS: dict[str, dict[str, Contestant]] = {
    "bt": {
        "p2l-sdk": Contestant(ours, WITH),
        "arena-rank": Contestant(arena_rank, WITH),
        "evalica": Contestant(evalica),
        "choix, win matrix built by pandas and numpy": Contestant(choix_dense),
        "choix, list of pairs": Contestant(choix),
        "p2l-sdk, its solver alone, on ready counts": Contestant(ours, WITH, VoteCounts.of),
        "choix, its solver alone, on a ready win matrix": Contestant(choix_ready, prepare=wins_of),
    },
    "ties": {
        "p2l-sdk": Contestant(partial(ours, feedback="bt_tie"), WITH),
        "arena-rank": Contestant(arena_rank, WITH),
        "evalica": Contestant(evalica),
    },
}


def _child(call: Callable[[Any], Ratings], given: Any) -> None:
    call(given)


def finishes(call: Callable[[Any], Ratings], given: Any, limit: float) -> str | None:
    """Run the call in its own process; None if it finishes within `limit` seconds, otherwise what happened."""
    process = multiprocessing.get_context("fork").Process(target=_child, args=(call, given))
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
        return f"not finished after {limit:.0f} s"
    return None if process.exitcode == 0 else f"failed (exit code {process.exitcode})"


def measure(job: str, frame: pd.DataFrame, rounds: int, limit: float, packages: list[str]) -> list[dict]:
    contestants = {name: who for name, who in JOBS[job].items() if name.split(",")[0] in packages}
    rows = {name: {"package": name, "intervals": who.intervals} for name, who in contestants.items()}
    given = {name: who.prepare(frame) for name, who in contestants.items()}
    for name in [name for name in contestants if name.startswith("choix")]:  # this forks, so before jax starts threads
        failure = finishes(contestants[name].call, given[name], limit)
        if failure:
            rows[name]["failure"] = failure
            del contestants[name]
    times: dict[str, list[float]] = {name: [] for name in contestants}
    cores: dict[str, list[float]] = {name: [] for name in contestants}
    ratings: dict[str, Ratings] = {}
    for round_ in range(rounds + 1):
        for name, who in contestants.items():
            start, busy = time.perf_counter(), time.process_time()
            ratings[name] = who.call(given[name])
            if round_:
                times[name].append(time.perf_counter() - start)
                cores[name].append(time.process_time() - busy)
    for name, seconds in times.items():
        difference = max(abs(ratings[name][model] - r) for model, r in ratings["p2l-sdk"].items())
        rows[name] |= {
            "median_s": statistics.median(seconds),
            "min_s": min(seconds),
            "max_s": max(seconds),
            "times_ours": statistics.median(s / o for s, o in zip(seconds, times["p2l-sdk"], strict=True)),
            "core_s": statistics.median(cores[name]),
            "times_our_cores": statistics.median(c / o for c, o in zip(cores[name], cores["p2l-sdk"], strict=True)),
            "largest_difference": difference,
        }
    return list(rows.values())


def main() -> None:
    parser = rounds_and_json(__doc__, 3)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that choix may take")
    parser.add_argument("--sizes", nargs="+", default=["200000x50", "2000000x130"], metavar="VOTESxMODELS")
    parser.add_argument("--packages", nargs="+", default=list(OTHERS), choices=OTHERS, help="to compare with")
    arguments = parse(parser)
    names = ("numpy", "pandas", *arguments.packages)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    where = f"{machine(f'{THREADS} thread(s)', f'load {os.getloadavg()[0]:.1f}')}, {versions}"
    results = []
    for size in arguments.sizes:
        n_votes, n_models = map(int, size.split("x"))
        for job, ties in (("bt", 0.0), ("ties", 0.25)):
            frame = simulate(n_votes, n_models, ties)
            rows = measure(job, frame, arguments.rounds, arguments.limit, ["p2l-sdk", *arguments.packages])
            results.append({"votes": n_votes, "models": n_models, "job": job, "rows": rows})
    if arguments.json:
        print_json(machine=where, rounds=arguments.rounds, results=results)
        return
    print(f"{where}; medians of {arguments.rounds} rounds")
    for result in results:
        kind = "Bradley-Terry without ties" if result["job"] == "bt" else "a quarter of them ties, half a win each"
        print(f"\n{result['votes']:,} votes, {result['models']} LLMs, {kind}:\n")
        head = "package | seconds | fastest to slowest | times ours | core-seconds | times ours"
        print(f"| {head} | intervals | largest difference, logits |")
        print("|---|---|---|---|---|---|---|---|")
        for row in result["rows"]:
            if "failure" in row:
                print(f"| {row['package']} | {row['failure']} | | | | | {row['intervals']} | |")
            else:
                print(
                    f"| {row['package']} | {row['median_s']:.3f} | {row['min_s']:.3f} to {row['max_s']:.3f} | "
                    f"{row['times_ours']:.2f} | {row['core_s']:.3f} | {row['times_our_cores']:.2f} | "
                    f"{row['intervals']} | {row['largest_difference']:.0e} |"
                )


if __name__ == "__main__":
    main()
