"""What `strengths` finds on mmlu_pro, where subjects are known and outcomes were measured.

The subjects are hidden from the search. Reported are how well the clusters recover them (adjusted mutual information,
0 by chance and 1 if they are the subjects), and how often what is said of an LLM holds on prompts that neither the
model nor the search has seen: whether each deviation told has the sign of the measured one (0.5 by chance), and how
often a check as small as val finds that of each of the five LLMs of which most is told, 85 % or more have. Then the
time and memory of a large run.

    p2l train --votes ../shared/data/mmlu_pro/scores_train.parquet --output runs/mmlu_pro
    python benchmarks/strengths.py --model runs/mmlu_pro [--data ../shared/data] [--seed 0] [--folds 5]
        [--expected] [--least 60] [--many 100000] [--json]
"""

from __future__ import annotations

from threads import THREADS, parse

# isort: split
import argparse
import hashlib
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, print_json

from p2l_sdk import P2L, Scores, Votes
from p2l_sdk.analysis import Strengths, strengths
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.tables.files import read_rows
from p2l_sdk.training import TrainingConfig, train

_VAL, _PARTS = 911, 40  # questions of val; parts of a fold that are as small
_FIVE, _HELD = 5, 0.85  # LLMs that are looked at one by one; the share of right signs that each should have


def subjects(found: Strengths, data: Path) -> dict[str, float]:
    """Adjusted mutual information of clusters and subjects."""
    from sklearn.metrics import adjusted_mutual_info_score

    scores = {}
    for split in ("train", "val"):
        rows = list(read_rows(data / "mmlu_pro" / f"scores_{split}.parquet"))
        cluster = found.assign([row["prompt"] for row in rows])
        scores[split] = float(adjusted_mutual_info_score([row["category"] for row in rows], cluster))
    return scores


def signs(found: Strengths, cluster: np.ndarray, scores: np.ndarray, llms: Sequence[str]) -> dict[str, Any]:
    """How often the deviations told of some LLMs have the sign of those measured on other prompts, given the
    `(n_prompts,)` clusters and `(n_prompts, n_models)` scores of these. `surely` counts those where the measured one is
    clear itself (95 %), one by one."""
    relative = scores - scores.mean(1, keepdims=True)
    away, errors = [], []
    for name in llms:
        i = found.models.index(name)
        for finding in found.of(name):
            inside = relative[cluster == found.clusters.index(finding.cluster), i]
            if len(inside) > 1:
                away.append((inside.mean() - relative[:, i].mean()) * np.sign(finding.deviation))
                errors.append(inside.std(ddof=1) / np.sqrt(len(inside)))
    sure = np.array(away) / np.maximum(errors, 1e-9)
    n, share = len(away), float(np.mean(np.array(away) > 0)) if away else float("nan")
    low, high = wilson(share, n)
    surely = {"right": int((sure > 1.96).sum()), "wrong": int((sure < -1.96).sum())}
    return {"n": n, "right": share, "low": low, "high": high, "surely": surely}


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share, which has a width where all or none are right, too (Wilson 1927)."""
    if not n:
        return 0.0, 1.0
    z = 1.96**2 / n
    middle, half = share + z / 2, float(np.sqrt(z * (share * (1 - share) + z / 4)))
    return (middle - half) / (1 + z), (middle + half) / (1 + z)


def most_told(found: Strengths) -> list[str]:
    """The LLMs of which something is told, the one of which most is first."""
    return sorted((name for name in found.models if found.of(name)), key=lambda name: -len(found.of(name)))


def on_val(found: Strengths, data: Path) -> dict[str, Any]:
    """The signs on val: of all LLMs, and of the five of which most is told; then of each LLM."""
    measured = Scores.read(data / "mmlu_pro" / "scores_val.parquet", found.models)
    cluster, names = found.assign(measured.prompts), most_told(found)
    told = {name: signs(found, cluster, measured.scores, [name]) for name in names}
    return {
        "all LLMs": signs(found, cluster, measured.scores, names),
        "five LLMs": signs(found, cluster, measured.scores, names[:_FIVE]),
        "each": {name: f"{round(one['n'] * one['right'])} of {one['n']}" for name, one in told.items()},
    }


def known(file: Path, expect: bool) -> Votes | list[Prompt]:
    """The scores of a file as votes, or only its prompts."""
    votes = Votes.read(file)
    return votes.prompts if expect else votes


def fold_by_fold(data: Path, seed: int, n_folds: int, least: float | None, expect: bool) -> dict[str, Any]:
    """The same on train alone, where the rule for what is told was chosen: models of all folds but one, and signs on
    that one, on the whole of it and on parts that are as small as val."""
    whole, each = Scores.read(data / "mmlu_pro" / "scores_train.parquet"), []
    digests = [hashlib.sha256(f"fold{prompt}".encode()).digest() for prompt in whole.prompts]
    fold = np.array([int.from_bytes(digest[:2], "big") % n_folds for digest in digests])
    for k in range(n_folds):
        with tempfile.TemporaryDirectory() as folder:
            file, rows = Path(folder) / "scores.jsonl", np.flatnonzero(fold != k)
            named = [dict(zip(whole.models, whole.scores[i].tolist(), strict=True)) for i in rows]
            lines = [json.dumps({"prompt": whole.prompts[i], **row}) for i, row in zip(rows, named, strict=True)]
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
            p2l = train(TrainingConfig(votes=str(file), output=str(Path(folder) / "model"), seed=seed))
            assert p2l is not None
            found = strengths(p2l, known(file, expect), least=least, seed=seed)
        order = [whole.models.index(name) for name in found.models]
        others = np.flatnonzero(fold == k)
        cluster, scores = found.assign([whole.prompts[i] for i in others]), whole.scores[others][:, order]
        parts = [np.random.default_rng(i).permutation(len(others))[:_VAL] for i in range(_PARTS)]
        right = [signs(found, cluster[part], scores[part], found.models)["right"] for part in parts]
        five = most_told(found)[:_FIVE]
        held = [all(signs(found, cluster[i], scores[i], [name])["right"] >= _HELD for name in five) for i in parts]
        each.append({**signs(found, cluster, scores, found.models), "parts": right, "LLMs": len(five), "held": held})
    n = np.array([one["n"] for one in each])
    return {
        "told": n.tolist(),
        "right": float(np.average([one["right"] for one in each], weights=n)) if n.any() else float("nan"),
        f"right on {_VAL}": float(np.average([np.mean(one["parts"]) for one in each], weights=n)),
        f"of {_VAL}, where each of five LLMs has {_HELD}": float(np.mean([one["held"] for one in each])),
        "LLMs": [one["LLMs"] for one in each],
        "surely": {side: sum(one["surely"][side] for one in each) for side in ("right", "wrong")},
    }


def large(p2l: P2L, prompts: list[Prompt], n: int) -> dict[str, float]:
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
    parser.add_argument("--folds", type=int, default=0, help="also with models of all such parts of train but one")
    parser.add_argument("--expected", action="store_true", help="from the prompts alone, without their scores")
    parser.add_argument("--least", type=float, help="rating points of what is told")
    parser.add_argument("--many", type=int, default=0, help="prompts of the timed run, with the default model")
    parser.add_argument("--json", action="store_true")
    arguments = parse(parser)
    p2l = P2L.from_pretrained(arguments.model)
    train_file = arguments.data / "mmlu_pro" / "scores_train.parquet"
    found = strengths(p2l, known(train_file, arguments.expected), least=arguments.least, seed=arguments.seed)
    results: dict[str, Any] = {
        "clusters": len(found.clusters),
        "adjusted mutual information": subjects(found, arguments.data),
        **on_val(found, arguments.data),
    }
    if arguments.folds:
        results[f"{arguments.folds} folds of train"] = fold_by_fold(
            arguments.data, arguments.seed, arguments.folds, arguments.least, arguments.expected
        )
    if arguments.many:
        results["large"] = large(P2L.from_pretrained(), Votes.read(train_file).prompts, arguments.many)
    if arguments.json:
        print_json(machine=machine(), threads=THREADS, seed=arguments.seed, **results)
        return
    print(f"{machine()}; {THREADS} threads; seed {arguments.seed}\n")
    for name, value in results.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
