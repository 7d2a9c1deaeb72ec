"""Small models to damage: a static one that numpy reads, and a llama that torch reads, made once and copied."""

from __future__ import annotations

import functools
import json
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LETTERS = "abcdefghij"
NAMES = ["alpha", "beta", "gamma"]


@functools.cache
def _static() -> Path:
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = Path(tempfile.mkdtemp())
    vocab = {token: i for i, token in enumerate(["[UNK]", *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    rng = np.random.default_rng(0)
    tensors = {"backbone.table": (len(vocab), 4), "backbone.log_weight": (len(vocab),)}
    tensors |= {"backbone.words.table": (len(vocab), 2), "backbone.words.idf": (len(vocab),)}
    tensors |= {"head.coefs.weight": (len(NAMES), 6), "head.coefs.bias": (len(NAMES),)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in tensors.items()}
    weights["backbone.words.idf"] = 1.0 + np.abs(weights["backbone.words.idf"])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    backbone = {"model_type": "p2l_static", "vocab_size": len(vocab), "embedding_size": 4, "norm_power": 1.0}
    backbone["word_features"] = 2
    config = {"model_type": "p2l", "models": NAMES, "feedback": "bt", "costs": dict.fromkeys(NAMES, 0.001)}
    config |= {"pooling": "pooler", "chat": False, "max_prompt_tokens": 64, "backbone_config": backbone}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@functools.cache
def _llama() -> Path:
    from conftest import save_model

    return save_model(Path(tempfile.mkdtemp()) / "llama", "llama")


def copy_of(kind: str, place: Path) -> Path:
    """A fresh copy of the "static" or the "llama" model."""
    return Path(shutil.copytree({"static": _static, "llama": _llama}[kind](), place / "model"))


def edited(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file; `change` may return another value, or text to write as it is."""
    value = json.loads(path.read_text())
    new = change(value)
    path.write_text(new if isinstance(new, str) else json.dumps(value if new is None else new))


def ask(folder: Path, prompt: str = "a b c", **options: Any) -> Any:
    """The leaderboard of a prompt."""
    from p2l_sdk import P2L

    return P2L.from_pretrained(folder, **options).leaderboard(prompt)


def is_a_board(board: Any) -> bool:
    return bool(len(board.ranking) >= 3 and np.isfinite(board.coefs).all())


def safetensors(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    """The bytes of a safetensors file with this header, which may lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body
