"""`Frontier`: what each budget buys, with the router and with single LLMs (as in Figure 5 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk import pictures
from p2l_sdk.errors import P2LError
from p2l_sdk.routing.mixture import check_budget
from p2l_sdk.routing.route import mixture_text, usd
from p2l_sdk.tabular import Tabular, html_table

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

BUDGET = "mean USD per response, as p2l route --cost takes it"
NAMED = 3  # LLMs that are named of those that the router calls
_SHOWN = 8  # budgets in text and in a notebook
_ORACLE = "oracle (knows the outcomes)"
_EACH, _STRICT = "router, same budget for each prompt", "router, no LLM above the budget"
_ABREAST = 3  # panels
_MOST_NAMES = 15  # LLMs that are all named in a picture
_LINE = 0.03  # height of a name, as a share of the scores
_FAR = 50  # how many times as dear as the cheapest the dearest LLM is where the axis is one of magnitudes
_STYLES = ("-", "--", "-.", ":")
_COLOURS = (pictures.BLUE, "#2e7d32", "#6a4c93", "#b5541c")


def budget_text(budget: float) -> str:
    """A budget as `p2l route --cost` and `P2L.route` take it, of a few digits."""
    return usd(float(f"{budget:.4g}"))


@dataclass(frozen=True, eq=False, repr=False)
class Frontier(Tabular):
    """Mean cost and mean score over a set of prompts, for a range of budgets.

    Attributes:
        budgets: `(n_budgets,)` USD per response.
        router_costs, router_scores: `(n_budgets,)`, with one mean budget for all prompts.
        router_shares: `(n_budgets, n_models)` the share of the prompts for which the router calls each LLM.
        prompt_costs, prompt_scores: `(n_budgets,)`, with the same budget for each prompt.
        strict_costs, strict_scores: `(n_budgets,)`, with the best LLM for each prompt that costs no more.
        models: names of the LLMs.
        model_costs, model_scores: `(n_models,)`, when always calling that LLM.
        measured: whether the scores are true outcomes rather than the model's expectation.
        objective: what the router maximises.
        n_prompts: number of prompts.
        oracle_scores: `(n_budgets,)` of a router with one mean budget that knows the true outcomes; None if these are
            not known. No router can do better.
        limits: "router", "prompt", "strict" (`(n_budgets, 2)`) and "models" (`(n_models, 2)`) -> 95 % limits of the
            scores: what other prompts like these would give, by a bootstrap over prompts, for each of which the best
            allocation is found anew. Empty for a single prompt.
    """

    budgets: np.ndarray
    router_costs: np.ndarray
    router_scores: np.ndarray
    prompt_costs: np.ndarray
    prompt_scores: np.ndarray
    router_shares: np.ndarray
    strict_costs: np.ndarray
    strict_scores: np.ndarray
    models: tuple[str, ...]
    model_costs: np.ndarray
    model_scores: np.ndarray
    measured: bool
    objective: str
    n_prompts: int
    oracle_scores: np.ndarray | None = None
    limits: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def what(self) -> str:
        """What a score is."""
        return "measured score" if self.measured else f"expected {self.objective}".replace("_", " ")

    @property
    def caption(self) -> str:
        """A one-line description."""
        prompts = f"{self.n_prompts:,} prompt{'' if self.n_prompts == 1 else 's'}"
        return f"What a budget buys: {len(self.models)} LLMs on {prompts}, {self.what}"

    def best_single(self, budget: float) -> int:
        """The place of the LLM with the highest score that costs no more than the budget; BudgetError if none does."""
        check_budget(float(self.model_costs.min()), budget)
        affordable = np.flatnonzero(self.model_costs <= budget)
        return int(affordable[self.model_scores[affordable].argmax()])

    def calls(self, place: int) -> dict[str, float]:
        """Whom the router calls within a budget, by its place among them: LLM -> share of the prompts, the highest
        first."""
        shares = self.router_shares[place]
        return {self.models[i]: float(shares[i]) for i in np.argsort(-shares, kind="stable") if shares[i] > 0.0}

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each budget: budget, cost and router, low and high (its limits), prompt, strict, oracle if
        known, best_single and single, the LLM that is best alone within this budget and its score, and calls, as the
        method has it."""
        found = []
        for i, budget in enumerate(self.budgets.tolist()):
            best = self.best_single(budget)
            row = {"budget": budget, "cost": float(self.router_costs[i]), "router": float(self.router_scores[i])}
            if self.limits:
                row |= dict(zip(("low", "high"), self.limits["router"][i].tolist(), strict=True))
            row |= {"prompt": float(self.prompt_scores[i]), "strict": float(self.strict_scores[i])}
            if self.oracle_scores is not None:
                row["oracle"] = float(self.oracle_scores[i])
            row |= {"best_single": self.models[best], "single": float(self.model_scores[best])}
            found.append({**row, "calls": self.calls(i)})
        return found

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        arrays = (
            "budgets", "router_costs", "router_scores", "prompt_costs", "prompt_scores", "strict_costs",
            "strict_scores",
        )  # fmt: skip
        models = zip(self.models, self.model_costs.tolist(), self.model_scores.tolist(), strict=True)
        return {
            **{name: getattr(self, name).tolist() for name in arrays},
            **({} if self.oracle_scores is None else {"oracle_scores": self.oracle_scores.tolist()}),
            "calls": [self.calls(i) for i in range(len(self.budgets))],
            "models": [{"model": name, "cost": cost, "score": score} for name, cost, score in models],
            "limits": {name: values.tolist() for name, values in self.limits.items()},
            "measured": self.measured,
            "objective": str(self.objective),
            "n_prompts": self.n_prompts,
        }

    def plot(
        self, ax: matplotlib.axes.Axes | None = None, *, others: Mapping[str, Frontier] | None = None, name: str = ""
    ) -> matplotlib.axes.Axes:
        """Draw the router's score against its mean cost with its limits, and the single LLMs as points. Of many LLMs,
        only those are named that no other one beats in cost and score, as far as there is room.

        Args:
            ax: where to draw; a new figure if not given.
            others: name -> measured frontier of another router on the same prompts; of each, one line is drawn.
            name: of this router, beside others.

        Raises:
            MissingExtraError: matplotlib is not installed.
            P2LError: scores of other routers are not measured, or on other prompts.
        """
        for key, other in (others or {}).items():
            if not (self.measured and other.measured):
                raise P2LError(
                    f"{key!r}: two routers compare on true scores (outcomes=...); what each expects of itself does not"
                )
            if other.n_prompts != self.n_prompts:
                raise P2LError(f"{key!r} was measured on {other.n_prompts:,} prompts, not on the {self.n_prompts:,}")
        return _draw(self, others or {}, name, ax)

    def __repr__(self) -> str:
        rows = self._few()
        lines = [f"{self.caption} (budget: {BUDGET})"]
        lines += [
            f"  {budget_text(row['budget'])}: router {row['router']:.1%}, {row['best_single']} alone "
            f"{row['single']:.1%}; it calls {mixture_text(row['calls'], NAMED)}"
            for row in rows
        ]
        more = len(self.budgets) - len(rows)
        return "\n".join([*lines, *([f"  ... and {more} more budgets: rows() and to_pandas()"] if more else [])])

    def _few(self) -> list[dict[str, Any]]:
        """The rows of a few budgets, the first and the last among them."""
        rows = self.rows()
        return [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, _SHOWN).round().astype(int))]

    def _repr_html_(self) -> str:
        head = [
            "budget, $ per response",
            "$ per 1k",
            "spent",
            "router",
            *(["95 %"] if self.limits else []),
            "per prompt",
            "strict",
        ]
        head += [*(["oracle"] if self.oracle_scores is not None else []), "best single LLM", "alone"]
        head += ["the router calls"]
        body = []
        for row in self._few():
            cells = [
                budget_text(row["budget"]),
                f"{1000 * row['budget']:.4g}",
                f"{1000 * row['cost']:.4g}",
                f"{row['router']:.1%}",
            ]
            cells += [f"{row['low']:.1%} to {row['high']:.1%}"] if "low" in row else []
            cells += [f"{row['prompt']:.1%}", f"{row['strict']:.1%}"]
            cells += [f"{row['oracle']:.1%}"] if "oracle" in row else []
            cells += [row["best_single"], f"{row['single']:.1%}", mixture_text(row["calls"], NAMED)]
            body.append(cells)
        return html_table(self.caption, head, body)


# --- the picture -----------------------------------------------------------------------------------------------------


def _draw(
    found: Frontier, others: Mapping[str, Frontier], name: str, ax: matplotlib.axes.Axes | None
) -> matplotlib.axes.Axes:
    """Draw a frontier, and one line of each other one; see `Frontier.plot`."""
    ax = pictures.axes_of_size(ax, 7.5, 5.2)
    _set_scale(ax, found)
    _draw_router(ax, found, f"{pictures.as_written(name)}: one mean budget" if name else "router, one mean budget", 0)
    if others:
        for j, (label, other) in enumerate(others.items(), 1):
            _draw_router(ax, other, f"{pictures.as_written(label)}: one mean budget", j)
    else:
        _draw_line(ax, found.prompt_costs, found.prompt_scores, _EACH, "--", pictures.GREY_BLUE)
        _draw_line(ax, found.strict_costs, found.strict_scores, _STRICT, (0, (1, 1)), pictures.INK)
    if found.oracle_scores is not None:
        _draw_line(ax, found.budgets, found.oracle_scores, _ORACLE, (0, (6, 2, 1, 2, 1, 2)), pictures.GREY)
    bars = _draw_llms(ax, found)
    ax.set_xlabel(f"mean cost, USD per 1,000 responses{' (log scale)' if ax.get_xscale() == 'log' else ''}")
    ax.set_ylabel(found.what)
    few = len(found.models) <= _MOST_NAMES
    band = f"; band{' and bars' if few else ''}: 95 %, over prompts" if found.limits else ""
    prompts = f"{found.n_prompts:,} prompt{'' if found.n_prompts == 1 else 's'}"
    ax.set_title(f"{len(found.models)} LLMs on {prompts}{band}", loc="left", fontsize=pictures.NORMAL)
    ax.figure.legend(
        *ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=pictures.SMALL
    )
    x, y = found.model_costs * 1000.0, found.model_scores
    pictures.name_points(ax, x, y, found.models, pictures.BROWN, _to_name(found), bars)
    return ax


def _draw_line(ax: Any, costs: np.ndarray, scores: np.ndarray, label: str, style: Any, colour: str) -> None:
    ax.plot(costs * 1000.0, scores, linestyle=style, color=colour, lw=1.6, label=label)


def _draw_router(ax: Any, found: Frontier, label: str, j: int) -> None:
    colour, style = _COLOURS[j % len(_COLOURS)], _STYLES[j % len(_STYLES)]
    x = found.router_costs * 1000.0
    if found.limits:
        ax.fill_between(x, *found.limits["router"].T, color=colour, alpha=0.15, lw=0)
    ax.plot(x, found.router_scores, linestyle=style, color=colour, lw=2.2, label=label)


def _draw_llms(ax: Any, found: Frontier) -> np.ndarray | None:
    """Draw the single LLMs, and return the `(n_models, 2)` ends of their error bars, if they have any."""
    x, y = found.model_costs * 1000.0, found.model_scores
    bars = found.limits["models"] if found.limits and len(x) <= _MOST_NAMES else None
    if bars is not None:
        ax.errorbar(x, y, np.abs(bars.T - y), fmt="none", ecolor=pictures.GREY, elinewidth=1.0, zorder=2)
    ax.scatter(x, y, s=26, color=pictures.ORANGE, edgecolor=pictures.INK, linewidth=0.5, zorder=3, label="single LLM")
    ax.margins(x=0.08, y=0.08)
    return bars


def _to_name(found: Frontier) -> list[int]:
    """The LLMs that are named in a picture."""
    if len(found.models) <= _MOST_NAMES:
        return list(range(len(found.models)))
    room = _LINE * float(np.ptp(found.model_scores))
    named: list[int] = []
    best = lowest = -np.inf
    for i in np.lexsort((-found.model_scores, found.model_costs)).tolist():  # the cheapest first
        best, better = max(best, found.model_scores[i]), found.model_scores[i] > best
        if better and found.model_scores[i] > lowest + room:
            named, lowest = [*named, i], found.model_scores[i]
    return named


def draw_panels(found: Mapping[str, Frontier]) -> matplotlib.figure.Figure:
    """Draw several frontiers, such as those of categories of prompts, in panels of one scale; the best single LLM of
    each is named.

    Args:
        found: title -> frontier.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    across = min(_ABREAST, len(found))
    down = -(-len(found) // across)
    figure, axes = pictures.require_pyplot().subplots(
        down, across, squeeze=False, sharex=True, sharey=True, layout="constrained",
        figsize=(max(7.5, 2.6 * across), 1.0 + 2.0 * down),
    )  # fmt: skip
    for ax, (title, frontier) in zip(axes.flat, found.items(), strict=False):
        ax.spines[["top", "right"]].set_visible(False)
        _set_scale(ax, frontier)
        _draw_router(ax, frontier, "router, one mean budget", 0)
        _draw_line(ax, frontier.strict_costs, frontier.strict_scores, _STRICT, (0, (1, 1)), pictures.INK)
        if frontier.oracle_scores is not None:
            _draw_line(ax, frontier.budgets, frontier.oracle_scores, _ORACLE, (0, (6, 2, 1, 2, 1, 2)), pictures.GREY)
        x, y, best = frontier.model_costs * 1000.0, frontier.model_scores, int(frontier.model_scores.argmax())
        ax.scatter(x, y, s=14, color=pictures.ORANGE, zorder=3, label="single LLM")
        ax.margins(x=0.08, y=0.08)
        title, name = map(pictures.as_written, (title, frontier.models[best]))
        ax.set_title(f"{title}  ({frontier.n_prompts:,})\nbest: {name}", fontsize=pictures.SMALL - 1)
        ax.tick_params(labelsize=pictures.SMALL)
    for ax in axes.flat[len(found) :]:
        ax.set_visible(False)
    for ax in axes.flat[max(len(found) - across, 0) : len(found)]:  # the lowest of each column
        ax.set_xlabel("mean cost, $ per 1,000", fontsize=pictures.SMALL)
        ax.tick_params(labelbottom=True)
    figure.supylabel(next(iter(found.values())).what, fontsize=pictures.NORMAL)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=pictures.SMALL)
    if any(frontier.limits for frontier in found.values()):
        figure.suptitle(
            "In brackets: prompts; shaded: 95 % limits over prompts", x=0.01, ha="left", fontsize=pictures.NORMAL
        )
    return figure


def _set_scale(ax: Any, found: Frontier) -> None:
    """An axis of magnitudes where costs differ much."""
    cheapest, dearest = float(found.model_costs.min()), float(found.model_costs.max())
    if cheapest > 0 and dearest > _FAR * cheapest:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
