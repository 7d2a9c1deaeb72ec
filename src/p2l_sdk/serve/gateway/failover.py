"""Failover: calls the LLMs of a ranking until one of them answers."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from p2l_sdk.serve.auth import OutOfBudget
from p2l_sdk.serve.errors import OVERLOADED, SERVER, ApiError
from p2l_sdk.serve.gateway.call import UpstreamError
from p2l_sdk.serve.gateway.config import LLMConfig
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.upstream import Answer, Upstream

Failure = tuple[str, UpstreamError]  # the LLM that was called, and why it failed
Admit = Callable[[LLMConfig, Sequence[Failure]], ChatRequest]


class NoAnswer(ApiError):  # noqa: N818  named for what happened, like all errors of the server
    """No LLM answered. The status tells the client whether another try is worthwhile.

    Args:
        failures: the calls that failed; also an attribute.
        ranking: the LLMs that could have been called.
        retry_after: seconds until one of them may be called, if the breakers of all are open.
    """

    type, code = SERVER, "upstream_error"

    def __init__(self, failures: Sequence[Failure], ranking: Sequence[str], retry_after: float | None) -> None:
        self.failures = failures
        counts = Counter(f"{name} {error}" for name, error in failures)
        calls = "; ".join(text if n == 1 else f"{text} ({n} times)" for text, n in counts.items())
        if not calls:
            alone = f"{ranking[0]} is" if len(ranking) == 1 else "all are"
            calls = f"{alone} left alone for a while after failures" if retry_after else "no time was left"
        kinds = {error.kind for _, error in failures} or {"open" if retry_after else "timeout"}
        self.status = {"timeout": 504, "status_429": 429, "open": 503}.get(min(kinds), 502) if len(kinds) == 1 else 502
        if self.status == 429:
            self.type, self.code = OVERLOADED, "upstream_rate_limit"
        headers = {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}
        super().__init__(f"no LLM answered: {calls}", headers=headers)


class Failover:
    """Calls upstreams in the order of a ranking.

    Args:
        upstreams: by name of the LLM.
        attempts: maximum number of calls per request.
        backoff: seconds before an upstream is called a second time; doubled each time.
    """

    def __init__(self, upstreams: Mapping[str, Upstream], attempts: int, backoff: float) -> None:
        self._upstreams = upstreams
        self._attempts, self._backoff = attempts, backoff

    async def answer(self, admit: Admit, ranking: Sequence[str], ends: float) -> tuple[Answer, list[Failure]]:
        """The first answer, and the failed calls before it.

        Args:
            admit: is asked before every call; returns the request to send, or raises OutOfBudget.
            ranking: names of the LLMs that may answer, first choice first; after the last the first is called again.
            ends: the deadline, on the monotonic clock.

        Raises:
            NoAnswer: none of them answered.
            OutOfBudget: none of them could be paid.
        """
        refused: OutOfBudget | None = None
        failures: list[Failure] = []
        left = [self._upstreams[name] for name in ranking]
        called: dict[str, int] = {}
        while left and len(failures) < self._attempts:
            open_now = [upstream for upstream in left if not upstream.breaker.wait()]
            if not open_now:
                break
            upstream = min(open_now, key=lambda u: called.get(u.llm.name, 0))  # the first of those called least often
            name = upstream.llm.name
            times = called[name] = called.get(name, 0) + 1
            pause = self._backoff * 2 ** (times - 2) if times > 1 else 0.0
            if ends - time.monotonic() <= pause:
                break
            if pause:  # never sleep 0: another request could take the breaker's single trial in between
                await asyncio.sleep(pause)
            try:
                request = admit(upstream.llm, failures)
            except OutOfBudget as error:
                refused = refused or error
                left.remove(upstream)
                continue
            try:
                return await upstream.ask(request, ends - time.monotonic()), failures
            except UpstreamError as error:
                failures.append((name, error))
                if error.final:
                    left.remove(upstream)
        if refused is not None and not failures:
            raise refused
        retry_after = min((upstream.breaker.wait() for upstream in left), default=None) or None
        raise NoAnswer(failures, ranking, retry_after)
