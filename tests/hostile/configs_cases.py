"""Hostile configurations: JSON without measure, numbers that no model has, keys that speak to transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch  # noqa: F401  # its import takes seconds, which belong to no case
from hostile import Case
from hostile_models import ask, copy_of, edited, is_a_board

import p2l_sdk.scorers.transformer  # noqa: F401  # likewise


def _config(
    name: str, change: Callable[[Any], Any], says: str | None = None, kind: str = "static", **more: Any
) -> Case:
    def run(place: Path) -> Any:
        folder = copy_of(kind, place)
        edited(folder / "config.json", change)
        return ask(folder, "prove that" if kind == "llama" else "a b c")

    return Case(f"{kind}-{name}", run, says=says, **({} if says else {"right": is_a_board}), **more)


def _field(field: str, value: Any, says: str | None = None, kind: str = "static") -> Case:
    return _config(f"{field}-{str(value)[:12]}", lambda config: config | {field: value}, says, kind)


def _backbone(field: str, value: Any, says: str | None = None, kind: str = "static") -> Case:
    def change(config: Any) -> None:
        config["backbone_config"][field] = value

    return _config(f"backbone-{field}-{str(value)[:12]}", change, says, kind)


def _raw(name: str, text: str, says: str) -> Case:
    return _config(name, lambda config: text, says)


def _with(name: str, old: str, new: str, says: str) -> Case:
    return _config(name, lambda config: json.dumps(config).replace(old, new, 1), says)


def _runs_no_code(place: Path) -> Any:
    """transformers is told to trust the folder, whose tokenizer, processor and configuration name code of their own."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer, pipeline

    from p2l_sdk.scorers import auto_classes

    auto_classes.register()
    folder, ran = copy_of("llama", place), place / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass E: pass\n")
    code = {f"Auto{what}": "evil.E" for what in ("Config", "Model", "Processor", "ImageProcessor", "FeatureExtractor")}
    code |= {"AutoTokenizer": ["evil.E", "evil.E"], "AutoModelForCausalLM": "evil.E"}
    for file in ("tokenizer_config.json", "config.json"):
        edited(folder / file, lambda fields: fields | {"auto_map": code})
    for task in ("prompt-to-leaderboard", "text-classification"):
        pipeline(task, str(folder), trust_remote_code=True)("prove that")
    for auto in (AutoConfig, AutoTokenizer, AutoModel):
        auto.from_pretrained(folder, trust_remote_code=True)
    _fails_or_loads(folder)
    return ran.exists()


def _fails_or_loads(folder: Path) -> None:
    """The finders of other things: whether they find one does not matter, only that they run nothing."""
    import transformers

    for name in ("AutoModelForCausalLM", "AutoProcessor", "AutoImageProcessor", "AutoFeatureExtractor"):
        try:
            getattr(transformers, name).from_pretrained(folder, trust_remote_code=True)
        except (OSError, ValueError, KeyError, ImportError, AttributeError, TypeError):
            continue


def _attention(place: Path) -> str:
    from p2l_sdk.modeling.configuration_p2l import P2LConfig

    folder = copy_of("llama", place)
    keys = {"attn_implementation": "org/kernel", "_attn_implementation": "org/kernel", "use_kernels": True}
    keys |= {"_attn_implementation_internal": "org/kernel", "experts_implementation": "org/kernel", "tp_plan": "auto"}
    edited(folder / "config.json", lambda c: c | keys | {"backbone_config": c["backbone_config"] | keys})
    config = P2LConfig.from_pretrained(folder)
    ask(folder, "prove that")
    return json.dumps([vars(config), vars(config.backbone_config)], default=str)


PACKED = {"quant_method": "bitsandbytes", "load_in_4bit": True}
READ, SIZE = "cannot be read as JSON", "config.json has|must be|weights hold|do not belong"
CASES = [
    _raw("nested", "[" * 10**5, READ),
    _raw("nested-whole", '{"a":' * 10**5 + "1" + "}" * 10**5, READ),
    _raw("nested-a-little", '{"a":' * 150 + "1" + "}" * 150, "nested deeper than 100"),
    _raw("empty", "", READ),
    _raw("text", "hello", READ),
    _raw("half", '{"model_type": "p2l"', READ),
    _raw("list", "[]", "no P2L model"),
    _raw("number", "5", "no P2L model"),
    _raw("null", "null", "no P2L model"),
    _raw("nul", "\x00" * 100, READ),
    _raw("large", '{"a": "' + "x" * 65_000_000 + '"}', "64,000,000 are legal"),
    _with("digits", '"max_prompt_tokens": 64', '"max_prompt_tokens": ' + "9" * 5000, "5,000 digits"),
    _with("exponent", '"max_prompt_tokens": 64', '"max_prompt_tokens": 1e999', "max_prompt_tokens is inf"),
    _with("nan", '"norm_power": 1.0', '"norm_power": NaN', "NaN"),
    _with("infinity", '"norm_power": 1.0', '"norm_power": Infinity', "norm_power is inf"),
    _with("twice", '"chat": false', '"chat": false, "chat": true', "gives 'chat' twice"),
    _with("type-twice", '"feedback"', '"model_type": "bert", "feedback"', "'model_type' twice"),
    *(_field("model_type", value, "model_type") for value in (None, "bert", 5, ["p2l"], "p2l\x1b[2J")),
    *(
        _field("max_prompt_tokens", value, "max_prompt_tokens is")
        for value in (0, 1, -5, 10**30, 1e9, "64", True, None, [64])
    ),
    *(_field("head_hidden_size", value, "head_hidden_size is") for value in (0, -1, 10**12, "4", 1.5, True)),
    *(_field("familiarity", value, "familiarity is") for value in (-1, 10**12, "1", 0.5, None)),
    *(_field("head_dropout", value, "head_dropout is") for value in (-0.1, 1.0, "0", None, 1e308)),
    *(_field("pooling", value, "pooling is") for value in ("none", None, 5, ["last"])),
    *(_field("head_activation", value, "head_activation is") for value in ("exec", None, {})),
    *(_field("chat", value, "chat is") for value in ("false", 0, None)),
    *(_field("cls_token", value, "cls_token is|CLS token") for value in (5, "", ["a"], "<nowhere>")),
    *(_field("format_version", value, "format version") for value in (2, "1", None, 10**30)),
    *(
        _field("costs", value, "cost")
        for value in (
            [1],
            "alpha",
            5,
            {"alpha": -1},
            {"alpha": "x"},
            {"nobody": 1},
            {"alpha": 10**39 * 10**0 * 1.0e300},
        )
    ),
    *(_field("backbone_config", value, "damaged|backbone") for value in (None, [], 5, "x", {}, {"model_type": None})),
    *(_backbone("norm_power", value, "norm_power is") for value in (-1, 1.5, 1e308, "1", None, [1])),
    *(_backbone("vocab_size", value, "vocab_size is|shape") for value in (0, -3, 10**12, "11", 11.0, True, 12)),
    *(_backbone("word_features", value, "word_features is|shape") for value in (-1, 10**9, 2.0, "2", None, True, 0, 3)),
    *(_backbone("embedding_size", value, "embedding_size is|shape") for value in (0, -3, 10**12, None, 5)),
    *(_backbone("quantized", value, "quantized is|must be int8|shape|missing") for value in ("x", 1, True)),
    _backbone("auto_map", {"AutoModel": "evil.E"}),
    _backbone("attn_implementation", "org/kernel"),
    *(_backbone("num_hidden_layers", value, SIZE, "llama") for value in (10**7, 10**9, -1)),
    *(_backbone("hidden_size", value, SIZE + "|no whole P2L model", "llama") for value in (10**9, 10**5 * 4, -32, 0)),
    *(_backbone("vocab_size", value, SIZE, "llama") for value in (10**9, 10**12)),
    *(_backbone("intermediate_size", value, SIZE, "llama") for value in (10**8, -1)),
    *(_backbone("model_type", value, "model_type", "llama") for value in ("timm_wrapper", "no-such", None, 5)),
    _backbone("quantization_config", PACKED, "quantization_config", "llama"),
    _field("quantization_config", PACKED, "quantization_config", "llama"),
    _backbone("dtype", "load", kind="llama"),
    _backbone("torch_dtype", "int8", kind="llama"),
    _backbone("to_dict", 5, kind="llama"),
    _backbone("hidden_act", "exec", "damaged|no whole", "llama"),
    _backbone("num_attention_heads", 0, "damaged|no whole", "llama"),
    Case("no-code-is-run", _runs_no_code, right=lambda ran: ran is False),
    Case("no-kernel-is-fetched", _attention, right=lambda text: "org/kernel" not in text and "use_kernels" not in text),
]
