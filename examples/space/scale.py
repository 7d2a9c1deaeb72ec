"""Where a cost stands between the least and the greatest, on the slider and in the picture: in equal steps from 0, or
in equal ratios, as is needed if the most expensive LLM costs a thousand times what the cheapest does."""

from __future__ import annotations

import math

_WIDE = 30.0  # greatest cost over least from which on ratios are shown


class Scale:
    """A scale of costs.

    Args:
        least: USD, the lowest cost of an LLM.
        greatest: USD, above 0.

    Attributes:
        ratios: whether equal distances are equal ratios.
    """

    def __init__(self, least: float, greatest: float) -> None:
        self.ratios = 0.0 < least * _WIDE < greatest
        self._least, self._greatest = least, greatest

    def place(self, cost: float) -> float:
        """Where a cost stands, in [0, 1] from the scale's beginning to its end."""
        if not self.ratios:
            return cost / self._greatest
        return math.log(max(cost, self._least) / self._least) / math.log(self._greatest / self._least)

    def cost(self, place: float) -> float:
        """The cost at a place."""
        if not self.ratios:
            return place * self._greatest
        return self._greatest if place >= 1.0 else self._least * (self._greatest / self._least) ** place

    def ticks(self) -> list[float]:
        """Round costs along the scale: about five, or the powers of ten."""
        if not self.ratios:
            return ticks(0.0, self._greatest, 5)
        first, last = math.ceil(math.log10(self._least) - 1e-9), math.floor(math.log10(self._greatest) + 1e-9)
        return [float(f"1e{power}") for power in range(first, last + 1)]


def ticks(low: float, high: float, about: int) -> list[float]:
    """About `about` round numbers in [low, high], in steps of 1, 2 or 5 times a power of ten."""
    step = round_step((high - low) / about)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def round_step(least: float) -> float:
    """The smallest number >= `least` of the form 1, 2 or 5 times a power of ten."""
    exponent = math.floor(math.log10(least))
    steps = [float(f"{factor}e{exponent}") for factor in (1, 2, 5, 10)]  # exactly 5e-06; 5 * 10.0**-6 is slightly less
    return next(step for step in steps if step >= least * (1.0 - 1e-9))
