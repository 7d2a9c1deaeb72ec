"""Checkpoints as the paper's authors published them (lmarena-ai/p2l-*), converted in memory.

Such a folder holds the backbone's own `config.json`, `training_config.json` (head, feedback model, length),
`model_list.json` (the LLMs), a tokenizer with the chat template and the CLS token, and the weights:

    model.*                       the backbone
    head.head.*                   coefficients, linear
    head.head.0.*, head.head.1.*  the same for a down-sized head: two linear layers without an activation, with
                                  (number of LLMs) // linear_head_downsize_factor numbers between them
    head.eta_head.*               rk heads: the tie threshold
    head.gamma_head.*             ba heads: the ground

No tensor may be missing or left over, and all must have the shapes that the config files imply, so that no part of a
model is ever random. Whether the head is down-sized, and how far, is read from its tensors; the config file may be
silent about it, but must not say otherwise. No code from the repository is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.hub.weights import FLOATING, stored
from p2l_sdk.modeling.configuration_p2l import P2LConfig
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.limits_p2l import read_json, shown
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.modeling.spec_p2l import Activation, Pooling
from p2l_sdk.scorers.backbone import saved_tokenizer

TRAINING_CONFIG, MODEL_LIST = "training_config.json", "model_list.json"
_WEIGHTS = "model.safetensors"
_DOWNSIZE, _FIRST_LAYER = "linear_head_downsize_factor", "head.head.0.weight"

# head_type -> the feedback models whose raw numbers it outputs
_HEADS = {
    "bt": (Feedback.BT, Feedback.BT_TIE),
    "rk": (Feedback.RK, Feedback.RK_REPARAM, Feedback.GRK),
    "ba": (Feedback.BA,),
}


def load(folder: Path, backbone: Mapping[str, Any]) -> tuple[P2LModel, Any]:
    """Load the model, in float32 whatever dtype it was saved in, and its tokenizer.

    Args:
        folder: a folder in this layout.
        backbone: its parsed `config.json`.

    Raises:
        ModelFormatError: a file is missing or damaged, or the files do not fit together; the message names the file.
    """
    tokenizer = _tokenizer(folder, _read_json(folder, TRAINING_CONFIG, dict), backbone)
    tensors = _tensors(folder)
    config, names = _described(folder, backbone, tensors, tokenizer.cls_token)
    state = {name: tensors[theirs] for name, theirs in names.items()}
    model = P2LModel.from_pretrained(None, config=config, state_dict=state, dtype=torch.float32)
    return model, tokenizer


def check(folder: Path, backbone: Mapping[str, Any]) -> None:
    """Check a folder in this layout without its tokenizer, and without reading the numbers of its weights; arguments
    and errors as in `load`."""
    _described(folder, backbone, _tensors(folder, numbers=False), None)


def _described(
    folder: Path, backbone: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], cls_token: str | None
) -> tuple[P2LConfig, dict[str, str]]:
    """The config, and for each tensor of the model its name in this layout."""
    training = _read_json(folder, TRAINING_CONFIG, dict)
    models = _read_json(folder, MODEL_LIST, list)
    feedback = _feedback(folder, training, backbone)
    length = training.get("max_length")
    if isinstance(length, bool) or not isinstance(length, int):
        raise ModelFormatError(
            f"{str(folder / TRAINING_CONFIG)!r} has the max_length {length!r}; it must be an integer"
        )
    width = _inner_width(folder, training, len(models), tensors)
    head = {} if width is None else {"head_hidden_size": width, "head_activation": Activation.IDENTITY}
    try:
        config = P2LConfig(
            backbone_config=_backbone_config(backbone, length),
            models=models,
            feedback=feedback,
            pooling=Pooling.LAST,
            max_prompt_tokens=length,
            cls_token=cls_token,
            **head,
        )
        with torch.device("meta"):  # names and shapes only
            expected = {name: tensor.shape for name, tensor in P2LModel(config).state_dict().items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelFormatError(f"the files of {str(folder)!r} describe no P2L model: {error}") from error
    names = {name: _their_name(name, downsized=width is not None) for name in expected}
    _check(folder, len(models), {names[name]: shape for name, shape in expected.items()}, tensors)
    return config, names


def _backbone_config(config: Mapping[str, Any], length: int) -> dict[str, Any]:
    """The backbone's configuration, adjusted so that it computes the same as in training.

    Versions of transformers up to 4.51, with which these models were trained, applied the `sliding_window` of a qwen2
    to every layer, even with `use_sliding_window` false; later ones do not. This matters for prompts longer than the
    window.
    """
    config = {key: value for key, value in config.items() if key not in ("architectures", "auto_map")}
    if config["model_type"] == "qwen2" and (config.get("sliding_window") or length) < length:
        config |= {"use_sliding_window": True, "max_window_layers": 0}
    return config


def _feedback(folder: Path, training: Mapping[str, Any], backbone: Mapping[str, Any]) -> Feedback:
    """The feedback model, from the types of head and loss, which must belong together, as must the architectures."""
    file, kind = str(folder / TRAINING_CONFIG), training.get("head_type")
    if kind not in _HEADS:
        raise ModelFormatError(f"{file!r} has the head_type {kind!r}; legal values: {', '.join(_HEADS)}")
    try:
        feedback = Feedback.parse(str(training.get("loss_type")))
    except ModelFormatError as error:
        raise ModelFormatError(f"{file!r}, loss_type: {error}") from None
    if feedback not in _HEADS[kind]:
        raise ModelFormatError(
            f"{file!r} contradicts itself: the loss_type {training['loss_type']!r} is not that of a head_type {kind!r}"
        )
    architecture = training.get("model_type", backbone["model_type"])
    if architecture != backbone["model_type"]:
        raise ModelFormatError(f"{file!r} has the model_type {architecture!r}, config.json {backbone['model_type']!r}")
    if feedback.has_eta and training.get(_DOWNSIZE) is not None:
        raise ModelFormatError(
            f"{file!r} asks for a down-sized head of type {kind!r}, which the code that wrote this layout cannot run: "
            "its eta layer does not fit the hidden state. Only bt heads are down-sized"
        )
    return feedback


def _inner_width(
    folder: Path, training: Mapping[str, Any], n_models: int, tensors: Mapping[str, torch.Tensor]
) -> int | None:
    """The width between the two layers of a down-sized head; None for a head of one layer.

    The tensors decide, the factor in the config file confirms: it divides the number of LLMs, not the hidden size.
    """
    first, factor = tensors.get(_FIRST_LAYER), training.get(_DOWNSIZE)
    if factor is not None:
        file = str(folder / TRAINING_CONFIG)
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= n_models:
            raise ModelFormatError(
                f"{file!r}: {_DOWNSIZE} is {factor!r}; it must be a number from 1 to that of the LLMs, {n_models}"
            )
        asked, found = int(n_models // factor), None if first is None else tuple(first.shape)
        if found is None or found[:1] != (asked,):
            held = f"lack {_FIRST_LAYER!r}" if found is None else f"hold {_FIRST_LAYER!r} of the shape {found}"
            raise ModelFormatError(
                f"the weights of {str(folder)!r} {held}, but {_DOWNSIZE} {factor!r} in {TRAINING_CONFIG} and the "
                f"{n_models} names in {MODEL_LIST} ask for a first layer with {asked} outputs"
            )
    return len(first) if first is not None and first.ndim else None


def _their_name(name: str, downsized: bool) -> str:
    """The name in this layout of one of our tensors."""
    renamed = {
        "backbone.": "model.",
        "head.hidden.": "head.head.0.",
        "head.coefs.": "head.head.1." if downsized else "head.head.",
        "head.eta.": "head.eta_head.",
        "head.gamma.": "head.gamma_head.",
    }
    ours = next(prefix for prefix in renamed if name.startswith(prefix))
    return renamed[ours] + name.removeprefix(ours)


def _check(folder: Path, n_models: int, expected: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    for problem, names in (("lack", expected.keys() - tensors.keys()), ("hold", tensors.keys() - expected.keys())):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            asked = "ask for it" if problem == "lack" else "know no such tensor"
            raise ModelFormatError(
                f"the weights of {str(folder)!r} {problem} {min(names)!r}{more}; config.json and {TRAINING_CONFIG} "
                f"{asked}"
            )
    for name, shape in expected.items():
        found = tensors[name].shape
        if found != shape:
            raise ModelFormatError(
                f"tensor {name!r} of {str(folder)!r} has the shape {tuple(found)}; config.json, {TRAINING_CONFIG} and "
                f"the {n_models} names in {MODEL_LIST} ask for {tuple(shape)}"
            )
        if not tensors[name].is_floating_point():
            raise ModelFormatError(f"tensor {name!r} of {str(folder)!r} is {tensors[name].dtype}, no floating type")


def _tensors(folder: Path, numbers: bool = True) -> dict[str, torch.Tensor]:
    """The tensors by name; without `numbers`, only their shapes and types."""
    files = [_WEIGHTS]
    if not (folder / _WEIGHTS).is_file():
        if not (folder / f"{_WEIGHTS}.index.json").is_file():
            raise ModelFormatError(no_safetensors(folder))
        index = _read_json(folder, f"{_WEIGHTS}.index.json", dict).get("weight_map")
        files = sorted(set(map(str, index.values()))) if isinstance(index, dict) else []
        if outside := next((name for name in files if Path(name).name != name), None):
            raise ModelFormatError(
                f"{_WEIGHTS}.index.json of {str(folder)!r} names {shown(outside)}, not in its folder"
            )
    tensors: dict[str, torch.Tensor] = {}
    for name in files:
        try:
            if not numbers:
                for key, found in stored([folder / name]).items():
                    dtype = torch.float32 if found.dtype in FLOATING else torch.int64
                    tensors[key] = torch.empty(found.shape, dtype=dtype, device="meta")
                continue
            with safe_open(folder / name, framework="pt") as file:
                tensors |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a mapping
        except (OSError, SafetensorError) as error:
            raise ModelFormatError(
                f"{str(folder / name)!r} is missing or damaged ({error}); copy or download it again"
            ) from None
    return tensors


def no_safetensors(folder: Path) -> str:
    """The error message for a folder without safetensors weights."""
    pickles = sorted(file.name for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl") for file in folder.glob(kind))
    held = f"only {pickles[0]}, a pickle, which may run code when it is opened" if pickles else f"no {_WEIGHTS}"
    return (
        f"{str(folder)!r} holds {held}; weights are read from safetensors alone. If you trust their source, convert "
        "them once: safetensors.torch.save_file(torch.load(PICKLE, weights_only=True), 'model.safetensors')"
    )


def _tokenizer(folder: Path, training: Mapping[str, Any], backbone: Mapping[str, Any]) -> Any:
    tokenizer = saved_tokenizer(folder)
    if tokenizer.cls_token is None:
        raise ModelFormatError(f"the tokenizer of {str(folder)!r} names no CLS token, which stands at a prompt's end")
    if tokenizer.convert_tokens_to_ids(tokenizer.cls_token) >= backbone["vocab_size"]:
        raise ModelFormatError(
            f"the CLS token {tokenizer.cls_token!r} of {str(folder)!r} has no embedding: its id is beyond the "
            f"vocab_size {backbone['vocab_size']} of config.json"
        )
    if tokenizer.chat_template is None:
        tokenizer.chat_template = training.get("chat_template")
    for of_this_machine in ("is_local", "local_files_only"):  # else they would be saved with the tokenizer
        tokenizer.init_kwargs.pop(of_this_machine, None)
    return tokenizer


def _read_json(folder: Path, name: str, kind: type) -> Any:
    if not (folder / name).is_file():
        raise ModelFormatError(f"{str(folder)!r} has lmarena's layout, but no {name}; copy that file too")
    return read_json(folder / name, kind)
