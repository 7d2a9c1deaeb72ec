"""`Prices`: what a vendor bills for a request, by the token and beside tokens."""

from __future__ import annotations

from dataclasses import dataclass, fields

from p2l_sdk.tables.settings import check_count, check_number

_STORED = 2  # times the price of input: the most that vendors take for what they write into a cache


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices of an LLM that is paid by the token.

    Attributes:
        input, output: USD per million tokens.
        cached_input: of tokens that the upstream read from its cache; by default as `input`.
        cache_write: of tokens that it writes into its cache, whether a request asks for that or not; by default as
            `input`, and twice that for what a request marks with `cache_control`.
        request: USD for a request, beside tokens, at most: a fee, a search that the LLM makes by itself. None if nobody
            has said so, which is none, but for an LLM that is known to search.
        refusal: USD for a request that is refused for its content.
        input_tokens, output_tokens: typical numbers per request and response. The second is what a request is expected
            to cost; both are the cost per response of an LLM where there is no request yet.
        most_output_tokens: of an answer that neither the request nor `max_tokens` limits: what is set aside for it, and
            what an answer paid from a budget is limited to.
        image_tokens: of an image in full detail, at most.
        audio_input, audio_output: of tokens of audio; without them a key with budgets cannot send or ask for any.
    """

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None
    request: float | None = None
    refusal: float = 0.0
    input_tokens: float = 500
    output_tokens: float = 500
    most_output_tokens: int = 8192
    image_tokens: float = 1600
    audio_input: float | None = None
    audio_output: float | None = None

    def __post_init__(self) -> None:
        for field_ in fields(self):
            if field_.name != "most_output_tokens":
                check_number(self, field_.name, least=0)
        check_count(self, "most_output_tokens")

    @property
    def fee(self) -> float:
        """USD for a request, beside tokens."""
        return self.request or 0.0

    @property
    def cost(self) -> float:
        """The estimated cost, USD per response."""
        return self.fee + self.of(self.input_tokens, self.output_tokens)

    def of(
        self,
        read: float,
        written: float,
        *,
        cached: float = 0,
        stored: float = 0,
        marked: bool = False,
        audio_read: float = 0,
        audio_written: float = 0,
    ) -> float:
        """The cost of so many tokens, USD, without the fee. Those from the upstream's cache, those `stored` in it (as
        the request may have `marked` them) and those of audio are part of the tokens `read` and `written`."""
        usd = self.input * (read - cached) + self.output * written
        usd += cached * (self.input if self.cached_input is None else self.cached_input)
        usd += stored * (self._storing(marked) - self.input)
        usd += audio_read * self._sound
        if marked:  # sounds may be what was stored, which costs as many times their price
            usd += (_STORED - 1) * min(stored, audio_read) * max(0.0, self._sound)
        usd += audio_written * ((self.audio_output or self.output) - self.output)
        return max(0.0, usd) / 1e6

    def most_read(self, tokens: float, audio: float, marked: bool) -> float:
        """The most that reading so many tokens can cost, USD without the fee, `audio` of them of sounds; some may be
        `marked` to be kept in the upstream's cache."""
        times = _STORED if marked else 1
        text = max(times * max(self.input, self.cached_input or 0.0), self.cache_write or 0.0)
        return (text * tokens + times * max(0.0, self._sound) * audio) / 1e6

    @property
    def _sound(self) -> float:
        """What a token of audio costs more than one of text."""
        return (self.audio_input or self.input) - self.input

    def _storing(self, marked: bool) -> float:
        """The price of tokens that are written into a cache. What is marked may be kept for an hour, which costs more
        than the price of what is kept for minutes."""
        if marked or self.cache_write is None:
            return max(self.cache_write or 0.0, _STORED * self.input)
        return self.cache_write
