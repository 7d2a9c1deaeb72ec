"""What scoring a million, 100 million and 10 billion prompts costs: core-hours, USD, and where the bottleneck is.

Everything is computed from `scale.json`: measured figures, each with its source, and assumptions (prices, storage, the
fleet), which `--assume NAME=VALUE` replaces. Three ways to score: the embedded static model and MiniLM in int8, both on
cores, and a 135M decoder on GPUs, whose hosts' cores do the rest. All read and write Parquet and aggregate all prompts.

    python benchmarks/scale.py [--assume NAME=VALUE ...] [--output PICTURE] [--json]
    python benchmarks/scale.py --measure      figures of this machine's cores, into scale.json
    python benchmarks/scale.py --check        the simulation against real processes: one, two, and one that is killed
"""

from __future__ import annotations

from threads import parse

# isort: split
import argparse
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import print_json
from scale_simulation import Fleet, Job, simulate

FIGURES = Path(__file__).with_name("scale.json")
SIZES = (10**6, 10**8, 10**10)
STATIC, MINILM, GPU = "static", "MiniLM int8", "135M on a GPU"
STAGES = ("reading", "tokenization", "scoring", "aggregation", "writing")
WORKERS = (1, 4, 16, 64, 256, 1024, 4096)
DRAWS = 10  # fleets, which differ in who is slow and who is killed


@dataclass(frozen=True)
class Way:
    """A way to score.

    Attributes:
        name: of the way.
        seconds: of each stage, for one prompt: of a core, or of a GPU for its scoring.
        on_gpu: whether scoring is on a GPU.
        measured: whether the figure of scoring is measured, not an estimate.
    """

    name: str
    seconds: dict[str, float]
    on_gpu: bool
    measured: bool

    def stages(self, figures: dict[str, Any]) -> dict[str, float]:
        """Seconds of a worker for each stage, of one prompt: a host's cores share theirs."""
        cores = assumed(figures, "gpu_host_cores") if self.on_gpu else 1.0
        return {name: s if name == "scoring" else s / cores for name, s in self.seconds.items()}

    @property
    def core_seconds(self) -> float:
        """Of one prompt, without a GPU's."""
        return sum(s for stage, s in self.seconds.items() if not (self.on_gpu and stage == "scoring"))

    def worker_seconds(self, figures: dict[str, Any]) -> float:
        """Of one prompt on one worker: a core, or a GPU with its host's cores, which work at the same time."""
        if not self.on_gpu:
            return self.core_seconds
        return max(self.seconds["scoring"], self.core_seconds / assumed(figures, "gpu_host_cores"))

    def usd(self, figures: dict[str, Any]) -> float:
        """Of one prompt; a GPU's price includes its host."""
        price = assumed(figures, "gpu_hour_usd" if self.on_gpu else "core_hour_usd")
        return self.worker_seconds(figures) / 3600.0 * price

    def bottleneck(self, figures: dict[str, Any]) -> str:
        """The stage that takes longest, with its share; of a GPU and its host's cores, which one the other waits for,
        and how busy that other is."""
        if self.on_gpu:
            host, gpu = self.core_seconds / assumed(figures, "gpu_host_cores"), self.seconds["scoring"]
            share = f"{min(host, gpu) / max(host, gpu):.0%} busy"
            return f"host's cores (GPU {share})" if host > gpu else f"scoring (host's cores {share})"
        stage = max(self.seconds, key=lambda stage: self.seconds[stage])
        return f"{stage} ({self.seconds[stage] / sum(self.seconds.values()):.0%})"


def assumed(figures: dict[str, Any], name: str) -> float:
    return float(figures["assumed"][name]["value"])


def ways(figures: dict[str, Any]) -> list[Way]:
    """The three ways, from the figures."""
    stages = {name: entry["value"] * 1e-6 for name, entry in figures["stages"].items()}
    tokens, found = figures["prompt"]["tokens"]["value"], []
    for name in (STATIC, MINILM, GPU):
        rate = figures["scoring"].get(name)
        scoring = stages["scoring, static"] if rate is None else tokens / rate["value"]
        seconds = {stage: scoring if stage == "scoring" else stages[stage] for stage in STAGES}
        found.append(Way(name, seconds, name == GPU, rate is None or rate.get("measured", True)))
    return found


def cost(way: Way, prompts: int, figures: dict[str, Any]) -> dict[str, Any]:
    """Of so many prompts, the number of workers from which the storage is the bottleneck, and a day's workers."""
    a_prompt = way.worker_seconds(figures)
    moved = figures["prompt"]["read_bytes"]["value"] + figures["prompt"]["write_bytes"]["value"]
    storage = moved / assumed(figures, "storage_bytes_s")
    row: dict[str, Any] = {"way": way.name, "prompts": prompts, "measured": way.measured}
    row |= {"worker_hours": prompts * a_prompt / 3600.0, "usd": prompts * way.usd(figures)}
    row |= {"bottleneck": way.bottleneck(figures)}
    row |= {"storage_from_workers": a_prompt / storage, "workers_for_a_day": math.ceil(prompts * a_prompt / 86400.0)}
    return row | {"storage_hours": prompts * storage / 3600.0, "terabytes": prompts * moved / 1e12}


def job_of(way: Way, prompts: int, figures: dict[str, Any]) -> Job:
    """The parts of so many prompts, as the simulation wants them."""
    rows, speed = assumed(figures, "part_rows"), assumed(figures, "storage_bytes_s")
    read, write = (figures["prompt"][name]["value"] * rows / speed for name in ("read_bytes", "write_bytes"))
    work, merge = rows * way.worker_seconds(figures), figures["stages"]["merging"]["value"]
    return Job(parts=math.ceil(prompts / rows), work_s=work, read_s=read, write_s=write, merge_s=merge)


def fleet_of(workers: int, figures: dict[str, Any]) -> Fleet:
    names = ("slow_share", "slow_factor", "kills_per_hour", "start_s")
    return Fleet(workers=workers, **{n: assumed(figures, n) for n in names}, restart_s=assumed(figures, "start_s"))


def fleets(way: Way, prompts: int, figures: dict[str, Any], workers: tuple[int, ...] = WORKERS) -> list[dict[str, Any]]:
    """Simulated runs by number of workers: means of `DRAWS` fleets."""
    rows, job = [], job_of(way, prompts, figures)
    for n in workers:
        fleet = fleet_of(n, figures)
        runs = [simulate(job, fleet, seed) for seed in range(DRAWS)]
        row = {"wall_h": [run.wall_s / 3600.0 for run in runs], "kills": [run.kills for run in runs]}
        row |= {"efficiency": [run.efficiency(job, fleet) for run in runs]}
        row |= {"lost": [run.lost_s / (job.parts * job.work_s) for run in runs]}
        rows.append({"workers": n, **{name: statistics.mean(values) for name, values in row.items()}})
    return rows


def replaced(figures: dict[str, Any], changes: list[str]) -> dict[str, Any]:
    """The figures with other assumptions, NAME=VALUE."""
    for change in changes:
        name, _, value = change.partition("=")
        if name not in figures["assumed"]:
            raise SystemExit(f"nothing is assumed of {name!r}; assumed are {', '.join(figures['assumed'])}")
        figures["assumed"][name] = {"value": float(value), "source": "--assume"}
    return figures


def amount(value: float) -> str:
    return f"{value:.1g}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def duration(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 1.5 else f"{hours:,.0f} h" if hours < 72 else f"{hours / 24:,.0f} days"


def show(figures: dict[str, Any], rows: list[dict[str, Any]], runs: list[dict[str, Any]]) -> None:
    found = ways(figures)
    print(f"{figures['machine']}; microseconds of a core (of a GPU: scoring in the last row) for one prompt:\n")
    print(f"| way | {' | '.join(STAGES)} | all |\n|{'---|' * (len(STAGES) + 2)}")
    for way in found:
        cells = [f"{way.seconds[stage] * 1e6:,.0f}" for stage in STAGES]
        cells = [way.name + ("" if way.measured else " *"), *cells, f"{sum(way.seconds.values()) * 1e6:,.0f}"]
        print(f"| {' | '.join(cells)} |")
    print("\n| prompts | way | hours | USD | workers for one day | bottleneck | storage limits from, workers | data |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        unit = "GPU" if row["way"] == GPU else "core"
        hours = f"{amount(row['worker_hours'])} {unit}-hours"
        needed, most = (
            f"{row[key]:,.0f} {unit}{'s' * (row[key] > 1)}" for key in ("workers_for_a_day", "storage_from_workers")
        )
        cells = [f"{row['prompts']:.0e}".replace("e+", "e"), row["way"] + ("" if row["measured"] else " *"), hours]
        cells += [amount(row["usd"]), needed, row["bottleneck"], most]
        print(f"| {' | '.join(cells)} | {row['terabytes']:.3g} TB |")
    print("\n\\* scoring is an estimate, not measured\n")
    print("| workers, static, 1e8 prompts | wall time | efficiency | killed | work lost |\n|---|---|---|---|---|")
    for run in runs:
        print(f"| {run['workers']:,} | {duration(run['wall_h'])} | {run['efficiency']:.0%} | ", end="")
        print(f"{run['kills']:,.1f} | {run['lost']:.2%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures", type=Path, default=FIGURES, help="the table of figures")
    parser.add_argument("--assume", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--measure", action="store_true", help="measure this machine's cores, and write the figures")
    parser.add_argument("--check", action="store_true", help="compare the simulation with real processes")
    parser.add_argument("--output", help="draw a picture into this file")
    parser.add_argument("--json", action="store_true")
    arguments = parse(parser)
    figures = json.loads(arguments.figures.read_text(encoding="utf-8"))
    if arguments.measure or arguments.check:
        import scale_measured

        if arguments.check:
            scale_measured.check()
        else:
            scale_measured.measure(figures)
            arguments.figures.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        return
    figures = replaced(figures, arguments.assume)
    rows = [cost(way, n, figures) for n in SIZES for way in ways(figures)]
    runs = fleets(ways(figures)[0], 10**8, figures)
    if arguments.output:
        from scale_picture import draw

        draw(figures, arguments.output)
    if arguments.json:
        print_json(figures=figures, costs=rows, runs=runs)
    else:
        show(figures, rows, runs)


if __name__ == "__main__":
    main()
