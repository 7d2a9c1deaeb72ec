"""A table of token vectors, distilled from a sentence encoder, from which a static backbone is made.

Each token of the vocabulary is passed through the encoder alone; its states are averaged and normalised to unit length,
and a principal component analysis keeps the directions in which tokens differ most (as in Model2Vec, Tulkens & van
Dongen, 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.hub.config import backbone_kind, read_config
from p2l_sdk.hub.folders import read_tensors
from p2l_sdk.modeling.modeling_p2l import n_embeddings
from p2l_sdk.modeling.prompt_p2l import pad
from p2l_sdk.modeling.spec_p2l import STATIC_BACKBONE
from p2l_sdk.scorers.backbone import BaseModel, require_embeddings
from p2l_sdk.scorers.static import read_tokenizer
from p2l_sdk.training.unread_scripts import mark_unread


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Token vectors and their tokenizer.

    Attributes:
        tokenizer: the tokenizer.
        vectors: `(vocab_size, width)` float32.
    """

    tokenizer: Tokenizer
    vectors: np.ndarray


def distil(encoder: str | Path, width: int = 256, batch_size: int = 512) -> TokenTable:
    """Distil the token table of a sentence encoder; the vectors have mean 0.

    Args:
        encoder: folder or Hub id of an encoder with a fast tokenizer, e.g. all-MiniLM-L6-v2.
        width: number of principal components to keep, at most the encoder's own width.
        batch_size: vocabulary tokens per forward pass.

    Raises:
        HubError: it cannot be fetched from the Hub.
        ModelFormatError: it cannot be loaded, or its weights are pickles.
    """
    base = BaseModel(str(encoder))
    hf_tokenizer, model = base.tokenizer(), base.load().eval()
    frame = hf_tokenizer("")["input_ids"]  # special tokens around a text, e.g. [CLS] and [SEP]
    known = n_embeddings(model)
    require_embeddings(str(encoder), hf_tokenizer, known)
    tokens = [token if known is None or token < known else 0 for token in range(len(hf_tokenizer))]
    ids = [[*frame[:1], token, *frame[1:]] for token in tokens]
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
    return TokenTable(mark_unread(Tokenizer.from_str(backend.to_str())), components.astype(np.float32))


def table_of(folder: Path) -> TokenTable:
    """The token table of a saved static model.

    Raises:
        ModelFormatError: the folder is not a complete static model.
    """
    config = read_config(folder)
    if backbone_kind(config) != STATIC_BACKBONE:
        raise ModelFormatError(f"{str(folder)!r} has no static backbone, so there is no token table to start from")
    weights = read_tensors(folder)
    scale = weights.get("backbone.scale", np.ones(1, dtype=np.float32))
    return TokenTable(read_tokenizer(folder), weights["backbone.table"].astype(np.float32) * scale[:, None])
