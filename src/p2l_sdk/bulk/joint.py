"""One mean budget for any number of prompts that have been scored, in constant memory: the exact allocation.

It is that of `routing.allocation.JointFrontier`: the steps along all prompts' hulls are taken in order of their rate,
score per USD, until the budget is spent. Here the steps are not sorted but counted: the bits of a rate above 0 are in
the order of the rates, so four passes over the parts, each of which sums the costs of the steps by 16 bits of their
rates, find the rate at which the money ends. Then each prompt takes its steps of a higher rate, and those of that very
rate are taken in the order of the prompts. At most one prompt mixes two LLMs, and the mean cost is the budget or less.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.bulk.arrow import need_pyarrow
from p2l_sdk.bulk.folder import RunFolder
from p2l_sdk.bulk.routes import HULL, HULL_SCORES, chosen_columns
from p2l_sdk.errors import P2LError
from p2l_sdk.leaderboards.weights import exponent_of
from p2l_sdk.routing.mixture import check_budget
from p2l_sdk.routing.router import Router, draw

_BITS = 16
_ROUNDING, _MOST = 1e-12, 2.0**200  # as in `JointFrontier`


@dataclass(frozen=True)
class Price:
    """Where the money ends.

    Attributes:
        budget: mean USD per response.
        rate: bits of the rate of the last step that is paid, as a whole number; None if the budget pays for all steps.
        multiplier: lambda, this rate in score per USD; 0 if the budget does not bind.
        left: for each part, the money left for its steps of that very rate, in units of `JointFrontier`.
    """

    budget: float
    rate: int | None
    multiplier: float
    left: tuple[float, ...]


@dataclass(frozen=True)
class _Steps:
    """The hulls of a part: the LLMs of all its prompts one after the other, and the steps from each to the next."""

    ends: np.ndarray  # (n_prompts + 1,) where each prompt's LLMs begin
    places: np.ndarray  # of all LLMs on hulls
    scores: np.ndarray
    cost: np.ndarray  # (n_llms,) of the step to the next LLM of the prompt, in units; NaN for the last one
    key: np.ndarray  # bits of its rate

    @property
    def is_step(self) -> np.ndarray:
        return ~np.isnan(self.cost)


def price_of(folder: RunFolder, n_parts: int, n_prompts: int, prices: np.ndarray, budget: float) -> Price:
    """The rate at which a budget for all prompts is spent.

    Args:
        folder: with the parts that have been scored.
        n_parts, n_prompts: how many there are.
        prices: `(n_candidates,)` USD per response.
        budget: mean USD per response.

    Raises:
        BudgetError: no LLM fits the budget.
    """
    check_budget(float(prices.min()), budget)
    costs = np.ldexp(prices, -exponent_of(prices))

    def parts() -> Iterator[_Steps]:
        for number in range(n_parts):
            yield _steps_of(_read(folder, number, [HULL, HULL_SCORES]), costs)

    least = sum(float(costs[steps.places[steps.ends[:-1]]].sum()) for steps in parts())
    left = (n_prompts * min(float(np.ldexp(budget, -exponent_of(prices))), _MOST) - least) * (1.0 + _ROUNDING)
    prefix = 0
    for shift in range(64 - _BITS, -1, -_BITS):
        found = _sums(parts(), prefix, shift)
        spent = np.cumsum(found[::-1])
        bins = np.flatnonzero((spent > left) & (found[::-1] > 0.0))
        if not len(bins):
            return Price(budget, None, 0.0, (0.0,) * n_parts)
        first = int(bins[0])
        left -= float(spent[first] - found[::-1][first])
        prefix = prefix << _BITS | (len(found) - 1 - first)
    own = [float(steps.cost[steps.is_step & (steps.key == prefix)].sum()) for steps in parts()]
    rest = tuple(left - float(before) for before in np.cumsum([0.0, *own[:-1]]))
    with np.errstate(over="ignore"):
        rate = float(np.ldexp(np.array([prefix], dtype=np.uint64).view(np.float64)[0], -exponent_of(prices)))
    return Price(budget, prefix, rate, rest)


def _sums(parts: Iterator[_Steps], prefix: int, shift: int) -> np.ndarray:
    """The costs of the steps whose rates begin with these bits, summed by the next 16 bits."""
    found = np.zeros(1 << _BITS)
    for steps in parts:
        here = steps.is_step
        if shift + _BITS < 64:
            here &= steps.key >> np.uint64(shift + _BITS) == np.uint64(prefix)
        bins = (steps.key[here] >> np.uint64(shift) & np.uint64((1 << _BITS) - 1)).astype(np.int64)
        found += np.bincount(bins, steps.cost[here], 1 << _BITS)
    return found


def spend(
    folder: RunFolder, n_parts: int, router: Router, price: Price, seed: int, done: Callable[[int], None]
) -> None:
    """Write each part that has been scored with its routes, and call `done` with its number."""
    for number in range(n_parts):
        if not folder.part(number).exists():
            table = _read(folder, number)
            columns = _routes(table, router, price, price.left[number], seed)
            rest = table.drop_columns([HULL, HULL_SCORES])
            at = table.column_names.index(HULL)
            names = [*rest.column_names[:at], *columns, *rest.column_names[at:]]
            own = {name: rest[name] for name in rest.column_names} | columns
            folder.write_table(folder.part(number), need_pyarrow().table({name: own[name] for name in names}))
        done(number)


def _routes(table: Any, router: Router, price: Price, left: float, seed: int) -> dict[str, Any]:
    prices = router.prices
    steps = _steps_of(table, np.ldexp(prices, -exponent_of(prices)))
    start, n = steps.ends[:-1], len(steps.ends) - 1
    step = steps.is_step
    if price.rate is None:
        taken, split = step.copy(), None
    else:
        taken = step & (steps.key > np.uint64(price.rate))
        same = np.flatnonzero(step & (steps.key == np.uint64(price.rate)))
        spent = np.cumsum(steps.cost[same])
        whole = int(np.searchsorted(spent, left, side="right"))
        taken[same[:whole]] = True
        rest = left - (float(spent[whole - 1]) if whole else 0.0)
        split = (int(same[whole]), rest / float(steps.cost[same[whole]])) if whole < len(same) and rest > 0.0 else None
    counts = np.add.reduceat(taken, start, dtype=np.int64) if n else np.zeros(0, dtype=np.int64)
    at = start + counts
    places, costs, scores = steps.places[at], prices[steps.places[at]], steps.scores[at].copy()
    if split is not None:
        where, share = split
        prompt = int(np.searchsorted(steps.ends, where, side="right")) - 1
        first, second = int(steps.places[where]), int(steps.places[where + 1])
        places = places.copy()
        places[prompt] = draw({first: 1.0 - share, second: share}, seed)
        costs[prompt] = (1.0 - share) * prices[first] + share * prices[second]
        scores[prompt] = (1.0 - share) * steps.scores[where] + share * steps.scores[where + 1]
    return chosen_columns(router.names, places, costs, scores)


def _read(folder: RunFolder, number: int, columns: Sequence[str] | None = None) -> Any:
    return folder.read_table(folder.scored(number), number, columns)


def _steps_of(table: Any, costs: np.ndarray) -> _Steps:
    hulls, values = table[HULL].combine_chunks(), table[HULL_SCORES].combine_chunks()
    ends = hulls.offsets.to_numpy().astype(np.int64)
    places, scores = hulls.flatten().to_numpy(), values.flatten().to_numpy()
    cost, gain = np.full(len(places), np.nan), np.zeros(len(places))
    if len(places):
        cost[:-1] = costs[places[1:]] - costs[places[:-1]]
        gain[:-1] = scores[1:] - scores[:-1]
        cost[ends[1:] - 1] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = np.where(np.isnan(cost), 0.0, gain / cost)
    return _Steps(ends - ends[0] if len(ends) else ends, places, scores, cost, rate.view(np.uint64))


def to_json(price: Price) -> str:
    """The price as text, which gives it back to the last digit."""
    return json.dumps(price.__dict__)


def load(path: Path, n_parts: int) -> Price:
    """The price that `to_json` gave, of so many parts; P2LError if a file holds something else."""
    try:
        found = json.loads(path.read_bytes())
        price = Price(**{**found, "left": tuple(map(float, found["left"]))})
        numbers = [price.budget, price.multiplier, *price.left, price.rate or 0]
        if len(price.left) != n_parts or not np.isfinite(np.array(numbers, dtype=np.float64)).all():
            raise ValueError("its numbers do not fit")
        if price.rate is not None:
            np.uint64(operator.index(price.rate))
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        name = repr(str(path))
        raise P2LError(
            f"{name} is no price of a joint budget; delete it, and give the same command again: it is found again"
        ) from error
    return price
