"""Columns of prices whose names say their unit: "Input ($/1M tokens)", "Price per 1K output", "USD per response".

A unit is read where the name says of what it is (tokens that are read, or written; responses), of how many, and that it
is money. What it leaves open is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from p2l_sdk.errors import TableError
from p2l_sdk.tables.columns import number_of

COST, INPUT, OUTPUT = "cost", "input_price", "output_price"
_SIDES = {
    INPUT: re.compile(r"\b(inputs?|prompts?)\b|^in\b(?! ?(\$|us|dollar))"),
    OUTPUT: re.compile(r"\b(outputs?|completions?)\b|^out\b"),
}
_PER = r"(?:/|\bper\b) ?(?:(?:1|one|a) ?)?"
_END = r"(?:tok|tokens?)?(?![a-z0-9])"
_AMOUNTS = (  # in tokens, the largest first
    (1e6, re.compile(rf"{_PER}(?:m|mm|mn|mio|mln|millions?|1[,.' ]?000[,.' ]?000|000[,.' ]?000){_END}")),
    (1e3, re.compile(rf"{_PER}(?:k|thousand|1?[,.' ]?000){_END}")),
    (1.0, re.compile(rf"{_PER}(?:(?:inputs?|outputs?|prompt|completion) )?(?:tok|token)(?![a-z0-9])")),
)
_RESPONSES = r"(?:responses?|requests?|answers?|repl(?:y|ies)|quer(?:y|ies)|calls?)\b"
_RESPONSE = re.compile(rf"{_PER}{_RESPONSES}")
_OF_OTHERS = re.compile(r"cach|batch|audio|image|video|speech|reason|think|search|train|tun(e|ing)|embed|priority|flex")
_FOREIGN = re.compile(r"[€£¥₹¢]|\b(eur|euros?|gbp|cny|rmb|yuan|jpy|yen|inr|chf|aud|cad|credits?|cents?|ct)\b")
_MONEY = re.compile(rf"\$|\b(usd|dollars?|prices?|pricing|costs?|fees?)\b|{_FOREIGN.pattern}")


@dataclass(frozen=True)
class PriceUnits:
    """How the columns of a table of prices are read.

    Attributes:
        columns: name in the table -> ours, for those whose name says the unit.
        factors: ours -> times which a number there is USD per million tokens, or per response.
        doubt: what is not clear of a column that seems to be a price; "" if there is none.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)
    doubt: str = ""

    def renamed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row by our names."""
        return {self.columns.get(name, name): value for name, value in row.items()}

    def number(self, ours: str, value: Any) -> float:
        """What a cell of our column says, in our unit; NaN if that is no number."""
        if ours not in self.factors:
            return number_of(value)
        plain = value.strip().removeprefix("$").lstrip() if isinstance(value, str) else value
        return number_of(plain) * self.factors[ours]


def price_units(names: Iterable[str]) -> PriceUnits:
    """How to read the columns of these names; those that have one of our names already are as they should be.

    Raises:
        TableError: two columns are read as the same, or one as the cost of a response beside prices of tokens.
    """
    names = [name for name in names if isinstance(name, str)]
    if COST in names:
        return PriceUnits()
    columns: dict[str, str] = {}
    factors: dict[str, float] = {}
    doubts = []
    for name in names:
        ours, factor, doubt = _read(name)
        if doubt:
            doubts.append(f"{name!r} {doubt}")
        if ours and ours not in names:
            if ours in factors:
                twice = next(other for other, means in columns.items() if means == ours)
                raise TableError(f"{twice!r} and {name!r} are both read as {ours}; keep one, or call it {ours}")
            columns[name], factors[ours] = ours, factor
    prices = {INPUT, OUTPUT} & {*names, *factors}
    if COST in factors and prices:
        cost = next(other for other, means in columns.items() if means == COST)
        raise TableError(f"{cost!r} is the cost of a response, and there are prices of tokens beside it; keep either")
    whole = COST in factors or len(prices) == len(_SIDES)
    return PriceUnits(columns, factors, "" if whole or not doubts else doubts[0])


def _read(name: str) -> tuple[str, float, str]:
    """What a column is, the factor to our unit, and what is not clear of it: "" and 1 if it is no price."""
    text = " ".join(re.sub(r"[\s_()\[\]:-]+", " ", name.casefold()).split())
    if not _MONEY.search(text) or _OF_OTHERS.search(text):
        return "", 1.0, ""
    if _FOREIGN.search(text):
        return "", 1.0, "is in another unit than USD; convert it"
    sides = [ours for ours, pattern in _SIDES.items() if pattern.search(name.casefold().replace("_", " "))]
    amount = next((tokens for tokens, pattern in _AMOUNTS if pattern.search(text)), None)
    if re.search(_RESPONSES, text):
        if sides or not (amount or _RESPONSE.search(text)):
            return "", 1.0, "does not say of how many responses it is; call it 'cost', and give USD per response"
        return COST, 1.0 / (amount or 1.0), ""
    if len(sides) == 1 and amount:
        return sides[0], 1e6 / amount, ""
    what = "of what it is" if len(sides) != 1 else "of how many tokens it is"
    return "", 1.0, f"does not say {what}; name it as in 'Input ($/1M tokens)' or 'USD per response'"
