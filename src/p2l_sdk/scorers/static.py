"""The static backbone in numpy alone: a weighted mean of token vectors, then the head. About a millisecond per prompt.

It computes the same as `modeling/static_p2l.py`; a test checks that both agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.hub.folders import read_tensors, tokenizer_file
from p2l_sdk.modeling.limits_p2l import shown
from p2l_sdk.modeling.prompt_p2l import Prompt, PromptEncoder
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.scorers.head import NumpyHead, check_familiarity, head_shapes
from p2l_sdk.scorers.tryout import is_unusual, require_small, try_out

_LARGEST = 1 << 28  # size of a table's side
_MOST_LOG_WEIGHT = 40  # sums of exp(40) are far from the end of float32
_MOST_WORD_FEATURES, _MOST_IDF = 10_000, 1000
TABLES = "backbone.table", "backbone.words.table"  # that may be stored in 8 bits


class StaticScorer(NumpyHead):
    """Scores prompts with the static backbone.

    Args:
        spec: the model's spec.
        encoder: its prompt encoder.
        weights: the tensors of `model.safetensors`, complete and of the right shapes.
        norm_power: see `StaticConfig`.
    """

    quick = True  # scoring a short prompt takes less time than handing it to a thread

    def __init__(
        self, spec: ModelSpec, encoder: PromptEncoder, weights: Mapping[str, np.ndarray], norm_power: float = 0.0
    ) -> None:
        super().__init__(spec, weights)
        self.encoder = self._encode = encoder
        self._table = weights["backbone.table"]
        self._token_weight = np.exp(weights["backbone.log_weight"])
        # applies the int8 scale of a token and its weight in the mean in one multiplication
        self._row_factor = self._token_weight * weights.get("backbone.scale", np.float32(1.0))
        self._norm_power = norm_power
        self._length = weights["backbone.length"].tolist() if "backbone.length" in weights else None
        self._words = _Words(weights) if "backbone.words.table" in weights else None
        self._n_means = self._table.shape[1] + (self._length is not None)  # entries before those of words
        self._width = self._n_means + (0 if self._words is None else self._words.table.shape[1])

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any]) -> StaticScorer:
        """Load from a saved folder.

        Raises:
            ModelFormatError: a file is missing or damaged, or a tensor is missing, left over, of the wrong shape, or
                not finite.
        """
        spec = ModelSpec.from_config(config)
        tensor_shapes(spec, config["backbone_config"])  # its fields are legal, before anything large is read
        weights = read_tensors(folder)
        _check_weights(weights, spec, config["backbone_config"])
        norm_power = float(config["backbone_config"].get("norm_power", 0.0))
        encoder = PromptEncoder(spec, read_tokenizer(folder), n_embeddings=len(weights["backbone.table"]))
        return cls(spec, encoder, weights, norm_power)

    def pooled(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """The inputs of the head: the prompts' vectors, `(n_prompts, hidden_size)` float32."""
        return np.array([self._pool(ids) for ids in self._encode(prompts)])

    def _pool(self, ids: list[int]) -> np.ndarray:
        rows = np.array(ids)
        state = np.empty(self._width, dtype=np.float32)
        vectors = self._table.take(rows, 0).astype(np.float32)  # `take` is the quicker way to index few rows
        self._fill(state, self._row_factor.take(rows), vectors, self._token_weight.take(rows))
        if self._words is not None:
            self._words.fill(state[self._n_means :], np.unique(rows))
        return state

    def _fill(self, state: np.ndarray, factors: np.ndarray, vectors: np.ndarray, weights: np.ndarray) -> None:
        """Write the vector of a prompt, given the factors, vectors and weights of its tokens."""
        mean = state[: self._table.shape[1]]
        np.matmul(factors, vectors, out=mean)
        mean /= weights.sum()
        if self._norm_power:
            mean /= max(math.sqrt(mean @ mean), 1e-12) ** self._norm_power
        if self._length is not None:
            centre, factor, low, high = self._length
            state[len(mean)] = (min(max(math.log(len(weights)), low), high) - centre) * factor


class _Words:
    """The word features; see `modeling/static_p2l.py`."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.table, self._idf = weights["backbone.words.table"], weights["backbone.words.idf"]
        self._factor = self._idf * weights.get("backbone.words.scale", np.float32(1.0))

    def fill(self, state: np.ndarray, tokens: np.ndarray) -> None:
        """Write the features of a prompt in which these tokens occur."""
        np.matmul(self._factor.take(tokens), self.table.take(tokens, 0).astype(np.float32), out=state)
        idf = self._idf.take(tokens)
        state /= max(math.sqrt(idf @ idf), 1e-12)


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read the `tokenizer.json` of a folder; ModelFormatError if it is missing, damaged, or might read a text for ever
    (see `tryout`)."""
    path = tokenizer_file(folder)
    require_small(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelFormatError(f"{str(path)!r} is damaged: {shown(error)}") from None
    if is_unusual(tokenizer):
        try_out(path)
    return tokenizer


def _check_backbone(backbone: Mapping[str, Any]) -> None:
    for name in ("vocab_size", "embedding_size"):
        size = backbone.get(name)
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= _LARGEST:
            raise ModelFormatError(f"{name} is {shown(size)}; it must be an integer from 1 to {_LARGEST:,}")
    for name in ("quantized", "length_feature"):
        if not isinstance(backbone.get(name, False), bool):
            raise ModelFormatError(f"{name} is {shown(backbone[name])}; it must be true or false")
    words = backbone.get("word_features", 0)
    if not isinstance(words, int) or isinstance(words, bool) or not 0 <= words <= _MOST_WORD_FEATURES:
        raise ModelFormatError(
            f"word_features is {shown(words)}; it must be an integer from 0 to {_MOST_WORD_FEATURES:,}"
        )
    power = backbone.get("norm_power", 0.0)
    if not isinstance(power, int | float) or not 0.0 <= power <= 1.0:
        raise ModelFormatError(f"norm_power is {shown(power)}; it must be a number in [0, 1]")


def tensor_shapes(spec: ModelSpec, backbone: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a model, by its spec and the `backbone_config` of its `config.json`.

    Raises:
        ModelFormatError: a field of the latter has an illegal value.
    """
    _check_backbone(backbone)
    vocab, embedding = backbone["vocab_size"], backbone["embedding_size"]
    words = backbone.get("word_features", 0)
    width = embedding + int(backbone.get("length_feature", False)) + words
    expected: dict[str, tuple[int, ...]] = {"backbone.table": (vocab, embedding), "backbone.log_weight": (vocab,)}
    if backbone.get("quantized"):
        expected["backbone.scale"] = (vocab,)
    if backbone.get("length_feature"):
        expected["backbone.length"] = (4,)
    if words:
        expected |= {"backbone.words.table": (vocab, words), "backbone.words.idf": (vocab,)}
        if backbone.get("quantized"):
            expected["backbone.words.scale"] = (vocab,)
    return expected | head_shapes(spec, width)


def _check_weights(weights: Mapping[str, np.ndarray], spec: ModelSpec, backbone: Mapping[str, Any]) -> None:
    expected = tensor_shapes(spec, backbone)
    found = {name: tensor.shape for name, tensor in weights.items()}
    if found != expected:
        name = min(set(found.items()) ^ set(expected.items()))[0]
        raise ModelFormatError(
            f"tensor {name!r} has the shape {found.get(name, 'of nothing: it is missing')}, "
            f"the config asks for {expected.get(name, 'no such tensor')}; weights and config do not belong together"
        )
    for name, tensor in weights.items():
        packed = name in TABLES and backbone.get("quantized")
        if tensor.dtype != np.int8 if packed else tensor.dtype.kind != "f":
            raise ModelFormatError(
                f"tensor {name!r} is of type {tensor.dtype}, and must be {'int8' if packed else 'floating'}"
            )
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise ModelFormatError(f"tensor {name!r} holds NaN or infinite values; the weights are damaged")
    check_familiarity(weights)
    idf = weights.get("backbone.words.idf", np.zeros(1))
    if not ((idf >= 0.0) & (idf <= _MOST_IDF)).all():
        raise ModelFormatError(f"tensor 'backbone.words.idf' must lie within 0 and {_MOST_IDF}")
    if not (np.abs(weights["backbone.log_weight"]) < _MOST_LOG_WEIGHT).all():
        raise ModelFormatError(
            f"tensor 'backbone.log_weight' must lie within -{_MOST_LOG_WEIGHT} and {_MOST_LOG_WEIGHT}"
        )
