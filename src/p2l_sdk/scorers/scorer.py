"""What a scorer is: prompts in, coefficients out; and what more it may be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from p2l_sdk.errors import P2LError
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.modeling.spec_p2l import ModelSpec


class Scorer(Protocol):
    """Computes the coefficients of prompts."""

    spec: ModelSpec

    def score(self, prompts: Sequence[Prompt]) -> Coefficients:
        """Coefficients of a batch of prompts, in the order of `spec.models`."""
        ...


@runtime_checkable
class SavableScorer(Scorer, Protocol):
    """A scorer that can write itself, whatever layout it was loaded from."""

    def save(self, folder: Path) -> None:
        """Write weights, config, code and tokenizer in the native layout."""
        ...

    def save_weights(self, folder: Path) -> None:
        """Write weights, config and code, but no tokenizer."""
        ...


@runtime_checkable
class PoolingScorer(Scorer, Protocol):
    """A scorer that first turns each prompt into a vector, which says what it is about."""

    def pooled(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """The prompts' vectors, the input of the head: `(n_prompts, width)` float32."""
        ...

    def score_pooled(self, pooled: np.ndarray) -> Coefficients:
        """The coefficients of prompts with these vectors."""
        ...


@runtime_checkable
class EditableScorer(Scorer, Protocol):
    """A scorer whose last layer (linear, with one row per LLM) can be read and replaced."""

    def features(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """The input of the last layer for each prompt, `(n_prompts, width)`."""
        ...

    def score_features(self, features: np.ndarray) -> Coefficients:
        """Apply the last layer alone to features `(n_prompts, width)`."""
        ...

    @property
    def rows(self) -> np.ndarray:
        """The LLMs' rows of the last layer, `(n_models, width + 1)`, the bias last."""
        ...

    @property
    def variance(self) -> np.ndarray | None:
        """How uncertain these numbers are, `(n_models, width + 1)` in squared logits, for a model that recognises kinds
        of prompt; None for others."""
        ...

    def with_rows(self, spec: ModelSpec, rows: np.ndarray, variance: np.ndarray | None = None) -> EditableScorer:
        """The same model with the LLMs of `spec`, these rows, and their variance if the model has one."""
        ...


def variance_of(scorer: Scorer) -> np.ndarray | None:
    """The scorer's `variance` if it has one, as a model that recognises kinds of prompt does, here or on a server."""
    variance: np.ndarray | None = getattr(scorer, "variance", None)
    return variance


def group_error_of(scorer: Scorer) -> np.ndarray | None:
    """`(2,)` variance of the scorer's error for a group of like prompts, and of the coefficients among its training
    prompts, in squared logits; None if it does not know."""
    error: np.ndarray | None = getattr(scorer, "group_error", None)
    return error


def editable(scorer: Scorer) -> EditableScorer:
    """The scorer itself; `P2LError` if its last layer cannot be edited."""
    if not isinstance(scorer, EditableScorer):
        raise P2LError("only a model whose weights are here can be edited; load it from a folder or a Hub repository")
    return scorer
