"""The only place that loads weights, configurations and tokenizers by transformers and PEFT, with the safe options.

Code from a folder is never run, weights are read from safetensors alone (a pickle can run code), and a configuration is
cleaned first (see `backbone_p2l`). GGUF files hold numbers and texts, no code.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoModel, AutoTokenizer, PretrainedConfig

from .backbone_p2l import config_class, harmless
from .errors_p2l import ModelFormatError
from .limits_p2l import read_json, shown
from .spec_p2l import ADAPTER_CONFIG

_OF_CONFIG = ("revision", "token", "cache_dir", "local_files_only", "force_download", "proxies", "subfolder")
# of an adapter's configuration, what a LoRA is; the rest initialises one, or imports other packages
_LORA = (
    "r", "lora_alpha", "lora_dropout", "target_modules", "target_parameters", "modules_to_save", "bias", "lora_bias",
    "fan_in_fan_out", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "exclude_modules",
    "layers_to_transform", "base_model_name_or_path", "revision", "inference_mode",
)  # fmt: skip
_LONGEST_PATTERN, _MOST_STARS, _HIGHEST_RANK = 20_000, 4, 1 << 16


def place_of(name: str) -> tuple[str, dict[str, Any]]:
    """Where `AutoModel` finds a backbone, and the options needed to load it.

    Args:
        name: a folder, a Hub id ("org/name"), a GGUF file, or a GGUF file in a Hub repository ("org/name/file.gguf").
    """
    path = Path(name).expanduser()
    if not name.endswith(".gguf"):
        return (str(path) if path.exists() else name), {}
    options: dict[str, Any] = {"gguf_file": path.name}
    if hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)  # packed weights cannot be trained
    if not path.is_file() and not path.is_absolute() and len(path.parts) == 3:
        return "/".join(path.parts[:2]), options
    return str(path.parent), options


def load_config(place: str | Path, **options: Any) -> Any:
    """The cleaned configuration of a model of transformers.

    Args:
        place: a folder or a Hub id.
        options: those of `from_pretrained` that say how the Hub is accessed.

    Raises:
        ModelFormatError: it is that of no model that transformers has, or is not harmless.
    """
    if (Path(place) / "config.json").is_file():
        read_json(Path(place) / "config.json", dict)  # within limits
    given = {key: options[key] for key in _OF_CONFIG if options.get(key) is not None}
    fields, _ = PretrainedConfig.get_config_dict(place, **given)
    known = config_class(fields.get("model_type"))
    config = known.from_dict(harmless(fields, known))
    config.name_or_path = str(place)
    return config


def load_backbone(place: str | Path, **options: Any) -> Any:
    """A text model with `AutoModel`, without its language-model head; options are those of `from_pretrained`.

    Raises:
        ModelFormatError: its configuration is not harmless, or its weights lack a tensor other than a pooler's.
        OSError: there is none, or its weights are not safetensors.
    """
    if "gguf_file" not in options:
        options |= {"config": load_config(place, **options), "use_safetensors": True}
    options["output_loading_info"] = True
    model, report = AutoModel.from_pretrained(place, **{**options, "trust_remote_code": False})
    refuse_random(place, report, but="pooler")
    model.lacks_pooler = bool(report.get("missing_keys"))
    return model


def refuse_random(place: Any, report: Mapping[str, Any], but: str | None = None) -> None:
    """Refuse weights without a tensor that the model has, in whose place transformers puts random numbers.

    Args:
        place: the model, for the message.
        report: of transformers on loading it.
        but: what may be missing, a part of the tensor's name: the pooler of a base, which few checkpoints have.

    Raises:
        ModelFormatError: a tensor is missing.
    """
    missing = sorted(name for name in report.get("missing_keys") or () if but is None or but not in name)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelFormatError(
            f"the weights of {str(place)!r} lack the tensor {shown(missing[0])}{more}, which would be random numbers"
        )


def load_tokenizer(place: str | Path, **options: Any) -> Any:
    """A tokenizer with `AutoTokenizer`; options are those of `from_pretrained`."""
    return AutoTokenizer.from_pretrained(place, **{**options, "trust_remote_code": False})


def load_lora(model: Any, folder: Path, rank: int) -> Any:
    """The PEFT model of an adapter's folder on a model.

    Args:
        model, folder: the model and the folder.
        rank: the highest one of the adapter's matrices.

    Raises:
        ImportError: peft is not installed.
        ModelFormatError: the adapter is no LoRA, or its configuration is not harmless.
    """
    try:  # transformers requires every import of remote code that is not within `try`, adapter or not
        from peft import LoraConfig, PeftModel
    except ImportError as error:
        raise ImportError("an adapter needs peft, which is not installed: pip install peft", name="peft") from error
    fields = read_json(folder / ADAPTER_CONFIG, dict)
    if str(fields.get("peft_type")).upper() != "LORA":
        raise ModelFormatError(
            f"the adapter {str(folder)!r} has the peft_type {shown(fields.get('peft_type'))}, no LORA"
        )
    kept = {key: fields[key] for key in _LORA if fields.get(key) is not None}
    _check_lora(folder, kept, rank)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT uses a name that transformers has deprecated
        return PeftModel.from_pretrained(model, folder, config=LoraConfig(**kept))


def _check_lora(folder: Path, fields: dict[str, Any], highest: int) -> None:
    """Raise ModelFormatError for what is no LoRA, matrices that its weights do not hold, or a pattern of names that may
    take for ever to match."""
    rank, alpha = fields.get("r"), fields.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 0 < rank <= _HIGHEST_RANK:
        raise ModelFormatError(
            f"the adapter {str(folder)!r} has the rank {shown(rank)}; r is from 1 to {_HIGHEST_RANK:,}"
        )
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        raise ModelFormatError(f"the adapter {str(folder)!r} has the lora_alpha {shown(alpha)}; it must be a number")
    patterns = [fields[key] for key in ("target_modules", "exclude_modules") if isinstance(fields.get(key), str)]
    for key in ("rank_pattern", "alpha_pattern"):
        if not isinstance(fields.get(key, {}), dict):
            raise ModelFormatError(
                f"the adapter {str(folder)!r} has the {key} {shown(fields[key])}; it must be an object"
            )
        patterns += fields.get(key, {})
    ranks = list(fields.get("rank_pattern", {}).values())
    if beyond := [each for each in ranks if not isinstance(each, int) or each > highest]:
        raise ModelFormatError(
            f"the adapter {str(folder)!r} has the rank {shown(beyond[0])}, and its weights have at most {highest}"
        )
    if rank > highest and not ranks:
        raise ModelFormatError(
            f"the adapter {str(folder)!r} has the rank {rank:,}, and its weights have at most {highest:,}"
        )
    for pattern in patterns:
        stars = len(re.findall(r"(?<!\\)[*+{]", pattern))
        if len(pattern) > _LONGEST_PATTERN or stars > _MOST_STARS or re.search(r"\)[*+?{]", pattern):
            raise ModelFormatError(
                f"the adapter {str(folder)!r} names its layers by the pattern {shown(pattern)}, which may take for "
                "ever to match; name them one by one"
            )
