"""An exponential moving average of the trained weights, which is evaluated and kept instead of those of a single step.

With few prompts the weights of a single step follow the votes seen last; their average over recent steps predicts new
prompts better, at the cost of one copy of the trained weights.
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
_FIRST_STEPS = 10  # the decay rises as step / (step + 10), so that the initial weights are soon forgotten


class MovingAverage(TrainerCallback):
    """Computes average <- decay * average + (1 - decay) * weights after each step.

    Args:
        model: the parameters that require a gradient are averaged.
        decay: in [0, 1); the average covers about the last 1 / (1 - decay) steps. It is lower in the first steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._decay = decay
        self._average = {name: p.detach().clone() for name, p in self._trained.items()}

    def load(self, checkpoint: Path) -> None:
        """Load the average that a checkpoint holds."""
        for name, value in load_file(checkpoint / _FILE).items():
            self._average[name].copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A context in which the model has the averaged weights; its own are restored afterwards."""
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
        """Move the average."""
        decay = min(self._decay, state.global_step / (state.global_step + _FIRST_STEPS))
        for name, parameter in self._trained.items():
            average = self._average[name]
            if average.device != parameter.device:  # the Trainer moves the model when training begins
                average = self._average[name] = average.to(parameter.device)
            average.lerp_(parameter, 1 - decay)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save it with the checkpoint."""
        if state.is_world_process_zero:
            save_file(self._average, Path(args.output_dir) / f"checkpoint-{state.global_step}" / _FILE)
