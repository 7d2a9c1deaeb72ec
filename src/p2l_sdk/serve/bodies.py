"""`BodyRoom`: how much memory large bodies of requests may take together.

A body is in memory several times over (bytes, text, values, what is sent on) until its request has been answered, which
may take minutes. Without a limit, a few hundred megabytes that one client sends become gigabytes, and end the server.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Hashable

from p2l_sdk.serve.errors import BodiesWait

LARGE_BODY = 2**20  # bytes; smaller bodies need no room
_PAUSE_SECONDS = 0.02


class BodyRoom:
    """Room for the large bodies of one server, whose bytes are counted. A client may take half of it.

    Args:
        total: bytes.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._held: Counter[Hashable] = Counter()

    async def take(self, client: Hashable, size: int, seconds: float) -> None:
        """Wait until there is room for a body; its sender waits meanwhile, as nobody reads.

        Args:
            client: who sends it.
            size: bytes.
            seconds: to wait at most.

        Raises:
            BodiesWait: there was no room.
        """
        ends = time.monotonic() + seconds
        while self._held.total() + size > self._total or self._held[client] + size > self._total // 2:
            if time.monotonic() >= ends:
                raise BodiesWait
            await asyncio.sleep(_PAUSE_SECONDS)
        self._held[client] += size

    def give(self, client: Hashable, size: int) -> None:
        """Give back what was taken."""
        self._held[client] -= size
        if self._held[client] <= 0:
            del self._held[client]
