"""Score the prompts of a table with Spark: `mapInPandas`, with one model in each Python worker.

Every machine needs `pip install "p2l-sdk[data]"`. Spark's own setting spark.sql.execution.arrow.maxRecordsPerBatch
(10,000) is the number of prompts in a batch.

    spark-submit --master "local[2]" spark.py PROMPTS.parquet OUTPUT
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pandas as pd
from pyspark.sql import SparkSession

from p2l_sdk.bulk import BatchScorer, BatchStatistics, Settings, merged

SETTINGS = Settings(model="arena", top=3)


def score(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The results of each batch, with the columns that it has beside the prompt."""
    scorer = BatchScorer(SETTINGS)
    for batch in batches:
        yield scorer(batch.to_dict("list")).to_pandas()


def statistics(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The statistics of each batch: a row, which `merged` takes."""
    scorer = BatchStatistics(SETTINGS)
    for batch in batches:
        yield scorer(batch.to_dict("list")).to_pandas()


def main(source: str, output: str) -> None:
    """Score a table, write the results, and print the aggregate."""
    spark = SparkSession.builder.appName("p2l").getOrCreate()
    prompts = spark.read.parquet(source).select("id", "prompt")
    columns = "id long, best array<string>, best_coefs array<float>, error string"
    prompts.mapInPandas(score, columns).write.parquet(output)
    rows = prompts.mapInPandas(statistics, "key string, statistics binary").collect()
    totals = merged((row.asDict() for row in rows), SETTINGS.load())
    print(f"{len(totals):,} prompts; {totals.board()}")
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
