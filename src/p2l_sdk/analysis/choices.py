"""`Choices`: which LLMs a router calls in each category of prompts, at one budget or several (paper, Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.routing.allocation import JointFrontier
from p2l_sdk.routing.mixture import Policy, as_budget, strict_choice
from p2l_sdk.routing.router import Router
from p2l_sdk.tabular import Tabular, html_table

if TYPE_CHECKING:
    import matplotlib.figure

_SAMPLE = 10_000  # prompts that a router is tried on
_LEAST = 0.01  # an LLM that is called less often in every category is one of the others
OTHERS = "others"


class SampledPrompts:
    """A uniform sample of the prompts, as coefficients with their categories: those with the lowest random keys.

    Args:
        n_models: number of LLMs.
        seed: of the sample.
    """

    def __init__(self, n_models: int, seed: int) -> None:
        self._random = np.random.default_rng([seed, 4])
        self._keys, self._labels = np.zeros(0), np.zeros(0, dtype=object)
        self._coefs = np.zeros((0, n_models), dtype=np.float32)
        self._pending: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, coefs: np.ndarray, labels: Sequence[str | None]) -> None:
        """Add a batch; prompts without a category are left out."""
        names = np.array(labels, dtype=object)
        keys = self._random.random(len(names))
        keep = np.array([name is not None for name in labels], dtype=bool)
        if len(self._keys) == _SAMPLE:
            keep &= keys < self._keys[-1]
        self._pending.append((keys[keep], names[keep], coefs[keep].astype(np.float32)))
        if sum(len(part[0]) for part in self._pending) >= _SAMPLE:
            self._settle()

    def _settle(self) -> None:
        parts = [(self._keys, self._labels, self._coefs), *self._pending]
        keys, labels, coefs = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        kept = np.argsort(keys, kind="stable")[:_SAMPLE]
        self._keys, self._labels, self._coefs, self._pending = keys[kept], labels[kept], coefs[kept], []

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels `(n,)` and coefficients `(n, n_models)` in logits."""
        if self._pending:
            self._settle()
        return self._labels, self._coefs


@dataclass(frozen=True, eq=False, repr=False)
class Choices(Tabular):
    """How often a router calls each LLM, by category.

    Attributes:
        models: the LLMs that may be chosen.
        categories: their names.
        sizes: `(n_categories,)` how many of their prompts this was tried on.
        budgets: USD per response; None for the best LLM at any cost.
        policy: "optimal" (one mean budget for all prompts), "strict" (no LLM dearer than the budget) or "best".
        shares: `(n_budgets, n_categories, n_models)` of the category's prompts, in [0, 1]; they sum to 1.
        costs: `(n_budgets, n_categories)` mean USD per response; NaN if the cost of an LLM is not known.
    """

    models: tuple[str, ...]
    categories: tuple[str, ...]
    sizes: np.ndarray
    budgets: tuple[float | None, ...]
    policy: str
    shares: np.ndarray
    costs: np.ndarray

    @property
    def n_prompts(self) -> int:
        """How many prompts this was tried on."""
        return int(self.sizes.sum())

    def pooled(self, budget: int, most: int) -> tuple[list[str], np.ndarray]:
        """The LLMs worth a name at all these budgets, and their shares at one of them, with the rest as "others".

        Args:
            budget: index of the budget.
            most: how many LLMs are named at most: those that are called most often. An LLM that is called for fewer
                than 1 % of the prompts in every category is not.

        Returns:
            Names, and `(n_categories, n_names)` shares; "others" is last, and only there if it is above 0.
        """
        columns = self.named(most)
        shares = self.shares[budget][:, columns]
        rest = np.delete(self.shares, columns, axis=2).sum(2)
        names = [self.models[i] for i in columns]
        if (rest > 1e-9).any():
            names, shares = [*names, OTHERS], np.column_stack([shares, rest[budget]])
        return names, shares

    def named(self, most: int) -> list[int]:
        """The places of the LLMs that are worth a name, the one called most often first; see `pooled`."""
        mean = self.shares.mean((0, 1))
        return [int(i) for i in np.argsort(-mean, kind="stable") if self.shares[:, :, i].max() >= _LEAST][:most]

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each budget, category and LLM that is called there: budget, category, model, share, and
        cost, the category's mean USD per response (None if not known)."""
        return [
            {
                "budget": budget,
                "category": name,
                "model": self.models[i],
                "share": float(self.shares[b, k, i]),
                "cost": float(self.costs[b, k]) if np.isfinite(self.costs[b, k]) else None,
            }
            for b, budget in enumerate(self.budgets)
            for k, name in enumerate(self.categories)
            for i in np.argsort(-self.shares[b, k], kind="stable")
            if self.shares[b, k, i] > 0
        ]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"policy": self.policy, "n_prompts": self.n_prompts, "rows": self.rows()}

    def plot(self, *, llms: int = 10) -> matplotlib.figure.Figure:
        """Draw a bar for each category, divided by the LLMs that are called; a panel for each budget.

        Args:
            llms: how many LLMs are named at most; the rest are "others".

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk.analysis.category_pictures import draw_shares, labels_of

        titles = ["at any cost" if b is None else f"${1000 * b:.4g} per 1,000 responses" for b in self.budgets]
        pooled = [self.pooled(b, llms) for b in range(len(self.budgets))]
        panels = [(title, shares) for title, (_, shares) in zip(titles, pooled, strict=True)]
        return draw_shares(panels, labels_of(self.categories, self.sizes.tolist()), pooled[0][0], OTHERS, self.caption)

    @property
    def caption(self) -> str:
        """A one-line description."""
        how = {"optimal": "one mean budget for all prompts", "strict": "no LLM dearer than the budget"}
        said = "the best LLM at any cost" if self.budgets == (None,) else how.get(self.policy, "the best LLM")
        return f"Which LLM is called for {self.n_prompts:,} prompts, in {len(self.categories)} categories: {said}"

    def told(self, budget: int, category: int, n: int = 3) -> str:
        """The LLMs that are called most in a category: "54 % gpt-4o, 31 % ..."."""
        shares = self.shares[budget, category]
        order = [i for i in np.argsort(-shares, kind="stable") if shares[i] >= _LEAST]
        said = [f"{shares[i]:.0%} {self.models[i]}" for i in order[:n]]
        rest = 1.0 - float(shares[order[:n]].sum())
        return ", ".join(said + ([f"{rest:.0%} {OTHERS}"] if rest >= _LEAST / 2 else []))

    def __repr__(self) -> str:
        lines, width = [self.caption], max(map(len, self.categories))
        for b, budget in enumerate(self.budgets):
            lines.append(budget_text(budget))
            lines += [f"  {name:{width}}  {self.told(b, k)}" for k, name in enumerate(self.categories)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        cells = [
            [budget_text(budget), name, self.told(b, k)]
            for b, budget in enumerate(self.budgets)
            for k, name in enumerate(self.categories)
        ]
        return html_table(self.caption, ["budget", "category", "LLMs called"], cells)


def budget_text(budget: float | None) -> str:
    """A budget in words."""
    return "at any cost" if budget is None else f"${1000 * budget:.4g} per 1,000 responses"


def choices_of(
    router: Router, sampled: SampledPrompts, names: tuple[str, ...], budgets: Sequence[float | None] | None
) -> Choices:
    """The router's choices by category; see `Categories.choices`."""
    labels, coefs = sampled.arrays
    wanted: tuple[float | None, ...] = (None,) if budgets is None else tuple(as_budget(budget) for budget in budgets)
    if budgets is not None and router.policy is not Policy.BEST:
        router = router.within_budget
    scores = router.scores(coefs)
    places = np.array([names.index(label) for label in labels])
    sizes = np.bincount(places, minlength=len(names))
    joint = None
    shares = np.zeros((len(wanted), len(names), len(router.names)))
    for b, budget in enumerate(wanted):
        if budget is None or router.policy is Policy.BEST:
            choice, split = scores.argmax(1), None
        elif router.policy is Policy.STRICT:
            choice, split = np.array([strict_choice(row, router.prices, budget) for row in scores]), None
        else:
            joint = joint or JointFrontier(scores, router.prices)
            allocation = joint.at(budget)
            choice, split = allocation.choice, allocation.split
        np.add.at(shares[b], (places, choice), 1.0)
        if split is not None:  # the one prompt that mixes two LLMs
            prompt, second, share = split
            shares[b, places[prompt], choice[prompt]] -= share
            shares[b, places[prompt], second] += share
    shares /= np.maximum(sizes, 1)[:, None]
    prices = router.known_prices
    unknown = (shares[:, :, np.isnan(prices)] > 0).any(2)
    costs = np.where(unknown, np.nan, shares @ np.nan_to_num(prices))
    return Choices(router.names, names, sizes, wanted, str(router.policy), shares, costs)
