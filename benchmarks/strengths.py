"""What `strengths` finds on mmlu_pro, where subjects are known and outcomes were measured.

The subjects are hidden from the search. Reported are how well the clusters recover them (adjusted mutual information,
0 by chance and 1 if they are the subjects), and how often what is said of an LLM holds on prompts that neither the
model nor the search has seen: whether each reported deviation has the sign of the measured one (0.5 by chance). Then
the time and memory of a large run.

    p2l train --votes ../shared/data/mmlu_pro/scores_train.parquet --output runs/mmlu_pro
    python benchmarks/strengths.py --model runs/mmlu_pro [--data ../shared/data] [--seed 0] [--many 100000] [--json]
"""

from __future__ import annotations

from threads import THREADS, parse

# isort: split
import argparse
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, print_json

from p2l_sdk import P2L, Scores
from p2l_sdk.analysis import Strengths, strengths
from p2l_sdk.tables.files import read_rows


def subjects(found: Strengths, data: Path) -> dict[str, float]:
    """Adjusted mutual information of clusters and subjects."""
    from sklearn.metrics import adjusted_mutual_info_score

    scores = {}
    for split in ("train", "val"):
        rows = list(read_rows(data / "mmlu_pro" / f"scores_{split}.parquet"))
        cluster = found.assign([row["prompt"] for row in rows])
        scores[split] = float(adjusted_mutual_info_score([row["category"] for row in rows], cluster))
    return scores


def signs(found: Strengths, data: Path, llms: list[str]) -> dict[str, Any]:
    """How often the reported deviations of some LLMs have the sign of those measured on val."""
    measured = Scores.read(data / "mmlu_pro" / "scores_val.parquet", found.models)
    cluster = found.assign(measured.prompts)
    relative = measured.scores - measured.scores.mean(1, keepdims=True)
    right = []
    for name in llms:
        i = found.models.index(name)
        for finding in found.of(name):
            inside = cluster == found.clusters.index(finding.cluster)
            if inside.any():
                away = relative[inside, i].mean() - relative[:, i].mean()
                right.append(np.sign(away) == np.sign(finding.deviation))
    n, share = len(right), float(np.mean(right)) if right else float("nan")
    error = 1.96 * float(np.sqrt(share * (1 - share) / max(n, 1)))
    return {"n": n, "right": share, "low": share - error, "high": min(share + error, 1.0)}


def large(p2l: P2L, prompts: list[str], n: int) -> dict[str, float]:
    """Seconds and megabytes of `n` prompts: those of the data, with a number in front of each repetition."""
    many = [f"{i // len(prompts)} {prompts[i % len(prompts)]}" for i in range(n)]
    began = time.perf_counter()
    strengths(p2l, many)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"prompts": n, "seconds": time.perf_counter() - began, "megabytes": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a model trained on mmlu_pro's train file")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--many", type=int, default=0, help="prompts of the timed run, with the default model")
    parser.add_argument("--json", action="store_true")
    arguments = parse(parser)
    p2l = P2L.from_pretrained(arguments.model)
    rows = list(read_rows(arguments.data / "mmlu_pro" / "scores_train.parquet"))
    prompts = [row["prompt"] for row in rows]
    found = strengths(p2l, prompts, seed=arguments.seed)
    most = sorted(found.models, key=lambda name: -len(found.of(name)))
    results: dict[str, Any] = {
        "clusters": len(found.clusters),
        "ami": subjects(found, arguments.data),
        "five LLMs with most findings": {"llms": most[:5], **signs(found, arguments.data, most[:5])},
        "all LLMs": signs(found, arguments.data, list(found.models)),
    }
    if arguments.many:
        results["large"] = large(P2L.from_pretrained(), prompts, arguments.many)
    if arguments.json:
        print_json(machine=machine(), threads=THREADS, seed=arguments.seed, **results)
        return
    print(f"{machine()}; {THREADS} threads; seed {arguments.seed}\n")
    for name, value in results.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
