"""`NodeEstimates`, the result of `goodness`: estimates for every LLM at every node of a tree, from posterior draws."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import MissingExtraError, ResultsError, require_known
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.leaderboard_p2l import ranks
from p2l_sdk.mpg.tree import Tree
from p2l_sdk.tabular import Tabular, html_table

if TYPE_CHECKING:
    import matplotlib.axes
    import pandas

_LIMITS = (0.025, 0.975)
_WHOLE = 1.0 - 1e-9  # 1 up to rounding


def plural(n: int, noun: str) -> str:
    """The number with its noun: "1 LLM", "2 LLMs"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


@dataclass(frozen=True, eq=False, repr=False)
class NodeEstimates(Tabular):
    """Goodness of every LLM at every node.

    Attributes:
        models: names of the LLMs.
        nodes: names of the nodes, the root first, each parent before its children.
        draws: `(n_draws, n_models, n_nodes)` posterior draws; 1 is every question right, 0 no better than chance.
        means: `(n_models, n_nodes)`.
        intervals: `(n_models, n_nodes, 2)` 95 % limits.
        ranks: `(n_models, n_nodes)` ranks of the means, 1 is best.
        rank_intervals: `(n_models, n_nodes, 2)` 95 % limits.
        best_probabilities: `(n_models, n_nodes)` probability of being the best of these LLMs.
        weights: `(n_nodes, n_benchmarks)` weight of each benchmark at a node, rows sum to 1; columns in the tree's
            order (`tree.leaves()`).
        observed: `(n_models, n_nodes)` share of the node's weight that rests on results, in [0, 1].
        logits: `(n_draws, n_models)` mean log-odds of a right answer over the root's benchmarks.
        tree: the tree of the nodes.
        method: "tree" or "one_factor".
        notes: what a reader has to know, one sentence each.
    """

    models: tuple[str, ...]
    nodes: tuple[str, ...]
    draws: np.ndarray
    means: np.ndarray
    intervals: np.ndarray
    ranks: np.ndarray
    rank_intervals: np.ndarray
    best_probabilities: np.ndarray
    weights: np.ndarray
    observed: np.ndarray
    logits: np.ndarray
    tree: Tree
    method: str
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def of_draws(
        cls,
        models: tuple[str, ...],
        nodes: tuple[str, ...],
        draws: np.ndarray,
        *,
        tree: Tree,
        method: str,
        weights: np.ndarray,
        observed: np.ndarray,
        logits: np.ndarray,
        notes: tuple[str, ...] = (),
    ) -> NodeEstimates:
        """Estimates from draws `(n_draws, n_models, n_nodes)`; NaN where an LLM has no results at a node. The other
        arguments are the attributes of that name."""
        means = draws.mean(0)
        shape = (*means.shape, 2)
        intervals, rank_intervals = np.empty(shape), np.full(shape, np.nan)
        placed, best = np.full(means.shape, np.nan), np.full(means.shape, np.nan)
        for node in range(len(nodes)):
            intervals[:, node] = np.quantile(draws[:, :, node], _LIMITS, axis=0).T
            known = np.flatnonzero(~np.isnan(means[:, node]))
            order = np.argsort(-draws[:, known, node], 1)
            places = np.argsort(order, 1) + 1
            placed[known, node] = ranks(means[known, node])
            limits = np.quantile(places, _LIMITS, axis=0, method="inverted_cdf")
            rank_intervals[known, node] = limits.T
            best[known, node] = (places == 1).mean(0)
        return cls(
            models, nodes, draws, means, intervals, placed, rank_intervals, best,
            weights, observed, logits, tree, method, notes,
        )  # fmt: skip

    @property
    def root(self) -> str:
        """The name of the root."""
        return self.nodes[0]

    @property
    def ranking(self) -> list[str]:
        """Names of the LLMs from best to worst at the root."""
        return [row["model"] for row in self.rows()]

    @property
    def partly(self) -> np.ndarray:
        """`(n_models, n_nodes)` whether part of the node's weight does not rest on results."""
        return self.observed < _WHOLE

    def at(self, node: str | None = None) -> int:
        """The index of a node in `nodes`, by default the root's. Raises `ResultsError` for an unknown node."""
        if node is None:
            return 0
        if node not in self.nodes:
            raise ResultsError(f"there is no node {node!r}; known: {', '.join(self.nodes)}")
        return self.nodes.index(node)

    def values(self, node: str | None = None) -> dict[str, float]:
        """LLM -> mean Goodness at a node."""
        return dict(zip(self.models, self.means[:, self.at(node)].tolist(), strict=True))

    def rows(self, node: str | None = None) -> list[dict[str, Any]]:
        """One dictionary per LLM, best first: rank, rank_low, rank_high, model, goodness, low, high, best (probability
        of being the best), observed. LLMs without an estimate at the node are absent."""
        at = self.at(node)
        means = self.means[:, at]
        table = []
        for m in np.argsort(-np.where(np.isnan(means), -np.inf, means), kind="stable"):
            if np.isnan(means[m]):
                continue
            low, high = self.rank_intervals[m, at]
            table.append(
                {
                    "rank": int(self.ranks[m, at]),
                    "rank_low": int(low),
                    "rank_high": int(high),
                    "model": self.models[m],
                    "goodness": float(means[m]),
                    "low": float(self.intervals[m, at, 0]),
                    "high": float(self.intervals[m, at, 1]),
                    "best": float(self.best_probabilities[m, at]),
                    "observed": float(self.observed[m, at]),
                }
            )
        return table

    def better(self, a: str, b: str, node: str | None = None) -> float:
        """The probability that LLM a is better than b at a node."""
        require_known([a, b], self.models, "the question")
        at = self.at(node)
        first, second = (self.draws[:, self.models.index(name), at] for name in (a, b))
        return float((first > second).mean() + 0.5 * (first == second).mean())

    def leaderboard(self) -> Leaderboard:
        """A leaderboard without prompts: mean log-odds of a right answer as Bradley-Terry coefficients, in logits.

        Coefficients and intervals are relative to the mean of all LLMs.
        """
        relative = self.logits - self.logits.mean(1, keepdims=True)
        limits = np.quantile(relative, _LIMITS, axis=0).T
        return Leaderboard(self.models, relative.mean(0), Feedback.BT, n_prompts=0, intervals=limits)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: method, tree, notes and the rows of every node."""
        depth = dict(self.tree.walk())
        nodes = [{"node": name, "depth": depth[name], "rows": self.rows(name)} for name in self.nodes]
        return {"method": self.method, "tree": self.tree.name, "notes": list(self.notes), "nodes": nodes}

    def to_pandas(self) -> pandas.DataFrame:
        """The rows of all nodes as a data frame with a column `node` (needs pandas)."""
        try:
            import pandas
        except ImportError:
            raise MissingExtraError("to_pandas", "pandas", "data") from None
        return pandas.DataFrame([{"node": node, **row} for node in self.nodes for row in self.rows(node)])

    def plot(self, ax: matplotlib.axes.Axes | None = None, *, node: str | None = None) -> matplotlib.axes.Axes:
        """Draw the Goodness of the LLMs at a node.

        Args:
            ax: where to draw; a new figure if not given.
            node: its name; the root if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        title = self.caption if node is None else f"{self.caption}: {node}"
        meaning = "Goodness: 1 is every question right, 0 no better than chance"
        return pictures.draw_bars(self.rows(node), "model", "goodness", meaning=meaning, title=title, ax=ax)

    def cells(self, node: str | None = None) -> tuple[list[str], list[list[str]]]:
        """Header and rows of a table as text; * marks estimates that do not rest on results alone."""
        header = ["rank", "LLM", "Goodness", "95 % interval", "ranks", "best"]
        rows = []
        for row in self.rows(node):
            low, high = row["rank_low"], row["rank_high"]
            rows.append(
                [
                    str(row["rank"]),
                    row["model"],
                    f"{'*' * (row['observed'] < _WHOLE)}{100 * row['goodness']:.1f}",
                    f"{100 * row['low']:.1f} to {100 * row['high']:.1f}",
                    f"{low} to {high}" if low < high else str(low),
                    "<1%" if 0 < row["best"] < 0.005 else f"{row['best']:.0%}",
                ]
            )
        return header, rows

    @property
    def caption(self) -> str:
        """One line that describes the estimates."""
        what = self.root if self.root.casefold() == "goodness" else f"Goodness ({self.root})"
        llms, benchmarks = plural(len(self.models), "LLM"), plural(len(self.tree.leaves()), "benchmark")
        return f"{what} of {llms} on {benchmarks} ({self.method.replace('_', '-')})"

    def __repr__(self) -> str:
        header, rows = self.cells()
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            "  ".join(t.ljust(w) if i == 1 else t.rjust(w) for i, (t, w) in enumerate(zip(row, widths, strict=True)))
            for row in [header, *rows]
        ]
        return "\n".join([self.caption, *(line.rstrip() for line in lines), *self.notes])

    def _repr_html_(self) -> str:
        return html_table(self.caption, *self.cells(), self.notes)
