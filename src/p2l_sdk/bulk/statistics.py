"""Statistics of prompts as a reduction, for engines that bring batches of their own: Ray Data, Spark, Dask."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from p2l_sdk.bulk.arrow import need_pyarrow
from p2l_sdk.bulk.batch import BatchScorer, columns_of
from p2l_sdk.bulk.totals import Totals
from p2l_sdk.errors import P2LError
from p2l_sdk.tables.plain import plain_values

if TYPE_CHECKING:
    import pyarrow

    from p2l_sdk.p2l import P2L

KEY, STATISTICS = "key", "statistics"


class BatchStatistics(BatchScorer):
    """The statistics of batches of rows. Called with one, it gives a table of one row: `statistics`, its `Totals` as
    bytes, and `key`, which names the batch by the content of all its columns. `merged` makes one of many.

    Prompts that come again (a log that is replayed) count again if the rows have a column that tells them apart, such
    as `id`, `row`, or `file` and `row`; a batch that came twice is found by `merged`.
    """

    def __call__(self, batch: Mapping[str, Any] | pyarrow.Table) -> pyarrow.Table:
        """The statistics of a batch; `batch` as for `BatchScorer`."""
        rows = columns_of(batch)
        key = _key(rows)
        scored = self.score(rows, int(key[:8], 16))
        return need_pyarrow().table({KEY: [key], STATISTICS: [self.totals(scored, key).to_bytes()]})


def merged(rows: Iterable[Mapping[str, Any]], p2l: P2L) -> Totals:
    """One `Totals` of many: the result is the same in whatever order the batches come.

    Args:
        rows: rows with `key` and `statistics`, as `BatchStatistics` gives them.
        p2l: the model that scored them.

    Raises:
        P2LError: a batch came twice, or the statistics are those of another model.
    """
    total = Totals(p2l)
    before: str | None = None
    for row in sorted(rows, key=lambda row: str(row[KEY])):
        if row[KEY] == before:
            raise P2LError(
                "two batches are equal in all columns: one came twice, or different rows have the same prompts and "
                "nothing that tells them apart; keep a column in the batches that does, such as id or row"
            )
        before = row[KEY]
        total.merge(Totals.of_bytes(bytes(row[STATISTICS]), p2l))
    return total


def _key(rows: Mapping[str, Any]) -> str:
    """The name of a batch: a hash of what stands in its rows, whatever the order of the columns."""
    found = hashlib.sha256()
    for name in sorted(rows, key=str):
        found.update(repr((name, list(plain_values(rows[name])))).encode("utf-8", "surrogatepass"))
    return found.hexdigest()
