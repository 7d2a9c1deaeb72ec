"""Millions of prompts: files in, Parquet out, in constant memory, on all cores, resumable (see docs/bulk.md).

`BatchScorer` turns a batch of rows into a table of results, and `Totals` are the statistics of prompts, which can be
merged; both are the same however the rows are spread over processes or machines. `score_files` runs them on one
machine.
"""

from p2l_sdk.bulk.batch import BatchScorer, Scored
from p2l_sdk.bulk.settings import Settings
from p2l_sdk.bulk.totals import Totals

__all__ = ["BatchScorer", "Scored", "Settings", "Totals"]
