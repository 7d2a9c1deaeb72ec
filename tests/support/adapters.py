"""Adapters made in memory: a tiny random base and a LoRA on it, without training."""

from __future__ import annotations

from pathlib import Path

import torch
from conftest import COSTS, MODELS, backbone_config, transformers_tokenizer


def save_base(folder: Path) -> Path:
    """Save a tiny random decoder as transformers does, next to a pickle that must not be fetched."""
    from transformers import AutoModel

    config, _ = backbone_config("llama")
    torch.manual_seed(1)
    AutoModel.from_config(config).save_pretrained(folder)
    transformers_tokenizer().save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    return folder


def save_adapter(folder: Path, base: Path, name: str, revision: str | None = None) -> Path:
    """Save a LoRA with random weights on a base, which it refers to as `name` and `revision`."""
    from p2l_sdk.modeling.configuration_p2l import P2LConfig
    from p2l_sdk.modeling.modeling_p2l import P2LModel
    from p2l_sdk.scorers.backbone import BaseModel
    from p2l_sdk.training.config import TrainingConfig
    from p2l_sdk.training.model import add_lora

    backbone = BaseModel(str(base)).load()
    spec = {"models": MODELS, "feedback": "grk", "costs": COSTS, "max_prompt_tokens": 24, "cls_token": "<|cls|>"}
    model = P2LModel.on_backbone(P2LConfig(backbone_config=backbone.config, **spec), backbone)
    training = TrainingConfig(votes="v", output="o", base=str(base), base_name=name, base_revision=revision)
    peft = add_lora(model, training)
    torch.manual_seed(2)
    for parameter_name, parameter in peft.named_parameters():
        if ".lora_" in parameter_name:
            parameter.data = 0.1 * torch.randn_like(parameter)
    peft.peft_config["default"].base_model_name_or_path = name
    peft.save_pretrained(folder, save_embedding_layers=False)
    model.config.save_pretrained(folder)
    transformers_tokenizer().save_pretrained(folder)
    return folder
