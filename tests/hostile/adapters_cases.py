"""Hostile adapters: LoRA configurations that ask for what the weights do not hold, weights that are none, pipes."""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft  # noqa: F401  # its import takes seconds, which belong to no case
import torch
from hostile import Case
from hostile_models import ask

import p2l_sdk.scorers.transformer  # noqa: F401  # its import takes seconds, which belong to no case

FILE = "adapter_model.safetensors"


@functools.cache
def _adapter() -> Path:
    from adapters import save_adapter, save_base

    place = Path(tempfile.mkdtemp())
    base = save_base(place / "base")
    return save_adapter(place / "adapter", base, str(base))


def _case(name: str, damage: Callable[[Path], Any], says: str | None, equal: bool = True) -> Case:
    """`equal`: whether the answer is that of the adapter without the damage."""

    def run(place: Path) -> Any:
        folder = Path(shutil.copytree(_adapter(), place / "adapter"))
        damage(folder)
        return ask(folder, "prove that")

    def right(board: Any) -> bool:
        return (bool(np.isfinite(board.coefs).all()) and not equal) or np.allclose(board.coefs, _whole(), atol=1e-6)

    return Case(name, run, says, None if says else right)


@functools.cache
def _whole() -> Any:
    return ask(_adapter(), "prove that").coefs


def _field(key: str, value: Any, says: str | None, equal: bool = True) -> Case:
    def damage(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    return _case(f"{key}-{str(value)[:20]}".replace(" ", ""), damage, says, equal)


def _weights(name: str, ending: str, change: Callable[[torch.Tensor], torch.Tensor | None], says: str) -> Case:
    def damage(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / FILE)
        key = min(name for name in tensors if name.endswith(ending))
        new = change(tensors.pop(key))
        save_file(tensors | ({} if new is None else {key: new.contiguous()}), folder / FILE, {"format": "pt"})

    return _case(f"weights-{name}", damage, says)


def _instead(name: str, make: Callable[[Path], Any], says: str) -> Case:
    return _case(f"file-{name}", lambda folder: ((folder / FILE).unlink(), make(folder / FILE)), says)


A, COEFS, RANK = "lora_A.weight", "head.coefs.weight", "has the rank"
NO_FILE, PATTERN, NONE = f"no {FILE}", "may take for ever to match", "no whole adapter|does not fit|damaged"
CASES = [
    _field("lora_dropout", 0.5, None),
    *(_field("r", value, RANK) for value in (10**9, 1 << 16, 60_000, 17, 0, -1, "16", True, 1.5, None)),
    *(_field("rank_pattern", value, RANK) for value in ({".*": 10**7}, {".*": 10**9}, {"q_proj": 17}, {".*": "x"})),
    _field("rank_pattern", {"q_proj": 16}, None),
    *(_field("rank_pattern", value, NONE) for value in ({"q_proj": -1}, {"q_proj": 8})),
    *(_field("rank_pattern", value, "must be an object") for value in ([], "x", 5)),
    *(_field("rank_pattern", {value: 4}, PATTERN) for value in ("(a|aa)+", "(x+x+)+y", "a*a*a*a*a*b")),
    *(_field("lora_alpha", value, "lora_alpha") for value in (None, "x", True, [1])),
    _field("lora_alpha", 1e308, "damaged"),
    *(_field("alpha_pattern", {"q_proj": value}, NONE) for value in (1e308, "x")),
    *(_field("target_modules", value, PATTERN) for value in ("(a+)+$", ".*.*.*.*.*x", "x" * 30_000)),
    *(_field("target_modules", value, NONE) for value in (".*", "", "[", 5, ["x"] * 10_000, [1, 2], {"a": 1})),
    *(_field("modules_to_save", value, NONE) for value in (["backbone"], "all", 5, [], ["head", "backbone.layers"])),
    *(_field("bias", value, NONE) for value in ("evil", 5)),
    *(_field("exclude_modules", value, NONE) for value in (".*",)),
    *(_field("layers_to_transform", value, NONE) for value in ([10**9], "x")),
    _field("target_parameters", ["backbone.embed_tokens.weight"], NONE),
    *(_field(key, True, NONE) for key in ("use_dora", "lora_bias")),
    *(_field("peft_type", value, "no LORA") for value in ("PROMPT_TUNING", None, 5)),
    *(
        _field("base_model_name_or_path", value, "base|File name too long")
        for value in (
            5,
            "",
            None,
            "/etc",
            "/proc/self",
            "../../etc",
            "a/b\x1b[2J",
            "http://169.254.169.254/x",
            "x" * 9000,
        )
    ),
    _field("revision", 5, "it must be text"),
    # what speaks to PEFT about other packages and other ways to begin never gets there
    _field("auto_mapping", {"base_model_class": "Evil", "parent_library": "evil"}, None),
    _field("megatron_config", {"a": 1}, None),
    _field("megatron_core", "evil", None),
    _field("loftq_config", {"loftq_bits": 4}, None),
    _field("corda_config", {"a": 1}, None),
    _field("init_lora_weights", "pissa", None),
    _field("layer_replication", [[0, 10**6]], None),
    _field("trainable_token_indices", [1, 2], None),
    _field("runtime_config", {"ephemeral_gpu_offload": True}, None),
    _field("task_type", "EVIL", None),
    _weights("nan", A, lambda x: x * np.nan, "damaged"),
    _weights("infinite", "lora_B.weight", lambda x: x + np.inf, "damaged"),
    _weights("of-two-ranks", A, lambda x: x[:2], NONE),
    _weights("narrow", A, lambda x: x[:, :5], NONE),
    _weights("missing", A, lambda x: None, "missing tensors"),
    *(
        _weights(f"{str(kind)[6:]}", A, lambda x, kind=kind: (x * 100).to(kind), "and must be floating")
        for kind in (torch.int32, torch.int8, torch.bool, torch.float8_e5m2)
    ),
    _weights("head-of-integers", COEFS, lambda x: (x * 100).to(torch.int32), "and must be floating"),
    _weights("head-of-two", COEFS, lambda x: x[:2], NONE),
    _weights("head-of-nan", COEFS, lambda x: x * np.nan, "NaN"),
    _instead("pipe", lambda path: os.mkfifo(path), NO_FILE),
    _instead("folder", lambda path: path.mkdir(), NO_FILE),
    _instead("pickle", lambda path: path.with_suffix(".bin").write_bytes(b"\x80\x04."), NO_FILE),
    _instead("empty", lambda path: path.write_bytes(b""), NONE),
    _instead("link", lambda path: path.symlink_to("/etc/passwd"), NONE),
    _instead("device", lambda path: path.symlink_to("/dev/zero"), NO_FILE),
    _instead("long-header", lambda path: path.write_bytes((10**9).to_bytes(8, "little")), NONE),
]
