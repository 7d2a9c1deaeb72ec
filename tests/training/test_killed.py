"""SIGKILL at random moments: what is run again gives the same weights, and nothing is left over or lost.

A moment is a share of the time that an uninterrupted run takes, or one of its events on the file system (an open, a
rename, ...), at which it kills itself. Half of them are events, since the writing that matters takes little time.
By default a few moments of each job are tried, with `-m slow` twenty, over all places.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft  # noqa: F401 - before the forks, which then spend their time on the work
import pytest
import torch
from adapters import save_adapter, save_base
from conftest import shared
from fine_tuning import run as train
from fine_tuning import vote_rows, write_jsonl
from mounts import can_mount, mounted

import p2l_sdk.training.finetune
import p2l_sdk.training.run  # noqa: F401 - likewise
from p2l_sdk import P2L
from p2l_sdk.errors import P2LError
from p2l_sdk.votes.votes import Votes

pytestmark = pytest.mark.long

EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree", "shutil.copyfile"}
LORA = {
    "feedback": "grk", "epochs": 2, "batch_size": 8, "average": 0.9, "lora_dropout": 0.2, "head_dropout": 0.2,
    "validation": 0.2, "checkpoints": 4, "precision": "fp32",
}  # fmt: skip
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Job:
    """What is run: `work(output, again)`, and where its weights are."""

    work: Callable[[Path, bool], Any]
    weights: str = "model.safetensors"


@pytest.fixture(scope="module")
def jobs(saved, base, tmp_path_factory) -> dict[str, Callable[[], Job]]:
    """Jobs by name, made when they are used."""
    root = tmp_path_factory.mktemp("inputs")
    votes = write_jsonl(root / "votes.jsonl", vote_rows("grk", 30, 5))
    more = [{"prompt": f"a poem about {i}", "model_a": "new", "model_b": "beta-13b", "winner": "tie"} for i in range(9)]
    added = write_jsonl(root / "added.jsonl", more)

    def static() -> Job:
        folder = str(saved("static"))
        return Job(lambda output, _: train(votes, output, base=folder, epochs=1, copies=1, keep=0.5, precision="auto"))

    def lora() -> Job:
        folder = str(base("llama"))
        return Job(
            lambda output, again: train(votes, output, base=folder, resume=again, **LORA), "adapter_model.safetensors"
        )

    def add_model() -> Job:
        folder = saved("static")
        return Job(
            lambda output, _: P2L.from_pretrained(folder).add_model("new", Votes.read(added)).save_pretrained(output)
        )

    def merge() -> Job:
        whole = save_base(root / "base")
        adapter = save_adapter(root / "adapter", whole, str(whole))
        return Job(lambda output, _: P2L.from_pretrained(adapter).merge(output))

    def convert() -> Job:
        source = shared("oracle/ckpt/tiny-qwen2-grk")
        return Job(lambda output, _: P2L.from_pretrained(source).save_pretrained(output))

    return {"static": static, "lora": lora, "add_model": add_model, "merge": merge, "convert": convert}


@contextlib.contextmanager
def at(place: str, folder: Path) -> Iterator[Path]:
    """An output: a new folder, a symlink to an empty one, the working directory, or a mount."""
    output = folder / "out"
    if place == "link":
        (folder / "real").mkdir()
        output.symlink_to("real")
    elif place == ".":
        output.mkdir()
    elif place == "mount":
        with mounted(output):
            yield output
        return
    yield output


def child(job: Job, output: Path, place: str, again: bool, event: int | None, report: Any) -> None:
    """Run a job in this process, which kills itself at its event of this number; tell how many there were."""
    count = 0

    def watch(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        # what is only read does not count
        if name in EVENTS and str(output.parent) in str(arguments[0]) and not (name == "open" and arguments[1] == "r"):
            count += 1
            if count == event:
                os.kill(os.getpid(), signal.SIGKILL)

    os.dup2(os.open(output.parent.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    torch.set_num_threads(1)  # threads do not survive a fork
    if place == ".":
        os.chdir(output)
    sys.addaudithook(watch)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            job.work(Path(".") if place == "." else output, again)
        report.put(("done", count))
    except P2LError as error:
        report.put((str(error), count))


def ended(job: Job, output: Path, place: str, *, again: bool = False, event: int | None = None, seconds: float = 300):
    """How a process with a job ends: its words and number of events; None if it was killed, at an event or a time."""
    report = FORK.SimpleQueue()
    process = FORK.Process(target=child, args=(job, output, place, again, event, report))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    if process.exitcode == 0:
        return report.get()
    assert process.exitcode == -signal.SIGKILL, (output.parent.parent / "log").read_text()[-3000:]
    return None


def left_over(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if ".p2l-" in str(path.name))


def try_moments(job: Job, name: str, tmp_path: Path, places: list[str], moments: int, seed: int) -> None:
    drawn = random.Random(f"{name} {seed}")
    (tmp_path / "whole").mkdir()
    began = time.monotonic()
    words, n_events = ended(job, tmp_path / "whole" / "out", "new")
    duration = time.monotonic() - began
    assert words == "done"
    wanted = (tmp_path / "whole" / "out" / job.weights).read_bytes()
    tally = {"killed": 0, "was done": 0, "finished by the next run": 0}
    for moment in range(moments):
        (folder := tmp_path / str(moment)).mkdir()
        place = places[moment % len(places)]
        with at(place, folder) as output:
            by_event = moment % 2 == 0
            when = {"event": drawn.randint(1, n_events)} if by_event else {"seconds": duration * drawn.random()}
            where = f"{name} {place} {when}"
            first = ended(job, output, place, **when)
            tally["killed"] += first is None
            words, _ = ended(job, output, place, again=True)
            if words != "done":  # it was killed behind the point where nothing can be lost any more
                assert "exists already" in words, (where, words)
                tally["finished by the next run" if "is whole now" in words else "was done"] += 1
            assert (output / job.weights).read_bytes() == wanted, where
            P2L.from_pretrained(output)
            assert left_over(folder) == [], where
    assert tally["killed"] >= moments // 3, tally
    print(f"{name}: {moments} moments, {n_events} events in {duration:.1f} s, {tally}")


def places(mounts: bool = True) -> list[str]:
    if mounts and not can_mount():
        warnings.warn("no mounts on this machine: outputs on mount points are not tested", UserWarning, stacklevel=2)
        mounts = False
    return ["new", "link", ".", *(["mount"] if mounts else [])]


@pytest.mark.parametrize("name", ["static", "lora", "add_model", "merge", "convert"])
def test_a_few_moments(name, jobs, tmp_path):
    try_moments(jobs[name](), name, tmp_path, places()[::-1], 2 if name == "lora" else 4, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["static", "lora", "add_model", "merge", "convert"])
def test_twenty_moments(name, jobs, tmp_path, capsys):
    with capsys.disabled():
        try_moments(jobs[name](), name, tmp_path, places(), 20, seed=1)
