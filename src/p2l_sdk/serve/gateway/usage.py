"""What an answer cost, by what the upstream says that it counted, as far as that can be true.

An upstream counts tokens that nobody else sees. What it says is believed within limits: no more tokens read than the
request has bytes, and no more written than were allowed: it bills tokens that no text shows.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from p2l_sdk.routing.route import usd
from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.quote import Quote, sounds_read, tokens_read
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
_STORED = (  # OpenAI's, litellm's, Bifrost's, New API's, Alibaba's and Envoy's names for what was written into a cache
    "cache_write_tokens", "cache_creation_tokens", "cached_write_tokens", "cached_creation_tokens", _CREATED,
)  # fmt: skip
_OF_BIFROST = ("cached_read_tokens", "cached_write_tokens")  # whose `cached_tokens` may hold both
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
        heard: of those read, sound that is counted beside the prompt.
        tells: whether it says how many were written into the cache, be it none.
    """

    read: int
    wrote: int
    cached: int = 0
    stored: int = 0
    heard: int = 0
    tells: bool = True

    @classmethod
    def readings(cls, usage: Mapping[str, Any], sounds: int = 0) -> tuple[Count, ...]:
        """What a `usage` may mean; nothing if there is no count, or one of a request without a token.

        Args:
            usage: what the upstream says.
            sounds: tokens of sound that the request may have: what the total holds beside prompt and answer may be
                these (Mistral counts sound in the total and in `audio_tokens` alone).
        """
        read, wrote = count_of(usage.get("prompt_tokens")), count_of(usage.get("completion_tokens"))
        if read is None or wrote is None:
            return ()
        total = count_of(usage.get("total_tokens")) or 0
        reasoning = _detail(usage, "completion_tokens_details", "reasoning_tokens")
        if reasoning > wrote or not total:
            wrote += reasoning  # some count it beside the answer
        split = _tells(usage, _OF_BIFROST)
        cached = _detail(usage, "prompt_tokens_details", _OF_BIFROST[0] if split else "cached_tokens")
        stored = max(_detail(usage, "prompt_tokens_details", name) for name in _STORED)
        tells = split or _tells(usage, _STORED) or count_of(usage.get(_CREATED)) is not None
        # Anthropic counts these beside the prompt, and so do proxies that pass them on; others repeat them as a part
        hit, made = (count_of(usage.get(name)) or 0 for name in ("cache_read_input_tokens", _CREATED))
        apart = hit > cached or made > stored
        cached, stored = max(cached, hit), max(stored, made)
        kept = cached + stored
        beside = apart or kept > read
        reads = [] if beside else [read]
        if beside or (kept and total >= read + kept + wrote):  # the rest may also be reasoning, as Google counts it
            reads.append(read + kept)
        found = [cls(one, max(wrote, total - one), cached, stored, tells=tells) for one in reads if one]
        rest = total - read - wrote
        if sounds and rest > 0:
            named = _detail(usage, "prompt_tokens_details", "audio_tokens")
            heard = named if 0 < named <= rest else min(rest, sounds)
            found.append(cls(read + heard, wrote + rest - heard, cached, stored, heard, tells))
        return tuple(found)


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
    sounds = request.n * sounds_read(request, llm)
    counts = [count for count in Count.readings(usage, sounds) if count.wrote or written is None or not written.text]
    return min(max(_believed(usage, request, llm, quote, count) for count in counts), most) if counts else None


def _believed(usage: Mapping[str, Any], request: ChatRequest, llm: LLMConfig, quote: Quote, count: Count) -> float:
    """The cost in USD of what is possible of a count."""
    assert llm.prices is not None
    most_read, most_written = _possible(request, llm, quote)
    sure = replace(count, read=min(count.read, most_read), wrote=min(count.wrote, most_written))
    if sure != count:
        log.warning(
            "usage llm=%s states %.3g tokens read and %.3g written; no more than %d and %d are possible",
            llm.name, _shown(count.read), _shown(count.wrote), most_read, most_written,
        )  # fmt: skip
    return _priced(usage, request, llm, sure)


def overcharge(usage: Mapping[str, Any] | None, request: ChatRequest, llm: LLMConfig, quote: Quote) -> str:
    """What an upstream says of a call that the prices in the config do not allow for; "" if there is nothing."""
    if llm.prices is None or not isinstance(usage, Mapping) or not quote.stated:
        return ""
    if (stated := _stated(usage)) > quote.most * _ROUNDING:
        return f"it states a cost of {usd(stated)} for a call that was quoted at {usd(quote.most)} at most"
    counts = () if stated else Count.readings(usage)
    found = [_overcounted(usage, request, llm, quote, count) for count in counts]
    return "" if not all(found) else next(iter(found), "")  # an LLM is not put out for a way to count


def _overcounted(usage: Mapping[str, Any], request: ChatRequest, llm: LLMConfig, quote: Quote, count: Count) -> str:
    """What cannot be in a count, in words; "" if there is nothing. What only may come beside it is left out."""
    prices = llm.prices
    if prices is None or max(count.read, count.wrote) > _LONGEST_COUNT:
        return ""
    read, wrote = (count_of(usage.get(name)) or 0 for name in ("prompt_tokens", "completion_tokens"))
    reasoning = _detail(usage, "completion_tokens_details", "reasoning_tokens")
    beside = reasoning > wrote or count_of(usage.get("total_tokens"))
    sure = replace(count, read=read, wrote=count.wrote if beside else wrote)
    counted, (most_read, most_written) = _priced(usage, request, llm, sure), _possible(request, llm, quote)
    if counted > quote.most * _ROUNDING or sure.read > most_read * _ROUNDING or sure.wrote > most_written * _ROUNDING:
        tokens = f"{sure.read} tokens read and {sure.wrote} written, {usd(counted)}"
        return f"it counts {tokens}; possible were {most_read} and {most_written}, quoted at {usd(quote.most)} at most"
    priced = prices.cache_write is not None or request.size.kept
    return "" if priced or not count.stored else _NO_PRICE


def _possible(request: ChatRequest, llm: LLMConfig, quote: Quote) -> tuple[int, int]:
    """The most tokens that all answers together can have read and written."""
    limit = quote.limit if quote.stated and quote.limit is not None else _LONGEST
    return request.n * tokens_read(request, llm)[1], request.n * (limit + request.thinking + _BESIDE_TEXT)


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


def _priced(usage: Mapping[str, Any], request: ChatRequest, llm: LLMConfig, count: Count) -> float:
    """The cost of so many tokens, in USD, by what they are: those from the cache, and those of audio. Where the count
    does not tell, all that may be audio is, and all that may be in a cache was put there."""
    assert llm.prices is not None
    prices, read, wrote, marked = llm.prices, count.read, count.wrote, request.size.kept
    # what is said to come from a cache may have been put there just now (litellm's count of Google's LLMs)
    cached = min(count.cached, read) if count.tells or not marked else 0
    stored = min(count.stored or (read if marked else 0), read - cached)
    heard = count.heard or _detail(usage, "prompt_tokens_details", "audio_tokens")
    if not heard and (prices.audio_input or 0.0) > prices.input:
        heard = request.n * sounds_read(request, llm)
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


def _tells(usage: Mapping[str, Any], names: Collection[str]) -> bool:
    """Whether the details of the prompt have a number by one of these names, be it 0."""
    details = usage.get("prompt_tokens_details")
    return isinstance(details, Mapping) and any(count_of(details.get(name)) is not None for name in names)


def _detail(usage: Mapping[str, Any], group: str, name: str) -> int:
    details = usage.get(group)
    return (count_of(details.get(name)) or 0) if isinstance(details, Mapping) else 0


def _shown(tokens: int) -> float:
    return float(min(tokens, 10**15))  # an integer may have more digits than a float holds
