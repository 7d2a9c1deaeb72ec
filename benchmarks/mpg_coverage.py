"""Do the 95 % intervals of Goodness contain the truth in 95 % of cases? And are ranks and P(best) calibrated?

The true accuracies are simulated: LLMs of different ability on benchmarks of different difficulty, each LLM with its
own strengths and weaknesses (normal in logits, not the beta distribution that the model assumes). The tree is
unbalanced: a domain of one benchmark, one of five, and one of four in two subdomains. Scenarios differ in the number of
questions, in missing cells, and in whether all LLMs answer the same questions (which differ in difficulty).

    python benchmarks/mpg_coverage.py [--replicates N] [--scenario NAME] [--jeffreys] [--threads N]
"""

from __future__ import annotations

from threads import parse

# isort: split
import argparse
import warnings
from dataclasses import dataclass

import numpy as np

from p2l_sdk.errors import P2LWarning
from p2l_sdk.evaluation.metrics import reliability
from p2l_sdk.mpg import Results, Tree, goodness

TREE = Tree(
    {
        "all": ("one", "five", "four"),
        "one": ("b0",),
        "five": ("b1", "b2", "b3", "b4", "b5"),
        "four": ("single", "triple"),
        "single": ("b6",),
        "triple": ("b7", "b8", "b9"),
    },
    weights={"five": 2.0},
    chance={"b1": 0.25, "b7": 0.25},
)
BENCHMARKS = TREE.leaves()


@dataclass(frozen=True)
class Scenario:
    """How results are simulated: questions per benchmark from `low` to `high` (log-uniform), share of missing cells,
    and whether the LLMs answer the same questions (`paired`)."""

    low: int
    high: int
    missing: float = 0.0
    paired: bool = False


SCENARIOS = {
    "5 questions": Scenario(5, 5),
    "20 questions": Scenario(20, 20),
    "200 questions": Scenario(200, 200),
    "2,000 questions": Scenario(2000, 2000),
    "5 to 2,000 questions": Scenario(5, 2000),
    "5 to 2,000, a fifth of the cells missing": Scenario(5, 2000, missing=0.2),
    "20 to 500, shared questions": Scenario(20, 500, paired=True),
}
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(61)
_DIFFICULTY = 1.5  # standard deviation of the difficulty of shared questions, in logits


def simulate(scenario: Scenario, rng: np.random.Generator, n_models: int = 8) -> tuple[Results, np.ndarray]:
    """Results, and the true accuracies `(n_models, n_benchmarks)`."""
    shape = (n_models, len(BENCHMARKS))
    ability, easiness = rng.normal(0, 0.8, n_models), rng.normal(0.4, 1.3, shape[1])
    logits = easiness + ability[:, None] * rng.uniform(0.6, 1.4, shape[1]) + rng.normal(0, 0.5, shape)
    n = np.round(np.exp(rng.uniform(np.log(scenario.low), np.log(scenario.high), shape[1]))).astype(int)
    models = tuple(f"llm-{i}" for i in range(n_models))
    seen = np.ones(shape, dtype=bool)
    if scenario.missing:
        seen = rng.random(shape) >= scenario.missing
        seen[:, [0]] = True  # the domain of one benchmark: every LLM needs a result in every domain
        for columns in (slice(1, 6), slice(6, 10)):
            seen[~seen[:, columns].any(1), columns.start] = True
    if scenario.paired:
        truth = (_sigmoid(logits[:, :, None] + _DIFFICULTY * _NODES) * _WEIGHTS).sum(2) / _WEIGHTS.sum()
        questions = {}
        for b, name in enumerate(BENCHMARKS):
            chance = _sigmoid(logits[:, b, None] + _DIFFICULTY * rng.standard_normal(n[b]))
            questions[name] = (rng.random(chance.shape) < chance).astype(float)
        return Results.of_questions(models, questions), truth
    truth = _sigmoid(logits)
    means = rng.binomial(n, truth) / n
    return Results(models, tuple(BENCHMARKS), np.where(seen, means, np.nan), np.where(seen, n, 0.0)), truth


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


@dataclass
class Tally:
    """The outcomes of all replicates."""

    covered: list[np.ndarray]
    rank_covered: list[np.ndarray]
    best_said: list[np.ndarray]
    best_true: list[np.ndarray]
    width: list[np.ndarray]

    def shares(self) -> dict[str, float]:
        """Coverage of the intervals at benchmarks, inner nodes and the root, and of ranks; calibration of P(best)."""
        covered, ranks = np.array(self.covered), np.array(self.rank_covered)
        leaves = np.array([name not in TREE.nodes for name, _ in TREE.walk()])
        said, true = np.concatenate(self.best_said), np.concatenate(self.best_true)
        curve = reliability(
            said, true, cluster=np.repeat(np.arange(len(self.best_said)), len(self.best_said[0])), bins=5
        )
        return {
            "benchmarks": covered[:, :, leaves].mean(),
            "nodes between": covered[:, :, ~leaves][:, :, 1:].mean(),
            "whole": covered[:, :, 0].mean(),
            "all": covered.mean(),
            "ranks": ranks.mean(),
            "P(best) ECE": curve.ece,
            "by chance": curve.ece_by_chance or np.nan,
            "said of the favourite": np.mean([p.max() for p in self.best_said]),
            "it was best": np.mean([t[p.argmax()] for p, t in zip(self.best_said, self.best_true, strict=True)]),
            "width": float(np.mean(self.width)),
        }


def study(scenario: Scenario, replicates: int, *, seed: int = 0, draws: int = 2000, **options: str) -> Tally:
    """Simulate, fit and compare; `options` are those of `goodness`."""
    tally = Tally([], [], [], [], [])
    for replicate in range(replicates):
        rng = np.random.default_rng([seed, replicate])
        results, accuracies = simulate(scenario, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", P2LWarning)
            found = goodness(results, TREE, draws=draws, seed=replicate, **options)
        chance = np.array([TREE.chance.get(name, 0.0) for name in BENCHMARKS])
        truth = (accuracies - chance) / (1 - chance) @ found.weights.T
        low, high = found.intervals[:, :, 0], found.intervals[:, :, 1]
        tally.covered.append((low <= truth) & (truth <= high))
        tally.width.append((high - low)[:, 0])
        place = 1 + (truth[None] > truth[:, None]).sum(1)
        inside = (found.rank_intervals[:, :, 0] <= place) & (place <= found.rank_intervals[:, :, 1])
        tally.rank_covered.append(inside)
        tally.best_said.append(found.best_probabilities[:, 0])
        tally.best_true.append((place[:, 0] == 1).astype(float))
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--scenario", choices=SCENARIOS)
    parser.add_argument("--jeffreys", action="store_true", help="a flat prior for every cell by itself instead")
    options = parse(parser)
    more = {"prior": "jeffreys", "missing": "renormalise"} if options.jeffreys else {}
    header = False
    for name in [options.scenario] if options.scenario else SCENARIOS:
        shares = study(SCENARIOS[name], options.replicates, **more).shares()
        if not header:
            print(f"| questions of a benchmark | {' | '.join(shares)} |\n|---{'|---' * len(shares)}|")
            header = True
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in shares.values())} |", flush=True)


if __name__ == "__main__":
    main()
