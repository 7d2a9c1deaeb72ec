"""Matches LLM names to the token prices in the PyPI package genai-prices. Ambiguous names are never guessed.

A name matches a provider's model in the package if it is

1. the model's id, ignoring case; or
2. a name that the package's own match rule for that model spells out (possibly followed by a full date, if the rule
   accepts that too) or matches with an anchored pattern. A common beginning does not count: `gpt-4` is not
   `gpt-4-turbo`; or
3. the id or such a name, normalised (`names.normalised`: dots, colons, underscores and the like), and dropping the id's
   "organisation/".

Providers: those the caller names, in that order. Otherwise, the one to which the package assigns such names
(`claude...` to anthropic, `gpt-...` to openai). If it has no such model, or there is no such provider (open weights),
all providers are searched, and they must agree on the price.

The prices are read from the installed package; nothing is fetched.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from p2l_sdk.errors import CostError, MissingExtraError, did_you_mean
from p2l_sdk.names import normalised

if TYPE_CHECKING:
    from genai_prices.types import MatchLogic, ModelInfo, Provider

_DATE = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")


class How(StrEnum):
    """How a name was matched, or why it was not."""

    ID = "exact id"
    ALIAS = "alias"
    NORMALISED = "normalised name"
    SEVERAL_PRICES = "several prices"
    OTHER_NAMES = "similar names only"
    UNKNOWN = "no such model"


@dataclass(frozen=True, kw_only=True)
class TokenPrice:
    """The price of one provider's model: USD per million input and output tokens."""

    provider: str
    model: str
    input_price: float
    output_price: float

    def __str__(self) -> str:
        return f"{self.provider}: {self.model} ({self.input_price:g} / {self.output_price:g})"


@dataclass(frozen=True, kw_only=True)
class PriceMatch:
    """The result for one LLM.

    Attributes:
        name: name of the LLM.
        price: its price; None if it was not matched.
        how: how it was matched, or why it was not.
        candidates: if it was not matched, the models it might be.
    """

    name: str
    price: TokenPrice | None
    how: How
    candidates: tuple[TokenPrice, ...] = ()


def match_prices(
    names: Iterable[str], providers: Sequence[str] = (), *, input_tokens: float = 500, at: datetime | None = None
) -> dict[str, PriceMatch]:
    """Look up the price of each LLM in genai-prices.

    Args:
        names: names of the LLMs.
        providers: ids of the package's providers ("together", "openrouter"); the first that has the LLM is used.
        input_tokens: length of the prompt in tokens, since some prices depend on it.
        at: time of the prices; by default noon (UTC) today, since some prices vary with the hour.

    Raises:
        CostError: the package does not know a provider.
        MissingExtraError: genai-prices is not installed.
    """
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError:
        raise MissingExtraError("the source of costs 'genai-prices'", "genai-prices", "prices") from None
    at = at or datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    known = {provider.id: provider for provider in get_snapshot().providers}
    for name in providers:
        if name not in known:
            raise CostError(f"genai-prices has no provider {name!r}; {did_you_mean(name, known)}")
    offers = [_Offers(known[provider], input_tokens, at) for provider in providers or known]
    return {name: _match(name, offers, by_order=bool(providers)) for name in names}


def _match(name: str, offers: list[_Offers], *, by_order: bool) -> PriceMatch:
    first = offers if by_order else _makers(name, offers)
    for offer in first:
        found = _verdict(name, offer.find(name))
        if found is not None:
            return found
    if not by_order:
        found = _verdict(name, [pair for offer in offers for pair in offer.find(name)])
        if found is not None:
            return found
    near = tuple(dict.fromkeys(price for offer in first or offers for price in offer.near(name)))
    return PriceMatch(name=name, price=None, how=How.OTHER_NAMES if near else How.UNKNOWN, candidates=near)


def _makers(name: str, offers: list[_Offers]) -> list[_Offers]:
    """The provider to which the package assigns such names, as a list of at most one."""
    organisation, slash, _ = name.lower().partition("/")
    if slash:
        return [offer for offer in offers if offer.provider.id == organisation]
    rules = [(offer, offer.provider.model_match) for offer in offers]
    return [offer for offer, rule in rules if rule is not None and rule.is_match(name.lower())][:1]


def _verdict(name: str, found: list[tuple[How, TokenPrice]]) -> PriceMatch | None:
    if not found:
        return None
    how, price = found[0]
    if len({(p.input_price, p.output_price) for _, p in found}) == 1:
        return PriceMatch(name=name, price=price, how=how)
    candidates = tuple(dict.fromkeys(p for _, p in found))
    return PriceMatch(name=name, price=None, how=How.SEVERAL_PRICES, candidates=candidates)


class _Offers:
    """One provider's models and prices, by normalised name."""

    def __init__(self, provider: Provider, input_tokens: float, at: datetime) -> None:
        self.provider = provider
        self._prices = [
            (model, price)
            for model in provider.models
            if (price := _price(provider, model, input_tokens, at)) is not None
        ]
        self._by_name: dict[str, list[tuple[ModelInfo, TokenPrice]]] = defaultdict(list)
        for model, price in self._prices:
            names = {model.id, model.id.rpartition("/")[2], *_spelt_out(model.match)}
            for name in {normalised(name) for name in names}:
                self._by_name[name].append((model, price))

    def find(self, name: str) -> list[tuple[How, TokenPrice]]:
        """The models with this name; only those matched in the most certain way."""
        ref = name.lower().removeprefix(f"{self.provider.id}/")
        kinds: dict[How, list[TokenPrice]] = {How.ID: [], How.ALIAS: [], How.NORMALISED: []}
        for model, price in self._by_name.get(normalised(ref), ()):
            same = model.id.lower() in (ref, name.lower())
            kinds[How.ID if same else How.ALIAS if model.match.is_match(ref) else How.NORMALISED].append(price)
        undated = _DATE.sub("", ref)
        dated = self._by_name.get(normalised(undated), ()) if undated != ref else ()
        patterns = (pair for pair in self._prices if _whole_pattern(pair[0].match, ref))
        kinds[How.ALIAS] += [price for model, price in (*dated, *patterns) if model.match.is_match(ref)]
        return next(([(how, price) for price in prices] for how, prices in kinds.items() if prices), [])

    def near(self, name: str) -> list[TokenPrice]:
        """Models that may or may not be this one: the package's rules match it, or one name is the beginning of the
        other."""
        ref = name.lower().removeprefix(f"{self.provider.id}/")
        ruled = [price for model, price in self._prices if model.match.is_match(ref)]
        plain = normalised(ref)
        longer = [other for other in self._by_name if other.startswith(f"{plain}-")]
        shorter = [other for other in self._by_name if plain.startswith(f"{other}-")]
        alike = [*longer, *([max(shorter, key=len)] if shorter else [])]
        return [*ruled, *(price for other in alike for _, price in self._by_name[other])]


def _clauses(rule: MatchLogic) -> Iterator[Any]:
    parts = getattr(rule, "or_", None) or getattr(rule, "and_", None)
    if parts is None:
        yield rule
    for part in parts or ():
        yield from _clauses(part)


def _spelt_out(rule: MatchLogic) -> Iterator[str]:
    """The names spelled out in a match rule."""
    for clause in _clauses(rule):
        for kind in ("equals", "starts_with", "ends_with", "contains"):
            if hasattr(clause, kind):
                yield getattr(clause, kind)


def _whole_pattern(rule: MatchLogic, ref: str) -> bool:
    """Whether a pattern of the rule that is anchored at both ends matches the name."""
    patterns = (getattr(clause, "regex", "") for clause in _clauses(rule))
    return any(p.startswith("^") and p.endswith("$") and re.search(p, ref) for p in patterns)


def _price(provider: Provider, model: ModelInfo, input_tokens: float, at: datetime) -> TokenPrice | None:
    """The token price; None for a model whose text is not priced by input and output tokens alone."""
    prices = model.get_prices(at) if model.prices else None
    stated = {} if prices is None else vars(prices)
    if stated.get("requests_kcount") is not None:
        return None
    price_in, price_out = (_per_million(stated.get(unit), input_tokens) for unit in ("input_mtok", "output_mtok"))
    if price_in is None or price_out is None:
        return None
    return TokenPrice(provider=provider.id, model=model.id, input_price=price_in, output_price=price_out)


def _per_million(price: Any, input_tokens: float) -> float | None:
    if price is None:
        return None
    for tier in reversed(getattr(price, "tiers", ())):
        if input_tokens > tier.start:
            return float(tier.price)
    return float(getattr(price, "base", price))
