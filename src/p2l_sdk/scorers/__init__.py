"""Scorers compute coefficients. `load_scorer` loads a saved folder with the engine that its config requires."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from p2l_sdk.errors import MissingExtraError, ModelFormatError, P2LError
from p2l_sdk.hub import HubAccess
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.results import Coefficients

STATIC_BACKBONE = "p2l_static"


class Scorer(Protocol):
    """Computes the coefficients of prompts."""

    spec: ModelSpec

    def score(self, prompts: Sequence[Prompt]) -> Coefficients:
        """Coefficients of a batch of prompts, in the order of `spec.models`."""
        ...


def load_scorer(
    folder: Path, device: str | None = None, base: str | None = None, access: HubAccess | None = None
) -> Scorer:
    """Load the scorer of a saved P2L model: numpy for the static backbone, torch for all others.

    Args:
        folder: a folder written by `save_pretrained`, or in lmarena's layout.
        device: the torch device, e.g. "cuda"; if given, torch is used for the static backbone too.
        base: for an adapter, a base to use instead of the one that it names.
        access: how the base of an adapter is fetched.

    Raises:
        HubError: the base of an adapter cannot be fetched from the Hub.
        ModelFormatError: the folder does not hold a whole P2L model.
        MissingExtraError: the model needs torch, which is not installed.
    """
    config = read_config(folder)
    try:
        return _load(folder, config, device, base, access)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, P2LError):
            raise
        raise ModelFormatError(f"config.json of {str(folder)!r} is damaged: {type(error).__name__} {error}") from error


def _load(
    folder: Path, config: dict[str, Any], device: str | None, base: str | None, access: HubAccess | None
) -> Scorer:
    backbone = config if is_published(config) else config.get("backbone_config") or {}
    if backbone.get("model_type") == STATIC_BACKBONE and device is None and base is None:
        from p2l_sdk.scorers.static import StaticScorer

        return StaticScorer.load(folder, config)
    try:
        from p2l_sdk.scorers.transformer import TransformerScorer
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("torch", "transformers", "peft"):
            raise
        feature = f"device={device!r}" if device else f"a {backbone.get('model_type')} backbone"
        raise MissingExtraError(feature, error.name or "torch", "torch") from None
    return TransformerScorer.load(folder, config, device, base, access)


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed `config.json` of a P2L folder.

    Raises:
        ModelFormatError: there is none, it is not JSON, or it is neither a P2L model's nor in lmarena's layout.
    """
    path = folder / "config.json"
    if not folder.is_dir():
        raise ModelFormatError(f"there is no folder {str(folder)!r}")
    if not path.is_file():
        raise ModelFormatError(f"{str(folder)!r} is no P2L model: it has no config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelFormatError(f"{str(path)!r} cannot be read as JSON: {error}") from None
    if not isinstance(config, dict) or not (config.get("model_type") == "p2l" or is_published(config)):
        kind = config.get("model_type") if isinstance(config, dict) else None
        raise ModelFormatError(f"{str(folder)!r} is no P2L model: its model_type is {kind!r}, not 'p2l'")
    return config


def is_published(config: dict[str, Any]) -> bool:
    """Whether a parsed `config.json` is in lmarena's layout (see `scorers.lmarena`) and not in our own."""
    return "P2LModel" in (config.get("architectures") or ()) and "backbone_config" not in config
