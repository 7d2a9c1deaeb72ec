"""A table of token vectors, distilled from a sentence encoder: the static backbone's start.

Every token of the vocabulary is passed alone through the encoder, its states are averaged and brought to unit length,
and a principal component analysis keeps the directions that tell tokens apart. (The idea is that of Model2Vec,
Tulkens & van Dongen, 2024.)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.modeling.prompt_p2l import pad
from p2l_sdk.scorers import STATIC_BACKBONE, read_config
from p2l_sdk.scorers.static import read_tokenizer, read_weights


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Attributes: tokenizer; vectors `(vocab_size, width)` float32, centred."""

    tokenizer: Tokenizer
    vectors: np.ndarray


def distil(encoder: str | Path, width: int = 256, batch_size: int = 512) -> TokenTable:
    """The token table of a sentence encoder.

    Args:
        encoder: folder or Hub id of an encoder with a fast tokenizer (all-MiniLM-L6-v2, say).
        width: principal components kept, at most the encoder's own width.
        batch_size: tokens in one forward pass.
    """
    hf_tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = AutoModel.from_pretrained(encoder, dtype=torch.float32).eval()
    frame = hf_tokenizer("")["input_ids"]  # what stands around a text, [CLS] and [SEP] say
    ids = [[*frame[:1], token, *frame[1:]] for token in range(len(hf_tokenizer))]
    states = []
    with torch.inference_mode():
        for start in range(0, len(ids), batch_size):
            input_ids, mask = (torch.from_numpy(x) for x in pad(ids[start : start + batch_size], 0))
            hidden = model(input_ids=input_ids, attention_mask=mask).last_hidden_state
            states.append((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
    vectors = torch.cat(states).numpy().astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors -= vectors.mean(0)
    _, axes = np.linalg.eigh(vectors.T @ vectors)  # ascending
    components = vectors @ axes[:, ::-1][:, :width]
    backend = hf_tokenizer.backend_tokenizer
    return TokenTable(Tokenizer.from_str(backend.to_str()), components.astype(np.float32))


def table_of(folder: Path) -> TokenTable:
    """The token table of a saved static model.

    Raises:
        ModelFormatError: it is no whole static model.
    """
    config = read_config(folder)
    if config.get("backbone_config", {}).get("model_type") != STATIC_BACKBONE:
        raise ModelFormatError(f"{str(folder)!r} has no static backbone, so there is no token table to start from")
    weights = read_weights(folder / "model.safetensors")
    scale = weights.get("backbone.scale", np.ones(1, dtype=np.float32))
    return TokenTable(read_tokenizer(folder), weights["backbone.table"].astype(np.float32) * scale[:, None])
