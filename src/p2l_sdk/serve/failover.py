"""One answer for one request: the first LLM of the ranking that gives one."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence

from p2l_sdk.serve.call import UpstreamError
from p2l_sdk.serve.chat_request import ChatRequest
from p2l_sdk.serve.errors import OVERLOADED, SERVER, ApiError
from p2l_sdk.serve.upstream import Answer, Upstream


class NoAnswer(ApiError):  # noqa: N818  named for what happened, as all errors of the server
    """Every LLM that was called failed. Its status tells the client whether another try is worth it.

    Attributes:
        attempts: calls that failed.
    """

    type, code = SERVER, "upstream_error"

    def __init__(self, errors: Sequence[tuple[str, UpstreamError]], retry_after: float | None) -> None:
        self.attempts = len(errors)
        calls = "; ".join(f"{name} {error}" for name, error in errors)
        if not calls:
            calls = "all are left alone for a while after failures" if retry_after else "no time was left"
        kinds = {error.kind for _, error in errors} or {"open" if retry_after else "timeout"}
        self.status = {"timeout": 504, "status_429": 429, "open": 503}.get(min(kinds), 502) if len(kinds) == 1 else 502
        if self.status == 429:
            self.type, self.code = OVERLOADED, "upstream_rate_limit"
        headers = {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}
        super().__init__(f"no LLM answered: {calls}", headers=headers)


class Failover:
    """Calls upstreams in their order.

    Args:
        upstreams: by the name of the LLM.
        attempts: calls for one request, at most.
        backoff: seconds before an upstream is called a second time, doubled every time.
    """

    def __init__(self, upstreams: Mapping[str, Upstream], attempts: int, backoff: float) -> None:
        self._upstreams = upstreams
        self._attempts, self._backoff = attempts, backoff

    async def answer(self, request: ChatRequest, ranking: Sequence[str], ends: float) -> tuple[Answer, int]:
        """The first answer, and which call it was, from 1.

        Args:
            request: what the client asks.
            ranking: names of the LLMs that may answer, the first choice first. After the last, the first again.
            ends: the deadline, on the monotonic clock.

        Raises:
            NoAnswer: there is none.
        """
        errors: list[tuple[str, UpstreamError]] = []
        left = [self._upstreams[name] for name in ranking]
        called: dict[str, int] = {}
        while left and len(errors) < self._attempts:
            open_now = [upstream for upstream in left if not upstream.breaker.wait()]
            if not open_now:
                break
            upstream = min(open_now, key=lambda u: called.get(u.llm.name, 0))  # of equals the first
            name = upstream.llm.name
            times = called[name] = called.get(name, 0) + 1
            pause = self._backoff * 2 ** (times - 2) if times > 1 else 0.0
            if ends - time.monotonic() <= pause:
                break
            if pause:  # else nobody may come in between, and try what one may try
                await asyncio.sleep(pause)
            try:
                return await upstream.ask(request, ends - time.monotonic()), len(errors) + 1
            except UpstreamError as error:
                errors.append((name, error))
                if error.final:
                    left.remove(upstream)
        raise NoAnswer(errors, min((upstream.breaker.wait() for upstream in left), default=None) or None)
