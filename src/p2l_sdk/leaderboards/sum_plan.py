"""The steps from which `sums` makes the sums of a feedback model's outcomes: as few as there can be, on few rows.

A row is a polynomial in one LLM's odds x and in s, for each prompt. It is made once, whichever denominators and
outcomes need it, and a step takes two rows, or what earlier steps made: all of it has to stay in the processor's cache.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from p2l_sdk.modeling.feedback_p2l import Feedback, factors
from p2l_sdk.modeling.polynomial_p2l import Polynomial

_X = Polynomial({(1, 0, 0): 1.0})


class Kind(IntEnum):
    """What a step works on."""

    FIRST = 0  # a row of the first LLM of the pairs
    OTHER = 1  # a row of the other LLM
    INVERSE = 2  # of a denominator, one for each pair and prompt
    SUM = 3  # over prompts, one for each pair
    ONE = 4  # the number


@dataclass(frozen=True)
class Row:
    """What every LLM has: a polynomial in its odds (as a) and s, times the prompts' weights if it is `weighted`."""

    polynomial: Polynomial
    weighted: bool


@dataclass(frozen=True)
class Plan:
    """All steps.

    Attributes:
        rows: that every LLM has.
        operands: the kind of each, and its number: that of the row, of the denominator or of the sum.
        steps: numpy's function, the places of its two operands, and that of the one for its result.
        outcomes: the place, among the feedback model's outcomes, of the outcome that each sum is a part of.
        n_inverses: how many denominators there are.
    """

    rows: list[Row]
    operands: list[tuple[Kind, int]]
    steps: list[tuple[np.ufunc, int, int, int]]
    outcomes: list[int]
    n_inverses: int


@functools.cache
def plan_of(feedback: Feedback) -> Plan:
    """The steps for a feedback model."""
    polynomials = factors(feedback)
    below = [polynomial for polynomial, powers in polynomials if powers.min() < 0]
    planner, several = _Planner(), []
    for k, denominator in enumerate(below):
        planner.invert(k, denominator)
        for outcome in range(len(feedback.outcomes)):
            above = next(polynomial for polynomial, powers in polynomials if powers[outcome] > 0)
            inverses = [below.index(polynomial) for polynomial, powers in polynomials if powers[outcome] < 0]
            if inverses == [k]:
                planner.sum_up(outcome, above, k)
            elif inverses[0] == k:
                several.append((outcome, above, inverses))
    assert len(several) <= 1  # its steps change the inverses
    for outcome, above, inverses in several:
        planner.sum_up(outcome, *planner.multiply(above, inverses, below))
    return Plan(planner.rows, planner.operands, planner.steps, planner.outcomes, len(below))


class _Planner:
    """A plan that grows step by step."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.operands: list[tuple[Kind, int]] = []
        self.steps: list[tuple[np.ufunc, int, int, int]] = []
        self.outcomes: list[int] = []

    def invert(self, k: int, denominator: Polynomial) -> None:
        """Every denominator is linear in b: a row of LLM a, plus a row of LLM b."""
        parts, inverse = _by_power_of_b(denominator), (Kind.INVERSE, k)
        self._step(np.add, self._row(Kind.FIRST, parts[0]), self._row(Kind.OTHER, parts[1] * _X), inverse)
        self._step(np.divide, (Kind.ONE, 0), inverse, inverse)  # faster than numpy.reciprocal

    def multiply(self, above: Polynomial, inverses: list[int], below: list[Polynomial]) -> tuple[Polynomial, int]:
        """The product of some inverses, in the place of one of them, and what is above it.

        m (d + e) / (d e ...) is m (1 / d + 1 / e) / ..., which takes fewer steps if m is a monomial.
        """
        k, *others = inverses
        for pair in itertools.combinations(inverses, 2):
            if monomial := _quotient(above, below[pair[0]] + below[pair[1]]):
                above, k, others = monomial, pair[0], [e for e in inverses if e not in pair]
                self._step(np.add, (Kind.INVERSE, k), (Kind.INVERSE, pair[1]), (Kind.INVERSE, k))
                break
        for other in others:
            self._step(np.multiply, (Kind.INVERSE, k), (Kind.INVERSE, other), (Kind.INVERSE, k))
        return above, k

    def sum_up(self, outcome: int, above: Polynomial, k: int) -> None:
        """An outcome's sum: the powers of b in its numerator one by one, times an inverse, dot a row with weights."""
        reached = 0
        for power, part in sorted(_by_power_of_b(above).items()):
            kind = Kind.FIRST
            if all(i == 0 for i, _, _ in part.terms):  # the same for every LLM a: a row of LLM b, with b's power
                kind, part, power = Kind.OTHER, functools.reduce(Polynomial.__mul__, [_X] * power, part), reached
            for _ in range(reached, power):
                self._step(np.multiply, (Kind.INVERSE, k), self._row(Kind.OTHER, _X), (Kind.INVERSE, k))
            reached = power
            # no matrix product: BLAS would have threads of its own, and other digits with each number of them
            self._step(np.vecdot, (Kind.INVERSE, k), self._row(kind, part, True), (Kind.SUM, len(self.outcomes)))
            self.outcomes.append(outcome)

    def _row(self, kind: Kind, polynomial: Polynomial, weighted: bool = False) -> tuple[Kind, int]:
        return kind, _place(self.rows, Row(polynomial, weighted))

    def _step(self, function: np.ufunc, *operands: tuple[Kind, int]) -> None:
        x, y, out = (_place(self.operands, operand) for operand in operands)
        self.steps.append((function, x, y, out))


def _place(known: list[Any], value: Any) -> int:
    if value not in known:
        known.append(value)
    return known.index(value)


def _by_power_of_b(polynomial: Polynomial) -> dict[int, Polynomial]:
    """The coefficients, without b."""
    parts: dict[int, dict[tuple[int, int, int], float]] = {}
    for (i, j, k), c in polynomial.terms.items():
        parts.setdefault(j, {})[i, 0, k] = c
    return {j: Polynomial(terms) for j, terms in parts.items()}


def _quotient(product: Polynomial, factor: Polynomial) -> Polynomial | None:
    """The monomial that times `factor` is `product`, if there is one."""
    (most, c), (least, d) = max(product.terms.items()), max(factor.terms.items())
    i, j, k = (m - n for m, n in zip(most, least, strict=True))
    quotient = Polynomial({(i, j, k): c / d})
    return quotient if min(i, j, k) >= 0 and quotient * factor == product else None
