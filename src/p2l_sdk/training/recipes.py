"""Recipes: settings that were tried out together, under a name (`p2l train --recipe fast`)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

STATIC = "static"  # the base of a static model


class Recipe(StrEnum):
    """A set of defaults for a `TrainingConfig`; figures stand in docs/train-on-your-votes.md."""

    BEST = "best"  # a LoRA on all-mpnet-base-v2: the largest of the three
    FAST = "fast"  # all-MiniLM-L6-v2, every weight: less time
    TINY = "tiny"  # the static model: seconds

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that it replaces the defaults of."""
        return _SETTINGS[self]

    @property
    def base(self) -> str:
        """What is trained."""
        return str(self.settings["base"])


# recipe -> the settings that it replaces the defaults of; whatever is given beside a recipe wins
_SETTINGS: Mapping[Recipe, Mapping[str, Any]] = {
    Recipe.BEST: {
        "base": "sentence-transformers/all-mpnet-base-v2",
        "method": "lora",
        "epochs": 2.0,
        "learning_rate": 4e-4,
        "average": 0.98,
        "calibrate": True,
    },
    Recipe.FAST: {
        "base": "sentence-transformers/all-MiniLM-L6-v2",
        "method": "full",
        "epochs": 2.0,
        "learning_rate": 1e-4,
        "average": 0.98,
        "calibrate": True,
    },
    Recipe.TINY: {"base": STATIC},
}
