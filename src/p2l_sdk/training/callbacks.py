"""Trainer callbacks: the order of each epoch, complete checkpoints, trackers, progress."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_reporting_integration_callbacks
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from p2l_sdk.errors import P2LError
from p2l_sdk.training.data import LengthGroupedBatches

_WHOLE = "checkpoint-is-whole"  # holds the sizes of the checkpoint's files; written last


class SetEpoch(TrainerCallback):
    """Tells the sampler which epoch begins, also when a run is resumed."""

    def __init__(self, order: LengthGroupedBatches) -> None:
        self._order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._order.set_epoch(state.global_step // self._order.steps)


class WholeCheckpoints(TrainerCallback):
    """Marks a checkpoint as complete once every process has written its part of it."""

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            files = [file for file in folder.rglob("*") if file.is_file()]  # FSDP and DeepSpeed write subfolders
            for file in files:  # the mark must not reach the disk before the files do
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
            sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
            (folder / _WHOLE).write_text(json.dumps(sizes), encoding="utf-8")


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, complete or not, oldest first."""
    found = [path for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint is complete: the process may have been killed while writing or deleting its files."""
    try:
        sizes = json.loads((checkpoint / _WHOLE).read_text(encoding="utf-8"))
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in a folder, None if there is none."""
    return next(filter(is_whole, reversed(checkpoints(folder))), None)


def check_trackers(report_to: str | None) -> None:
    """Raise P2LError for a tracker that the Trainer does not know, or whose package is not installed."""
    try:
        for tracker in get_reporting_integration_callbacks(report_to):
            tracker()
    except ValueError:
        known = ", ".join(INTEGRATION_TO_CALLBACK)
        raise P2LError(f"report_to is {report_to!r}, which is no tracker of the Trainer; known: {known}") from None
    except (ImportError, RuntimeError) as error:
        raise P2LError(
            f"report_to {report_to!r} needs a package that is not installed: pip install {report_to}"
        ) from error


class ProgressBar(TrainerCallback):
    """A progress bar on stderr with votes per second, loss and remaining time, and one line per validation."""

    def __init__(self, votes_per_step: float, steps_per_epoch: int, what: str = "votes") -> None:
        self._votes, self._epoch, self._what = votes_per_step, steps_per_epoch, what
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        speed = TextColumn("{task.fields[speed]}")
        loss = TextColumn("{task.fields[loss]}")
        columns = (TextColumn("training"), BarColumn(24), MofNCompleteColumn(), speed, loss, TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._bar.start()
        self._task = self._bar.add_task("", total=state.max_steps, completed=state.global_step, speed="", loss="")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._bar is not None:
            speed = self._bar.tasks[0].speed
            text = f"{speed * self._votes:,.0f} {self._what}/s" if speed else ""
            self._bar.update(self._task, completed=state.global_step, speed=text)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if self._bar is None or not logs:
            return
        if "loss" in logs:
            self._bar.update(self._task, loss=f"loss {logs['loss']:.4f}")
        if "eval_loss" in logs:
            bt = f", BT log-loss {logs['eval_bt_log_loss']:.4f}" if "eval_bt_log_loss" in logs else ""
            self._console.print(
                f"epoch {state.global_step / self._epoch:.2f}: validation loss {logs['eval_loss']:.4f}{bt}",
                highlight=False,
            )

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.stop()

    def stop(self) -> None:
        """Remove the bar and restore the cursor."""
        if self._bar is not None:
            self._bar.stop()
