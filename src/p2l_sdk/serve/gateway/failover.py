"""Failover: calls the LLMs of a ranking until one of them answers."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from p2l_sdk.serve.auth import OutOfBudget
from p2l_sdk.serve.errors import OVERLOADED, SERVER, ApiError
from p2l_sdk.serve.gateway.call import UpstreamError
from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.refusal import Refusal
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.upstream import Answer, Upstream

Failure = tuple[str, UpstreamError]  # the LLM that was called (and which of its addresses), and why it failed
Admit = Callable[[LLMConfig, Sequence[Failure]], Awaitable[ChatRequest]]
_OUR_CONFIG = (403, 404)  # of an LLM that the client named: it is there, but our key or its name upstream is wrong


class NoAnswer(ApiError):  # noqa: N818  named for what happened, like all errors of the server
    """No LLM answered. The status tells the client whether another try is worthwhile.

    Args:
        failures: the calls that failed; also an attribute.
        ranking: the LLMs that could have been called.
        retry_after: seconds until one of them may be called, if the breakers of all are open.
        unpaid: whether the key could not pay another call.
    """

    type, code = SERVER, "upstream_error"

    def __init__(
        self, failures: Sequence[Failure], ranking: Sequence[str], retry_after: float | None, unpaid: bool = False
    ) -> None:
        self.failures = failures
        counts = Counter(f"{name} {error}" for name, error in failures)
        calls = "; ".join(text if n == 1 else f"{text} ({n} times)" for text, n in counts.items())
        if not calls:
            alone = f"{ranking[0]} is" if len(ranking) == 1 else "all are"
            calls = f"{alone} left alone for a while after failures" if retry_after else "no time was left"
        faults = {
            error.kind for _, error in failures if error.refusal is None
        }  # they say whether a retry is worthwhile
        kinds = faults or {error.kind for _, error in failures} or {"open" if retry_after else "timeout"}
        self.status = {"timeout": 504, "status_429": 429, "open": 503}.get(min(kinds), 502) if len(kinds) == 1 else 502
        if self.status == 429:
            self.type, self.code = OVERLOADED, "upstream_rate_limit"
        headers = {"x-should-retry": "false"} if failures else {}  # clients of OpenAI would repeat all the calls
        if retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
            headers["retry-after-ms"] = str(math.ceil(1000 * retry_after))
        rest = "; what the key has left does not pay another call" if unpaid else ""
        super().__init__(f"no LLM answered: {calls}{rest}", headers=headers)


class Refused(NoAnswer):
    """All LLMs that could have been called refused the request; the first refusal says why.

    Args:
        failures: the calls, all of them refused; also an attribute.
        refusal: the first.
    """

    def __init__(self, failures: Sequence[Failure], refusal: Refusal) -> None:
        super().__init__(failures, (), None)
        self.status, self._error = refusal.status, refusal.error
        if refusal.request_id is not None:
            self.headers["x-request-id"] = refusal.request_id

    def body(self) -> dict[str, Any]:
        """The body of the reply."""
        return {"error": dict(self._error)}


class Failover:
    """Calls upstreams in the order of a ranking.

    Args:
        upstreams: one or several by name of the LLM, one for each of its addresses.
        attempts: maximum number of times per request that an LLM may fail at all its addresses in a way that another
            try may mend. The others (refusals, a wrong key, an empty account) are bounded by the number of LLMs.
        backoff: seconds before an upstream is called a second time; doubled each time.
    """

    def __init__(self, upstreams: Mapping[str, Sequence[Upstream]], attempts: int, backoff: float) -> None:
        self._upstreams = upstreams
        self._attempts, self._backoff = attempts, backoff

    async def answer(
        self, request: ChatRequest, ranking: Sequence[str], ends: float, admit: Admit | None = None
    ) -> tuple[Answer, list[Failure]]:
        """The first answer, and the failed calls before it.

        Args:
            request: the client's request.
            ranking: names of the LLMs that may answer, first choice first; after the last the first is called again.
            ends: the deadline, on the monotonic clock.
            admit: is asked before every call; it returns the request to send, or raises OutOfBudget.

        Raises:
            OutOfBudget: none of them could be paid.
            LedgerError: it cannot be found out whether they can be paid.
            Refused: all of them refused the request.
            NoAnswer: none of them answered.
        """
        failures: list[Failure] = []
        left = {name: list(self._upstreams[name]) for name in ranking}
        called: Counter[str] = Counter()
        faults = 0
        unpaid: OutOfBudget | None = None
        while faults < self._attempts:
            ready = [name for name, places in left.items() if not all(u.breaker.wait(request.owner) for u in places)]
            if not ready:
                break
            name = min(ready, key=called.__getitem__)  # the first of those called least often
            called[name] += 1
            pause = self._backoff * 2 ** (called[name] - 2) if called[name] > 1 else 0.0
            if ends - time.monotonic() <= pause:
                break
            if pause:  # never sleep 0: another request could take the breaker's single trial in between
                await asyncio.sleep(pause)
            before = len(failures)
            try:
                answer = await self._ask(request, left, name, ends, failures, admit)
            except OutOfBudget as error:
                unpaid = unpaid or error
                left[name].clear()
                continue
            if answer is not None:
                return answer, failures
            faults += any(not error.final for _, error in failures[before:])
        if unpaid is not None and not failures:
            raise unpaid
        refusals = [error.refusal for _, error in failures if error.refusal is not None]
        all_refused = refusals and len(refusals) == len(failures) and not any(left.values())
        if all_refused and (request.routed or refusals[0].status not in _OUR_CONFIG or refusals[0].of_content):
            raise Refused(failures, refusals[0])
        waits = [upstream.breaker.wait(request.owner) for upstreams in left.values() for upstream in upstreams]
        raise NoAnswer(failures, ranking, min(waits, default=None) or None, unpaid is not None)

    async def _ask(
        self,
        request: ChatRequest,
        left: Mapping[str, list[Upstream]],
        name: str,
        ends: float,
        failures: list[Failure],
        admit: Admit | None,
    ) -> Answer | None:
        """The answer of an LLM from the first of its addresses that gives one. Those that failed are added to the
        failures, and taken off the list of those left if they would fail again."""
        upstreams = left[name]
        for upstream in _by_weight(upstreams):
            if upstream.breaker.wait(request.owner) or ends <= time.monotonic():
                continue
            if admit is not None:
                request = await admit(upstream.llm, failures)
            seconds = ends - time.monotonic()
            if upstream.breaker.wait(request.owner) or seconds <= 0:
                continue  # another request may have taken the breaker's single trial
            alone = sum(map(len, left.values())) == 1
            try:
                # a half of the time for signs of life without an answer, the other half for other LLMs
                return await upstream.ask(request, seconds, seconds if alone else seconds / 2)
            except UpstreamError as error:
                failures.append((upstream.label, error))
                if error.final:
                    upstreams.remove(upstream)
        return None


def _by_weight(upstreams: Sequence[Upstream]) -> list[Upstream]:
    """The addresses of an LLM in the order in which they are called: each is the next with a probability in proportion
    to its weight. Those of weight 0 come last."""
    if len(upstreams) == 1:
        return list(upstreams)
    # the least of exponential variables is each with a probability in proportion to its rate
    lots = [random.expovariate(upstream.weight) if upstream.weight else math.inf for upstream in upstreams]
    return [upstreams[i] for i in sorted(range(len(upstreams)), key=lots.__getitem__)]
