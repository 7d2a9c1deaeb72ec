"""What the page on scale is computed with: costs by hand, and the simulation against formulas."""

import importlib
import json
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def simulation(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("scale_simulation")


@pytest.fixture
def scale(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr("sys.argv", ["scale.py"])
    monkeypatch.delitem(sys.modules, "scale", raising=False)  # the Space has one, too
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    return importlib.import_module("scale")


@pytest.fixture
def figures():
    return json.loads((BENCHMARKS / "scale.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("parts", "workers", "rounds"), [(8, 1, 8), (8, 2, 4), (9, 2, 5), (3, 10, 1)])
def test_without_disturbance_workers_go_in_rounds(simulation, parts, workers, rounds):
    fleet = simulation.Fleet(workers=workers, start_s=7.0)
    run = simulation.simulate(simulation.Job(parts=parts, work_s=10.0), fleet)
    assert run == simulation.Run(wall_s=7.0 + 10.0 * rounds, lost_s=0.0, kills=0)


def test_many_workers_wait_for_the_storage_and_for_the_driver(simulation):
    fleet = simulation.Fleet(workers=500)
    job = simulation.Job(parts=1000, work_s=10.0, read_s=0.3, write_s=0.2)
    assert simulation.simulate(job, fleet).wall_s == pytest.approx(1000 * 0.5, rel=0.03)
    job = simulation.Job(parts=1000, work_s=10.0, merge_s=0.4)
    assert simulation.simulate(job, fleet).wall_s == pytest.approx(10.0 + 1000 * 0.4)


def test_slow_workers_count_as_much_as_they_do(simulation):
    fleet = simulation.Fleet(workers=200, slow_share=0.3, slow_factor=3.0)
    job = simulation.Job(parts=20_000, work_s=1.0)
    assert simulation.simulate(job, fleet).efficiency(job, fleet) == pytest.approx(0.7 + 0.3 / 3.0, rel=0.08)


@pytest.mark.parametrize("part_s", [10.0, 600.0])
def test_kills_lose_what_the_formula_says(simulation, part_s):
    """A part of T seconds under kills at rate r takes (exp(rT) - 1) / r seconds of work, and (exp(rT) - 1) restarts."""
    rate, restart = 4.0 / 3600.0, 30.0
    fleet = simulation.Fleet(workers=20, kills_per_hour=4.0, restart_s=restart)
    job = simulation.Job(parts=4000, work_s=part_s)
    expected = np.expm1(rate * part_s) * (1.0 / rate + restart) * job.parts / fleet.workers
    runs = [simulation.simulate(job, fleet, seed) for seed in range(5)]
    assert statistics.mean(run.wall_s for run in runs) == pytest.approx(expected, rel=0.05)
    assert statistics.mean(run.kills for run in runs) == pytest.approx(job.parts * np.expm1(rate * part_s), rel=0.1)


def test_a_killed_part_is_done_by_who_is_idle(simulation):
    fleet = simulation.Fleet(workers=2, restart_s=100.0, killed_at=(5.0,))
    run = simulation.simulate(simulation.Job(parts=2, work_s=10.0), fleet)
    assert run == simulation.Run(wall_s=20.0, lost_s=5.0, kills=1)
    late = simulation.simulate(simulation.Job(parts=1, work_s=10.0), simulation.Fleet(workers=2, killed_at=(5.0,)))
    assert late.wall_s == 15.0


def test_costs_by_hand(scale, figures):
    stages = {"reading": 1, "tokenization": 100, "scoring, static": 50, "aggregation": 45, "writing": 4, "merging": 1}
    for name, value in stages.items():
        figures["stages"][name]["value"] = value
    figures["prompt"]["tokens"]["value"] = 60
    figures["scoring"]["135M on a GPU"]["value"] = 600_000
    changes = ["core_hour_usd=0.05", "gpu_hour_usd=3.6", "gpu_host_cores=2", "storage_bytes_s=1e6"]
    scale.replaced(figures, changes)
    figures["prompt"]["read_bytes"]["value"], figures["prompt"]["write_bytes"]["value"] = 150, 50
    static, _, gpu = scale.ways(figures)
    row = scale.cost(static, 10**8, figures)
    assert row["worker_hours"] == pytest.approx(200e-6 * 1e8 / 3600)
    assert row["usd"] == pytest.approx(200e-6 * 1e8 / 3600 * 0.05)
    assert row["bottleneck"] == "tokenization (50%)"
    assert row["storage_from_workers"] == pytest.approx(1.0)  # 200 bytes a prompt and worker, 200 us both
    row = scale.cost(gpu, 10**8, figures)
    assert gpu.seconds["scoring"] == pytest.approx(100e-6)
    assert row["usd"] == pytest.approx(1e8 * 100e-6 * 0.001)
    scale.replaced(figures, ["gpu_host_cores=1"])
    assert scale.cost(gpu, 1, figures)["bottleneck"] == "host's cores (GPU 67% busy)"


def test_the_figures_are_complete_and_say_where_they_are_from(scale, figures):
    entries = [entry for group in ("prompt", "stages", "scoring", "assumed") for entry in figures[group].values()]
    assert all(entry["value"] > 0 and entry["source"] for entry in entries)
    for entry in figures["scoring"].values():
        assert entry.get("measured", True) or "estimate" in entry["source"]
    with pytest.raises(SystemExit, match="nothing is assumed of 'price'"):
        scale.replaced(figures, ["price=3"])


@pytest.mark.long
def test_the_page_says_what_the_program_says(scale, figures, capsys):
    page = (BENCHMARKS.parent / "docs" / "scale.md").read_text(encoding="utf-8")
    rows = [scale.cost(way, n, figures) for n in scale.SIZES for way in scale.ways(figures)]
    scale.show(figures, rows, scale.fleets(scale.ways(figures)[0], 10**8, figures))
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("|"):
            assert line in page, line
