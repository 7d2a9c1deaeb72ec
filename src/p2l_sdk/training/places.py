"""Where a run keeps its checkpoints until it is finished."""

from __future__ import annotations

from pathlib import Path

from p2l_sdk.outputs.faults import real_path
from p2l_sdk.training.config import TrainingConfig

INSIDE = ".checkpoints"


def checkpoint_folder(config: TrainingConfig) -> Path:
    """The folder of a run's checkpoints: `<output>.checkpoints`, or `<output>/.checkpoints` if the output is there
    already. It may be the only folder that survives (the volume of a container) or that can be written."""
    output = real_path(config.output)
    beside = output.with_name(f"{output.name}.checkpoints") if output.name else output
    return output / INSIDE if (output.is_dir() and not beside.is_dir()) or not output.name else beside
