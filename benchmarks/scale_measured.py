"""The measured side of `scale.py`: figures of this machine's cores, and real processes beside the simulation.

A part is a Parquet file of real prompts. A worker reads it, scores it with the embedded model, aggregates it and writes
the five best LLMs of each prompt and the statistics: the same work as a part of `p2l score`.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from measuring import machine
from pyarrow import parquet
from scale_simulation import Fleet, Job, simulate

from p2l_sdk import P2L
from p2l_sdk.leaderboards.aggregate import PairStatistics

SETS = ("routing9/scores_train", "mmlu_pro/scores_train", "alpaca58/votes_train", "routellm_mmlu/mmlu")
BATCH, ROWS, PARTS = 256, 20_000, 8
DATA = Path(__file__).parents[1].parent / "shared" / "data"


def prompts(n: int) -> list[str]:
    """Real prompts, repeated, each with a word of its own."""
    found: dict[str, None] = {}
    for name in SETS:
        path = DATA / f"{name}.parquet"
        if path.exists():
            found |= dict.fromkeys(parquet.read_table(path, columns=["prompt"])["prompt"].to_pylist())
    if not found:
        raise SystemExit("the data sets of ../shared/data are not there")
    chance, texts = random.Random(0), list(found)
    return [f"{chance.choice(texts)} {i:x}" for i in range(n)]


def best(coefs: np.ndarray, names: np.ndarray) -> dict[str, Any]:
    """The five best LLMs of each prompt, as columns."""
    top = np.argsort(-coefs, axis=1)[:, :5]
    return {f"llm_{k}": pa.DictionaryArray.from_arrays(top[:, k].astype(np.int32), names) for k in range(5)}


def write(path: Path, coefs: np.ndarray, names: np.ndarray) -> None:
    table = pa.table({"id": np.arange(len(coefs)), **best(coefs, names)})
    parquet.write_table(table, path, compression="zstd")


def measure(figures: dict[str, Any]) -> None:
    """Put the figures of one core of this machine into the table: seconds of processor time, medians of five rounds."""
    p2l, texts = P2L.from_pretrained(), prompts(ROWS)
    names, encode = np.array(p2l.models), p2l._scorer._encode
    batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
    times: dict[str, list[float]] = {}
    tokens: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        source, target, saved = (Path(folder) / name for name in ("in.parquet", "out.parquet", "sums.safetensors"))
        parquet.write_table(pa.table({"id": np.arange(ROWS), "prompt": texts}), source, compression="zstd")
        for _ in range(5):
            total = PairStatistics(p2l.spec.feedback, len(p2l.models), seed=1)
            stats = PairStatistics(p2l.spec.feedback, len(p2l.models))
            with busy(times, "reading"):
                parquet.read_table(source)["prompt"].to_pylist()
            with busy(times, "tokenization"):
                tokens = [len(ids) for batch in batches for ids in encode(batch)]
            with busy(times, "scored"):
                scored = [p2l.coefficients(batch) for batch in batches]
            with busy(times, "aggregation"):
                for part in scored:
                    stats.add(part)
            with busy(times, "writing"):
                write(target, np.concatenate([part.coefs for part in scored]), names)
            stats.save(saved)
            with busy(times, "merging"):
                total.merge(PairStatistics.load(saved))
        sizes = source.stat().st_size, target.stat().st_size
    found = {name: statistics.median(values) for name, values in times.items()}
    found["scoring, static"] = max(found.pop("scored") - found["tokenization"], 0.0)
    figures["machine"] = machine("one thread")
    how = "scale.py --measure: processor time of one core, 20,000 real prompts"
    for name, seconds in found.items():
        value = seconds if name == "merging" else seconds / ROWS * 1e6
        figures["stages"][name] |= {"value": float(f"{value:.3g}"), "source": how}
    figures["prompt"]["tokens"] |= {"value": round(float(np.mean(tokens)), 1), "source": how}
    for name, size in zip(("read_bytes", "write_bytes"), sizes, strict=True):
        figures["prompt"][name] |= {"value": round(size / ROWS, 1), "source": how}


@contextmanager
def busy(times: dict[str, list[float]], name: str) -> Iterator[None]:
    start = time.process_time()
    yield
    times.setdefault(name, []).append(time.process_time() - start)


def work(folder: Path, number: int, p2l: P2L) -> None:
    """Score one part."""
    texts = parquet.read_table(folder / f"in-{number}.parquet")["prompt"].to_pylist()
    stats, scored = PairStatistics(p2l.spec.feedback, len(p2l.models), seed=number), []
    for start in range(0, len(texts), BATCH):
        scored.append(p2l.coefficients(texts[start : start + BATCH]))
        stats.add(scored[-1])
    write(folder / f"out-{number}.parquet", np.concatenate([part.coefs for part in scored]), np.array(p2l.models))
    stats.save(folder / f"sums-{number}.safetensors")


def worker(folder: str, tasks: Any, done: Any) -> None:
    """Take parts until there are none: (number, seconds) of each; (None, 0) once the model is loaded."""
    p2l = P2L.from_pretrained()
    p2l.coefficients(["warm up"])
    done.put((None, 0.0, os.getpid()))
    while (number := tasks.get()) is not None:
        done.put((-1 - number, 0.0, os.getpid()))  # begun
        start = time.perf_counter()
        work(Path(folder), number, p2l)
        done.put((number, time.perf_counter() - start, os.getpid()))


def real(folder: str, workers: int, kill: bool = False) -> tuple[float, list[float], float]:
    """Wall seconds from the moment that all workers are ready, seconds of each part, and until a lost one is replaced.

    With `kill`, the worker of the third part is killed half a second after it began it, and another one started.
    """
    spawn = multiprocessing.get_context("spawn")
    tasks, done = spawn.Queue(), spawn.SimpleQueue()

    def start() -> Any:
        process = spawn.Process(target=worker, args=(folder, tasks, done))
        process.start()
        return process

    crew = [start() for _ in range(workers)]
    for _ in crew:
        done.get()
    began, seconds, replaced_in = time.perf_counter(), [], 0.0
    for number in range(PARTS):
        tasks.put(number)
    killed_at = 0.0
    while len(seconds) < PARTS:
        number, took, pid = done.get()
        if number is None:
            replaced_in = time.perf_counter() - killed_at
        elif number >= 0:
            seconds.append(took)
        elif kill and number == -1 - 2:
            kill, killed_at = False, time.perf_counter() + 0.5
            time.sleep(0.5)
            os.kill(pid, signal.SIGKILL)
            tasks.put(2)
            crew.append(start())
    wall = time.perf_counter() - began
    for _ in crew:
        tasks.put(None)
    for process in crew:
        process.join()
    return wall, seconds, replaced_in


def check() -> None:
    """Print real and simulated seconds of one process, two, and two of which one is killed."""
    with tempfile.TemporaryDirectory() as folder:
        texts = prompts(4000)
        for number in range(PARTS):
            table = pa.table({"id": np.arange(len(texts)), "prompt": texts})
            parquet.write_table(table, Path(folder) / f"in-{number}.parquet", compression="zstd")
        print(f"{machine(f'load {os.getloadavg()[0]:.1f}')}; {PARTS} parts of {len(texts):,} prompts\n")
        print("| processes | seconds a part, median | seconds, real | simulated | real / simulated |")
        print("|---|---|---|---|---|")
        for name, n, kill in (("1", 1, False), ("2", 2, False), ("2, one killed and replaced", 2, True)):
            wall, seconds, back = real(folder, n, kill)
            part = statistics.median(seconds)
            said = foretold(part, n, back if kill else None)
            print(f"| {name} | {part:.2f} | {wall:.2f} | {said:.2f} | {wall / said:.2f} |")


def foretold(part: float, workers: int, back: float | None) -> float:
    """The simulated seconds; `back`: until the worker that is killed half a second into its second part is replaced."""
    killed_at = () if back is None else (part + 0.5,)
    fleet = Fleet(workers=workers, killed_at=killed_at, restart_s=back or 0.0)
    return simulate(Job(parts=PARTS, work_s=part), fleet).wall_s
