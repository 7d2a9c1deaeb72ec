"""A run that is killed and resumed, uses two processes, or uses micro-batches gives the same model."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fine_tuning import assert_same_weights, run, tensors, vote_rows, write_jsonl
from forks import start
from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from p2l_sdk.cli.training_progress import Terminal
from p2l_sdk.errors import P2LError
from p2l_sdk.evaluation import evaluate_votes
from p2l_sdk.training import finetune, trainer
from p2l_sdk.training.checkpoints import WholeCheckpoints, checkpoints, is_whole, last_whole_checkpoint
from p2l_sdk.votes.votes import Votes

pytestmark = pytest.mark.long

# dropout, so that the state of the random numbers matters; a patience that is used but does not run out
SETTINGS = {
    "feedback": "grk", "epochs": 6, "batch_size": 8, "learning_rate": 5e-3, "head_learning_rate": 2e-2,
    "average": 0.9, "lora_dropout": 0.2, "head_dropout": 0.2, "validation": 0.2, "checkpoints": 9, "patience": 8,
    "precision": "fp32",
}  # fmt: skip
MARK = "checkpoint-is-whole"


@pytest.fixture(scope="module")
def votes(tmp_path_factory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("votes") / "votes.jsonl", vote_rows("grk", 70, 5))


@pytest.fixture(scope="module")
def uninterrupted(votes, base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    run(votes, folder, base=str(base("llama")), **SETTINGS)
    return folder


def command(votes: Path, output: Path, base: Path, **settings) -> list[str]:
    options = {"votes": votes, "output": output, "base": base, **settings}
    return ["-m", "p2l_sdk", "train", "--quiet"] + [
        str(word) for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)
    ]


def kill_when(happened, process, seconds: float = 120.0) -> None:
    """Send SIGKILL to a process (of `forks` or multiprocessing) as soon as a condition is true."""
    try:
        for _ in range(int(seconds / 0.005)):
            if happened():
                return
            alive = process.is_alive() if isinstance(process, BaseProcess) else process.poll() is None
            assert alive, "it ended before it was killed"
            time.sleep(0.005)
        raise AssertionError("there was nothing to kill it at")
    finally:
        process.kill()
        process.join() if isinstance(process, BaseProcess) else process.wait()


@pytest.fixture(scope="module")
def killed(votes, base, tmp_path_factory) -> Path:
    """The output of a run killed when its third checkpoint was complete; its checkpoints are next to it."""
    output = tmp_path_factory.mktemp("killed") / "model"
    with output.with_name("said.txt").open("wb") as said:
        process = start(*command(votes, output, base("llama"), **SETTINGS), output=said, env=os.environ)
    kill_when((output.with_name("model.checkpoints") / "checkpoint-15" / MARK).exists, process)
    assert not output.exists()
    return output


def copy_of(killed: Path, folder: Path) -> Path:
    shutil.copytree(killed.with_name("model.checkpoints"), folder / "model.checkpoints")
    return folder / "model"


def resumed_until_killed(votes: str, output: str, base: str) -> None:
    run(Path(votes), Path(output), base=base, resume=True, **SETTINGS)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(uninterrupted, killed, votes, base, tmp_path):
    output = copy_of(killed, tmp_path)
    folder = output.with_name("model.checkpoints")
    # killed again at any point while resuming; a fork, to save the imports
    before = [path.name for path in checkpoints(folder)]
    process = multiprocessing.get_context("fork").Process(
        target=resumed_until_killed, args=(str(votes), str(output), str(base("llama")))
    )
    process.start()
    kill_when(lambda: any(path.name not in before for path in checkpoints(folder)), process)
    assert not output.exists()
    assert last_whole_checkpoint(folder) is not None
    run(votes, output, base=str(base("llama")), resume=True, **SETTINGS)
    assert not folder.exists()
    assert_same_weights(output, uninterrupted, atol=1e-6)
    ours, theirs = (json.loads((path / "training_history.json").read_text()) for path in (output, uninterrupted))
    for mine, other in zip(ours, theirs, strict=True):
        for key in ("step", "loss", "eval_loss", "learning_rate"):
            assert mine.get(key) == pytest.approx(other.get(key), abs=1e-6)


def test_half_written_checkpoints_are_never_taken(uninterrupted, killed, votes, base, tmp_path):
    output = copy_of(killed, tmp_path)
    folder = output.with_name("model.checkpoints")
    whole = last_whole_checkpoint(folder)
    number = int(whole.name.rpartition("-")[2])
    unmarked = shutil.copytree(whole, folder / f"checkpoint-{number + 5}")  # killed before MARK was written
    (unmarked / MARK).unlink()
    truncated = shutil.copytree(whole, folder / f"checkpoint-{number + 10}")  # killed while writing
    weights = truncated / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (truncated / MARK).unlink()
    half_deleted = shutil.copytree(whole, folder / f"checkpoint-{number + 15}")  # killed while deleting old checkpoints
    (half_deleted / "optimizer.pt").unlink()
    torn = shutil.copytree(whole, folder / f"checkpoint-{number + 20}")  # killed while writing MARK
    (torn / MARK).write_text('{"optimizer.pt"')
    assert last_whole_checkpoint(folder) == whole
    assert not any(map(is_whole, (unmarked, truncated, half_deleted, torn)))
    run(votes, output, base=str(base("llama")), resume=True, **SETTINGS)
    assert_same_weights(output, uninterrupted, atol=1e-6)


def test_another_run_is_not_resumed(killed, votes, base, tmp_path):
    output = copy_of(killed, tmp_path)
    settings = {**SETTINGS, "base": str(base("llama"))}
    with pytest.raises(P2LError, match=r"begun with other settings of batch_size, lora_rank; resume it with the same"):
        run(votes, output, resume=True, **{**settings, "batch_size": 4, "lora_rank": 8})
    with pytest.raises(P2LError, match=r"an unfinished run lies in .*model\.checkpoints'; go on with --resume"):
        run(votes, output, **settings)
    same = write_jsonl(tmp_path / "votes.jsonl", vote_rows("grk", 70, 5, seed=3))
    saved = json.loads((tmp_path / "model.checkpoints" / "settings.json").read_text())
    (tmp_path / "model.checkpoints" / "settings.json").write_text(json.dumps({**saved, "votes": str(same)}))
    with pytest.raises(P2LError, match="begun with other settings of contents of votes"):
        run(same, output, resume=True, **settings)
    assert last_whole_checkpoint(output.with_name("model.checkpoints")) is not None  # refused, not deleted


def test_there_may_be_nothing_to_resume(votes, base, tmp_path, capsys):
    run(
        votes, tmp_path / "model", base=str(base("llama")), resume=True, epochs=1, batch_size=32, precision="fp32",
        listener=Terminal(),
    )  # fmt: skip
    assert "no run to resume" in capsys.readouterr().err
    assert (tmp_path / "model" / "adapter_model.safetensors").exists()


@pytest.mark.thorough
def test_early_stopping_counts_on_after_a_kill(base, tmp_path):
    """The best checkpoint is kept, and those without a better one are counted over the kill."""
    few = write_jsonl(tmp_path / "few.jsonl", vote_rows("grk", 40, 1))
    settings = {
        "base": str(base("llama")), "method": "full", "learning_rate": 3e-3, "head_learning_rate": 1e-2,
        "epochs": 20, "batch_size": 8, "validation": 0.2, "checkpoints": 20, "patience": 5,
    }  # fmt: skip

    def losses(name: str) -> dict[int, float]:
        history = json.loads((tmp_path / name / "training_history.json").read_text())
        return {entry["step"]: entry["eval_loss"] for entry in history if "eval_loss" in entry}

    p2l = run(few, tmp_path / "whole", **settings)
    whole = losses("whole")
    best, last = min(whole, key=whole.get), max(whole)
    assert last == best + 5 * 4 < 20 * 4, "the test needs a run that overfits"
    validation = Votes.read(few).split(0.2, 0)[1]
    assert evaluate_votes(p2l, validation)["cross_entropy"].value == pytest.approx(whole[best], abs=1e-5)

    folder = tmp_path / "killed.checkpoints"
    process = multiprocessing.get_context("fork").Process(
        target=run, args=(few, tmp_path / "killed"), kwargs=settings
    )  # fmt: skip
    process.start()
    kill_when((folder / f"checkpoint-{last - 12}" / MARK).exists, process)
    assert not (tmp_path / "killed").exists()
    run(few, tmp_path / "killed", resume=True, **settings)
    assert losses("killed") == pytest.approx(whole, abs=1e-6)
    assert_same_weights(tmp_path / "killed", tmp_path / "whole", atol=1e-6)


@pytest.mark.thorough
def test_processes_and_micro_batches_change_nothing(votes, base, tmp_path):
    settings = {
        "feedback": "grk", "epochs": 3, "batch_size": 16, "learning_rate": 2e-3, "validation": 0.19, "checkpoints": 3,
        "precision": "fp32", "lora_rank": 4,
    }  # fmt: skip
    run(votes, tmp_path / "one", base=str(base("llama")), **settings)
    run(votes, tmp_path / "micro", base=str(base("llama")), micro_batch_size=4, **settings)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    result = subprocess.run(
        [*launch, *command(votes, tmp_path / "two", base("llama"), **settings, micro_batch_size=4)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]

    def losses(name: str) -> list[float]:
        history = json.loads((tmp_path / name / "training_history.json").read_text())
        return [entry[key] for entry in history for key in ("loss", "eval_loss") if key in entry]

    for other in ("micro", "two"):
        np.testing.assert_allclose(losses(other), losses("one"), atol=1e-5)
        assert_same_weights(tmp_path / other, tmp_path / "one", atol=1e-5)
    moved = np.abs(tensors(tmp_path / "one")["base_model.model.head.coefs.weight"]).max()
    assert moved > 1e-3  # it starts at zero
    assert "processes 2" in (tmp_path / "two" / "README.md").read_text()


def test_a_batch_that_cannot_be_shared_out_is_refused(votes, base, tmp_path):
    with pytest.raises(P2LError, match="batch_size 16 is no multiple of 1 processes times micro_batch_size 5"):
        run(votes, tmp_path / "model", base=str(base("llama")), batch_size=16, micro_batch_size=5)


# --- finished runs, and other files in the folder ------------------------------------------------------------------

HEAD = {"method": "head", "batch_size": 8, "validation": 0.2}


def stop(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.thorough
@pytest.mark.parametrize(
    "settings",
    [
        {**HEAD, "head_learning_rate": 0.5, "epochs": 30, "checkpoints": 30, "patience": 2},  # stopped early
        {"batch_size": 8, "validation": 0.0, "epochs": 1.3, "checkpoints": 2, "average": 0.9},  # mid-epoch
    ],
    ids=["patience", "fraction"],
)
def test_a_run_that_had_ended_takes_no_further_step(settings, votes, base, tmp_path, monkeypatch):
    settings = {"base": str(base("llama")), **settings}

    def last_step(name: str) -> int:
        return max(entry["step"] for entry in json.loads((tmp_path / name / "training_history.json").read_text()))

    run(votes, tmp_path / "whole", **settings)
    assert "patience" not in settings or last_step("whole") < 30 * 7, "the test needs a run that is stopped early"
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "rescale", stop)  # killed after the last checkpoint, before the model is written
        with pytest.raises(KeyboardInterrupt):
            run(votes, tmp_path / "killed", **settings)
    run(votes, tmp_path / "killed", resume=True, **settings)
    assert last_step("killed") == last_step("whole")
    assert_same_weights(tmp_path / "killed", tmp_path / "whole", atol=1e-6)


def test_the_time_before_a_kill_counts(votes, base, tmp_path, monkeypatch):
    settings = {"base": str(base("llama")), **HEAD, "epochs": 2, "checkpoints": 4}
    with monkeypatch.context() as patch:
        clock = count(step=600)
        patch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        patch.setattr(
            trainer.SetEpoch, "on_epoch_begin", lambda _, args, state, *r, **k: stop() if state.global_step else None
        )
        with pytest.raises(KeyboardInterrupt):
            run(votes, tmp_path / "model", **settings)
    run(votes, tmp_path / "model", resume=True, **settings)
    history = json.loads((tmp_path / "model" / "training_history.json").read_text())
    first, second = ([entry["seconds"] for entry in history if (entry["step"] > 7) == late] for late in (False, True))
    assert max(first) >= 600
    assert min(second) >= max(first)
    assert f" {second[-1] / 60:.0f} minutes on " in (tmp_path / "model" / "README.md").read_text()


def test_what_is_not_of_the_run_is_left_alone(votes, base, tmp_path, monkeypatch):
    class Tracker(TrainerCallback):
        """Logs to the same place as TensorBoard."""

        def on_train_begin(self, args, state, control, **_) -> None:
            (Path(args.output_dir) / "runs").mkdir()
            (Path(args.output_dir) / "runs" / "events").write_text("logs")

    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "mine", Tracker)
    settings = {"base": str(base("llama")), **HEAD, "epochs": 1}
    theirs = tmp_path / "model.checkpoints" / "checkpoint-7"
    theirs.mkdir(parents=True)
    for resume in (False, True):
        with pytest.raises(P2LError, match=r"model\.checkpoints' holds checkpoints of something else, where this run"):
            run(votes, tmp_path / "model", resume=resume, **settings)
    theirs.rmdir()
    run(votes, tmp_path / "model", report_to="mine", **settings)
    assert [path.name for path in theirs.parent.rglob("*")] == ["runs", "events"]


def test_a_checkpoint_of_several_devices_is_whole_with_its_subfolders_only(tmp_path):
    part = tmp_path / "checkpoint-3" / "global_step3" / "part_0.pt"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"of one process")
    state = SimpleNamespace(is_world_process_zero=True, global_step=3)
    mark = WholeCheckpoints(SimpleNamespace(wait_for_everyone=lambda: None))
    mark.on_save(SimpleNamespace(output_dir=str(tmp_path)), state, None)
    assert is_whole(tmp_path / "checkpoint-3")
    part.unlink()
    assert not is_whole(tmp_path / "checkpoint-3")
