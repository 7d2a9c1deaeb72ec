"""What a stranger's configuration of a backbone may say, and what of it transformers gets to see.

An architecture computes with numbers, and with texts under names that it declares ("hidden_act"). Everything else in a
configuration speaks to transformers itself: which attention kernel to fetch ("attn_implementation": "org/kernel"), how
weights are packed, whose code to run, which file to read. None of that is needed to build a model, so it never gets
there: `harmless` keeps what an architecture can use, and drops or refuses the rest.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig

from .errors_p2l import ModelFormatError
from .limits_p2l import shown

# texts, lists and objects that old checkpoints have under other names than the architecture declares today
_OLD_NAMES = frozenset({
    "attention_layers", "attention_types", "layer_types", "layers_block_type", "rope_parameters", "rope_scaling",
    "position_embedding_type", "hidden_act", "activation_function", "problem_type", "architectures",
})  # fmt: skip
# for transformers, not for the architecture, although every configuration has them
_REFUSED = ("quantization_config", "compression_config", "kernel_config")
_MACHINERY = frozenset({
    "auto_map", "custom_pipelines", "custom_generate", "attn_implementation", "experts_implementation",
    "transformers_weights", "distributed_config", "extra_files", "extra_config_files", "sub_configs",
    "model_type", "adapters", "gguf_file", "device_map", "tp_plan", "pp_plan", "ep_plan", "fsdp_plan",
    "tokenizer_class", "num_labels", "id2label", "label2id", "return_dict", "output_attentions", "output_hidden_states",
})  # fmt: skip
_DTYPES = ("float64", "float32", "float16", "bfloat16")
_LAYERS = ("layers", "n_layer", "depth")  # names of numbers of layers end so
_MOST_LAYERS, _LARGEST = 1_000, 1 << 31
_PLAIN = (bool, int, float, type(None))


def config_class(kind: Any) -> Any:
    """The configuration class of an architecture of transformers; ModelFormatError if there is none, or it loads its
    layers from elsewhere."""
    if not isinstance(kind, str) or kind.startswith("timm"):
        raise ModelFormatError(f"the backbone has the model_type {shown(kind)}, which is no text model of transformers")
    try:
        return CONFIG_MAPPING[kind]
    except (KeyError, ValueError):
        raise ModelFormatError(
            f"the backbone has the model_type {shown(kind)}, which this version of transformers does not know"
        ) from None


def harmless(fields: Mapping[str, Any], known: Any) -> dict[str, Any]:
    """The fields of a parsed configuration that an architecture can use: numbers, what it declares, and the
    configurations of its parts, cleaned likewise.

    Args:
        fields: of a `config.json`, or a part of it.
        known: the architecture's configuration class.

    Raises:
        ModelFormatError: the weights are said to be packed, or a number cannot be one of a model; the message names the
            key.
    """
    declared = _declared(known)
    parts = getattr(known, "sub_configs", None) or {}
    kept: dict[str, Any] = {}
    for key, value in fields.items():
        if key in _REFUSED and value:
            raise ModelFormatError(
                f"config.json has a {key}, for which transformers may fetch and run other code; save the model with "
                "plain weights"
            )
        if key in ("dtype", "torch_dtype"):
            name = value.removeprefix("torch.") if isinstance(value, str) else None
            kept |= {key: name} if name in _DTYPES else {}
        elif key == "_name_or_path":
            kept |= {key: value} if isinstance(value, str) else {}
        elif _is_machinery(key) or callable(getattr(known, key, None)):  # the latter is a method
            continue
        elif key in parts and isinstance(value, dict):
            part = parts[key]
            if part is AutoConfig:  # any architecture
                part = config_class(value.get("model_type"))
                kept[key] = {**harmless(value, part), "model_type": value["model_type"]}
            else:
                kept[key] = harmless(value, part)
        elif isinstance(value, _PLAIN):
            _check_number(key, value)
            kept[key] = value
        elif key in declared or key in _OLD_NAMES or _is_numbers(value):
            kept[key] = value
    return kept


def _declared(known: Any) -> set[str]:
    """The names under which an architecture keeps something in its configuration."""
    names = set(inspect.signature(known.__init__).parameters) | set(known.attribute_map)
    for each in known.__mro__:
        if each is not object:
            names |= set(inspect.get_annotations(each))
    return names | set(known.attribute_map.values())


def _is_machinery(key: str) -> bool:
    return key.startswith("_") or key in _MACHINERY or "implementation" in key or "kernels" in key


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, _PLAIN) or _is_numbers(item) for item in value)


def _check_number(key: str, value: Any) -> None:
    if isinstance(value, float) and math.isnan(value):
        raise ModelFormatError(f"config.json has {key} NaN; it must be a number")
    if isinstance(value, bool) or not isinstance(value, int):
        return
    most = _MOST_LAYERS if key.endswith(_LAYERS) else _LARGEST
    if value > most and not key.startswith(("max", "model_max")):
        raise ModelFormatError(f"config.json has {key} {shown(value)}; at most {most:,} are legal")
    if value < 0 and key.endswith(("_size", "_layers", "_heads", "_dim")):
        raise ModelFormatError(f"config.json has {key} {value}; it must not be negative")
