"""A moving average of the trained weights, which is measured and kept in place of the last step's.

With few prompts the weights of a single step follow the last votes that they saw; their average over the last steps
predicts other prompts better, and costs one copy of what is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback

_FILE = "moving_average.safetensors"
_FIRST_STEPS = 10  # so many steps weigh about the same at the start, when there is little to average


class MovingAverage(TrainerCallback):
    """average <- decay * average + (1 - decay) * weights after each step.

    Args:
        model: its parameters that require a gradient are averaged.
        decay: 0 to 1, without 1; about the last 1 / (1 - decay) steps count.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._decay = decay
        self._average = {name: p.detach().clone() for name, p in self._trained.items()}

    def load(self, checkpoint: Path) -> None:
        """Go on from the average that a checkpoint holds."""
        for name, value in load_file(checkpoint / _FILE).items():
            self._average[name].copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averaged weights inside, its own again after."""
        own = {name: p.detach().clone() for name, p in self._trained.items()}
        self.keep()
        try:
            yield
        finally:
            self._set(own)

    def keep(self) -> None:
        """Give the model the averaged weights."""
        self._set(self._average)

    @torch.no_grad()
    def _set(self, values: dict[str, torch.Tensor]) -> None:
        for name, parameter in self._trained.items():
            parameter.copy_(values[name])

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        decay = min(self._decay, state.global_step / (state.global_step + _FIRST_STEPS))
        for name, parameter in self._trained.items():
            average = self._average[name]
            if average.device != parameter.device:  # the Trainer moves the model when it begins
                average = self._average[name] = average.to(parameter.device)
            average.lerp_(parameter, 1 - decay)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            save_file(self._average, Path(args.output_dir) / f"checkpoint-{state.global_step}" / _FILE)
