"""What Ray costs: `p2l score` in plain processes and in Ray actors, one and two, and two of which one is killed.

The prompts are those of bulk.py. Seconds are those of the whole command: loading the model and, with Ray, starting Ray
(which is also given alone, as the time of a run on ten prompts) are included. All outputs are compared byte for byte.

    python benchmarks/bulk_ray.py [--prompts 100000] [--rounds 3] [--model arena] [--data ../shared/data] [--json]
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bulk import write_prompts
from measuring import machine, print_json

RUNS = {
    "1 process": ["--processes", "1"],
    "2 processes": ["--processes", "2"],
    "1 Ray actor": ["--processes", "1", "--ray=local"],
    "2 Ray actors": ["--processes", "2", "--ray=local"],
    "2 Ray actors, one killed": ["--processes", "2", "--ray=local"],
}


def score(file: Path, output: Path, options: list[str], kill: bool = False) -> tuple[float, bool]:
    """Seconds of a run, and whether an actor was killed."""
    command = [sys.executable, "-m", "p2l_sdk", "score", str(file), "--output", str(output), *options]
    killed, ended = threading.Event(), threading.Event()
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}) as run:
        if kill:
            threading.Thread(target=_kill, args=(run.pid, output, killed, ended), daemon=True).start()
        status = run.wait()
    ended.set()
    if status:
        sys.exit(f"{' '.join(command)} ended with status {status}")
    return time.perf_counter() - start, killed.is_set()


def _kill(parent: int, output: Path, killed: threading.Event, ended: threading.Event) -> None:
    """Kill an actor of a run once its first part is there, and another one is being scored."""
    while not ended.wait(0.1):
        actors = [pid for pid in _actors() if parent in _parents(pid)]
        if actors and any(output.glob("part-*.parquet")):
            os.kill(actors[0], signal.SIGKILL)
            killed.set()
            return


def _actors() -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cmdline").read_bytes().startswith(b"ray::_Worker"):
                found.append(int(place.name))
        except OSError:
            continue
    return found


def _parents(pid: int) -> list[int]:
    found = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        found.append(pid)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="arena")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in (*RUNS, "starting Ray")}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        file, few = folder / "prompts.parquet", folder / "few.parquet"
        write_prompts(file, args.data, args.prompts, args.model)
        write_prompts(few, args.data, 10, args.model)
        first: dict[str, bytes] = {}
        for number in range(args.rounds):
            for name, options in RUNS.items():
                output = folder / f"{name} {number}"
                taken, killed = score(file, output, ["--model", args.model, *options], "killed" in name)
                if killed != ("killed" in name):
                    sys.exit("the run ended before an actor could be killed; give more --prompts")
                seconds[name].append(taken)
                content = {path.name: path.read_bytes() for path in output.iterdir()}
                first = first or content
                if content != first:
                    sys.exit(f"{name} gives another result")
            options = ["--model", args.model]
            plain, _ = score(few, folder / f"few {number}", [*options, "--processes", "1"])
            ray, _ = score(few, folder / f"few ray {number}", [*options, "--processes", "1", "--ray=local"])
            seconds["starting Ray"].append(ray - plain)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    if args.json:
        print_json(machine=machine(), prompts=args.prompts, seconds=seconds, medians=medians)
        return
    print(f"{machine()}; {args.prompts:,} prompts, {args.model}; medians of {args.rounds} rounds; equal results")
    for name, value in medians.items():
        spread = f"{min(seconds[name]):.1f} to {max(seconds[name]):.1f}"
        rate = "" if name == "starting Ray" else f"  {args.prompts / value:8,.0f} prompts/s"
        print(f"{name:<26} {value:7.1f} s ({spread}){rate}")


if __name__ == "__main__":
    main()
