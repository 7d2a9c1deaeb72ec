"""What the PyPI package genai-prices knows of an LLM at an address, if it is installed: nothing is fetched."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_LOCAL = re.compile(r"[\d.]+|\[?[\da-f:]+\]?|localhost|[^.]+")  # addresses and names of one's own network
_PRICES = {  # ours -> those of genai-prices, of which the highest counts
    "input": ("input_mtok",),
    "output": ("output_mtok",),
    "cached_input": ("cache_read_mtok",),
    "audio_input": ("input_audio_mtok",),
    "audio_output": ("output_audio_mtok",),
}


def context_window(model: str, base_url: str) -> int | None:
    """The context window of an LLM, in tokens, if its address and name are known."""
    found = _found(model, base_url)
    return None if found is None else found.context_window


def token_prices(model: str, base_url: str) -> Mapping[str, Any] | None:
    """Prices of an LLM in USD per million tokens, as `Prices` takes them, if its address and name are known. Of prices
    that depend on the length of the prompt or on the time, the highest."""
    found = _found(model, base_url)
    if found is None:
        return None
    plans = found.prices if isinstance(found.prices, list) else [found]
    prices = {
        ours: max((_highest(getattr(plan.prices, name, None)) for plan in plans for name in theirs), default=0.0)
        for ours, theirs in _PRICES.items()
    }
    if prices["input"] + prices["output"] == 0.0:
        return None
    return {name: usd for name, usd in prices.items() if usd > 0.0 or name in ("input", "output")}


def _highest(price: Any) -> float:
    """The highest of a price that may have tiers; 0 for None."""
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
