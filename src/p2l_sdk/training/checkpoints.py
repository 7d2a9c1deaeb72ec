"""The checkpoints of a run: which are complete, which run they belong to, where to go on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from p2l_sdk.errors import P2LError
from p2l_sdk.outputs.faults import write_faults
from p2l_sdk.outputs.files import write_file
from p2l_sdk.training.config import Method, TrainingConfig
from p2l_sdk.training.listener import Listener

_WHOLE = "checkpoint-is-whole"  # holds the sizes of the checkpoint's files; written last
_SETTINGS = "settings.json"
_NOT_OF_THE_RUN = ("output", "eval_votes", "eval_scores", "push_to_hub", "title", "license", "cost_note", "notes",
                   "report_to", "base_name", "costs")  # fmt: skip


class WholeCheckpoints(TrainerCallback):
    """Marks a checkpoint as complete once every process has written its part of it."""

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint as whole."""
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


def begin_or_resume(
    config: TrainingConfig, digest: str, folder: Path, *, resume: bool, listener: Listener
) -> Path | None:
    """The checkpoint to continue from; None for a new run, whose settings are then stored in its folder.

    Args:
        config: the settings of the run.
        digest: a fingerprint of what it learns from.
        folder: of its checkpoints.
        resume: whether to continue the run in the folder.
        listener: is told if there is none.

    Raises:
        P2LError: the folder holds checkpoints of another run, or of this one and it is not to be resumed.
    """
    settings = {k: v for k, v in config.to_dict().items() if k not in _NOT_OF_THE_RUN}
    if config.trained is Method.LORA:
        settings.pop("method", None)  # it is the default, so naming it does not make another run
    settings["contents of votes"] = digest
    file = folder / _SETTINGS
    if resume and file.is_file():
        _check_same_run(settings, file)
        for half in (path for path in checkpoints(folder) if not is_whole(path)):
            shutil.rmtree(half)
        return last_whole_checkpoint(folder)
    if not file.is_file() and checkpoints(folder):
        raise P2LError(
            f"{str(folder)!r} holds checkpoints of something else, where this run would keep its own; move them, or "
            "choose another output"
        )
    if file.is_file() and last_whole_checkpoint(folder) is not None:
        raise P2LError(f"an unfinished run lies in {str(folder)!r}; go on with --resume, or delete that folder")
    if resume:
        listener.nothing_to_resume(folder)
    delete_checkpoints(folder)
    with write_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_file(file, json.dumps(settings, indent=2))
    return None


@contextlib.contextmanager
def nothing_left(folder: Path, is_new: bool) -> Iterator[None]:
    """Leave no folder of a new run behind that is refused before its first step."""
    try:
        yield
    except P2LError:
        if is_new:
            delete_checkpoints(folder)
        raise


def _check_same_run(settings: dict[str, Any], file: Path) -> None:
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        assert isinstance(before, dict)
    except (OSError, ValueError, AssertionError):
        where = f"{str(file)!r}, which says what the run was,"
        raise P2LError(f"{where} is damaged; delete {str(file.parent)!r} and begin again") from None
    changed = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
    if changed:
        raise P2LError(
            f"the run in {str(file.parent)!r} was begun with other settings of {', '.join(changed)}; resume it with "
            "the same, or delete that folder and begin again"
        )


def delete_checkpoints(folder: Path) -> None:
    """Delete a run's own files from its checkpoint folder; anything else, such as logs of a tracker, stays."""
    for checkpoint in checkpoints(folder):
        shutil.rmtree(checkpoint)
    parts = ("features-*.safetensors", ".features-*.p2l-*", ".settings.*.p2l-*", _SETTINGS)
    for pattern in parts:  # the settings last: they identify the folder as the run's
        for file in folder.glob(pattern):
            file.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
