"""`personal`: the leaderboard of one person's own prompts, and what it means for the bill.

A short history says little: its mean leaderboard is drawn to the overall one. How far, is empirical Bayes: the LLMs'
deviations from their overall ratings have the variance `t^2` beyond what the sampling of conversations brings
(`s^2 / n` of an LLM), and each deviation keeps the share `t^2 / (t^2 + s^2 / n)`. Where few conversations do not tell
`s^2`, it is taken as the mean over the LLMs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.analysis.prompt_map import centred
from p2l_sdk.analysis.report import POINTS
from p2l_sdk.errors import P2LError, PromptError
from p2l_sdk.leaderboards.leaderboard import Z_95
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.names import find_models
from p2l_sdk.p2l import P2L
from p2l_sdk.routing.allocation import JointFrontier
from p2l_sdk.routing.router import Router
from p2l_sdk.scorers.batches import score_in_batches
from p2l_sdk.scorers.scorer import EditableScorer
from p2l_sdk.tabular import Tabular, html_table

if TYPE_CHECKING:
    import matplotlib.axes

_FEW = 10  # conversations; fewer do not tell how much an LLM's ratings differ between them
_BUDGETS = 200
USUAL = 1000.0  # requests per month where nothing is known


@dataclass(frozen=True)
class Plan:
    """One way to use LLMs, and its bill.

    Attributes:
        what: in words.
        per_month: USD.
        score: the chance to be preferred to another LLM's answer, on these conversations.
    """

    what: str
    per_month: float
    score: float


@dataclass(frozen=True, eq=False, repr=False)
class Personal(Tabular):
    """The leaderboard of a person's conversations beside the overall one.

    Attributes:
        name: whose.
        models: names of the LLMs.
        overall: `(n_models,)` overall ratings in points around 0 (relative to the mean LLM).
        measured: `(n_models,)` mean ratings over the conversations.
        ratings, margins: `(n_models,)` those drawn to the overall ones, and half the width of their 95 % limits.
        kept: the share of the measured deviations that is kept, in [0, 1], on average.
        n_conversations: how many there were.
        per_month: requests per month that the plans are for.
        plans: what ways to use LLMs cost; empty if no costs are known.
    """

    name: str
    models: tuple[str, ...]
    overall: np.ndarray
    measured: np.ndarray
    ratings: np.ndarray
    margins: np.ndarray
    kept: float
    n_conversations: int
    per_month: float
    plans: tuple[Plan, ...]

    @property
    def order(self) -> np.ndarray:
        """`(n_models,)` indices from the best LLM for this person to the worst."""
        return np.argsort(-self.ratings, kind="stable")

    @property
    def best(self) -> str:
        """The best LLM for this person."""
        return self.models[int(self.order[0])]

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per LLM, the best first: rank, rank_overall, model, rating, low, high, overall, difference."""
        ranks = np.argsort(np.argsort(-self.overall, kind="stable"), kind="stable") + 1
        return [
            {
                "rank": place,
                "rank_overall": int(ranks[i]),
                "model": self.models[i],
                "rating": float(self.ratings[i]),
                "low": float(self.ratings[i] - self.margins[i]),
                "high": float(self.ratings[i] + self.margins[i]),
                "overall": float(self.overall[i]),
                "difference": float(self.ratings[i] - self.overall[i]),
            }
            for place, i in enumerate(self.order, start=1)
        ]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "name": self.name,
            "n_conversations": self.n_conversations,
            "kept": self.kept,
            "per_month": self.per_month,
            "plans": [vars(plan) for plan in self.plans],
            "leaderboard": self.rows(),
        }

    def plot(
        self, ax: matplotlib.axes.Axes | None = None, *, others: Sequence[Personal] = (), top: int = 12
    ) -> matplotlib.axes.Axes:
        """Draw the ratings beside the overall ones, and those of other people.

        Args:
            ax: where to draw; a new figure if not given.
            others: of the same model.
            top: how many of the best LLMs of each person are drawn.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        return _draw([self, *others], ax, top)

    @property
    def caption(self) -> str:
        """A one-line description."""
        n = self.n_conversations
        return f"{self.name}: {len(self.models)} LLMs on {n:,} conversation{'' if n == 1 else 's'}"

    def __repr__(self) -> str:
        lines = [f"{row['rating']:+6.0f}  {row['difference']:+5.0f}  {row['model']}" for row in self.rows()[:15]]
        head = "rating   more  LLM (rating points around the mean LLM; more than overall)"
        return "\n".join([self.caption, head, *lines])

    def _repr_html_(self) -> str:
        rows = self.rows()[:15]
        cells = [[str(r["rank"]), r["model"], f"{r['rating']:+.0f}", f"{r['difference']:+.0f}"] for r in rows]
        plans = [f"{plan.what}: ${plan.per_month:,.4g} per month" for plan in self.plans]
        return html_table(self.caption, ["rank", "LLM", "rating", "more than overall"], cells, plans)


def _draw(people: Sequence[Personal], ax: matplotlib.axes.Axes | None, top: int) -> matplotlib.axes.Axes:
    """Draw each person's ratings with their limits, and the overall ones as ticks; see `Personal.plot`."""
    from p2l_sdk import pictures

    looks = ((pictures.BLUE, "o"), (pictures.ORANGE, "s"), (pictures.BROWN, "D"), (pictures.INK, "^"))
    first = people[0]
    shown = {int(i) for person in people for i in np.argsort(-person.ratings, kind="stable")[:top]}
    rows = sorted(shown, key=lambda i: float(first.ratings[i]))
    ax = pictures.axes_of_size(ax, 7.5, 1.3 + 0.34 * len(rows))
    at = np.arange(len(rows))
    ax.scatter(first.overall[rows], at, marker="|", s=190, color=pictures.GREY, lw=2, label="overall", zorder=2)
    for k, person in enumerate(people):
        color, marker = looks[k % len(looks)]
        n, name = person.n_conversations, pictures.as_written(person.name)
        ax.errorbar(
            person.ratings[rows], at + (k - (len(people) - 1) / 2) * 0.26, xerr=person.margins[rows], fmt=marker,
            color=color, ms=5, capsize=2, lw=1.2, label=f"{name} ({n:,} conversation{'' if n == 1 else 's'})",
        )  # fmt: skip
    ax.set_yticks(at, pictures.llm_names([first.models[i] for i in rows]), fontsize=pictures.SMALL)
    ax.grid(axis="x", color="#eeeeee")
    ax.set_axisbelow(True)
    ax.set_xlabel("rating points above the mean LLM\n(400 points are odds of 10 to 1)")
    title = "Predicted ratings for each one's conversations\n(bars: 95 %), and for everybody's (overall)"
    ax.set_title(title, loc="left", fontsize=pictures.NORMAL)
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.4, -0.2), "ncols": min(len(people) + 1, 3)}
    ax.legend(frameon=False, fontsize=pictures.SMALL, **below)
    return ax


def personal(
    p2l: P2L,
    conversations: Sequence[Prompt],
    *,
    name: str = "you",
    models: Sequence[str] | None = None,
    per_month: float | None = None,
    overall: np.ndarray | None = None,
) -> Personal:
    """The leaderboard of a person's own prompts.

    With a few votes of that person, refine the model first: `personal(p2l.refine(votes), ...)`.

    Args:
        p2l: the model.
        conversations: each of them one prompt; see `read_history`.
        name: whose, for captions.
        models: the LLMs that the person may use; all by default.
        per_month: requests per month for the plans; 1,000 by default.
        overall: `(n_models,)` overall coefficients; by default the model's own, which not every model has.

    Raises:
        P2LError: there are no conversations, the model has no overall leaderboard, or per_month is not above 0.
        PromptError: a conversation is invalid.
        UnknownModelError: the model does not know one of the LLMs.
    """
    if per_month is not None and not 0.0 < per_month < np.inf:
        raise P2LError(f"there are {per_month} requests per month; give a number above 0")
    everything = overall_of(p2l) if overall is None else np.asarray(overall, dtype=np.float64)
    known = p2l.models if models is None else tuple(find_models(models, p2l.models, "the person's LLMs").values())
    columns = np.array([p2l.models.index(model) for model in known])
    if len(columns) < 2:
        raise P2LError("a leaderboard needs two LLMs or more")
    priced = [model for model in known if model in p2l.costs]
    router = p2l.router(models=priced) if len(priced) > 1 else None
    moments, parts = _Moments(len(columns)), list[np.ndarray]()
    for scored in score_in_batches(p2l._scorer, conversations):  # of a long history, all coefficients would be large
        coefs = centred(scored)[:, columns]
        moments.add(coefs - coefs.mean(1, keepdims=True))
        if router is not None:
            parts.append(router.scores(scored.coefs))
    if not moments.n:
        raise PromptError("there are no prompts; give at least one")
    base = everything[columns] - everything[columns].mean()
    ratings, margins, kept = _drawn(moments, base)
    own = [known.index(model) for model in priced]
    rate = USUAL if per_month is None else per_month
    return Personal(
        name=name,
        models=known,
        overall=POINTS * base,
        measured=POINTS * moments.mean,
        ratings=POINTS * ratings,
        margins=POINTS * margins,
        kept=kept,
        n_conversations=moments.n,
        per_month=rate,
        plans=() if router is None else tuple(_plans(router, parts, base[own], ratings[own], rate)),
    )


def overall_of(p2l: P2L) -> np.ndarray:
    """`(n_models,)` coefficients of the model's overall leaderboard, relative to the mean LLM: those of a prompt of
    which it knows nothing.

    Raises:
        P2LError: the model has none.
    """
    scorer = p2l._scorer
    if not isinstance(scorer, EditableScorer) or not (p2l.spec.kinds or p2l.spec.familiarity):
        raise P2LError(
            "this model has no overall leaderboard; give the prompts of other people, whose leaderboard takes its place"
        )
    bias = scorer.rows[:, -1].astype(np.float64)
    return np.asarray(bias - bias.mean())


class _Moments:
    """The mean and the spread of rows that come in batches.

    Attributes:
        n: how many there were.
        mean: `(width,)` over them.
    """

    def __init__(self, width: int) -> None:
        self.n, self.mean, self._squares = 0, np.zeros(width), np.zeros(width)

    def add(self, rows: np.ndarray) -> None:
        """Add `(n, width)` rows, one at least."""
        n, mean = len(rows), rows.mean(0)
        total, change = self.n + n, mean - self.mean
        self._squares += np.square(rows - mean).sum(0) + np.square(change) * (self.n * n / total)
        self.mean += change * (n / total)
        self.n = total

    @property
    def variances(self) -> np.ndarray:
        """`(width,)` of a single row, of two or more."""
        return np.asarray(self._squares / (self.n - 1))


def _drawn(moments: _Moments, overall: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The mean of coefficients drawn to the overall ones, its 95 % margins, and the share kept."""
    n, away = moments.n, moments.mean - overall
    if n == 1:
        noise = np.full_like(away, float(np.square(away).mean()))  # one conversation: half of what it says
    else:
        variances = moments.variances
        noise = (variances if n >= _FEW else np.full_like(variances, variances.mean())) / n
    spread = max(0.0, float((np.square(away) - noise).mean())) if n > 1 else float(noise[0])
    kept = spread / np.maximum(spread + noise, 1e-300) if spread > 0.0 else np.zeros_like(noise)
    return overall + kept * away, Z_95 * np.sqrt(kept * noise), float(kept.mean())


def _plans(
    router: Router, parts: list[np.ndarray], overall: np.ndarray, ratings: np.ndarray, per_month: float
) -> list[Plan]:
    """What always calling one LLM costs, and what a router costs that is as good.

    Args:
        router: for the LLMs that have a cost.
        parts: batches of the router's scores, `(n, n_models)`; the list is emptied.
        overall, ratings: `(n_models,)` of these LLMs.
        per_month: requests.
    """
    scores = np.concatenate(parts)
    parts.clear()
    prices, names, means = router.prices, router.names, scores.mean(0)
    joint = JointFrontier(scores, prices)
    allocations = [joint.at(budget) for budget in np.linspace(prices.min(), prices.max(), _BUDGETS).tolist()]
    costs, values = (np.array([a.mean(found) for a in allocations]) for found in (prices, scores))

    def always(k: int, why: str) -> Plan:
        return Plan(f"always {names[k]}, {why}", per_month * prices[k], float(means[k]))

    first, own = int(np.argmax(overall)), int(np.argmax(ratings))
    plans = [always(first, "the best overall")]
    if own != first:
        plans.append(always(own, "the best for you"))
    good = np.flatnonzero(values >= plans[0].score - 1e-12)
    if len(good):
        k = int(good[0])
        plans.append(Plan(f"the router, as good as {names[first]}", per_month * float(costs[k]), float(values[k])))
    k = int(np.argmax(values))
    plans.append(Plan("the router without a budget", per_month * float(costs[k]), float(values[k])))
    return plans
