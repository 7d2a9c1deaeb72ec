"""The ledger of a run's costs, which keeps them under a limit.

Before a query is sent, the most that it can cost is reserved, in a file beside the output; when it is answered, its
cost takes the place of the reservation. What a killed run had in flight stays reserved for good, since it may have been
billed. So spent and reserved together never exceed the limit, in all parts of a run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections import deque
from pathlib import Path
from types import TracebackType

from p2l_sdk.errors import ResultsError
from p2l_sdk.outputs.faults import write_faults

_SUFFIX = ".spending"
_ROUNDING = 1 + 1e-12  # of the sums


class SpendLimitError(Exception):
    """The most that the next query can cost is more than what the limit leaves."""


class Ledger:
    """What a run has spent and reserved; a context manager.

    Args:
        output: path of the run's output, beside which the ledger's file stands. The caller has locked it.
        recorded: USD that the rows of the output have cost: what is spent at least, should the ledger's file be lost.
        limit: USD; None for no limit.

    Attributes:
        spent: USD, without what is in flight.
        assumed: USD of `spent` for queries that may have been billed but whose cost nobody told.

    Raises:
        ResultsError: the file of the ledger holds something else.
    """

    def __init__(self, output: Path, recorded: float, limit: float | None) -> None:
        self.path, self._limit = output.with_name(output.name + _SUFFIX), limit
        self._open: dict[int, float] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        with write_faults(self.path):
            self._file = self.path.open("a+b")
        try:
            self.spent, self.assumed, self._number = self._read()
        except BaseException:
            self._file.close()
            raise
        self.spent = max(self.spent, recorded)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # of a line that `_write` could not write; it has said so
            self._file.close()

    async def reserve(self, most: float | None) -> int:
        """Reserve the most that a query can cost, USD (None if its LLM has no price); returns the reservation.

        While other queries are in flight, it waits for what they leave.

        Raises:
            SpendLimitError: the limit leaves less than that.
        """
        usd = most or 0.0
        while self._limit is not None and self.spent + sum(self._open.values()) + usd > self._limit * _ROUNDING:
            if not self._open:
                raise SpendLimitError
            settled = asyncio.get_running_loop().create_future()
            self._waiting.append(settled)
            await settled
        self._number += 1
        self._open[self._number] = usd
        self._write({"reserved": self._number, "usd": usd})
        return self._number

    def settle(self, reservation: int, cost: float, assumed: bool = False) -> None:
        """Replace a reservation by what the query did cost, USD; `assumed` if that is not known for certain."""
        self._write({"settled": reservation, "usd": cost, "assumed": assumed})
        del self._open[reservation]
        self.spent += cost
        self.assumed += cost if assumed else 0.0
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)

    def most(self, reservation: int) -> float:
        """What has been reserved, USD."""
        return self._open[reservation]

    def _write(self, row: dict[str, object]) -> None:
        with write_faults(self.path, "; the same run goes on from what it has written so far"):
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()

    def _read(self) -> tuple[float, float, int]:
        """What the earlier parts of the run have spent, and of it assumed; and the last number of a reservation."""
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        spent = assumed = 0.0
        number, in_flight = 0, {}
        for line, text in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(text)
                usd = float(row["usd"])
                if not 0.0 <= usd < math.inf:  # below 0 or NaN, more could be spent than the limit
                    raise ValueError
                if "reserved" in row:
                    number = int(row["reserved"])
                    in_flight[number] = usd
                else:
                    del in_flight[row["settled"]]
                    spent += usd
                    assumed += usd if row["assumed"] else 0.0
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                raise ResultsError(f"{str(self.path)!r}, line {line} is no line of a ledger of costs") from None
        self._file.truncate(len(whole))
        killed = sum(in_flight.values())
        for left in in_flight:  # killed in flight: may have been billed
            self._write({"settled": left, "usd": in_flight[left], "assumed": True})
        return spent + killed, assumed + killed, number
