"""What an answer cost, by what the upstream says that it counted, as far as that can be true.

An upstream counts tokens that nobody else sees. What it says is believed within limits: no more tokens read than the
request has bytes, and no more written than were allowed: it bills tokens that no text shows.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from p2l_sdk.serve.gateway.config import LLMConfig, Prices
from p2l_sdk.serve.gateway.quote import Quote, tokens_read
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.size import BYTES_PER_TOKEN, count_of

log = logging.getLogger("p2l_sdk.serve.gateway.usage")

_LONGEST = 131_072  # tokens of an answer that nothing limits
_UNDER_WAY = 250  # tokens that an LLM has written and that have not arrived when a client leaves: a second or two
_MOST_UNDER_WAY = 1000  # such tokens of each answer, at most
_MOST_USD = 10**6  # of one answer; a number may have more digits than a float holds
_BESIDE_TEXT = 64  # tokens of an answer that are no text: its beginning and end, the frame of a tool call


@dataclass(frozen=True)
class Written:
    """What has come of an answer.

    Attributes:
        text: bytes of text: content, reasoning, arguments of tools.
        pieces: parts of a stream with text, each at least a token.
        silent: tokens that may be beside the text: parts of a stream without text; bytes that were not looked at.
    """

    text: int
    pieces: int = 0
    silent: int = 0


def counted_cost(usage: Mapping[str, Any] | None, request: ChatRequest, llm: LLMConfig, quote: Quote) -> float | None:
    """The cost in USD by what the upstream counted; None without prices, or without a count.

    A cost that the upstream states itself (`usage.cost`) is taken if it is possible. What is not possible is cut to
    what is, and logged.
    """
    prices = llm.prices
    if prices is None or not isinstance(usage, Mapping):
        return None
    most = quote.most if quote.stated else quote.read + _LONGEST * quote.per_token
    if 0 < (stated := _stated(usage)) <= most:
        return stated
    read, wrote = count_of(usage.get("prompt_tokens")), count_of(usage.get("completion_tokens"))
    if read is None or wrote is None:
        return None
    reasoning = _detail(usage, "completion_tokens_details", "reasoning_tokens")
    total = count_of(usage.get("total_tokens")) or 0
    if reasoning > wrote or not total:
        wrote += reasoning  # some count it beside the answer
    wrote = max(wrote, total - read)
    most_read = request.n * tokens_read(request, llm)[1]
    limit = quote.limit if quote.stated and quote.limit is not None else _LONGEST
    most_written = request.n * (limit + _BESIDE_TEXT)
    believed = min(read, most_read), min(wrote, most_written)
    if believed != (read, wrote):
        log.warning(
            "usage llm=%s states %.3g tokens read and %.3g written; no more than %d and %d are possible",
            llm.name, _shown(read), _shown(wrote), most_read, most_written,
        )  # fmt: skip
    return min(_priced(usage, request, prices, *believed), most)


def _stated(usage: Mapping[str, Any]) -> float:
    """The cost in USD that the upstream states; 0 without one. Where a provider bills the LLM to an account of its own,
    `cost` is only what passing it on costs (OpenRouter's `is_byok`)."""
    details = usage.get("cost_details")
    inside = details.get("upstream_inference_cost") if isinstance(details, Mapping) else None
    fee, provider = _usd(usage.get("cost")), _usd(inside)
    if usage.get("is_byok"):
        return fee + provider if provider > 0 else 0.0
    return fee + provider if provider > fee > 0 else fee  # a fee below what the provider takes comes beside it


def _usd(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < _MOST_USD:
        return 0.0
    return float(value)


def _priced(usage: Mapping[str, Any], request: ChatRequest, prices: Prices, read: int, wrote: int) -> float:
    """The cost of so many tokens, in USD, by what they are: those from the cache, and those of audio. Where the count
    does not tell, all that may be audio is."""
    cached = min(_detail(usage, "prompt_tokens_details", "cached_tokens"), read)
    heard = _detail(usage, "prompt_tokens_details", "audio_tokens") or request.size.audio
    said = _detail(usage, "completion_tokens_details", "audio_tokens") or (wrote if request.speaks else 0)
    cost = prices.of(read, wrote, cached=cached, audio_read=min(heard, read), audio_written=min(said, wrote))
    # what is put into a cache costs up to twice as much; some say how much of it there was
    kept = _detail(usage, "prompt_tokens_details", "cache_write_tokens") or read - cached
    return cost + (prices.of(min(kept, read), 0) if request.size.kept else 0.0)


def most_cost(request: ChatRequest, llm: LLMConfig, quote: Quote, written: Written, *, whole: bool = True) -> float:
    """The most in USD that an answer can have cost which the upstream did not count: that of the quote, unless it is
    known how much the LLM reasons unseen, and all it writes is shown. Then every byte of text that has arrived is a
    token, and so is what is beside it, reasoned unseen and, if the answer is not `whole`, under way."""
    if quote.limit is None or llm.reasoning is None or llm.reasoning is True or request.speaks or request.hides:
        return quote.most
    beside = _BESIDE_TEXT + int(llm.reasoning) + (0 if whole else _MOST_UNDER_WAY)
    return min(quote.most, quote.read + ((written.text + written.silent) / request.n + beside) * quote.per_token)


def estimated_cost(
    request: ChatRequest, llm: LLMConfig, quote: Quote, written: Written, *, whole: bool = True
) -> float:
    """The cost in USD of an answer that the upstream did not count, by its text; at most the quote's. If it is not
    `whole`, the LLM had written more than has arrived."""
    if llm.prices is None:
        return quote.expected
    read, _ = tokens_read(request, llm)
    wrote = max(written.text / BYTES_PER_TOKEN, written.pieces) + (0 if whole else _UNDER_WAY * request.n)
    return min(llm.prices.of(read, wrote), quote.most)


def _detail(usage: Mapping[str, Any], group: str, name: str) -> int:
    details = usage.get(group)
    return (count_of(details.get(name)) or 0) if isinstance(details, Mapping) else 0


def _shown(tokens: int) -> float:
    return float(min(tokens, 10**15))  # an integer may have more digits than a float holds
