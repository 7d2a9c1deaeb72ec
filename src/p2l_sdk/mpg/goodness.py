"""Goodness: one number, with its uncertainty, for how good an LLM is, from its results on a tree of benchmarks.

    1. Draws of the true accuracy of every LLM on every benchmark, from a beta-binomial posterior (`factor`).
    2. Chance is subtracted: (p - c) / (1 - c). This may be negative; cutting at 0 would favour LLMs below chance.
    3. Up the tree: a node is the weighted mean of its benchmarks, draw by draw. The tree's weights are divided by the
       spread of the LLMs' scores on the benchmark, so that a nearly solved or nearly hopeless one moves the order as
       much as any other ("spread"; "plain" omits this). More questions make a benchmark more certain, but give it no
       more weight.
    4. From the draws: means, 95 % intervals, ranks with intervals, the probability of being the best.

"one_factor" replaces step 1 by what the LLM's ability alone predicts: all benchmarks measure one thing, and each counts
as much as it says about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from p2l_sdk.errors import P2LError, ResultsError, member
from p2l_sdk.mpg.factor import FactorDraws, fit_factor
from p2l_sdk.mpg.node_estimates import NodeEstimates, plural
from p2l_sdk.mpg.pairing import paired
from p2l_sdk.mpg.results import Results
from p2l_sdk.mpg.tree import Tree

_LEAST_SPREAD = 0.25  # times the median spread: a benchmark on which all LLMs score alike must not dominate
_NOTED_SHIFT = 0.02  # estimates that differ less than this from the LLM's own score need no note
_MOST_DRAWS, _MOST_DRAWN = 100_000, 1 << 27  # draws; draws times cells of the table, each of which is a few numbers
_TINY = 1e-4  # accuracies are kept this far from 0 and 1 before taking logits


class Method(StrEnum):
    """Where the draws of a benchmark's accuracy come from."""

    TREE = "tree"  # its own results
    ONE_FACTOR = "one_factor"  # the LLM's ability

    @classmethod
    def _missing_(cls, value: object) -> Method | None:
        return cls.ONE_FACTOR if value == "one-factor" else None


class Prior(StrEnum):
    """The prior of an accuracy."""

    TABLE = "table"  # what the rest of the table predicts
    JEFFREYS = "jeffreys"  # beta(1/2, 1/2), each cell separately


class Missing(StrEnum):
    """What replaces a missing cell."""

    IMPUTE = "impute"  # draws of what the rest of the table predicts
    RENORMALISE = "renormalise"  # nothing: the node's other benchmarks share its weight


class Weighting(StrEnum):
    """The factor on the tree's weight of a benchmark."""

    SPREAD = "spread"  # 1 / spread of its scores
    PLAIN = "plain"  # 1


@dataclass(frozen=True)
class _Cells:
    """Right answers and questions `(n_models, n_benchmarks)`, 0 where missing; chance `(n_benchmarks,)`."""

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
        results: the LLMs' results.
        tree: tree over the benchmarks; if not given, all have equal weight under one root.
        method: "tree" or "one_factor" (the root only).
        prior: prior of the cells: "table" or "jeffreys".
        missing: treatment of missing cells: "impute" or "renormalise".
        weighting: "spread" or "plain".
        unstated_questions: number of questions assumed for a published mean where neither it nor the tree states one.
        draws: number of posterior draws, from 100 to 100,000; fewer of a table of more than a thousand results.
        seed: seed of the draws.

    Raises:
        ResultsError: the tree names a benchmark without results, or an LLM has no result in a domain.
        P2LError: an unknown option or a number out of range, or Jeffreys' prior with imputation or "one_factor".

    Warns:
        P2LWarning: the sampler has not converged.
    """
    method, prior = member(Method, "method", method), member(Prior, "prior", prior)
    missing, weighting = member(Missing, "missing", missing), member(Weighting, "weighting", weighting)
    if draws < 100 or unstated_questions < 1:
        raise P2LError(f"at least 100 draws and 1 question are needed, not {draws} and {unstated_questions}")
    most = min(_MOST_DRAWS, _MOST_DRAWN // max(results.means.size, 1))
    if draws > most:
        raise P2LError(f"at most {most:,} draws of so many results fit into time and memory, not {draws:,}: --draws")
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
    notes = [*results.notes, *_notes(results, tree, means, counts, method, missing, unstated_questions)]
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
    """`(n_draws, n_models, n_benchmarks)`, correlated between LLMs that answered the same questions."""
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
    """`(n_nodes, n_benchmarks)`, rows sum to 1."""
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
    """`(n_draws, n_models, n_nodes)` weighted means; with `seen`, over the seen cells only (NaN if there are none)."""
    if seen is None:
        return values @ weights.T
    total = seen @ weights.T
    sums = np.where(seen, values, 0.0) @ weights.T
    return np.where(total > 0, sums / np.where(total > 0, total, 1.0), np.nan)


def _require_coverage(
    models: tuple[str, ...], tree: Tree, benchmarks: list[str], seen: np.ndarray, method: Method
) -> None:
    flat = not any(domain in tree.nodes for domain in tree.domains)  # domains are benchmarks: cells may be missing
    for domain in (tree.root,) if flat or method is Method.ONE_FACTOR else tree.domains:
        columns = [benchmarks.index(leaf) for leaf in tree.leaves(domain)]
        for m in np.flatnonzero(~seen[:, columns].any(1)):
            raise ResultsError(
                f"{models[m]!r} has no result in {domain!r} ({', '.join(tree.leaves(domain))}); leave the LLM out "
                "(results.of_models), or ask for method='one_factor', which needs results anywhere"
            )


def _shift_notes(shifts: np.ndarray, prior: Prior) -> list[str]:
    """A note if some estimate is far from the LLM's own score; `shifts` are the distances."""
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
            f"{plural(n, 'published mean')} without a number of questions: taken as {unstated_questions:g}; intervals "
            "are no better than that"
        )
    return notes
