"""Prompt -> coefficients, the least recently used forgotten first. It holds no text: keys are hashes of user turns."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

_ENTRY_BYTES = 320  # what Python keeps beside the numbers of an entry: key, array object, place in the dictionary


def key(turns: Sequence[str]) -> bytes:
    """A key of what the model reads of a prompt: its user turns, each apart."""
    digest = hashlib.blake2b(digest_size=16)
    for turn in turns:
        text = turn.encode("utf-8")
        digest.update(len(text).to_bytes(8, "little"))
        digest.update(text)
    return digest.digest()


class CoefficientCache:
    """Args: megabytes: its size; 0 keeps nothing."""

    def __init__(self, megabytes: float) -> None:
        self.bytes, self._limit = 0, int(megabytes * 2**20)
        self._rows: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: bytes) -> np.ndarray | None:
        """The row of a prompt, if it is still here."""
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def put(self, key: bytes, row: np.ndarray) -> None:
        """Keep the row of a prompt (a copy: a row of a batch would keep the whole batch)."""
        if key in self._rows or row.nbytes + _ENTRY_BYTES > self._limit:
            return
        self._rows[key] = row.copy()
        self.bytes += row.nbytes + _ENTRY_BYTES
        while self.bytes > self._limit:
            _, oldest = self._rows.popitem(last=False)
            self.bytes -= oldest.nbytes + _ENTRY_BYTES
