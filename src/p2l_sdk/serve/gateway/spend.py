"""Money: what a request may cost is reserved before each of its calls, and settled once, when the request ends.

Two accounts are charged. The mean budget's pacer goes by what is expected. The budget of an API key is a limit: what is
set aside of it is the most that the call can cost, and an answer is held to the length that the key can pay.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from p2l_sdk.routing.pacing import BudgetPacer
from p2l_sdk.serve.auth import Key, OutOfBudget
from p2l_sdk.serve.gateway.call import UpstreamError
from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.overcharges import Overcharges
from p2l_sdk.serve.gateway.quote import Quote
from p2l_sdk.serve.gateway.reasons import Work
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.usage import Written, counted_cost, overcharge
from p2l_sdk.serve.ledger.entries import NANO, Grant, Hold, Settlement, nano

_MOST_COUNTED = 10**13  # nano-dollars of one request that no budget limits: sums of what anybody asks for overflow


class Charge:
    """The charge of one request.

    Args:
        request: the request.
        quotes: of every LLM that may be called, by name.
        first: the LLM that was chosen, which the pacer expects to pay.
        pacer: of the mean budget, if that pays.
        key: the API key that pays, if there is one.
        seconds: until the request has surely ended.
        overcharges: is told of an LLM that bills more than it was quoted at.

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
        seconds: float = 600.0,
        overcharges: Overcharges | None = None,
    ) -> None:
        self._request, self._quotes = request, quotes
        self._pacer, self._key, self._seconds = pacer, key, seconds
        self._overcharges = overcharges
        self._llm: LLMConfig | None = None
        self._expected = quotes[first].expected
        self._id = "" if key is None else uuid.uuid4().hex  # of the hold
        self._first: tuple[Quote, Grant] | None = None  # what was set aside for the first call, until it begins
        self._asked = False
        self._lost = 0.0  # of failed calls that may be billed
        self._failed = 0
        self._open = True
        self.quote: Quote | None = None
        if pacer is not None:
            pacer.record(self._expected)

    async def require(self, ranking: Sequence[str]) -> None:
        """Set aside what a call of the first of these LLMs can cost.

        Raises:
            OutOfBudget: the key can pay none of them.
            LedgerError: the ledger does not say.
        """
        if self._key is None:
            return
        quote = self._quotes[ranking[0]]
        grant = await self._hold(self._key, quote)
        self._first = None if grant.amount is None else (quote, grant)
        if grant.amount is None and all(
            self._quotes[name].within((grant.left or 0) / NANO) is None for name in ranking
        ):
            raise self._refused(self._key, grant, quote)

    async def admit(self, llm: LLMConfig, failures: Sequence[tuple[str, UpstreamError]]) -> ChatRequest:
        """Set aside what a call of this LLM can cost, instead of what the last call could, and return the request to
        send, whose answer is held to what the key can pay. Each call is paid from the day on which it begins.

        Args:
            llm: the LLM that is about to be called.
            failures: the calls so far, all of which failed.

        Raises:
            OutOfBudget: the key cannot pay it.
            LedgerError: the ledger does not say.
        """
        self._note(failures)
        quote, self.quote, self._llm = self._quotes[llm.name], None, llm
        if self._key is None:
            self.quote = quote
            return self._request
        first, self._first = self._first, None
        grant = first[1] if first is not None and first[0] is quote else await self._hold(self._key, quote)
        if grant.amount is not None and grant.left is None:
            self.quote = quote
            return self._request
        held = None
        if grant.amount is not None:
            whole = grant.amount >= nano(quote.most + self._lost)
            held = quote.within(math.inf if whole else grant.amount / NANO - self._lost)
        if held is None:
            raise self._refused(self._key, grant, quote)
        self.quote = held
        return self._request.limited(held.limit)

    def settle(
        self,
        cost: float | None,
        most: float | None = None,
        *,
        unknown: bool = False,
        failures: Sequence[tuple[str, UpstreamError]] = (),
    ) -> float | None:
        """Replace what was set aside by the actual cost. Only the first call counts.

        Args:
            cost: USD, which the mean budget pays; None if there was no answer.
            most: the most that it can have cost, where nobody counted; by default `cost`. The key pays that.
            unknown: an LLM was working, and what it costs will never be known.
            failures: the calls that failed.

        Returns:
            What was booked, in USD: on the key if there is one. None if no LLM was called, or it was booked before.
        """
        if not self._open:
            return None
        self._open = False
        self._note(failures)
        if unknown and self.quote is not None:
            cost = most = self.quote.most
        paid = (cost or 0.0) if most is None else most
        if self._key is not None and self._asked:
            self._key.ledger.settle(Settlement(self._key.account, self._id, self._nano(paid + self._lost)))
        nothing = cost is None and not self._lost
        if self._pacer is not None:
            self._pacer.correct(self._expected, None if nothing else (cost or 0.0) + self._lost)
        paid = paid if self._key is not None else cost or 0.0
        return None if nothing else paid + self._lost

    @property
    def counts(self) -> bool:
        """Whether much depends on the upstream's count of the call under way: a budget pays it, by the token."""
        pays = self._pacer is not None or (self._key is not None and self._key.limited)
        return self._open and pays and self.quote is not None and self.quote.per_token > 0.0

    def counted(self, usage: Mapping[str, Any] | None, written: Written | None = None) -> float | None:
        """The cost of the last call in USD, by what its upstream counted of what was `written`; None if that is not
        known. An LLM that bills more than was agreed on is not trusted with this key's budget again."""
        if self.quote is None or self._llm is None or not usage:
            return None
        if self._overcharges is not None and self._key is not None and self._key.limited:
            # other keys may ask for what is billed beside tokens
            what = overcharge(usage, self._request, self._llm, self.quote)
            self._overcharges.note(self._llm.name, self._request, self._key, what)
            if what:
                return self.quote.most
        return counted_cost(usage, self._request, self._llm, self.quote, written)

    def _note(self, failures: Sequence[tuple[str, UpstreamError]]) -> None:
        """What failed calls may be billed stays spent."""
        for _, error in failures[self._failed :]:
            if self.quote is not None:
                most = {Work.NONE: 0.0, Work.READ: self.quote.read, Work.WROTE: self.quote.most}[error.work]
                counted = self.counted(error.usage)
                self._lost += max(most, (counted or self.quote.most) if error.usage else 0.0)
        self._failed = max(self._failed, len(failures))

    async def _hold(self, key: Key, quote: Quote) -> Grant:
        """Ask the ledger for what a call can cost beside what was lost, instead of what is set aside so far. If it
        refuses, that stays as it is."""
        self._asked = True
        most = self._nano(quote.most + self._lost)
        least = min(nano(quote.least + self._lost) + 1, most)  # 1 for the rounding of the length that it pays
        enough = nano(quote.enough + self._lost)
        hold = Hold(key.account, self._id, least, most, key.budgets, self._seconds, enough)
        return await key.ledger.reserve(hold)

    def _refused(self, key: Key, grant: Grant, quote: Quote) -> OutOfBudget:
        parts = counts(self._request, quote)
        return key.refused(grant, quote.least + self._lost, quote.read, parts, shorter=quote.window is None)

    def _nano(self, usd: float) -> int:
        limited = self._key is not None and self._key.limited
        return nano(usd) if limited else min(nano(usd), _MOST_COUNTED)


def counts(request: ChatRequest, quote: Quote) -> str:
    """As how many tokens the parts of a request count at most, in words, for a client that cannot pay them; "" if there
    is nothing to say of it."""
    if quote.limit is None:
        return ""
    if quote.window is not None:
        images = f" and {quote.images:,} of images" if quote.images else ""
        return f"all that the LLM can read is set aside, {quote.window:,} tokens{images}"
    size = request.size
    parts = (
        ("its text counts", size.most),
        ("its images", quote.images),
        ("its sounds", size.audio),
        ("its files, videos and tools", size.other - size.audio),
        ("its reasoning", request.thinking),
    )
    return ", ".join(f"{name} as up to {tokens:,} tokens" for name, tokens in parts if tokens > 0)
