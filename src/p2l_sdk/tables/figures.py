"""Columns (or rows) of a table of numbers that are computed from the others: their mean, sum, maximum or minimum.

They are told by their values, whatever their name: one equals that figure in every row, at the precision at which it is
printed, so often that chance does not explain it. Chance is counted in powers of ten: a value within a tolerance of the
mean, where the others spread over a hundred times as much, counts two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

_FEWEST = 3  # rows, and columns: the figure and two others
_ENOUGH, _MORE = 3.0, 6.0  # powers of ten against chance; the second for an end of whole numbers, where ties are common
_MOST = 24  # columns up to which another figure may stand beside one
_READ = 1000  # values that show at which precision a column is printed
_DIGITS = 12  # at most

_MEANS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "the mean of the others": lambda others: np.nanmean(others, 1),
    "the sum of the others": lambda others: np.nansum(others, 1),
    "a difference of two others": lambda others: others[:, 0] - others[:, 1],
    "a difference of two others ": lambda others: others[:, 1] - others[:, 0],
}
_ENDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "the maximum of the others": lambda others: np.nanmax(others, 1),
    "the minimum of the others": lambda others: np.nanmin(others, 1),
}


def decimals(values: Iterable[Any]) -> int:
    """The number of digits after the point (or comma) with which the values of a column are printed."""
    most = 0
    for _, value in zip(range(_READ), values, strict=False):
        text = value.strip() if isinstance(value, str) else repr(value) if isinstance(value, float) else ""
        _, point, digits = text.replace(",", ".").rpartition(".")
        if point and digits.isdigit() and digits != "0":
            most = max(most, len(digits))
    return min(most, _DIGITS)


def figures(cells: np.ndarray, digits: Sequence[int]) -> dict[int, str]:
    """The columns that are a figure of the others, with what they are.

    Args:
        cells: `(n_rows, n_columns)` numbers, NaN where there is none.
        digits: `(n_columns,)` see `decimals`.
    """
    n, k = cells.shape
    if n < _FEWEST or k < _FEWEST:
        return {}
    found: dict[int, str] = {}
    for column in range(k):
        rest = [other for other in range(k) if other != column]
        if any(np.array_equal(cells[:, column], cells[:, other], equal_nan=True) for other in rest):
            continue  # the same twice is no figure
        less = [[other for other in rest if other != left] for left in rest] if _FEWEST < k <= _MOST else []
        for others in (rest, *less):
            what = _figure(cells[:, column], cells[:, others], digits[column], max(digits[other] for other in others))
            if what:
                found[column] = what
                break
    return found


def _figure(column: np.ndarray, others: np.ndarray, digits: int, their_digits: int) -> str | None:
    """What a column `(n,)` is of the others `(n, m)`; None if it is no figure of them."""
    rows = np.isfinite(column) & (np.isfinite(others).sum(1) > 1)
    if rows.sum() < _FEWEST:
        return None
    column, others = column[rows], others[rows]
    spread = np.nanmax(others, 1) - np.nanmin(others, 1)
    exact = 1e-9 * max(1.0, float(np.nanmax(np.abs(others))))
    rounding = 0.5 * 10.0**-digits + 0.5 * 10.0**-their_digits + exact
    for what, of in _MEANS.items():
        if "difference" in what and (others.shape[1] != 2 or not (column < 0).any()):  # else the larger one is a sum
            continue
        if "sum" in what and (others < 0).any():
            continue
        if (np.abs(of(others) - column) <= rounding).all() and _against_chance(spread, 2 * rounding) >= _ENOUGH:
            return what.strip()
    gaps = np.diff(np.unique(others[np.isfinite(others)]))
    gap = float(gaps[gaps > exact].min(initial=np.inf))
    whole = bool((column == np.floor(column)).mean() > 0.5)
    for what, of in _ENDS.items():
        same = (np.abs(of(others) - column) <= exact).all()
        if same and np.isfinite(gap) and _against_chance(spread, gap) >= (_MORE if whole else _ENOUGH):
            return what
    return None


def _against_chance(spread: np.ndarray, step: float) -> float:
    return float(np.log10(np.maximum(spread, step) / step).sum())
