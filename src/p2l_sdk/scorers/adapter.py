"""Adapters: a LoRA on a backbone that is stored elsewhere, with the P2L heads in full.

The folder holds `adapter_config.json` and `adapter_model.safetensors` as PEFT writes them (the base's name and revision
within), and the P2L model's `config.json` and tokenizer. Loading puts the base under the heads and merges the LoRA into
it: a loaded adapter is a plain model, as fast as one.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open

from p2l_sdk.errors import HubError, ModelFormatError
from p2l_sdk.hub import HubAccess
from p2l_sdk.modeling.configuration_p2l import P2LConfig
from p2l_sdk.modeling.modeling_p2l import P2LHead, P2LModel
from p2l_sdk.scorers.backbone import BaseModel

ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"


def with_backbone(config: P2LConfig, backbone: Any) -> P2LModel:
    """A P2L model over a backbone that is loaded already; its head is random."""
    with torch.device("meta"):  # no second, random backbone
        model = P2LModel(config)
    model.backbone = backbone
    model.head = P2LHead(model.spec, config.hidden_size)
    return model


def load_adapter(
    folder: Path, config: dict[str, Any], base: str | None = None, access: HubAccess | None = None
) -> P2LModel:
    """The merged model of an adapter folder.

    Args:
        config: the parsed `config.json`.
        base: in place of the base that the adapter names.
        access: how the base is fetched.

    Raises:
        HubError: the base is on the Hub and cannot be had.
        ModelFormatError: the base cannot be had, or adapter and base do not belong together.
    """
    adapter = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    name, revision = adapter["base_model_name_or_path"], adapter.get("revision")
    if base is not None:
        name, revision = str(base), None
    try:
        backbone = BaseModel(name, revision, access or HubAccess()).load()
    except (ModelFormatError, HubError) as error:
        remedy = "Name a base that is elsewhere with base=... (--base)"
        raise type(error)(f"{str(folder)!r} is an adapter: {error}. {remedy}") from error
    _check_shape(folder, config["backbone_config"], backbone.config)
    p2l_config = P2LConfig(**config)
    model = with_backbone(p2l_config, backbone)
    try:
        saved = _tensor_names(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by a name that is going away
            peft = PeftModel.from_pretrained(model, folder)
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise ModelFormatError(f"{str(folder)!r} is no whole adapter: {error}") from None
    expected = {
        name.replace(".default", "").replace(".modules_to_save", "")
        for name in peft.state_dict()
        if ".lora_" in name or ".modules_to_save." in name
    }
    if saved != expected:
        raise ModelFormatError(
            f"the adapter {str(folder)!r} does not fit its base; missing tensors: {sorted(expected - saved)[:3]}, "
            f"left over: {sorted(saved - expected)[:3]}"
        )
    try:
        merged = peft.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ModelFormatError(f"the adapter {str(folder)!r} is damaged: {error}") from None
    merged.requires_grad_(False)
    return merged


def _tensor_names(folder: Path) -> set[str]:
    with safe_open(folder / _ADAPTER_WEIGHTS, framework="pt") as file:
        return set(file.keys())


def _check_shape(folder: Path, wanted: dict[str, Any], found: Any) -> None:
    keys = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")
    different = {key for key in keys if key in wanted and wanted[key] != getattr(found, key, None)}
    if different:
        names = "; ".join(f"{key} {wanted[key]!r}, not {getattr(found, key, None)!r}" for key in sorted(different))
        raise ModelFormatError(f"the adapter {str(folder)!r} was trained on another base: {names}")
