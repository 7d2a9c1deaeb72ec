"""`Strengths`: what was found, as one table of all LLMs, as a report on one, and as a comparison of two."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.names import find_model, places
from p2l_sdk.tabular import Tabular, html_table

if TYPE_CHECKING:
    import matplotlib.axes

POINTS = 400.0 / math.log(10.0)  # rating points of a logit
LEAST = 60.0  # rating points worth telling, odds of 7 to 5: what a check with fewer prompts would show too


@dataclass(frozen=True)
class Cluster:
    """Prompts that are about the same.

    Attributes:
        name: from its terms, or from the LLM that was asked for one.
        terms: the most distinctive first.
        n_prompts: how many prompts are in it.
        stability: how surely it is found again in half of the prompts, in [0, 1]; see `clusters.stability`.
        examples: texts of the prompts nearest to its middle.
    """

    name: str
    terms: tuple[str, ...]
    n_prompts: int
    stability: float
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """One LLM in one cluster.

    Attributes:
        cluster: where.
        deviation: rating points that the LLM stands above (or below) its overall rating.
        low, high: limits of the deviation; see `Strengths.level`.
        rank: of the LLM in this cluster.
        rank_overall: of the LLM over all prompts.
        instead: the LLM with the highest rating in this cluster that costs no more; None if that is the LLM itself, or
            a cost is not known.
        gain: rating points that it is ahead there.
        best: the LLM with the highest rating in this cluster, whatever it costs.
    """

    cluster: Cluster
    deviation: float
    low: float
    high: float
    rank: int
    rank_overall: int
    instead: str | None
    gain: float
    best: str


@dataclass(frozen=True, eq=False, repr=False)
class Strengths(Tabular):
    """Clusters of prompts, and how far every LLM stands above or below its overall rating in each.

    Attributes:
        models: names of the LLMs.
        overall: `(n_models,)` mean ratings over all prompts, in points around 0 (relative to the mean LLM).
        clusters: the largest first; none if the leaderboards of held-out prompts do not depend on them.
        deviations, margins: `(n_clusters, n_models)` rating points, and half the width of their limits.
        asked: the LLMs that the test covers.
        costs: USD per response, as far as they are known.
        n_prompts: how many different prompts there were.
        n_repeated: how many more there were, which repeat one of these (as in a table of votes) and do not count.
        level: of the limits: the chance that all of them hold together, where the prompts are a random sample and the
            model is right; of its own error for a group of like prompts, each allows for as much as `level` of such
            errors are. Of measured deviations: the chance of each that it holds what the votes on an eighth as many
            further prompts measure; none is so narrow that the search as a whole finds more by chance than it may.
        measured: whether the deviations are what votes on the prompts measured, not what the model expects.
        own_error: whether the model knows its own error, so that the limits include it.
        least: rating points below which a deviation is not worth telling.
        explained: for 1, 2, ... clusters the share of the variance among held-out leaderboards that they explain.
        assign: gives any prompts the clusters that they belong to, by their place in `clusters`; all are 0 if there are
            none.
    """

    models: tuple[str, ...]
    overall: np.ndarray
    clusters: tuple[Cluster, ...]
    deviations: np.ndarray
    margins: np.ndarray
    asked: tuple[str, ...]
    costs: Mapping[str, float]
    n_prompts: int
    n_repeated: int
    level: float
    measured: bool
    own_error: bool
    least: float
    explained: tuple[float, ...]
    assign: Callable[[Iterable[Prompt]], np.ndarray]

    @property
    def found(self) -> np.ndarray:
        """`(n_clusters, n_models)` which deviations are beyond what chance brings and worth telling; of the LLMs asked
        about."""
        size = np.abs(self.deviations)
        return np.asarray((size > self.margins) & (size >= self.least) & np.isin(self.models, self.asked))

    def of(self, llm: str) -> list[Finding]:
        """What was found about one LLM: its strengths and weaknesses, the largest deviation first, strengths on top.

        Raises:
            UnknownModelError: the model does not know the LLM, or it was not asked about.
        """
        column = self.models.index(find_model(llm, self.asked, "strengths"))
        return sorted(
            (self._finding(int(k), column) for k in np.flatnonzero(self.found[:, column])),
            key=lambda finding: -finding.deviation,
        )

    def compare(self, a: str, b: str) -> list[tuple[Cluster, float]]:
        """By how many rating points a is ahead of b in each cluster, the largest lead first."""
        first, second = (self.models.index(find_model(name, self.models, "the comparison")) for name in (a, b))
        ahead = self.ratings[:, first] - self.ratings[:, second]
        return sorted(zip(self.clusters, ahead.tolist(), strict=True), key=lambda pair: -pair[1])

    @property
    def ratings(self) -> np.ndarray:
        """`(n_clusters, n_models)` mean ratings in each cluster, relative to the mean LLM."""
        return self.overall + self.deviations

    def _finding(self, k: int, column: int) -> Finding:
        ratings, deviation, margin = self.ratings[k], self.deviations[k, column], self.margins[k, column]
        own = self.costs.get(self.models[column])
        no_dearer = [
            i for i, name in enumerate(self.models) if own is not None and self.costs.get(name, math.inf) <= own
        ]
        instead = max(no_dearer, key=lambda i: ratings[i], default=column)
        return Finding(
            self.clusters[k],
            float(deviation),
            float(deviation - margin),
            float(deviation + margin),
            1 + int((ratings > ratings[column]).sum()),
            1 + int((self.overall > self.overall[column]).sum()),
            None if instead == column else self.models[instead],
            float(ratings[instead] - ratings[column]),
            self.models[int(np.argmax(ratings))],
        )

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each cluster and LLM asked about: cluster, n_prompts, stability, model, rating, deviation,
        low, high, found."""
        columns = [places(self.models)[name] for name in self.asked]
        return [
            {
                "cluster": cluster.name,
                "n_prompts": cluster.n_prompts,
                "stability": cluster.stability,
                "model": self.models[i],
                "rating": float(self.ratings[k, i]),
                "deviation": float(self.deviations[k, i]),
                "low": float(self.deviations[k, i] - self.margins[k, i]),
                "high": float(self.deviations[k, i] + self.margins[k, i]),
                "found": bool(self.found[k, i]),
            }
            for k, cluster in enumerate(self.clusters)
            for i in columns
        ]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "n_prompts": self.n_prompts,
            "n_repeated": self.n_repeated,
            "level": self.level,
            "measured": self.measured,
            "own_error": self.own_error,
            "least": self.least,
            "explained": list(self.explained),
            "clusters": [
                {**vars(cluster), "terms": list(cluster.terms), "examples": list(cluster.examples)}
                for cluster in self.clusters
            ],
            "overall": dict(zip(self.models, self.overall.tolist(), strict=True)),
            "rows": self.rows(),
        }

    def plot(self, ax: matplotlib.axes.Axes | None = None, *, llms: int = 15) -> matplotlib.axes.Axes:
        """Draw the deviations as a map of clusters and LLMs; what is not beyond chance is left white.

        Args:
            ax: where to draw; a new figure if not given.
            llms: how many LLMs are drawn: of those asked about, the ones of which most is told, then the best.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures
        from p2l_sdk.analysis.heat_map import draw

        asked = [places(self.models)[name] for name in self.asked]
        telling = self.found.sum(0) if len(asked) > llms else np.zeros(len(self.models))
        drawn = sorted(asked, key=lambda i: (-telling[i], -self.overall[i]))[:llms]
        columns = sorted(drawn, key=lambda i: -self.overall[i])
        values = np.where(self.found, self.deviations, np.nan)[:, columns]
        groups = [(cluster.name, cluster.n_prompts) for cluster in self.clusters]
        ax = draw(values, groups, [self.models[i] for i in columns], ax)
        small = f"less than {self.least:.0f} points,\nor " if self.least else ""
        error = (
            f"not sure to show again\nin a check on an eighth as many prompts ({self.level:.0%})"
            if self.measured
            else f"within the limits of error ({self.level:.0%}, for the whole search)"
        )
        white = f"columns: the best LLM overall first; white: {small}{error}"
        ax.set_title(f"{self.caption}\n{white}", loc="left", fontsize=pictures.SMALL)
        return ax

    @property
    def caption(self) -> str:
        """A one-line description."""
        if not self.clusters:
            return f"No clusters of these {self.counted} have leaderboards of their own"
        llms = f"{len(self.asked)} LLM{'' if len(self.asked) == 1 else 's'}"
        how = "measured by votes" if self.measured else "as the model expects"
        return f"{len(self.clusters)} clusters of {self.counted}, and {llms} in them, {how}"

    @property
    def counted(self) -> str:
        """The prompts, in words."""
        if not self.n_repeated:
            return f"{self.n_prompts:,} prompts"
        return f"{self.n_prompts:,} different prompts (of {self.n_prompts + self.n_repeated:,})"

    def __repr__(self) -> str:
        lines = [self.caption]
        for k, cluster in enumerate(self.clusters):
            marked = [(self.deviations[k, i], self.models[i]) for i in np.flatnonzero(self.found[k])]
            marked.sort(key=lambda pair: -abs(pair[0]))
            said = ", ".join(f"{name} {deviation:+.0f}" for deviation, name in marked[:4]) or "as overall"
            lines.append(f"{cluster.n_prompts:>8,}  {cluster.name}: {said}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        cells = []
        for k, cluster in enumerate(self.clusters):
            marked = sorted(np.flatnonzero(self.found[k]), key=lambda i: -abs(self.deviations[k, i]))[:6]
            told = ", ".join(f"{self.models[i]} {self.deviations[k, i]:+.0f}" for i in marked)
            cells.append([cluster.name, f"{cluster.n_prompts:,}", told])
        meaning = "rating points above (+) or below (-) the LLM's own"
        return html_table(self.caption, ["cluster", "prompts", meaning], cells)
