"""Optimal routing under a budget: ours compared with solving the linear programme, as the paper's research code does.

The solvers are `optimal_mixture`, cvxpy (the problem is built for each call) and SciPy's HiGHS. In each round, each of
them runs for about 20 ms on the same new instances (ours on 600, the others on the first few); ratios of the time per
call are taken within the round. Values agree to 1e-6 (cvxpy's solver is an interior-point method).

    python benchmarks/routing.py [--rounds N] [--threads N] [--json]     (needs: pip install cvxpy scipy)
"""

from __future__ import annotations

from threads import THREADS, parse

# isort: split
import statistics
import time

import cvxpy
import numpy as np
from measuring import machine, print_json, rounds_and_json
from scipy.optimize import linprog

from p2l_sdk.routing.mixture import optimal_mixture


def ours(scores: np.ndarray, costs: np.ndarray, budget: float) -> float:
    return float(optimal_mixture(scores, costs, budget) @ scores)


def by_cvxpy(scores: np.ndarray, costs: np.ndarray, budget: float) -> float:
    p = cvxpy.Variable(len(scores))
    problem = cvxpy.Problem(cvxpy.Maximize(p @ scores), [p >= 0, cvxpy.sum(p) == 1, costs @ p <= budget])
    return float(problem.solve())


def by_highs(scores: np.ndarray, costs: np.ndarray, budget: float) -> float:
    ones = np.ones((1, len(scores)))
    return -linprog(-scores, A_ub=costs[None], b_ub=[budget], A_eq=ones, b_eq=[1.0], bounds=(0, 1), method="highs").fun


SOLVERS = {"ours": (ours, 600), "highs": (by_highs, 8), "cvxpy": (by_cvxpy, 2)}  # function, calls in about 20 ms


def measure(n_models: int, rounds: int) -> dict:
    random = np.random.default_rng(n_models)
    times: dict[str, list[float]] = {name: [] for name in SOLVERS}
    worst = 0.0
    for i in range(rounds + 2):
        instances = []
        for _ in range(SOLVERS["ours"][1]):
            costs = random.uniform(0.1, 5.0, n_models)
            budget = float(np.quantile(costs, random.uniform(0.1, 0.9)))
            instances.append((random.uniform(0.2, 0.8, n_models), costs, budget))
        values: dict[str, list[float]] = {}
        for name, (solve, calls) in SOLVERS.items():
            start = time.perf_counter()
            values[name] = [solve(*instance) for instance in instances[:calls]]
            if i >= 2:  # the first rounds warm up
                times[name].append((time.perf_counter() - start) / calls)
        for name in ("highs", "cvxpy"):
            worst = max(worst, *(abs(a - b) for a, b in zip(values["ours"], values[name], strict=False)))
    result: dict = {"models": n_models, "largest_difference": worst}
    for name, seconds in times.items():
        low, _, high = statistics.quantiles(seconds, n=4)
        result[name] = {"median_us": 1e6 * statistics.median(seconds), "quartiles_us": [1e6 * low, 1e6 * high]}
        result[name]["times_ours"] = statistics.median(a / b for a, b in zip(seconds, times["ours"], strict=True))
    return result


def main() -> None:
    parser = rounds_and_json(__doc__, 50)
    arguments = parse(parser)
    results = [measure(n, arguments.rounds) for n in (10, 40, 130)]
    where = f"{machine(f'{THREADS} thread(s)')}, cvxpy {cvxpy.__version__}"
    if arguments.json:
        print_json(machine=where, rounds=arguments.rounds, results=results)
        return
    print(f"{where}; medians of {arguments.rounds} rounds, microseconds per call (quartiles)")
    print("\n| LLMs | ours | SciPy HiGHS | times ours | cvxpy | times ours | largest difference |")
    print("|---|---|---|---|---|---|---|")
    for row in results:
        cells = {}
        for name in ("ours", "highs", "cvxpy"):
            low, high = row[name]["quartiles_us"]
            cells[name] = f"{row[name]['median_us']:.0f} ({low:.0f} to {high:.0f})"
        print(
            f"| {row['models']} | {cells['ours']} | {cells['highs']} | {row['highs']['times_ours']:.0f} "
            f"| {cells['cvxpy']} | {row['cvxpy']['times_ours']:.0f} | {row['largest_difference']:.0e} |"
        )


if __name__ == "__main__":
    main()
