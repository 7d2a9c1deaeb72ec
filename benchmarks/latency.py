"""Microseconds per call of an embedded model, compared with the minimum; and start-up of the command line.

The floor of a call is bare tokenisation and the weighted mean of the token vectors, which any model of this kind needs.
"model" is the scorer alone: tokens, mean and head. "routing9" is a leaderboard of that smaller model, of nine LLMs
instead of 282; both read a prompt with the same table of token vectors. Everything is measured in rounds of one call of
each kind and compared within the round, so that a busy machine slows all of them alike.

    python benchmarks/latency.py [--model NAME] [--rounds N] [--threads N] [--json]
"""

from __future__ import annotations

from threads import THREADS, parse

# isort: split
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from measuring import machine, print_json, rounds_and_json
from tokenizers import Tokenizer

from p2l_sdk import P2L
from p2l_sdk.hub.folders import STATIC_MODEL, read_tensors

TEXT = "Prove that the square root of two is irrational and explain each step as to a child who likes numbers. "


def prompt_of(tokenizer: Tokenizer, n_tokens: int) -> str:
    """A prompt of n tokens."""
    encoding = tokenizer.encode(TEXT * (n_tokens // 10 + 1), add_special_tokens=False)
    return (TEXT * (n_tokens // 10 + 1))[: encoding.offsets[n_tokens - 1][1]]


def bare(n_tokens: int) -> tuple[str, Callable[[], object]]:
    """The prompt, and a function that computes the floor: tokens, then the mean of their vectors."""
    tokenizer = Tokenizer.from_file(str(STATIC_MODEL / "tokenizer.json"))
    weights = read_tensors(STATIC_MODEL)
    table, factor = weights["backbone.table"], np.exp(weights["backbone.log_weight"]) * weights["backbone.scale"]
    prompt = prompt_of(tokenizer, n_tokens)

    def call() -> np.ndarray:
        ids = np.asarray(tokenizer.encode_batch_fast([prompt], add_special_tokens=False)[0].ids)
        return factor[ids] @ table[ids].astype(np.float32)

    return prompt, call


def rounds(calls: dict[str, Callable[[], object]], n: int) -> dict[str, list[float]]:
    """Seconds of each call in each of n rounds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(n + n // 10 + 3):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if i >= n // 10 + 3:  # the first rounds warm up
                times[name].append(time.perf_counter() - start)
    return times


def latency(n: int, source: str) -> list[dict]:
    p2l, small, rows = P2L.from_pretrained(source), P2L.from_pretrained("routing9"), []
    for n_tokens in (32, 128, 512):
        prompt, floor = bare(n_tokens)
        calls = {
            "floor": floor,
            "model": lambda p=prompt: p2l._scorer.score([p]),
            "leaderboard": lambda p=prompt: p2l.leaderboard(p),
            "route": lambda p=prompt: p2l.route(p, cost=0.0004, seed=0),
            "routing9": lambda p=prompt: small.leaderboard(p),
        }
        times = rounds(calls, n)
        row: dict = {"tokens": n_tokens}
        for name, values in times.items():
            row[name] = {
                "median_us": 1e6 * statistics.median(values),
                "p90_us": 1e6 * statistics.quantiles(values, n=10)[8],
            }
        for name in ("leaderboard", "route"):
            for part in ("floor", "model"):
                shares = [1 - a / b for a, b in zip(times[part], times[name], strict=True)]
                row[name][f"share_above_{part}"] = statistics.median(shares)
        ratios = [a / b for a, b in zip(times["leaderboard"], times["routing9"], strict=True)]
        row["leaderboard"]["times_routing9"] = statistics.median(ratios)
        rows.append(row)
    return rows


def start_up(n: int, source: str) -> dict:
    """Start-up of the command and of Python with numpy and tokenizers imported, alternating."""
    commands = {
        "python": [sys.executable, "-c", "import numpy, tokenizers"],
        "p2l leaderboard": [sys.executable, "-m", "p2l_sdk", "leaderboard", TEXT, "--model", source],
        "p2l leaderboard --json": [sys.executable, "-m", "p2l_sdk", "leaderboard", TEXT, "--model", source, "--json"],
    }
    calls = {
        name: lambda c=command: subprocess.run(c, check=True, capture_output=True) for name, command in commands.items()
    }
    times = rounds(calls, n)
    result = {name: {"median_ms": 1e3 * statistics.median(values)} for name, values in times.items()}
    for name in list(commands)[1:]:
        ratios = [a / b for a, b in zip(times[name], times["python"], strict=True)]
        result[name]["times_python"] = statistics.median(ratios)
    return result


def main() -> None:
    parser = rounds_and_json(__doc__, 1000)
    parser.add_argument("--model", default="arena", help="arena or routing9")
    arguments = parse(parser)
    where = machine(f"{THREADS} thread(s)")
    calls = latency(arguments.rounds, arguments.model)
    starts = start_up(max(10, arguments.rounds // 50), arguments.model)
    if arguments.json:
        print_json(machine=where, model=arguments.model, rounds=arguments.rounds, calls=calls, start_up=starts)
        return
    print(f"{arguments.model}; {where}; medians of {arguments.rounds} rounds, microseconds (90th percentile)\n")
    print(
        "| tokens | floor: bare tokens + mean | model | leaderboard | above model, floor | times routing9's | route "
        "| above model, floor |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in calls:
        cells = [
            f"{row[k]['median_us']:.0f} ({row[k]['p90_us']:.0f})" for k in ("floor", "model", "leaderboard", "route")
        ]
        shares = [
            f"{row[k]['share_above_model']:.0%}, {row[k]['share_above_floor']:.0%}".replace("-0%", "0%")
            for k in ("leaderboard", "route")
        ]
        times = f"{row['leaderboard']['times_routing9']:.2f}"
        print(f"| {row['tokens']} | {' | '.join(cells[:3])} | {shares[0]} | {times} | {cells[3]} | {shares[1]} |")
    print("\n| start-up | median ms | times Python |\n|---|---|---|")
    for name, values in starts.items():
        print(f"| {name} | {values['median_ms']:.0f} | {values.get('times_python', 1):.2f} |")


if __name__ == "__main__":
    main()
