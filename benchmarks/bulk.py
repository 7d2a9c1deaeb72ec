"""Prompts per second of `p2l score` on one and two cores, beside bare tokenization on two processes, in one run.

The prompts are real ones (every data set of --data), repeated; in each copy a tenth of the words is replaced by words
of other prompts and one word in fifty by a made-up one, so that no two are alike and new words keep coming. Their
median is some 60 tokens. Bare tokenization is the model's own tokenizer in two processes, which read the prompts in
batches of 256 from lists in memory and do nothing with the ids. `p2l score` reads Parquet and writes Parquet, with the
five best LLMs of each prompt and the aggregate of the default sample. The runs alternate, round by round, so that a
busy machine slows all; the results are medians. "us" are microseconds of processor time per prompt, all processes and
their start together, which a busy machine changes less. Memory is that of all processes of a run together
(proportional set size).

    python benchmarks/bulk.py [--prompts 1000000] [--rounds 1] [--model arena] [--data ../shared/data] [--json]
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from measuring import machine, print_json
from pyarrow import parquet

SETS = (
    "routing9/scores_train", "routellm_mmlu/mmlu", "mmlu_pro/scores_train", "category_prompts/prompts",
    "alpaca58/votes_train",
)  # fmt: skip
MEDIAN, SAMPLE = 60, 2000  # tokens; prompts by which they are counted
ROWS, PART = 50_000, 20_000  # of a table in the input; the default of --part-rows

_TOKENIZE = """
import sys, time
from pyarrow import parquet
from p2l_sdk import P2L
path, number = sys.argv[1], int(sys.argv[2])
encoder = P2L.from_pretrained(sys.argv[3])._scorer._encode
tokenizer = encoder.tokenizer
prompts = parquet.read_table(path, columns=["prompt"])["prompt"].to_pylist()[number::2]
print("ready", flush=True)
sys.stdin.readline()
for start in range(0, len(prompts), 256):
    for encoding in tokenizer.encode_batch_fast(prompts[start : start + 256], add_special_tokens=False):
        encoding.ids
print("done", flush=True)
"""


def real_prompts(data: Path) -> list[str]:
    """The different prompts of the data sets."""
    found: dict[str, None] = {}
    for name in SETS:
        if (path := data / f"{name}.parquet").exists():
            found |= dict.fromkeys(parquet.read_table(path, columns=["prompt"])["prompt"].to_pylist())
    if not found:
        sys.exit(f"no data set is in {str(data)!r}; name its folder: --data")
    return list(found)


def perturbed(prompts: list[str], n: int, draw: random.Random) -> Iterator[str]:
    """So many prompts, each another one."""
    words = [word for prompt in prompts for word in prompt.split()]
    for i in range(n):
        own = prompts[i % len(prompts)].split(" ")
        for _ in range(max(1, len(own) // 10)):
            own[draw.randrange(len(own))] = draw.choice(words)
        for _ in range(len(own) // 50 + (draw.random() < len(own) % 50 / 50)):
            own[draw.randrange(len(own))] = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=7))
        yield " ".join(own)


def write_prompts(path: Path, data: Path, n: int, model: str) -> float:
    """Write the prompts; returns their median number of tokens."""
    from p2l_sdk import P2L

    encoder, draw = P2L.from_pretrained(model)._scorer._encode, random.Random(0)
    prompts = real_prompts(data)
    draw.shuffle(prompts)
    lengths = [len(ids) for ids in encoder(prompts)]
    by_length = [prompt for _, prompt in sorted(zip(lengths, prompts, strict=True))]
    median = sorted(lengths)[len(lengths) // 2]
    while median > MEDIAN and len(by_length) > 100:  # leave out the longest
        by_length = by_length[: int(0.98 * len(by_length))]
        median = sorted(lengths)[len(by_length) // 2]
    draw.shuffle(by_length)
    schema = pa.schema({"id": pa.int64(), "prompt": pa.string()})
    made = perturbed(by_length, n, draw)
    sampled: list[str] = []
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, n, ROWS):
            texts = [next(made) for _ in range(min(ROWS, n - start))]
            sampled += texts[: max(1, SAMPLE * ROWS // n)] if len(sampled) < SAMPLE else []
            writer.write_table(pa.table({"id": range(start, start + len(texts)), "prompt": texts}, schema))
    return statistics.median(len(ids) for ids in encoder(sampled))


def cpu_seconds() -> float:
    """Processor seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def tokenize(path: Path, model: str) -> float:
    """Seconds of bare tokenization in two processes."""
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _TOKENIZE, str(path)]
    pipe = subprocess.PIPE
    workers = [
        subprocess.Popen([*command, str(i), model], stdin=pipe, stdout=pipe, env=environment, text=True)
        for i in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    begun = time.perf_counter()
    for worker in workers:
        worker.communicate("\n")
    return time.perf_counter() - begun


def score(path: Path, output: Path, *options: str, one_core: bool = False) -> tuple[float, float]:
    """Seconds of a whole `p2l score`, its start included, and the most MB that it took."""
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "p2l_sdk", "score", str(path), "--output", str(output), *options]
    pin: Callable[[], None] | None = None
    if one_core:
        core = {min(os.sched_getaffinity(0))}
        pin = lambda: os.sched_setaffinity(0, core)  # noqa: E731
    begun = time.perf_counter()
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=pin)
    most = Memory(run.pid)
    if run.wait() != 0:
        sys.exit(f"p2l score ended with {run.returncode}")
    seconds = time.perf_counter() - begun
    return seconds, most.stop()


class Memory(threading.Thread):
    """Watches the memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._most, self._stopped = pid, 0.0, False
        self.start()

    def run(self) -> None:
        """Watch."""
        while not self._stopped:
            self._most = max(self._most, sum(map(_megabytes, _tree(self._pid))))
            time.sleep(0.2)

    def stop(self) -> float:
        """The most MB so far."""
        self._stopped = True
        self.join()
        return self._most


def _tree(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += _tree(int(child))
        except OSError:
            continue
    return found


def _megabytes(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", default="arena")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="p2l-bulk-") as folder:
        path, output = Path(folder) / "prompts.parquet", Path(folder) / "scored"
        median = write_prompts(path, asked.data, asked.prompts, asked.model)
        model = ("--model", asked.model, "--part-rows", str(min(PART, max(1, asked.prompts // 20))))
        seconds: dict[str, list[float]] = {"tokenization": [], "one": [], "two": [], "none": []}
        memory, used = 0.0, dict[str, list[float]]()
        for _ in range(asked.rounds):
            before = cpu_seconds()
            seconds["tokenization"].append(tokenize(path, asked.model))
            used.setdefault("tokenization", []).append(cpu_seconds() - before)
            for name, options, one_core in (
                ("two", ("--processes", "2"), False),
                ("one", ("--processes", "1"), True),
                ("none", ("--processes", "2", "--aggregate", "none"), False),
            ):
                before = cpu_seconds()
                took, most = score(path, output, *model, *options, one_core=one_core)
                seconds[name].append(took)
                memory = max(memory, most)
                used.setdefault(name, []).append(cpu_seconds() - before)
    found = {name: asked.prompts / statistics.median(values) for name, values in seconds.items()}
    cpu = {name: 1e6 * statistics.median(values) / asked.prompts for name, values in used.items()}
    report: dict[str, Any] = {
        "machine": machine(),
        "model": asked.model,
        "prompts": asked.prompts,
        "median_tokens": median,
        "prompts_per_second": found,
        "microseconds_of_processor": cpu,
        "two_cores_to_tokenization": found["two"] / found["tokenization"],
        "two_cores_to_one": found["two"] / found["one"],
        "memory_mb": memory,
    }
    if asked.json:
        print_json(**report)
        return
    print(f"{report['machine']}; {asked.model}, {asked.prompts:,} prompts, median {median:.0f} tokens")
    for name, title in (
        ("tokenization", "bare tokenization, two processes"),
        ("two", "p2l score, two processes"),
        ("none", "the same, without the aggregate"),
        ("one", "p2l score, one core"),
    ):
        print(f"{title:<36}{found[name]:>10,.0f} prompts/s{cpu[name]:>8.0f} us")
    print(f"two processes / bare tokenization {report['two_cores_to_tokenization']:.2f}")
    print(f"two processes / one core          {report['two_cores_to_one']:.2f}")
    print(f"memory of all processes           {memory:,.0f} MB")


if __name__ == "__main__":
    main()
