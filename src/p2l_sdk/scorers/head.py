"""The head of a P2L model in numpy alone: from a prompt's pooled vector to its coefficients.

It computes the same as `P2LHead`; a test checks that both agree.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.leaderboards.leaderboard import Coefficients, Kinds
from p2l_sdk.modeling.familiarity_p2l import FAMILIAR, TENSORS, damping, distances, familiarity, shapes
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.modeling.spec_p2l import Activation, ModelSpec

_NORM_EPSILON = np.float32(1e-5)  # as in torch.nn.LayerNorm


def _gelu(x: np.ndarray) -> np.ndarray:
    # the tanh approximation, with 1 + tanh(z) = 2 sigmoid(2 z)
    return x / (1.0 + np.exp(np.minimum(x * (_GELU_SLOPE + _GELU_CUBE * (x * x)), _EXP_LIMIT)))


_HALF = np.float32(0.5)
_EXP_LIMIT = np.float32(80.0)  # exp overflows float32 above 88
_GELU_SLOPE = np.float32(-2.0 * math.sqrt(2.0 / math.pi))
_GELU_CUBE = _GELU_SLOPE * np.float32(0.044715)
_ACTIVATIONS = {
    Activation.GELU: _gelu,
    Activation.RELU: lambda x: np.maximum(x, np.float32(0.0)),
    Activation.IDENTITY: lambda x: x,
}


class NumpyHead(ABC):
    """The head of a model, for scorers that have its pooled vectors from elsewhere.

    Args:
        spec: the model's spec.
        weights: its tensors `head.*`, complete and of the right shapes.
    """

    def __init__(self, spec: ModelSpec, weights: Mapping[str, np.ndarray]) -> None:
        self.spec = spec
        self._norm = _affine(weights, "head.norm") if spec.head_norm else None
        self._hidden = _layer(weights, "head.hidden") if spec.head_hidden_size else None
        self._activation = _ACTIVATIONS[spec.head_activation]
        self._kinds = _layer(weights, "head.kinds.0") if spec.kinds else None
        self._familiarity = [weights[f"head.familiarity.{name}"] for name in TENSORS] if spec.familiarity else None
        outputs = ["head.coefs"] + ["head.eta"] * spec.feedback.has_eta + ["head.gamma"] * spec.feedback.has_gamma
        matrices, biases = zip(*(_layer(weights, name) for name in outputs), strict=True)
        self._out = np.hstack(matrices), np.concatenate(biases)  # one matrix product for all heads
        self.variance = weights["head.variance"] if spec.kinds else None

    @abstractmethod
    def pooled(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """The inputs of the head: the prompts' vectors, `(n_prompts, hidden_size)` float32."""

    def score(self, prompts: Sequence[Prompt]) -> Coefficients:
        """Coefficients of a batch of prompts, float32.

        Raises:
            ModelFormatError: a coefficient is NaN or infinite.
        """
        return self.score_pooled(self.pooled(prompts))

    def features(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """The inputs of the last layer, `(n_prompts, width)` float32."""
        pooled = self.pooled(prompts)
        return self._features(pooled, self._familiar(pooled))

    def score_pooled(self, pooled: np.ndarray) -> Coefficients:
        """Apply the head: `score` for prompts with these vectors."""
        familiar = self._familiar(pooled)
        scored = self.score_features(self._features(pooled, familiar), familiar)
        if not np.isfinite(scored.coefs).all():
            raise ModelFormatError("the model gives NaN or infinite coefficients; its weights are damaged, or overflow")
        return scored

    def score_features(self, features: np.ndarray, familiar: np.ndarray | None = None) -> Coefficients:
        """Apply only the last layer: `score` for prompts with these features, and this familiarity."""
        matrix, bias = self._out
        out = features @ matrix + bias
        n_models = len(self.spec.models)
        return Coefficients(
            coefs=out[:, :n_models],
            eta=out[:, n_models : n_models + 1] if self.spec.feedback.has_eta else None,
            gamma=out[:, n_models + 1 :] if self.spec.feedback.has_gamma else None,
            kinds=None if self.variance is None else Kinds(self.spec.kinds, features, self.variance),
            familiarity=familiar,
        )

    @property
    def group_error(self) -> np.ndarray | None:
        """See `group_error_of`."""
        return None if self._familiarity is None else self._familiarity[-1]

    @property
    def rows(self) -> np.ndarray:
        """The LLMs' rows of the last layer, `(n_models, width + 1)` float32; the last column is the bias."""
        matrix, bias = self._out
        return np.vstack([matrix, bias]).T[: len(self.spec.models)]

    def with_rows(self, spec: ModelSpec, rows: np.ndarray, variance: np.ndarray | None = None) -> Self:
        """The same model with the LLMs of `spec` and their rows (and variances), in float32; all else is shared."""
        others = np.vstack(self._out)[:, len(self.spec.models) :]
        out = np.hstack([rows.T.astype(np.float32), others])
        edited = copy.copy(self)
        edited.spec, edited._out = spec, (np.ascontiguousarray(out[:-1]), out[-1])
        edited.variance = None if variance is None else variance.astype(np.float32)
        return edited

    @property
    def eta(self) -> float | None:
        """Eta of the prompt whose features are 0; None if the feedback model has none."""
        return float(self._out[1][len(self.spec.models)]) if self.spec.feedback.has_eta else None

    def with_feedback(self, feedback: Feedback, eta: float | None) -> Self:
        """A model of `bt` or `bt_tie` with another feedback model, whose eta is the same for every prompt."""
        matrix, bias = self._out
        n_models = len(self.spec.models)
        edited = copy.copy(self)
        edited.spec, edited._out = self.spec.replace(feedback=feedback), (matrix[:, :n_models], bias[:n_models])
        if eta is not None:
            column = np.zeros((len(matrix), 1), dtype=np.float32)
            edited._out = np.hstack([edited._out[0], column]), np.append(edited._out[1], np.float32(eta))
        return edited

    def _familiar(self, state: np.ndarray) -> np.ndarray | None:
        """`(n_prompts,)` familiarity of prompts with these vectors; None if the model does not know it."""
        if self._familiarity is None:
            return None
        centre, directions, precision, quantiles = self._familiarity[:4]
        return familiarity(distances(state, centre, directions, precision), quantiles).astype(np.float32)

    def _features(self, state: np.ndarray, familiar: np.ndarray | None) -> np.ndarray:
        if self._norm is not None:
            weight, bias = self._norm
            state = state - state.mean(1, keepdims=True)
            scale = np.sqrt(np.square(state).mean(1, keepdims=True) + _NORM_EPSILON)
            state = state / scale * weight + bias
        if self._hidden is not None:
            matrix, bias = self._hidden
            state = self._activation(state @ matrix + bias)
        if self._kinds is not None:
            matrix, bias = self._kinds
            state = _HALF + _HALF * np.tanh(_HALF * (state @ matrix + bias))  # sigmoid
        elif familiar is not None and self._familiarity is not None:
            state = state - self._familiarity[4]
            if familiar.min() < FAMILIAR:
                state = state * damping(familiar)[:, None]
        return state


def head_shapes(spec: ModelSpec, width: int) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor `head.*` of a model whose pooled vectors have `width` entries."""
    expected: dict[str, tuple[int, ...]] = {}
    inner = spec.head_hidden_size or width
    if spec.head_norm:
        expected |= {"head.norm.weight": (width,), "head.norm.bias": (width,)}
    if spec.head_hidden_size:
        expected |= {"head.hidden.weight": (inner, width), "head.hidden.bias": (inner,)}
    if spec.kinds:
        expected |= {"head.kinds.0.weight": (len(spec.kinds), inner), "head.kinds.0.bias": (len(spec.kinds),)}
        inner = len(spec.kinds)
    sizes = {"coefs": len(spec.models), "eta": int(spec.feedback.has_eta), "gamma": int(spec.feedback.has_gamma)}
    for name, size in sizes.items():
        if size:
            expected |= {f"head.{name}.weight": (size, inner), f"head.{name}.bias": (size,)}
    if spec.familiarity:
        known = shapes(spec.familiarity, width, inner)
        expected |= {f"head.familiarity.{name}": shape for name, shape in known.items()}
    if spec.kinds:
        expected["head.variance"] = (len(spec.models), inner + 1)
    return expected


def check_familiarity(weights: Mapping[str, np.ndarray]) -> None:
    """Check the tensors whose numbers are not free: variances, precisions and quantiles.

    Args:
        weights: tensors of a model, of which those of `head.familiarity` and `head.variance` are looked at, if there.

    Raises:
        ModelFormatError: one holds what no training writes.
    """
    for name in ("head.familiarity.precision", "head.familiarity.error", "head.variance"):
        if name in weights and not (weights[name] >= 0).all():
            raise ModelFormatError(f"tensor {name!r} holds negative numbers; it has precisions or variances")
    quantiles = weights.get("head.familiarity.quantiles")
    if quantiles is not None and not ((np.diff(quantiles.astype(np.float64)) >= 0).all() and quantiles[0] >= 0):
        raise ModelFormatError(
            "tensor 'head.familiarity.quantiles' does not ascend from 0 or more; it has distances of prompts"
        )


def _affine(weights: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    return weights[f"{name}.weight"].astype(np.float32), weights[f"{name}.bias"].astype(np.float32)


def _layer(weights: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    weight, bias = _affine(weights, name)
    return np.ascontiguousarray(weight.T), bias
