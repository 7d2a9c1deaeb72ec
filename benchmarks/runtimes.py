"""A transformer in torch, onnxruntime and OpenVINO: speed, and whether the answers stay the same.

Each model is exported to a temporary folder, with int8; one that has both graphs beside it is taken as it is. All
runtimes score the same prompts in turn, round by round, so that a busy machine slows all; ratios are taken within a
round, and medians are shown. "bare" is the forward pass of the torch model alone, on token ids in one padded batch.
With --data, the share of held-out prompts with the same best LLM as torch's, and the Bradley-Terry log-loss on the
held-out votes stand beside it; int8 is fitted to train prompts then, and prompts of 128 tokens are the beginnings of
others of these. How many of the prompts of a load int8 leaves to float32 is said, too.

Of a large model, a batch takes minutes: "16 mixed" are a quarter of the 64, --held-out N draws so many of the held-out
prompts, and --once measures batches in one round, with none before that warms up.

A --base is a text backbone as transformers saves it; it gets a random head of nine LLMs, and the tokenizer of the first
--model if it has none, so only its speed means anything, and its export is compared on a few prompts.

    python benchmarks/runtimes.py --model FOLDER [--base FOLDER] [--data ../shared/data/routing9] [--threads 2]
"""

from __future__ import annotations

from threads import THREADS, parse

# isort: split
import argparse
import bisect
import copy
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from latency import TEXT
from measuring import machine, print_json, rounds_and_json

from p2l_sdk import P2L
from p2l_sdk.hub.onnx_files import ONNX_INT8, ONNX_REPORT
from p2l_sdk.modeling.limits_p2l import read_json
from p2l_sdk.modeling.prompt_p2l import pad
from p2l_sdk.scorers.load import load_scorer
from p2l_sdk.scorers.onnx_export import export_onnx
from p2l_sdk.scorers.onnx_prompts import trying_prompts
from p2l_sdk.scorers.onnx_scorer import lead

LOADS = ("1 of 128 tokens", "32 of 128 tokens", "64 mixed")
_QUARTER = "16 mixed"
_FITTED, _SEED = 1000, 11  # train prompts that int8 is fitted to and compared on, and the order that they are drawn in
_FEW = 14  # of the built-in prompts, one of each kind and two more


def contestants(folder: Path, place: Path, prompts: list[str] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scorers by name, and what was said of the exported ones."""
    torch.set_num_threads(THREADS)
    plain = load_scorer(folder, device="cpu")
    half = copy.copy(plain)
    half.model = copy.deepcopy(plain.model)
    half.model.backbone.to(torch.bfloat16)
    exported = folder if (folder / ONNX_INT8).is_file() else place / "exported"
    if exported != folder:
        P2L(plain, folder=folder).save_pretrained(exported)
        export_onnx(plain, exported, int8=True, force=True, prompts=prompts)
    said = read_json(exported / ONNX_REPORT, dict)
    said = {"near": said["near"], **said["comparison"]}
    int8 = load_scorer(exported, runtime="onnx")
    whole = copy.copy(int8)
    whole.rough = None
    return {
        "torch fp32": plain,
        "torch bf16": half,
        "onnx fp32": whole,
        "onnx int8": int8,
        "openvino": load_scorer(exported, runtime="openvino"),
    }, said


def with_head(base: Path, folder: Path, words: Path) -> Path:
    """Save a backbone with a random head, and the tokenizer in `words`, as a P2L model."""
    from p2l_sdk.modeling.configuration_p2l import P2LConfig
    from p2l_sdk.modeling.modeling_p2l import P2LModel
    from p2l_sdk.scorers.backbone import BaseModel

    backbone = BaseModel(str(base)).load()
    tokenizer = BaseModel(str(words)).tokenizer()
    spec: dict[str, Any] = {"models": [f"llm-{i}" for i in range(9)], "feedback": "bt", "chat": False}
    config = P2LConfig(backbone_config=backbone.config, **spec, cls_token=tokenizer.eos_token or tokenizer.sep_token)
    P2LModel.on_backbone(config, backbone).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def of_tokens(scorer: Any, texts: list[str], n_tokens: int, n: int) -> list[str]:
    """So many prompts of about so many tokens: the beginnings of texts."""
    found: list[str] = []
    n_tokens = min(n_tokens, scorer.spec.max_prompt_tokens)
    for text in texts:
        words = text.split()
        if len(scorer.token_ids([text])[0]) >= n_tokens and len(words) > 1:
            lengths = range(1, len(words) + 1)
            most = bisect.bisect_left(lengths, n_tokens, key=lambda n: len(scorer.token_ids([" ".join(words[:n])])[0]))
            found.append(" ".join(words[: most + 1]))
        if len(found) == n:
            break
    return found


def train_prompts(data: Path) -> list[str]:
    """Of a data set in the layout of routing9, in an order of their own."""
    from p2l_sdk.votes.votes import Scores

    prompts = list(Scores.read(data / "scores_train.parquet").prompts)
    return [prompts[i] for i in np.random.default_rng(_SEED).permutation(len(prompts))]


def left(scorer: Any, prompts: list[str]) -> int:
    """How many prompts int8 leaves to float32."""
    rough = copy.copy(scorer)
    rough.near = 0.0
    return int((lead(rough.score(prompts).coefs) < scorer.near).sum())


def bare(scorer: Any, prompts: list[str]) -> Callable[[], object]:
    """The forward pass alone."""
    ids, mask = map(torch.from_numpy, pad(scorer.token_ids(prompts), scorer.pad_id))

    def call() -> object:
        with torch.inference_mode():
            return scorer.model(input_ids=ids, attention_mask=mask)

    return call


def rounds(calls: dict[str, Callable[[], object]], n: int, warm_up: bool) -> dict[str, dict[str, dict[str, float]]]:
    """By the clock and in processor time, of each call: median seconds, and how many times faster than torch fp32."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for i in range(n + warm_up):
        for name, call in calls.items():
            clock, processor = time.perf_counter(), time.process_time()
            call()
            if i >= warm_up:
                times[name].append((time.perf_counter() - clock, time.process_time() - processor))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for i, kind in enumerate(("clock", "processor")):
        base = [both[i] for both in times["torch fp32"]]
        found[kind] = {
            name: {
                "ms": 1e3 * statistics.median(both[i] for both in values),
                "times": statistics.median(a / both[i] for a, both in zip(base, values, strict=True)),
            }
            for name, values in times.items()
        }
    return found


def quality(scorers: dict[str, Any], data: Path, n: int | None) -> dict[str, dict[str, float]]:
    """On the held-out prompts and votes of a data set in the layout of routing9, or on so many of them."""
    from p2l_sdk.evaluation import evaluate_votes
    from p2l_sdk.votes.votes import Votes

    votes = Votes.read(data / "votes_val.parquet", scorers["torch fp32"].spec.models)
    if n is not None:
        drawn = np.random.default_rng(_SEED).permutation(len(votes.prompts))[:n]
        votes = votes.subset(drawn)
    prompts, found = list(votes.prompts), {}
    scored = {name: P2L(scorer).coefficients(prompts) for name, scorer in scorers.items()}
    best = scored["torch fp32"].coefs.argmax(1)
    for name, scorer in scorers.items():
        metrics = evaluate_votes(P2L(scorer), votes, scored=scored[name])
        equal = float(np.mean(scored[name].coefs.argmax(1) == best))
        found[name] = {"equal_routes": equal, "prompts": len(prompts), "bt_log_loss": metrics["bt_log_loss"].value}
    return found


def waste(scorer: Any, prompts: list[str]) -> float:
    """The share of padding among the tokens that the session of a scorer for exported graphs reads."""
    ids = scorer.token_ids(prompts)
    read = sum(scorer.filled([ids[i] for i in batch])[0].size for batch in scorer.passes(ids))
    return 1 - sum(map(len, ids)) / read


def measure(
    folder: Path, settings: argparse.Namespace, data: Path | None, compared: list[str] | None = None
) -> dict[str, Any]:
    """Of one model: speed by load, how int8 and float32 were compared, and quality if there are data."""
    names = settings.load or LOADS
    with tempfile.TemporaryDirectory() as place:
        texts = [" ".join((TEXT * 40).split()[i:]) for i in range(32)] if data is None else train_prompts(data)
        scorers, said = contestants(folder, Path(place), compared if data is None else texts[:_FITTED])
        plain = scorers["torch fp32"]
        long = of_tokens(plain, texts[_FITTED:] or texts, 128, 32)
        mixed = trying_prompts()[::6] + trying_prompts()[5::42]
        quarter = [mixed[i] for i in np.random.default_rng(_SEED).permutation(len(mixed))[:16]]
        loads = dict(zip((*LOADS, _QUARTER), (long[:1], long, mixed, quarter), strict=True))
        speed = {}
        for name in names:
            prompts = loads[name]
            calls: dict[str, Callable[[], object]] = {"bare": bare(plain, prompts)}
            calls |= {kind: lambda s=scorer, p=prompts: s.score(p) for kind, scorer in scorers.items()}
            once = settings.once and len(prompts) > 1
            speed[name] = rounds(calls, 1 if once else settings.rounds, warm_up=not once)
            print(folder.name, name, speed[name], file=sys.stderr, flush=True)  # a large model takes long
        found = {"model": folder.name, "speed": speed, "exported": said}
        found["left_to_float32"] = {name: left(scorers["onnx int8"], loads[name]) for name in names}
        found["padding_of_mixed"] = {name: waste(scorers[name], mixed) for name in ("onnx fp32", "openvino")}
        return found | ({} if data is None else {"quality": quality(scorers, data, settings.held_out)})


def show(result: dict[str, Any], kind: str) -> None:
    """Print a table of a model; `kind` of time: "clock" or "processor"."""
    padding = ", ".join(f"{share:.0%} ({name})" for name, share in result["padding_of_mixed"].items())
    print(f"\n{result['model']}, {kind} time in ms (times as fast as torch fp32); padding among the tokens of the")
    print(f"mixed prompts: {padding}\n")
    print(f"int8: {result['exported']}; left to float32: {result['left_to_float32']}\n")
    loads, scored = list(result["speed"]), result.get("quality", {})
    print(f"| runtime | {' | '.join(loads)} | same best LLM | BT log-loss |\n|---|{'---|' * (len(loads) + 2)}")
    for name in result["speed"][loads[0]][kind]:
        measured = (result["speed"][load][kind][name] for load in loads)
        cells = [f"{value['ms']:.1f} ({value['times']:.2f})" for value in measured]
        found = scored.get(name)
        more = ["", ""] if found is None else [f"{found['equal_routes']:.1%}", f"{found['bt_log_loss']:.4f}"]
        print(f"| {name} | {' | '.join(cells + more)} |")


def main() -> None:
    parser = rounds_and_json(__doc__, 7)
    parser.add_argument("--model", action="append", default=[], help="folder of a P2L model on a transformer")
    parser.add_argument("--base", action="append", default=[], help="folder of a text backbone")
    parser.add_argument("--data", type=Path, help="folder with votes_val.parquet and scores_val.parquet")
    parser.add_argument("--processor-time", action="store_true", help="of all threads, too, for a busy machine")
    parser.add_argument("--load", action="append", choices=(*LOADS, _QUARTER), help="the first three if none is given")
    parser.add_argument("--held-out", type=int, metavar="N", help="held-out prompts, drawn; all if not given")
    parser.add_argument("--once", action="store_true", help="one round for each batch, none to warm up")
    arguments = parse(parser)
    if not arguments.model and not arguments.base:
        parser.error("give a --model or a --base")
    results = [measure(Path(model), arguments, arguments.data) for model in arguments.model]
    with tempfile.TemporaryDirectory() as place:
        for base in map(Path, arguments.base):
            words = base if (base / "tokenizer.json").is_file() or not arguments.model else Path(arguments.model[0])
            folder = with_head(base, Path(place) / base.name, words)
            results.append(measure(folder, arguments, None, trying_prompts()[:_FEW]))
    where = machine(f"{THREADS} thread(s)", f"load {', '.join(f'{value:.1f}' for value in os.getloadavg())}")
    if arguments.json:
        print_json(machine=where, rounds=arguments.rounds, results=results)
        return
    print(f"{where}; medians of {arguments.rounds} rounds")
    for result in results:
        for kind in ("processor", "clock") if arguments.processor_time else ("clock",):
            show(result, kind)


if __name__ == "__main__":
    main()
