"""Turns a base model into a P2L model that is ready to be trained."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from p2l_sdk.errors import P2LError
from p2l_sdk.modeling.configuration_p2l import P2LConfig
from p2l_sdk.modeling.modeling_p2l import P2LModel, n_embeddings
from p2l_sdk.modeling.spec_p2l import Activation, ModelSpec, Pooling
from p2l_sdk.scorers.backbone import BaseModel, default_length, is_decoder, longest_prompt, require_embeddings
from p2l_sdk.training.config import Method, Precision, TrainingConfig

_SHORT = 512  # tokens up to which eager attention is about a quarter faster on a CPU than the fused kernel


def new_model(
    config: TrainingConfig, models: tuple[str, ...], feedback: Any, costs: dict[str, float]
) -> tuple[P2LModel, Any]:
    """A P2L model with a random head on the base, and its tokenizer.

    Raises:
        ModelFormatError: the base cannot be loaded.
        P2LError: a setting does not fit the base.
    """
    base = BaseModel(config.base, config.base_revision)
    cpu, precision = not torch.accelerator.is_available(), chosen_precision(config)
    frozen = config.trained is not Method.FULL  # frozen weights are stored in the precision of the computation
    limit = config.max_prompt_tokens
    backbone = base.load(
        torch.bfloat16 if frozen and precision is Precision.BF16 else torch.float32,
        "eager" if cpu and (limit or _SHORT) <= _SHORT else None,
    )
    tokenizer = base.tokenizer()
    require_embeddings(config.base, tokenizer, n_embeddings(backbone))
    spec = _spec(config, models, feedback, costs, backbone, tokenizer)
    model = P2LModel.on_backbone(P2LConfig(backbone_config=backbone.config, **spec.to_dict()), backbone)
    model.config.backbone_config.use_cache = False
    named = config.base_name or config.base
    model.config.backbone_config.name_or_path = "" if Path(named).expanduser().exists() else named  # no local path
    pooler = getattr(backbone, "pooler", None)
    if pooler is not None and spec.pooling is not Pooling.POOLER:
        pooler.requires_grad_(False)  # the output does not depend on it
    return model, tokenizer


def chosen_precision(config: TrainingConfig) -> Precision:
    """The precision of a run: "auto" is bf16 on hardware that computes in it."""
    if config.precision is not Precision.AUTO:
        return config.precision
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if torch.cuda.is_available() else _cpu_has_bf16()
    return Precision.BF16 if fast else Precision.FP32


def _cpu_has_bf16() -> bool:
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return not torch.accelerator.is_available() and any(check() for check in checks if check)


def _spec(
    config: TrainingConfig,
    models: tuple[str, ...],
    feedback: Any,
    costs: dict[str, float],
    backbone: Any,
    tokenizer: Any,
) -> ModelSpec:
    """The spec, with defaults that suit the base: a decoder gets its chat template and last-token pooling, an encoder
    its own special tokens and mean pooling."""
    decoder = is_decoder(backbone)
    chat = bool(decoder and tokenizer.chat_template) if config.chat is None else config.chat
    pooling = config.pooling or (Pooling.LAST if decoder else Pooling.MEAN)
    longest = longest_prompt(backbone)
    if config.max_prompt_tokens is not None and longest is not None and config.max_prompt_tokens > longest:
        raise P2LError(f"max_prompt_tokens is {config.max_prompt_tokens}, and {config.base!r} reads {longest} at most")
    return ModelSpec(
        models=models,
        feedback=feedback,
        costs=costs,
        pooling=pooling,
        max_prompt_tokens=config.max_prompt_tokens or default_length(backbone, tokenizer, 1024),
        chat=chat,
        cls_token=_cls_token(config, tokenizer, chat, n_embeddings(backbone)) if pooling is Pooling.LAST else None,
        add_special_tokens=not decoder,
        head_norm=True,
        head_hidden_size=config.head_hidden_size,
        head_activation=Activation.GELU,
        head_input_dropout=0.0 if config.head_hidden_size else config.head_dropout,
        head_dropout=config.head_dropout if config.head_hidden_size else 0.0,
    )


def _cls_token(config: TrainingConfig, tokenizer: Any, chat: bool, known: int | None) -> str | None:
    """The CLS token: by default a special token that the chat template does not use, since a new token would need an
    embedding of its own. `known` is the number of tokens that have one; one for padding may have none."""
    special = [
        token
        for token in tokenizer.all_special_tokens
        if token is not None and (known is None or tokenizer.convert_tokens_to_ids(token) < known)
    ]
    if config.cls_token is None:
        return None
    if config.cls_token != "auto":
        if config.cls_token not in tokenizer.get_vocab() or (
            known is not None and tokenizer.convert_tokens_to_ids(config.cls_token) >= known
        ):
            raise P2LError(
                f"cls_token {config.cls_token!r} is not in the base's vocabulary; its special tokens: "
                f"{', '.join(special)}"
            )
        return config.cls_token
    text = ""
    if chat:
        text = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    preferred = [tokenizer.cls_token, "<|endoftext|>", *special]
    return next((token for token in preferred if token in special and token not in text), None)


def _commit(backbone: Any) -> str | None:
    """The commit of the Hub repository that the backbone was loaded from, if any."""
    return getattr(backbone.config, "_commit_hash", None)


def _experts(backbone: nn.Module) -> list[str]:
    """The parameters that hold the matrices of all experts of a layer, (n_experts, rows, columns), by the end of their
    names, which is the same in all layers: they are no linear layers of their own."""
    names = [
        f"{place}.{name}"
        for place, module in backbone.named_modules()
        if "expert" in type(module).__name__.lower()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 3
    ]
    return sorted({re.split(r"\.\d+\.", name)[-1] for name in names})


def add_lora(model: P2LModel, config: TrainingConfig) -> Any:
    """The PEFT model: a LoRA on every linear layer of the backbone and on the experts of a mixture of experts, the head
    trained in full, the rest frozen.

    Raises:
        P2LError: `lora_dropout` is set, and there are experts, where PEFT has none.
    """
    experts = _experts(model.backbone)
    if experts and config.lora_dropout:
        raise P2LError(
            f"lora_dropout is {config.lora_dropout:g}, and {config.base!r} is a mixture of experts, whose LoRA has no "
            "dropout; leave it at 0"
        )
    names = {
        name.rpartition(".")[2]
        for name, module in model.backbone.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and "pooler" not in name
    }
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]  # may be fractional: PEFT only divides it by the rank
        lora_dropout=config.lora_dropout,
        target_modules=rf"backbone\.(?!.*pooler).*\.({'|'.join(map(re.escape, sorted(names)))})",
        target_parameters=experts or None,
        modules_to_save=["head"],
        revision=config.base_revision or (None if config.base_name else _commit(model.backbone)),
    )
    model.name_or_path = ""  # otherwise PEFT looks it up on the Hub at every checkpoint; `save` sets the name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT uses a deprecated name of transformers
        peft = get_peft_model(model, lora)
    for module in peft.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False  # type: ignore[assignment]  # autocast casts without float32 copies
    return peft
