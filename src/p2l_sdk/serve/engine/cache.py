"""An LRU cache of the coefficients of prompts. It stores no text: the keys are hashes of the user turns."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

_ENTRY_BYTES = 320  # overhead of an entry besides its numbers: key, array object, dictionary slot


def key(turns: Sequence[str]) -> bytes:
    """The cache key of a prompt's user turns, which are all that the model reads; turn boundaries matter."""
    digest = hashlib.blake2b(digest_size=16)
    for turn in turns:
        text = turn.encode("utf-8")
        digest.update(len(text).to_bytes(8, "little"))
        digest.update(text)
    return digest.digest()


class CoefficientCache:
    """The cache.

    Args:
        megabytes: maximum size; 0 turns it off.
    """

    def __init__(self, megabytes: float) -> None:
        self.bytes, self._limit = 0, int(megabytes * 2**20)
        self._rows: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: bytes) -> np.ndarray | None:
        """The row of a prompt, or None if it is not in the cache."""
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def put(self, key: bytes, row: np.ndarray) -> None:
        """Store a copy of a prompt's row (the row itself is a view that would keep its whole batch in memory)."""
        if key in self._rows or row.nbytes + _ENTRY_BYTES > self._limit:
            return
        self._rows[key] = row.copy()
        self.bytes += row.nbytes + _ENTRY_BYTES
        while self.bytes > self._limit:
            _, oldest = self._rows.popitem(last=False)
            self.bytes -= oldest.nbytes + _ENTRY_BYTES
