"""`Overcharges`: the LLMs that billed more than their prices allow for, which keys with budgets do not use any more."""

from __future__ import annotations

import logging

from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.metrics import ServerMetrics

log = logging.getLogger("p2l_sdk.serve.gateway.overcharges")


class Overcharges:
    """The LLMs that this process has seen to bill more than they were quoted at, until it ends.

    An LLM that did so for a text does not answer keys with budgets any more; one that did so for files, pictures or
    sounds does not answer requests with such parts, as nothing is known about the others.

    Args:
        metrics: counts them.
    """

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics
        self._found: dict[str, bool] = {}  # by LLM, whether it was a text

    def note(self, llm: str, request: ChatRequest, what: str) -> None:
        """Note in what way an LLM has charged a request of a key with budgets more than was possible, if `what` says
        so."""
        if not what:
            return
        plain = request.size.plain
        if llm in self._found and self._found[llm] >= plain:
            return  # one of those that were under way
        self._found[llm] = plain
        self._metrics.overcharged(llm)
        log.error(
            "the prices of llm=%s are wrong, %s; keys with budgets cannot use it%s until the server starts again, with "
            "`prices` that hold all that is billed", llm, what, "" if plain else " for files, images and audio",
        )  # fmt: skip

    def of(self, request: ChatRequest) -> list[str]:
        """The LLMs that have overcharged such a request."""
        return [llm for llm, plain in self._found.items() if plain or not request.size.plain] if self._found else []
