"""`Record`: what becomes of one request, settled, counted and logged once at its end.

An answer costs what its upstream counts. One that its client leaves is therefore read on for a while, unless nobody's
budget depends on it; and one without a count costs the most that it can have cost.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from p2l_sdk.serve.auth import Key
from p2l_sdk.serve.gateway.failover import Failure
from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.reasons import Work
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.spend import Charge
from p2l_sdk.serve.gateway.upstream import Answer
from p2l_sdk.serve.gateway.usage import estimated_cost
from p2l_sdk.serve.metrics import ServerMetrics

log = logging.getLogger("p2l_sdk.serve.gateway.chat")

_COUNT_SECONDS = 30.0  # for the count of an answer whose client has left: that of a usual answer comes within them
_MOST_LEFT = 256  # such answers at a time; they hold connections, and no client's limit counts them


class Records:
    """The records of a gateway's requests.

    Args:
        metrics: counts answers and what they cost.

    Attributes:
        left: those whose clients have left and whose answers are read on.
    """

    def __init__(self, metrics: ServerMetrics) -> None:
        self.metrics = metrics
        self.left = set[Record]()
        self._warned = set[tuple[str, str]]()

    def begin(self, key: Key | None) -> Record:
        """The record of a request, which this key pays."""
        return Record(self, key)

    def uncounted(self, llm: LLMConfig) -> None:
        """Say once of an LLM that its upstream ended an answer without a count."""
        if self._first(llm.name, "uncounted"):
            log.warning(
                "llm=%s ended an answer without a count of its tokens: keys pay all that was set aside for it, as for "
                "each such answer; let its upstream count (`usage`; in streams `include_usage`, see `stream_usage`), "
                "limit its answers (`max_tokens`), or say that its cost is the same for all (`cost` and `flat: true`)",
                llm.name,
            )

    def refused(self, llm: str, kind: str) -> None:
        """Say once of an LLM that it refuses a request in a way that it may bill."""
        if self._first(llm, kind):
            log.warning(
                "llm=%s refused a request (%s) and did not say that it had done no work: keys pay all that was set "
                "aside for the call, as for each such refusal (docs/router.md, What is booked)", llm, kind,
            )  # fmt: skip

    def _first(self, llm: str, what: str) -> bool:
        new = (llm, what) not in self._warned
        self._warned.add((llm, what))
        return new


class Record:
    """The record of one request: however it ends, its charge is settled and its log line is written once. The line
    contains no text of the request.

    Args:
        records: of the gateway.
        key: the API key that pays, None on a server without keys; also an attribute.

    Attributes:
        request: set once it has been parsed.
        charge: set once an LLM has been chosen.
        answer: of the LLM that answered.
        failures: the calls that failed.
        left: when the client left, on the monotonic clock; None while it is there.
    """

    def __init__(self, records: Records, key: Key | None) -> None:
        self._records = records
        self._start = time.perf_counter()
        self.answer: Answer | None = None
        self.key = key
        self.request: ChatRequest | None = None
        self.charge: Charge | None = None
        self.failures: Sequence[Failure] = ()
        self.left: float | None = None

    def patience(self) -> float:
        """The client has left: the seconds for which its answer is read on, for the count."""
        now, left = time.monotonic(), self._records.left
        if self.left is None:
            self.left = now
        if self.charge is None or not self.charge.counts or (self not in left and len(left) >= _MOST_LEFT):
            return 0.0
        left.add(self)
        return self.left + _COUNT_SECONDS - now

    def finish(self, end: str) -> None:
        """Settle the request, which ended this way; count and log it as soon as its answer has gone out."""
        answer, cost, most, booked = self.answer, None, None, None
        self._records.left.discard(self)
        try:
            if answer is not None:
                cost, most = self._cost(answer)
        finally:  # a charge stays open in no case: it would be set aside for ever
            if self.charge is not None:
                certain = cost if answer is None or answer.whole else most  # nobody will ever count the rest
                unknown = certain is None and (answer is not None or end in ("disconnected", "error"))
                booked = self.charge.settle(certain, most, unknown=unknown, failures=self.failures)
        seconds = time.perf_counter() - self._start
        asyncio.get_running_loop().call_soon(self._tell, end, cost, booked, seconds)

    def _tell(self, end: str, cost: float | None, booked: float | None, seconds: float) -> None:
        answer, asked = self.answer, self.request
        if answer is not None:
            self._records.metrics.choice(answer.llm.name, cost)
        self._records.metrics.stage("chat", seconds)
        name = "?" if asked is None else asked.model if asked.routed else "name"
        if self.key is not None and self.key.limited:
            for llm, error in self.failures:
                if error.refusal is not None and error.work is Work.WROTE and not error.usage:
                    self._records.refused(llm, error.kind)
        failed = ",".join(f"{llm}:{error.kind}" for llm, error in self.failures) or "-"
        log.info(
            "chat asked=%s llm=%s end=%s ms=%.1f cost=%s stream=%s attempts=%d failed=%s key=%s",
            name, "-" if answer is None else answer.llm.name, "disconnected" if self.left else end, 1000 * seconds,
            "-" if booked is None else f"{booked:.8f}", asked is not None and asked.stream,
            len(self.failures) + (answer is not None), failed, "-" if self.key is None else self.key.name,
        )  # fmt: skip

    def _cost(self, answer: Answer) -> tuple[float, float]:
        """The cost in USD, and the most that it can be: what the upstream counted. If the LLM is paid by the token and
        the count is missing or incomplete, the first is an estimate by the text seen, and no less than was expected;
        the second is what was set aside, as nobody knows what an LLM writes that no text shows."""
        assert self.request is not None
        assert self.charge is not None
        assert self.charge.quote is not None
        quote, written = self.charge.quote, answer.written
        counted = self.charge.counted(answer.counted, written)
        if counted is not None and answer.whole and (answer.stream is None or answer.stream.events.final):
            return counted, counted
        if answer.whole and quote.per_token > 0.0 and self.key is not None and self.key.limited:
            self._records.uncounted(answer.llm)
        estimate = estimated_cost(self.request, answer.llm, quote, written, whole=answer.whole)
        return max(counted or 0.0, estimate, quote.expected), max(counted or 0.0, quote.most)
