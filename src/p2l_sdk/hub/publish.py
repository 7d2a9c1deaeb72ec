"""Pushing a model folder to the Hub: weights, config, tokenizer, code and a complete card, in one commit."""

from __future__ import annotations

import contextlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from p2l_sdk import pictures
from p2l_sdk.errors import HubError, MissingExtraError
from p2l_sdk.hub.access import SHARD_BYTES, HubTarget, push
from p2l_sdk.hub.cards import EXAMPLE_PROMPTS, complete_model_card, with_picture
from p2l_sdk.hub.config import backbone_kind, read_config
from p2l_sdk.hub.files import CARD, own_files, read_card
from p2l_sdk.hub.onnx_files import ONNX_FILES
from p2l_sdk.hub.tensors import split_tensors
from p2l_sdk.modeling.spec_p2l import ADAPTER_CONFIG, STATIC_BACKBONE, ModelSpec, base_of
from p2l_sdk.outputs.leftovers import scratch_folder

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

    from p2l_sdk.leaderboards.leaderboard import Leaderboard

_WEIGHTS, _PICTURE = "model.safetensors", "leaderboard.png"
_HANDLER = ("handler.py", "requirements.txt")
# files that an earlier model may have left in the repository, and that a loader would take for part of this one
_STALE = ["*.safetensors", "*.safetensors.index.json", ADAPTER_CONFIG, "*_p2l.py", *ONNX_FILES]


def push_model(
    folder: Path,
    target: HubTarget,
    *,
    max_shard_bytes: int = SHARD_BYTES,
    handler: bool = True,
    board: Leaderboard | None = None,
) -> CommitInfo:
    """Push a folder written by `save_pretrained`; the folder itself is not changed.

    Args:
        folder: folder of a complete model or an adapter.
        target: the repository, and how it is pushed to.
        max_shard_bytes: a larger `model.safetensors` is split into files of at most this size, except for static
            models.
        handler: whether to add `handler.py` and `requirements.txt`, which Inference Endpoints use; those already in the
            folder are kept.
        board: leaderboard of the first of `EXAMPLE_PROMPTS`, which the card shows as a picture if matplotlib is
            installed.

    Raises:
        HubError: as in `hub.access.push`, or the base of an adapter is a folder on this machine.
        ModelFormatError: the folder does not hold a P2L model.
    """
    config = read_config(folder)
    spec, base = ModelSpec.from_config(config), _adapter_base(folder)
    files: dict[str, Path | bytes] = {file.name: file for file in own_files(folder)}
    if handler:
        files = {**{name: _hub_file(name) for name in _HANDLER}, **files}
    text = complete_model_card(read_card(folder), spec, target.repo_id, base)
    with scratch_folder() as place:
        whole, static = folder / _WEIGHTS, backbone_kind(config) == STATIC_BACKBONE
        if whole.is_file() and whole.stat().st_size > max_shard_bytes and not static:
            del files[_WEIGHTS]
            files |= {part.name: part for part in split_tensors(whole, place, max_shard_bytes)}
        if board is not None:
            with contextlib.suppress(MissingExtraError):
                pictures.save(board.plot().figure, place / _PICTURE)
                files[_PICTURE] = place / _PICTURE
                text = with_picture(text, _PICTURE, f"{board.caption}: {EXAMPLE_PROMPTS[0]}")
        message = f"P2L model of {len(spec.models)} LLMs"
        return push({**files, CARD: text.encode()}, target, message=message, stale=_STALE)


def _hub_file(name: str) -> bytes:
    return resources.files("p2l_sdk.hub_cards").joinpath(name).read_bytes()


def _adapter_base(folder: Path) -> str | None:
    """Hub id of an adapter's base; None for a complete model."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return None
    name, _ = base_of(folder)
    if not _may_be_on_the_hub(name) or Path(name).exists():
        raise HubError(
            f"this is an adapter on {name!r}, a path of this machine, which nobody else has; name the base's Hub id "
            "when training (--base-name), or push the whole model: p2l merge, then p2l push"
        )
    return name


def _may_be_on_the_hub(name: str) -> bool:
    """Whether the name has the form "org/name" or "org/name/file.gguf"; a relative path ("../base") does not."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    parts = name.split("/")
    if len(parts) != 2 and not (len(parts) == 3 and name.endswith(".gguf")):
        return False
    try:
        validate_repo_id("/".join(parts[:2]))
    except HFValidationError:
        return False
    return not name.startswith("~")
