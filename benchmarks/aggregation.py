"""Aggregation of 1,000 prompts x 130 LLMs, compared with the direct method, and of 1,000,000 prompts in one pass.

The direct method is a reimplementation of the paper's research code: the outcome probabilities of all prompts and pairs
are kept in float32, and torch's L-BFGS (at most 50 iterations) evaluates the mean cross-entropy over all of them in
every closure. Every job runs in its own process; the methods alternate, round by round. Time is that of the job alone,
memory the peak of the process minus what it used before the job (imports and input).

    python benchmarks/aggregation.py [--rounds N] [--stream N] [--threads N] [--json]
"""

from __future__ import annotations

from threads import THREADS, parse

# isort: split
import argparse
import json
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
from p2l_sdk.modeling.feedback_p2l import Feedback, log_probabilities, log_threshold

N_MODELS, BATCH = 130, 4096
NAMES = tuple(f"m{i}" for i in range(N_MODELS))
JOBS = ("ours", "ours with intervals", "direct")


def coefficients(n: int, seed: int) -> Coefficients:
    """Prompts whose leaderboards scatter around a common one, in float32 as from a network."""
    strengths = np.linspace(-1.5, 1.5, N_MODELS)
    rng = np.random.default_rng(seed)
    coefs = rng.standard_normal((n, N_MODELS), dtype=np.float32) + strengths.astype(np.float32)
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


def stream(n: int) -> dict:
    """One pass over n prompts, generated batch by batch; generation is timed separately."""
    generated = added = 0.0
    stats = PairStatistics(Feedback.GRK, N_MODELS)
    for i in range(0, n, BATCH):
        start = time.perf_counter()
        batch = coefficients(min(BATCH, n - i), i)
        middle = time.perf_counter()
        stats.add(batch)
        generated += middle - start
        added += time.perf_counter() - middle
    start = time.perf_counter()
    board = stats.solve(NAMES)
    solve = time.perf_counter() - start
    width = float((board.intervals[:, 1] - board.intervals[:, 0]).mean())
    return {"seconds": added + solve, "add": added, "solve": solve, "generate": generated, "width": width}


def job(name: str, feedback: Feedback, n: int) -> dict:
    if name == "direct":
        import torch  # noqa: F401  so that it counts as memory used before the job
    if name == "stream":
        before = peak_mb()
        result = stream(n)
    else:
        batch = coefficients(n, 0)
        before = peak_mb()
        if name == "exact":
            result = {"coefs": exact(feedback, batch).tolist()}
        else:
            result = direct(feedback, batch) if name == "direct" else ours(feedback, batch, 1000 * (name != "ours"))
    return {**result, "peak_mb": peak_mb() - before, "process_mb": peak_mb()}


def run(name: str, feedback: Feedback, n: int) -> dict:
    command = [sys.executable, __file__, "--job", name, "--feedback", feedback, "--prompts", str(n)]
    command += ["--threads", str(THREADS)]
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
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--feedback", default="grk", help=argparse.SUPPRESS)
    arguments = parse(parser)
    if arguments.job:
        print(json.dumps(job(arguments.job, Feedback(arguments.feedback), arguments.prompts)))
        return
    n = arguments.prompts
    where = machine(f"{THREADS} thread(s)")
    rows = [row for feedback in (Feedback.GRK, Feedback.BT) for row in compare(feedback, n, arguments.rounds)]
    long = run("stream", Feedback.GRK, arguments.stream) if arguments.stream else None
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
        rate = arguments.stream / long["add"]
        print(f"\n| one pass over {arguments.stream:,} prompts (grk) | |\n|---|---|")
        print(f"| add | {long['add']:.1f} s, {rate:,.0f} prompts per second |")
        print(f"| solve, with intervals | {long['solve']:.2f} s |")
        print(f"| generation of the input, not counted | {long['generate']:.1f} s |")
        print(f"| peak memory | {long['peak_mb']:.0f} MB, {long['process_mb']:.0f} MB with Python and numpy |")


if __name__ == "__main__":
    main()
