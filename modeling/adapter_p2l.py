"""Adapters: a LoRA (PEFT) for a backbone that is stored elsewhere, with the full P2L heads.

The folder holds `adapter_config.json` (which names the base and its revision) and `adapter_model.safetensors`, as
written by PEFT, and the P2L model's `config.json` and tokenizer. Loading puts the heads on the base and merges the
LoRA into it, so a loaded adapter is a plain model and runs as fast as one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open

from .errors_p2l import ModelFormatError
from .limits_p2l import shown
from .loading_p2l import load_backbone, load_lora, place_of
from .spec_p2l import ADAPTER_CONFIG, Pooling, base_of

Model = TypeVar("Model", bound=Any)  # a P2LModel, whose module imports this one

_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_DOWN = ".lora_A.weight"  # how the names of matrices end that have a row for each rank
_FLOATING = ("F64", "F32", "F16", "BF16")
_ACCESS = ("token", "cache_dir", "local_files_only", "force_download", "proxies")  # for the base as for the adapter


def is_adapter(place: Any) -> bool:
    """Whether this is a folder that holds an adapter and not a whole model."""
    folder = Path(str(place))
    return (folder / ADAPTER_CONFIG).is_file() and not any(folder.glob("model*.safetensors"))


def refuse_adapter_by_id(model: Any, place: Any) -> None:
    """Refuse an adapter's Hub id: transformers would load the base's weights into the whole model, and they do not fit.

    Raises:
        ModelFormatError: the model was loaded from the Hub id of an adapter.
    """
    if model._hf_peft_config_loaded and not Path(str(place)).is_dir():
        raise ModelFormatError(
            "an adapter loads from a folder, not by its Hub id: fetch it with huggingface_hub.snapshot_download and "
            "load the folder that this returns"
        )


def load_base(folder: Path, options: Mapping[str, Any]) -> Any:
    """The backbone that an adapter names, without its language-model head.

    Args:
        folder: the adapter's folder.
        options: those of `from_pretrained`: dtype (float32 by default), attn_implementation, and how to access the Hub.

    Raises:
        ModelFormatError: an option is not supported for adapters.
    """
    for name in ("device_map", "quantization_config"):
        if options.get(name) is not None:
            raise ModelFormatError(f"an adapter takes no {name}; write the whole model first: p2l merge")
    name, revision = base_of(folder)
    place, needed = place_of(name)
    dtype = options.get("dtype") or options.get("torch_dtype") or "auto"
    dtype = getattr(torch, dtype.removeprefix("torch."), torch.float32) if isinstance(dtype, str) else dtype
    given = {key: options[key] for key in (*_ACCESS, "attn_implementation") if options.get(key) is not None}
    backbone = load_backbone(place, revision=revision, dtype=dtype, **needed, **given)
    return backbone.to(dtype)  # GGUF weights arrive in float32 whatever dtype was requested


def merge_adapter(model: Model, folder: Path) -> Model:
    """Load the adapter's heads into the model and merge its LoRA into the backbone.

    Args:
        model: built from the adapter's configuration, on its base.
        folder: the adapter's folder.

    Raises:
        ImportError: peft is not installed.
        ModelFormatError: the adapter is damaged, or belongs to another base.
    """
    _check_shape(model, folder)
    if not (folder / _ADAPTER_WEIGHTS).is_file():  # a pipe would be read for ever
        raise ModelFormatError(f"{str(folder)!r} is no whole adapter: it has no {_ADAPTER_WEIGHTS}")
    try:
        with safe_open(folder / _ADAPTER_WEIGHTS, framework="pt") as file:
            tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
            types = {name: tensor.get_dtype() for name, tensor in tensors.items()}
            ranks = [tensor.get_shape()[:1] for name, tensor in tensors.items() if name.endswith(_DOWN)]
        if packed := sorted(name for name, kind in types.items() if kind not in _FLOATING):
            raise ModelFormatError(
                f"tensor {shown(packed[0])} of {str(folder)!r} is of type {types[packed[0]]}, and must be floating"
            )
        saved = set(types)
        peft = load_lora(model, folder, max((rank[0] for rank in ranks if rank), default=0))
    except ModelFormatError:
        raise
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError, re.error) as error:
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
    return merged.eval()


def _check_shape(model: Any, folder: Path) -> None:
    wanted, found = model.config.backbone_config, model.backbone.config
    if model.spec.pooling is Pooling.POOLER and getattr(model.backbone, "lacks_pooler", False):
        raise ModelFormatError(
            f"the adapter {str(folder)!r} needs a pooler, and the weights of its base have none: it would be random"
        )
    different = [
        f"{key} {getattr(wanted, key)!r}, not {getattr(found, key, None)!r}"
        for key in ("hidden_size", "model_type", "num_hidden_layers", "vocab_size")
        if hasattr(wanted, key) and getattr(wanted, key) != getattr(found, key, None)
    ]
    if different:
        raise ModelFormatError(f"the adapter {str(folder)!r} was trained on another base: {'; '.join(different)}")
