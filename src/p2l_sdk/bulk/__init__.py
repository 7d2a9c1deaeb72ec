"""Millions of prompts: files in, Parquet out, in constant memory, on all cores, resumable (see docs/bulk.md).

`score_files` does it on one machine. `BatchScorer` turns a batch of rows into a table of results, and `Totals` are the
statistics of prompts, which can be merged; both are the same however the rows are spread over processes or machines.
"""

from p2l_sdk.bulk.batch import BatchScorer, Scored
from p2l_sdk.bulk.reading import Columns
from p2l_sdk.bulk.run import Summary, score_files
from p2l_sdk.bulk.settings import Aggregate, Budget, Settings
from p2l_sdk.bulk.statistics import BatchStatistics, merged
from p2l_sdk.bulk.totals import Totals

__all__ = [
    "Aggregate",
    "BatchScorer",
    "BatchStatistics",
    "Budget",
    "Columns",
    "Scored",
    "Settings",
    "Summary",
    "Totals",
    "merged",
    "score_files",
]
