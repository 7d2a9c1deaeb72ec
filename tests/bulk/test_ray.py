"""Bulk scoring on Ray: a local cluster with two workers gives what one process gives, byte for byte."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from command_line import refused
from conftest import WORDS

from p2l_sdk.bulk import BatchScorer, BatchStatistics, Settings, merged, score_files
from p2l_sdk.bulk.reading import Columns
from p2l_sdk.errors import MissingExtraError, P2LError

pytestmark = pytest.mark.long

ray = pytest.importorskip("ray", reason='NOT TESTED: Ray is not installed (pip install "p2l-sdk[ray]")')

N_ROWS, PART, BY = 600, 50, Columns(by="topic")


@pytest.fixture(scope="module")
def cluster():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def settings(saved) -> Settings:
    return Settings(model=str(saved("static")), route="joint", cost=0.0005, coefficients=True)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    draw, path = random.Random(0), tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    words = list(WORDS)
    rows = [
        {"id": i, "prompt": " ".join(draw.choices(words, k=draw.randint(1, 30))), "topic": f"t{i % 3}"}
        for i in range(N_ROWS)
    ]
    rows[77]["prompt"] = " "
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def alone(file, settings, tmp_path_factory) -> dict[str, bytes]:
    """What one process writes."""
    folder = tmp_path_factory.mktemp("alone") / "out"
    score_files(file, folder, settings, columns=BY, part_rows=PART, processes=1)
    return content(folder)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def workers() -> list[int]:
    """The processes of the actors of this cluster."""
    parent = ray._private.worker.global_worker.node.all_processes["raylet"][0].process.pid
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = f"\nPPid:\t{parent}\n" in (place / "status").read_text()
            if is_ours and (place / "cmdline").read_bytes().startswith(b"ray::_Worker"):
                found.append(int(place.name))
        except OSError:  # it has ended
            continue
    return found


@pytest.mark.parametrize("count", [1, 2])
def test_actors_write_what_one_process_writes(count, file, settings, alone, cluster, tmp_path):
    found = score_files(file, tmp_path / "out", settings, columns=BY, part_rows=PART, processes=count, ray="local")
    assert (found.n_rows, found.n_bad, found.n_parts) == (N_ROWS, 1, N_ROWS // PART)
    assert content(tmp_path / "out") == alone


def test_an_actor_that_is_killed_is_started_again_and_nothing_is_lost(file, settings, alone, cluster, tmp_path):
    killed = []

    def kill(done: int, total: int | None) -> None:
        if not killed and (found := workers()):
            os.kill(found[0], signal.SIGKILL)
            killed.append(found[0])

    score_files(file, tmp_path / "out", settings, columns=BY, part_rows=PART, processes=2, ray="local", progress=kill)
    assert killed
    deadline = time.time() + 5
    while killed[0] in workers() and time.time() < deadline:
        time.sleep(0.05)
    assert killed[0] not in workers()
    assert content(tmp_path / "out") == alone


def test_a_callable_for_map_batches_and_a_reduction(file, settings, cluster):
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    dataset = ray.data.from_items([{**row, "row": i} for i, row in enumerate(rows)]).rename_columns(
        {"topic": "category"}
    )
    options = {"batch_format": "pyarrow", "batch_size": PART, "compute": ray.data.ActorPoolStrategy(size=2)}
    routed = Settings(model=settings.model, top=2)
    scored = dataset.map_batches(BatchScorer, fn_constructor_args=(routed,), **options)
    table = pyarrow.concat_tables(ray.get(scored.to_arrow_refs()), promote_options="permissive").sort_by("row")
    here = BatchScorer(routed)({"prompt": [row["prompt"] for row in rows], "row": list(range(N_ROWS))})
    assert table.select(here.column_names).to_pylist() == here.to_pylist()
    assert [row["row"] for row in table.to_pylist() if row["error"]] == [77]
    statistics = dataset.map_batches(BatchStatistics, fn_constructor_args=(routed,), **options).take_all()
    totals = merged(statistics, routed.load())
    assert len(statistics) >= N_ROWS // PART
    assert merged(statistics[::-1], routed.load()).to_bytes() == totals.to_bytes()
    assert len(totals) == N_ROWS - 1
    p2l = routed.load()
    good = p2l.aggregate([row["prompt"] for row in rows if row["prompt"].strip()])
    np.testing.assert_allclose(totals.board().coefs, good.coefs, atol=1e-6)


def test_what_goes_wrong_is_said(file, settings, cluster, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with pytest.raises(P2LError, match="exists"):
        score_files(file, tmp_path / "out", settings, ray="local")
    message = refused("score", "--ray", file, file, "--output", tmp_path / "new")
    assert "is no address of a Ray cluster; write --ray=local, =auto, =host:port" in message
    away = refused("score", "--ray=127.0.0.1:9", file, "--output", tmp_path / "new")
    assert "the Ray cluster '127.0.0.1:9' cannot be reached: " in away
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'needs ray, which is not installed: pip install "p2l-sdk\[ray\]"'):
        score_files(file, tmp_path / "new", settings, ray="local")
    assert not (tmp_path / "new").exists()
