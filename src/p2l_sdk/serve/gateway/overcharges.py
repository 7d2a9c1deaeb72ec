"""`Overcharges`: the LLMs that billed a key more than their prices allow for, which it does not get to any more."""

from __future__ import annotations

import logging

from p2l_sdk.serve.auth import Key
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.metrics import ServerMetrics

log = logging.getLogger("p2l_sdk.serve.gateway.overcharges")


class Overcharges:
    """The LLMs that this process has seen to bill more than they were quoted at, until it ends.

    An LLM that did so for a text does not answer that key any more; one that did so for files, pictures or sounds does
    not answer its requests with such parts, as nothing is known about the others. Other keys keep the LLM: the holder
    of one could take it from all, with an image that is larger than the config allows for.

    Args:
        metrics: counts them.
    """

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics
        self._found: dict[str, dict[str, bool]] = {}  # by account and LLM, whether it was a text

    def note(self, llm: str, request: ChatRequest, key: Key, what: str) -> None:
        """Note in what way an LLM has charged a request of a key with budgets more than was possible, if `what` says
        so."""
        if not what:
            return
        plain, found = request.size.plain, self._found.setdefault(key.account, {})
        if llm in found and found[llm] >= plain:
            return  # one of those that were under way
        found[llm] = plain
        self._metrics.overcharged(llm)
        parts = "" if plain else " for files, images and audio"
        log.error(
            "the prices of llm=%s are wrong, %s; the key %r cannot use it%s until the server starts again, with "
            "`prices` that hold all that is billed", llm, what, key.name, parts,
        )  # fmt: skip

    def of(self, request: ChatRequest, key: Key) -> list[str]:
        """The LLMs that have overcharged such a request of this key."""
        found = self._found.get(key.account)
        return [llm for llm, plain in found.items() if plain or not request.size.plain] if found else []
