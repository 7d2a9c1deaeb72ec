"""A run that is killed at any moment goes on, and ends with the same bytes as one that was not."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from bulk_prompts import digests, write_lines
from pyarrow import parquet

from p2l_sdk.bulk import Columns, Settings, score_files
from p2l_sdk.errors import P2LError, P2LWarning

OPTIONS = {"columns": Columns(by="lang"), "part_rows": 30, "processes": 1}
JOINT = Settings(model="routing9", cost=0.0003, top=1)
ALONE = Settings(model="routing9", coefficients=True)


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    return write_lines(tmp_path_factory.mktemp("in") / "log.jsonl", 700)


def killed(action, after: float) -> bool:
    """Do something in a child process and kill it after so many seconds, if it has not ended; whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    end = time.monotonic() + after
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.WIFSIGNALED(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def stopped(lines, out, parts: int = 4, **options) -> None:
    """A run that was killed when so many parts were done."""
    left = iter(range(parts - 1))

    def stop(done, total):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    assert killed(lambda: score_files(lines, out, ALONE, **{**OPTIONS, **options}, progress=stop), 60.0)


def test_prompts_that_are_cut_are_counted_of_parts_that_were_done_before_too(tmp_path):
    file = tmp_path / "log.jsonl"
    texts = [" ".join(["word"] * (600 if i % 10 == 0 else 6)) for i in range(200)]
    file.write_text("".join(json.dumps({"id": i, "prompt": text}) + "\n" for i, text in enumerate(texts)))
    options = {**OPTIONS, "columns": None}
    with pytest.warns(P2LWarning, match="20 of 200 prompts have more than 512 tokens"):
        whole = score_files(file, tmp_path / "whole", ALONE, **options)
    stopped(file, tmp_path / "out", columns=None)
    with pytest.warns(P2LWarning, match="20 of 200 prompts have more than 512 tokens"):
        found = score_files(file, tmp_path / "out", ALONE, **options)
    assert found.resumed >= 90
    assert found.to_dict() == whole.to_dict()
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_what_a_worker_left_that_outlived_its_run_goes_with_the_next_one(tmp_path, lines):
    """It held its file while the next run looked for what is left over, and may have ended any time later."""
    stopped(lines, tmp_path / "out")
    left = tmp_path / "out" / ".part-00000.parquet.p2l-left.parquet"
    left.write_bytes(b"half of it")
    score_files(lines, tmp_path / "out", ALONE, **OPTIONS)
    assert not left.exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "kills"),
    [
        (JOINT, 2),
        (ALONE, 1),
        pytest.param(JOINT, 10, marks=pytest.mark.slow),
        pytest.param(ALONE, 10, marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore::p2l_sdk.errors.P2LWarning")
def test_killed_at_random_moments_it_gives_the_same_bytes(tmp_path, lines, settings, kills):
    begun = time.monotonic()
    whole = score_files(lines, tmp_path / "whole", settings, **OPTIONS)
    seconds = time.monotonic() - begun
    draw, met = random.Random(os.urandom(8)), 0
    while met < kills:
        if killed(lambda: score_files(lines, tmp_path / "out", settings, **OPTIONS), draw.uniform(0.0, 0.6 * seconds)):
            met += 1
        elif met < kills:  # it had ended: kill another one
            shutil.rmtree(tmp_path / "out")
    found = score_files(lines, tmp_path / "out", settings, **OPTIONS)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")
    assert found.to_dict() == whole.to_dict()
    assert not (tmp_path / "out" / ".checkpoints").exists()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::p2l_sdk.errors.P2LWarning")
def test_the_command_goes_on_with_two_processes(tmp_path, lines):
    """The command and its workers, killed when some parts are done."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "p2l_sdk", "score", str(lines), "--output", str(out), "--model", "routing9"]
    command += ["--by", "lang", "--part-rows", "30", "--processes", "2", "--coefficients"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(out.glob("part-*.parquet"))) < 4:
        time.sleep(0.005)
        assert run.poll() is None, "it ended before it could be killed"
    run.kill()
    run.wait()
    with pytest.raises(P2LError, match="differs from it: top was 0, and is 2; give the same settings"):
        score_files(lines, out, Settings(model="routing9", coefficients=True, top=2), **OPTIONS)
    settings = Settings(model="routing9", coefficients=True, top=0)
    found = score_files(lines, out, settings, **OPTIONS)
    assert 0 < found.resumed < 700
    score_files(lines, tmp_path / "whole", settings, **OPTIONS)
    assert digests(out) == digests(tmp_path / "whole")


def test_a_changed_input_and_another_writer_are_refused(tmp_path, lines, monkeypatch):
    own = shutil.copy(lines, tmp_path / "log.jsonl")
    out = tmp_path / "out"
    stopped(own, out)
    from p2l_sdk.outputs.leftovers import locked

    lock = locked(out / ".checkpoints")
    with pytest.raises(P2LError, match="another process is writing"):
        score_files(own, out, ALONE, **OPTIONS)
    os.close(lock)
    with monkeypatch.context() as patch:
        patch.setattr("p2l_sdk.bulk.run._PROBE", "as if the model were another one")
        with pytest.raises(P2LError, match="the weights of the model have changed"):
            score_files(own, out, ALONE, **OPTIONS)
    with own.open("a", encoding="utf-8") as file:
        file.write('{"id": 700, "prompt": "one more", "lang": "en"}\n')
    with pytest.raises(P2LError, match="differs from it: its input has 1 file changed"):
        score_files(own, out, ALONE, **OPTIONS)


def test_a_worker_that_dies_is_told_of_and_the_run_goes_on(tmp_path, lines, monkeypatch):
    from p2l_sdk.bulk import pool

    monkeypatch.setattr(pool.subprocess, "Popen", _Dying)
    with pytest.raises(P2LError, match=r"a worker process ended \(killed by signal 9.*same command again"):
        score_files(lines, tmp_path / "out", ALONE, **{**OPTIONS, "processes": 2})


class _Dying(subprocess.Popen):
    """A worker that is killed, as for want of memory."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.kill()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_stops_the_run_and_keeps_what_is_done(tmp_path, lines, monkeypatch):
    plain, out = parquet.write_table, tmp_path / "out"

    def full(table, where, **options):
        if not where.name.startswith(".part-00003.parquet"):
            return plain(table, where, **options)
        monkeypatch.undo()
        with open("/dev/full", "wb") as file:  # by its name, pyarrow would remove it when it fails
            return plain(table, file, **options)

    monkeypatch.setattr(parquet, "write_table", full)
    said = r"part-00003.parquet' cannot be written: .*No space left on device; the parts that are finished are kept"
    with pytest.raises(P2LError, match=said):
        score_files(lines, out, ALONE, **OPTIONS)
    found = score_files(lines, out, ALONE, **OPTIONS)
    assert found.resumed == 90
    assert found.n_scored == 700


@pytest.mark.long
def test_leftovers_of_killed_writers_go(tmp_path, lines):
    out = tmp_path / "out"
    stopped(lines, out)
    (out / ".part-00009.parquet.p2l-abc.parquet").write_bytes(b"half")
    with pytest.warns(P2LWarning, match="left over by a run that was killed"):
        score_files(lines, out, ALONE, **OPTIONS)
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []
