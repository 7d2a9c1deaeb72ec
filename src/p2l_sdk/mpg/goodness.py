"""Goodness: one number for how good an LLM is, and how sure it is, from its results on a tree of benchmarks.

    1. Draws of the true accuracy of every LLM on every benchmark, from a beta-binomial posterior (`factor`).
    2. Chance taken off: (p - c) / (1 - c). It may be negative: cut at 0 it would favour whoever guesses badly.
    3. Up the tree: a node is the weighted mean of its benchmarks, draw by draw. Weights are those of the tree, each
       divided by the spread of the LLMs' scores on the benchmark: one that is nearly solved, or nearly hopeless,
       moves the order as much as any other ("spread"; "plain" leaves that out). How many questions a benchmark has
       decides how sure it is, not how much it counts.
    4. Of the draws: means, 95 % intervals, ranks with intervals, the probability of being the best.

"one_factor" puts in place of 1 what the LLM's ability alone makes one expect: all benchmarks measure one thing, and
count for it as much as they say of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np

from p2l_sdk.errors import P2LError, ResultsError
from p2l_sdk.mpg.factor import FactorDraws, fit_factor
from p2l_sdk.mpg.node_estimates import NodeEstimates, counted
from p2l_sdk.mpg.pairing import paired
from p2l_sdk.mpg.results import Results
from p2l_sdk.mpg.tree import Tree

_LEAST_SPREAD = 0.25  # of the median spread: a benchmark on which all LLMs do alike says nothing
_NOTED_SHIFT = 0.02  # a benchmark's estimate may lie so far from the LLM's own score without a word
_TINY = 1e-4  # an accuracy's distance from 0 and 1, in logits


class Method(StrEnum):
    """Where the draws of a benchmark's accuracy come from."""

    TREE = "tree"  # its own results
    ONE_FACTOR = "one_factor"  # the LLM's ability


class Prior(StrEnum):
    """What an accuracy is taken to be before its questions."""

    TABLE = "table"  # what the rest of the table makes one expect
    JEFFREYS = "jeffreys"  # beta(1/2, 1/2), each cell by itself


class Missing(StrEnum):
    """What stands for a missing cell."""

    IMPUTE = "impute"  # a draw of what the rest of the table makes one expect
    RENORMALISE = "renormalise"  # nothing: the node's other benchmarks share its weight


class Weighting(StrEnum):
    """What a benchmark counts beside the tree's weights."""

    SPREAD = "spread"  # one over the spread of its scores
    PLAIN = "plain"


Option = TypeVar("Option", bound=StrEnum)


def option(kind: type[Option], value: str) -> Option:
    """The member of this name; `P2LError` with the legal ones."""
    try:
        return kind(str(value).lower().replace("-", "_"))
    except ValueError:
        raise P2LError(f"unknown {kind.__name__.lower()} {value!r}; known: {', '.join(kind)}") from None


@dataclass(frozen=True)
class _Cells:
    """Right answers and questions, `(n_models, n_benchmarks)`, 0 where missing; chance `(n_benchmarks,)`."""

    right: np.ndarray
    total: np.ndarray
    chance: np.ndarray

    def corrected(self, accuracy: np.ndarray) -> np.ndarray:
        return (accuracy - self.chance) / (1.0 - self.chance)


def goodness(
    results: Results,
    tree: Tree | None = None,
    *,
    method: Method | str = Method.TREE,
    prior: Prior | str = Prior.TABLE,
    missing: Missing | str = Missing.IMPUTE,
    weighting: Weighting | str = Weighting.SPREAD,
    unstated_questions: float = 100.0,
    draws: int = 4000,
    seed: int = 0,
) -> NodeEstimates:
    """Goodness of every LLM at every node of a tree.

    Args:
        results: of the LLMs.
        tree: over the benchmarks; all alike under one root if not given.
        method: "tree", or "one_factor" (then of the root alone).
        prior: of the tree's cells: "table" or "jeffreys".
        missing: of the tree's cells: "impute" or "renormalise".
        weighting: "spread" or "plain".
        unstated_questions: of how many questions a published mean is taken to be where neither it nor the tree says.
        draws: from the posterior.
        seed: of the draws.

    Raises:
        ResultsError: the tree names a benchmark without results, or an LLM has no result in a domain.
        P2LError: an unknown option, or imputation is asked of Jeffreys' prior.

    Warns:
        P2LWarning: the sampler has not settled.
    """
    method, prior = option(Method, method), option(Prior, prior)
    missing, weighting = option(Missing, missing), option(Weighting, weighting)
    if draws < 100 or unstated_questions < 1:
        raise P2LError(f"at least 100 draws and 1 question are needed, not {draws} and {unstated_questions}")
    if prior is Prior.JEFFREYS and method is Method.ONE_FACTOR:
        raise P2LError("Jeffreys' prior has no factor: use prior='table' with method='one_factor'")
    if prior is Prior.JEFFREYS and missing is Missing.IMPUTE and np.isnan(results.means).any():
        raise P2LError("Jeffreys' prior says nothing of missing cells: use missing='renormalise' with it")
    tree = Tree.flat(results.benchmarks) if tree is None else tree
    tree.require(results.benchmarks)
    benchmarks = tree.leaves()
    columns = [results.benchmarks.index(name) for name in benchmarks]
    means, counts = results.means[:, columns], results.counts[:, columns]
    _require_coverage(results.models, tree, benchmarks, ~np.isnan(means), method)
    notes = _notes(results, tree, means, counts, method, missing, unstated_questions)
    cells = _cells(tree, benchmarks, means, counts, unstated_questions)
    rng = np.random.default_rng([seed, 1])
    fit = None if prior is Prior.JEFFREYS else fit_factor(cells.right, cells.total, draws=draws, seed=seed)
    if method is Method.ONE_FACTOR and fit is not None:
        accuracy = fit.expected
    else:
        accuracy = _accuracies(results, benchmarks, cells, fit, draws, rng)
    nodes = [tree.root] if method is Method.ONE_FACTOR else [name for name, _ in tree.walk()]
    weights = _weights(tree, nodes, benchmarks, cells.corrected(means), weighting)
    seen = cells.total > 0
    drop = missing is Missing.RENORMALISE and method is Method.TREE
    values = cells.corrected(accuracy)
    if method is Method.TREE:
        notes += _shift_notes(np.abs(values.mean(0) - cells.corrected(means))[seen], prior)
    logits = np.log(np.clip(accuracy, _TINY, 1 - _TINY)) - np.log1p(-np.clip(accuracy, _TINY, 1 - _TINY))
    plain = _weights(tree, nodes[:1], benchmarks, means, Weighting.PLAIN)
    return NodeEstimates.of_draws(
        results.models,
        tuple(nodes),
        _up(values, weights, seen if drop else None),
        tree=tree,
        method=str(method),
        weights=weights,
        observed=seen @ weights.T,
        logits=_up(logits, plain, seen if drop else None)[:, :, 0],
        notes=tuple(notes),
    )


def _accuracies(
    results: Results,
    benchmarks: list[str],
    cells: _Cells,
    fit: FactorDraws | None,
    draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """`(n_draws, n_models, n_benchmarks)`, luck on shared questions shared."""
    if fit is None:
        shape = (draws, *cells.right.shape)
        accuracy = rng.beta(cells.right + 0.5, cells.total - cells.right + 0.5, shape)
        prior_questions = np.ones(len(benchmarks))
    else:
        accuracy = fit.accuracies(cells.right, cells.total, rng)
        prior_questions = fit.concentration.mean(0)
    for b, name in enumerate(benchmarks):
        if name in results.questions and len(results.models) > 1:
            weight = cells.total[:, b] / (cells.total[:, b] + prior_questions[b])
            accuracy[:, :, b] = paired(accuracy[:, :, b], results.questions[name], weight, rng)
    return accuracy


def _cells(
    tree: Tree, benchmarks: list[str], means: np.ndarray, counts: np.ndarray, unstated_questions: float
) -> _Cells:
    stated = np.array([float(tree.questions.get(name, unstated_questions)) for name in benchmarks])
    total = np.where(np.isnan(means), 0.0, np.where(np.isnan(counts), stated, counts))
    chance = np.array([float(tree.chance.get(name, 0.0)) for name in benchmarks])
    return _Cells(np.nan_to_num(means) * total, total, chance)


def _weights(
    tree: Tree, nodes: list[str], benchmarks: list[str], scores: np.ndarray, weighting: Weighting
) -> np.ndarray:
    """`(n_nodes, n_benchmarks)`, rows of sum 1."""
    weights = np.zeros((len(nodes), len(benchmarks)))
    for row, node in zip(weights, nodes, strict=True):
        for leaf, share in tree.shares(node).items():
            row[benchmarks.index(leaf)] = share
    if weighting is Weighting.SPREAD and len(scores) > 1:
        known = ~np.isnan(scores)
        centre = np.nansum(scores, 0) / np.maximum(known.sum(0), 1)
        square = np.where(known, np.square(np.nan_to_num(scores) - centre), 0.0).sum(0)
        spread = np.sqrt(square / np.maximum(known.sum(0) - 1, 1))
        spread = np.maximum(spread, _LEAST_SPREAD * np.median(spread))
        weights /= np.where(spread > 0, spread, 1.0)
        weights /= weights.sum(1, keepdims=True)
    return weights


def _up(values: np.ndarray, weights: np.ndarray, seen: np.ndarray | None) -> np.ndarray:
    """`(n_draws, n_models, n_nodes)` weighted means; of the seen cells alone where `seen` is given (NaN if none)."""
    if seen is None:
        return values @ weights.T
    total = seen @ weights.T
    sums = np.where(seen, values, 0.0) @ weights.T
    return np.where(total > 0, sums / np.where(total > 0, total, 1.0), np.nan)


def _require_coverage(
    models: tuple[str, ...], tree: Tree, benchmarks: list[str], seen: np.ndarray, method: Method
) -> None:
    flat = not any(domain in tree.nodes for domain in tree.domains)  # its domains are benchmarks: cells may be missing
    for domain in (tree.root,) if flat or method is Method.ONE_FACTOR else tree.domains:
        columns = [benchmarks.index(leaf) for leaf in tree.leaves(domain)]
        for m in np.flatnonzero(~seen[:, columns].any(1)):
            raise ResultsError(
                f"{models[m]!r} has no result in {domain!r} ({', '.join(tree.leaves(domain))}); leave the LLM out "
                "(results.of_models), or ask for method='one_factor', which needs results anywhere"
            )


def _shift_notes(shifts: np.ndarray, prior: Prior) -> list[str]:
    """Of the distances between estimates and scores."""
    if shifts.max() < _NOTED_SHIFT:
        return []
    where = "what the other results make one expect" if prior is Prior.TABLE else "one half"
    return [
        f"where questions are few, estimates are drawn from the score towards {where}: on single benchmarks by "
        f"up to {100 * shifts.max():.0f} points"
    ]


def _notes(
    results: Results,
    tree: Tree,
    means: np.ndarray,
    counts: np.ndarray,
    method: Method,
    missing: Missing,
    unstated_questions: float,
) -> list[str]:
    notes = []
    unused = [name for name in results.benchmarks if name not in tree.leaves()]
    if unused:
        notes.append(f"not in the tree, and not used: {', '.join(unused)}")
    n_missing = int(np.isnan(means).sum())
    if n_missing:
        how = "the node's other benchmarks share their weight"
        if method is Method.ONE_FACTOR or missing is Missing.IMPUTE:
            how = "predicted from the LLM's other results and the others' there, with that uncertainty"
        verb = "is" if n_missing == 1 else "are"
        notes.append(f"{n_missing} of {means.size} cells {verb} missing (* marks what needs them): {how}")
    unstated = np.isnan(counts) & ~np.isnan(means)
    guessed = [b for b, name in enumerate(tree.leaves()) if unstated[:, b].any() and name not in tree.questions]
    if guessed:
        n = int(unstated[:, guessed].sum())
        notes.append(
            f"{counted(n, 'published mean')} without a number of questions: taken as {unstated_questions:g}; intervals "
            "are no better than that"
        )
    return notes
