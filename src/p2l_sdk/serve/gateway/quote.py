"""What a request costs at an LLM, before the answer exists: what it is expected to cost, and the most that it can.

The choice of the LLM goes by the expected cost, limits by the most. Text has about four bytes per token and never fewer
than one, and a template writes some around it; the answer is as long as the request or the config allows, and typical
lengths are those of the config.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from p2l_sdk.serve.gateway.llm import CONTEXT, LLMConfig
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.size import BYTES_PER_TOKEN

_FRAME_OF_MESSAGE = 16  # tokens that a template writes around each message at most
_LEAST_ANSWER = 16  # tokens; an answer that is cut shorter is of no use


def tokens_read(request: ChatRequest, llm: LLMConfig) -> tuple[float, int]:
    """The tokens that an LLM with prices probably reads of a request, once, and the most that it can."""
    assert llm.prices is not None
    size, system = request.size, len((llm.system or "").encode())
    frame = llm.frame + _FRAME_OF_MESSAGE * (len(request.messages) + (llm.system is not None))
    images = size.images * llm.prices.image_tokens
    usual = (size.text + system) / BYTES_PER_TOKEN + images + size.usual
    if llm.set_aside == CONTEXT:
        assert llm.context is not None
        return usual, llm.context + math.ceil(images)  # some bill more tokens of them than they read
    again = size.again if llm.templated else 0
    return usual, size.most + system + frame + math.ceil(images) + size.other + again


def sounds_read(request: ChatRequest, llm: LLMConfig) -> int:
    """The most tokens of audio that an LLM with prices can read of a request, once."""
    return tokens_read(request, llm)[1] if llm.set_aside == CONTEXT and request.size.audio else request.size.audio


@dataclass(frozen=True)
class Quote:
    """The cost of a request at one LLM, in USD.

    Attributes:
        expected: what it probably costs.
        most: what it costs at most, if the answer has no more than `limit` tokens.
        limit: tokens of each answer that `most` allows for; None if the LLM is paid by the response.
        stated: whether the request or the config holds the LLM to this limit.
        read: what reading the request costs at most, with all that is charged beside tokens, and the reasoning that it
            asks for by a number.
        per_token: what one more token of each of the answers costs.
        typical: tokens of each answer that are usual.
        images: tokens of images, at most.
        window: tokens that the LLM can read, if all of them are set aside; None if it goes by the request's size.
        held: whether the limit is shorter than the request and the config say.
    """

    expected: float
    most: float
    limit: int | None = None
    stated: bool = True
    read: float = 0.0
    per_token: float = 0.0
    typical: float = 0.0
    images: int = 0
    window: int | None = None
    held: bool = False

    @classmethod
    def of(cls, request: ChatRequest, llm: LLMConfig, flat: float) -> Quote:
        """The quote for a request.

        Args:
            request: the request.
            llm: the LLM.
            flat: USD per response of an LLM without prices by the token.
        """
        prices, n = llm.prices, request.n
        if prices is None:
            return cls(flat * n, flat * n)
        asked = request.max_tokens or llm.max_tokens
        limit = prices.most_output_tokens if asked is None else asked
        tokens, most = tokens_read(request, llm)
        size, speaks = request.size, int(request.speaks)
        typical = min(prices.output_tokens, limit)
        stored = tokens if size.kept and prices.cache_write is not None else 0.0
        expected = prices.fee + prices.of(
            tokens, n * typical, stored=stored,
            audio_read=min(size.audio, size.usual), audio_written=speaks * n * typical,
        )  # fmt: skip
        # some bill the prompt, and the request, once for every answer
        reading = prices.most_read(most, sounds_read(request, llm), size.kept)
        reading += prices.of(0, request.thinking, audio_written=speaks * request.thinking)
        read = n * (prices.fee + reading) + prices.refusal
        per_token = n * prices.of(0, 1, audio_written=speaks)
        images = math.ceil(size.images * prices.image_tokens)
        window = llm.context if llm.set_aside == CONTEXT else None
        return cls(
            expected, read + limit * per_token, limit, asked is not None, read, per_token, typical, images, window
        )

    @property
    def least(self) -> float:
        """What it costs with the shortest answer that is of use."""
        return self.most if self.limit is None else self.read + min(_LEAST_ANSWER, self.limit) * self.per_token

    @property
    def enough(self) -> float:
        """What it costs with an answer of usual length, if nobody has asked for a length; else the most."""
        return self.most if self.stated else self.read + max(self.typical, _LEAST_ANSWER) * self.per_token

    def within(self, left: float) -> Quote | None:
        """The quote of an answer that is held to its limit, and to as many tokens as so many USD allow; None if that is
        hardly an answer."""
        if self.most <= left:
            return replace(self, stated=True, held=self.held or not self.stated)
        if self.limit is None or self.per_token <= 0.0:
            return None
        limit = math.floor((left - self.read) / self.per_token * (1 - 1e-12))
        if limit < min(_LEAST_ANSWER, self.limit):
            return None
        return replace(self, most=self.read + limit * self.per_token, limit=limit, stated=True, held=True)


def quotes(request: ChatRequest, llms: Mapping[str, LLMConfig], costs: Mapping[str, float]) -> dict[str, Quote]:
    """A quote from each LLM.

    Args:
        request: the request.
        llms: by name.
        costs: USD per response by name, for those without prices by the token.
    """
    return {name: Quote.of(request, llm, costs[name]) for name, llm in llms.items()}
