"""Statistics of prompts as a reduction, for engines that bring batches of their own: Ray Data, Spark, Dask."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from p2l_sdk.bulk.arrow import need_pyarrow
from p2l_sdk.bulk.batch import PROMPT, BatchScorer, columns_of
from p2l_sdk.bulk.totals import Totals

if TYPE_CHECKING:
    import pyarrow

    from p2l_sdk.p2l import P2L

KEY, STATISTICS = "key", "statistics"


class BatchStatistics(BatchScorer):
    """The statistics of batches of rows. Called with one, it gives a table of one row: `statistics`, its `Totals` as
    bytes, and `key`, which names the batch by its content. `merged` makes one of many."""

    def __call__(self, batch: Mapping[str, Any] | pyarrow.Table) -> pyarrow.Table:
        """The statistics of a batch; `batch` as for `BatchScorer`."""
        rows = columns_of(batch)
        key = hashlib.sha256(repr(rows[PROMPT]).encode("utf-8", "surrogatepass")).hexdigest()
        scored = self.score(rows, int(key[:8], 16))
        return need_pyarrow().table({KEY: [key], STATISTICS: [self.totals(scored, key).to_bytes()]})


def merged(rows: Iterable[Mapping[str, Any]], p2l: P2L) -> Totals:
    """One `Totals` of many: the result is the same in whatever order the batches come.

    Args:
        rows: rows with `key` and `statistics`, as `BatchStatistics` gives them.
        p2l: the model that scored them.
    """
    total = Totals(p2l)
    for row in sorted(rows, key=lambda row: str(row[KEY])):
        total.merge(Totals.of_bytes(bytes(row[STATISTICS]), p2l))
    return total
