"""Does a model stay put when a prompt changes and its question does not?

Every prompt is compared with changed copies of itself (`rewording.changes`): is the best LLM still the same, and within
a budget, is the same LLM called? A model that always names the same LLM is perfectly stable, so the routed score, the
number of LLMs that are best for some prompt, and what a shuffled choice would reach are reported beside it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import P2LError, did_you_mean
from p2l_sdk.evaluation.metrics.estimates import Estimate, clustered_mean
from p2l_sdk.evaluation.scores import evaluate_scores
from p2l_sdk.modeling.prompt_p2l import Prompt, user_turns
from p2l_sdk.p2l import P2L
from p2l_sdk.rewording.changes import CHANGES
from p2l_sdk.tabular import Tabular, estimates_of
from p2l_sdk.votes.votes import Scores

if TYPE_CHECKING:
    import matplotlib.axes

_CONSTANT = 0.98  # of the prompts with the same best LLM: then staying put says nothing
_ROUTED = ("routed_score", "best_single_score")


@dataclass(frozen=True, kw_only=True)
class Stability(Tabular):
    """How often one kind of change leaves the answer as it was.

    Attributes:
        best: share of the changed prompts whose best LLM is the same.
        route: within the budget, mean probability that the same LLM is called; None without a budget.
    """

    best: Estimate
    route: Estimate | None = None

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"How often {self.best.n:,} changed prompts keep their answer"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each share, "best" and with a budget "route": metric, value, standard_error and n."""
        return estimates_of({"best": self.best} if self.route is None else {"best": self.best, "route": self.route})

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw the shares.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        return pictures.draw_bars(self.rows(), "metric", "value", meaning="share that stays", title=self.caption, ax=ax)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"best": self.best.to_dict(), "route": None if self.route is None else self.route.to_dict()}


@dataclass(frozen=True, kw_only=True)
class Robustness(Tabular):
    """The result of `robustness`.

    Attributes:
        n_prompts: number of prompts.
        changes: name of a kind of change -> what it does; those that fit no prompt are left out.
        overall: over all changed prompts; its standard errors allow for the copies of a prompt being alike.
        by_chance: the share that stays, were the best LLMs of all prompts shuffled.
        best_llms: LLM -> share of the prompts whose best it is, the most frequent first.
        budget: USD per response, or None.
        routing: `routed_score` and `best_single_score` of the scores, if they were given.
        seed: of the changes.
        notes: remarks for the reader.
    """

    n_prompts: int
    changes: Mapping[str, Stability]
    overall: Stability
    by_chance: float
    best_llms: Mapping[str, float]
    budget: float | None
    routing: Mapping[str, Estimate] = field(default_factory=dict)
    seed: int = 0
    notes: tuple[str, ...] = ()

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"How often {self.n_prompts:,} prompts keep their best LLM when they are changed"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each kind of change, and for all: change, best (a share), best_error, n; with a budget
        also route and route_error."""
        found = []
        for name, part in {**self.changes, "all": self.overall}.items():
            row = {"change": name, "best": part.best.value, "best_error": part.best.standard_error, "n": part.best.n}
            if part.route is not None:
                row |= {"route": part.route.value, "route_error": part.route.standard_error}
            found.append(row)
        return found

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw for each kind of change the share of the prompts that keep their best LLM.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        meaning = f"share that keep their best LLM ({self.by_chance:.2f} by chance)"
        return pictures.draw_bars(
            self.rows(), "change", "best", meaning=meaning, error="best_error", title=self.caption, ax=ax
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "n_prompts": self.n_prompts,
            "seed": self.seed,
            "changes": {name: part.to_dict() for name, part in self.changes.items()},
            "overall": self.overall.to_dict(),
            "by_chance": self.by_chance,
            "n_best_llms": len(self.best_llms),
            "best_llms": dict(self.best_llms),
            "budget": self.budget,
            "routing": {name: estimate.to_dict() for name, estimate in self.routing.items()},
            "notes": list(self.notes),
        }


def robustness(
    p2l: P2L,
    prompts: Sequence[Prompt],
    *,
    budget: float | None = None,
    scores: Scores | None = None,
    changes: Sequence[str] | None = None,
    seed: int = 0,
) -> Robustness:
    """Measure whether the best LLM and the route stay put under changes that do not change the question.

    Args:
        p2l: the model.
        prompts: the prompts; of a conversation, the last turn is changed.
        budget: USD per response, for the route of each prompt alone; without one, only the best LLM is looked at.
        scores: scores of all LLMs, for the routed score beside the stability.
        changes: names of kinds of change; all of `rewording.changes.CHANGES` by default.
        seed: of the changes. Those of a prompt depend on nothing but it and the seed.

    Raises:
        P2LError: a kind of change is unknown, or there is no prompt that any of them fits.
        BudgetError: the budget is no number, or below the cost of the cheapest LLM.
        CostError: a budget is given, and no cost is known.
    """
    copies = _copies(prompts, tuple(CHANGES) if changes is None else tuple(changes), seed)
    if not copies:
        raise P2LError("none of these prompts can be changed without changing its question; give other prompts")
    before = _Answers.of(p2l, prompts, budget)
    parts, pooled = {}, []
    for name, (rows, texts) in copies.items():
        stays = _stays(before, rows, _Answers.of(p2l, texts, budget))
        parts[name] = _stability(stays, rows)
        pooled.append(stays)
    shares = np.bincount(before.best, minlength=len(p2l.models)) / len(before.best)
    best = {p2l.models[i]: float(shares[i]) for i in np.argsort(-shares, kind="stable") if shares[i]}
    routing = {} if scores is None else evaluate_scores(p2l, scores)
    return Robustness(
        n_prompts=len(prompts),
        changes=parts,
        overall=_stability(np.concatenate(pooled, 1), np.concatenate([rows for rows, _ in copies.values()])),
        by_chance=float(np.square(shares).sum()),
        best_llms=best,
        budget=budget,
        routing={name: routing[name] for name in _ROUTED if name in routing},
        seed=seed,
        notes=_notes(best),
    )


def _copies(prompts: Sequence[Prompt], names: Sequence[str], seed: int) -> dict[str, tuple[np.ndarray, list[Prompt]]]:
    """By kind of change: the numbers of the prompts that it fits, and these prompts changed."""
    found: dict[str, tuple[np.ndarray, list[Prompt]]] = {}
    for name in names:
        if name not in CHANGES:
            raise P2LError(f"unknown kind of change {name!r}; {did_you_mean(name, CHANGES)}")
        rows: list[int] = []
        texts: list[Prompt] = []
        for i, prompt in enumerate(prompts):
            *before, last = user_turns(prompt)
            new = CHANGES[name](last, random.Random(f"{seed}/{name}/{last}"))
            if new is not None:
                rows.append(i)
                texts.append(new if not before else [{"role": "user", "content": turn} for turn in (*before, new)])
        if rows:
            found[name] = np.array(rows), texts
    return found


@dataclass(frozen=True, eq=False)
class _Answers:
    """The place of the best LLM of each prompt, and with a budget, the probability with which each LLM is called."""

    best: np.ndarray
    routes: list[Mapping[str, float]] | None

    @classmethod
    def of(cls, p2l: P2L, prompts: Sequence[Prompt], budget: float | None) -> _Answers:
        scored = p2l.coefficients(prompts)
        best = scored.coefs.argmax(1)
        if budget is None:
            return cls(best, None)
        router, boards = p2l.router(), scored.leaderboards(p2l.models, p2l.spec.feedback)
        return cls(best, [router.route(board, budget).mixture for board in boards])


def _stays(before: _Answers, rows: np.ndarray, after: _Answers) -> np.ndarray:
    """`(1, n)` whether the best LLM stays; with a budget `(2, n)`, with the probability that the same LLM is called."""
    best = (before.best[rows] == after.best).astype(np.float64)
    if before.routes is None or after.routes is None:
        return best[None]
    # both draw with one random number, as well matched as can be: what differs of the mixtures is what changes
    same = [
        sum(min(probability, new.get(name, 0.0)) for name, probability in before.routes[row].items())
        for row, new in zip(rows, after.routes, strict=True)
    ]
    return np.stack([best, np.array(same)])


def _stability(stays: np.ndarray, rows: np.ndarray) -> Stability:
    means = [clustered_mean(row, np.ones(len(row)), rows) for row in stays]
    return Stability(best=means[0], route=means[1] if len(means) > 1 else None)


def _notes(best: Mapping[str, float]) -> tuple[str, ...]:
    name, share = next(iter(best.items()))
    if share < _CONSTANT:
        return ()
    of = "every prompt" if share == 1.0 else f"{share:.0%} of the prompts"
    return (f"{name} is the best LLM of {of}: a model that hardly looks at the prompt stays put whatever is asked",)
