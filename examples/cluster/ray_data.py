"""Score the prompts of a data set with Ray Data: `map_batches`, with one model in each actor.

Every machine needs `pip install "p2l-sdk[ray]"`. RAY_ADDRESS names the cluster; without it, Ray runs on this machine.

    python ray_data.py PROMPTS.parquet OUTPUT [ACTORS]
"""

from __future__ import annotations

import os
import sys

import ray

from p2l_sdk.bulk import BatchScorer, BatchStatistics, Settings, merged

SETTINGS = Settings(model="arena", top=3)


def main(source: str, output: str, actors: int = 2) -> None:
    """Score a data set, write the results, and print the aggregate."""
    if "RAY_ADDRESS" not in os.environ:
        ray.init(num_cpus=actors + 2)  # actors that took all cores would wait for ever for the tasks that read
    prompts = ray.data.read_parquet(source).select_columns(["id", "prompt"])
    options = {
        "fn_constructor_args": (SETTINGS,),
        "batch_format": "pyarrow",
        "batch_size": 10_000,
        "compute": ray.data.ActorPoolStrategy(size=actors),
    }
    prompts.map_batches(BatchScorer, **options).write_parquet(output)
    rows = prompts.map_batches(BatchStatistics, **options).iter_rows()
    totals = merged(rows, SETTINGS.load())
    print(f"{len(totals):,} prompts; {totals.board()}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
