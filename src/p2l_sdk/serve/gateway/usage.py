"""What an answer cost, by what the upstream says that it counted, as far as that can be true.

An upstream counts tokens that nobody else sees. What it says is believed within limits: no more tokens read than the
request has bytes, and no more written than were allowed: it bills tokens that no text shows.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from p2l_sdk.routing.route import usd
from p2l_sdk.serve.gateway.config import LLMConfig
from p2l_sdk.serve.gateway.prices import Prices
from p2l_sdk.serve.gateway.quote import Quote, tokens_read
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.size import BYTES_PER_TOKEN, count_of

log = logging.getLogger("p2l_sdk.serve.gateway.usage")

_LONGEST = 131_072  # tokens of an answer that nothing limits
_UNDER_WAY = 250  # tokens that an LLM has written and that have not arrived when a client leaves: a second or two
_LONGEST_COUNT = 10**7  # tokens of a request; a larger count is a mistake, and no bill
_MOST_USD = 10**6  # of one answer; a number may have more digits than a float holds
_TICK = 1e-10  # USD
_ROUNDING = 1.01  # of a quote; what is above shows that the prices are wrong
_CREATED = "cache_creation_input_tokens"
_STORED = ("cache_write_tokens", "cache_creation_tokens")
_NO_PRICE = "it counts tokens that it wrote into its cache, and no price of them is known (`cache_write`)"
_BESIDE_TEXT = 64  # tokens of an answer that are no text: its beginning and end, the frame of a tool call


@dataclass(frozen=True)
class Written:
    """What has come of an answer.

    Attributes:
        text: bytes of text: content, reasoning, arguments of tools.
        pieces: parts of a stream with text, each at least a token.
    """

    text: int
    pieces: int = 0


@dataclass(frozen=True)
class Count:
    """The tokens that an upstream has counted.

    Attributes:
        read: of the request, all of them.
        wrote: of all answers.
        cached: of those read, what came from the upstream's cache.
        stored: of those read, what was written into its cache.
    """

    read: int
    wrote: int
    cached: int = 0
    stored: int = 0

    @classmethod
    def of(cls, usage: Mapping[str, Any]) -> Count | None:
        """The count in a `usage`; None if there is none, or one of a request without a token."""
        read, wrote = count_of(usage.get("prompt_tokens")), count_of(usage.get("completion_tokens"))
        if read is None or wrote is None:
            return None
        total = count_of(usage.get("total_tokens")) or 0
        reasoning = _detail(usage, "completion_tokens_details", "reasoning_tokens")
        if reasoning > wrote or not total:
            wrote += reasoning  # some count it beside the answer
        cached = _detail(usage, "prompt_tokens_details", "cached_tokens")
        stored = max(_detail(usage, "prompt_tokens_details", name) for name in _STORED)
        # Anthropic counts these beside the prompt, and so do proxies that pass them on; others repeat them as a part
        hit, made = (count_of(usage.get(name)) or 0 for name in ("cache_read_input_tokens", _CREATED))
        apart = hit > cached or made > stored
        cached, stored = max(cached, hit), max(stored, made)
        kept = cached + stored
        if kept and (apart or kept > read or total >= read + kept + wrote):
            read += kept
        return cls(read, max(wrote, total - read), cached, stored) if read else None


def counted_cost(
    usage: Mapping[str, Any] | None,
    request: ChatRequest,
    llm: LLMConfig,
    quote: Quote,
    written: Written | None = None,
) -> float | None:
    """The cost in USD by what the upstream counted; None without prices, or without a count that can be one of what was
    `written`.

    A cost that the upstream states itself (`usage.cost`) is taken if it is possible. What is not possible is cut to
    what is, and logged.
    """
    prices = llm.prices
    if prices is None or not isinstance(usage, Mapping):
        return None
    most = quote.most if quote.stated else quote.read + _LONGEST * quote.per_token
    stated = _stated(usage)
    if 0 < stated <= most or (stated > most and quote.stated):
        return min(stated, most)
    count = Count.of(usage)
    if count is None or (count.wrote == 0 and written is not None and written.text > 0):
        return None
    most_read, most_written = _possible(request, llm, quote)
    believed = min(count.read, most_read), min(count.wrote, most_written)
    if believed != (count.read, count.wrote):
        log.warning(
            "usage llm=%s states %.3g tokens read and %.3g written; no more than %d and %d are possible",
            llm.name, _shown(count.read), _shown(count.wrote), most_read, most_written,
        )  # fmt: skip
    return min(_priced(usage, request, prices, replace(count, read=believed[0], wrote=believed[1])), most)


def overcharge(usage: Mapping[str, Any] | None, request: ChatRequest, llm: LLMConfig, quote: Quote) -> str:
    """What an upstream says of a call that the prices in the config do not allow for; "" if there is nothing."""
    if llm.prices is None or not isinstance(usage, Mapping) or not quote.stated:
        return ""
    if (stated := _stated(usage)) > quote.most * _ROUNDING:
        return f"it states a cost of {usd(stated)} for a call that was quoted at {usd(quote.most)} at most"
    count = Count.of(usage)
    if stated or count is None or max(count.read, count.wrote) > _LONGEST_COUNT:
        return ""
    most_read, most_written = _possible(request, llm, quote)
    sure = _at_least(usage, count)
    counted = _priced(usage, request, llm.prices, sure)
    if counted > quote.most * _ROUNDING or sure.read > most_read * _ROUNDING or sure.wrote > most_written * _ROUNDING:
        tokens = f"{sure.read} tokens read and {sure.wrote} written, {usd(counted)}"
        return f"it counts {tokens}; possible were {most_read} and {most_written}, quoted at {usd(quote.most)} at most"
    priced = llm.prices.cache_write is not None or request.size.kept
    return "" if priced or not count.stored else _NO_PRICE


def _at_least(usage: Mapping[str, Any], count: Count) -> Count:
    """A count without what only may come beside it: an LLM is not put out for a way to count."""
    read, wrote = (count_of(usage.get(name)) or 0 for name in ("prompt_tokens", "completion_tokens"))
    reasoning = _detail(usage, "completion_tokens_details", "reasoning_tokens")
    beside = reasoning > wrote or count_of(usage.get("total_tokens"))
    return replace(count, read=read, wrote=count.wrote if beside else wrote)


def _possible(request: ChatRequest, llm: LLMConfig, quote: Quote) -> tuple[int, int]:
    """The most tokens that all answers together can have read and written."""
    limit = quote.limit if quote.stated and quote.limit is not None else _LONGEST
    return request.n * tokens_read(request, llm)[1], request.n * (limit + _BESIDE_TEXT)


def _stated(usage: Mapping[str, Any]) -> float:
    """The cost in USD that the upstream states; 0 without one. Where a provider bills the LLM to an account of its own,
    `cost` is only what passing it on costs (OpenRouter's `is_byok`)."""
    cost, details = usage.get("cost"), usage.get("cost_details")
    if isinstance(cost, Mapping):
        cost = cost.get("total_cost")  # Perplexity's
    inside = details.get("upstream_inference_cost") if isinstance(details, Mapping) else None
    fee, provider = _usd(cost), _usd(inside)
    if usage.get("is_byok"):
        return fee + provider if provider > 0 else 0.0
    if fee:
        return fee + provider if provider > fee else fee  # a fee below what the provider takes comes beside it
    return _usd(usage.get("estimated_cost")) or _usd(usage.get("cost_in_usd_ticks"), _TICK)  # DeepInfra's, xAI's


def _usd(value: Any, unit: float = 1.0) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < _MOST_USD / unit:
        return 0.0
    return value * unit


def _priced(usage: Mapping[str, Any], request: ChatRequest, prices: Prices, count: Count) -> float:
    """The cost of so many tokens, in USD, by what they are: those from the cache, and those of audio. Where the count
    does not tell, all that may be audio is, and all that may be in a cache was put there."""
    read, wrote, marked = count.read, count.wrote, request.size.kept
    cached = min(count.cached, read)
    stored = min(count.stored or (read if marked else 0), read - cached)
    heard = _detail(usage, "prompt_tokens_details", "audio_tokens") or request.size.audio
    said = _detail(usage, "completion_tokens_details", "audio_tokens") or (wrote if request.speaks else 0)
    return request.n * prices.fee + prices.of(
        read, wrote, cached=cached, stored=stored, marked=marked,
        audio_read=min(heard, read), audio_written=min(said, wrote),
    )  # fmt: skip


def estimated_cost(
    request: ChatRequest, llm: LLMConfig, quote: Quote, written: Written, *, whole: bool = True
) -> float:
    """The cost in USD of an answer that the upstream did not count, by its text; at most the quote's. If it is not
    `whole`, the LLM had written more than has arrived."""
    if llm.prices is None:
        return quote.expected
    read, _ = tokens_read(request, llm)
    wrote = max(written.text / BYTES_PER_TOKEN, written.pieces) + (0 if whole else _UNDER_WAY * request.n)
    return min(llm.prices.fee + llm.prices.of(read, wrote), quote.most)


def _detail(usage: Mapping[str, Any], group: str, name: str) -> int:
    details = usage.get(group)
    return (count_of(details.get(name)) or 0) if isinstance(details, Mapping) else 0


def _shown(tokens: int) -> float:
    return float(min(tokens, 10**15))  # an integer may have more digits than a float holds
