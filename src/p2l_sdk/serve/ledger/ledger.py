"""`Ledger`: a store for code on the event loop. Entries go to the store on a thread, all that wait in one batch, in the
order in which they came; those of a store in memory at once. Settlements let the answers that they are for go first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Sequence

from p2l_sdk.serve.ledger.entries import Account, Entry, Grant, Hold, LedgerError, Settlement, Spent
from p2l_sdk.serve.ledger.memory import MemoryStore
from p2l_sdk.serve.ledger.store import Store

_log = logging.getLogger("p2l_sdk.serve.ledger")
_MOST_AT_ONCE = 200  # entries in a batch, beyond which nothing is added to it
_AGAIN_SECONDS = 1.0  # after a failure, before settlements are booked again
_CLOSE_SECONDS = 10.0
_SETTLE_SECONDS = 0.02  # mostly they go with the next hold: a transaction less, and not beside the next request

_Waiting = tuple[Entry, "asyncio.Future[Grant] | None"]


class Ledger:
    """What API keys have spent and may spend.

    Args:
        store: holds it; by default in memory.
    """

    def __init__(self, store: Store | None = None) -> None:
        self.store: Store = MemoryStore() if store is None else store
        self._waiting: queue.SimpleQueue[Sequence[_Waiting | None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._settled: list[Settlement] = []  # that the thread has not been told of

    async def reserve(self, hold: Hold) -> Grant:
        """Set an amount aside.

        Raises:
            LedgerError: the store does not work. Settle the hold nevertheless: it may have been booked.
        """
        if self.store.instant:
            [grant] = self.store.apply([hold])
        else:
            future: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
            self._tell_settled((hold, future))  # behind: what they return to a budget may be what this needs
            grant = await future
        assert grant is not None
        return grant

    def settle(self, settlement: Settlement) -> None:
        """Replace what was set aside by the actual cost, soon, but before any further hold. Until then it stays set
        aside."""
        if self.store.instant:
            self.store.apply([settlement])
            return
        self._settled.append(settlement)
        if len(self._settled) == 1:
            asyncio.get_running_loop().call_later(_SETTLE_SECONDS, self._tell_settled)

    def spent(self, account: str) -> Spent:
        """What a key has spent. It may block.

        Raises:
            LedgerError: the store does not work.
        """
        return self.store.spent(account)

    async def accounts(self) -> list[Account]:
        """All keys, with what they have spent.

        Raises:
            LedgerError: the store does not work.
        """
        return self.store.accounts() if self.store.instant else await asyncio.to_thread(self.store.accounts)

    def close(self) -> None:
        """Book what waits, and close the store."""
        self._tell_settled()
        if self._thread is not None:
            self._waiting.put([None])
            self._thread.join(_CLOSE_SECONDS)
            self._thread = None
        self.store.close()

    def _tell_settled(self, *more: _Waiting) -> None:
        """Tell the thread what was settled, and what comes with it: all of it is in one batch."""
        settled, self._settled = self._settled, []
        waiting = [*((settlement, None) for settlement in settled), *more]
        if not waiting:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
            self._thread.start()
        self._waiting.put(waiting)

    def _work(self) -> None:
        owed: list[Entry] = []  # settlements that the store could not take
        again = 0.0
        while True:
            batch = self._batch(_AGAIN_SECONDS if owed else None)
            more = [waiting for waiting in batch if waiting is not None]
            closing = len(more) < len(batch)
            if not more and not closing and time.monotonic() < again:
                continue
            entries = [*owed, *(entry for entry, _ in more)]
            try:
                grants = self.store.apply(entries)[len(owed) :] if entries else []
            except LedgerError as error:
                _log.error("%s; %d entries wait", error, len(entries))
                _fail(more, error)
                owed = [entry for entry in entries if isinstance(entry, Settlement)]
                again = time.monotonic() + _AGAIN_SECONDS
            except Exception as error:  # whoever waits must not wait for ever
                _log.exception("the ledger has made a mistake")
                _fail(more, LedgerError(type(error).__name__))
            else:
                owed = []
                _answer(more, grants)
            if closing:
                return

    def _batch(self, seconds: float | None) -> list[_Waiting | None]:
        """All that waits, or nothing if there is nothing after so many seconds."""
        batch: list[_Waiting | None] = []
        with contextlib.suppress(queue.Empty):
            batch += self._waiting.get(timeout=seconds)
            while batch[-1] is not None and len(batch) < _MOST_AT_ONCE:
                batch += self._waiting.get_nowait()
        return batch


def _answer(waiting: Sequence[_Waiting], grants: Sequence[Grant | None]) -> None:
    for (_, future), grant in zip(waiting, grants, strict=True):
        if future is not None and grant is not None:
            _call(future, future.set_result, grant)


def _fail(waiting: Sequence[_Waiting], error: LedgerError) -> None:
    for _, future in waiting:
        if future is not None:
            _call(future, future.set_exception, error)


def _call(future: asyncio.Future[Grant], set_outcome: object, outcome: object) -> None:
    def tell() -> None:
        if not future.done():  # its client may have left
            set_outcome(outcome)  # type: ignore[operator]

    with contextlib.suppress(RuntimeError):  # the loop is closed
        future.get_loop().call_soon_threadsafe(tell)
