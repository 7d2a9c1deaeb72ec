"""Where a run keeps its checkpoints until it is finished."""

from __future__ import annotations

import os
from pathlib import Path

from p2l_sdk.outputs.faults import real_path
from p2l_sdk.outputs.folders import CHECKPOINTS
from p2l_sdk.training.config import TrainingConfig


def checkpoint_folder(config: TrainingConfig) -> Path:
    """The folder of a run's checkpoints: `<output>.checkpoints`, or `<output>/.checkpoints` if the output is there
    already. It may be the only folder that survives (the volume of a container) or that can be written."""
    output = real_path(config.output)
    beside = Path(f"{output}.checkpoints")
    return output / CHECKPOINTS if os.path.isdir(output) and not os.path.isdir(beside) else beside
