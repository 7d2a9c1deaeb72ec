"""Hostile weights: whole files whose tensors are not those of the model: `p2l inspect` names them, loading refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: F401  # its import takes seconds, which belong to no case
from hostile import Case, command
from hostile_models import ask, copy_of, edited

import p2l_sdk.scorers.transformer  # noqa: F401  # likewise

Tensors = dict[str, np.ndarray]
FILE = "model.safetensors"
Q, COEFS = "backbone.layers.0.self_attn.q_proj.weight", "head.coefs.weight"
ADAPTER = Path(__file__).parents[2] / "hub_cards" / "minilm-l6-routing9"


def _rewritten(path: Path, change: Callable[[Tensors], Any]) -> None:
    from safetensors.numpy import save_file
    from safetensors.torch import load_file

    tensors = {name: value.float().numpy() for name, value in load_file(path).items()}
    change(tensors)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path, {"format": "pt"})


def _odd(folder: Path) -> str:
    return "\n".join(json.loads(command("inspect", str(folder), "--json", "--no-tryout"))["odd"])


def _pair(kind: str, name: str, change: Callable[[Tensors], Any], inspected: str, says: str) -> list[Case]:
    """The same damage, inspected and loaded."""

    def damaged(place: Path) -> Path:
        folder = copy_of(kind, place)
        _rewritten(folder / FILE, change)
        return folder

    asked = {"static": "a b c", "llama": "prove that"}[kind]
    return [
        Case(f"{kind}-inspect-{name}", lambda place: _odd(damaged(place)), right=lambda odd: inspected in odd),
        Case(f"{kind}-load-{name}", lambda place: ask(damaged(place), asked), says=says),
    ]


def _set(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.update({name: change(tensors[name])})


def _one(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(tensor: np.ndarray) -> np.ndarray:
        tensor = tensor.copy()
        tensor.flat[-1] = value
        return tensor

    return change


def _by_transformers(change: Callable[[Tensors], Any]) -> Callable[[Path], Any]:
    """Loaded as by users of transformers alone, whose own loader puts random numbers in the place of what lacks."""

    def run(place: Path) -> Any:
        from transformers import AutoModel

        folder = copy_of("llama", place)
        _rewritten(folder / FILE, change)
        return AutoModel.from_pretrained(folder, trust_remote_code=True)

    return run


def _base(place: Path) -> Any:
    """A base that lacks a layer."""
    from p2l_sdk.scorers.backbone import BaseModel

    folder = copy_of("llama", place)

    def without(tensors: Tensors) -> None:
        kept = {n.removeprefix("backbone."): v for n, v in tensors.items() if n.startswith("backbone.") and n != Q}
        tensors.clear()
        tensors.update(kept)

    _rewritten(folder / FILE, without)
    edited(folder / "config.json", lambda config: config["backbone_config"])
    return BaseModel(str(folder)).load()


def _familiar(name: str, value: Callable[[Tensors], np.ndarray]) -> Callable[[Path], Path]:
    def damaged(place: Path) -> Path:
        folder = copy_of("static", place)
        edited(folder / "config.json", lambda config: config | {"familiarity": 2})
        known = {"centre": np.zeros(6), "directions": np.eye(2, 6), "precision": np.ones(3), "average": np.zeros(6)}
        known |= {"quantiles": np.linspace(1, 2, 21), "error": np.zeros(2)}
        known[name] = value(known)
        whole = {f"head.familiarity.{key}": tensor.astype(np.float32) for key, tensor in known.items()}
        _rewritten(folder / FILE, lambda tensors: tensors.update(whole))
        return folder

    return damaged


def _of_familiarity(case: str, name: str, value: Callable[[Tensors], np.ndarray], says: str) -> list[Case]:
    damaged = _familiar(name, value)
    return [
        Case(f"familiarity-inspect-{case}", lambda place: _odd(damaged(place)), right=lambda odd: says in odd),
        Case(f"familiarity-load-{case}", lambda place: ask(damaged(place)), says="head.familiarity"),
    ]


def _adapter(name: str, change: Callable[[Tensors], Any], inspected: str) -> Case:
    def run(place: Path) -> str:
        folder = Path(shutil.copytree(ADAPTER, place / "adapter"))
        _rewritten(folder / "adapter_model.safetensors", change)
        return _odd(folder)

    return Case(f"adapter-inspect-{name}", run, right=lambda odd: inspected in odd if inspected else odd == "")


def _beside(place: Path) -> str:
    folder = copy_of("llama", place)
    shutil.copyfile(folder / FILE, folder / "other.safetensors")
    return _odd(folder)


def _first(tensors: Tensors, ending: str) -> str:
    return min(name for name in tensors if name.endswith(ending))


LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"
HEAD = f"base_model.model.{COEFS}"
CASES = [
    Case("llama-inspect-nothing-odd", lambda place: _odd(copy_of("llama", place)), right=lambda odd: odd == ""),
    *_pair("llama", "missing", lambda t: t.pop(Q), f"lack the tensor '{Q}'", "lack the tensor"),
    *_pair("llama", "no-head", lambda t: t.pop(COEFS), f"lack the tensor '{COEFS}'", "lack the tensor"),
    *_pair(
        "llama", "one-more", lambda t: t.update(more=np.ones(3, np.float32)), "nothing of the tensor 'more'", "more"
    ),
    *_pair("llama", "wide", _set(Q, lambda x: x[:, :3]), "has the shape (32, 3)", "has the shape"),
    *_pair("llama", "head-of-two", _set(COEFS, lambda x: x[:2]), "has the shape (2, 32)", "has the shape"),
    *_pair("llama", "nan", _set(Q, lambda x: x * np.nan), f"tensor '{Q}' holds NaN", "holds NaN or infinite"),
    *_pair("llama", "one-nan", _set(Q, _one(np.nan)), f"tensor '{Q}' holds NaN", "holds NaN or infinite"),
    *_pair("llama", "one-inf", _set(Q, _one(-np.inf)), f"tensor '{Q}' holds NaN", "holds NaN or infinite"),
    *_pair("llama", "half-inf", _set(Q, lambda x: _one(np.inf)(x.astype(np.float16))), "holds NaN", "holds NaN or inf"),
    *_pair("llama", "int", _set(Q, lambda x: (x * 100).astype(np.int64)), "of type I64", "must be floating"),
    *_pair("llama", "bool", _set(Q, lambda x: x > 0), "of type BOOL", "must be floating"),
    *_pair("llama", "int-head", _set(COEFS, lambda x: (x * 100).astype(np.int8)), "of type I8", "must be floating"),
    *_pair("static", "missing", lambda t: t.pop(COEFS), f"no tensor '{COEFS}'", "it is missing"),
    *_pair("static", "one-more", lambda t: t.update(more=np.ones(3, np.float32)), "a tensor 'more'", "no such tensor"),
    *_pair("static", "head-of-two", _set(COEFS, lambda x: x[:2]), "has the shape (2, 6)", "has the shape"),
    *_pair("static", "nan", _set("backbone.table", _one(np.nan)), "holds NaN", "holds NaN"),
    *_pair("static", "int", _set("backbone.table", lambda x: x.astype(np.int32)), "of type I32", "must be floating"),
    Case("transformers-missing", _by_transformers(lambda t: t.pop(Q)), says="lack the tensor.*would be random"),
    Case("transformers-no-head", _by_transformers(lambda t: t.pop(COEFS)), says="lack the tensor.*would be random"),
    Case("base-missing", _base, says="lack the tensor.*would be random"),
    *_of_familiarity("negative", "precision", lambda t: -t["precision"], "negative numbers"),
    *_of_familiarity("descending", "quantiles", lambda t: t["quantiles"][::-1], "does not ascend"),
    *_of_familiarity("below-zero", "quantiles", lambda t: t["quantiles"] - 5, "does not ascend"),
    *_of_familiarity("error", "error", lambda t: t["error"] - 1, "negative numbers"),
    *_of_familiarity("rank", "directions", lambda t: np.eye(3, 6), "has the shape (3, 6)"),
    *_of_familiarity("width", "centre", lambda t: np.zeros(5), "has the shape (5,)"),
    *_of_familiarity("nan", "average", lambda t: t["average"] * np.nan, "holds NaN"),
    _adapter("nothing", lambda t: None, ""),
    _adapter("missing", lambda t: t.pop(HEAD), f"no tensor '{COEFS}'"),
    _adapter("head-of-two", _set(HEAD, lambda x: x[:2]), "has the shape (2, "),
    _adapter("one-more", lambda t: t.update(more=np.ones(3, np.float32)), "neither of a LoRA nor of the head"),
    _adapter("no-pair", lambda t: t.pop(_first(t, LORA_A)), "not the other one of its pair"),
    _adapter("rank-of-one", lambda t: t.update({_first(t, LORA_A): t[_first(t, LORA_A)][:3]}), "has the shape (3, "),
    _adapter("nan", lambda t: t.update({_first(t, LORA_B): t[_first(t, LORA_B)] * np.nan}), "holds NaN"),
    _adapter("int", lambda t: t.update({_first(t, LORA_B): t[_first(t, LORA_B)].astype(np.int8)}), "must be floating"),
    Case("inspect-weights-not-read", _beside, right=lambda odd: "'other.safetensors' holds weights that" in odd),
]
