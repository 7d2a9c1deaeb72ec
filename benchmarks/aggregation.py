"""Aggregation of 1,000 prompts x 130 LLMs, compared with the direct method, and of 1,000,000 prompts in one pass.

The pass is made with one thread and with as many as there are cores, for 130 and for 282 LLMs, beside what adding them
cost before (every probability a quotient by itself, in float64, on one core) and beside a floor: one thread of numpy
that only makes the inverses of the denominators in cached arrays. Both are measured on a part and scaled up. A pass
takes turns with the others, and the table has core-seconds too, since other programs may keep the cores busy.

The direct method is a reimplementation of the paper's research code: the outcome probabilities of all prompts and pairs
are kept in float32, and torch's L-BFGS (at most 50 iterations) evaluates the mean cross-entropy over all of them in
every closure. Every job runs in its own process; the methods alternate, round by round. Time is that of the job alone,
memory the peak of the process minus what it used before the job (imports and input).

    python benchmarks/aggregation.py [--rounds N] [--stream N] [--stream-rounds N] [--threads N] [--json]
"""

from __future__ import annotations

from threads import THREADS, parse

# isort: split
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from measuring import machine, print_json, rounds_and_json

from p2l_sdk.leaderboards.aggregate import PairStatistics
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.leaderboards.likelihood import PairLikelihood
from p2l_sdk.leaderboards.pairs import natural_parameters
from p2l_sdk.modeling.feedback_p2l import Feedback, PlainLaw, log_probabilities, log_threshold

N_MODELS, MANY, BATCH = 130, 282, 4096
NAMES = tuple(f"m{i}" for i in range(N_MODELS))
JOBS = ("ours", "ours with intervals", "direct")


def coefficients(n: int, seed: int, n_models: int = N_MODELS) -> Coefficients:
    """Prompts whose leaderboards scatter around a common one, in float32 as from a network."""
    strengths = np.linspace(-1.5, 1.5, n_models)
    rng = np.random.default_rng(seed)
    coefs = rng.standard_normal((n, n_models), dtype=np.float32) + strengths.astype(np.float32)
    return Coefficients(coefs, rng.normal(-0.5, 0.3, (n, 1)).astype(np.float32), None)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB


def ours(feedback: Feedback, batch: Coefficients, replicates: int) -> dict:
    start = time.perf_counter()
    stats = PairStatistics(feedback, N_MODELS, sample=1000 if replicates else 0)
    stats.add(batch)
    added = time.perf_counter()
    board = stats.solve(NAMES, replicates=replicates)
    end = time.perf_counter()
    return {"seconds": end - start, "add": added - start, "solve": end - added, "coefs": board.coefs.tolist()}


def direct(feedback: Feedback, batch: Coefficients) -> dict:
    """Mean cross-entropy over prompts and pairs by L-BFGS in float32."""
    import torch

    torch.set_num_threads(THREADS)
    a, b = torch.triu_indices(N_MODELS, N_MODELS, 1)

    def law(theta, eta):
        x, y = theta[..., a], theta[..., b]
        if feedback is Feedback.BT:
            return torch.stack([torch.nn.functional.logsigmoid(x - y), torch.nn.functional.logsigmoid(y - x)])
        x, y, t = x.exp(), y.exp(), eta.exp() + 1.000001
        wins, losses, bad = x / (x + t * y + 1), y / (y + t * x + 1), 1 / (1 + x + y)
        return torch.stack([wins, losses, 1 - wins - losses - bad, bad]).clamp(min=1e-6).log()

    start = time.perf_counter()
    with torch.no_grad():
        targets = law(torch.from_numpy(batch.coefs), torch.from_numpy(batch.eta)).exp()
    theta, eta = torch.zeros(N_MODELS, requires_grad=True), torch.zeros(1, requires_grad=True)
    unknowns = [theta] if feedback is Feedback.BT else [theta, eta]
    optimiser = torch.optim.LBFGS(unknowns, max_iter=50, line_search_fn="strong_wolfe")
    closures = 0

    def closure():
        nonlocal closures
        closures += 1
        optimiser.zero_grad()
        loss = -(targets * law(theta, eta)[:, None]).sum(0).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "closures": closures, "coefs": theta.tolist()}


def exact(feedback: Feedback, batch: Coefficients) -> np.ndarray:
    """The optimum in float64, from probabilities in log space, by Newton's method until the gradient is below 1e-12."""
    a, b = np.triu_indices(N_MODELS, 1)
    theta, eta = batch.coefs.astype(float), batch.eta.astype(float)
    mean = np.mean([np.exp(log_probabilities(feedback, x[a], x[b], e)) for x, e in zip(theta, eta, strict=True)], 0)
    start = np.append(theta.mean(0), log_threshold(feedback, eta).mean() if feedback.has_eta else 0.0)
    return np.asarray(PairLikelihood(feedback, N_MODELS).minimise(mean, start))[:N_MODELS]


def stream(n: int, n_models: int) -> dict:
    """One pass over n prompts, generated batch by batch; generation is timed separately."""
    generated = added = cores = 0.0
    stats = PairStatistics(Feedback.GRK, n_models)
    for i in range(0, n, BATCH):
        start = time.perf_counter()
        batch = coefficients(min(BATCH, n - i), i, n_models)
        middle, busy = time.perf_counter(), time.process_time()
        stats.add(batch)
        generated += middle - start
        added += time.perf_counter() - middle
        cores += time.process_time() - busy
    start = time.perf_counter()
    board = stats.solve(tuple(f"m{i}" for i in range(n_models)))
    solve = time.perf_counter() - start
    width = float((board.intervals[:, 1] - board.intervals[:, 0]).mean())
    return {"add": added, "add_core_s": cores, "solve": solve, "generate": generated, "width": width}


def before(n: int, n_models: int) -> dict:
    """Adding as it was: one LLM against all others, every outcome a quotient, in float64."""
    batch = coefficients(n, 0, n_models)
    theta, log_s = natural_parameters(Feedback.GRK, batch, n_models)
    sums, busy = [], time.process_time()
    for start in range(0, n, 256):
        part = slice(start, start + 256)
        law = PlainLaw(Feedback.GRK, np.ascontiguousarray(theta[part].T), log_s[part])
        sums += [p.sum(1) for i in range(n_models - 1) for p in law.row(i, i + 1)]
    return {"add_core_s": time.process_time() - busy}


def floor(n: int, n_models: int) -> dict:
    """The inverses of the three denominators of as many pairs, float32, in long arrays that stay in the cache and start
    where its lines do."""
    numbers, one = 1 << 15, np.ones((), np.float32)
    memory = np.empty(3 * numbers + 16, np.float32)
    own, other, inverse = memory[-memory.ctypes.data % 64 // 4 :][: 3 * numbers].reshape(3, numbers)
    own[:] = other[:] = 1.0
    times = n * n_models * (n_models - 1) // (2 * numbers)
    busy = time.process_time()
    for _ in range(3 * times):
        np.add(own, other, out=inverse)
        np.divide(one, inverse, out=inverse)
    return {"add_core_s": time.process_time() - busy}


def passes(n: int, rounds: int) -> list[dict]:
    """The ways to add, in turn; seconds for n prompts, the median over rounds."""
    part, cores, rows = min(n, 4096), os.cpu_count() or 1, []
    jobs = {"one thread": ("stream", n, 1), f"{cores} threads": ("stream", n, cores)}
    jobs |= {"before, one thread": ("before", part, 1), "floor, one thread": ("floor", part, 1)}
    for n_models in (N_MODELS, MANY):
        found: dict[str, list[dict]] = {name: [] for name in jobs}
        for _ in range(rounds):
            for name, (job_, prompts, threads) in jobs.items():
                result = run(job_, Feedback.GRK, prompts, n_models, threads)
                result |= {key: result[key] * n / prompts for key in ("add", "add_core_s") if key in result}
                found[name].append(result)
        for name, results in found.items():
            row = {key: statistics.median(r[key] for r in results) for key in results[0]}
            rows.append({"n_models": n_models, "way": name, **row})
    return rows


def job(name: str, feedback: Feedback, n: int, n_models: int) -> dict:
    if name == "direct":
        import torch  # noqa: F401  so that it counts as memory used before the job
    used = peak_mb()
    if name in ("stream", "before", "floor"):
        result = {"stream": stream, "before": before, "floor": floor}[name](n, n_models)
    else:
        batch = coefficients(n, 0)
        used = peak_mb()
        if name == "exact":
            result = {"coefs": exact(feedback, batch).tolist()}
        else:
            result = direct(feedback, batch) if name == "direct" else ours(feedback, batch, 1000 * (name != "ours"))
    return {**result, "peak_mb": peak_mb() - used, "process_mb": peak_mb()}


def run(name: str, feedback: Feedback, n: int, n_models: int = N_MODELS, threads: int = THREADS) -> dict:
    command = [sys.executable, __file__, "--job", name, "--feedback", feedback, "--prompts", str(n)]
    command += ["--models", str(n_models), "--threads", str(threads)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def distance(feedback: Feedback, coefs: list[float], optimum: list[float]) -> float:
    difference = np.array(coefs) - optimum
    return float(np.abs(difference if feedback.grounded else difference - difference.mean()).max())


def compare(feedback: Feedback, n: int, rounds: int) -> list[dict]:
    optimum = run("exact", feedback, n)["coefs"]
    results = {name: [] for name in JOBS}
    for _ in range(rounds):
        for name in JOBS:
            results[name].append(run(name, feedback, n))
    rows = []
    for name, values in results.items():
        seconds = [value["seconds"] for value in values]
        ratios = [d["seconds"] / s for d, s in zip(results["direct"], seconds, strict=True)]
        row = {"feedback": str(feedback), "method": name, "median_s": statistics.median(seconds)}
        row |= {"lowest_s": min(seconds), "highest_s": max(seconds), "times_faster": statistics.median(ratios)}
        row["peak_mb"] = statistics.median(value["peak_mb"] for value in values)
        row["distance"] = distance(feedback, values[0]["coefs"], optimum)
        row |= {key: statistics.median(v[key] for v in values) for key in ("add", "solve") if key in values[0]}
        row |= {"closures": values[0]["closures"]} if name == "direct" else {}
        rows.append(row)
    return rows


def main() -> None:
    parser = rounds_and_json(__doc__, 3)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--stream", type=int, default=1_000_000, help="prompts of the single pass; 0 to leave it out")
    parser.add_argument("--stream-rounds", type=int, default=1, help="rounds of the single passes")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--models", type=int, default=N_MODELS, help=argparse.SUPPRESS)
    parser.add_argument("--feedback", default="grk", help=argparse.SUPPRESS)
    arguments = parse(parser)
    if arguments.job:
        print(json.dumps(job(arguments.job, Feedback(arguments.feedback), arguments.prompts, arguments.models)))
        return
    n = arguments.prompts
    where = machine(f"{THREADS} thread(s)")
    rows = [row for feedback in (Feedback.GRK, Feedback.BT) for row in compare(feedback, n, arguments.rounds)]
    long = passes(arguments.stream, arguments.stream_rounds) if arguments.stream else []
    if arguments.json:
        print_json(machine=where, rounds=arguments.rounds, prompts=n, rows=rows, stream=long)
        return
    print(f"{where}; {n:,} prompts x {N_MODELS} LLMs, medians of {arguments.rounds} rounds (lowest to highest)\n")
    print("| feedback | method | seconds | add + solve | times faster | peak memory, MB | distance to the optimum |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        parts = f"{row['add']:.3f} + {row['solve']:.3f}" if "add" in row else f"{row['closures']} evaluations"
        seconds = f"{row['median_s']:.2f} ({row['lowest_s']:.2f} to {row['highest_s']:.2f})"
        cells = [row["feedback"], row["method"], seconds, parts, f"{row['times_faster']:.1f}", f"{row['peak_mb']:.0f}"]
        print(f"| {' | '.join(cells)} | {row['distance']:.0e} |")
    if long:
        print(f"\nOne pass over {arguments.stream:,} prompts (grk):\n")
        print("| LLMs | adding | seconds | core-seconds | million pairs a core-second | solve, intervals | memory |")
        print("|---|---|---|---|---|---|---|")
    for row in long:
        pairs = arguments.stream * row["n_models"] * (row["n_models"] - 1) / 2e6
        wall, solve = (f"{row[key]:.1f}" if key in row else "" for key in ("add", "solve"))
        memory = f"{row['peak_mb']:.0f} MB" if wall else ""
        cells = [wall, f"{row['add_core_s']:.1f}", f"{pairs / row['add_core_s']:.0f}", solve, memory]
        print(f"| {row['n_models']} | {row['way']} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
