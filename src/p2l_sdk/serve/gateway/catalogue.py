"""What the PyPI package genai-prices knows of an LLM at an address, if it is installed: nothing is fetched."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

_LOCAL = re.compile(r"[\d.]+|\[?[\da-f:]+\]?|localhost|[^.]+")  # addresses and names of one's own network
_PRICES = {  # ours -> those of genai-prices, of which the highest counts
    "input": ("input_mtok",),
    "output": ("output_mtok",),
    "cached_input": ("cache_read_mtok",),
    "cache_write": ("cache_write_mtok",),
    "request": ("requests_kcount",),
    "audio_input": ("input_audio_mtok",),
    "audio_output": ("output_audio_mtok",),
}
_PER_THOUSAND = ("request",)  # the others are per million
_MAPPED = frozenset(name for names in _PRICES.values() for name in names)
_ASKED_FOR = frozenset((  # what only tools of the vendor cost, which a key with budgets cannot ask for (see `charges`)
    "web_searches_kcount", "social_searches_kcount", "storage_searches_kcount", "code_executions_kcount",
    "input_tool_mtok",
))  # fmt: skip
_SEARCHES = re.compile(r"(?<![a-z])(search|sonar|online|compound|deep-research)", re.IGNORECASE)


def context_window(model: str, base_url: str) -> int | None:
    """The context window of an LLM, in tokens, if its address and name are known."""
    found = _found(model, base_url)
    return None if found is None else found.context_window


def token_prices(model: str, base_url: str) -> Mapping[str, Any] | None:
    """Prices of an LLM in USD per million tokens, as `Prices` takes them, if its address and name are known. Of prices
    that depend on the length of the prompt, on the hour or on the day (today and later), the highest."""
    found = _found(model, base_url)
    if found is None:
        return None
    billed = _billed(found)
    prices = {ours: max(billed.get(name, 0.0) for name in theirs) for ours, theirs in _PRICES.items()}
    if prices["input"] + prices["output"] == 0.0:
        return None
    prices |= {name: prices[name] / 1000 for name in _PER_THOUSAND}
    return {name: usd for name, usd in prices.items() if usd > 0.0 or name in ("input", "output")}


def unpriced(model: str, base_url: str) -> tuple[str, ...]:
    """What the vendor of an LLM is known to bill, by the names of genai-prices, that costs more than `token_prices`
    allow for, or something else than tokens."""
    prices = token_prices(model, base_url)
    if prices is None:
        return ()
    billed = _billed(_found(model, base_url))
    others = {name: usd for name, usd in billed.items() if name not in _MAPPED and name not in _ASKED_FOR}
    return tuple(sorted(name for name, usd in others.items() if usd > _allowed(name, prices)))


def searches(model: str) -> bool:
    """Whether an LLM of this name searches by itself, which vendors charge for beside tokens."""
    return _SEARCHES.search(model) is not None


def _allowed(name: str, prices: Mapping[str, float]) -> float:
    """The price of ours at which a quote reckons with this kind of tokens; 0 if it is no such kind."""
    if not name.endswith("_mtok") or "citation" in name:  # which come beside the answer
        return 0.0
    side = "output" if name.startswith("output") else "input"
    if "audio" in name:
        return prices.get(f"audio_{side}", 0.0)
    if "_1h_" in name:
        return 2 * prices["input"]  # what is marked to be kept is quoted twice
    return prices[side]


def _billed(found: Any) -> dict[str, float]:
    """The prices of an LLM that are above 0, by name; of several by hour or day the highest. Tokens for which a plan
    has no price of their own, as those of a cache, are text there."""
    stated = [{name: price for name, price in vars(plan).items() if price is not None} for plan in _plans(found)]
    plans = [{name: _highest(price) for name, price in plan.items() if not name.startswith("_")} for plan in stated]
    names = dict.fromkeys(name for plan in plans for name in plan)
    billed = {name: max(plan.get(name, _as_text(name, plan)) for plan in plans) for name in names}
    return {name: usd for name, usd in billed.items() if usd > 0.0}


def _plans(found: Any) -> list[Any]:
    """The prices of an LLM that may hold today or later. Of several, the package takes the last one that holds, so what
    stands before one that has begun for good is over."""
    if not isinstance(found.prices, list):
        return [found.prices]
    now = datetime.now(UTC)
    begun = [at for at, plan in enumerate(found.prices) if _starts(plan) and plan.constraint.active(now)]
    return [plan.prices for plan in found.prices[max(begun, default=0) :]]


def _starts(plan: Any) -> bool:
    return hasattr(plan.constraint, "start_date")


def _as_text(name: str, plan: Mapping[str, float]) -> float:
    if not name.endswith("_mtok"):
        return 0.0
    return plan.get("output_mtok" if name.startswith("output") else "input_mtok", 0.0)


def _highest(price: Any) -> float:
    """The highest of a price that may have tiers."""
    return max(float(part or 0) for part in (getattr(price, "base", price), *(t.price for t in _tiers(price))))


def _tiers(price: Any) -> list[Any]:
    return list(getattr(price, "tiers", ()))


@functools.cache
def _found(model: str, base_url: str) -> Any:
    if _LOCAL.fullmatch(urlsplit(base_url).hostname or ""):
        return None  # without loading the package's data
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError:
        return None
    try:
        _, found = get_snapshot().find_provider_model(model, None, None, base_url)
    except LookupError:
        return None
    return found
