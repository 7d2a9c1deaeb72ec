"""How much work a call is, beside another one on the same machine in the same moment: no clock decides alone."""

from __future__ import annotations

import time
from collections.abc import Callable


def effort(call: Callable[[], object], beside: Callable[[], object], rounds: int = 3) -> float:
    """CPU time of one call in units of another's, the least of a few rounds each, as a busy machine only adds."""

    def least(what: Callable[[], object]) -> float:
        found = []
        for _ in range(rounds):
            start = time.process_time()
            what()
            found.append(time.process_time() - start)
        return min(found)

    return least(call) / max(least(beside), 1e-4)
