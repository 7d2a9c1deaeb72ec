"""`config.json` of a model folder: reading it, and telling whose layout it is in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.modeling.limits_p2l import read_json, shown
from p2l_sdk.modeling.spec_p2l import MODEL_TYPE

_MOST_TEMPLATE = 4_000_000  # bytes


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed `config.json` of a P2L folder.

    Raises:
        ModelFormatError: there is none, it is not JSON, or it is neither a P2L model's nor in lmarena's layout.
    """
    path = folder / "config.json"
    if not folder.is_dir():
        raise ModelFormatError(f"there is no folder {str(folder)!r}")
    if not path.is_file():
        from p2l_sdk.outputs.folders import half_written

        if half_written(folder):
            raise ModelFormatError(
                f"{str(folder)!r} is half-written: what fills it is still at work, or was killed; run that again: it "
                "finishes it or begins anew"
            )
        raise ModelFormatError(f"{str(folder)!r} is no P2L model: it has no config.json")
    config = read_json(path)
    if not isinstance(config, dict) or not (is_native(config) or is_lmarena(config)):
        kind = config.get("model_type") if isinstance(config, dict) else None
        raise ModelFormatError(f"{str(folder)!r} is no P2L model: its model_type is {shown(kind)}, not {MODEL_TYPE!r}")
    backbone = config.get("backbone_config", {})
    if not isinstance(backbone, dict):
        raise ModelFormatError(f"config.json of {str(folder)!r} is damaged: backbone_config is {shown(backbone)}")
    if is_native(config) and not isinstance(kind := backbone.get("model_type"), str):
        raise ModelFormatError(
            f"config.json of {str(folder)!r} is damaged: its backbone has the model_type {shown(kind)}"
        )
    return config


def chat_template(folder: Path) -> str | None:
    """The chat template of a folder's tokenizer, or that in lmarena's layout; None if there is none.

    Raises:
        ModelFormatError: a file cannot be read.
    """
    file = folder / "chat_template.jinja"
    try:
        if file.is_file():
            if (size := file.stat().st_size) > _MOST_TEMPLATE:
                raise ModelFormatError(f"{str(file)!r} has {size:,} bytes; {_MOST_TEMPLATE:,} are legal")
            return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFormatError(f"{str(file)!r} cannot be read: {shown(error)}") from None
    for name in ("tokenizer_config.json", "chat_template.json", "training_config.json"):
        if (folder / name).is_file():
            found = read_json(folder / name, dict).get("chat_template")
            if isinstance(found, list):  # old tokenizers have several, by name
                found = next((one.get("template") for one in found if isinstance(one, dict)), None)
            if isinstance(found, str):
                return found
    return None


def is_lmarena(config: dict[str, Any]) -> bool:
    """Whether a parsed `config.json` is in lmarena's layout (see `scorers/lmarena`) and not in our own."""
    names = config.get("architectures")
    return isinstance(names, list) and "P2LModel" in names and "backbone_config" not in config


def is_native(config: dict[str, Any]) -> bool:
    """Whether a parsed `config.json` is in our own layout."""
    return config.get("model_type") == MODEL_TYPE


def backbone_kind(config: dict[str, Any]) -> str | None:
    """The `model_type` of the backbone in a parsed `config.json`, in either layout; None if it names none."""
    backbone = config if is_lmarena(config) else config.get("backbone_config") or {}
    return backbone.get("model_type")
