"""Training: from votes to a P2L model. Needs the extra `train`.

Torch is searched for but not imported, so that settings and data are checked without waiting for its import.
"""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from p2l_sdk.errors import MissingExtraError

if TYPE_CHECKING:
    from p2l_sdk.training.config import TrainingConfig
    from p2l_sdk.training.listener import Listener
    from p2l_sdk.training.run import train

__all__ = ["Listener", "TrainingConfig", "train"]

for _package in ("torch", "transformers", "peft", "accelerate"):
    if find_spec(_package) is None:
        raise MissingExtraError("training", _package, "train")

_MODULES = {"Listener": "listener", "TrainingConfig": "config", "train": "run"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
