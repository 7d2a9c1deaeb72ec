"""Opening a ledger by its address: a file, or a Redis server."""

from __future__ import annotations

from p2l_sdk.serve.ledger.memory import MemoryStore
from p2l_sdk.serve.ledger.sqlite import SQLiteStore
from p2l_sdk.serve.ledger.store import Store

ENVIRONMENT = "P2L_LEDGER"
MEMORY = "memory"


def open_store(address: str | None) -> Store:
    """The store at an address.

    Args:
        address: the path of an SQLite file, a URL (redis://..., rediss://...), or "memory" (also None).

    Raises:
        P2LError: it cannot be opened.
    """
    if address is None or address == MEMORY:
        return MemoryStore()
    if address.startswith(("redis://", "rediss://", "unix://")):
        from p2l_sdk.serve.ledger.redis import RedisStore

        return RedisStore(address)
    return SQLiteStore(address)
