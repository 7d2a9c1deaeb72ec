"""Money: what a request may cost is reserved before each of its calls, and settled once, when the request ends.

Two accounts are charged. The mean budget's pacer goes by what is expected. The budget of an API key is a limit: what is
set aside of it is the most that the call can cost, and an answer is held to the length that the key can pay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2l_sdk.routing.pacing import BudgetPacer
from p2l_sdk.serve.auth import Key
from p2l_sdk.serve.gateway.call import UpstreamError
from p2l_sdk.serve.gateway.config import LLMConfig
from p2l_sdk.serve.gateway.quote import Quote
from p2l_sdk.serve.gateway.request import ChatRequest


class Charge:
    """The charge of one request.

    Args:
        request: the request.
        quotes: of every LLM that may be called, by name.
        first: the LLM that was chosen, which the pacer expects to pay.
        pacer: of the mean budget, if that pays.
        key: the API key that pays, if there is one.

    Attributes:
        quote: what was agreed on for the last call; None before the first.
    """

    def __init__(
        self,
        request: ChatRequest,
        quotes: Mapping[str, Quote],
        first: str,
        *,
        pacer: BudgetPacer | None = None,
        key: Key | None = None,
    ) -> None:
        self._request, self._quotes = request, quotes
        self._pacer, self._key = pacer, key
        self._expected, self._reserved = quotes[first].expected, 0.0
        self._lost = 0.0  # of failed calls that may be billed
        self._failed = 0
        self._open = True
        self.quote: Quote | None = None
        if pacer is not None:
            pacer.record(self._expected)

    def require(self, ranking: Sequence[str]) -> None:
        """Raise OutOfBudget if the key can pay none of these LLMs."""
        if self._key is not None and self._key.left is not None:
            left = self._key.left
            if all(self._quotes[name].within(left) is None for name in ranking):
                self._key.require(self._quotes[ranking[0]].least)

    def admit(self, llm: LLMConfig, failures: Sequence[tuple[str, UpstreamError]]) -> ChatRequest:
        """Set aside what a call of this LLM can cost, instead of what the last call could, and return the request to
        send, whose answer is held to what the key can pay.

        Args:
            llm: the LLM that is about to be called.
            failures: the calls so far, all of which failed.

        Raises:
            OutOfBudget: the key cannot pay it.
        """
        self._note(failures)
        quote = self._quotes[llm.name]
        if self._key is None or self._key.left is None:
            self.quote = quote
            self._reserve(quote.most)
            return self._request
        left = self._key.left + self._reserved - self._lost
        held = quote.within(left)
        if held is None:
            self._reserve(0.0)
            self._key.require(quote.least)
            self._key.require(quote.most)  # the two differ from what is left by a rounding error at most
            raise AssertionError("a key that can pay was refused")
        self.quote = held
        self._reserve(held.most)
        return self._request.limited(held.limit)

    def settle(
        self,
        cost: float | None,
        most: float | None = None,
        *,
        unknown: bool = False,
        failures: Sequence[tuple[str, UpstreamError]] = (),
    ) -> None:
        """Replace what was set aside by the actual cost. Only the first call counts.

        Args:
            cost: USD; None if there was no answer.
            most: the most that it can have cost, where nobody counted; by default `cost`. The key pays that.
            unknown: an LLM was working, and what it costs will never be known.
            failures: the calls that failed.
        """
        if not self._open:
            return
        self._open = False
        self._note(failures)
        if unknown and self.quote is not None:
            cost, most = self.quote.expected, self.quote.most
        paid = (cost or 0.0) if most is None else most
        if self._key is not None:
            self._key.correct(self._reserved, paid + self._lost)
        if self._pacer is not None:
            self._pacer.correct(self._expected, cost if cost is not None or not self._lost else self._lost)

    def _note(self, failures: Sequence[tuple[str, UpstreamError]]) -> None:
        """What failed calls may be billed stays spent."""
        for name, error in failures[self._failed :]:
            if error.worked:
                self._lost += self.quote.most if self.quote is not None else self._quotes[name].most
        self._failed = max(self._failed, len(failures))

    def _reserve(self, most: float) -> None:
        reserved = most + self._lost
        if self._key is not None:
            self._key.correct(self._reserved, reserved)
        self._reserved = reserved
